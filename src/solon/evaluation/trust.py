"""What a model's judgement is worth: how far it agrees with people when it judges as it does in the run.

A judge that was measured and is not clearly above chance gives no verdict, and no labels unless the
configuration asks for them by name.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon import config, role_settings
from solon.constitution import Constitution
from solon.errors import SetAside, SolonError, WeighedOut
from solon.evaluation import calibration, decisions, tournament
from solon.evaluation.agreement import DIGITS
from solon.evaluation.paper_evals import read_pairs
from solon.feedback import METHODS, labelling, weights
from solon.feedback.made import ByMaking
from solon.feedback.method import Candidates, Method
from solon.feedback.rating import ByRating
from solon.feedback.samples import COMPARED
from solon.inference.engine import Engine
from solon.records import (
    ASPECT_OF,
    Agreement,
    Aspect,
    PeoplesPair,
    PreferenceRecord,
    Role,
    SampleRecord,
    TrustRecord,
    Vote,
    judged_in,
)
from solon.reward_settings import COMPARISON, RATING
from solon.role_settings import RoleName

CHANCE = 0.5
REWARDERS: Mapping[str, tuple[Role, str]] = {
    RATING: ("rewarder by rating", ByRating.name),
    COMPARISON: ("rewarder by comparison", COMPARED.name),
}
"""Of each reward that the feedback model gives its role, and the method that it asks by."""
TAUGHT: Mapping[Role, str] = {"labeller": "labels", **{role: "rewards" for role, _ in REWARDERS.values()}}
"""What a policy learns from, by the feedback model's role in giving it."""
PLAYED_AS: Mapping[Role, RoleName] = {**dict.fromkeys(TAUGHT, "feedback"), "judge": "judge"}


@dataclass(frozen=True)
class Way:
    """How a model judges one aspect. Equal ways put the same questions to the same model."""

    model: str
    role: role_settings.Role  # its settings
    aspect: Aspect
    method: Method
    settings: config.Feedback
    law: Constitution


def labelled(asked: config.Config) -> tuple[Aspect, ...]:
    """The aspects that a run has the feedback model label."""
    helpfulness = asked.preference_model.helpfulness == "ai"
    return ("harmlessness", "helpfulness") if helpfulness else ("harmlessness",)


def labelling_ways(
    asked: config.Config, laws: Mapping[Aspect, Constitution], aspects: Collection[Aspect]
) -> list[tuple[Role, Way]]:
    """How the feedback model labels these aspects; [] where nobody judges the pairs.

    ``laws`` are those that each aspect is labelled by.
    """
    if isinstance(METHODS[asked.feedback.method], ByMaking):
        return []
    model = asked.models.by_role["feedback"], asked.role("feedback")
    return [
        ("labeller", _way(*model, aspect, law, *labelling(asked.feedback, law, aspect)))
        for aspect, law in laws.items()
        if aspect in aspects
    ]


def rewarding_ways(asked: config.Config, laws: Mapping[Aspect, Constitution]) -> list[tuple[Role, Way]]:
    """How the feedback model judges samples where it rewards them; [] where it does not.

    ``laws`` are those that each aspect is labelled by.
    """
    model = asked.models.by_role["feedback"], asked.role("feedback")
    found = []
    for reward in asked.reinforce.rewards:
        if reward in REWARDERS:
            role, method = REWARDERS[reward]
            settings = asked.feedback.model_copy(update={"method": method})
            found += [
                (role, _way(*model, aspect, law, *labelling(settings, law, aspect)))
                for aspect, law in laws.items()
            ]
    return found


def judging_ways(asked: config.Config, laws: Mapping[Aspect, Constitution]) -> list[tuple[Role, Way]]:
    """How the judge judges each aspect in the evaluation, by these ``laws``."""
    model = asked.models.by_role["judge"], asked.role("judge")
    settings = tournament.settings_of(asked)
    return [
        ("judge", _way(*model, aspect, law.unweighed, *tournament.way(settings, law, aspect)))
        for aspect, law in laws.items()
    ]


def ways(
    asked: config.Config,
    labelled_by: Mapping[Aspect, Constitution],
    evaluated_by: Mapping[Aspect, Constitution],
) -> list[tuple[Role, Way]]:
    """How models judge in every role that a run has."""
    return [
        *labelling_ways(asked, labelled_by, labelled(asked)),
        *rewarding_ways(asked, labelled_by),
        *judging_ways(asked, evaluated_by),
    ]


def _way(
    model: str,
    role: role_settings.Role,
    aspect: Aspect,
    law: Constitution,
    method: Method,
    settings: config.Feedback,
) -> Way:
    return Way(model, role, aspect, method, method.deciding(settings), law)


def people(source: str) -> list[PeoplesPair]:
    """The pairs of a file that ``solon eval preferences`` reads of which people prefer one answer.

    Raises SolonError as ``read_pairs`` does, and where there is no such pair.
    """
    decided = [
        PeoplesPair(
            id=pair.id,
            prompt=pair.dialogue,
            responses=list(pair.texts),
            aspect=pair.aspect,
            people=pair.probability,
        )
        for pair in read_pairs(source)
        if pair.probability != CHANCE and pair.texts[0] != pair.texts[1]
    ]
    if not decided:
        raise SolonError(
            f"{source}: there is no pair of different answers of which people prefer one, so no judge can be "
            "measured on it; name another file as evaluation.trust"
        )
    return decided


def judge(engine: Engine, pairs: Sequence[PeoplesPair], way: Way, seed: int) -> Iterator[TrustRecord]:
    """What the engine's model says of the pairs, as they finish."""
    by_id = {pair["id"]: pair for pair in pairs}
    asked = (
        Candidates(pair["id"], pair["prompt"], pair["responses"][0], pair["responses"][1]) for pair in pairs
    )
    for candidates, votes in way.method.judge(engine, asked, way.law, way.settings, seed):
        pair = by_id[candidates.id]
        if isinstance(votes, SetAside):
            yield TrustRecord(**pair, probability=CHANCE, votes=[], problem=votes.problem)
        else:
            yield said(pair, votes, way)


def said(pair: PeoplesPair, votes: list[Vote], way: Way) -> TrustRecord:
    """What votes for the pair's first answer make of it."""
    problem = "" if weights.count(votes) else WeighedOut.problem
    probability = way.method.probability(votes, way.settings)
    return TrustRecord(**pair, probability=probability, votes=votes, problem=problem)


def weighed_anew(record: TrustRecord, way: Way) -> TrustRecord:
    """What the same votes make under the weights of the way's constitution, which else says the same."""
    votes = weights.under(way.law, record["votes"])
    if votes == record["votes"]:
        return record
    pair = PeoplesPair(**{name: record[name] for name in PeoplesPair.__annotations__})  # type: ignore[literal-required, typeddict-item]
    return said(pair, votes, way)


def agreement(
    role: Role, way: Way, records: Sequence[TrustRecord], said_in: str, source: str, left_out: int
) -> Agreement | None:
    """How far a model agrees with people, by what it said of the pairs; None where it could read none.

    In labels, the side counts that the label is on; in the evaluation, what the judge decides.
    """
    read = [record for record in records if not record["problem"]]
    if not read:
        return None
    people = [record["people"] for record in read]
    both = [_either_way(way, record) for record in read]
    # What rounding leaves where both orders cancel is no preference.
    said = np.round([record["probability"] for record in read], DIGITS)
    if role == "judge":
        said = np.asarray([decisions.decided(probabilities) for probabilities in both])
    agreed = calibration.agreements(said, people)
    lengths = np.asarray([[len(text) for text in record["responses"]] for record in read])
    shorter = CHANCE + np.sign(lengths[:, 1] - lengths[:, 0]) / 2
    return Agreement(
        id=judged_in(role, way.aspect),
        role=role,
        aspect=way.aspect,
        model=way.model,
        method=way.settings.method,
        said_in=said_in,
        constitution=way.law.name,
        source=source,
        left_out=left_out,
        too_long=len(records) - len(read),
        pairs=len(read),
        accuracy=agreed / len(read),
        interval=list(calibration.wilson(agreed, len(read))),
        undecided=float(np.mean(said == CHANCE)),
        turned=float(np.mean(list(map(decisions.turns, both)))) if all(both) else None,
        shorter=calibration.agreements(shorter, people) / len(read),
    )


def _either_way(way: Way, record: TrustRecord) -> list[float]:
    """The probability by either way round of asking; [] where it was asked one way round."""
    return way.method.either_way(record["votes"], way.settings) if way.settings.both_orders else []


def is_above_chance(measured: Agreement) -> bool:
    """Whether the whole interval is."""
    return measured["interval"][0] > CHANCE


def of(measurements: Iterable[Agreement], role: Role, aspect: Aspect) -> Agreement | None:
    """What was measured of the model in the role; None where nobody measured it."""
    return next((one for one in measurements if (one["role"], one["aspect"]) == (role, aspect)), None)


def unfit(measurements: Iterable[Agreement]) -> list[tuple[str, Agreement]]:
    """What a policy learns from by models that are not clearly above chance, with what was measured."""
    taught = [(TAUGHT[one["role"]], one) for one in measurements if one["role"] in TAUGHT]
    return [(what, one) for what, one in taught if not is_above_chance(one)]


def asked_for(measurements: Iterable[Agreement], taught: str) -> list[str]:
    """That "labels" or "rewards" are made although their model was not seen to be above chance."""
    return [
        f"{agreement['model']} {doubt(agreement)}; the configuration asks for its {what} by name "
        "(feedback.untrusted)."
        for what, agreement in unfit(measurements)
        if what == taught
    ]


def unfit_in_use(
    measurements: Iterable[Agreement],
    preferences: Iterable[PreferenceRecord],
    samples: Iterable[SampleRecord],
) -> list[tuple[str, Agreement]]:
    """The same of what models did say of a run's pairs and samples."""
    rewarded = any(sample.get("votes") for sample in samples)
    used: dict[str, Collection[Aspect]] = {
        "labels": {label["aspect"] for label in preferences if label["votes"]},
        "rewards": tuple(ASPECT_OF.values()) if rewarded else (),
    }
    return [(what, one) for what, one in unfit(measurements) if one["aspect"] in used[what]]


def says(measured: Agreement) -> str:
    """How far a model agrees with people: what follows its name in a sentence."""
    low, high = measured["interval"]
    return (
        f"agrees with people about {measured['aspect']} on {measured['accuracy']:.1%} of "
        f"{measured['pairs']:,} pairs (95% interval {100 * low:.1f} to {100 * high:.1f}%)"
    )


def doubt(measured: Agreement) -> str:
    """The same of one that is not clearly above chance."""
    where = "below chance" if measured["interval"][1] < CHANCE else "not clearly above chance"
    return f"{says(measured)}, which is {where}"


def tells(measured: Agreement, roles: str) -> str:
    """The whole sentence, with what a rule that reads nothing would reach on the same pairs."""
    shorter = measured["shorter"]
    rule, reached = ("shorter", shorter) if shorter >= CHANCE else ("longer", 1 - shorter)
    return (
        f"{measured['model']}, {roles}, {says(measured)} of {measured['source']}; always taking the {rule} "
        f"answer would on {reached:.1%}."
    )


def refuse(measurements: Iterable[Agreement], untrusted: str | None) -> None:
    """Raises SolonError for labels or rewards of a model that is not clearly above chance.

    ``untrusted`` names the model whose labels and rewards are wanted whatever they are worth.
    """
    for what, measured in unfit(measurements):
        if measured["model"] != untrusted:
            setting = "feedback.method" if what == "labels" else "reinforce.reward"
            raise SolonError(
                f"the feedback model, {measured['model']}, {doubt(measured)}, so its {what} are refused: "
                f"give a better judge as models.feedback, another {setting}, or ask for these {what} by "
                f"name with feedback.untrusted: {measured['model']}"
            )
