"""The over-optimisation watch: trends against plain formulas, what it says, and judging with a real model."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_folder
from command import fails, solon
from solon.evaluation.decisions import decision
from solon.evaluation.overoptimisation import matches, says, watch
from solon.report import content
from solon.store.record_file import RecordFile
from solon.store.run_folder import read


def metrics(rewards: list[float]) -> list[dict[str, Any]]:
    return [{"step": step, "reward": reward} for step, reward in enumerate(rewards, 1)]


def judged(step: int, probability: float, judge: str = "other") -> Any:
    return {"step": step, "probability": probability, "judge": judge}


def noise(count: int, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).normal(0, 0.05, count))


def told(reward: float, won: float, judge: str = "other") -> dict[str, Any]:
    """What is said where reward and the judge's view change by so much over 30 steps."""
    steps = range(30)
    rows = metrics([reward * step / 30 + noise(30, 0)[step] for step in steps])
    views = [judged(step + 1, 0.5 + won * (step - 14.5) / 30 + noise(30, 1)[step], judge) for step in steps]
    return dict(says(watch(rows, [], views, [], labeller="feedback + second"))[0])


def test_reward_and_judge_part() -> None:
    finding = told(reward=1, won=-0.3)
    assert finding["warning"]
    assert finding["text"].startswith("Reward and judge part: the reward went from ")
    assert "to other the answers got worse" in finding["text"]
    finding = told(reward=1, won=0)
    assert finding["warning"]
    assert "other sees no clear change" in finding["text"]
    finding = told(reward=1, won=0.3)
    assert not finding["warning"]
    assert "other agrees that the answers got better" in finding["text"]
    assert "did not clearly rise" in told(reward=0, won=-0.3)["text"]
    for judge in ("feedback", "second"):  # of the panel that labelled
        assert "not independent" in told(reward=1, won=-0.3, judge=judge)["text"]
    assert "not independent" not in finding["text"]


def test_a_judge_that_turns_with_the_order_cannot_tell() -> None:
    rows = metrics([step / 30 + noise(30, 0)[step] for step in range(30)])
    views = [{**judged(step, 0.55), "orders": [0.9, 0.2]} for step in range(1, 31)]
    [finding] = says(watch(rows, [], views, []))
    assert not finding["warning"]
    assert "and other cannot tell. The judge decided 0 of 30 comparisons, and 30 turned" in finding["text"]


def test_without_a_judge_it_says_how_to_ask_one() -> None:
    rows = metrics([step / 10 + each for step, each in enumerate(noise(20, 2))])
    [finding] = says(watch(rows, [], [], []))
    assert not finding["warning"]
    assert "overoptimisation RUN --judge" in finding["text"]
    assert says(watch([], [], [], [])) == []
    assert says(watch(metrics([1.0]), [], [], [])) == []  # one step has no trend


def test_trends_are_welchs() -> None:
    rewards = [float(each) for each in np.random.default_rng(3).normal(0, 1, 30) + np.linspace(0, 2, 30)]
    found = watch(metrics(rewards), [], [], [])["reward"]
    assert found is not None
    early, late = np.array(rewards[:10]), np.array(rewards[-10:])
    a, b = early.var(ddof=1) / 10, late.var(ddof=1) / 10
    freedom = (a + b) ** 2 / (a**2 / 9 + b**2 / 9)
    # Student's t at 97.5 %, found by integrating its density.
    grid = np.linspace(-60, 60, 2_400_001)
    density = (1 + grid**2 / freedom) ** (-(freedom + 1) / 2)
    quantile = grid[np.searchsorted(np.cumsum(density) / density.sum(), 0.975)]
    half = quantile * math.sqrt(a + b)
    change = late.mean() - early.mean()
    assert found["change"] == pytest.approx(change)
    assert found["interval"] == pytest.approx((change - half, change + half), abs=1e-3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model", prompts=90, boilerplate=0.9)


def test_blocks_are_means_of_their_steps(finished: Path) -> None:
    run = read(finished)
    found = content.watch(run)
    assert [(each["first"], each["last"]) for each in found["blocks"]] == [
        (1, 10),
        (11, 20),
        (21, 30),
        (31, 40),
        (41, 50),
        (51, 60),
    ]
    for block in found["blocks"]:
        mine = [
            row["reward"]
            for row in run.metrics["reinforce"]
            if block["first"] <= row["step"] <= block["last"]
        ]
        assert block["reward"] == pytest.approx(np.mean(mine))
        views = [  # which it decides for, not how sure it is
            decision(e) for e in run.sample_judgements if block["first"] <= e["step"] <= block["last"]
        ]
        assert (block["judged"], block["won"]) == (len(views), pytest.approx(np.mean(views)))
        if len({*views}) > 1:
            assert block["won_interval"] is not None
            assert block["won_interval"][0] < np.mean(views) < block["won_interval"][1]
    assert len({each["answers"] for each in found["blocks"]}) == 1


def test_boilerplate_that_grows_over_rl_is_a_warning(finished: Path) -> None:
    found = content.watch(read(finished))
    texts = [each["text"] for each in says(found) if each["warning"]]
    assert any(text.startswith("Reward and judge part") for text in texts)
    [text] = [text for text in texts if text.startswith("Boilerplate rises")]
    assert "“please remember that you are valid valued and cared for”" in text


def test_models_are_compared_on_the_same_prompts(finished: Path) -> None:
    run = read(finished)
    for record in run.answers:
        for answer in record["answers"]:
            if answer["model"] == "rl-cai" and record["set"] == "red-team":
                answer["text"] += f" {run_folder.ENDING}"
    found = watch([], [], [], run.answers)
    rises = {(each["set"], each["model"]): each["rise"] for each in found["models"]}
    assert rises["red-team", "initial"] is None
    assert (rise := rises["red-team", "rl-cai"])
    assert rise["p_value"] == 0.001
    assert (rise := rises["helpful", "rl-cai"])
    assert rise["p_value"] > 0.05
    [warning, note] = says(found)
    assert "initial model's answers to red-team prompts" in warning["text"]
    assert (warning["warning"], note["warning"]) == (True, False)


def test_samples_are_drawn_from_every_step_and_a_larger_draw_adds(finished: Path) -> None:
    run = read(finished)
    few, many = (matches(run.samples, run.pairs, count, seed=1) for count in (12, 70))
    assert len(few) == 12
    assert set(few) < set(many)
    assert len({step for _, step in many.values()}) == 60
    match, step = next(iter(few.values()))
    sample = next(each for each in run.samples if each["id"] == match["id"])
    assert (match["texts"][0], step) == (sample["response"], sample["step"])
    pair = next(each for each in run.pairs if each["prompt"] == sample["prompt"])
    assert match["texts"][1] == pair["responses"][0]


def test_samples_without_the_prompts_id_are_read(finished: Path) -> None:
    """As runs wrote them before they had it."""
    samples = finished / "07-rl-cai/samples.jsonl"
    written, run = samples.read_text(), read(finished)
    old = [{key: value for key, value in each.items() if key != "prompt_id"} for each in run.samples]
    try:
        samples.write_text("".join(json.dumps(each) + "\n" for each in old))
        assert read(finished).samples == run.samples
    finally:
        samples.write_text(written)


def test_a_judge_is_asked_once(
    finished: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = finished / "evaluation/rl-judgements.jsonl"
    recorded = kept.read_text()
    kept.unlink()
    small = [
        "--set",
        "engine={dtype: float32, device: cpu, batch_size: 8}",
        "--set",
        "feedback.few_shot=false",
    ]
    asked = ["eval", "overoptimisation", finished, "--judge", tiny_model, *small, "--json"]
    assert solon(*asked, "--count", "6") == 0
    shown = json.loads(capsys.readouterr().out)
    first = RecordFile(kept).read()
    assert len(first) == 6
    assert shown["judge"] == str(tiny_model)
    assert sum(each["judged"] for each in shown["blocks"]) == 6
    assert all({"step", "judge", "probability", "orders", "principle"} <= set(each) for each in first)
    assert solon(*asked, "--count", "9") == 0
    capsys.readouterr()
    assert RecordFile(kept).read()[:6] == first
    assert len(RecordFile(kept).read()) == 9
    assert "delete it to ask smollm2 instead" in fails(
        capsys, "eval", "overoptimisation", finished, "--judge", "smollm2", *small
    )
    kept.write_text(recorded)
    assert solon("eval", "overoptimisation", finished) == 0
    assert "Warning: Reward and judge part" in capsys.readouterr().out
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert "no RL and no evaluation yet" in fails(capsys, "eval", "overoptimisation", tmp_path)
    wrong = fails(capsys, "eval", "overoptimisation", tmp_path, "--judge", tiny_model)
    assert "samples.jsonl holds no answers of RL" in wrong
