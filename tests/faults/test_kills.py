"""SIGKILL at random moments of every stage: what comes of the run is what an undisturbed one leaves.

``make faults`` kills seven times in each of the eight stages and keeps what it found.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from killing import finish, killed_run, lines, results, stages

from solon.run import RecordFile
from solon.steps import STAGES
from test_pipeline import config

KILLS = int(os.environ.get("SOLON_TEST_KILLS", "1"))  # in each stage
RESULT = os.environ.get("SOLON_TEST_KILLS_RESULT")  # the file to write


@pytest.mark.parametrize("seed", range(1))
def test_a_run_killed_in_every_stage_ends_the_same(tiny_model: Path, tmp_path: Path, seed: int) -> None:
    # Small batches make several blocks of the few records.
    settings = config(tiny_model, engine={"batch_size": 2})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(settings, whole)
    kills = killed_run(settings, whole, killed, KILLS, seed)
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
    assert {kill["stage"] for kill in kills} >= {stage.name for stage in STAGES[1:]}
    if RESULT:
        summary = {
            "kills": len(kills),
            "by stage that ran": dict(Counter(kill["stage"] for kill in kills)),
            "files compared, all the same": len(expected),
            "records lost": 0,
            "records twice": 0,
            "finished stages done again": 0,
            "not compared": "report.html; of each stage in manifest.json: started, finished, seconds, usage",
            "moments": [[kill["stage"], kill["seconds into it"], kill["records"]] for kill in kills],
        }
        Path(RESULT).write_text(json.dumps(summary, indent=1) + "\n")
