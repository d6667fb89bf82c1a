"""Questions put to the models once more, by the same door and with the same seeds (``--again``)."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from solon.audit import evaluation, labels, panel, replay, texts
from solon.audit.run import SETTING_OF, Found, Run, by_id
from solon.config import on_server
from solon.errors import SetAside, SolonError
from solon.evaluation import tournament
from solon.feedback import labelling, samples
from solon.feedback.method import Candidates, turned
from solon.feedback.panel import by_judge
from solon.feedback.samples import Sample
from solon.inference.engine import Engine
from solon.method import stage
from solon.pipeline.workbench import Workbench
from solon.progress import Watcher
from solon.records import ASPECT_OF, PairRecord, Vote
from solon.role_settings import RoleName
from solon.seeds import generator
from solon.stages import critique

T = TypeVar("T")

# Nats by which a log-probability may differ between two batches, machines or libraries, by number type.
NATS = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5, "4bit": 0.5}
STEEPEST = 0.25  # of the logistic function: a probability differs by no more than this for each nat
OF_SERVER = 0.1  # of a probability; a server may batch and round as it likes
OF_SAMPLES = 2.0  # standard errors of a share, at most 1 / (2 sqrt(n)), times 4: of votes that were sampled
RATING = 0.1  # of a probability's tolerance, for each point that ratings differ by
EARLY = 40  # characters: texts of one seed that part before are not parted by rounding

NOT_ASKED = "solon audit --again N asks N anew"


def votes(run: Run) -> Found:
    """A draw of the labels' votes, judged anew; chains of thought are taken as recorded."""
    judged = [record for record in labels.not_by_people(run) if record["votes"]]
    names = panel.judges(run)
    if len(names) < 2:
        return asked_again(run, "votes", judged, "feedback", partial(votes_anew, run))
    found = []
    for name in names:
        ballots = [{**record, "votes": by_judge(record["votes"]).get(name)} for record in judged]
        mine = [ballot for ballot in ballots if ballot["votes"]]
        found.append(asked_again(run, f"votes of {name}", mine, "feedback", partial(votes_anew, run), name))
    said, wrong, unknown = zip(*found, strict=True)
    return Found("; ".join(said), list(chain(*wrong)), list(chain(*unknown)))


def votes_anew(run: Run, engine: Engine, drawn: Sequence[Any]) -> Iterator[tuple[Any, float]]:
    """Each label, and how far its votes are from those of now."""
    pairs, seed, of_id = by_id(run.folder.pairs), run.seed("feedback"), by_id(drawn)
    for aspect, setting in SETTING_OF.items():
        mine, law = [record for record in drawn if record["aspect"] == aspect], run.law(setting)
        if not mine or law is None:
            continue
        method, settings = labelling(run.config.feedback, law, aspect)
        before = {record["id"]: for_first(record, pairs[record["id"]]) for record in mine}
        asked = [Candidates(name, pairs[name]["prompt"], *pairs[name]["responses"]) for name in before]
        said = (replay.said_in_votes(each, name, settings, seed) for name, each in before.items())
        judge = replay.Recorded(replay.together(said), engine)
        for pair, now in method.judge(judge, asked, law, settings, seed):
            yield of_id[pair.id], 1.0 if isinstance(now, SetAside) else apart(before[pair.id], now)


def sample_votes(run: Run) -> Found:
    """A draw of the samples that the feedback model rewarded, judged anew."""
    judged = [record for record in run.folder.samples if record.get("votes")]
    names = panel.judges(run) if judged else [""]
    found = []
    for name in names:
        mine = [{**one, "votes": of_judge(one["votes"], name, len(names))} for one in judged]
        recorded = [one for one in mine if one["votes"]]
        what = "samples' votes" + f" of {name}" * (len(names) > 1)
        found.append(asked_again(run, what, recorded, "feedback", partial(samples_anew, run), name or None))
    said, wrong, unknown = zip(*found, strict=True)
    return Found("; ".join(said), list(chain(*wrong)), list(chain(*unknown)))


def of_judge(votes: Sequence[Any], name: str, judges: int) -> list[Any]:
    return [vote for vote in votes if judges == 1 or vote.get("judge") == name]


def samples_anew(run: Run, engine: Engine, drawn: Sequence[Any]) -> Iterator[tuple[Any, float]]:
    """Each sample, and how far its votes are from those of now, with its prompt's others beside it."""
    laws = {aspect: law for aspect, setting in SETTING_OF.items() if (law := run.law(setting))}
    prompts = by_id([*run.folder.prompts, *run.folder.rl_prompts])
    rewards, seed = run.config.reinforce.rewards, run.seed("reinforce")
    for record in drawn:
        if ASPECT_OF[prompts[record["prompt_id"]]["set"]] not in laws:
            continue
        group = [
            Sample(one["id"], prompts[one["prompt_id"]], one["response"])
            for one in run.folder.samples
            if (one["step"], one["prompt_id"]) == (record["step"], record["prompt_id"])
        ]
        now = samples.judge(engine, group, rewards, laws, run.config.feedback, seed)
        mine = [vote for id, said in now if id == record["id"] and isinstance(said, list) for vote in said]
        before, after = samples.by_other(record["votes"]), samples.by_other(mine)
        yield record, max(apart(votes, after.get(other, [])) for other, votes in before.items())


def judgements(run: Run) -> Found:
    """A draw of the evaluation's judgements, asked anew."""
    return asked_again(run, "judgements", run.folder.judgements, "judge", partial(judgements_anew, run))


def judgements_anew(run: Run, engine: Engine, drawn: Sequence[Any]) -> Iterator[tuple[Any, float]]:
    laws, of_id = evaluation.laws_of(run), by_id(drawn)
    settings, seed = evaluation.settings_of(run), run.seed("evaluation")
    wanted = [match for match in evaluation.wanted(run) if match["id"] in of_id]
    judge = replay.Recorded(evaluation.Judge(run).said, engine)  # chains of thought are taken as recorded
    for now in tournament.play(judge, wanted, laws, settings, seed):
        yield of_id[now["id"]], apart([of_id[now["id"]]], [now])


def asked_again(
    run: Run,
    what: str,
    recorded: Sequence[Any],
    role: RoleName,
    anew: Callable[[Engine, Sequence[Any]], Iterable[tuple[Any, float]]],
    model: str | None = None,
) -> Found:
    if not recorded:
        return Found(f"0 {what}")
    model = model or run.config.models.by_role[role]
    if not run.again:
        return Found(f"0 of {len(recorded)} asked anew", (), [f"whether {model} gave them: {NOT_ASKED}"])
    drawn = draw(run, what, recorded)
    try:
        with bench(run) as work:
            engine = work.engine(role, model)
            engine.forget()
            found = list(anew(engine, drawn))
    except SolonError as error:
        return Found(
            f"0 of {len(recorded)} asked anew", (), [f"all of them: {model} cannot be asked ({error})"]
        )
    wrong = [
        f"{record['id']} was judged otherwise, by {far:.3f}"
        for record, far in found
        if far > tolerance(run, model, record)
    ]
    unknown = [f"{len(drawn) - len(found)} of those drawn: they cannot be put any more"] * (
        len(found) < len(drawn)
    )
    most = max((far for _, far in found), default=0.0)
    allowed = tolerance(run, model, drawn[0])
    return Found(
        f"{len(found)} of {len(recorded)} asked anew; {most:.1g} apart at most, {allowed:.1g} allowed",
        wrong,
        unknown,
    )


def for_first(record: Any, pair: PairRecord) -> list[Vote]:
    """The label's votes as they are for the pair's first answer."""
    first = record["chosen"][-1]["content"] == pair["responses"][0]
    return list(record["votes"]) if first else [turned(vote) for vote in record["votes"]]


def apart(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> float:
    """How far two judgements are apart at most, in probability; 1 where their questions are not the same."""
    if [vote["principle"] for vote in before] != [vote["principle"] for vote in now]:
        return 1.0
    gaps = []
    for one, other in zip(before, now, strict=True):
        for name, scale in (("orders", 1.0), ("ratings", RATING)):
            was, is_now = one.get(name) or [], other.get(name) or []
            if len(was) != len(is_now):
                return 1.0
            gaps += [abs(a - b) * scale for a, b in zip(was, is_now, strict=True)]
    return max(gaps, default=1.0)


def tolerance(run: Run, model: str, record: Mapping[str, Any]) -> float:
    """By how much a probability may differ when it is asked for anew."""
    samples = [vote.get("samples") for vote in record.get("votes") or []]
    if any(samples):
        return OF_SAMPLES / math.sqrt(min(count for count in samples if count))
    return OF_SERVER if on_server(model) else STEEPEST * NATS[number_type(run)]


class Kind(NamedTuple):
    """Texts of one kind that a model wrote."""

    name: str
    role: RoleName
    model: str
    records: Sequence[Any]
    write: Callable[[Engine, set[str]], Iterable[Any]]  # those with these ids, anew
    texts: Callable[[Any], list[str]]  # of a record, in the order in which they were written


def written(run: Run) -> Found:
    """A draw of every kind of texts, sampled anew with their own seeds."""
    kinds = [kind for kind in kinds_of_texts(run) if kind.records]
    count = sum(len(kind.records) for kind in kinds)
    if not kinds:
        return Found("0 texts")
    if not run.again:
        return Found(
            f"0 of {count} records' texts written anew", (), [f"whether the models wrote them: {NOT_ASKED}"]
        )
    same, wrong, unknown = 0, [], []
    with bench(run) as work:
        for kind in kinds:
            drawn = draw(run, kind.name, kind.records)
            if on_server(kind.model):
                unknown.append(f"{kind.name}: a server writes another text each time")
                continue
            try:
                engine = work.engine(kind.role, kind.model)
                engine.forget()
                now = by_id(kind.write(engine, by_id(drawn).keys()))  # type: ignore[arg-type]
            except SolonError as error:
                unknown.append(f"{kind.name}: {kind.model} cannot be asked ({error})")
                continue
            parted = {each["id"]: parting(kind.texts(each), kind.texts(now[each["id"]])) for each in drawn}
            same += sum(place is None for place in parted.values())
            early = [name for name, place in parted.items() if place is not None and place < EARLY]
            late = [name for name, place in parted.items() if place is not None and name not in early]
            # In half precision any token may be rounded into another: a sound run's texts part early, too.
            if early and number_type(run) == "float32":
                wrong += [f"{kind.name} of {name} come out otherwise from their beginning" for name in early]
            else:
                late += early
            if late:
                unknown.append(f"{kind.name} of {', '.join(late)}, which part as rounding may have them part")
    return Found(f"{same} of {count} records' texts came out to the letter", wrong, unknown)


def kinds_of_texts(run: Run) -> Iterator[Kind]:
    """All but what RL's policies sampled, which are gone, and prompts that were written."""
    folder, asked, models = run.folder, run.config, run.config.models.by_role
    law = run.law("constitution")
    first = texts.first_answers(run)
    critic, assistant = models.get("critic", models["assistant"]), models["assistant"]

    def revise(engine: Engine, names: set[str]) -> Iterable[Any]:
        prompts = [each for each in texts.of_set(run, "red-team") if each["id"] in names]
        answers = critique.texts(first) if first else None
        return critique.revise(engine, prompts, law, asked.critique, run.seed("critique"), answers)  # type: ignore[arg-type]

    def last(record: Any) -> list[str]:
        return [record["messages"][-1]["content"]]

    def of_rounds(record: Any) -> list[str]:
        said = [(made["critique"], made["revision"]) for made in record["rounds"]]
        return [record["answer"], *(text for both in said for text in both)]

    if law:
        yield Kind("revisions", "critic", critic, folder.revisions, revise, of_rounds)
    answers = partial(texts.answers_by, run)
    yield Kind("first answers", "assistant", assistant, first, partial(answers, "red-team"), last)
    yield Kind("helpful answers", "assistant", assistant, folder.helpful, partial(answers, "helpful"), last)
    makes = labels.method_of(run).pairs_by
    role: RoleName = "policy" if makes == "sl-cai" else "feedback"
    maker = str(run.path / stage("supervised").folder) if makes == "sl-cai" else models["feedback"]
    yield Kind(
        "pairs", role, maker, folder.pairs, partial(texts.pairs_by, run), lambda pair: pair["responses"]
    )
    for model, of_model in evaluation.files(run).items():
        place = {"initial": models["policy"], "sl-cai": str(run.path / stage("supervised").folder)}
        rl = run.path / stage("reinforce").folder
        step = model.removeprefix("rl-cai-")
        name = place.get(model) or str(rl if step == model else rl / f"step-{step}")
        yield Kind(
            f"answers of {model}",
            "policy",
            name,
            of_model,
            partial(evaluation.answers_by, run),
            lambda one: [one["text"]],
        )


def parting(before: Sequence[str], now: Sequence[str]) -> int | None:
    """After how many characters texts part that were written one after another; None where they do not."""
    for one, other in zip(before, now, strict=False):
        if one != other:
            return next(
                (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)),
            )
    return None if len(before) == len(now) else 0


def draw(run: Run, what: str, records: Sequence[T]) -> list[T]:
    count = min(len(records), run.again)
    return generator(run.config.seed, "audit", what).sample(records, count)


def number_type(run: Run) -> str:
    return str((run.folder.manifest.get("engine") or {}).get("dtype", run.config.engine.dtype))


def bench(run: Run) -> Workbench:
    """Engines of the run's own number type, on what this machine has."""
    engine = run.config.engine.model_copy(update={"dtype": number_type(run)})
    work = Workbench(run.config.model_copy(update={"engine": engine}), Watcher())
    if day := run.folder.manifest.get("date"):
        work.date = date.fromisoformat(day)
    return work
