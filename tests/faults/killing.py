"""A run in a process of its own that is killed at a random moment of a stage, again and again."""

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from solon import pipeline
from solon.config import Config
from solon.method import STAGES
from solon.store.files import file_hash

NOT_THE_SAME = {"started", "finished", "seconds", "usage"}
"""What the manifest says of a stage that may differ: times, and the tokens of all attempts together."""

# Its processes begin with the libraries imported, so that a kill costs the work that it undoes and no more.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["solon.pipeline", "trl", "killing"])


def start(config: Config, folder: Path) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=(config.model_dump(mode="json"), str(folder)))
    process.start()
    return process


def work(settings: dict[str, Any], folder: str) -> None:
    pipeline.run(Config.model_validate(settings), Path(folder))


def finish(config: Config, folder: Path) -> None:
    process = start(config, folder)
    process.join()
    assert process.exitcode == 0


def stages(folder: Path) -> dict[str, Any]:
    """What the manifest says of each stage; {} before there is one."""
    path = folder / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_text())["stages"] if path.exists() else {}
    return found


def results(folder: Path) -> dict[str, str]:
    """The hash of every file of a run; of the manifest, what must be the same; not of the report, which shows
    its times."""
    found = {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"manifest.json", "report.html"}
    }
    for name, stage in stages(folder).items():
        same = {key: value for key, value in stage.items() if key not in NOT_THE_SAME}
        found[f"manifest: {name}"] = json.dumps(same, sort_keys=True)
    return found


def lines(folder: Path) -> dict[str, set[bytes]]:
    """The whole lines of every record file."""
    return {
        str(path.relative_to(folder)): {
            line for line in path.read_bytes().splitlines(True) if line[-1:] == b"\n"
        }
        for path in folder.rglob("*.jsonl")
    }


def kill_in(stage: str, config: Config, folder: Path, delay: float) -> dict[str, Any]:
    """Start or go on with the run, kill it ``delay`` seconds into the stage, and tell what was there then."""
    process = start(config, folder)
    while process.is_alive() and stages(folder).get(stage, {}).get("status") != "running":
        time.sleep(0.005)
    process.join(delay)
    process.kill()
    process.join()
    assert process.exitcode in {-signal.SIGKILL, 0}  # 0: it had come to its end
    then = stages(folder)
    running = [name for name, each in then.items() if each["status"] == "running"]
    return {
        "stage": running[0] if running else "none",
        "seconds into it": round(delay, 3),
        "records": sum(map(len, lines(folder).values())),
        "done": {name: each["finished"] for name, each in then.items() if each["status"] == "done"},
        "lines": lines(folder),
    }


def tear(stage: Path) -> None:
    """Leave what a kill may leave at the worst moment: half a line in every file, half a checkpoint."""
    for path in stage.glob("*.jsonl"):
        with path.open("ab") as file:
            file.write(b'{"id": "half')
    if (stage / "metrics.jsonl").exists():
        for half in (stage / "unfinished" / "checkpoint-1", stage / "checkpoint-99"):
            half.mkdir(parents=True, exist_ok=True)
            (half / "model.safetensors").write_bytes(b"half of it")


def killed_run(
    config: Config, whole: Path, folder: Path, chosen: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Bring a run to its end that is killed once in each of the ``chosen`` stages, and torn there.

    ``whole`` is the same run undisturbed: it says how long each stage takes. Every moment of a stage is as
    likely as any other.
    """
    rng, found = random.Random(seed), []
    for stage in chosen:
        delay = rng.uniform(0, stages(whole)[stage]["seconds"])
        found.append(kill_in(stage, config, folder, delay))
        # A stage that has ended before the kill came is on disk, so nothing of it can be torn.
        for each in STAGES:
            if each.name == found[-1]["stage"]:
                tear(folder / each.folder)
    finish(config, folder)
    return found
