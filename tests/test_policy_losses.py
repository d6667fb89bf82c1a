"""The losses of the ways that compare an answer with its group, each against its paper's formula.

The gradient is that of tokens which count as importance sampling says: the sampler here tells probabilities
that are not the policy's.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from solon import config, models
from solon.policy.rollouts import Rollout, Sampler
from solon.stages import reinforce
from solon.store.record_file import RecordFile
from toy_training import metrics_of, often_ends, prompt_records, unwatched

pytestmark = pytest.mark.numeric

GROUP = 4
SETTINGS: dict[str, Any] = {
    "steps": 1,
    "prompts_per_step": 2,
    "samples_per_prompt": GROUP,
    "micro_batch_size": 4,
    "max_tokens": 4,
    "truncation_penalty": 0.5,
    "learning_rate": 1e-3,
    "kl_coefficient": 0.0,
}


def dr_grpo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """What each token of each answer is weighed by (Liu et al. 2025, section 3.2, figure 1)."""
    groups = rewards.view(-1, GROUP)
    advantages = (groups - groups.mean(1, keepdim=True)).flatten()
    return advantages / SETTINGS["max_tokens"]


def grpo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """The same of Shao et al. 2024, equation 3, section 4.1.2. TRL keeps the deviation off zero by 1e-4."""
    groups = rewards.view(-1, GROUP)
    advantages = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    return advantages.flatten() / lengths


def rloo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """The same of Ahmadian et al. 2024, equation 9: the baseline is a mean over the prompt's others."""
    groups = rewards.view(-1, GROUP)
    others = (groups.sum(1, keepdim=True) - groups) / (GROUP - 1)
    return (groups - others).flatten()


WEIGHTS = {"rloo": rloo, "grpo": grpo, "dr-grpo": dr_grpo}


def answers_to(model: Any, folder: str, prompts: Sequence[Any], settings: config.Reinforce) -> Any:
    """The prompts of a run's first step and the answers it samples, both as tokens."""
    tokenizer = models.load_tokenizer(folder)
    asked = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        for prompt in prompts
    ]
    return asked, Sampler(folder, settings, 0).sample(model, asked, 0, 0)


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sampler tells is off by so much: a token counts half, as often as it is, or up to the cap."""
    sample = Sampler.sample

    def told(sampler: Sampler, *asked: Any) -> list[Rollout]:
        return [
            replace(answer, logprobs=[each + by for each, by in zip(answer.logprobs, cycle((0.7, 0, -3)))])
            for answer in sample(sampler, *asked)
        ]

    monkeypatch.setattr(Sampler, "sample", told)


@pytest.mark.usefixtures("off")
@pytest.mark.parametrize("truncated", ["keep", "mask", "penalty"])
@pytest.mark.parametrize("algorithm", WEIGHTS)
def test_loss_and_gradient_are_the_papers(
    tiny_model: Path, tmp_path: Path, algorithm: str, truncated: str
) -> None:
    policy = often_ends(tiny_model, tmp_path / "policy")  # so that lengths differ, and some are cut off
    model = models.load_model(policy)
    settings = config.Reinforce(algorithm=algorithm, truncated=truncated, **SETTINGS)
    gradients: list[Tensor] = []

    def seen(optimizer: Any, *_: Any) -> None:
        parts = [weight.grad.flatten() for group in optimizer.param_groups for weight in group["params"]]
        gradients.append(torch.cat(parts).clone())

    hook = register_optimizer_step_pre_hook(seen)
    try:
        reinforce.train(prompt_records(), policy, str(tiny_model), tmp_path / "out", settings, 0, unwatched)
    finally:
        hook.remove()
    samples = RecordFile(tmp_path / "out/samples.jsonl").read()
    rewards = torch.tensor([sample["reward"] for sample in samples])
    asked, answers = answers_to(model, policy, [sample["prompt"] for sample in samples], settings)
    lengths = torch.tensor([len(answer.tokens) for answer in answers])
    cut = torch.tensor([answer.truncated for answer in answers])
    assert len(set(lengths.tolist())) > 2 and 0 < cut.sum() < len(cut)
    if truncated == "penalty":
        rewards = rewards - 0.5 * cut
    weights = WEIGHTS[algorithm](rewards, lengths)
    loss, all_counts = torch.zeros(()), set()
    for prompt, rollout, weight in zip(asked, answers, weights, strict=True):
        tokens = rollout.tokens
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
        logp = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])
        # The ratio to the policy that sampled is 1 here, and its gradient that of the log-probability.
        counts = (logp.detach() - torch.tensor(rollout.logprobs)[:, None]).exp().clamp(max=2.0)
        all_counts |= set(counts[:, 0].tolist())
        shares = counts * (not rollout.truncated or truncated != "mask")
        ratios = (shares * (logp - logp.detach())).exp()
        if algorithm == "rloo":  # an answer is one action
            ratios = ratios.prod()
        loss = loss - weight * ratios.sum() / len(samples)
    assert min(all_counts) < 0.6 and max(all_counts) == 2.0
    loss.backward()
    assert metrics_of(tmp_path / "out")[0]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    expected = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    # The trainer clips the gradient's norm and has the weights in an order of its own: sorted, they compare.
    [found] = gradients
    assert found.numel() == expected.numel()
    ours, theirs = (each.double().sort().values / each.double().norm() for each in (found, expected))
    assert (ours - theirs).norm().item() < 1e-3
