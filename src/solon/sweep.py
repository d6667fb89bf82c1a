"""Runs a study: each variation an ordinary run, what they share done once."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from solon import models, pipeline
from solon.errors import SolonError
from solon.evaluation import revisions
from solon.method import NAMES
from solon.pipeline import reuse
from solon.pipeline.steps.red_team import check_data
from solon.pipeline.steps.reinforce import check as check_rewards
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.records import Message
from solon.seeds import stable_id
from solon.store.lock import alone_in
from solon.store.record_file import RecordFile
from solon.store.run_folder import RunFolder, read
from solon.study import Study
from solon.training import preference_scores

SCORED_TOGETHER = 16  # dialogues in a pass of the preference model
BLOCK = 128  # of them between two writes of the file: enough to sort by length, few enough to lose


def run(study: Study, folder: Path, watcher: Watcher | None = None, donors: Sequence[Path] = ()) -> Path:
    """Take every member to its end in a run folder of its own, and return the path of the study's page.

    What is done is not done again, neither after a kill nor where another member, or another run, one of the
    ``donors``, did the same. Raises SolonError for anything that the user can mend, where it can be told
    before the first member begins.
    """
    from solon.report import study_page as page

    watcher = watcher or Watcher()
    if (folder / "manifest.json").exists():
        raise SolonError(f"{folder} is a run folder, and a study holds several; give another with --dir")
    # Said now, not after hours of work.
    reuse.check(donors)
    if study.sweep.scored_by:
        with watcher.stage("Preference model to score with"):
            preference_scores.scorer(study.sweep.scored_by, 1)
    for member in study.members:
        work = Workspace(member.config, folder / member.name, watcher)
        check_data(work)
        check_rewards(work)
    with alone_in(folder):
        donors = list(donors)
        # Those with the most rounds go first: they hold the rounds of the others.
        members = sorted(study.members, key=lambda member: -member.config.critique.rounds)
        for number, member in enumerate(members, 1):
            watcher.say(f"{member.name} ({number} of {len(members)})")
            pipeline.run(member.config, folder / member.name, watcher, until=study.sweep.until, donors=donors)
            donors.append(folder / member.name)
        runs = {
            variation: {member.name: read(folder / member.name) for member in members}
            for variation, members in study.varies().items()
        }
        scorer, said = scored_by(study, folder)
        scores = score(folder / "scores.jsonl", scorer, runs.values(), watcher) if scorer else {}
        return page.write(study, folder, runs, scores, said)


def scored_by(study: Study, folder: Path) -> tuple[str, str]:
    """The preference model that scores all revisions, "" where there is none yet, and a sentence on it."""
    if study.sweep.scored_by:
        return study.sweep.scored_by, f"Revisions are scored by the preference model {study.sweep.scored_by}."
    trained = [member for member in study.members if member.config.trains_preference_model]
    if not trained or NAMES.index(study.sweep.until) < NAMES.index("preference-model"):
        return (
            "",
            "Revisions are not scored: the study trains no preference model and names none as 'scored_by'.",
        )
    first = trained[0]
    return Workspace(first.config, folder / first.name, Watcher()).preference_model, (
        f"All revisions are scored by one preference model, that of {first.name}. It was trained in this "
        "study, on answers to the same prompts; name another as 'scored_by' for a view from outside."
    )


def score(
    path: Path, scorer: str, runs: Iterable[Mapping[str, RunFolder]], watcher: Watcher
) -> dict[str, float]:
    """The preference model's score of every text of every revision, by ``text_id``.

    What the file has by the same model is not scored again.
    """
    wanted: dict[str, list[Message]] = {
        revisions.text_id(record["prompt"], text): [*record["prompt"], assistant(text)]
        for of_variation in runs
        for run in of_variation.values()
        for record in run.revisions
        for text in revisions.texts(record)
    }
    by_model = models.weights_hash(scorer)
    names = {text: stable_id(by_model, text) for text in wanted}
    file = RecordFile(path).recover()
    have: dict[str, float] = {record["id"]: record["score"] for record in file}
    missing = [text for text in wanted if names[text] not in have]
    if missing:
        with watcher.stage("Scores of revisions"):
            scores_of = preference_scores.scorer(scorer, SCORED_TOGETHER)
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                made = dict(zip(block, scores_of([wanted[text] for text in block]), strict=True))
                file.append(*({"id": names[text], "score": value} for text, value in made.items()))
                have |= {names[text]: value for text, value in made.items()}
                watcher.advance("scores", start + len(block), len(missing))
    return {text: have[names[text]] for text in wanted}
