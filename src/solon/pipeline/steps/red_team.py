"""Stage 1 in a run folder: the prompts of both sets, and more that the assistant writes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from solon.evaluation import trust
from solon.pipeline.steps.inputs import of_model, of_source
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import SETS, PromptRecord, PromptSet
from solon.sources import data
from solon.sources.tables import source_name
from solon.stages import red_team
from solon.store.record_file import RecordFile


def write(
    bench: Workbench, seeds: Sequence[PromptRecord], file: RecordFile, count: int
) -> list[PromptRecord]:
    """Red-team prompts like ``seeds`` by the assistant, ``count`` at most, in the file; its own are kept."""
    make = partial(red_team.write, seed=bench.seed("generate"))
    return _written(bench, seeds, file, file.recover().read(), count, make)


def write_for_rl(bench: Workbench, prompts: Sequence[PromptRecord], file: RecordFile) -> list[PromptRecord]:
    """Prompts of both sets for RL alone, as many as ``reinforce.generate`` has, in the file (section 4.2).

    ``prompts`` are the run's; those to train on are the examples, and none is written again.
    """
    counts, there = bench.config.reinforce.generate, file.recover().read()
    made: list[PromptRecord] = []
    for prompt_set in SETS:
        count = counts.red_team if prompt_set == "red-team" else counts.helpful
        seeds = _seeds(prompts, prompt_set)
        written = [record for record in there if record["set"] == prompt_set]
        seed, ids = bench.seed("generate", "reinforce", prompt_set), f"rl-{prompt_set}-"
        make = partial(red_team.write, seed=seed, prompt_set=prompt_set, ids=ids)
        made += _written(bench, seeds, file, written, count, make)
    return made


def _written(
    bench: Workbench,
    seeds: Sequence[PromptRecord],
    file: RecordFile,
    written: list[PromptRecord],
    count: int,
    make: Callable[..., Iterator[PromptRecord]],
) -> list[PromptRecord]:
    if len(written) < count:
        engine, settings = bench.engine("assistant"), bench.config.prompts
        for record in make(engine, seeds, list(written), count, settings):
            file.append(record)
            written.append(record)
            bench.watcher.advance("generated", len(written), count)
    return written


def _seeds(prompts: Sequence[PromptRecord], prompt_set: PromptSet) -> list[PromptRecord]:
    """The set's prompts, and those held out of the other: what is written may be like neither."""
    return [each for each in prompts if each["set"] == prompt_set or each["split"] == "held-out"]


def given(work: Workspace) -> list[PromptRecord]:
    """The prompts that the configuration names; see ``data.given``."""
    laws = (*work.laws.values(), work.helpful_evaluation)
    return data.given(work.config.prompts, laws, work.seed)


def check_data(work: Workspace) -> dict[str, Any]:
    """Read all data that the run names, so that a broken row is told now and not after hours of work.

    Returns what was seen of comparisons that people labelled, and who vouches for them, for the manifest.
    """
    given(work)
    settings = work.config.preference_model
    seen: dict[str, Any] = {}
    for aspect, source in settings.by_people.items():
        _, finding = data.vouched(source, settings.held_out, aspect, settings.vouched_for)
        if aspect == "helpfulness":
            seen = finding.as_json() | {"hash": of_source(source), "vouched_for": settings.vouched_for}
    if work.config.evaluation.trust:
        trust.people(work.config.evaluation.trust)
    return seen


def run(work: Workspace) -> Done:
    asked, prompts, notes = work.config.prompts.generate, given(work), []
    if asked:
        generated = write(work, _seeds(prompts, "red-team"), work.file("01-red-team/generated.jsonl"), asked)
        prompts += generated
        notes.append(f"{len(generated)} of {asked} red-team prompts asked for were generated.")
    file = work.file("01-red-team/prompts.jsonl")
    return Done(len(work.complete(file, prompts, lambda missing: missing)), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.prompts
    return {
        "prompts": settings.model_dump(),
        "prompts.red_team.source": source_name(settings.red_team.source),
        "prompts.helpful.source": source_name(settings.helpful.source),
        "prompts.red_team.hash": of_source(settings.red_team.source),
        "prompts.helpful.hash": of_source(settings.helpful.source),
        **(of_model(work, "assistant") if settings.generate else {}),
    }
