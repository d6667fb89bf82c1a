"""A judge compares answers that RL sampled with SL-CAI's, and its judgements are kept in the run folder."""

from pathlib import Path

from solon import constitution, marks
from solon.config import Config
from solon.constitution import Constitution
from solon.errors import SolonError, set_aside_note
from solon.evaluation import overoptimisation, tournament
from solon.inference import open_engine
from solon.progress import Watcher
from solon.records import Aspect
from solon.seeds import derive_seed
from solon.store import run_folder
from solon.store.lock import alone_in
from solon.store.record_file import RecordFile


def judge(folder: Path, judge: str, count: int, asked: Config, watcher: Watcher | None = None) -> None:
    """The ``judge``'s judgements of ``count`` samples of a run, in ``evaluation/rl-judgements.jsonl``.

    What is there is not judged again. Raises SolonError where RL has sampled nothing, SL-CAI answered none of
    its prompts, or the judgements that are there are another judge's.
    """
    marks.admit(judge, "the judge")
    watcher = watcher or Watcher()
    run = run_folder.read(folder)
    if not run.samples:
        raise SolonError(f"{folder / '07-rl-cai/samples.jsonl'} holds no answers of RL to judge")
    seed = derive_seed(asked.seed, "judged samples") % 2**31
    wanted = overoptimisation.matches(run.samples, run.pairs, count, seed)
    if not wanted:
        raise SolonError(
            f"{folder}: SL-CAI gave none of RL's prompts a sound answer of its own to compare with"
        )
    laws: dict[Aspect, Constitution] = {
        "harmlessness": constitution.load(asked.constitution),
        "helpfulness": constitution.load(asked.evaluation.helpfulness_constitution),
    }
    path = folder / "evaluation/rl-judgements.jsonl"
    with (
        alone_in(folder),
        watcher.stage("Answers of RL"),
        open_engine(judge, asked.engine, role=asked.role("judge", judge)) as engine,
    ):
        file = RecordFile(path).recover()
        done = file.read()
        if others := {record["judge"] for record in done} - {judge}:
            raise SolonError(f"{path} has the judgements of {min(others)}; delete it to ask {judge} instead")
        known = {record["id"] for record in done}
        missing = [match for name, (match, _) in wanted.items() if name not in known]
        played = tournament.play(engine, missing, laws, tournament.settings_of(asked), seed)
        aside = []
        for record in watcher.watched("judgements", played, len(missing)):
            if "probability" in record:
                file.append({**record, "step": wanted[record["id"]][1], "judge": judge})
            else:
                aside.append(record["problem"])
    for note in set_aside_note(aside, len(missing), f"comparisons by {judge}"):
        watcher.say(note)
