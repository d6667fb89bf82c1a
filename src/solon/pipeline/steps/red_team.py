"""Stage 1 in a run folder: the prompts of both sets, and more that the assistant writes."""

from collections.abc import Sequence
from typing import Any

from solon.evaluation import trust
from solon.pipeline.steps.inputs import of_model, of_source
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import SETS, PromptRecord, Split
from solon.sources import data
from solon.sources.tables import source_name
from solon.stages import red_team
from solon.store.record_file import RecordFile


def write(
    bench: Workbench, seeds: Sequence[PromptRecord], file: RecordFile, count: int
) -> list[PromptRecord]:
    """Prompts like ``seeds`` by the assistant, ``count`` at most, in the file; those there are kept."""
    settings = bench.config.red_team.model_copy(update={"generate": count})
    written: list[PromptRecord] = file.recover().read()
    if len(written) < count:
        engine = bench.engine(bench.roles["assistant"])
        for record in red_team.write(engine, seeds, list(written), settings, bench.seed("generate")):
            file.append(record)
            written.append(record)
            bench.watcher.advance("generated", len(written), count)
    return written


def given(work: Workspace) -> list[PromptRecord]:
    """The prompts that the configuration names."""
    settings = work.config.red_team
    prompts: list[PromptRecord] = []
    for prompt_set in SETS:
        source = settings.red_team if prompt_set == "red-team" else settings.helpful
        of_set = data.prompts(source.source, prompt_set)
        counts: list[tuple[Split, int | None]] = [("train", source.train), ("held-out", source.held_out)]
        for split, count in counts:
            prompts += data.select(of_set, split, count, work.seed("prompts", prompt_set, split))
    return prompts


def check_data(work: Workspace) -> None:
    """Read all data that the run names, so that a broken row is told now and not after hours of work."""
    given(work)
    if (source := work.config.preference_model.helpfulness) not in {None, "ai"}:
        data.comparisons(str(source), work.config.preference_model.held_out)
    if work.config.evaluation.trust:
        trust.people(work.config.evaluation.trust)


def run(work: Workspace) -> Done:
    asked, prompts, notes = work.config.red_team.generate, given(work), []
    if asked:
        seeds = [record for record in prompts if record["set"] == "red-team"]
        generated = write(work, seeds, work.file("01-red-team/generated.jsonl"), asked)
        prompts += generated
        notes.append(f"{len(generated)} of {asked} red-team prompts asked for were generated.")
    file = work.file("01-red-team/prompts.jsonl")
    return Done(len(work.complete(file, prompts, lambda missing: missing)), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.red_team
    return {
        "red_team": settings.model_dump(),
        "red_team.red_team.source": source_name(settings.red_team.source),
        "red_team.helpful.source": source_name(settings.helpful.source),
        "red_team.red_team.hash": of_source(settings.red_team.source),
        "red_team.helpful.hash": of_source(settings.helpful.source),
        **(of_model(work, "assistant") if settings.generate else {}),
    }
