"""What trainings take of a device's memory, as planned, against what they do; and what is written from it."""

import argparse
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer import utils

from peak_memory import peak_of
from solon import config
from solon.libraries import trl
from solon.planning import activations, estimate, fitting, stage_memory
from solon.planning.activations import Pass
from solon.planning.machine import Device, Machine, gpus
from solon.planning.model_size import of_model
from solon.planning.resources import Memory
from solon.planning.stage_memory import TRAINING
from solon.planning.stage_work import Assumptions
from solon.training import packing, setup

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
WITHIN = 0.15


def llama(layers: int, **widths: int) -> LlamaForCausalLM:
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=512, num_hidden_layers=layers, **shape | widths))


def saved(model: Any, tokens: int, autocast: bool) -> int:
    """Bytes that torch keeps for the backward pass of two packed sequences of so many tokens together."""
    kept: dict[int, torch.UntypedStorage] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    half = list(range(tokens // 2))
    with packing.packed(network) as packs:
        assert packs
        row = packing.pack([[half], [half]], None)
        del row["ends"]
        with (
            torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext(),
            saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            network.model(**row, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_a_layer_keeps_what_torch_saves(kind: str, held: torch.dtype, rank: int, tmp_path: Path) -> None:
    """Of each token: autocast, as on a GPU, keeps copies of the weights besides."""
    if held is torch.bfloat16 and not rank:
        return  # what is trained is float32

    def kept(layers: int, tokens: int) -> int:
        model: Any = llama(layers).to(held)
        if rank:
            model = get_peft_model(model, setup.lora_config(config.Lora(rank=rank), model, "CAUSAL_LM"))
        return saved(model.train(), tokens, autocast=kind == "cuda")

    a_layer = (kept(3, 256) - kept(2, 256) - kept(3, 128) + kept(2, 128)) / 128
    llama(1).save_pretrained(tmp_path)
    planned = Pass(Device(kind, 0), 1, 0, held.itemsize, rank).of_layer(of_model(str(tmp_path)))
    assert planned == pytest.approx(a_layer, rel=0.01)


def test_logits_are_made_in_parts_of_the_size_that_is_planned(tiny_model: Path) -> None:
    assert (trl.TOKENS_AT_ONCE, trl.COLUMNS_AT_ONCE) == activations.ELSEWHERE
    source = Path(utils.__file__).read_text(), Path(chunked_logprob.__file__).read_text()
    for text, name, size in zip(
        source[::-1], ("TOKEN_CHUNK_SIZE", "_CHUNKED_LOGPROB_CHUNK_SIZE"), activations.ON_A_GPU, strict=True
    ):
        assert f"\n{name} = {size}\n" in text


# Weights in a type of their own would take scratch memory that differs from one processor to the next.
ADAPTERS = ("lora={}", "weights=float32")
TWICE = ("gradient_checkpointing=true",)


@pytest.fixture(scope="module")
def two_sizes(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = []
    for hidden, layers in ((64, 3), (128, 4)):
        folders.append(folder := tmp_path_factory.mktemp("sized"))
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
        llama(layers, hidden_size=hidden, intermediate_size=2 * hidden).save_pretrained(folder)
    return folders


@pytest.mark.parametrize(
    ("size", "stage", "settings"),
    [
        (0, "supervised", ()),
        (0, "supervised", ADAPTERS + TWICE),
        (0, "preference-model", ADAPTERS),
        (1, "supervised", ADAPTERS),
        (1, "preference-model", TWICE),
    ],
)
def test_a_training_peaks_where_it_is_planned_to(
    size: int, stage: str, settings: tuple[str, ...], two_sizes: list[Path], tmp_path: Path, memory: Any
) -> None:
    section, tokens = TRAINING[stage], []
    chosen = [f"{section}.{setting}" for setting in settings]
    asked = argparse.Namespace(model=str(two_sizes[size]), tokens=160, set=chosen)
    peak = peak_of(lambda: tokens.append(memory.run(stage, asked, tmp_path)))
    mapped = 4 * of_model(asked.model).parameters  # the weights, which are read as the file has them
    planned = sum(memory.planned(stage, asked, tokens[0]).values())
    assert planned == pytest.approx(peak + mapped, rel=WITHIN)


def test_rl_on_one_base_peaks_where_it_is_planned_to(
    two_sizes: list[Path], tmp_path: Path, memory: Any
) -> None:
    chosen = [f"{section}.{setting}" for section in TRAINING.values() for setting in ADAPTERS]
    asked = argparse.Namespace(model=str(two_sizes[0]), tokens=64, set=chosen)
    for stage in ("supervised", "preference-model"):
        memory.run(stage, asked, tmp_path)
    tokens: list[int] = []
    peak = peak_of(lambda: tokens.append(memory.run("reinforce", asked, tmp_path)))
    mapped = 4 * of_model(asked.model).parameters
    planned = memory.planned("reinforce", asked, tokens[0])
    assert sum(planned.values()) == pytest.approx(peak + mapped, rel=WITHIN)
    assert planned["weights"] == mapped  # once, for policy, reference, preference model and sampler
    assert planned["reference"] == planned["adapters"]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("memory")


@pytest.fixture(scope="module")
def table() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("hardware_table")


@pytest.fixture(scope="module")
def sizes(table: Any) -> Any:
    return table.sizes()


@pytest.fixture(scope="module")
def presets(table: Any) -> Any:
    return {name: table.Preset(f"{name}.yaml") for name in ("one-gpu", "eight-gpus")}


@pytest.mark.parametrize(
    ("name", "size", "hardware"), [("one-gpu", "8B", (1, 24e9)), ("eight-gpus", "32B", (8, 80e9))]
)
def test_each_preset_fits_its_hardware(
    name: str, size: str, hardware: tuple[int, float], sizes: Any, presets: Any
) -> None:
    fits = {fit.stage: fit for fit in presets[name].fits(sizes[size], gpus(*hardware), {})}
    assert set(fits) > set(TRAINING)
    assert {stage: fit.change for stage, fit in fits.items() if fit.change != {}} == {}


def test_a_laptop_bears_its_preset() -> None:
    with resources.as_file(resources.files("solon") / "configs/laptop.yaml") as path:
        asked = config.load(path)
    laptop = Device("cpu", 8e9)
    planned = estimate.plan(asked, Assumptions(sample=1), machine=Machine(laptop, laptop))
    assert all(fit.change == {} for fit in fitting.fits(planned, asked))


def test_rl_of_eight_billion_parameters_on_one_card(table: Any, sizes: Any, presets: Any) -> None:
    size = sizes["8B"]
    assert size.parameters == 8_030_261_248  # Llama-3.1-8B's
    whole, four_bits = (
        next(
            fit.needs
            for fit in presets["one-gpu"].fits(size, gpus(1, memory), way)
            if fit.stage == "reinforce"
        )
        for way, memory in (({}, 24e9), (table.of_all(weights="4bit"), 16e9))
    )
    assert whole <= 22e9
    assert four_bits <= 14e9


def test_the_page_of_hardware_is_what_the_plan_says(table: Any, sizes: Any, presets: Any) -> None:
    assert table.page(sizes, presets["one-gpu"], presets["eight-gpus"]) == table.PAGE.read_text()


def test_parts_of_the_plan_for_several_devices() -> None:
    """FSDP shares out what is fixed; what samples has a whole copy, unless vLLM's are shared out too."""
    asked = config.Config.model_validate({"models": {"assistant": "1B"}, "feedback": {"few_shot": False}})
    shared = {"processes": 4, "strategy": "fsdp"}
    on_vllm = {"kind": "vllm", "vllm": {"tensor_parallel_size": 4}}
    planned = estimate.plan(asked, Assumptions(sample=1), machine=gpus(4, 80e9))
    [work] = [stage.work for stage in planned.stages if stage.name == "reinforce"]

    def needs(**changes: Any) -> Memory:
        changed = config.Config.model_validate(asked.model_dump() | changes)
        return stage_memory.memory(work, changed, planned.sizes, planned.machine)

    parameters = planned.sizes["policy"].parameters
    assert needs().fixed["weights"] == 4 * parameters
    assert needs(scale={"training": shared}).fixed["weights"] == parameters
    sampled = needs(scale={"training": shared}, reinforce={"prompts_per_step": 256, "micro_batch_size": 4})
    assert sampled.fixed["sampler"] == 2 * parameters
    sampled = needs(
        scale={"training": shared},
        engine=on_vllm,
        reinforce={"prompts_per_step": 1024, "micro_batch_size": 4},
    )
    assert sampled.fixed["sampler"] == parameters / 2


class Parsed(Exception):
    pass


@pytest.mark.parametrize("tiny", [False, True])
def test_every_step_on_a_gpu_is_one_that_its_script_takes(
    tiny: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    steps = list(import_module("gpu").steps(tmp_path, tiny))
    assert len(steps) == len({step.name for step in steps}) >= 12
    parse = argparse.ArgumentParser.parse_args

    def parsed(parser: argparse.ArgumentParser) -> None:
        raise Parsed(parse(parser))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    for step in steps:
        monkeypatch.setattr(sys, "argv", [step.script, *step.options])
        with pytest.raises(Parsed):
            import_module(step.script.removesuffix(".py")).main()


def test_a_step_ends_when_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = import_module("gpu")
    script = tmp_path / "slow.py"
    said = "print('{\"stage\": 1}', file=sys.stderr, flush=True)"
    script.write_text(f"import sys, time\n{said}\nif 'slowly' in sys.argv: time.sleep(60)\nprint('{{}}')\n")
    slow = gpu.run(gpu.Step("slow", 1, str(script), ["slowly"]), 1, tmp_path / "slow.log")
    assert slow["ended"] == "its 1 seconds were up"
    assert slow["partly"] == [{"stage": 1}]
    assert gpu.run(gpu.Step("quick", 9, str(script), []), 9, tmp_path / "quick.log")["result"] == {}
    script.write_text("raise ValueError('no')")
    wrong = gpu.run(gpu.Step("wrong", 9, str(script), []), 9, tmp_path / "wrong.log")
    assert wrong["ended"] == "with status 1"
    assert wrong["last"] == ["ValueError: no"]


@pytest.mark.skipif(
    "SOLON_TEST_BENCHMARKS" not in os.environ, reason="three minutes; 'make test-4bit' runs it"
)
def test_all_steps_on_a_gpu_run_on_what_there_is(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(tmp_path), "--tiny"]
    subprocess.run(command, check=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    ended = {name: step["ended"] for name, step in found.items()}
    assert set(ended.values()) == {"well"}, ended
