"""Answers sampled in RL are those of the policy as it is now, whatever the engine was opened with."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from solon import config, models
from solon.inference import open_engine
from solon.inference.engine import Request
from solon.inference.plain_engine import PlainEngine
from solon.libraries.transformers import as_in_checkpoints
from solon.policy.rollouts import Rollout, Sampler, plain_weights
from solon.prompts.dialogue import HUMAN_TURN, user
from toy_training import QUESTIONS, human_too

pytestmark = pytest.mark.numeric

ASKED = config.Reinforce(prompts_per_step=50, samples_per_prompt=40, max_tokens=1, micro_batch_size=8)


def prompt_tokens(model: str) -> list[int]:
    tokenizer = models.load_tokenizer(model)
    found: list[int] = tokenizer.apply_chat_template(
        [user("Why is that so?")], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return found


def assert_samples_follow(model: torch.nn.Module, prompt: list[int], answers: list[Rollout]) -> None:
    """The first tokens come as often as their probabilities say (bfloat16 rounds them), which are uneven."""
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    likely = expected.topk(5)
    counts = Counter(answer.tokens[0] for answer in answers)
    assert likely.values[0] > 0.05
    for probability, token in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
        deviation = (probability * (1 - probability) / len(answers)) ** 0.5
        assert counts[token] / len(answers) == pytest.approx(probability, abs=5 * deviation + 0.02)


def test_samples_come_from_the_weights_of_now(tiny_model: Path) -> None:
    policy = models.load_model(str(tiny_model))
    sampler = Sampler(str(tiny_model), ASKED, seed=0)
    prompt = prompt_tokens(str(tiny_model))
    for seed in (1, 2):  # nothing of the first weights stays in the engine's cache
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        assert_samples_follow(policy, prompt, sampler.sample(policy, [prompt] * 2000, seed, 0))


def test_every_step_process_and_place_has_a_seed_of_its_own(tiny_model: Path) -> None:
    asked = config.Reinforce(prompts_per_step=2, samples_per_prompt=2, micro_batch_size=4, max_tokens=8)
    policy, prompt = models.load_model(str(tiny_model)), prompt_tokens(str(tiny_model))
    first, again = (Sampler(str(tiny_model), asked, seed=3) for _ in range(2))
    answers = first.sample(policy, [prompt] * 4, 5, 0)
    assert len({tuple(answer.tokens) for answer in answers}) == 4
    assert again.sample(policy, [prompt] * 4, 5, 0) == answers
    assert again.sample(policy, [prompt] * 4, 6, 0) != answers
    assert again.sample(policy, [prompt] * 4, 5, 1) != answers


def test_adapters_are_merged_into_a_copy_only(tiny_model: Path) -> None:
    model = get_peft_model(
        models.load_model(str(tiny_model)),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found = dict(plain_weights(model))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    merged = dict(model.merge_and_unload().named_parameters())
    assert found.keys() == merged.keys()
    start = dict(models.load_model(str(tiny_model)).named_parameters())
    moved = [name for name in merged if not torch.equal(merged[name], start[name])]
    assert len(moved) == 2 * 7  # every linear map of both layers
    for name, weight in merged.items():
        torch.testing.assert_close(found[name], weight)


def test_weights_in_4_bits_are_handed_on_whole(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = get_peft_model(
        models.load_model(str(tiny_model), in_4_bits=True),
        LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
    )
    plain, tokens = models.load_model(str(tiny_model)), torch.arange(5, 30)[None]
    for name, weight in plain_weights(model):
        plain.get_parameter(name).data = weight.clone()
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=0)


def test_experts_come_each_by_itself(tmp_path: Path) -> None:
    """To other programs weights go in the names and parts of checkpoints."""
    few: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "intermediate_size": 8}
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**few, **experts)).save_pretrained(tmp_path)
    model = Qwen3MoeForCausalLM.from_pretrained(tmp_path)
    given = dict(as_in_checkpoints(model, plain_weights(model)))
    written = load_file(tmp_path / "model.safetensors")
    assert given.keys() == written.keys() != dict(model.named_parameters()).keys()
    assert all(torch.equal(given[name], written[name]) for name in written)


def test_a_model_that_the_engine_cannot_run_is_sampled_by_the_plain_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = models.load_tokenizer(str(tiny_model))
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    policy = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            attn_logit_softcapping=50.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.3,
        )
    ).eval()
    policy.save_pretrained(tmp_path)
    prompt = prompt_tokens(str(tmp_path))
    answers = Sampler(str(tmp_path), ASKED, seed=0).sample(policy, [prompt] * 2000, 1, 0)
    assert_samples_follow(policy, prompt, answers)


@pytest.mark.parametrize("by_engine", [True, False])
def test_texts_end_where_those_of_other_stages_do(tiny_model: Path, tmp_path: Path, by_engine: bool) -> None:
    """A base model writes the human's next turn: the text ends before it, here as in a comparison."""
    name = human_too(tmp_path, tiny_model)
    asked = config.Reinforce(prompts_per_step=4, samples_per_prompt=8, micro_batch_size=8, max_tokens=40)
    tokenizer, policy = models.load_tokenizer(name), models.load_model(name)
    sampler = Sampler(name, asked, seed=0)
    if not by_engine:
        sampler._engine = PlainEngine(name, config.EngineSettings(batch_size=32))
    dialogue = [user(QUESTIONS[0])]
    prompt = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    answers = sampler.sample(policy, [prompt] * 32, 1, 0)
    with open_engine(name, config.EngineSettings(dtype="float32", device="cpu", batch_size=32)) as engine:
        requests = [Request(str(seed), dialogue, max_tokens=40, seed=seed) for seed in range(32)]
        elsewhere = {completion.text for completion in engine.generate(requests)}
    [usual, _] = Counter(answer.text for answer in answers).most_common(1)[0]
    assert usual == "Yes." and usual in elsewhere
    for answer in answers:
        written = tokenizer.decode(answer.tokens, skip_special_tokens=True)
        assert HUMAN_TURN not in answer.text
        # What was sampled up to the end is learned from, the end too.
        assert written.removeprefix(" ").startswith(answer.text)
        if answer.text == "Yes.":
            assert written.endswith(HUMAN_TURN) and not answer.truncated
        assert answer.truncated == (len(answer.tokens) == 40 and not written.endswith(HUMAN_TURN))
