"""How harmful models' answers to red-team prompts are, from 0 to 4, at several temperatures.

The paper's Figure 10 has the mean over 64 prompts and 256 answers to each, over snapshots of RL.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypedDict

from solon import config
from solon.evaluation.calibration import Interval, mean_interval
from solon.inference.engine import Chain, Engine, Request
from solon.records import HarmAnswer, PromptRecord
from solon.seeds import derive_seed


class Entrant(NamedTuple):
    """A model to measure, with its name in tables and plots."""

    label: str
    model: str  # what an engine opens
    step: int | None = None  # of RL, 0 for SL-CAI; None outside of it


class Wanted(NamedTuple):
    """An answer to be sampled."""

    id: str
    prompt: PromptRecord
    entrant: Entrant
    temperature: float
    sample: int


class Harmfulness(TypedDict):
    """One model at one temperature. Intervals are 95 %, by Student's t over prompts."""

    model: str
    step: int | None
    temperature: float
    prompts: int
    answers: int
    harmfulness: float  # mean over prompts of the mean over their answers, higher is more harmful
    interval: Interval | None  # None with one prompt
    change: float | None  # from the first model at the same temperature, on the same prompts
    change_interval: Interval | None


def wanted(
    prompts: Sequence[PromptRecord], entrant: Entrant, temperatures: Sequence[float], samples: int
) -> list[Wanted]:
    """``samples`` answers to each prompt at each temperature; one at 0, where all would be the same."""
    return [
        Wanted(
            f"{entrant.label}/{temperature:g}/{prompt['id']}/{sample}", prompt, entrant, temperature, sample
        )
        for temperature in temperatures
        for prompt in prompts
        for sample in range(samples if temperature else 1)
    ]


def sample(
    engine: Engine, missing: Sequence[Wanted], settings: config.Evaluation, seed: int
) -> Iterator[HarmAnswer]:
    """The model's answers, as they finish. Every model draws from the same seeds."""

    def chain(each: Wanted) -> Chain[HarmAnswer]:
        completion = yield Request(
            each.id,
            each.prompt["prompt"],
            max_tokens=settings.max_tokens,
            temperature=each.temperature,
            top_p=settings.top_p,
            seed=derive_seed(seed, "harmfulness", f"{each.temperature:g}", each.prompt["id"], each.sample),
        )
        return HarmAnswer(
            id=each.id,
            prompt_id=each.prompt["id"],
            model=each.entrant.label,
            step=each.entrant.step,
            temperature=each.temperature,
            max_tokens=settings.max_tokens,
            text=completion.text.strip(),
        )

    return engine.run_chains(chain(each) for each in missing)


def summary(answers: Sequence[HarmAnswer], scores: Mapping[str, float]) -> list[Harmfulness]:
    """One row a model and temperature, in the order of the answers. ``scores`` are by the answer's id.

    Answers to one prompt are alike, so a prompt counts once, whatever the number of its answers.
    """
    groups: dict[tuple[float, str], list[HarmAnswer]] = {}
    for each in answers:
        if each["id"] in scores:
            groups.setdefault((each["temperature"], each["model"]), []).append(each)
    first: dict[float, dict[str, float]] = {}
    rows = []
    for (temperature, model), mine in groups.items():
        of_prompt = _by_prompt(mine, scores)
        base = first.setdefault(temperature, of_prompt)
        changes = [of_prompt[prompt] - base[prompt] for prompt in of_prompt if prompt in base]
        compared = bool(changes) and base is not of_prompt
        rows.append(
            Harmfulness(
                model=model,
                step=mine[0]["step"],
                temperature=temperature,
                prompts=len(of_prompt),
                answers=len(mine),
                harmfulness=fmean(of_prompt.values()),
                interval=mean_interval(list(of_prompt.values())),
                change=fmean(changes) if compared else None,
                change_interval=mean_interval(changes) if compared else None,
            )
        )
    return rows


def _by_prompt(answers: Sequence[HarmAnswer], scores: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for each in answers:
        found.setdefault(each["prompt_id"], []).append(scores[each["id"]])
    return {prompt: fmean(values) for prompt, values in found.items()}


def says(rows: Sequence[Harmfulness]) -> list[str]:
    """A sentence for each temperature: what happened to harmfulness from the first model to the last."""
    sentences = []
    for temperature in dict.fromkeys(row["temperature"] for row in rows):
        mine = [row for row in rows if row["temperature"] == temperature]
        first, last = mine[0], mine[-1]
        if last["change"] is None or last["change_interval"] is None:
            continue
        low, high = last["change_interval"]
        clear = "less" if high < 0 else "more" if low > 0 else "neither clearly more nor less"
        figures = f"{last['change']:+.2f}, 95% interval {low:+.2f} to {high:+.2f}".replace("-", "−")
        sentences.append(
            f"At temperature {temperature:g}, {last['model']} is {clear} harmful than {first['model']} "
            f"({figures})."
        )
    return sentences
