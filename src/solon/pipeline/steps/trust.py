"""Before the stages: how far judge and labeller agree with people, so that nobody works for empty labels."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from solon.errors import SolonError
from solon.evaluation import trust
from solon.evaluation.paper_evals import drawn
from solon.evaluation.trust import Way
from solon.held_out import opening
from solon.pipeline.steps.feedback import human
from solon.pipeline.steps.inputs import of_laws, of_model, of_rules, of_source
from solon.pipeline.steps.red_team import given
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import Agreement, Aspect, Message, PeoplesPair, Role, TrustRecord, judged_in
from solon.seeds import stable_id
from solon.sources.tables import label, source_name
from solon.store.record_file import RecordFile, write

Files = Callable[[str], RecordFile]  # where what a model said is kept: by "labeller-harmlessness", ...


def pairs(bench: Workbench, trained: Iterable[Sequence[Message]]) -> tuple[list[PeoplesPair], int]:
    """The pairs to measure on, and how many of the file open like a dialogue that is ``trained`` on.

    Those are left out. Raises SolonError as ``trust.people`` does, and where none is left.
    """
    settings = bench.config.evaluation
    openings, found = {opening(dialogue) for dialogue in trained}, trust.people(str(settings.trust))
    apart = [pair for pair in found if opening(pair["prompt"]) not in openings]
    if not apart:
        raise SolonError(
            f"all {len(found)} pairs of {settings.trust} open like dialogues that are trained on, so none is "
            "left to measure a judge on; name another file as evaluation.trust"
        )
    return drawn(apart, settings.trust_pairs, bench.seed("trust")), len(found) - len(apart)


def admit(
    bench: Workbench, aspects: Collection[Aspect], trained: Iterable[Sequence[Message]], file: Files
) -> None:
    """Measure the labeller, outside of a run. Raises SolonError where its labels are refused."""
    wanted, left_out = pairs(bench, trained)
    ways = trust.labelling_ways(bench.config, bench.laws, aspects)
    found = measure(bench, ways, wanted, left_out, file)
    trust.refuse(found, bench.config.feedback.untrusted)


def measure(
    bench: Workbench,
    ways: Iterable[tuple[Role, Way]],
    wanted: Sequence[PeoplesPair],
    left_out: int,
    file: Files,
) -> list[Agreement]:
    """The agreement with people of each role's model; what two roles judge in the same way is asked once.

    An aspect that no pair is of is not measured.
    """
    source = label(str(bench.config.evaluation.trust))
    asked: list[tuple[Way, str, list[TrustRecord]]] = []
    found = []
    for role, way in ways:
        of_aspect = [pair for pair in wanted if pair["aspect"] == way.aspect]
        if not of_aspect:
            continue
        if not (same := [known for known in asked if known[0] == way]):
            name, make = judged_in(role, way.aspect), partial(trust.judge, way=way, seed=bench.seed("trust"))
            questions = way.method.questions(way.settings, len(way.law.comparison))
            same = [
                (way, name, bench.generate(file(name), of_aspect, trust.PLAYED_AS[role], make, questions))
            ]
            asked += same
        _, said_in, records = same[0]
        found.append(trust.agreement(role, way, records, said_in, source, left_out))
    return [agreement for agreement in found if agreement]


def run(work: Workspace) -> Done:
    wanted, left_out = pairs(work, trained(work))
    asked = work.config
    ways = trust.ways(asked, work.laws, work.evaluated_by)
    found = measure(work, ways, wanted, left_out, lambda name: work.file(f"trust/{name}.jsonl"))
    write(work.folder / "trust/agreement.jsonl", found)
    notes = [trust.tells(agreement, f"the {agreement['role']}") for agreement in found]
    if left_out:
        notes.append(
            f"{left_out} pairs of {label(str(work.config.evaluation.trust))} are left out: they open like "
            "dialogues that the run trains on."
        )
    return Done(len(found), notes)


def trained(work: Workspace) -> list[list[Message]]:
    """The dialogues that the run trains on, as far as they are known before it."""
    prompts = given(work)
    kept = [prompt for prompt in prompts if prompt["split"] == "held-out"]
    labelled = human(work.config.preference_model, kept)
    return [record["prompt"] for record in (*prompts, *labelled) if record["split"] == "train"]


def of_rewards(work: Workspace) -> dict[str, Any]:
    """By which rewards the feedback model judges samples, whatever they weigh; nothing where by none."""
    asked = sorted(set(work.config.reinforce.rewards) & set(trust.REWARDERS))
    return {"reinforce.reward": asked} if asked else {}


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.evaluation
    wanted, _ = pairs(work, trained(work))
    return {
        "evaluation.trust": source_name(settings.trust),
        "evaluation.trust.hash": of_source(settings.trust),
        "evaluation.trust_pairs": settings.trust_pairs,
        "pairs apart from what is trained on": stable_id(*(pair["id"] for pair in wanted)),
        "feedback": work.config.feedback.model_dump(exclude={"untrusted", "panel"}),
        **of_rewards(work),
        "preference_model.helpfulness": source_name(work.config.preference_model.helpfulness),
        **of_laws(work),
        **of_rules("evaluation.helpfulness_constitution", work.helpful_evaluation),
        **of_model(work, "feedback"),
        **(of_model(work, "judge") if work.config.apart("judge", "feedback") else {}),
    }
