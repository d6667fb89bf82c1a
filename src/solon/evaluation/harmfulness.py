"""How harmful models' answers to red-team prompts are, from 0 to 4, at several temperatures.

The paper's Figure 10 has the mean over 64 prompts and 256 answers to each, over snapshots of RL.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypedDict

from solon import config, marks
from solon.config import Config
from solon.errors import SetAside, SolonError
from solon.evaluation import raters
from solon.evaluation.calibration import Interval, mean_interval
from solon.evaluation.raters import Rate
from solon.inference import open_engine
from solon.inference.engine import Chain, Engine, Request
from solon.method import holds_model
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.records import HarmAnswer, HarmScore, Message, PromptRecord
from solon.seeds import derive_seed
from solon.store.record_file import RecordFile
from solon.texts.written import trimmed


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


def of_run(run: Path, asked: Config) -> tuple[list[Entrant], list[PromptRecord]]:
    """The run's models in the method's order, as far as it has come, and its held-out red-team prompts."""
    from solon.policy.kept_policies import kept  # brings the trainers

    sl_cai, rl_cai = run / "03-sl-cai", run / "07-rl-cai"
    entrants = [Entrant("initial", asked.models.by_role["policy"])]
    if holds_model(sl_cai):
        entrants.append(Entrant("sl-cai", str(sl_cai), 0))
    if holds_model(rl_cai):
        last = max(int(row["step"]) for row in RecordFile(rl_cai / "metrics.jsonl"))
        entrants += [
            Entrant(f"rl-cai-{step}", str(folder), step)
            for step, folder in kept(rl_cai).items()
            if step < last
        ]
        entrants.append(Entrant("rl-cai", str(rl_cai), last))
    prompts = RecordFile(run / "01-red-team/prompts.jsonl", PromptRecord)
    return entrants, [
        prompt for prompt in prompts if (prompt["set"], prompt["split"]) == ("red-team", "held-out")
    ]


def measure(
    entrants: Sequence[Entrant],
    prompts: Sequence[PromptRecord],
    folder: Path,
    asked: Config,
    *,
    scorer: str | None = None,
    judge: str | None = None,
    temperatures: Sequence[float] = (0, 1),
    samples: int = 1,
    batch_size: int = 16,
    watcher: Watcher | None = None,
) -> list[Harmfulness]:
    """How harmful the models' answers are, one row a model and temperature; see ``summary``.

    Answers and ratings are kept in ``folder``, as ``harm-answers.jsonl`` and ``harm-scores.jsonl``: called
    again, after a kill or with more models, temperatures or samples, it makes only what they lack. The rating
    is that of one of ``scorer``, a harm scorer's folder that reads ``batch_size`` dialogues together, and
    ``judge``, a model that is asked. ``asked`` has the engine, the evaluation's sampling, and the seed.

    Raises SolonError for a model that cannot be used, before anything is sampled, and where the folder's
    records are of another scorer or of other answers.
    """
    from solon import models  # takes seconds to import

    watcher = watcher or Watcher()
    # What is wrong with a model is told now, not after all the answers.
    name = raters.one_of(scorer, judge)
    for model in [entrant.model for entrant in entrants] + ([] if scorer else [name]):
        models.check(model)
    if scorer:
        models.load_preference_model(name, trained=True)
    else:
        marks.admit(name, "the judge")
    asked_for = {
        answer.id: answer
        for entrant in entrants
        for answer in wanted(prompts, entrant, temperatures, samples)
    }
    kept = _answers(RecordFile(folder / "harm-answers.jsonl", HarmAnswer), asked_for, asked, watcher)
    answers = [kept[name] for name in asked_for if name in kept]
    dialogues = {
        answer["id"]: [*asked_for[answer["id"]].prompt["prompt"], assistant(answer["text"])]
        for answer in answers
    }
    file = RecordFile(folder / "harm-scores.jsonl", HarmScore)
    with raters.rater(scorer, judge, asked, batch_size, watcher) as (name, rate):
        scores = _scores(file, dialogues, name, rate, watcher)
    return summary(answers, scores)


def _answers(
    file: RecordFile, asked_for: dict[str, Wanted], asked: Config, watcher: Watcher
) -> dict[str, HarmAnswer]:
    done: dict[str, HarmAnswer] = {answer["id"]: answer for answer in file.recover()}
    length = asked.evaluation.max_tokens
    if others := {answer["max_tokens"] for answer in done.values()} - {length}:
        raise SolonError(
            f"{file.path} has answers of at most {min(others)} tokens, not {length}; set "
            "evaluation.max_tokens to that or delete the file"
        )
    missing: dict[str, list[Wanted]] = {}
    for name, answer in asked_for.items():
        if name not in done:
            missing.setdefault(answer.entrant.model, []).append(answer)
    seed = derive_seed(asked.seed, "harmfulness") % 2**31
    with watcher.stage("Answers"):
        for model, mine in missing.items():
            with open_engine(model, asked.engine, role=asked.role("policy")) as engine:
                sampled = sample(engine, mine, asked.evaluation, seed)
                for number, made in enumerate(sampled, 1):
                    file.append(made)
                    done[made["id"]] = made
                    watcher.advance(mine[0].entrant.label, number, len(mine))
    return done


def _scores(
    file: RecordFile, dialogues: dict[str, list[Message]], scorer: str, rate: Rate, watcher: Watcher
) -> dict[str, float]:
    done: list[HarmScore] = file.recover().read()
    if others := {record["scorer"] for record in done} - {scorer}:
        raise SolonError(f"{file.path} has the ratings of {min(others)}; delete it to ask {scorer} instead")
    scores = {record["id"]: record["score"] for record in done}
    missing = [name for name in dialogues if name not in scores]
    for number, (place, score) in enumerate(rate([dialogues[name] for name in missing]), 1):
        file.append(HarmScore(id=missing[place], score=score, scorer=scorer))
        scores[missing[place]] = score
        watcher.advance("ratings", number, len(missing))
    return scores


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
    """The model's answers, as they finish, but for those set aside.

    Every model draws from the same seeds.
    """

    def chain(answer: Wanted) -> Chain[HarmAnswer | SetAside]:
        request = Request(
            answer.id,
            answer.prompt["prompt"],
            max_tokens=settings.max_tokens,
            temperature=answer.temperature,
            top_p=settings.top_p,
            seed=derive_seed(
                seed, "harmfulness", f"{answer.temperature:g}", answer.prompt["id"], answer.sample
            ),
        )
        try:
            completion = yield request
        except SetAside as error:
            return error
        written = trimmed(completion.text, completion.finish, completion.thinking)
        made = HarmAnswer(
            id=answer.id,
            prompt_id=answer.prompt["id"],
            model=answer.entrant.label,
            step=answer.entrant.step,
            temperature=answer.temperature,
            max_tokens=settings.max_tokens,
            text=written.text,
            cut=written.cut,
        )
        return {**made, **written.thought}

    return engine.unless_set_aside(engine.run_chains(chain(answer) for answer in missing), resumed=True)


def summary(answers: Sequence[HarmAnswer], scores: Mapping[str, float]) -> list[Harmfulness]:
    """One row a model and temperature, in the order of the answers. ``scores`` are by the answer's id.

    Answers to one prompt are alike, so a prompt counts once, whatever the number of its answers.
    """
    groups: dict[tuple[float, str], list[HarmAnswer]] = {}
    for answer in answers:
        if answer["id"] in scores:
            groups.setdefault((answer["temperature"], answer["model"]), []).append(answer)
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
    scores_of: dict[str, list[float]] = {}
    for answer in answers:
        scores_of.setdefault(answer["prompt_id"], []).append(scores[answer["id"]])
    return {prompt: fmean(values) for prompt, values in scores_of.items()}


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
