"""PPO: each piece against its definition, and the whole against an optimum known in closed form."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft import get_peft_model
from torch import Tensor

from solon import config, models
from solon.errors import SolonError
from solon.policy import online, ppo
from solon.policy.rollouts import Rollout, Sampler
from solon.policy.schedule import Schedule
from solon.policy.task import Task
from solon.prompts.dialogue import user
from solon.texts.written import whole_characters
from solon.training import setup, start
from toy_training import QUESTIONS, prompt_records, two_tokens, unwatched

pytestmark = pytest.mark.numeric

PROMPT = [user(QUESTIONS[0])]
[RECORD] = prompt_records(1)  # of the same


def settings(**changes: Any) -> config.Reinforce:
    small = {
        "algorithm": "ppo",
        "steps": 2,
        "prompts_per_step": 2,
        "samples_per_prompt": 4,
        "micro_batch_size": 4,
        "max_tokens": 6,
        "learning_rate": 1e-3,
        "save_steps": 100,
    }
    return config.Reinforce(**{**small, **changes})


def no_reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
    return [0.0] * len(answers)


def task(model: Path, out: Path, settings: config.Reinforce) -> Task:
    """For what is given its prompts and rewards."""
    return Task([], str(model), "", out, settings, 0, unwatched)


def trained(task: Task, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    """What PPO ends with on this schedule."""
    return ppo.learn(task, start.policy(task.policy, task.settings, {}), schedule, reward)


def moved(model: Path, amount: float, temperature: float = 1.0) -> ppo.Policy:
    """The tiny model with noise on its weights: a policy some way from its start."""
    policy = ppo.Policy(models.load_model(str(model)), temperature)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(amount * torch.randn_like(weight))
    return policy


# --- Advantages ---------------------------------------------------------------------------------------------


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0]])
    values = torch.tensor([[0.5, 0.25, 0.75]])
    mask = torch.ones(1, 3)
    # Surprises: 0 + 0.9 * 0.25 - 0.5, 0 + 0.9 * 0.75 - 0.25, 1 - 0.75; each later one weighs 0.9 * 0.5 less.
    expected = [-0.275 + 0.45 * (0.425 + 0.45 * 0.25), 0.425 + 0.45 * 0.25, 0.25]
    ours = ppo.advantages(rewards, values, mask, discount=0.9, gae_lambda=0.5)
    assert ours[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 1.0), (1.0, 0.0), (0.9, 0.95)])
def test_advantages_equal_the_weighted_sum_of_later_surprises(discount: float, gae_lambda: float) -> None:
    """Equation 16 of Schulman et al. 2016 as a sum, one answer at a time and without its padding."""
    generator = np.random.default_rng(0)
    rewards, values = generator.normal(size=(2, 5, 9))
    lengths = [9, 1, 4, 7, 2]
    mask = np.array([[float(t < length) for t in range(9)] for length in lengths])
    ours = ppo.advantages(
        torch.tensor(rewards * mask), torch.tensor(values), torch.tensor(mask), discount, gae_lambda
    ).numpy()
    for row, length in enumerate(lengths):
        after = np.append(values[row, 1:length], 0.0)
        surprise = rewards[row, :length] + discount * after - values[row, :length]
        expected = [
            sum((discount * gae_lambda) ** (k - t) * surprise[k] for k in range(t, length))
            for t in range(length)
        ]
        assert ours[row, :length] == pytest.approx(np.array(expected))
        assert not ours[row, length:].any()


def test_whitened_advantages_have_mean_0_and_variance_1_over_unmasked_tokens() -> None:
    torch.manual_seed(0)
    values, mask = 3 + 2 * torch.randn(6, 10), (torch.rand(6, 10) < 0.6).float()
    white = ppo.whiten(values, mask)
    kept = white[mask.bool()]
    assert kept.mean().item() == pytest.approx(0, abs=1e-6)
    assert kept.var(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert not white[~mask.bool()].any()
    scale = kept / (values[mask.bool()] - values[mask.bool()].mean())
    assert scale.std().item() == pytest.approx(0, abs=1e-4)  # one shift and one scale for all


# --- The surrogate and the rewards --------------------------------------------------------------------------


def test_clipped_surrogate_case_by_case() -> None:
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    estimates = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0])
    surrogate, held = ppo.clipped_surrogate(ratios.log(), estimates, 0.2)
    # Held back only where going on would pay: above with a gain, below with a loss.
    assert surrogate.tolist() == pytest.approx([2.4, -3.0, 1.0, -1.6, 3.3])
    assert held.tolist() == [1, 0, 0, 1, 0]


def samples(**parts: Tensor) -> ppo.Samples:
    empty = torch.zeros(2, 3)
    whole = dict.fromkeys(("tokens", "starts", "logp", "entropy", "ref_logp", "values"), empty)
    ones = dict.fromkeys(("mask", "learned", "weights"), torch.ones(2, 3))
    nothing: dict[str, Any] = {"truncated": torch.zeros(2), "scores": torch.zeros(2), "gap": 0.0}
    return ppo.Samples(**{**whole, **ones, **nothing, **parts})


def test_the_score_comes_with_the_last_token_and_each_token_pays_its_log_ratio() -> None:
    given = samples(
        logp=torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, -9.0]]),
        ref_logp=torch.tensor([[-1.5, -2.0, -2.0], [-3.0, -1.0, -1.0]]),
        mask=torch.tensor([[1, 1, 1], [1, 1, 0]]),
        scores=torch.tensor([10.0, 20.0]),
    )
    rewards = ppo.token_rewards(given, kl_coefficient=0.1)
    assert rewards.flatten().tolist() == pytest.approx([-0.05, 0.0, 10.1, -0.2, 20.0, 0.0])
    assert online.sequence_kl(given.logp, given.ref_logp, given.mask).tolist() == pytest.approx([-0.5, 2.0])


# --- What the policy says of its own answers ----------------------------------------------------------------


def test_log_probabilities_are_those_of_each_answer_alone(tiny_model: Path) -> None:
    """Neither the rows' padding nor the temperature's place changes what an answer's tokens get."""
    tokenizer = models.load_tokenizer(str(tiny_model))
    policy = moved(tiny_model, 0.05, 0.7)
    prompts = [[user("Why?")], [user("A prompt that is a good deal longer than the first one")]]
    torch.manual_seed(0)
    asked = settings(temperature=0.7, max_tokens=12)
    sampler = Sampler(str(tiny_model), asked, seed=0)
    records = [{**RECORD, "prompt": prompt} for prompt in prompts]
    drawn = ppo._sample(policy, policy, tokenizer, records, no_reward, asked, sampler, 1)
    assert drawn.mask.sum(1).min() >= 1
    assert torch.equal(drawn.logp, drawn.ref_logp)
    for row, prompt in enumerate([prompt for prompt in prompts for _ in range(4)]):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        assert drawn.starts[row] == len(start)
        answer = drawn.tokens[row, len(start) :][: int(drawn.mask[row].sum())]
        whole = torch.cat([torch.tensor(start), answer])[None]
        with torch.no_grad():
            logits = policy.model(whole).logits[0, len(start) - 1 : -1] / 0.7
        logp = logits.log_softmax(-1)
        kept = drawn.mask[row].bool()
        assert drawn.logp[row][kept].tolist() == pytest.approx(
            logp.gather(1, answer[:, None])[:, 0].tolist(), abs=1e-4
        )
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        assert drawn.entropy[row][kept].tolist() == pytest.approx(entropy.tolist(), abs=1e-4)


def test_answers_end_with_their_first_end_token(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny_model))
    policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    # A quarter of all tokens end an answer.
    policy.model.generation_config.eos_token_id = list(range(0, 512, 4))
    policy.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    seen: list[Rollout] = []

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        seen.extend(answers)
        return [0.0] * len(answers)

    torch.manual_seed(0)
    asked = settings(max_tokens=6)
    sampler = Sampler(str(tmp_path), asked, seed=0)
    drawn = ppo._sample(policy, policy, tokenizer, [RECORD] * 8, reward, asked, sampler, 1)
    answers = drawn.tokens[:, -drawn.mask.size(1) :]
    ends = set(range(0, 512, 4)) | {tokenizer.eos_token_id}
    for answer, mask, rollout in zip(answers.tolist(), drawn.mask.tolist(), seen, strict=True):
        length = next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))
        assert mask == [1] * length + [0] * (len(answer) - length)
        ended = answer[length - 1] in ends
        text = tokenizer.decode(answer[: length - ended], skip_special_tokens=True)
        expected = Rollout(answer[:length], whole_characters(text), not ended, logprobs=rollout.logprobs)
        assert rollout == expected
    assert {rollout.truncated for rollout in seen} == {True, False}


def test_the_kl_estimate_is_right_on_average(tiny_model: Path) -> None:
    """Answers of up to two tokens: the exact KL sums over every first token and every second."""
    tokenizer = models.load_tokenizer(str(tiny_model))
    policy, start = moved(tiny_model, 0.08), ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    inputs = tokenizer.apply_chat_template(
        PROMPT, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    exact, _, _ = two_tokens(policy.model, start.model, inputs["input_ids"], tokenizer.eos_token_id)

    torch.manual_seed(0)
    many = settings(max_tokens=2, samples_per_prompt=4000, prompts_per_step=1, micro_batch_size=1000)
    sampler = Sampler(str(tiny_model), many, seed=0)
    drawn = ppo._sample(policy, start, tokenizer, [RECORD], no_reward, many, sampler, 1)
    estimates = online.sequence_kl(drawn.logp, drawn.ref_logp, drawn.mask)
    error = estimates.std().item() / math.sqrt(4000)
    assert exact > 20 * error  # else the comparison would say little
    assert estimates.mean().item() == pytest.approx(exact, abs=4 * error)


def test_with_adapters_the_reference_is_the_model_without_them(tiny_model: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny_model))
    plain = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    model = models.load_model(str(tiny_model))
    adapted = get_peft_model(model, setup.lora_config(config.Lora(rank=4), model, "CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.add_(0.3)
    policy = ppo.Policy(setup.without_dropout(adapted), 1.0)
    torch.manual_seed(0)
    sampler = Sampler(str(tiny_model), settings(), seed=0)
    drawn = ppo._sample(policy, None, tokenizer, [RECORD], no_reward, settings(), sampler, 1)
    again, _, _ = plain(drawn.tokens, drawn.starts, drawn.mask.size(1))
    assert torch.allclose(drawn.ref_logp, again, atol=1e-4)
    assert (drawn.logp - drawn.ref_logp).abs().max() > 0.01  # and back on afterwards


def test_values_keep_their_precision_under_autocast(tiny_model: Path) -> None:
    policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    torch.nn.init.normal_(policy.value.weight)
    tokens = torch.arange(3, 11)[None]
    with torch.autocast("cpu", torch.bfloat16):
        logp, _, values = policy(tokens, torch.tensor([4]), 4)
    assert logp.dtype == values.dtype == torch.float32
    assert not torch.equal(values, values.to(torch.bfloat16).float())


# --- The whole ----------------------------------------------------------------------------------------------


def first_token(model: Path) -> Tensor:
    """The model's distribution over the answer's first token."""
    tokenizer = models.load_tokenizer(str(model))
    inputs = tokenizer.apply_chat_template(
        PROMPT, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        return models.load_model(str(model))(**inputs).logits[0, -1].double().softmax(-1)


def letter_reward(text: str) -> float:
    """Two levels of reward, so that the optimum has three levels of probability."""
    if not text or text[0].isspace():
        return 0.0
    return 1.0 if text[0].isalpha() else 0.4


def test_ppo_reaches_the_optimum_known_in_closed_form(tiny_model: Path, tmp_path: Path) -> None:
    """With answers of one token, reward minus beta times KL is greatest at start * exp(reward / beta) / Z."""
    beta = 0.5
    tokenizer = models.load_tokenizer(str(tiny_model))
    rewards = torch.tensor(
        [
            letter_reward(whole_characters(tokenizer.decode([token], skip_special_tokens=True)))
            for token in range(512)
        ]
    )
    start = first_token(tiny_model)
    optimum = start * (rewards.double() / beta).exp()
    optimum /= optimum.sum()

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        return [letter_reward(answer.text) for answer in answers]

    one_token = settings(
        steps=80,
        prompts_per_step=1,
        samples_per_prompt=64,
        micro_batch_size=64,
        max_tokens=1,
        kl_coefficient=beta,
        learning_rate=6e-4,
        epochs_per_step=2,
        minibatches=1,
    )
    trained(task(tiny_model, tmp_path / "out", one_token), [[RECORD]] * 80, reward)
    learned = first_token(tmp_path / "out")

    def value(policy: Tensor) -> float:
        return ((policy * rewards).sum() - beta * (policy * (policy / start).log()).sum()).item()

    def shares(policy: Tensor) -> list[float]:
        return [policy[rewards == level].sum().item() for level in (0.0, 0.4, 1.0)]

    gap = value(optimum) - value(start)
    assert value(optimum) - value(learned) < 0.1 * gap
    assert shares(learned) == pytest.approx(shares(optimum), abs=0.05)
    # Half the penalty or twice it would have led elsewhere.
    for other in (beta / 2, beta * 2):
        elsewhere = start * (rewards.double() / other).exp()
        assert shares(elsewhere / elsewhere.sum())[2] != pytest.approx(shares(optimum)[2], abs=0.1)


def test_one_update_is_a_step_up_the_clipped_objective(tiny_model: Path) -> None:
    """At the first pass no ratio is clipped, and the loss is the value error alone: advantages average 0."""
    tokenizer = models.load_tokenizer(str(tiny_model))
    policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    torch.manual_seed(0)
    wanted = settings(value_coefficient=0.3, kl_coefficient=0.0, micro_batch_size=2)
    sampler = Sampler(str(tiny_model), wanted, seed=0)
    drawn = ppo._sample(
        policy, policy, tokenizer, [RECORD, RECORD], lambda _, d, __: [1.0] * len(d), wanted, sampler, 1
    )
    drawn.weights = torch.ones_like(drawn.weights)  # else tokens count for how the sampler rounded
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    update = ppo._update(policy, optimizer, drawn, wanted, Accelerator(cpu=True))
    estimates = ppo.advantages(ppo.token_rewards(drawn, 0.0), drawn.values, drawn.mask, 1.0, 0.95)
    squared = ((estimates**2) * drawn.mask).sum() / drawn.mask.sum()  # values start at 0
    assert update["clip_fraction"] == 0.0
    assert update["loss"] == pytest.approx(0.3 * squared.item(), abs=1e-5)


def test_clip_fraction_is_seen_once_the_policy_moves(tiny_model: Path, tmp_path: Path) -> None:
    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        return [float(len(answer.text)) for answer in answers]

    fractions = {}
    for clip in (0.01, 10.0):
        out = tmp_path / str(clip)
        bold = settings(clip_range=clip, epochs_per_step=4, minibatches=1, learning_rate=3e-3)
        found = trained(task(tiny_model, out, bold), [[RECORD] * 2] * 2, reward)
        fractions[clip] = found["clip_fraction"]
    assert 0.05 < fractions[0.01] < 1
    assert fractions[10.0] == 0


def test_by_default_the_clip_acts_within_one_pass(tiny_model: Path, tmp_path: Path) -> None:
    """Several optimiser steps a pass: all but the first meet a policy that has moved. One step does not."""

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        return [float(len(answer.text)) for answer in answers]

    fractions = {}
    for minibatches in (1, config.Reinforce().minibatches):
        out = tmp_path / str(minibatches)
        bold = settings(clip_range=0.01, minibatches=minibatches, learning_rate=3e-3)
        found = trained(task(tiny_model, out, bold), [[RECORD] * 2] * 2, reward)
        fractions[minibatches] = found["clip_fraction"]
    assert fractions.pop(1) == 0
    assert min(fractions.values()) > 0.05


def drawn_for_update(tiny_model: Path, wanted: config.Reinforce, cut: Sequence[int]) -> ppo.Samples:
    """Answers of the tiny model, of which those in ``cut`` count as cut off."""
    tokenizer = models.load_tokenizer(str(tiny_model))
    policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    sampler = Sampler(str(tiny_model), wanted, seed=0)
    sample = sampler.sample

    def told(*given: Any) -> list[Rollout]:
        answers = enumerate(sample(*given))
        return [Rollout(answer.tokens, answer.text, number in cut) for number, answer in answers]

    sampler.sample = told  # type: ignore[method-assign]
    return ppo._sample(
        policy, policy, tokenizer, [RECORD, RECORD], lambda _, d, __: [1.0] * len(d), wanted, sampler, 1
    )


@pytest.mark.parametrize("minibatches", [1, 4])
def test_masked_answers_have_no_part_in_the_update(tiny_model: Path, minibatches: int) -> None:
    wanted = settings(truncated="mask", minibatches=minibatches, kl_coefficient=0.3)
    drawn = drawn_for_update(tiny_model, wanted, cut=(0, 3, 5))
    assert drawn.truncated.tolist() == [1, 0, 0, 1, 0, 1, 0, 0]
    left = []
    for score in (0.0, 1000.0):
        drawn.scores = 1.0 * torch.arange(8) + score * drawn.truncated
        policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
        torch.manual_seed(0)
        update = ppo._update(
            policy, torch.optim.SGD(policy.parameters(), lr=0.1), drawn, wanted, Accelerator(cpu=True)
        )
        left.append((update, torch.cat([weight.detach().flatten() for weight in policy.parameters()])))
    assert left[0][0] == left[1][0]
    assert torch.equal(left[0][1], left[1][1])
    start = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    assert not torch.equal(left[0][1], torch.cat([weight.flatten() for weight in start.parameters()]))


def test_where_all_are_masked_nothing_is_learned(tiny_model: Path) -> None:
    wanted = settings(truncated="mask")
    drawn = drawn_for_update(tiny_model, wanted, cut=range(8))
    policy = ppo.Policy(models.load_model(str(tiny_model)), 1.0)
    before = [weight.clone() for weight in policy.parameters()]
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    assert ppo._update(policy, optimizer, drawn, wanted, Accelerator(cpu=True)) == {
        "clip_fraction": 0,
        "sampler_gap": 0,
        "loss": 0,
    }
    assert all(torch.equal(weight, old) for weight, old in zip(policy.parameters(), before, strict=True))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9])
def test_each_row_of_a_minibatch_is_learned_from_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many passes by each process: a pass is made by all together."""
    minibatch = torch.arange(100, 100 + size)
    monkeypatch.setenv("WORLD_SIZE", "3")
    learned, passes = [], set()
    for process in range(3):
        monkeypatch.setenv("RANK", str(process))
        share = ppo.share_of(minibatch, 2)
        passes.add(len(share))
        assert all(len(rows) for rows, _ in share)
        learned += [row for rows, counts in share for row in rows[counts[:, 0] > 0].tolist()]
    assert learned == minibatch.tolist()
    assert len(passes) == 1


def test_a_step_that_processes_cannot_share_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SolonError, match="8 sequences, which 3 training processes cannot share"):
        trained(task(tiny_model, tmp_path, settings()), [[RECORD] * 2] * 2, no_reward)
