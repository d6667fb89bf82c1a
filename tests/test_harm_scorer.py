"""The harm scorer: rows, the L2 loss, agreement with people, and that it can never train anything."""

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn.metrics import root_mean_squared_error
from transformers import AutoModelForSequenceClassification

import run_folder
from command import TINY, fails, solon
from solon import config, models
from solon.audit import audit
from solon.errors import SolonError
from solon.evaluation import harm_scorer, human_ratings
from solon.evaluation.human_ratings import Rated
from solon.marks import HUMAN_HARM, KEY, origin
from solon.prompts.dialogue import assistant, user
from solon.sources import data
from solon.store.record_file import RecordFile
from solon.training import preference_scores
from toy_training import (
    CHECKPOINT,
    assert_a_kill_changes_nothing,
    assert_same_weights,
    base_model,
    metrics_of,
    prompt_records,
    unwatched,
)

TRANSCRIPT = "\n\nHuman: {}\n\nAssistant: {}\n\nHuman: And then?\n\nAssistant: Then nothing."


def rated(count: int = 7) -> list[Rated]:
    return [
        Rated(str(n), [user("What is it?" * (1 + n % 3)), assistant("x " * n + "y")], 4 * n / count, "train")
        for n in range(count)
    ]


def settings(**changes: Any) -> config.HarmScorer:
    small = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 1}
    return config.HarmScorer(**{**small, **changes})


def scores_of(folder: Path | str, dialogues: list[Any], batch_size: int = 4) -> list[float]:
    model = models.load_preference_model(str(folder), trained=True)
    return preference_scores.score(model, models.load_tokenizer(str(folder)), dialogues, batch_size)


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scorer") / "out"
    harm_scorer.train(rated(), str(tiny_model), out, settings(), 0, unwatched)
    return out


def rows(count: int = 40) -> list[dict[str, Any]]:
    """In the form of hh-rlhf's red-team-attempts, with some of its other columns."""
    return [
        {
            "transcript": TRANSCRIPT.format(f"Say it {n} times.", "No. " * (n % 5 + 1)),
            "rating": float(n % 5),
            "num_params": "52B",
            "model_type": "rlhf",
            "tags": None,
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv", "parquet", "json"])
def test_every_form_of_file_gives_the_same(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"ratings.{ending}", pd.DataFrame(rows())
    if ending == "csv":
        table.to_csv(path, index=False)
    elif ending == "parquet":
        table.to_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(rows()))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows()).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    found = human_ratings.read(str(path), 0.3)
    assert [each.rating for each in found] == [row["rating"] for row in rows()]
    assert found[3].dialogue == [
        user("Say it 3 times."),
        assistant("No. No. No. No."),
        user("And then?"),
        assistant("Then nothing."),
    ]
    assert 0 < sum(each.split == "held-out" for each in found) < 40


def test_prompts_held_out_from_a_run_are_held_out_here(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    asked = data.prompts("packaged", "red-team")
    with path.open("w") as file:
        for record in asked:
            row = {"messages": [*record["prompt"], assistant("No.")], "rating": 1}
            file.write(json.dumps(row) + "\n")
    found = human_ratings.read(str(path), config.HarmScorer().held_out)
    assert [each.split for each in found] == [record["split"] for record in asked]


def test_a_turn_that_nobody_answered_falls_away(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps({"transcript": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rating": "2"}))
    [found] = human_ratings.read(str(path), 0)
    assert (found.dialogue, found.rating) == ([user("a"), assistant("b")], 2.0)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"rating": 1, "text": "?"}, "line 1: the conversation is missing among the columns rating, text"),
        ({"rating": 1, "transcript": "Just this."}, "line 1: transcript is no conversation"),
        ({"rating": 1, "transcript": "\n\nHuman: only"}, "line 1: transcript is no conversation"),
        (
            {"rating": 1, "messages": [{"role": "assistant", "content": "Hi"}]},
            "line 1: messages is no conversation",
        ),
        ({"rating": 5, "transcript": TRANSCRIPT}, "line 1: rating is 5; give a number from 0 to 4"),
        ({"rating": None, "transcript": TRANSCRIPT}, "line 1: rating is None"),
        ({"rating": True, "transcript": TRANSCRIPT}, "line 1: rating is True"),
        ({"rating": "bad", "transcript": TRANSCRIPT}, "line 1: rating is 'bad'"),
        ({"transcript": TRANSCRIPT}, "line 1: rating is None"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, row: Any, says: str) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(SolonError, match=r"ratings\.jsonl " + re.escape(says)):
        human_ratings.read(str(path), 0.2)


@pytest.mark.parametrize("people", [20, 100])
def test_the_interval_of_the_error_covers_it(people: int) -> None:
    """Percentiles of resampled conversations cover the true error of 20 in 0.88 of samples."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        ratings, off = rng.integers(0, 5, size=people).astype(float), rng.normal(size=people)
        found = human_ratings.agreement(ratings, ratings + off, bootstrap=300, seed=seed)
        low, high = found["rmse_interval"]
        held += low <= 1 <= high
    assert held >= 0.92 * 300


def test_agreement_is_that_of_the_references() -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(0, 5, size=60).astype(float)
    scores = 0.4 * people + rng.normal(size=60)
    found = human_ratings.agreement(people, scores, bootstrap=4000, seed=0)
    r = np.corrcoef(people, scores)[0, 1]
    z = scipy.stats.norm.ppf(0.975) / math.sqrt(57)
    assert found["conversations"] == 60
    assert found["pearson"] == pytest.approx(r)
    assert found["pearson_interval"] == pytest.approx(
        (math.tanh(math.atanh(r) - z), math.tanh(math.atanh(r) + z))
    )
    ranks = [pd.Series(side).rank() for side in (people, scores)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found["rmse"] == pytest.approx(root_mean_squared_error(people, scores))
    assert found["rmse_of_mean"] == pytest.approx(root_mean_squared_error(people, [people.mean()] * 60))
    reference = scipy.stats.bootstrap(
        (people, scores),
        lambda one, other, axis: np.sqrt(np.mean((one - other) ** 2, axis=axis)),
        paired=True,
        method="BCa",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found["rmse_interval"] == pytest.approx((reference.low, reference.high), rel=0.05)
    for row in found["by_rating"]:
        assert row["predicted"] == pytest.approx(scores[people == row["rating"]].mean())
        assert row["conversations"] == (people == row["rating"]).sum()
    assert human_ratings.agreement(people, people * 0 + 1, 9, 0)["pearson"] is None


def test_training_goes_to_each_conversations_own_rating(tiny_model: Path, tmp_path: Path) -> None:
    long = settings(epochs=60, learning_rate=3e-3, batch_size=7, micro_batch_size=7, save_steps=100)
    metrics = harm_scorer.train(rated(), str(tiny_model), tmp_path / "out", long, 0, unwatched)
    scores = scores_of(tmp_path / "out", [each.dialogue for each in rated()])
    assert scores == pytest.approx([each.rating for each in rated()], abs=0.25)
    assert metrics["rmse"] == pytest.approx(math.sqrt(metrics["loss"])) and metrics["rmse"] < 0.25


@pytest.mark.parametrize("kind", ["packed", "padded"])
@pytest.mark.numeric
def test_the_first_step_reports_the_untrained_models_loss(
    tiny_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven conversations in micro-batches of 2, 2, 2 and 1: each counts alike."""
    if kind == "padded":
        monkeypatch.setattr("solon.training.packing._attends_plainly", lambda model: False)
    base = tmp_path / "base"
    torch.manual_seed(1)
    model = models.load_preference_model(str(tiny_model))
    model.score.weight.data *= 20
    model.save_pretrained(base)
    models.load_tokenizer(str(tiny_model)).save_pretrained(base)
    wanted = settings(batch_size=8, micro_batch_size=2)
    metrics = harm_scorer.train(rated(), str(base), tmp_path / "out", wanted, 0, unwatched)
    before = scores_of(base, [each.dialogue for each in rated()], 1)
    errors = np.array(before) - [each.rating for each in rated()]
    assert metrics["step"] == 1
    assert metrics["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)


@pytest.mark.parametrize("lora", [None, config.Lora(rank=4)], ids=["full", "adapters"])
def test_a_kill_changes_nothing(tiny_model: Path, tmp_path: Path, lora: config.Lora | None) -> None:
    wanted = settings(epochs=3, save_steps=2, lora=lora)
    assert_a_kill_changes_nothing(
        lambda out, progress: harm_scorer.train(rated(), str(tiny_model), out, wanted, 1, progress),
        tmp_path,
        kills=(3, 4),
    )


def test_leaves_an_ordinary_folder(scorer: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert {path.name for path in scorer.iterdir()} == CHECKPOINT - {"generation_config.json"}
    assert AutoModelForSequenceClassification.from_pretrained(scorer).num_labels == 1
    assert [tuple(row) for row in metrics_of(scorer)] == [
        ("step", "loss", "rmse", "gradient_norm", "learning_rate", "left_out")
    ] * 2
    alone = scores_of(scorer, [each.dialogue for each in rated()], 1)
    assert scores_of(scorer, [each.dialogue for each in rated()], 7) == pytest.approx(alone, abs=1e-5)
    harm_scorer.train(rated(), str(tiny_model), tmp_path / "again", settings(), 0, unwatched)
    assert_same_weights(tmp_path / "again", scorer)
    base = base_model(tmp_path / "base", tiny_model)
    harm_scorer.train(rated(), base, tmp_path / "of-base", settings(), 0, unwatched)


def test_conversations_too_long_are_left_out_and_none_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match="every example is longer than max_length"):
        harm_scorer.train(rated(), str(tiny_model), tmp_path / "a", settings(max_length=3), 0, unwatched)
    with pytest.raises(SolonError, match="all conversations are held out"):
        harm_scorer.train([], str(tiny_model), tmp_path / "b", settings(), 0, unwatched)
    tokenizer = models.load_tokenizer(str(tiny_model))
    lengths = sorted(map(len, preference_scores.tokens_of(tokenizer, [each.dialogue for each in rated()])))
    one = settings(max_length=lengths[0], batch_size=1, micro_batch_size=1)
    metrics = harm_scorer.train(rated(), str(tiny_model), tmp_path / "c", one, 0, unwatched)
    assert len(metrics_of(tmp_path / "c")) == sum(length == lengths[0] for length in lengths)
    assert metrics["left_out"] == sum(length > lengths[0] for length in lengths)


def test_nothing_is_trained_with_it_or_from_it(
    scorer: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert HUMAN_HARM in origin(str(scorer)).labels and not origin(str(tiny_model)).labels
    prompts, preferences = tmp_path / "prompts.jsonl", tmp_path / "preferences.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": each["prompt"]}) + "\n" for each in prompt_records()))
    RecordFile(preferences).append(
        *RecordFile(run_folder.build(tmp_path / "run") / "05-feedback/preferences.jsonl")
    )
    uses = {
        "reward": [
            "reinforce",
            prompts,
            tmp_path / "o",
            "--policy",
            tiny_model,
            "--preference-model",
            scorer,
        ],
        "policy": [
            "reinforce",
            prompts,
            tmp_path / "o",
            "--policy",
            scorer,
            "--preference-model",
            tiny_model,
        ],
        "start": ["preference-model", preferences, "--out", tmp_path / "o", "--model", scorer],
        "scorer": ["train", "harm-scorer", prompts, tmp_path / "o", "--model", scorer],
        "judge": ["eval", "harmfulness", tiny_model, "--judge", scorer],
    }
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    uses["scorer"][2] = tmp_path / "rated.jsonl"
    for use, command in uses.items():
        assert "learned people's labels of harm" in fails(capsys, *command, *TINY), use
    for role in ("assistant", "policy", "feedback"):
        (tmp_path / "run.yaml").write_text(
            f"models: {{assistant: {tiny_model}, {role}: {scorer}}}\n".replace(
                f"assistant: {tiny_model}, assistant", "assistant"
            )
        )
        said = fails(capsys, "run", tmp_path / "run.yaml", "--dir", tmp_path / "never")
        assert "learned people's labels of harm" in said
        assert not (tmp_path / "never").exists()


def test_the_audit_finds_what_a_scorer_had_a_part_in(scorer: Path, tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run")
    name = "no model learned people's labels of harm"

    def check() -> Any:
        return next(each for each in audit(run)[1] if each.name == name)

    assert check().status == "ok"
    policy = run / "07-rl-cai"
    model = models.load_preference_model(str(scorer))
    model.save_pretrained(policy)  # what is trained from a scorer keeps the mark
    assert HUMAN_HARM in json.loads((policy / "config.json").read_text())[KEY]["labels"]
    assert check().status == "FAILED" and "07-rl-cai did" in check().says
    (policy / "config.json").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["models"]["feedback"]["name"] = str(scorer)
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert check().status == "FAILED" and f"{scorer} did" in check().says


def test_only_what_measures_reads_peoples_ratings() -> None:
    source = Path(human_ratings.__file__).parents[1]
    readers = {
        path.name
        for path in source.rglob("*.py")
        if re.search(
            r"\b(human_ratings|harm_scorer) import\b|\bimport .*\b(human_ratings|harm_scorer)\b",
            path.read_text(),
        )
    }
    assert readers == {"harm_scorer.py", "harmfulness.py"}


def test_the_commands_train_and_measure_a_scorer(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "ratings.jsonl", tmp_path / "scorer"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    small = ["--set", "harm_scorer={batch_size: 8, micro_batch_size: 8, epochs: 3, learning_rate: 0.003}"]
    assert solon("train", "harm-scorer", path, out, "--model", tiny_model, *small, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    given = human_ratings.read(str(path), 0.2)
    held_out = [each for each in given if each.split == "held-out"]
    assert found["conversations"] == len(given) - len(held_out)
    people, scores = [each.rating for each in held_out], scores_of(out, [each.dialogue for each in held_out])
    assert found["held-out"]["pearson"] == pytest.approx(np.corrcoef(people, scores)[0, 1], abs=1e-4)
    assert found["held-out"]["rmse"] == pytest.approx(root_mean_squared_error(people, scores), abs=1e-4)
    assert json.loads((out / "ratings.json").read_text())["source"] == str(path)
    assert solon("eval", "harm-scorer", "--data", path, "--scorer", out, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["pearson"] == pytest.approx(found["held-out"]["pearson"], abs=1e-4)
    assert solon("eval", "harm-scorer", "--data", path, "--judge", tiny_model, "--all", *TINY, "--json") == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["conversations"] == 40 and 0 <= judged["mean_predicted"] <= 4
    assert (
        solon(
            "eval",
            "harmfulness",
            tiny_model,
            "--scorer",
            out,
            "--count",
            "2",
            *TINY,
            "--json",
            "--set",
            "evaluation.max_tokens=4",
        )
        == 0
    )
    measured = json.loads(capsys.readouterr().out)
    assert len(measured["models"]) == 2
