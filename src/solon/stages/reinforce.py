"""Reinforcement learning against the preference model: the RL-CAI model (paper, section 4.2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solon import config, marks
from solon.engine_settings import USUAL_ENGINE, EngineSettings
from solon.feedback.sample_judges import Judges
from solon.optimisers import OPTIMISERS
from solon.policy.task import Task
from solon.progress import Progress
from solon.records import ASPECT_OF, PreferenceRecord, PromptRecord
from solon.reward_settings import OWN
from solon.role_settings import POLICY, Role
from solon.training import setup


def train(
    records: Sequence[PromptRecord] | Sequence[PreferenceRecord],
    policy: str,
    preference_model: str | None,
    out: Path,
    settings: config.Reinforce,
    seed: int,
    progress: Progress,
    human_harm: bool = False,
    role: Role = POLICY,
    judges: Judges | None = None,
    engine: EngineSettings = USUAL_ENGINE,
) -> dict[str, float]:
    """Train ``policy`` to answer as ``reinforce.reward`` likes, held to its start by a KL penalty.

    ``records`` are prompts; for an algorithm that learns from pairs they are labelled ones, there need be no
    preference model, and the metrics are others (``policy.dpo``). Else:

    The model is saved to ``out``. The learning rate is constant. Called again after a kill, it goes on from
    the last checkpoint in ``out``. Returns the last step's metrics, and ``stopped_at_kl`` where that step's
    KL passed ``kl_limit`` and ended the training early. The metrics are the same for all algorithms:

    - ``reward``: what is learned from, without the KL penalty, averaged over the step's samples: the
      preference model's score, or what else rewards, under ``length_control`` without what it owes to their
      length, and less the ``truncation_penalty`` of those cut off where ``truncated`` is "penalty";
    - ``kl``: from the policy to its start, nats a sequence: the log-ratio summed over an answer's tokens and
      averaged over samples from the policy as it was when it sampled them (unbiased, so it may be negative);
    - ``entropy``: of the next token, nats a token;
    - ``length``: of an answer, tokens;
    - ``truncated``: share of the answers that ``max_tokens`` cut off. To the preference model such an answer
      has no end;
    - ``clip_fraction``: share of the policy's ratios that the clip holds back (whole answers in RLOO, tokens
      in GRPO and PPO);
    - ``sampler_gap``: how far the log-probabilities that answers were drawn with are from those of the policy
      as it is trained, nats a token (``policy.importance``);
    - ``loss`` and ``learning_rate``;
    - ``left_out``: prompts longer than ``max_prompt_length``, the same in every line.

    What was sampled, with its reward, goes to ``samples.jsonl`` in ``out``, and the policies of some of its
    steps to folders there (``kept_policies``). Where the feedback model rewards, ``judges`` says who that is;
    the first process asks it, and what that took goes to ``asked.jsonl``. Answers are sampled in the
    engine's number type, as a copy of the policy. All algorithms take the same prompts in the same order.
    Adapters are trained without dropout, which would make the policy that learns another than the one that
    sampled.

    Raises SolonError where too few prompts fit ``max_prompt_length``, a loss or reward is not finite, a
    reward cannot be given, several processes cannot share a step evenly, the preference model that it needs
    is not given, or a model or label brings people's labels of harm, unless ``human_harm`` says that these
    were asked for by name.
    """
    optimiser = OPTIMISERS[settings.algorithm]
    setup.settle_libraries()
    scored_by = settings.scored_by(preference_model)
    mark = mark_of(records, {"policy": policy, **scored_by}, settings, human_harm)
    scorer = scored_by.get("preference model")
    given = {"mark": mark, "role": role, "judges": judges, "engine": engine}
    task = Task(records, policy, scorer, out, settings, seed, progress, **given)  # type: ignore[arg-type]
    return optimiser.train(task)


def mark_of(
    records: Sequence[Any], forebears: Mapping[str, str], settings: config.Reinforce, human_harm: bool
) -> marks.Mark:
    """The policy's, which learns from records, its forebears, and what rewards its samples.

    What a reward of the user's own knows is not known.
    """
    labels = {f"ai {ASPECT_OF[record['set']]}" for record in records} if settings.asks_feedback else set()
    mark = marks.inherited("reinforce", records, forebears, human_harm, labels)
    mark["unknown"] += [
        f"{name} (a reward of the user's own)" for name in settings.rewards if OWN.match(name)
    ]
    return mark
