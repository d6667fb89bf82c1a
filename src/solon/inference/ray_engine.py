"""Many replicas of an engine on a Ray cluster: each an actor that works on one block of records at a time."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Ray reports its use to its makers unless told not to, and takes no notice of it once it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from solon.config import EngineSettings, Scale, on_server
from solon.errors import SetAside, SolonError, first_line
from solon.inference.engine import (
    ChoiceScores,
    Completion,
    Engine,
    Question,
    Record,
    Request,
    T,
    Usage,
)
from solon.role_settings import DEFAULT, Role

LOG = logging.getLogger(__name__)
Make = Callable[[Engine, list[Record]], Iterable[T]]
Open = Callable[[str, EngineSettings, Scale, Role], Engine]

DEATHS = 4  # after the block has ended as many replicas, it is what ends them
PATIENCE = 60  # seconds without any replica, after which the log says what is waited for
QUESTIONS = 4  # batches of questions scored together: enough that prompts with a common beginning meet


class Replica:
    """What an actor holds: an ordinary engine, opened by ``open``, as a constructor's error ends an actor."""

    def __init__(self, open_engine: Open, settings: EngineSettings) -> None:
        self._open_engine = open_engine
        self._settings = settings
        self._engine: Engine | None = None

    def open(self, model: str, role: Role) -> None:
        if self._engine and self._engine.serves(model, role):
            return
        if self._engine:
            self._engine.close()
        self._engine = self._open_engine(model, self._settings, Scale(), role)

    def run(self, make: Make[Record, T], block: list[Record]) -> tuple[list[T], Usage]:
        """What comes of the block, and what it took."""
        assert self._engine
        self._engine.forget()
        self._engine.usage = Usage()
        return list(make(self._engine, block)), self._engine.usage


@dataclass
class Task:
    """A block on its way."""

    start: int
    block: list[Any]
    deaths: int = 0  # of replicas that worked on it


class RayEngine(Engine):
    """``scale.replicas`` engines, placed, restarted and fed by Ray; they may come and go while it works.

    A block goes to one replica, which begins it with an empty cache, so what comes of it does not depend on
    how many there are. A block whose replica or machine is lost is done again by another one.

    Connects to the cluster that RAY_ADDRESS names or that runs on this machine, and starts one on this
    machine alone where there is none.
    """

    def __init__(
        self,
        model: str,
        settings: EngineSettings,
        scale: Scale,
        open_engine: Open,
        role: Role = DEFAULT,
    ) -> None:
        """``open_engine`` is how a replica opens its engine.

        Raises SolonError where there is no cluster or the first replica cannot open the model.
        """
        connect()
        self._batch = settings.batch_size
        self.concurrency = scale.replicas * self._batch
        self.usage = Usage()
        self._waiting: dict[str, Request] = {}
        self._resources = resources(model, settings, scale)
        actor = ray.remote(Replica).options(max_restarts=-1, **self._resources)
        self._replicas = [actor.remote(open_engine, settings) for _ in range(scale.replicas)]
        self._idle: deque[Any] = deque()
        self._coming: dict[Any, Any] = {}  # replicas that are not idle yet, by what is waited for
        self.load(model, role)

    def load(self, model: str, role: Role = DEFAULT) -> bool:
        """Have every replica open ``model``. Raises SolonError where the first to answer cannot."""
        self.model_name, self.role = model, role
        self._idle.clear()
        self._coming.clear()
        for replica in self._replicas:
            self._open(replica)
        try:
            self._await(())
        except BaseException:
            self.close()
            raise
        return True

    def run_blocks(self, records: Sequence[Record], size: int, make: Make[Record, T]) -> Iterator[T]:
        """Results come a block at a time, as blocks finish. ``make`` is pickled."""
        for _, results in self._run(make, records, size):
            yield from results

    def submit(self, request: Request) -> None:
        """Queue a request. Its id must not be in flight already (ValueError)."""
        if request.id in self._waiting:
            raise ValueError(f"request {request.id!r} is in flight already")
        self._waiting[request.id] = request

    def poll(self) -> list[Completion | SetAside]:
        """Complete every submitted request; [] when there is none.

        Whole chains are better given to ``run_blocks``.
        """
        requests, self._waiting = list(self._waiting.values()), {}
        return list(self._in_order(completions, requests, self._batch))

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        return self._in_order(scores, questions, QUESTIONS * self._batch)

    def forget(self) -> None:
        """Nothing to do: replicas begin every block with an empty cache."""

    def close(self) -> None:
        for replica in self._replicas:
            ray.kill(replica)
        self._replicas.clear()
        self._idle.clear()
        self._coming.clear()
        self._waiting.clear()

    def _in_order(self, make: Make[Record, T], asked: Sequence[Record], size: int) -> Iterator[T]:
        blocks = dict(self._run(make, asked, size))
        for start in sorted(blocks):
            yield from blocks[start]

    def _run(
        self, make: Make[Record, T], records: Sequence[Record], size: int
    ) -> Iterator[tuple[int, list[T]]]:
        """What comes of each block, with the place of its first record, as they finish."""
        waiting = deque(
            Task(start, list(records[start : start + size])) for start in range(0, len(records), size)
        )
        while self._idle:  # any of them may have been lost since it was last used
            self._open(self._idle.popleft())
        running: dict[Any, tuple[Any, Task]] = {}
        shared = ray.put(make)
        try:
            while waiting or running:
                while self._idle and waiting:
                    replica, task = self._idle.popleft(), waiting.popleft()
                    running[replica.run.remote(shared, task.block)] = replica, task
                if (done := self._await(running)) is None:
                    continue
                replica, task = running.pop(done)
                try:
                    results, usage = ray.get(done)
                except RayTaskError as error:
                    self._idle.append(replica)
                    raise error.cause from None
                except RayError as error:  # the replica is no more, or its machine
                    task.deaths += 1
                    if task.deaths == DEATHS:
                        raise SolonError(
                            f"{DEATHS} replicas of {self.model_name!r} have ended while they worked on the "
                            f"same records ({first_line(error)}): give replicas more memory, or make "
                            "engine.batch_size smaller"
                        ) from error
                    waiting.appendleft(task)
                    self._open(replica)
                else:
                    self._idle.append(replica)
                    self.usage.add(usage)
                    yield task.start, results
        finally:  # where the caller has had enough, replicas are still at work
            for replica, _ in running.values():
                self._open(replica)

    def _open(self, replica: Any) -> None:
        """Have the replica open the model, after what it does now; Ray asks one that it starts anew again."""
        opening = replica.open.options(max_task_retries=-1).remote(self.model_name, self.role)
        self._coming[opening] = replica

    def _await(self, running: Iterable[Any]) -> Any | None:
        """Wait for one of the ``running`` tasks, and return it, or for a replica to become idle."""
        watched = [*running, *self._coming]
        done, _ = ray.wait(watched, timeout=None if running else PATIENCE)
        while not done:
            LOG.warning(
                "no replica of %s has started yet: each takes %s, and the Ray cluster has %s",
                self.model_name,
                described(self._resources),
                described(ray.cluster_resources()),
            )
            done, _ = ray.wait(watched)
        [first] = done
        if (replica := self._coming.pop(first, None)) is None:
            return first
        try:
            ray.get(first)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise SolonError(
                f"Ray could not start a replica of {self.model_name!r} ({first_line(error)}): see Ray's logs"
            ) from error
        self._idle.append(replica)
        return None


def completions(engine: Engine, requests: list[Request]) -> Iterator[Completion | SetAside]:
    return engine.each(requests)


def scores(engine: Engine, questions: list[Question]) -> Iterator[ChoiceScores | SetAside]:
    return engine.choice_logprobs(questions)


def connect() -> None:
    """To the Ray cluster. Raises SolonError where it cannot be reached."""
    if ray.is_initialized():
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SolonError(
            f"the Ray cluster cannot be reached: {first_line(error)}; check RAY_ADDRESS, or unset it to use "
            "this machine alone"
        ) from error


def there(scale: Scale, function: Callable[..., T], settings: EngineSettings, *more: Any) -> T:
    """What the function returns where a replica would be."""
    connect()
    task = ray.remote(function).options(**resources("", settings, scale))
    try:
        result: T = ray.get(task.remote(settings, *more))
    except RayTaskError as error:
        raise error.cause from None
    return result


def resources(model: str, settings: EngineSettings, scale: Scale) -> dict[str, float]:
    """What Ray sets aside for a replica."""
    gpus = scale.gpus
    if gpus is None:
        here = torch.cuda.is_available() if settings.device == "auto" else settings.device[:4] == "cuda"
        sharing = settings.vllm.tensor_parallel_size if settings.kind == "vllm" else 1
        gpus = 0 if on_server(model) or not here else sharing
    return {"num_cpus": scale.cpus, "num_gpus": gpus}


def described(resources: Mapping[str, float]) -> str:
    """Both in Ray's names for what a replica takes and for what a cluster has."""
    cpus, gpus = (resources.get(f"num_{name}s", resources.get(name.upper(), 0)) for name in ("cpu", "gpu"))
    return f"{cpus:g} CPUs and {gpus:g} GPUs"
