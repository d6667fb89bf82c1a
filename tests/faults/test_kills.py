"""SIGKILL at random moments of every stage: what comes of the run is what an undisturbed one leaves.

After each kill every file of the stage gets half a line more, and a training stage half a checkpoint.

``make faults`` kills seven runs in each of their eight stages and keeps what it found.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from killing import killed_run, lines, results, stages

from solon.config import Config
from solon.method import STAGES
from solon.store.record_file import RecordFile

RUNS = int(os.environ.get("SOLON_TEST_FAULTS", "0"))
RESULT = os.environ.get("SOLON_TEST_FAULTS_RESULT")  # the file to write
FEW = ["critique", "feedback", "preference-model", "reinforce"]  # where a kill undoes most


@pytest.mark.parametrize("seed", range(RUNS or 1))
def test_a_run_killed_in_its_stages_ends_the_same(
    settings: Config, whole: Path, tmp_path: Path, seed: int
) -> None:
    chosen, killed = [stage.name for stage in STAGES] if RUNS else FEW, tmp_path / "killed"
    kills = killed_run(settings, whole, killed, chosen, seed)
    expected, found = results(whole), results(killed)
    assert {name for name in expected | found if found.get(name) != expected.get(name)} == set()
    after, finished = lines(killed), {name: each["finished"] for name, each in stages(killed).items()}
    for kill in kills:
        for name, before in kill["lines"].items():
            # A step of training that a kill undid is done again, and writes its metrics again.
            assert name.endswith("metrics.jsonl") or before <= after[name], f"{name} lost a record"
        assert kill["done"].items() <= finished.items(), "a finished stage was done again"
    for path in killed.rglob("*.jsonl"):
        if path.name != "metrics.jsonl":
            assert len(RecordFile(path).ids()) == len(path.read_bytes().splitlines())
    assert len({kill["stage"] for kill in kills}) > 1
    if RESULT:
        keep(Path(RESULT), seed, kills, len(expected))


def keep(path: Path, seed: int, kills: list[dict[str, object]], files: int) -> None:
    """Add a run that has passed to the file."""
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    runs[str(seed)] = [[kill["stage"], kill["seconds into it"], kill["records"]] for kill in kills]
    moments = [moment for run in runs.values() for moment in run]
    summary = {
        "command": "make faults",
        "kills": len(moments),
        "by the stage that was running": Counter(stage for stage, _, _ in moments),
        "runs that ended in other bytes": 0,
        "records lost, or there twice": 0,
        "finished stages done again": 0,
        "files and manifest entries compared in each run": files,
        "not compared": "report.html; started, finished, seconds and usage of each stage in manifest.json",
        "runs": runs,
        "of each kill": "the stage that was running, seconds waited in the chosen stage, records written",
    }
    path.write_text(json.dumps(summary) + "\n")
