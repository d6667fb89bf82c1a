"""The plan of a run against what real models, libraries and runs take."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from command import fails, solon
from solon import config, models
from solon.errors import SolonError
from solon.inference.engine import Question, Request
from solon.inference.transformers_engine import TransformersEngine
from solon.planning import estimate, fitting, machine, model_size, resources
from solon.planning.counting import CountingEngine, Load, attended
from solon.planning.stage_work import Assumptions
from solon.prompts.dialogue import assistant, user
from solon.training import setup

CONFIG = """
models: {{assistant: {model}}}
engine: {{dtype: float32, device: cpu, batch_size: 8}}
prompts:
  red_team: {{train: 12, held_out: 4}}
  helpful: {{train: 8, held_out: 4}}
critique: {{rounds: 2, max_tokens: 24, attempts: 1}}
supervised: {{max_length: 512}}
comparison: {{max_tokens: 12}}
feedback: {{principles: 2}}
preference_model: {{held_out: 0.25, helpfulness: ai, max_length: 512}}
reinforce: {{steps: 1, prompts_per_step: 2, samples_per_prompt: 2, micro_batch_size: 4, max_tokens: 4}}
evaluation: {{max_tokens: 8, bootstrap: 20}}
"""
PLAIN = ["--set", "critique.few_shot=false", "--set", "feedback.few_shot=false"]  # soon planned
WITHIN = 1.5  # the factor that docs/scaling.md states


def test_a_models_size_is_that_of_its_weights(tiny_model: Path) -> None:
    model = models.load_model(str(tiny_model))
    size = model_size.of_model(str(tiny_model))
    assert size.parameters == sum(weight.numel() for weight in model.parameters())
    assert (size.layers, size.hidden, size.attention, size.keys, size.inner) == (2, 64, 64, 32, 128)
    assert size.parameters - size.multiplied == size.head == 512 * 64  # tied
    assert size.multiplied - size.matrices == 5 * 64  # norms
    adapted = get_peft_model(model, setup.lora_config(config.Lora(rank=4), model, "CAUSAL_LM"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert size.adapters(4) == trained


def test_a_gguf_file_is_sized_without_its_weights() -> None:
    size = model_size.of_model("smollm2")
    assert size.parameters == 134_515_008
    assert (size.layers, size.hidden, size.keys, size.vocabulary) == (30, 576, 192, 49152)


def test_the_papers_model_from_its_number_of_parameters() -> None:
    parameters = model_size.imagined("52B")
    assert parameters == 52e9
    size = model_size.of_number(parameters, 65536)
    assert (size.layers, size.hidden) == (64, 8192)
    assert size.multiplied == pytest.approx(52e9, rel=0.02)
    assert [model_size.imagined(name) for name in ("org/52B", "52", "B", "./52B", "52b")] == [None] * 5


@pytest.mark.parametrize("way", ["prompt", "train"])
def test_operations_are_those_that_torch_counts(tiny_model: Path, way: Any) -> None:
    model = models.load_model(str(tiny_model))
    model.set_attn_implementation("eager")
    size, length = model_size.of_model(str(tiny_model)), 48
    tokens = torch.arange(2 * length).view(2, length)
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        if way == "train":
            loss.backward()
    # Torch's attention computes what causality hides, too: every token attends to the whole length.
    load = Load("policy", way, 2 * length, 0, 2 * length**2, 2 * length)
    # The norms' weights count as if they were matrices': 0.3 % here, and less in larger models.
    assert counter.get_total_flops() == pytest.approx(resources.operations(load, size).total, rel=4e-3)


def test_the_counting_engine_counts_as_the_engine_does(tiny_model: Path) -> None:
    shots = [user("Tell me of llamas. " * 12), assistant("They are woolly. " * 12)]
    first = [
        Request(f"a{number}", [*shots, user(f"And of animal {number}?")], max_tokens=6)
        for number in range(20)
    ]
    questions = [
        Question(f"q{number}", [*shots, user(f"Is {number} odd?")], ("A", "B")) for number in range(20)
    ]
    settings = config.EngineSettings(dtype="float32", device="cpu", batch_size=4)
    with TransformersEngine(str(tiny_model), settings) as engine:
        list(engine.generate(first))
        list(engine.choice_logprobs(questions))
        usage = engine.usage
    counted = CountingEngine("assistant", models.load_tokenizer(str(tiny_model)), 4, 1.0, ["some words"])
    list(counted.generate(first))
    list(counted.choice_logprobs(questions))
    prompts, _ = counted.take()
    assert prompts.naive == usage.tokens_naive
    assert prompts.tokens == pytest.approx(usage.tokens_computed, rel=0.1)
    assert prompts.tokens < prompts.naive / 5


def test_attended_tokens_add_up() -> None:
    assert attended(3, 7) == 4 + 5 + 6 + 7


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planned") / "tiny.yaml"
    path.write_text(CONFIG.format(model=tiny_model))
    assert solon("run", path) == 0
    return path


def test_a_real_run_takes_what_was_planned(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solon("plan", finished, "--json", "--length", "1") == 0  # a random model ends no text
    planned = json.loads(capsys.readouterr().out)["stages"]
    manifest = json.loads((finished.parent / "runs/tiny/manifest.json").read_text())["stages"]
    compared = 0
    for stage, done in manifest.items():
        for name, count in done["usage"].items():
            if name.startswith("tokens_"):
                assert count / WITHIN <= planned[stage][name] <= count * WITHIN, (stage, name)
                compared += 1
    assert compared == 11
    checkpoints = sum(
        file.stat().st_size
        for file in (finished.parent / "runs/tiny").rglob("*")
        if file.suffix == ".safetensors"
    )
    disk = sum(each["disk_bytes"] for each in planned.values())
    assert checkpoints <= disk <= 2 * checkpoints + 1e6


def test_the_plan_is_shown_and_tells_of_hours_and_money(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--flops-per-second", "1e12", "--utilisation", "0.5", "--decoding-utilisation", "0.25"]
    assert solon("plan", finished, *PLAIN, "--json", *given, "--hourly-price", "3600") == 0
    shown = json.loads(capsys.readouterr().out)["stages"]["supervised"]
    assert shown["hours"] * 3600 == pytest.approx(shown["flops"] / 0.5e12)
    assert shown["cost"] == pytest.approx(shown["hours"] * 3600)
    assert solon("plan", finished, *PLAIN) == 0
    shown = capsys.readouterr().out
    assert "critique" in shown
    assert "Hours: give --measure" in shown
    assert "exclude each other" in fails(capsys, "plan", finished, "--measure", *given)


def test_rates_are_measured_on_the_model(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solon("plan", finished, *PLAIN, "--json", "--measure") == 0
    shown = json.loads(capsys.readouterr().out)
    rates = shown["flops_per_second"]
    assert rates.pop("source") == "measured here"
    assert all(1e6 < rate < 1e13 for rate in rates.values())
    assert all(each["hours"] > 0 for name, each in shown["stages"].items() if name != "red-team")


def test_servers_cost_what_they_compute_and_need_no_memory_here(tiny_model: Path) -> None:
    prices = {"input_price": 2.0, "output_price": 8.0, "tokenizer": str(tiny_model)}
    asked = config.Config.model_validate(
        {
            "models": {
                "assistant": "openai:big",
                "policy": str(tiny_model),
                "feedback": str(tiny_model),
                "judge": "openai:big",
            },
            "engine": {"device": "cpu", "openai": prices},
            "prompts": {"red_team": {"train": 4, "held_out": 1}, "helpful": {"train": 4, "held_out": 0}},
            "critique": {"rounds": 1, "max_tokens": 16},
            "feedback": {"few_shot": False},
            "evaluation": {"max_tokens": 4, "judging": "rating"},
        }
    )
    found = {each.name: each for each in estimate.plan(asked, tokenizer=str(tiny_model)).stages}
    work = found["critique"]
    naive, generated = work.tokens("prompt", naive=True), work.tokens("generate")
    assert work.cost == pytest.approx((2 * naive + 8 * generated) / 1e6)
    assert work.memory is None
    assert found["feedback"].cost == 0
    assert found["feedback"].memory is not None
    judged = [load for load in found["evaluation"].loads if load.role == "judge"]
    costs = [2 * load.naive if load.way == "prompt" else 8 * load.tokens for load in judged]
    assert found["evaluation"].cost == pytest.approx(sum(costs) / 1e6)
    assert sum(costs) > 0


def test_what_the_feedback_model_reads_to_reward_is_planned(tiny_model: Path) -> None:
    def planned(reward: Any, steps: int = 1) -> estimate.StagePlan:
        rl = {"reward": reward, "steps": steps, "prompts_per_step": 2, "max_tokens": 4}
        asked = config.Config.model_validate(
            {
                "models": {"assistant": str(tiny_model)},
                "engine": {"device": "cpu", "batch_size": 8},
                "prompts": {name: {"train": 4, "held_out": 2} for name in ("red_team", "helpful")},
                "critique": {"rounds": 1, "few_shot": False, "max_tokens": 8},
                "feedback": {"method": "rating", "few_shot": False},
                "reinforce": rl,
            }
        )
        plan = estimate.plan(asked, Assumptions(sample=2))
        return next(stage for stage in plan.stages if stage.name == "reinforce")

    scored, rated, longer = planned("preference-model"), planned("rating"), planned("rating", 10)
    assert roles(scored.loads) == {"policy", "preference model"}
    assert roles(rated.loads) == {"policy", "feedback"}
    asked, of_ten = (
        next(load for load in stage.loads if (load.role, load.way) == ("feedback", "prompt"))
        for stage in (rated, longer)
    )
    assert of_ten.naive == pytest.approx(10 * asked.naive)
    # Two answers' ratings at least, the scale read up and down, each longer than the scale is.
    assert asked.naive > 2 * 2 * 100
    assert scored.memory and rated.memory
    assert "preference model" in scored.memory.fixed and "the feedback model" not in scored.memory.fixed
    assert "the feedback model" in rated.memory.fixed and "preference model" not in rated.memory.fixed


def sized(memory: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with so much memory."""
    monkeypatch.setattr(machine, "device_memory", lambda _: memory)


def test_a_machine_too_small_is_told_before_anything_is_written(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.format(model=tiny_model))
    sized(1e6, monkeypatch)
    said = fails(capsys, "run", path)
    assert said.startswith("stage supervised needs 0.0 GB of memory at least (weights")
    assert "supervised.lora" in said
    assert not (tmp_path / "runs").exists()


def test_a_stage_that_may_not_fit_is_warned_of(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Listener(estimate.Watcher):
        def say(self, text: str) -> None:
            said.append(text)

    asked = config.load(finished)
    sized(3e8, monkeypatch)  # less than the libraries take, and more than the model
    estimate.check(asked, finished.parent / "new", Listener(), ["critique"])
    assert any(text.startswith("Stage critique may need 0.") for text in said)
    said.clear()
    sized(1, monkeypatch)
    estimate.check(
        asked, finished.parent / "runs/tiny", Listener(), ["critique"]
    )  # nothing is left to be done there
    assert said == []


def test_a_plan_for_other_hardware_says_what_to_set() -> None:
    """Full training takes 16 bytes a parameter; RL two more copies of 4 and, to sample, one of 2 where
    gradients were."""
    asked = config.Config.model_validate({"models": {"assistant": "1B"}, "feedback": {"few_shot": False}})
    planned = estimate.plan(asked, Assumptions(sample=1), machine=machine.gpus(1, 16e9))

    def changes(devices: int, gigabytes: float) -> dict[str, dict[str, Any] | None]:
        other = replace(planned, machine=machine.gpus(devices, gigabytes * 1e9))
        return {fit.stage: fit.change for fit in fitting.fits(other, asked)}

    assert set(map(str, changes(1, 200).values())) == {"{}"}
    eight_bits = {"supervised.optimizer": "adamw-8bit"}
    assert changes(1, 24)["reinforce"] == {"reinforce.optimizer": "adamw-8bit"}
    assert changes(1, 16)["supervised"] == eight_bits
    assert changes(1, 16)["critique"] == {"engine.batch_size": 32}
    assert changes(1, 8)["supervised"] == {"supervised.lora": {}}
    adapters = {"supervised.lora": {}, "preference_model.lora": {}, "reinforce.lora": {}}
    assert changes(1, 8)["reinforce"] == adapters
    smaller = {"reinforce.micro_batch_size": 1, "reinforce.prompts_per_step": 4}
    assert changes(1, 4)["reinforce"] == adapters | smaller
    assert changes(1, 1)["reinforce"] is None
    shared = {"scale.training.processes": 8, "scale.training.strategy": "fsdp"}
    assert changes(8, 8)["reinforce"] == shared
    memory = {stage.name: stage.memory for stage in planned.stages}["reinforce"]
    assert memory and memory.least == pytest.approx((16 - 4 + 4 + 4 + 2) * planned.sizes["policy"].parameters)
    told = next(fit for fit in fitting.fits(planned, asked) if fit.stage == "critique")
    assert told.mend == "set engine.batch_size to 32"
    assert told.needs > told.has == 16e9


def test_what_cannot_be_planned_is_left_to_the_run(tmp_path: Path) -> None:
    asked = config.Config.model_validate({"models": {"assistant": str(tmp_path / "none")}})
    estimate.check(asked, tmp_path, estimate.Watcher(), ["critique"])
    with pytest.raises(SolonError, match="is not known"):
        estimate.plan(asked)


def roles(loads: Sequence[Load]) -> set[str]:
    return {load.role for load in loads}


def test_pairs_that_the_feedback_model_makes_need_its_memory(tiny_model: Path) -> None:
    weights = {}
    for method in ("multiple-choice", "contrast"):
        asked = config.Config.model_validate(
            {
                "models": {"assistant": str(tiny_model), "feedback": "1B"},
                "engine": {"dtype": "bfloat16"},
                "feedback": {"method": method, "few_shot": False},
            }
        )
        found = {each.name: each for each in estimate.plan(asked, Assumptions(sample=1)).stages}
        assert found["comparison"].memory
        weights[method] = found["comparison"].memory.least
    assert weights["multiple-choice"] < 2e9 < weights["contrast"]


def test_a_plan_of_the_papers_scale_counts_all_prompts() -> None:
    root = Path(__file__).parent.parent
    asked = config.load(root / "docs/paper-scale.yaml")
    found = estimate.plan(asked, Assumptions(sample=2, comparisons=135_296))
    stages = {each.name: each for each in found.stages}
    assert round(stages["critique"].records) == 182_831 + 2 * 135_296
    assert round(stages["comparison"].records) == 182_831
    assert round(stages["preference-model"].records) == pytest.approx(0.9 * (182_831 + 135_296), rel=1e-3)
    assert roles(stages["feedback"].loads) == {"feedback"}
    supervised = stages["supervised"].memory
    assert supervised
    assert supervised.least == pytest.approx(16 * 52e9, rel=0.02)
    assert any("182831" in note for note in found.notes)
