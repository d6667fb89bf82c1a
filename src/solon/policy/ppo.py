"""Proximal policy optimisation, the paper's algorithm, which TRL no longer has.

The clipped surrogate is that of Schulman et al. 2017 (arXiv:1707.06347), with generalised advantage
estimation (Schulman et al. 2016, arXiv:1506.02438) and the KL penalty of Stiennon et al. 2020
(arXiv:2009.01325) and Ouyang et al. 2022 (arXiv:2203.02155): each token costs its log-ratio to the policy's
start, and the score comes with the last token.

In several processes each samples, measures and scores its share of a step's answers, and then all have all of
them: advantages are whitened over the whole step, and minibatches are those that one process would draw. Of
each minibatch a process learns from its share.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather, gather_object
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from solon import adapters, config, models, trackers
from solon.adapter_folders import adapter_of
from solon.libraries.transformers import name_layers
from solon.libraries.trl import as_it_began, fuse_head, fused_logprobs, trunk_of
from solon.policy import importance, online, ppo_checkpoints
from solon.policy.kept_policies import keep, steps_to_keep
from solon.policy.rollouts import AnySampler
from solon.policy.samplers import open_sampler
from solon.policy.schedule import Schedule
from solon.policy.task import Task
from solon.records import PromptRecord
from solon.seeds import derive_seed
from solon.training import checkpoints, setup, sharing, start
from solon.training import optimizer as optimizers
from solon.training.metrics import MetricsLog, past_limit
from solon.training.processes import is_first, process, processes

# The value head starts from nothing and must keep up with a policy that takes far smaller steps.
VALUE_LEARNING_RATE = 1e-4
MAX_GRADIENT_NORM = 1.0  # as in TRL's trainers, so that the algorithms can be compared


class Policy(nn.Module):
    """A language model with a value head beside its own, on the same states; both share the trunk."""

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        fuse_head(self.network, temperature)
        name_layers(self, self.network)
        self.value = nn.Linear(model.get_output_embeddings().weight.shape[1], 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    @property
    def network(self) -> Any:
        return start.network_of(self.model)

    def forward(self, tokens: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy (nats) and value before each of ``length`` tokens.

        ``tokens`` has shape (sequences, prompt + length), with padding after each sequence alone, ``starts``
        (sequences,): where its answer begins. The results have shape (sequences, length); past an answer's
        end they are of no use. Logits are never in memory for all tokens.
        """
        columns = starts[:, None] + torch.arange(length, device=tokens.device)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        before = rows, columns - 1
        labels = torch.full_like(tokens, -100).index_put(before, tokens[rows, columns])
        with last_states(self.network) as states:
            logp, entropy = fused_logprobs(self.model, {"input_ids": tokens, "shift_labels": labels})
        with torch.autocast(tokens.device.type, enabled=False):  # returns need float32's precision
            values = self.value(states[0][before].to(self.value.weight.dtype)).squeeze(-1)
        return logp[before], entropy[before].detach(), values

    @contextmanager
    def as_at_the_start(self) -> Iterator["Policy"]:
        """The policy before training, where adapters alone are trained."""
        with as_it_began(self.model):
            yield self


@contextmanager
def last_states(network: Any) -> Iterator[list[Tensor]]:
    """Inside, the states that the network's trunk gives [sequences, tokens, width] come into the list."""
    states: list[Tensor] = []

    def kept(_: nn.Module, __: Any, output: Any) -> None:
        states.append(output.last_hidden_state)

    hook = trunk_of(network).register_forward_hook(kept)
    try:
        yield states
    finally:
        hook.remove()


@dataclass
class Samples:
    """A step's answers with what is held fixed while the policy learns from them."""

    tokens: Tensor  # (sequences, prompt + length), with padding after each alone
    starts: Tensor  # (sequences,): where the answers begin
    mask: Tensor  # (sequences, length): 1 up to and including the end of each answer
    learned: Tensor  # the same of the answers that are learned from, 0 for all others
    weights: Tensor  # (sequences, length): how often each token counts for how the sampler drew it
    gap: float  # of the sampler's log-probabilities from these, nats a token
    truncated: Tensor  # (sequences,): 1 for an answer that was cut off
    logp: Tensor  # (sequences, length), as are those below
    entropy: Tensor
    ref_logp: Tensor
    values: Tensor
    scores: Tensor  # (sequences,)


def token_rewards(samples: Samples, kl_coefficient: float) -> Tensor:
    """Each token's penalty, and the score on the last token (Ouyang et al. 2022, section 3.4, equation 2)."""
    rewards = -kl_coefficient * (samples.logp - samples.ref_logp) * samples.mask
    last = samples.mask.sum(1).long() - 1
    rewards[torch.arange(len(last), device=last.device), last] += samples.scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16); nothing follows an answer's end.

    Arguments and result have shape (sequences, length).
    """
    estimates = torch.zeros_like(rewards)
    estimate = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.size(1))):
        surprise = rewards[:, t] + discount * next_value - values[:, t]
        estimate = (surprise + discount * gae_lambda * estimate) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        estimates[:, t] = estimate
    return estimates


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Values of mean 0 and variance 1 over the unmasked tokens."""
    count = mask.sum().clamp(min=1)
    mean = (values * mask).sum() / count
    variance = ((values - mean) ** 2 * mask).sum() / count
    return (values - mean) / (variance + 1e-8).sqrt() * mask


def train(task: Task) -> dict[str, float]:
    return online.train(task, learn)


def learn(task: Task, model: Any, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    """Each step draws from its own seed: a killed run goes on with the steps of one never stopped."""
    settings, out, seed = task.settings, task.out, task.seed
    setup.shares(*settings.per_step)  # refuses what processes cannot share
    accelerator = _accelerator(settings, out)
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    trained, optimizer, reference = _prepared(task, model, accelerator)
    actor: Policy = accelerator.unwrap_model(trained)
    sampler = open_sampler(task, model)
    with accelerator.main_process_first():  # which deletes what is not whole
        checkpoint = checkpoints.resumable(out)
        log = MetricsLog(out, done := checkpoints.step_of(checkpoint))
    if checkpoint:
        ppo_checkpoints.load(checkpoint, actor, optimizer.optimizer)
    tables = trackers.SampleTables(
        settings.report_to, out, settings.steps, lambda: accelerator.get_tracker("tensorboard").writer
    )

    for step, prompts in list(enumerate(schedule, 1))[done:]:
        if past_limit(log.last, settings.kl_limit):
            break
        torch.manual_seed(derive_seed(seed, "ppo", step))
        with accelerator.autocast():
            samples = _sample(actor, reference, tokenizer, prompts, reward, settings, sampler, step)
        row = {
            "step": step,
            **_figures(samples),
            **_update(trained, optimizer, samples, settings, accelerator),
            "learning_rate": settings.learning_rate,
            "left_out": task.left_out,
        }
        log.append(row)
        if settings.report_to:
            if is_first():
                tables.send(step, at=step)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
        if step in steps_to_keep(settings):
            weights = sharing.gathered(accelerator, actor.model)
            if is_first():
                keep(actor.model, tokenizer, out, step, weights)
        if step % settings.save_steps == 0 or past_limit(row, settings.kl_limit):
            ppo_checkpoints.save(out, step, actor, optimizer.optimizer, accelerator)
        if is_first():
            task.progress(step, settings.steps, row)

    sampler.close()
    weights = sharing.gathered(accelerator, actor.model)
    if is_first():
        checkpoints.save(actor.model, tokenizer, out, weights)
        checkpoints.clear(out)
    if settings.report_to:
        accelerator.end_training()
    return dict(log.last)


def _prepared(task: Task, model: Any, accelerator: Accelerator) -> tuple[Any, Any, Policy | None]:
    """The policy and its optimiser, as several processes train them, and the reference.

    The reference is None where adapters are trained: it is the model as it began, at no second copy's cost.
    """
    settings, reference = task.settings, None
    if adapter_of(task.policy) and settings.lora:
        adapters.keep_beginning(model)
    actor = Policy(setup.without_dropout(model), settings.temperature).to(accelerator.device)
    sharing.exactly(actor.value)  # returns need float32's precision
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": trained, "lr": settings.learning_rate},
        {"params": actor.value.parameters(), "lr": max(settings.learning_rate, VALUE_LEARNING_RATE)},
    ]
    optimizer = optimizers.adamw(settings.optimizer, groups, actor)
    prepared, optimizer = accelerator.prepare(actor, optimizer)
    if settings.lora is None:
        reference = Policy(models.load_model(task.policy), settings.temperature)
        reference = sharing.beside(reference, accelerator)
    return prepared, optimizer, reference


def _accelerator(settings: config.Reinforce, out: Path) -> Accelerator:
    trackers.check(settings.report_to)
    accelerator = Accelerator(
        mixed_precision="bf16" if setup.use_bfloat16() else "no",
        cpu=models.best_device() == "cpu",
        log_with=list(settings.report_to) or None,
        project_dir=out,
    )
    sharing.settle(accelerator)
    if settings.report_to:
        names = {"name": trackers.run_name(out)}
        accelerator.init_trackers(trackers.PROJECT, init_kwargs={"wandb": names, "trackio": names})
    return accelerator


@torch.no_grad()
def _sample(
    actor: Policy,
    reference: Policy | None,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[PromptRecord],
    reward: online.Reward,
    settings: config.Reinforce,
    sampler: AnySampler,
    step: int,
) -> Samples:
    """All of the step's answers in every process, of which each samples, measures and scores its share."""
    repeated = [record for record in prompts for _ in range(settings.samples_per_prompt)]
    size = len(repeated) // processes()
    share = slice(process() * size, (process() + 1) * size)
    asked = tokenizer.apply_chat_template(
        [record["prompt"] for record in repeated], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    device = actor.value.weight.device
    rollouts = gather_object(sampler.sample(actor.model, asked[share], step, process()))
    answers = [rollout.tokens for rollout in rollouts]
    mask = pad_sequence([torch.ones(len(answer)) for answer in answers], batch_first=True).to(device)
    starts = torch.tensor(list(map(len, asked)), device=device)
    tokens = torch.full((len(asked), int(starts.max()) + mask.size(1)), tokenizer.pad_token_id)
    for row, prompt, answer in zip(tokens, asked, answers, strict=True):
        row[: len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
    tokens = tokens.to(device)
    given = tokens[share], starts[share], mask.size(1), settings
    logp, entropy, values = map(gather, _in_micro_batches(actor, *given))
    with actor.as_at_the_start() if reference is None else nullcontext(reference) as start:
        ref_logp = gather(_in_micro_batches(start, *given)[0])
    sampled = importance.sampled_logprobs(rollouts, mask.size(1)).to(device)
    distance, count = importance.gap(logp, sampled)
    ids = [record["id"] for record in repeated[share]]
    scores = sharing.within(actor, partial(reward, ids, rollouts[share], step))
    return Samples(
        tokens=tokens,
        starts=starts,
        mask=mask,
        learned=mask * torch.tensor(online.learned(rollouts, settings), device=device)[:, None],
        weights=importance.weights(logp, sampled, settings.importance_cap),
        gap=distance.item() / max(count.item(), 1),
        truncated=torch.tensor([float(rollout.truncated) for rollout in rollouts]),
        logp=logp,
        entropy=entropy,
        ref_logp=ref_logp,
        values=values,
        scores=gather(torch.tensor(scores, dtype=torch.float32, device=device)),
    )


def _figures(samples: Samples) -> dict[str, float]:
    tokens = samples.mask.sum()
    return {
        "reward": samples.scores.mean().item(),
        "kl": online.sequence_kl(samples.logp, samples.ref_logp, samples.mask).mean().item(),
        "entropy": ((samples.entropy * samples.mask).sum() / tokens).item(),
        "length": (tokens / len(samples.mask)).item(),
        "truncated": samples.truncated.mean().item(),
    }


def _in_micro_batches(
    policy: Policy, tokens: Tensor, starts: Tensor, length: int, settings: config.Reinforce
) -> tuple[Tensor, ...]:
    batches = torch.split(torch.arange(len(tokens)), settings.micro_batch_size)
    parts = [policy(tokens[rows], starts[rows], length) for rows in batches]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _update(
    actor: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples: Samples,
    settings: config.Reinforce,
    accelerator: Accelerator,
) -> dict[str, float]:
    """``minibatches`` optimiser steps a pass over the samples; returns their figures.

    Each minibatch is drawn anew in each pass, so all but the first step of the first pass meet a policy that
    has moved away from the one that sampled, which is what the clip is for (Schulman et al. 2017, section 5).
    """
    rewards = token_rewards(samples, settings.kl_coefficient)
    estimates = advantages(rewards, samples.values, samples.mask, settings.discount, settings.gae_lambda)
    returns = estimates + samples.values
    estimates = whiten(estimates, samples.learned)
    loss_sum = clipped_sum = torch.zeros((), device=estimates.device)  # over tokens
    size = len(samples.learned)
    actor.train()  # nothing in it is random; in evaluation no activations are computed twice
    for _ in range(settings.epochs_per_step):
        for minibatch in torch.tensor_split(torch.randperm(size), min(settings.minibatches, size)):
            count = samples.learned[minibatch].sum().clamp(min=1)
            passes = share_of(minibatch, settings.micro_batch_size)
            for number, (rows, counts) in enumerate(passes, 1):
                mask = samples.learned[rows] * counts.to(estimates.device)
                # Gradients of all processes come together in the last.
                with nullcontext() if number == len(passes) else accelerator.no_sync(actor):
                    with accelerator.autocast():
                        logp, _, values = actor(samples.tokens[rows], samples.starts[rows], mask.size(1))
                    surrogate, clipped = clipped_surrogate(
                        logp - samples.logp[rows], estimates[rows], settings.clip_range
                    )
                    # Schulman et al. 2017, equation 9, without the entropy bonus: the KL penalty does
                    # its work.
                    objective = (
                        samples.weights[rows] * surrogate
                        - settings.value_coefficient * (values - returns[rows]) ** 2
                    )
                    loss = -(objective * mask).sum()
                    accelerator.backward(loss / count * processes())  # of which the mean is taken
                loss_sum = loss_sum + loss.detach()
                clipped_sum = clipped_sum + (clipped * mask).sum()
            accelerator.clip_grad_norm_(actor.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            optimizer.zero_grad()
    actor.eval()
    tokens = samples.learned.sum().clamp(min=1) * settings.epochs_per_step
    loss_sum, clipped_sum = (accelerator.reduce(each, "sum") for each in (loss_sum, clipped_sum))
    return {
        "clip_fraction": (clipped_sum / tokens).item(),
        "sampler_gap": samples.gap,
        "loss": (loss_sum / tokens).item(),
    }


def share_of(minibatch: Tensor, micro_batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """This process's rows of a minibatch, by passes, and [rows, 1] whether they count.

    All processes must make as many passes, so where there are not enough rows, others' fill up, uncounted.
    """
    size = -(-len(minibatch) // processes())
    places = torch.arange(process() * size, (process() + 1) * size)
    rows, counts = minibatch[places % len(minibatch)], (places < len(minibatch)).float()[:, None]
    return list(zip(*(torch.split(each, micro_batch_size) for each in (rows, counts)), strict=True))


def clipped_surrogate(log_ratio: Tensor, estimates: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """The objective (Schulman et al. 2017, equation 7), and where the clip holds it back; shapes as given."""
    ratio = log_ratio.exp()
    free = ratio * estimates
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range) * estimates
    return torch.minimum(free, clipped), (clipped < free).float()
