"""Answers that vLLM samples in RL (make test-vllm): those of the policy as it is now, the same again."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM, set_seed

from solon import config, models
from solon.pipeline import launch
from solon.policy.rollouts import AnySampler, Sampler
from solon.policy.samplers import open_sampler
from solon.policy.task import Task
from solon.stages import reinforce
from solon.store.record_file import RecordFile
from test_rollouts import ASKED, assert_samples_follow, prompt_tokens
from toy_training import (
    assert_a_kill_changes_nothing,
    human_too,
    metrics_of,
    prompt_records,
    unwatched,
    weights_of,
)

pytest.importorskip("vllm")

SETTINGS = config.EngineSettings(kind="vllm", dtype="float32", batch_size=64, vllm={"enforce_eager": True})
RL: dict[str, Any] = {"prompts_per_step": 2, "samples_per_prompt": 4, "micro_batch_size": 4, "max_tokens": 6}


def task_of(folder: Path | str, engine: config.EngineSettings = SETTINGS, **changes: Any) -> Task:
    settings = ASKED.model_copy(update=changes)
    return Task([], str(folder), None, Path("nowhere"), settings, 3, unwatched, engine=engine)


@pytest.fixture(scope="module")
def sampler(tiny_model: Path) -> Iterator[AnySampler]:
    sampler = open_sampler(task_of(tiny_model), None)
    yield sampler
    sampler.close()


def asking(sampler: Any, **changes: Any) -> Any:
    """The same, asked otherwise."""
    settings = ASKED.model_copy(update=changes)
    sampler.task = replace(sampler.task, settings=settings)
    return sampler


def moved(model: Any, seed: int) -> Any:
    """The model after an update of what it trains."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn_like(weight))
    return model


def test_samples_come_from_the_weights_of_now(sampler: AnySampler, tiny_model: Path) -> None:
    policy, prompt = models.load_model(str(tiny_model)), prompt_tokens(str(tiny_model))
    for seed in (1, 2):
        answers = asking(sampler).sample(moved(policy, seed), [prompt] * 2000, seed, 0)
        assert_samples_follow(policy, prompt, answers)


@pytest.mark.parametrize("adapters", [False, True])
def test_no_weight_is_stale(sampler: AnySampler, tiny_model: Path, adapters: bool) -> None:
    """After every update vLLM writes what the trained model itself would: other texts than before."""
    model: Any = models.load_model(str(tiny_model))
    if adapters:
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
        moved(model, 0)  # half of them begin as nothing
    prompt, seen = prompt_tokens(str(tiny_model)), set()
    for seed in (1, 2, 3):
        vllms, own = greedy(sampler, moved(model, seed), prompt, seed)
        assert vllms == own
        seen.add(tuple(own))
    assert len(seen) == 3


def greedy(sampler: Any, model: Any, prompt: list[int], seed: int) -> tuple[list[int], list[int]]:
    """What vLLM writes, and what the model itself does."""
    [answer] = asking(sampler, temperature=0.0, max_tokens=12).sample(model, [prompt], seed, 0)
    own = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
    return answer.tokens, own.tolist()


def test_no_expert_is_stale(tiny_model: Path, tmp_path: Path) -> None:
    """Experts stand by themselves in checkpoints, and packed in vLLM."""
    tokenizer = models.load_tokenizer(str(tiny_model))
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "head_dim": 32}
    counts = {"num_hidden_layers": 2, "num_experts": 4, "num_experts_per_tok": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    every: dict[str, Any] = {"vocab_size": len(tokenizer), **sizes, **counts, **heads, **ids}
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**every)).save_pretrained(tmp_path)
    model, prompt = models.load_model(str(tmp_path)), prompt_tokens(str(tmp_path))
    sampler, seen = open_sampler(task_of(tmp_path), model), set()
    for seed in (1, 2):
        vllms, own = greedy(sampler, moved(model, seed), prompt, seed)
        assert vllms == own
        seen.add(tuple(own))
    sampler.close()
    assert len(seen) == 2


def test_weights_that_were_not_given_are_told(sampler: Any, tiny_model: Path) -> None:
    from solon.libraries.vllm import hand_over

    model = models.load_model(str(tiny_model))
    asking(sampler, max_tokens=1).sample(model, [prompt_tokens(str(tiny_model))], 1, 0)
    given = [item for item in model.named_parameters() if not item[0].endswith("1.self_attn.o_proj.weight")]
    missing = hand_over(sampler._workers, given, torch.float32)
    assert missing == {"model.layers.1.self_attn.o_proj.weight"}


def test_every_step_process_and_place_has_a_seed_of_its_own(sampler: AnySampler, tiny_model: Path) -> None:
    policy, prompt = models.load_model(str(tiny_model)), prompt_tokens(str(tiny_model))
    asking(sampler, max_tokens=8, temperature=0.7)
    answers = sampler.sample(policy, [prompt] * 4, 5, 0)
    assert len({tuple(answer.tokens) for answer in answers}) == 4
    assert sampler.sample(policy, [prompt] * 4, 5, 0) == answers
    assert sampler.sample(policy, [prompt] * 2, 5, 1) == answers[2:]  # of two processes the second's share
    assert sampler.sample(policy, [prompt] * 4, 6, 0) != answers
    for answer in answers:
        with torch.no_grad():
            logits = policy(torch.tensor([[*prompt, *answer.tokens]])).logits[0, len(prompt) - 1 : -1]
        own = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(answer.logprobs), own, atol=1e-4, rtol=0)


def test_texts_end_where_the_other_samplers_do(tiny_model: Path, tmp_path: Path) -> None:
    name = human_too(tmp_path, tiny_model)
    task = task_of(name, max_tokens=40, prompts_per_step=4, samples_per_prompt=8)
    prompt, policy = prompt_tokens(name), models.load_model(name)
    found = []
    other = Sampler(name, task.settings, 3)
    for each in (open_sampler(task, policy), other):
        answers = each.sample(policy, [prompt] * 32, 1, 0)
        found.append({(answer.text, answer.truncated, len(answer.tokens)) for answer in answers})
        each.close()
    assert ("Yes.", False) in {(text, cut) for text, cut, _ in found[0] & found[1]}


@pytest.fixture(scope="module")
def judge(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("judge")
    set_seed(0)
    models.load_preference_model(str(tiny_model)).save_pretrained(folder)
    models.load_tokenizer(str(tiny_model)).save_pretrained(folder)
    return str(folder)


def settings(algorithm: str, **changes: Any) -> config.Reinforce:
    few = {"steps": 3, "learning_rate": 1e-3, "save_steps": 2, **RL}
    return config.Reinforce(algorithm=algorithm, **{**few, **changes})


def test_a_killed_run_goes_on_exactly(tiny_model: Path, judge: str, tmp_path: Path) -> None:
    asked = settings("rloo")
    assert_a_kill_changes_nothing(
        lambda out, progress: reinforce.train(
            prompt_records(), str(tiny_model), judge, out, asked, 0, progress, engine=SETTINGS
        ),
        tmp_path,
        (3,),
    )
    assert all(0 < row["sampler_gap"] < 1e-5 for row in metrics_of(tmp_path / "whole"))


@pytest.mark.parametrize(("algorithm", "passes"), [("grpo", 2), ("ppo", 1)])
def test_adapters_are_near_their_sampler(
    tiny_model: Path, judge: str, tmp_path: Path, algorithm: str, passes: int
) -> None:
    asked = settings(algorithm, epochs_per_step=passes, lora={"rank": 4}, weights="float32")
    reinforce.train(prompt_records(), str(tiny_model), judge, tmp_path, asked, 0, unwatched, engine=SETTINGS)
    assert all(0 < row["sampler_gap"] < 1e-5 for row in metrics_of(tmp_path))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="each of two workers has a core of its own")
def test_two_workers_share_the_model(
    tiny_model: Path, sampler: AnySampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import envs

    envs.disable_envs_cache()  # which remembers that of the engines before
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    vllm = SETTINGS.vllm.model_copy(update={"tensor_parallel_size": 2})
    shared: Any = open_sampler(task_of(tiny_model, SETTINGS.model_copy(update={"vllm": vllm})), None)
    policy, prompt = moved(models.load_model(str(tiny_model)), 1), prompt_tokens(str(tiny_model))
    answers = [
        asking(each, temperature=0.0, max_tokens=12).sample(policy, [prompt], 1, 0)[0].tokens
        for each in (sampler, shared)
    ]
    shared.close()
    assert answers[0] == answers[1]


def test_two_training_processes_sample_by_one_vllm(tiny_model: Path, judge: str, tmp_path: Path) -> None:
    """Their weights shared out (FSDP): each has a part, and vLLM gets them whole."""
    asked, names = settings("rloo", micro_batch_size=2), [str(tiny_model), judge]
    scale, together = config.TrainingScale(processes=2, strategy="fsdp"), tmp_path / "two"
    together.mkdir()
    launch.write_task("reinforce", prompt_records(), names, together, asked, 0, engine=SETTINGS)
    line = [*launch.command(scale), str(Path(__file__).with_name("train_together.py")), str(together)]
    subprocess.run(line, env=launch.environment(scale), check=True, capture_output=True, text=True)
    reinforce.train(prompt_records(), *names, tmp_path / "one", asked, 0, unwatched, engine=SETTINGS)
    two, one = (metrics_of(tmp_path / folder) for folder in ("two", "one"))
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4, abs=2e-4)
    weights, expected = weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    assert all(torch.allclose(weights[name], expected[name], atol=1e-4) for name in expected)
    samples = [RecordFile(tmp_path / folder / "samples.jsonl").read() for folder in ("two", "one")]
    for ours, theirs in zip(*samples, strict=True):
        assert (ours["id"], ours["response"]) == (theirs["id"], theirs["response"])
