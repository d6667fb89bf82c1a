"""Models that think before they answer: their thoughts are parted from answers, kept, and not trained on."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from solon import config, models
from solon.config import EngineSettings
from solon.errors import SolonError
from solon.inference import open_engine
from solon.inference.active import begin
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import Question, Request
from solon.inference.plain_engine import PlainEngine
from solon.planning.counting import CountingEngine
from solon.prompts import template_arguments
from solon.prompts.dialogue import assistant, neutral_messages, reserved, user
from solon.prompts.thinking import Thinking
from solon.prompts.thoughts import CHANNELS, FORMATS, THINK, WORDS, part, tag
from solon.role_settings import POLICY, Role
from solon.stages import supervised
from solon.training import setup
from solon.training.preference_scores import tokens_of
from thinking_models import KINDS, thinking_model
from toy_training import example, unwatched

ENGINE = EngineSettings(dtype="float32", device="cpu", batch_size=4)
TEA = [user("Is tea nice?")]


@pytest.fixture(scope="session")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model of each kind."""
    return {kind: str(thinking_model(tiny_model, tmp_path_factory.mktemp(kind), kind)) for kind in KINDS}


def dialogue_of(folder: str, role: Role = Role()) -> DialogueTokens:  # noqa: B008
    tokenizer = models.load_tokenizer(folder, role=role)
    return DialogueTokens(tokenizer, AutoModelForCausalLM.from_pretrained(folder))


FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("text", "options", "thinking", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", {}, "Hm.", "Yes."),
        ("\n<think>Hm.</think>Yes.", {"form": THINK}, "Hm.", "Yes."),
        ("Hm.\n</think>\n\nYes.", {"form": THINK, "opened": True}, "Hm.", "Yes."),
        ("<think>Hm.</think>Yes.", {"form": THINK, "opened": True}, "Hm.", "Yes."),  # it opens it again
        ("Hm.\n</think>\n\nYes.", {}, "Hm.", "Yes."),  # a server's template opened it
        ("Hm. And so on", {"form": THINK, "opened": True}, "Hm. And so on", ""),
        ("<think>Hm. And so on", {}, "Hm. And so on", ""),
        ("<think>a</think>\n<think>b</think>Yes.", {"form": THINK}, "a\n\nb", "Yes."),
        ("<think>a</think>Yes.\n<think>b</think>\nNo.", {"form": THINK}, "a\n\nb", "Yes.\nNo."),
        ("Yes.\n<think>b", {"form": THINK}, "b", "Yes.\n"),
        ("<think>\n\n</think>\n\nYes.", {"form": THINK}, "", "Yes."),
        # What is said of the marks is text.
        ("Write <think> and </think> around it.", {"form": THINK}, "", None),
        ("  Models write </think>.", {"form": THINK, "closed": True}, "", None),
        ("Yes.\n</think>", {"form": THINK, "closed": True}, "", None),
        ("So:\n```\n<think>a</think>\n```\nYes.", {"form": THINK}, "", None),
        ("Yes. <|channel|>analysis", {}, "", None),
        ("<|channel|>analysis<|message|>Hm.<|end|>" + FINAL + "Yes.", {"form": CHANNELS}, "Hm.", "Yes."),
        ("<|channel|>final<|message|>Yes.", {"form": CHANNELS}, "", "Yes."),
        ("<|channel|>final<|message|>Yes.<|end|><|start|>user<|message|>No", {"form": CHANNELS}, "", "Yes."),
        ("<|channel|>analysis<|message|>Hm", {"form": CHANNELS}, "Hm", ""),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            + FINAL
            + "Yes.",
            {"form": CHANNELS},
            "a\n\nb",
            "Yes.",
        ),
        ("<think>Hm.</think>\n<answer>\nYes.\n</answer>", {}, "Hm.", "Yes.\n"),
        ("<answer>Yes.</answer>", {}, "", None),
        (
            "Hm.\n[BEGIN FINAL RESPONSE]\nYes.\n[END FINAL RESPONSE]",
            {"form": WORDS[-1], "opened": True},
            "Hm.",
            "Yes.\n",
        ),
        (
            "Hm.<|close|>think<|sep|><|open|>response<|sep|>Yes.<|close|>response<|sep|>",
            {"form": FORMATS[1], "opened": True},
            "Hm.",
            "Yes.",
        ),
        *(
            (f"{form.open}Hm.{form.close}Yes.", {}, "Hm.", "Yes.")
            for form in (*FORMATS[1:], *map(tag, ("thinking", "seed:think", "thought", "longcat_think")))
        ),
    ],
)
def test_thoughts_are_parted(text: str, options: Any, thinking: str, answer: str | None) -> None:
    assert part(text, **options) == (thinking, text if answer is None else answer)


def test_what_templates_do(folders: dict[str, str]) -> None:
    def of(kind: str, **arguments: Any) -> Thinking:
        return Thinking(models.load_tokenizer(folders[kind], role=Role(chat_template_kwargs=arguments)))

    qwen, channels = of("qwen"), "<|channel|>final<|message|>"
    assert (qwen.opened, qwen.closed, qwen.answering) == (False, False, "<think>\n\n</think>\n\n")
    assert qwen.after("Hm.") == "<think>\nHm.\n</think>\n\n"
    off = of("qwen", enable_thinking=False)
    assert (off.opened, off.closed, off.answering, off.may_come) == (False, True, "", False)
    deepseek = of("deepseek")
    assert (deepseek.opened, deepseek.closed, deepseek.answering) == (True, False, "\n</think>\n\n")
    assert deepseek.after("Hm.") == "Hm.\n</think>\n\n"
    assert of("channels").answering == channels
    assert (
        of("channels").after("Hm.") == f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{channels}"
    )
    smollm = of("smollm")
    assert (smollm.opened, smollm.closed, smollm.answering) == (False, False, "<think>\n\n</think>\n\n")
    assert Thinking(models.load_tokenizer(folders["smollm"], role=POLICY)).closed
    kimi = of("kimi")
    assert kimi.opened and kimi.answering == "<|close|>think<|sep|><|open|>response<|sep|>" == kimi.closing
    glm = of("glm")
    assert (glm.opened, glm.answering) == (False, "\n<think></think>\n")
    assert glm.after("Hm.") == "<think>Hm.</think>"  # on no lines of their own
    magistral = of("magistral")
    assert (magistral.opened, magistral.closed, magistral.answering) == (False, False, "")
    assert magistral.after("Hm.") == "[THINK]Hm.[/THINK]"
    assert all(of(kind).may_come for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_begin_outside_of_thoughts(folders: dict[str, str], kind: str) -> None:
    dialogue = dialogue_of(folders[kind])
    form = dialogue.thinking.format
    assert form
    asked, _ = dialogue.prompt(TEA, "")
    prefilled, _ = dialogue.prompt(TEA, "The better answer is (")
    scored, _ = dialogue.prompt(TEA, "(", "It is <think> warm.")
    for text in (prefilled, scored):
        assert text.startswith(asked)
        assert text.rfind(form.open) <= text.rfind(form.close)
    assert prefilled.endswith("The better answer is (")
    assert "It is < think> warm." in scored or "<think>" not in form
    # What is asked for without thoughts has no room for any, and goes on as if it had been prefilled.
    closed = dialogue_of(folders[kind], POLICY)
    assert closed.prompt(TEA, "The better answer is (")[0] == prefilled
    assert closed.thinking.answering == ""
    assert closed.thinking.closed or kind == "magistral"


@pytest.mark.parametrize("kind", KINDS)
def test_messages_bring_no_thoughts_back(folders: dict[str, str], kind: str) -> None:
    tokenizer = models.load_tokenizer(folders[kind])
    thinking = Thinking(tokenizer)
    form = thinking.format
    assert form
    said = f"{form.open}Hm.{thinking.closing}A tag: {form.close}."
    earlier = [user("What is <think>?"), assistant(said), *TEA]
    clean = neutral_messages(earlier, reserved(tokenizer))
    assert "Hm." not in clean[1]["content"]
    assert clean[1]["content"].startswith("A tag: ") and form.close not in clean[1]["content"]
    text = tokenizer.apply_chat_template(clean, tokenize=False)
    assert clean[0]["content"] in text and clean[1]["content"] in text
    assert "What is" in clean[0]["content"]


def written(dialogue: DialogueTokens, text: str, thoughts: int = 50, **asked: Any) -> Any:
    """What a request gets whose model writes the text, and the tokens in the end."""
    sequence = begin(Request("a", TEA, **asked), dialogue.prompt(TEA, "")[1], dialogue, 1000, thoughts)
    for token in dialogue.tokenizer.encode(text, add_special_tokens=False):
        if completion := sequence.add(token, dialogue):
            return completion, sequence
    return None, sequence


@pytest.mark.parametrize(
    ("kind", "text", "thinking", "answer", "finish"),
    [
        ("qwen", "<think>\nWarm. So be it.\n</think>\n\nYes.<|im_end|>", "Warm. So be it.", "Yes.", "stop"),
        ("qwen", "Yes.<|im_end|>", "", "Yes.", "stop"),
        ("qwen", "<think>\nWarm.<|im_end|>", "Warm.", "", "stop"),
        ("deepseek", "Warm. STOP\n</think>\n\nYes. STOP", "Warm. STOP", "Yes. ", "stop"),
        ("magistral", "[THINK]Warm.[/THINK]Yes.<|endoftext|>", "Warm.", "Yes.", "stop"),
        (
            "channels",
            f"<|channel|>analysis<|message|>Warm.<|end|>{FINAL}Yes.<|return|>",
            "Warm.",
            "Yes.",
            "stop",
        ),
        ("channels", "<|channel|>final<|message|>Yes.<|return|>", "", "Yes.", "stop"),
        ("deepseek", "Warm.\n</think>\n\n" + "Yes. " * 30, "Warm.", "length", "length"),
    ],
)
def test_an_engine_parts_thoughts(
    folders: dict[str, str], kind: str, text: str, thinking: str, answer: str, finish: str
) -> None:
    dialogue = dialogue_of(folders[kind])
    completion, sequence = written(dialogue, text, max_tokens=20, stop=("STOP",))
    assert completion.thinking == thinking
    assert completion.finish == finish
    if finish == "length":  # thoughts count for themselves
        assert len(sequence.generated) - sequence.answer == 20
        assert completion.text.startswith("Yes. Yes.")
    else:
        assert completion.text == answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_spent_budget_closes_the_thought(folders: dict[str, str], kind: str) -> None:
    dialogue = dialogue_of(folders[kind])
    form = dialogue.thinking.format
    assert form
    opening = "" if dialogue.thinking.opened else form.open
    opening += "analysis<|message|>" if form == CHANNELS else ""
    completion, sequence = written(dialogue, opening + "Warm. " * 40, thoughts=12, max_tokens=5)
    assert sequence.cut_short
    text = dialogue.marked(sequence.generated, True)
    assert dialogue.thinking.closing in text
    assert len(sequence.generated) == 12 + len(dialogue.closing) + 5
    assert completion.thinking.startswith("Warm.")
    assert form.close not in completion.thinking + completion.text
    assert completion.text and completion.finish == "length"


def test_tokens_that_are_made_together_are_taken_as_one_by_one(folders: dict[str, str]) -> None:
    """As vLLM makes them: up to the thought's end or its limit, then the answer."""
    dialogue = dialogue_of(folders["deepseek"])
    encode = dialogue.tokenizer.encode
    prompt = dialogue.prompt(TEA, "")[1]
    for thought, closes in ((encode("Warm.\n</think>"), False), (encode("Warm. " * 9)[:12], True)):
        sequence = begin(Request("a", TEA, max_tokens=9), prompt, dialogue, 1000, 12)
        assert sequence.take(thought, dialogue) is None
        assert (sequence.cut_short, sequence.answer) == (closes, len(sequence.generated))
        completion = sequence.take(encode("\n\nYes.<|endoftext|>More"), dialogue)
        assert completion and (completion.text, completion.finish) == ("Yes.", "stop")
        assert completion.thinking.startswith("Warm.")


@pytest.mark.parametrize("kind", ["deepseek", "channels"])
def test_engines_close_thoughts_alike(folders: dict[str, str], kind: str) -> None:
    requests = [
        Request(str(number), [user(f"Is tea nice, {name}?")], max_tokens=6, temperature=0.0)
        for number, name in enumerate(("Ann", "Bob", "Christopher"))
    ]
    role, made = Role(thinking_tokens=9), []
    for engine in (
        open_engine(folders[kind], ENGINE, role=role),
        PlainEngine(folders[kind], ENGINE, role=role),
    ):
        with engine:
            made.append(sorted(engine.generate(requests), key=lambda completion: completion.id))
            assert engine.thinks
            assert engine.usage.thoughts_cut == sum(bool(each.thinking) for each in made[-1])
    assert made[0] == made[1]
    if kind == "deepseek":
        assert all(completion.thinking for completion in made[0])
        assert all(len(dialogue_of(folders[kind]).closing) + 15 >= each.tokens for each in made[0])
    # Without thoughts the same model answers at once.
    with open_engine(folders[kind], ENGINE, role=Role(thinking_tokens=0)) as engine:
        assert not engine.thinks
        assert not any(completion.thinking for completion in engine.generate(requests))


def test_letters_are_read_after_thoughts(folders: dict[str, str]) -> None:
    dialogue = dialogue_of(folders["deepseek"])
    with open_engine(folders["deepseek"], ENGINE) as engine:
        questions = [
            Question("a", TEA, ("A", "B"), "(", "Warm."),
            Question("b", TEA, ("A", "B"), "("),
        ]
        scores = {score.id: score.logprobs for score in engine.scores(questions)}
    model = AutoModelForCausalLM.from_pretrained(folders["deepseek"])
    begun, _ = dialogue.prompt(TEA, "")
    for name, thoughts in (("a", "Warm."), ("b", "")):
        text = f"{begun}{thoughts}\n</think>\n\n("
        tokens = dialogue.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        logprobs = model(tokens).logits[0, -1].log_softmax(-1)
        letters = [dialogue.tokenizer.encode(letter)[0] for letter in "AB"]
        assert scores[name] == pytest.approx(logprobs[letters].tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_is_what_inference_shows(folders: dict[str, str], kind: str) -> None:
    tokenizer = models.load_tokenizer(folders[kind], role=POLICY)
    dialogue = dialogue_of(folders[kind], POLICY)
    form = dialogue.thinking.format
    assert form
    said = f"{form.open}Warm.{dialogue.thinking.closing}Yes."
    taught = {"prompt": TEA, "completion": [assistant(said)]}
    [row] = setup.completions([taught], tokenizer)
    asked = [
        token for token, taught in zip(row["input_ids"], row["completion_mask"], strict=True) if not taught
    ]
    _, prompt = dialogue.prompt(TEA, "")
    assert asked == prompt.tolist()
    said = tokenizer.decode(row["input_ids"][len(asked) :])
    assert said.startswith("Yes.") and "Warm" not in said
    assert said.removeprefix("Yes.").strip().startswith(tokenizer.eos_token)
    # A preference model reads the answer alone.
    [read] = tokens_of(tokenizer, [[*TEA, *taught["completion"]]])
    assert "Warm" not in tokenizer.decode(read)


def test_a_policy_answers_at_once_before_and_after_training(folders: dict[str, str], tmp_path: Path) -> None:
    settings = config.Supervised(batch_size=1, micro_batch_size=1, max_length=64)
    supervised.train([example("Tea?", "Yes.")], folders["deepseek"], tmp_path, settings, 0, unwatched)
    trained = models.load_tokenizer(str(tmp_path))
    before = models.load_tokenizer(folders["deepseek"], role=POLICY)
    assert trained.chat_template == before.chat_template
    assert Thinking(trained).closed
    assert models.load_tokenizer(str(tmp_path), role=POLICY).chat_template == trained.chat_template


def test_arguments_are_bound_into_the_template(folders: dict[str, str], tmp_path: Path) -> None:
    role = Role(chat_template_kwargs={"reasoning_effort": "hi'gh"}, date=date(2026, 2, 3))
    tokenizer = models.load_tokenizer(folders["channels"], role=role)
    text = tokenizer.apply_chat_template(TEA, add_generation_prompt=True, tokenize=False)
    assert "Reasoning: hi'gh" in text and "Current date: 2026-02-03" in text
    assert "effort" not in template_arguments.reads(tokenizer.chat_template)
    # A server that is given others takes them.
    other = tokenizer.apply_chat_template(TEA, tokenize=False, reasoning_effort="low")
    assert "Reasoning: low" in other
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(Path(folders["channels"], "config.json").read_text())
    again = models.load_tokenizer(str(tmp_path))
    assert again.apply_chat_template(TEA, add_generation_prompt=True, tokenize=False) == text
    changed = models.load_tokenizer(str(tmp_path), role=Role(chat_template_kwargs={"reasoning_effort": "x"}))
    assert "Reasoning: x" in changed.apply_chat_template(TEA, tokenize=False)


def test_an_argument_that_the_template_does_not_read_is_refused(folders: dict[str, str]) -> None:
    for asked in ({"enable_thinkin": False}, {"messages": []}, {"bos_token": ""}):
        with pytest.raises(
            SolonError, match=r"which the chat template of model .* it reads enable_thinking:"
        ):
            models.load_tokenizer(folders["qwen"], role=Role(chat_template_kwargs=asked))


def test_a_template_keeps_its_first_line() -> None:
    assert template_arguments.bound("\n{{ x }}", {"x": 1}, date(2026, 1, 1)).endswith("{{- '' }}\n{{ x }}")
    assert template_arguments.bound("\n{{ x }}", {}, date(2026, 1, 1)) == "\n{{ x }}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "03 Feb 2026"),
        ("{% set form = '%-d %B' %}{{ strftime_now(form) | upper }}", "3 FEBRUARY"),
        ("{% if strftime_now is defined %}{% set day = strftime_now('%j') %}{{ day }}{% endif %}", "034"),
        ('{% macro x() %}{{ strftime_now("%H:%M") }}{% endmacro %}{{ x() }}', "00:00"),
    ],
)
def test_the_clock_of_a_template_stands_still(template: str, text: str) -> None:
    from solon.libraries.transformers import template_environment

    bound = template_arguments.bound(template, {}, date(2026, 2, 3))
    assert template_environment().from_string(bound).render(messages=[]) == text
    assert template_arguments.bound(bound, {}, date(2027, 1, 1)) == bound


def test_role_settings_of_thoughts() -> None:
    asked = config.Config.model_validate(
        {
            "models": {"assistant": "m"},
            "roles": {
                "assistant": {"thinking_tokens": 7, "date": "2026-02-03"},
                "judge": {"thinking_tokens": 0},
            },
        }
    )
    assert [asked.role(name).thoughts for name in ("assistant", "critic", "feedback", "judge", "policy")] == [
        7,
        7,
        7,
        0,
        0,
    ]
    assert asked.role("judge").date == date(2026, 2, 3)
    assert json.loads(json.dumps(asked.role("judge").deciding())) == {
        "thinking_tokens": 0,
        "date": "2026-02-03",
    }
    assert config.Config().role("policy").deciding() == {}


def test_plans_count_thoughts(folders: dict[str, str]) -> None:
    def counted(kind: str, thoughts: int, prefill: str = "") -> tuple[float, int]:
        tokenizer = models.load_tokenizer(folders[kind])
        engine = CountingEngine("assistant", tokenizer, 4, 0.5, ["some words"], thoughts=thoughts)
        list(engine.generate([Request("a", TEA, prefill, max_tokens=20)]))
        return engine.generated.tokens, engine.longest

    (answer, least), (both, most) = counted("deepseek", 0), counted("deepseek", 100)
    assert both == answer + 50  # at the share that texts take of their limit
    assert most >= least + 100
    assert counted("deepseek", 100, "So")[0] == answer
