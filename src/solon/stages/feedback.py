"""AI feedback: which of two answers is better, as a soft label (paper, section 4.1)."""

from collections.abc import Iterable, Iterator

from solon import config, marks
from solon.constitution import Constitution
from solon.errors import SetAside
from solon.feedback import labelling
from solon.feedback.made import MAKING, ByMaking
from solon.feedback.method import Candidates, turned
from solon.inference.engine import Engine
from solon.prompts.dialogue import assistant
from solon.records import Aspect, LabelSource, PairRecord, PreferenceRecord, Vote


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
    marks.admit(engine.model_name, "the feedback model")
    sound = {pair["id"]: pair for pair in pairs if not pair["problem"]}
    method, settings = labelling(settings, constitution, aspect)
    asked = (
        Candidates(pair["id"], pair["prompt"], pair["responses"][0], pair["responses"][1])
        for pair in sound.values()
    )
    for candidates, votes in method.judge(engine, asked, constitution, settings, seed):
        pair = sound[candidates.id]
        if isinstance(votes, SetAside):
            yield {**pair, "problem": votes.problem}
        else:
            probability = method.probability(votes, settings)
            yield _preference(pair, probability, aspect, "ai", engine.model_name, votes)


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
    return PreferenceRecord(
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
