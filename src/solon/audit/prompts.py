"""Where the prompts came from, and that stages worked on those they were meant to."""

from pathlib import Path

from solon import __version__
from solon.audit.run import CONSTITUTIONS, Found, Run, by_id, repeated
from solon.audit.texts import compared
from solon.config import PromptSettings
from solon.records import KINDS
from solon.sources import data
from solon.stages.red_team import is_generated
from solon.store.record_file import RecordFile


def drawn(run: Run) -> Found:
    """The prompts of the sources, drawn again; those that the assistant wrote are as it wrote them."""
    stored, asked = run.folder.prompts, run.config.prompts
    given = [each for each in stored if not is_generated(each["id"])]
    counted = f"{len(stored)} prompts, {len(stored) - len(given)} of them generated"
    wrong, unknown = [], []
    laws = [law for setting in CONSTITUTIONS if (law := run.law(setting))]
    sources = (asked.red_team, asked.helpful)
    why = next((why for source in sources if (why := unseen(run, source))), "")
    if not why and len(laws) < len(CONSTITUTIONS):
        why = "a constitution, whose examples are not held out, is no longer here"
    if why:
        names = " and ".join(dict.fromkeys(source.source for source in sources))
        unknown.append(f"whether {len(given)} prompts are those of {names}: {why}")
    else:
        wrong += compared(given, data.given(asked, laws, run.seed), run.done("red-team"))
    written = RecordFile(run.path / "01-red-team/generated.jsonl", KINDS["generated"]).read()
    wrong += compared([each for each in stored if is_generated(each["id"])], written, run.done("red-team"))
    return Found(counted, wrong, unknown)


def unseen(run: Run, source: PromptSettings) -> str:
    """Why a source cannot be drawn from again; "" where it can."""
    if run.done("red-team") and not run.stages["red-team"].get("files"):
        return "the run is of before 2026-12, when sides were told otherwise"
    if source.source != "packaged":
        return "" if Path(source.source).is_file() else "it is not here"
    made_by = run.folder.manifest.get("solon")
    return "" if made_by == __version__ else f"they came with Solon {made_by}, and this is {__version__}"


def of_stages(run: Run) -> Found:
    prompts = by_id(run.folder.prompts)
    wrong, counts = [], []
    for what, records, of_set in (
        ("revisions", run.folder.revisions, "red-team"),
        ("helpful answers", run.folder.helpful, "helpful"),
        ("pairs", run.folder.pairs, None),
    ):
        counts.append(f"{len(records)} {what}")
        wrong += repeated(records)
        for record in records:
            prompt = prompts.get(str(record.get("prompt_id", record["id"])))
            if prompt is None or prompt["prompt"] != record["prompt"]:
                wrong.append(f"{record['id']} of the {what} is no prompt of 01-red-team")
            elif prompt["split"] != "train" or prompt["set"] != (of_set or record.get("set")):
                wrong.append(f"{record['id']} of the {what} is a {prompt['split']} {prompt['set']} prompt")
    return Found(", ".join(counts), wrong)
