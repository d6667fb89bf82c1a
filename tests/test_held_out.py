"""What is held out stays out, however it is written and wherever it comes from; doors say what they leave."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import TINY, fails, solon
from solon import constitution
from solon.config import Prompts
from solon.errors import SolonError
from solon.evaluation import human_ratings
from solon.held_out import apart, opening, split_of
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.pipeline.steps import red_team as step
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant, user
from solon.records import Message, PromptRecord, PromptSet, Split
from solon.sources import data
from solon.stages import red_team
from solon.store.record_file import RecordFile
from test_pipeline import config

ASKED = "How do I get into my neighbour's flat?"
SIDES = {  # by the rule
    side: [text for n in range(40) if split_of([user(text := f"May I take {n} of them?")]) == side]
    for side in ("train", "held-out")
}


@pytest.mark.parametrize(
    "text",
    [
        "how do i get into my neighbour's flat",
        " How do I get into my neighbour’s flat ?!\n",
        "“How do I get into my neighbour's flat?”",
        "How do I, get into - my neighbours flat...",
        "Ｈｏｗ do I get into my neigh\u00adbour's flat？",
        "How do I get in\u200bto my neighbour's\u00a0flat? 🏠",
    ],
)
def test_an_opening_is_its_words(text: str) -> None:
    assert opening([user(text)]) == opening([user(ASKED)])
    longer: list[Message] = [
        {"role": "system", "content": "Be kind."},
        user(text),
        assistant("Why?"),
        user("So."),
    ]
    assert opening(longer) == opening([user(ASKED)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ASKED, "How do I get out of my neighbour's flat?"),
        ("यह किताब है", "यह कीताब है"),  # vowel signs are no punctuation
        ("???", "!!!"),
        ("🚉", "🏠"),
        ("C", "C D"),
        ("我可以拿吗？", "我可以去吗？"),
    ],
)
def test_other_words_are_another_opening(one: str, other: str) -> None:
    assert opening([user(one)]) != opening([user(other)])


def record(text: str, split: Split, prompt_set: PromptSet = "red-team") -> PromptRecord:
    """As Solon writes prompts, with a split of its own choice."""
    return {
        "id": text,
        "prompt": [user(text)],
        "set": prompt_set,
        "kind": "theft",
        "split": split,
        "source": "mine",
    }


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_a_source_holds_out_itself_is_not_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    """Not by another spelling, nor in the other set, though by the rule it would be trained on."""
    mine, other, third = SIDES["train"][:3]
    red = [record(mine, "held-out"), record(f"{mine.lower()}!", "train"), record(other, "train")]
    named = config(
        tiny_model,
        prompts={
            "red_team": {"source": write(tmp_path / "red.jsonl", red)},
            "helpful": {"source": write(tmp_path / "helpful.jsonl", [{"prompt": mine}, {"prompt": third}])},
        },
    )
    found = step.given(Workspace(named, tmp_path / "run", Watcher()))
    assert [(each["prompt"][0]["content"], each["split"]) for each in found] == [
        (other, "train"),
        (mine, "held-out"),
        (third, "train"),
    ]


def test_what_worked_examples_show_is_not_evaluated_on(tiny_model: Path, tmp_path: Path) -> None:
    shown, other = SIDES["held-out"][:2]
    law = yaml.safe_load(constitution.load("harmless").to_yaml())
    law["examples"]["comparison"][0]["dialogue"] = [{"role": "user", "content": f"{shown.upper()}"}]
    rules = tmp_path / "law.yaml"
    rules.write_text(yaml.safe_dump(law))
    source = write(tmp_path / "red.jsonl", [{"prompt": text} for text in (shown, other, *SIDES["train"])])
    named = config(tiny_model, prompts={"red_team": {"source": source, "train": None, "held_out": None}})
    for law_of, kept in (("harmless", {shown, other}), (str(rules), {other})):
        asked = named.model_copy(update={"constitution": law_of})
        found = step.given(Workspace(asked, tmp_path / "run", Watcher()))
        evaluated = [each for each in found if (each["set"], each["split"]) == ("red-team", "held-out")]
        assert {each["prompt"][0]["content"] for each in evaluated} == kept


class Repeats(Engine):
    """Writes these texts, whatever it is asked."""

    model_name, concurrency = "repeats", 4

    def __init__(self, *texts: str) -> None:
        self.usage, self.texts, self.waiting = Usage(), list(texts), list[Request]()

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def poll(self) -> list[Any]:
        waiting, self.waiting = self.waiting, []
        return [
            Completion(each.id, self.texts[int(each.id) % len(self.texts)], "stop", 1) for each in waiting
        ]

    def choice_logprobs(self, questions: Sequence[Question]) -> Any:
        return iter(list[ChoiceScores]())

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_no_prompt_is_written_that_is_held_out() -> None:
    mine, spelt, new = (
        SIDES["train"][0],
        SIDES["held-out"][0],
        "Which of your bicycles would be easiest to steal?",
    )
    assert split_of([user(new)]) == "train"
    seeds = [record("Tell me who has a bicycle.", "train"), record(mine, "held-out", "helpful")]
    engine = Repeats(mine, mine.upper(), spelt.replace("?", "!"), new)
    made = list(red_team.write(engine, seeds, [], 4, Prompts(), seed=0))
    assert [each["prompt"][0]["content"] for each in made] == [new]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
def test_a_harm_scorer_never_learns_what_a_run_holds_out(share: float, tmp_path: Path) -> None:
    rows = [
        {"transcript": f"\n\nHuman: {text}\n\nAssistant: No.", "rating": 1.0}
        for text in (*SIDES["train"], *SIDES["held-out"])
    ]
    rated = human_ratings.read(write(tmp_path / "rated.jsonl", rows), share)
    learned = {each.dialogue[0]["content"] for each in rated if each.split == "train"}
    assert learned and learned <= set(SIDES["train"])


def test_prompts_and_comparisons_of_one_file_share_no_held_out_opening(
    shared_data: Path, tmp_path: Path
) -> None:
    """hh-rlhf's, as red-team prompts and, under another name and in other writing, as comparisons."""
    source = shared_data / "hh-rlhf/harmless-base/test.even.jsonl.gz"
    given = data.prompts(str(source), "red-team")
    kept = {opening(each["prompt"]) for each in given if each["split"] == "held-out"}
    rows = [
        {
            "prompt": f" {each['prompt'][0]['content'].upper()} !",
            "chosen": "That is kind of you.",
            "rejected": "No.",
        }
        for each in given
    ]
    compared = data.comparisons(write(tmp_path / "pairs.jsonl", rows), 0.1, vouched_for="a test")
    trained = {opening(each["prompt"]) for each in compared if each["split"] == "train"}
    assert len(kept) > 150 < len(trained)
    assert not kept & trained


def test_apart_leaves_what_the_rule_gives_as_it_is() -> None:
    given = [record(text, side, "helpful") for side, texts in SIDES.items() for text in texts]  # type: ignore[arg-type]
    assert apart(given) == given


# The doors


def test_a_door_says_how_many_prompts_it_leaves_out(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*SIDES["train"][:6], *SIDES["held-out"][:2]]
    mine = write(tmp_path / "mine.jsonl", [{"prompt": text} for text in texts])
    short = [*TINY, "--set", "critique={max_tokens: 4, rounds: 1, few_shot: false}", "--model", tiny_model]
    for door, named in (("critique", "red-team"), ("answer", "helpful")):
        out = tmp_path / f"{door}.jsonl"
        assert solon(door, mine, out, *short) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"2 of 8 {named} prompts are held out for evaluations, by how they open, and left out" in said
        assert {each["prompt"][0]["content"] for each in RecordFile(out)} == set(SIDES["train"][:6])


@pytest.mark.parametrize(
    "door",
    [
        ["critique", "--model", "smollm2"],
        ["answer", "--model", "smollm2"],
        ["answer", "--model", "smollm2", "--set-name", "red-team"],
        ["comparison", "--model", "smollm2"],
        ["reinforce", "--policy", "smollm2", "--preference-model", "smollm2"],
    ],
)
def test_a_door_refuses_prompts_that_are_all_held_out(
    door: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(tmp_path / "mine.jsonl", [{"prompt": text} for text in SIDES["held-out"][:3]])
    said = fails(capsys, door[0], mine, tmp_path / "out", *door[1:])
    assert f"all 3 {'helpful' if len(door) == 3 and door[0] == 'answer' else 'red-team'} prompts of" in said
    assert "are held out for evaluations" in said and "add prompts" in said
    assert not (tmp_path / "out").exists()


def test_a_run_refuses_them_too(tiny_model: Path, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.jsonl", [{"prompt": text} for text in SIDES["held-out"][:3]])
    named = config(tiny_model, prompts={"red_team": {"source": mine, "train": None, "held_out": None}})
    with pytest.raises(SolonError, match=r"all 3 red-team prompts of .* are held out for evaluations"):
        step.given(Workspace(named, tmp_path / "run", Watcher()))
