"""What rewarded RL's samples, worked out again from the votes that they keep."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from solon.audit.labels import feedback_model
from solon.audit.run import SETTING_OF, Found, Run, by_id
from solon.constitution import Constitution
from solon.feedback import samples
from solon.feedback.method import close, turned
from solon.feedback.panel import by_judge
from solon.feedback.samples import COMPARED
from solon.feedback.weights import weight
from solon.records import ASPECT_OF, Aspect, SampleRecord, SampleVote
from solon.reward_settings import COMPARISON, OWN, RATING


def follow_from_votes(run: Run) -> Found:
    """That each sample's reward is the sum of what ``reinforce.reward`` names, and the feedback model's parts
    are what its votes make.
    """
    rl, sampled = run.config.reinforce, run.folder.samples
    if not rl.rewards:
        return Found("0 samples: the policy learned from labelled pairs")
    if not rl.sums_rewards:
        wrong = [
            f"{one['id']} has votes, and the preference model rewards" for one in sampled if "votes" in one
        ]
        return Found(f"{len(sampled)} samples rewarded by the preference model alone", wrong)
    laws = {aspect: run.law(setting) for aspect, setting in SETTING_OF.items()}
    aspects = {
        prompt["id"]: ASPECT_OF[prompt["set"]] for prompt in (*run.folder.prompts, *run.folder.rl_prompts)
    }
    wrong, known = [], by_id(sampled)
    for sample in sampled:
        aspect = aspects[sample["prompt_id"]]
        wrong += [f"{sample['id']} {fault}" for fault in faults(run, sample, aspect, laws[aspect], known)]
    wrong += [f"{name} is not the mean of the others'" for name in not_filled(sampled)]
    votes = [vote for sample in sampled for vote in sample.get("votes", ())]
    by = f", {len(votes)} votes on them by {feedback_model(run)}" if rl.asks_feedback else ""
    sums = " + ".join(f"{weight:g} x {name}" for name, weight in rl.rewards.items())
    unknown = [
        f"whether {name} gives its rewards, and what it knows: no code of the user's is run"
        for name in rl.rewards
        if OWN.fullmatch(name)
    ]
    if rl.asks_feedback:
        unknown += [
            f"principles of {aspect}: their constitution is not here" for aspect in laws if not laws[aspect]
        ]
    return Found(f"{len(sampled)} samples rewarded by {sums}{by}", wrong, unknown)


def faults(
    run: Run, sample: SampleRecord, aspect: Aspect, law: Constitution | None, known: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with a sample's reward; of a constitution that is not here nothing is known."""
    rl, parts, votes = run.config.reinforce, sample.get("rewards", {}), sample.get("votes", [])
    if unnamed := parts.keys() - rl.rewards.keys():
        yield f"is rewarded by {min(unnamed)}, which reinforce.reward does not name"
    if rl.asks_feedback and sample.get("judge") != feedback_model(run):
        yield f"is judged by {sample.get('judge')}, not {feedback_model(run)}"
    if law:
        found = samples.parts(votes, rl.rewards, law)
        for name, value in found.items():
            if (value is None) != (name not in parts) or (
                value is not None and not close(value, parts[name])
            ):
                yield f"has the {name} {parts.get(name)}, its votes make {value}"
        if bool(sample.get("problem")) != (None in found.values()):
            yield "has a rating and a problem, or neither"
        yield from of_votes(run, sample, votes, aspect, law, known)
    if sample.get("problem"):
        return
    if missing := rl.rewards.keys() - parts.keys():
        yield f"has no reward by {min(missing)}"
    elif not close(sample["reward"], samples.total(parts, rl.rewards)):
        yield "has another reward than its parts make"


def of_votes(
    run: Run,
    sample: SampleRecord,
    votes: Sequence[SampleVote],
    aspect: Aspect,
    law: Constitution,
    known: Mapping[str, Any],
) -> Iterator[str]:
    asked = set(samples.ways(run.config.reinforce.rewards, law).values())
    settings, seed = COMPARED.settings(run.config.feedback, law, aspect), run.seed("reinforce")
    for ballot in by_judge(votes).values():
        of_pairs = samples.by_other(ballot)
        for vote in of_pairs.pop("", []):
            if RATING not in asked or law.rating is None:
                yield "is rated, which nothing asks for"
                continue
            scale = law.rating
            if (vote["principle"], vote["instruction"]) != (scale.principle.name, scale.question):
                yield "is rated by another question than the constitution's"
            rating = fmean(reading for readings in vote["readings"] for reading in readings)
            if not close(vote["probability"], samples.height(rating, scale)):
                yield "has a rating that is not what the scale read up and down makes"
        for other, mine in of_pairs.items():
            if COMPARISON not in asked:
                yield "is compared, which nothing asks for"
            elif (rival := known.get(other)) is None or (rival["step"], rival["prompt_id"]) != (
                sample["step"],
                sample["prompt_id"],
            ):
                yield f"is compared with {other}, which is no sample of its prompt"
            else:
                first = number(sample) < number(rival)
                pair = samples.pair_id(*sorted((sample["id"], other), key=place))
                drawn = COMPARED.drawn(pair, law, settings, seed)
                if [(vote["principle"], vote["instruction"], weight(vote)) for vote in mine] != [
                    (principle.name, principle.instruction, principle.weight) for principle in drawn
                ]:
                    yield f"is compared with {other} under other principles than were drawn, or other weights"
                for count, vote in enumerate(mine):
                    for what in COMPARED.contradictions(
                        vote if first else turned(vote), count, pair, settings, seed
                    ):
                        yield f"has a vote against {other} whose {what}"


def not_filled(sampled: Sequence[SampleRecord]) -> Iterator[str]:
    """Samples without a rating whose reward is not what should stand in its place."""
    steps: dict[int, list[SampleRecord]] = defaultdict(list)
    for sample in sampled:
        steps[sample["step"]].append(sample)
    for of_step in steps.values():
        given = [None if one.get("problem") else one["reward"] for one in of_step]
        if None not in given:
            continue
        rated = any(reward is not None for reward in given)
        expected = samples.filled([one["prompt_id"] for one in of_step], given) if rated else []
        for one, reward in zip(of_step, expected or [math.nan] * len(given), strict=True):
            if one.get("problem") and not close(one["reward"], reward):
                yield one["id"]


def place(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split("/")))


def number(sample: Mapping[str, Any]) -> int:
    return place(sample["id"])[-1]
