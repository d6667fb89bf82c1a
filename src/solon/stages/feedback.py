"""AI feedback: which of two answers is better, as a soft label (paper, section 4.1)."""

from collections.abc import Iterable, Iterator, Sequence

from solon import config, marks
from solon.constitution import Constitution
from solon.errors import SetAside, WeighedOut
from solon.feedback import labelling, panel, weights
from solon.feedback.made import MAKING, ByMaking
from solon.feedback.method import Candidates, turned
from solon.inference.engine import Engine
from solon.prompts.dialogue import assistant
from solon.records import Aspect, Ballot, LabelSource, Message, PairRecord, PreferenceRecord, Vote


def label(
    engine: Engine,
    pairs: Iterable[PairRecord],
    constitution: Constitution,
    aspect: Aspect,
    settings: config.Feedback,
    seed: int,
) -> Iterator[PreferenceRecord | PairRecord]:
    """Soft labels that the feedback model's votes make, as they finish; pairs with a problem get none.

    A pair that is set aside comes back as it is, with the problem "too long" (for the model's context),
    "filtered" (by a server) or "unjudged" (the model named no answer). The answer more likely to be better
    becomes ``chosen``. Raises SolonError where the constitution lacks what the
    method needs, and for a model that learned people's labels of harm.
    """
    sound = {pair["id"]: pair for pair in pairs if not pair["problem"]}
    for ballot in ballots(engine, sound.values(), constitution, aspect, settings, seed):
        yield joined(sound[ballot["id"]], [ballot], constitution, aspect, settings)


def ballots(
    engine: Engine,
    pairs: Iterable[PairRecord],
    constitution: Constitution,
    aspect: Aspect,
    settings: config.Feedback,
    seed: int,
) -> Iterator[Ballot]:
    """A judge's votes on pairs that have no problem, as they finish. Raises SolonError as ``label`` does."""
    marks.admit(engine.model_name, "the feedback model")
    method, settings = labelling(settings, constitution, aspect)
    asked = (
        Candidates(pair["id"], pair["prompt"], pair["responses"][0], pair["responses"][1]) for pair in pairs
    )
    for candidates, votes in method.judge(engine, asked, constitution, settings, seed):
        given, problem = ([], votes.problem) if isinstance(votes, SetAside) else (votes, "")
        yield Ballot(id=candidates.id, judge=engine.model_name, votes=given, problem=problem)


def joined(
    pair: PairRecord,
    ballots: Sequence[Ballot],
    constitution: Constitution,
    aspect: Aspect,
    settings: config.Feedback,
) -> PreferenceRecord | PairRecord:
    """The label that the judges' votes on the pair make; the pair with its problem where none judged it.

    A judge who did not has no part in it. Where there are several, votes say whose they are. A pair whose
    votes all have the weight 0 has the problem "weighed out", and keeps them.
    """
    given = [ballot for ballot in ballots if not ballot["problem"]]
    if not given:
        return {**pair, "problem": ballots[0]["problem"]}
    votes = given[0]["votes"] if len(ballots) == 1 else [vote for each in given for vote in panel.named(each)]
    if not weights.count(votes):
        return {**pair, "problem": WeighedOut.problem, "votes": votes}
    method, settings = labelling(settings, constitution, aspect)
    by = panel.labeller([ballot["judge"] for ballot in ballots])
    return _preference(pair, method.label(votes, settings), aspect, "ai", by, votes)


def weighed_anew(
    record: PreferenceRecord | PairRecord,
    pair: PairRecord,
    constitution: Constitution,
    aspect: Aspect,
    settings: config.Feedback,
    labeller: str,
) -> PreferenceRecord | PairRecord:
    """What the votes on the pair make under a constitution that says the same and weighs otherwise.

    ``record`` is the pair's label, or the pair as one that is weighed out. One whose votes count as they did
    stays as it is, to the last bit.
    """
    votes = weights.under(constitution, record.get("votes", []))
    if votes == record.get("votes", []):
        return record
    chosen: list[Message] = record.get("chosen", [])  # type: ignore[assignment]
    if chosen and chosen[-1]["content"] != pair["responses"][0]:
        votes = [turned(vote) for vote in votes]
    if not weights.count(votes):
        return {**pair, "problem": WeighedOut.problem, "votes": votes}
    method, settings = labelling(settings, constitution, aspect)
    return _preference(pair, method.label(votes, settings), aspect, "ai", labeller, votes)


def by_making(pairs: Iterable[PairRecord], aspect: Aspect, method: ByMaking) -> Iterator[PreferenceRecord]:
    """Labels of pairs made so that the first answer is the better one: nobody judges.

    Pairs with a problem get none. Raises SolonError for a pair that was not made so.
    """
    for pair in pairs:
        if pair["problem"]:
            continue
        method.must_have_made(pair)
        yield _preference(pair, 1.0, aspect, method.label_source, MAKING, [])


def _preference(
    pair: PairRecord,
    probability: float,
    aspect: Aspect,
    label_source: LabelSource,
    labeller: str,
    votes: list[Vote],
) -> PreferenceRecord:
    """``probability`` is that the first answer is better."""
    first_chosen = probability >= 0.5
    chosen, rejected = pair["responses"] if first_chosen else reversed(pair["responses"])
    record = PreferenceRecord(
        id=pair["id"],
        prompt=pair["prompt"],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        probability=max(probability, 1 - probability),
        aspect=aspect,
        kind=pair["kind"],
        split=pair["split"],
        label_source=label_source,
        labeller=labeller,
        votes=votes if first_chosen else [turned(vote) for vote in votes],
    )
    if "cut" in pair:
        record["cut"] = pair["cut"] if first_chosen else pair["cut"][::-1]
    return record
