"""The preference model: the soft-label loss, what it makes the scores tend to, and that scores hold still."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, xlogy
from scipy.stats import entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from solon import config, models
from solon.errors import SolonError
from solon.prompts.dialogue import assistant, user
from solon.records import Message, PreferenceRecord
from solon.stages import preference
from solon.training import preference_scores
from solon.training.soft_labels import soft_label_loss
from toy_training import (
    ADAPTERS,
    CHECKPOINT,
    assert_a_kill_changes_nothing,
    assert_same_weights,
    base_model,
    metrics_of,
    pair,
    unwatched,
)

pytestmark = pytest.mark.numeric

PAIRS = [
    pair("What is a llama?", "An animal with a long neck.", "No", 0.9),
    pair("Who are you?", "A model.", "I am the night, and the folder is the night too", 0.8),
    pair("Say something long, please, as long as you can", "No", "Yes, yes, yes, yes", 0.6),
    pair("Why?", "Because the template says so.", "Why not", 1.0),
    pair("And now?", "Now we wait.", "Then we wait for the tokens to come.", 0.7),
]


def settings(**changes: Any) -> config.PreferenceModel:
    small = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2}
    return config.PreferenceModel(**{**small, **changes})


def dialogues_of(records: list[PreferenceRecord], side: str) -> list[list[Message]]:
    return [record["prompt"] + record[side] for record in records]  # type: ignore[literal-required]


def scores_of(folder: Path | str, dialogues: list[list[Message]], batch_size: int) -> list[float]:
    model, tokenizer = models.load_preference_model(str(folder)), models.load_tokenizer(str(folder))
    return preference_scores.score(model, tokenizer, dialogues, batch_size)


def test_loss_is_the_cross_entropy_with_soft_labels() -> None:
    generator = np.random.default_rng(0)
    chosen, rejected = generator.normal(scale=3, size=(2, 50))
    p = np.concatenate([generator.uniform(size=48), [0.0, 1.0]])
    sigma = expit(chosen - rejected)
    expected = -(xlogy(p, sigma) + xlogy(1 - p, 1 - sigma)).mean()
    ours = soft_label_loss(torch.tensor(chosen), torch.tensor(rejected), torch.tensor(p))
    assert ours.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [0.55, 0.7, 0.95])
def test_loss_is_least_at_the_labels_log_odds(p: float) -> None:
    def loss(margin: float) -> float:
        tensors = (torch.tensor([value], dtype=torch.float64) for value in (margin, 0.0, p))
        return soft_label_loss(*tensors).item()

    least = minimize_scalar(loss, bracket=(-10, 10), tol=1e-10)
    assert least.x == pytest.approx(logit(p), abs=1e-5)
    assert least.fun == pytest.approx(entropy([p, 1 - p]), abs=1e-10)


def test_loss_stays_finite_at_large_margins() -> None:
    tensors = (torch.tensor([value]) for value in (200.0, -200.0, 0.5))
    assert soft_label_loss(*tensors).item() == pytest.approx(200)


def test_training_takes_the_margin_to_the_label_and_no_further(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = pair("Why?", "Because the template says so.", "Why not", 0.7)
    metrics = preference.train(
        [record] * 4, str(tiny_model), out, settings(epochs=80, learning_rate=3e-3), 0, unwatched
    )
    (better,), (worse,) = (scores_of(out, dialogues_of([record], side), 1) for side in ("chosen", "rejected"))
    assert expit(better - worse) == pytest.approx(0.7, abs=0.01)
    assert metrics["loss"] == pytest.approx(entropy([0.7, 0.3]), abs=1e-3)  # not 0, a hard label's least
    assert expit(metrics["margin"]) == pytest.approx(0.7, abs=0.01)


def test_each_pair_gets_its_own_label(tiny_model: Path, tmp_path: Path) -> None:
    """The collator keeps labels beside their pairs, through the shuffling."""
    out = tmp_path / "out"
    preference.train(
        PAIRS,
        str(tiny_model),
        out,
        settings(batch_size=5, micro_batch_size=5, epochs=80, learning_rate=3e-3),
        0,
        unwatched,
    )
    better, worse = (
        np.array(scores_of(out, dialogues_of(PAIRS, side), 3)) for side in ("chosen", "rejected")
    )
    wanted = [record["probability"] for record in PAIRS]
    assert expit(better - worse) == pytest.approx(wanted, abs=0.04)


def test_hard_labels_are_those_of_the_likelier_answer(tiny_model: Path, tmp_path: Path) -> None:
    tie = pair("Which?", "This one.", "That one.", 0.5)
    hard = [{**record, "probability": 1.0} for record in PAIRS]
    preference.train([*PAIRS, tie], str(tiny_model), tmp_path / "a", settings(labels="hard"), 0, unwatched)
    preference.train([*hard, tie], str(tiny_model), tmp_path / "b", settings(), 0, unwatched)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    preference.train([*PAIRS, tie], str(tiny_model), tmp_path / "c", settings(), 0, unwatched)
    assert metrics_of(tmp_path / "c") != metrics_of(tmp_path / "a")


def test_first_step_reports_the_untrained_models_loss(tiny_model: Path, tmp_path: Path) -> None:
    """Seven pairs in micro-batches of 2, 2, 2 and 1: each pair counts alike."""
    base = tmp_path / "scored"
    torch.manual_seed(1)
    model = models.load_preference_model(str(tiny_model))
    model.score.weight.data *= 20  # scores far enough apart for the losses to differ
    model.save_pretrained(base)
    models.load_tokenizer(str(tiny_model)).save_pretrained(base)
    records = [*PAIRS, *(pair(f"{record['id']}!", "Yes", "No", 0.5) for record in PAIRS[:2])]
    metrics = preference.train(
        records, str(base), tmp_path / "out", settings(batch_size=8, micro_batch_size=2), 0, unwatched
    )
    better, worse = (
        np.array(scores_of(base, dialogues_of(records, side), 1)) for side in ("chosen", "rejected")
    )
    p = np.array([record["probability"] for record in records])
    sigma = expit(better - worse)
    assert metrics["step"] == 1
    assert metrics["loss"] == pytest.approx(-(xlogy(p, sigma) + xlogy(1 - p, 1 - sigma)).mean(), abs=1e-5)
    assert metrics["margin"] == pytest.approx((better - worse).mean(), abs=1e-5)
    assert metrics["accuracy"] == pytest.approx((better > worse).mean())


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_scores_do_not_depend_on_batch_or_padding(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    model = str(tiny_model) if kind == "chat" else base_model(tmp_path / "base", tiny_model)
    out = tmp_path / "out"
    preference.train(PAIRS, model, out, settings(), 0, unwatched)
    dialogues = [*dialogues_of(PAIRS, "chosen"), *dialogues_of(PAIRS, "rejected")]
    alone = scores_of(out, dialogues, 1)
    assert len(set(alone)) == len(alone)
    for batch_size in (3, 10):
        assert scores_of(out, dialogues, batch_size) == pytest.approx(alone, abs=1e-5)
    assert scores_of(out, dialogues[::-1], 4)[::-1] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_a_score_is_read_where_training_read_it(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """The trainer's margin, on batches it padded itself, is the difference of two scores.

    A base model pads with its end token, which also ends each dialogue.
    """
    model = str(tiny_model) if kind == "chat" else base_model(tmp_path / "base", tiny_model)
    out = tmp_path / "out"
    # At this learning rate the weights do not move, so the saved model is the one that the step measured.
    still = settings(batch_size=5, micro_batch_size=5, learning_rate=1e-30)
    metrics = preference.train(PAIRS, model, out, still, 0, unwatched)
    better, worse = (
        np.array(scores_of(out, dialogues_of(PAIRS, side), 2)) for side in ("chosen", "rejected")
    )
    assert metrics["margin"] == pytest.approx((better - worse).mean(), abs=1e-6)
    assert abs(metrics["margin"]) > 1e-4


def test_no_text_after_the_answer_leaks_into_its_score(tiny_model: Path, tmp_path: Path) -> None:
    """The answer's words count, so the score was not read before them."""
    out = tmp_path / "out"
    base = base_model(tmp_path / "base", tiny_model)
    preference.train(PAIRS, base, out, settings(), 0, unwatched)
    first, second = scores_of(
        out, [[user("Why?"), assistant("Because a")], [user("Why?"), assistant("Because b")]], 2
    )
    assert first != second


def test_leaves_a_plain_folder_and_no_stray_output(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    preference.train(PAIRS, str(tiny_model), tmp_path / "out", settings(epochs=3), 0, unwatched)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "it/s" not in captured.err and "examples/s" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == CHECKPOINT - {"generation_config.json"}
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", num_labels=1, output_loading_info=True
    )
    assert not any(info["missing_keys"]) and not any(info["unexpected_keys"])
    assert loaded.config.num_labels == 1 and loaded.config.pad_token_id is not None
    rows = metrics_of(tmp_path / "out")
    columns = ("step", "loss", "accuracy", "margin", "gradient_norm", "learning_rate", "left_out")
    assert {tuple(row) for row in rows} == {columns}
    rates = [row["learning_rate"] for row in rows]
    assert rates == pytest.approx(np.linspace(1e-3, 0, 7)[:6].tolist())  # falls linearly to zero


def test_adapters_and_the_head_are_trained_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lora = config.Lora(rank=8, alpha=16)
    certain = [pair(record["id"], "Yes, I will help", "No, never", 1.0) for record in PAIRS]
    metrics = preference.train(
        certain, str(tiny_model), out, settings(epochs=20, lora=lora, learning_rate=3e-3), 0, unwatched
    )
    assert metrics["accuracy"] == 1
    better, worse = (
        np.array(scores_of(out, dialogues_of(certain, side), 5)) for side in ("chosen", "rejected")
    )
    assert (better - worse).min() > 1
    assert metrics["margin"] == pytest.approx((better - worse).mean(), abs=0.2)
    assert {path.name for path in out.iterdir()} == ADAPTERS - {"generation_config.json"}
    tokens = torch.arange(5, 30)[None]
    loaded = AutoModelForSequenceClassification.from_pretrained(out, num_labels=1, dtype=torch.float32)
    scorer = models.load_preference_model(str(out), trained=True)
    torch.testing.assert_close(loaded(tokens).logits, scorer(tokens).logits)


@pytest.mark.parametrize("lora", [None, config.Lora(rank=4, dropout=0.1)], ids=["full", "adapters"])
def test_a_kill_changes_nothing(tiny_model: Path, tmp_path: Path, lora: config.Lora | None) -> None:
    assert_a_kill_changes_nothing(
        lambda out, progress: preference.train(
            PAIRS, str(tiny_model), out, settings(epochs=4, save_steps=3, lora=lora), 1, progress
        ),
        tmp_path,
        kills=(5, 6),
    )


def test_the_same_seed_gives_the_same_run(tiny_model: Path, tmp_path: Path) -> None:
    for name, seed in [("first", 3), ("second", 3), ("other", 4)]:
        preference.train(PAIRS, str(tiny_model), tmp_path / name, settings(), seed, unwatched)
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
    assert_same_weights(tmp_path / "first", tmp_path / "second")
    assert metrics_of(tmp_path / "first") != metrics_of(tmp_path / "other")


def test_errors_say_what_to_mend(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match="nothing to train on"):
        preference.train([], str(tiny_model), tmp_path, settings(), 0, unwatched)
    with pytest.raises(SolonError, match="max_length"):
        preference.train(PAIRS, str(tiny_model), tmp_path, settings(max_length=3), 0, unwatched)
    with pytest.raises(SolonError, match="not a finite number at step"):
        wild = settings(learning_rate=1e30, epochs=3)
        preference.train(PAIRS, str(tiny_model), tmp_path, wild, 0, unwatched)


def test_a_tokenizer_saved_with_the_model_scores_alike(tiny_model: Path, tmp_path: Path) -> None:
    """The folder alone is enough: its own tokenizer and template give what ``score`` gives."""
    out = tmp_path / "out"
    preference.train(PAIRS, base_model(tmp_path / "base", tiny_model), out, settings(), 0, unwatched)
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out)
    dialogue = dialogues_of(PAIRS, "chosen")[0]
    inputs = tokenizer.apply_chat_template([dialogue], return_dict=True, return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).logits.item() == pytest.approx(scores_of(out, [dialogue], 1)[0], abs=1e-6)
