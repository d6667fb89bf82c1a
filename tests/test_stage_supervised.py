"""Supervised finetuning: whose tokens the loss counts, what is learned, what is left behind, and going on."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon import config, models
from solon.errors import SolonError
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE
from solon.records import Example
from solon.stages import supervised
from solon.training import checkpoints, setup
from solon.training.metrics import Metrics, MetricsLog
from toy_training import (
    ADAPTERS,
    CHECKPOINT,
    assert_a_kill_changes_nothing,
    assert_same_weights,
    base_model,
    example,
    metrics_of,
    unwatched,
)

pytestmark = pytest.mark.numeric

EXAMPLES = [
    example("What is a llama?", "An animal with a long neck."),
    example("Who are you?", "A model."),
    example("Say something long, please, as long as you can", "No"),
    example("Why?", "Because the template says so, and because a folder is a folder."),
    example("And now?", "Now we wait for the tokens to come."),
]


def settings(**changes: Any) -> config.Supervised:
    small = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2}
    return config.Supervised(**{**small, **changes})


def expected_loss(folder: str, examples: list[Example], with_prompts: bool = False) -> float:
    """Mean negative log-likelihood of the completions' tokens, an example at a time, cut in the text."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = tokenizer.chat_template or HUMAN_ASSISTANT_TEMPLATE
    losses = []
    for record in examples:
        text = tokenizer.apply_chat_template(
            record["prompt"] + record["completion"], chat_template=template, tokenize=False
        )
        prompt = tokenizer.apply_chat_template(
            record["prompt"], chat_template=template, add_generation_prompt=True, tokenize=False
        )
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = torch.tensor([encoded["input_ids"]])
        completion = torch.tensor(
            [with_prompts or start >= len(prompt) for start, _ in encoded["offset_mapping"]]
        )
        assert tokenizer.eos_token_id in tokens[0, completion]  # the end of the turn is learned too
        with torch.no_grad():
            logp = model(tokens).logits[0, :-1].log_softmax(-1)
        losses += (-logp.gather(-1, tokens[0, 1:, None]).squeeze(-1))[completion[1:]].tolist()
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_loss_is_the_mean_over_completion_tokens_alone(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    model = str(tiny_model) if kind == "chat" else base_model(tmp_path / "base", tiny_model)
    metrics = supervised.train(
        EXAMPLES, model, tmp_path / "out", settings(batch_size=6, micro_batch_size=2), 0, unwatched
    )
    assert metrics["step"] == 1
    assert metrics["loss"] == pytest.approx(expected_loss(model, EXAMPLES), abs=1e-4)
    # The measure tells them apart: with the prompts' tokens counted the loss would be another.
    assert metrics["loss"] != pytest.approx(expected_loss(model, EXAMPLES, with_prompts=True), abs=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is not None


def test_loss_is_small_once_the_completions_are_known(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    supervised.train(EXAMPLES, str(tiny_model), out, settings(epochs=40, learning_rate=5e-3), 0, unwatched)
    rows = metrics_of(out)
    assert [row["step"] for row in rows] == list(range(1, 81))
    columns = ("step", "loss", "accuracy", "gradient_norm", "learning_rate", "left_out", "cut_off")
    assert {tuple(row) for row in rows} == {columns}
    assert {row["learning_rate"] for row in rows} == {5e-3}
    assert rows[0]["loss"] > 5 and rows[0]["accuracy"] < 0.1
    assert rows[-1]["loss"] < 0.3 and rows[-1]["accuracy"] > 0.9
    # What was learned is in the saved folder, not only in the trainer's memory.
    assert expected_loss(str(out), EXAMPLES) < 0.3


def test_leaves_a_plain_folder_and_no_stray_output(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[Any] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **call: told.append(call))
    readme_seen: list[bool] = []
    supervised.train(
        EXAMPLES,
        str(tiny_model),
        tmp_path / "out",
        settings(epochs=3, save_steps=1),
        0,
        lambda *_: readme_seen.append((tmp_path / "out" / "README.md").exists()),
    )
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "it/s" not in captured.err and "examples/s" not in captured.err  # no progress bars
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == CHECKPOINT
    assert readme_seen == [False] * 6
    assert told == []
    saved = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert saved.chat_template == AutoTokenizer.from_pretrained(tiny_model).chat_template


def test_adapters_are_saved_alone_and_load_as_the_model(tiny_model: Path, tmp_path: Path) -> None:
    lora = config.Lora(rank=8, alpha=16, dropout=0.1)
    out = tmp_path / "out"
    supervised.train(EXAMPLES, str(tiny_model), out, settings(epochs=30, lora=lora), 0, unwatched)
    assert {path.name for path in out.iterdir()} == ADAPTERS
    before = models.load_model(str(tiny_model)).state_dict()
    after = models.load_model(str(out)).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "proj" in name}
    tokens = torch.arange(5, 30)[None]
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    torch.testing.assert_close(loaded(tokens).logits, models.load_model(str(out))(tokens).logits)
    assert expected_loss(str(out), EXAMPLES) < expected_loss(str(tiny_model), EXAMPLES) - 0.5


@pytest.mark.parametrize("lora", [None, config.Lora(rank=4, dropout=0.1)], ids=["full", "adapters"])
def test_a_kill_changes_nothing(tiny_model: Path, tmp_path: Path, lora: config.Lora | None) -> None:
    # Two steps an epoch: killed in the second epoch between two saves, then again as it is about to save.
    assert_a_kill_changes_nothing(
        lambda out, progress: supervised.train(
            EXAMPLES, str(tiny_model), out, settings(epochs=4, save_steps=3, lora=lora), 1, progress
        ),
        tmp_path,
        kills=(5, 6),
    )


def test_the_same_seed_gives_the_same_run(tiny_model: Path, tmp_path: Path) -> None:
    for name, seed in [("first", 3), ("second", 3), ("other", 4)]:
        # In one epoch of two steps, different seeds may well put the same examples into each.
        supervised.train(EXAMPLES, str(tiny_model), tmp_path / name, settings(epochs=4), seed, unwatched)
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
    assert_same_weights(tmp_path / "first", tmp_path / "second")
    assert metrics_of(tmp_path / "first") != metrics_of(tmp_path / "other")


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_of_an_answer_that_was_cut_off_no_end_is_learned(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """Or a model learns to stop where the token limit did."""
    tokenizer = models.load_tokenizer(
        str(tiny_model) if kind == "chat" else base_model(tmp_path / "base", tiny_model)
    )
    whole, cut = (setup.completions([{**EXAMPLES[3], "cut": cut}], tokenizer)[0] for cut in ("", "trimmed"))
    said = "Because the template says so, and because a folder is a folder."

    def learned(row: dict[str, list[int]]) -> str:
        asked = row["completion_mask"].index(1)
        assert set(row["completion_mask"][asked:]) == {1}
        return str(tokenizer.decode(row["input_ids"][asked:])).strip()

    assert learned(cut) == said
    assert learned(whole).startswith(said) and tokenizer.eos_token in learned(whole)
    assert whole["input_ids"][: len(cut["input_ids"])] == cut["input_ids"]


def test_too_long_examples_are_left_out(tiny_model: Path, tmp_path: Path) -> None:
    long = example("word " * 200, "An answer past the limit.")
    short = settings(max_length=100)
    supervised.train([*EXAMPLES[:4], long], str(tiny_model), tmp_path / "out", short, 0, unwatched)
    assert len(metrics_of(tmp_path / "out")) == 1  # four examples, one batch
    with pytest.raises(SolonError, match="max_length"):
        supervised.train([long], str(tiny_model), tmp_path / "none", short, 0, unwatched)


def test_errors_say_what_to_mend(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match="nothing to train on"):
        supervised.train([], str(tiny_model), tmp_path, settings(), 0, unwatched)
    with pytest.raises(SolonError, match="not a finite number at step"):
        supervised.train(
            EXAMPLES, str(tiny_model), tmp_path, settings(learning_rate=1e30, epochs=3), 0, unwatched
        )


def test_a_gradient_that_is_not_a_number_stops_before_its_step_is_recorded(tmp_path: Path) -> None:
    """The loss may still be finite when the weights no longer are."""
    log = MetricsLog(tmp_path, 0)
    metrics = Metrics(log, lambda logs: {"loss": logs["loss"]}, unwatched)
    state = SimpleNamespace(is_world_process_zero=True, global_step=3, max_steps=9)
    metrics.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": 1.0})
    with pytest.raises(SolonError, match="gradient is not a finite number at step 3"):
        metrics.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": math.nan})
    assert metrics_of(tmp_path) == [{"step": 3, "loss": 1.0}]


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in [
        (2, '{"global_step": 2}'),
        (10, '{"global_step": 10}'),
        (12, '{"global_st'),
        (14, None),
    ]:
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert checkpoints.resumable(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]
    assert checkpoints.resumable(tmp_path / "none") is None
