"""Does RL still make answers better, or only the preference model's score higher (Goodhart's law)?

Three signs: the score rises while a judge that had no part in it does not agree (Gao et al. 2022), answers
share ever more boilerplate (paper, section 4.3), and they grow less diverse.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, TypedDict

import numpy as np
import scipy.stats

from solon.evaluation import decisions
from solon.evaluation.calibration import mean_interval
from solon.evaluation.decisions import Decisions, decision
from solon.evaluation.tournament import Match
from solon.feedback import is_made, panel
from solon.prompts.dialogue import turns
from solon.records import EvaluationRecord, PairRecord, PromptRecord, SampleJudgement, SampleRecord
from solon.seeds import generator
from solon.texts import repetition
from solon.texts.repetition import Change, Phrase, Texts
from solon.texts.words import count
from solon.texts.written import mended

BLOCKS = 6  # of steps, as equal as can be; RL's beginning is the first third of them and its end the last
CHANCE = 0.01  # a rise of boilerplate that chance would make less often than this is told as a warning


class Trend(TypedDict):
    """From the first third of RL's steps to the last."""

    early: float
    late: float
    change: float
    interval: tuple[float, float]  # 95 %


class Block(TypedDict):
    """Some consecutive steps of RL. What there is no record of is None."""

    first: int
    last: int
    reward: float | None
    judged: int
    won: float | None  # share of the judge's decisions for the sampled answer, not SL-CAI's; undecided: half
    won_interval: tuple[float, float] | None
    answers: int  # to different prompts, the same number in every block
    boilerplate: float | None
    distinct: float | None
    words: float | None


class Model(TypedDict):
    """One model's answers to the held-out prompts of one set."""

    set: str
    model: str
    answers: int
    boilerplate: float
    rise: Change | None  # from the initial model's answers to the same prompts
    distinct: float
    phrases: list[Phrase]


class Watch(TypedDict):
    reward: Trend | None
    won: Trend | None
    decided: Decisions | None  # of the judge
    judge: str
    labeller: str  # who gave the preference model's labels: a judge of the same name is not independent
    boilerplate: Change | None  # from RL's beginning to its end
    phrases: list[Phrase]  # that answers at the end of RL share
    blocks: list[Block]
    models: list[Model]


class Finding(TypedDict):
    warning: bool
    text: str


def watch(
    metrics: Sequence[Mapping[str, Any]],
    samples: Sequence[SampleRecord],
    judgements: Sequence[SampleJudgement],
    answers: Sequence[EvaluationRecord],
    labeller: str = "",
) -> Watch:
    """All that the records show of over-optimisation; every part may be empty.

    ``metrics`` are RL's, one a step with its mean ``reward``. Trends compare the steps of the first third
    with those of the last (Welch's interval; steps of one training depend on one another, so it errs on the
    narrow side).
    """
    steps = sorted({*(row["step"] for row in metrics), *(sample["step"] for sample in samples)})
    blocks = (
        [list(map(int, block)) for block in np.array_split(steps, min(BLOCKS, len(steps)))] if steps else []
    )
    third = max(1, len(blocks) // 3)
    early, late = {s for b in blocks[:third] for s in b}, {s for b in blocks[-third:] for s in b}
    one_each = [_one_a_prompt(sample for sample in samples if sample["step"] in block) for block in blocks]
    ends = [_one_a_prompt(sample for sample in samples if sample["step"] in part) for part in (early, late)]
    size = min(map(len, ends))
    ends = [texts[:size] for texts in ends]
    return Watch(
        reward=_trend([(row["step"], row["reward"]) for row in metrics if "reward" in row], early, late),
        won=_trend([(judgement["step"], decision(judgement)) for judgement in judgements], early, late),
        decided=decisions.count(judgements) if judgements else None,
        judge=judgements[0]["judge"] if judgements else "",
        labeller=labeller,
        boilerplate=repetition.boilerplate_rise(ends[0], ends[1], paired=False) if size else None,
        phrases=repetition.common_phrases(ends[1]),
        blocks=_blocks(blocks, one_each, metrics, judgements),
        models=[model for name in ("red-team", "helpful") for model in _models(answers, name)],
    )


def says(found: Watch) -> list[Finding]:
    """What the figures mean, warnings first; [] where there is nothing to watch."""
    findings = [*_reward_and_judge(found), *_boilerplate_over_rl(found), *_boilerplate_of_models(found)]
    return sorted(findings, key=lambda finding: not finding["warning"])


def matches(
    samples: Sequence[SampleRecord],
    pairs: Iterable[PairRecord],
    count: int,
    seed: int,
) -> dict[str, tuple[Match, int]]:
    """``count`` sampled answers, the same number from every step as far as they go, each against SL-CAI's
    first answer to the same prompt: by the sample's id, with its step.

    A larger ``count`` adds to the answers of a smaller one. Prompts that SL-CAI gave no sound answer to are
    left out, and so are pairs made so that one is better: their answers are not SL-CAI's.
    """
    baseline = {pair["id"]: pair for pair in pairs if not pair["problem"] and not is_made(pair)}
    usable = [
        sample for sample in samples if sample.get("prompt_id") in baseline and sample["response"].strip()
    ]
    by_step = groupby(sorted(usable, key=lambda sample: sample["step"]), key=lambda sample: sample["step"])
    queues = []
    for step, group in by_step:
        mine = list(group)
        generator(seed, "judged samples", step).shuffle(mine)
        queues.append(mine)
    # One of every step in turn; steps are taken in an order that spreads a small count over all of them.
    generator(seed, "judged steps").shuffle(queues)
    drawn = [
        queue[turn]
        for turn in range(max(map(len, queues), default=0))
        for queue in queues
        if turn < len(queue)
    ]
    return {
        sample["id"]: (_match(sample, baseline[sample["prompt_id"]]), sample["step"])
        for sample in drawn[:count]
    }


def _match(sample: SampleRecord, pair: PairRecord) -> Match:
    prompt = PromptRecord(
        id=pair["id"],
        prompt=pair["prompt"],
        set=pair["set"],
        kind=pair["kind"],
        split=pair["split"],
        source="",
    )
    return Match(
        id=sample["id"],
        prompt=prompt,
        models=("rl-cai", "sl-cai"),
        # Nothing says which samples ran into RL's token limit: both texts are taken as if they had.
        texts=(mended(sample["response"], "length").text, mended(pair["responses"][0], "length").text),
    )


def _one_a_prompt(samples: Iterable[SampleRecord]) -> Texts:
    """The first answer to each prompt: answers to one prompt are alike for a good reason."""
    first: dict[tuple[tuple[str, str], ...], SampleRecord] = {}
    for sample in samples:
        first.setdefault(turns(sample["prompt"]), sample)
    return [(sample["prompt"][-1]["content"], sample["response"]) for sample in first.values()]


def _trend(values: Sequence[tuple[int, float]], early: set[int], late: set[int]) -> Trend | None:
    before = [value for step, value in values if step in early]
    after = [value for step, value in values if step in late]
    if min(len(before), len(after)) < 2 or early & late:
        return None
    interval = _difference(before, after)
    return Trend(
        early=fmean(before), late=fmean(after), change=fmean(after) - fmean(before), interval=interval
    )


def _difference(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    change = fmean(after) - fmean(before)
    if len({*before}) == len({*after}) == 1:  # no spread at all
        return change, change
    interval = scipy.stats.ttest_ind(after, before, equal_var=False).confidence_interval()
    return float(interval.low), float(interval.high)


def _blocks(
    blocks: Sequence[Sequence[int]],
    one_each: Sequence[Texts],
    metrics: Sequence[Mapping[str, Any]],
    judgements: Sequence[SampleJudgement],
) -> list[Block]:
    size = min(map(len, one_each), default=0)
    cut = [texts[:size] for texts in one_each]
    least = min((repetition.sequences([answer for _, answer in texts]) for texts in cut), default=0)
    rows = []
    for steps, texts in zip(blocks, cut, strict=True):
        rewards = [row["reward"] for row in metrics if row["step"] in steps and "reward" in row]
        won = [decision(judgement) for judgement in judgements if judgement["step"] in steps]
        answers = [answer for _, answer in texts]
        rows.append(
            Block(
                first=steps[0],
                last=steps[-1],
                reward=fmean(rewards) if rewards else None,
                judged=len(won),
                won=fmean(won) if won else None,
                won_interval=mean_interval(won),
                answers=size,
                boilerplate=repetition.boilerplate(texts) if size else None,
                distinct=repetition.distinct(answers, least) if least else None,
                words=fmean(map(count, answers)) if size else None,
            )
        )
    return rows


def _models(records: Sequence[EvaluationRecord], name: str) -> list[Model]:
    of_model: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        if record["set"] == name:
            for answer in record["answers"]:
                of_model.setdefault(answer["model"], []).append(
                    (record["prompt"][-1]["content"], answer["text"])
                )
    said = {model: [answer for _, answer in texts] for model, texts in of_model.items()}
    least = min(map(repetition.sequences, said.values()), default=0)
    initial = of_model.get("initial", [])
    return [
        Model(
            set=name,
            model=model,
            answers=len(texts),
            boilerplate=repetition.boilerplate(texts),
            rise=repetition.boilerplate_rise(initial, texts, paired=True)
            if model != "initial" and len(initial) == len(texts)
            else None,
            distinct=repetition.distinct(said[model], least),
            phrases=repetition.common_phrases(texts),
        )
        for model, texts in of_model.items()
    ]


def _reward_and_judge(found: Watch) -> list[Finding]:
    reward, won = found["reward"], found["won"]
    if not reward:
        return []
    scores = f"{reward['early']:.2f} to {reward['late']:.2f}".replace("-", "−")
    rose = f"the reward went from {scores} over RL"
    if reward["interval"][0] <= 0:
        return [_note(f"The reward did not clearly rise over RL ({scores}).")]
    if not won:
        return [
            _note(
                f"{_sentence(rose)}, and no other judge has looked at whether the answers got better: "
                "solon eval overoptimisation RUN --judge MODEL asks one."
            )
        ]
    return [_judge_finds(found, won, rose)]


def _judge_finds(found: Watch, won: Trend, rose: str) -> Finding:
    """``rose`` says how the reward did."""
    judge, decided = found["judge"], found["decided"]
    if judge in panel.members(found["labeller"]):
        judge += " (not independent: it gave the training labels too)"
    if decided and decisions.too_few(decided):
        return _note(f"{_sentence(rose)}, and {judge} cannot tell. {decisions.says(decided)}")
    shares = f"{won['early']:.0%} of comparisons with SL-CAI's answers early on and {won['late']:.0%} late"
    if won["interval"][1] < 0:
        text = f"Reward and judge part: {rose}, but to {judge} the answers got worse. They won {shares}"
        return _warning(f"{text}. RL optimises what the preference model likes, not what is better.")
    if won["interval"][0] <= 0:
        text = f"{_sentence(rose)}, but {judge} sees no clear change in the answers: they won {shares}"
        return _warning(f"{text}. The gain may be the preference model's alone.")
    return _note(f"{_sentence(rose)}, and {judge} agrees that the answers got better: they won {shares}.")


def _boilerplate_over_rl(found: Watch) -> list[Finding]:
    change = found["boilerplate"]
    if not change:
        return []
    return [_boilerplate(change, "answers early in RL", "those at its end", found["phrases"])]


def _boilerplate_of_models(found: Watch) -> list[Finding]:
    """Of the last model alone, so that one symptom is told once."""
    trained = [model for model in found["models"] if model["rise"]]
    last = trained[-1]["model"] if trained else ""
    return [
        _boilerplate(
            model["rise"],
            f"the initial model's answers to {model['set']} prompts",
            f"those of {last.upper()}",
            model["phrases"],
        )
        for model in trained
        if model["model"] == last and model["rise"]
    ]


def _boilerplate(change: Change, before: str, after: str, phrases: Sequence[Phrase]) -> Finding:
    share = f"{change['before']:.0%} of {before} and {change['after']:.0%} of {after}"
    if change["p_value"] >= CHANCE or change["after"] <= change["before"]:
        return _note(f"Phrases that many answers share show no clear rise: they are {share}.")
    quoted = ", ".join(f"“{phrase['text']}” ({phrase['answers']} answers)" for phrase in phrases[:2])
    return _warning(f"Boilerplate rises: phrases that many answers share are {share}, such as {quoted}.")


def _warning(text: str) -> Finding:
    return Finding(warning=True, text=text)


def _note(text: str) -> Finding:
    return Finding(warning=False, text=text)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
