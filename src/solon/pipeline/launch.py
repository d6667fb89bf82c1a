"""Training in several processes: each calls the stage's function, and the first tells how it goes."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from accelerate import PartialState
from filelock import FileLock

from solon import config, models
from solon.config import on_server
from solon.engine_settings import USUAL_ENGINE, EngineSettings
from solon.errors import SolonError
from solon.feedback.sample_judges import Judges, asked, count_spent
from solon.method import trains
from solon.progress import Progress
from solon.role_settings import DEFAULT, Role
from solon.store.files import write_atomically

TASK, LOG, LOCK = "launched.json", "launched.log", "launched.lock"
FSDP = {  # accelerate's own names; sharded checkpoints are written without gathering the weights anywhere
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


def train(
    stage: str,
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str | None],
    out: Path,
    settings: config.Section,
    seed: int,
    progress: Progress,
    scale: config.TrainingScale,
    human_harm: bool = False,
    role: Role = DEFAULT,
    judges: Judges | None = None,
    engine: EngineSettings = USUAL_ENGINE,
) -> dict[str, float]:
    """The stage's ``train`` with these models, in as many processes as ``scale`` says, here if in one.

    ``role`` is the policy's; where the stage samples its answers, ``engine`` does, and ``judges`` may reward
    them.

    Raises SolonError where the stage does, and where a process ends otherwise.
    """
    assert names[0]
    models.check_policy(names[0])
    if scale.processes == 1 and scale.launcher is None:
        metrics: dict[str, float] = function_of(stage, engine)(
            records, *names, out, settings, seed, progress, human_harm, role, *([judges] if judges else [])
        )
        return metrics
    write_task(stage, records, names, out, settings, seed, human_harm, role, judges, engine)
    before = len(asked(out))
    metrics = _launched([*command(scale), "--module", __name__, str(out)], environment(scale), out, progress)
    if judges and any(map(on_server, judges.models)):
        count_spent(asked(out)[before:])
    for name in (TASK, LOG, LOCK):
        (out / name).unlink(missing_ok=True)
    return metrics


def function_of(stage: str, engine: EngineSettings) -> Callable[..., dict[str, float]]:
    """What trains in the stage, which may sample by the engine. No other stage's trainer is imported."""
    training = trains(stage)
    module, _, name = training.function.partition(":")
    function: Callable[..., dict[str, float]] = getattr(import_module(module), name)
    return partial(function, engine=engine) if training.samples else function


def write_task(
    stage: str,
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str | None],
    out: Path,
    settings: config.Section,
    seed: int,
    human_harm: bool = False,
    role: Role = DEFAULT,
    judges: Judges | None = None,
    engine: EngineSettings = USUAL_ENGINE,
) -> None:
    """What ``main`` reads."""
    task = {
        "stage": stage,
        "records": records,
        "names": names,
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "human_harm": human_harm,
        "role": role.model_dump(mode="json"),
        "judges": judges and judges.having_spent().model_dump(mode="json"),
        "engine": engine.model_dump(mode="json", exclude={"openai"}),
    }
    write_atomically(out / TASK, json.dumps(task))


def command(scale: config.TrainingScale) -> list[str]:
    """Starts the processes; a module's name and arguments follow."""
    if scale.launcher is not None:
        return shlex.split(scale.launcher)
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={scale.processes}",
    ]


def environment(scale: config.TrainingScale) -> dict[str, str]:
    """That of the processes."""
    chosen = {}
    if scale.launcher is None:
        chosen = FSDP if scale.strategy == "fsdp" else {}
        threads = max(1, (os.cpu_count() or 1) // scale.processes)
        chosen = {"OMP_NUM_THREADS": str(threads)} | os.environ | chosen
    return {**os.environ, **chosen}


def _launched(
    line: Sequence[str], variables: Mapping[str, str], out: Path, progress: Progress
) -> dict[str, float]:
    metrics: dict[str, float] | None = None
    failure = ""
    with (out / LOG).open("w", encoding="utf-8") as log:
        try:
            process = subprocess.Popen(line, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
        except OSError as error:
            raise SolonError(
                f"scale.training.launcher: {line[0]!r} does not start ({error.strerror}); check the command"
            ) from None
        with process:
            assert process.stdout
            try:
                for text in process.stdout:
                    match _told(text):
                        case {"step": int(step), "steps": int(steps), "metrics": dict(row)}:
                            progress(step, steps, row)
                        case {"error": str(reason)}:
                            failure = failure or reason
                        case {"done": dict(row)}:
                            metrics = row
                        case _:
                            log.write(text)
            except BaseException:
                process.terminate()
                raise
    if failure:
        raise SolonError(failure)
    if process.returncode or metrics is None:
        raise SolonError(
            f"a training process ended with status {process.returncode}; {out / LOG} says why. Start the run "
            "again, which goes on from the last checkpoint"
        )
    return metrics


def _told(text: str) -> Any:
    """What a process says, unless it is a library that speaks."""
    with suppress(ValueError):
        return json.loads(text)
    return None


def main(out: Path) -> None:
    """What each process does. Its standard output is the pipe to ``train``, and nobody else's."""
    pipe, sys.stdout = sys.__stdout__, sys.stderr

    def tell(**what: Any) -> None:
        # If the reader is dead this fails, and ends a training that nobody waits for.
        print(json.dumps(what), file=pipe, flush=True)

    def progress(step: int, steps: int, metrics: dict[str, float]) -> None:
        tell(step=step, steps=steps, metrics=metrics)

    # The models beside the one that is trained would be empty in all processes but the first.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    state = PartialState(cpu=models.best_device() == "cpu")
    task = json.loads((out / TASK).read_text())
    function = function_of(task["stage"], EngineSettings.model_validate(task["engine"]))
    section = trains(task["stage"]).section
    settings = getattr(config.Config.model_validate({section: task["settings"]}), section)
    judges = task["judges"] and Judges.model_validate(task["judges"])
    try:
        # Training that has outlived a killed run may still be in its last step here.
        with FileLock(out / LOCK) if state.is_main_process else nullcontext():
            metrics = function(
                task["records"],
                *task["names"],
                out,
                settings,
                task["seed"],
                progress,
                task["human_harm"],
                Role.model_validate(task["role"]),
                *([judges] if judges else []),
            )
    except SolonError as error:
        tell(error=str(error))
        sys.exit(1)
    if state.is_main_process:
        tell(done=metrics)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    PartialState().wait_for_everyone()  # what a process that ends first leaves may abort another
    PartialState().destroy_process_group()
