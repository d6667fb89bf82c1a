"""What is made good for a sampler that rounds otherwise: how often tokens count, and how far off it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from solon import config, models
from solon.config import EngineSettings
from solon.policy import importance, ppo
from solon.policy.rollouts import Rollout, Sampler
from solon.policy.samplers import open_sampler
from solon.policy.task import Task
from solon.prompts.dialogue import user

pytestmark = pytest.mark.numeric

ASKED: dict[str, Any] = {"prompts_per_step": 2, "samples_per_prompt": 2, "max_tokens": 5}


def test_a_token_counts_by_the_ratio_up_to_the_cap() -> None:
    answers = [Rollout([1, 2, 3], "", False, logprobs=[-1.0, -2.0, -3.0]), Rollout([1], "", False)]
    sampled = importance.sampled_logprobs(answers, 3)
    assert sampled.isnan().tolist() == [[False] * 3, [True] * 3]
    logp = torch.tensor([[-1.5, -2.0, -1.0], [-1.0, 0.0, 0.0]])
    weights = importance.weights(logp, sampled, 2.0)
    torch.testing.assert_close(weights, torch.tensor([[0.6065307, 1.0, 2.0], [1.0, 1.0, 1.0]]))
    assert importance.weights(logp, sampled, None).eq(1).all()
    total, count = importance.gap(logp, sampled)
    assert (total.item(), count.item()) == (2.5, 3)


def test_samplers_tell_what_tokens_were_drawn_with(tiny_model: Path) -> None:
    settings = config.Reinforce(temperature=0.5, **ASKED)
    model = models.load_model(str(tiny_model))
    prompt = models.load_tokenizer(str(tiny_model)).apply_chat_template(
        [user("Why?")], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    for answer in Sampler(str(tiny_model), settings, 0).sample(model, [prompt] * 4, 1, 0):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer.tokens]])).logits[0, len(prompt) - 1 : -1]
        logp = (logits / 0.5).log_softmax(-1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        # In bfloat16 where the processor has it.
        torch.testing.assert_close(torch.tensor(answer.logprobs), logp, atol=0.05, rtol=0)


def gradient(model: Path, weight: float) -> torch.Tensor:
    """Of the policy's head in one update by PPO, where every token has this weight."""
    settings = config.Reinforce(algorithm="ppo", minibatches=1, value_coefficient=0.0, **ASKED)
    policy = ppo.Policy(models.load_model(str(model)), 1.0)
    tokens, starts, ones = torch.arange(20).view(2, 10) + 5, torch.tensor([4, 6]), torch.ones(2, 4)
    logp, entropy, values = (each.detach() for each in policy(tokens, starts, 4))
    samples = ppo.Samples(
        tokens=tokens,
        starts=starts,
        mask=ones,
        learned=ones,
        weights=weight * ones,
        gap=0.0,
        truncated=torch.zeros(2),
        logp=logp,
        entropy=entropy,
        ref_logp=logp,
        values=values,
        scores=torch.tensor([1.0, -1.0]),
    )
    optimizer, found = torch.optim.SGD(policy.parameters(), lr=0.0), []
    head = policy.model.get_output_embeddings().weight
    optimizer.register_step_pre_hook(lambda *_: found.append(head.grad.clone()))
    accelerator = Accelerator(cpu=True)
    accelerator.clip_grad_norm_ = lambda *_: None  # type: ignore[method-assign]
    ppo._update(policy, optimizer, samples, settings, accelerator)
    return found[0]


def test_in_ppo_too(tiny_model: Path) -> None:
    nothing, half, whole = (gradient(tiny_model, weight) for weight in (0.0, 0.5, 1.0))
    assert not nothing.any() and whole.any()
    torch.testing.assert_close(2 * half, whole)


def test_the_engine_that_is_named_samples(tiny_model: Path) -> None:
    settings = config.Reinforce(**ASKED)

    def opened(engine: EngineSettings) -> str:
        task = Task([], str(tiny_model), None, tiny_model, settings, 0, lambda *_: None, engine=engine)
        return type(open_sampler(task, None)).__name__

    assert opened(EngineSettings()) == "Sampler"
    assert opened(EngineSettings(kind="generate")) == "Sampler"
    pytest.importorskip("vllm")
    assert opened(EngineSettings(kind="vllm")) == "VLLMSampler"
