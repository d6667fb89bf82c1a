"""Replicas on a Ray cluster of several nodes: the same bytes as on one machine, also where a node is lost."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from slow import SLOW
from solon import constitution
from solon.config import Critique, EngineSettings, Scale
from solon.errors import SolonError
from solon.inference import blocks, open_engine
from solon.inference.engine import Engine
from solon.stages import critique
from solon.store.record_file import RecordFile
from toy_training import prompt_records

SETTINGS = EngineSettings(dtype="float32", device="cpu", batch_size=4)
SCALE = Scale(engine="ray", replicas=2)
PROMPTS = prompt_records(64)
REVISE = partial(
    critique.revise,
    constitution=constitution.load("harmless"),
    settings=Critique(rounds=1, max_tokens=16, attempts=1),
    seed=5,
)


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setitem(sys.modules, "solon.inference.ray_engine", None)
    monkeypatch.delattr("solon.inference.ray_engine", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == "ray" or "ray_engine" in name]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SolonError, match=r"pip install solon\[ray\]"):
        open_engine(str(tiny_model), SETTINGS, SCALE)


class Hidden:
    """Finds no ray, though it may be there."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs no replica, and two nodes with a core each: separate raylets."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install solon[ray])")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: Any, tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), SETTINGS, SCALE) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The record file of one engine in this process, with the one thread that a replica has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with open_engine(str(tiny_model), SETTINGS) as alone:
            return written(tmp_path_factory.mktemp("alone"), alone, lambda done, _: None)
    finally:
        torch.set_num_threads(threads)


def written(folder: Path, engine: Engine, progress: Callable[[int, int], None]) -> bytes:
    file = RecordFile(folder / "revisions.jsonl")
    blocks.generate(file, PROMPTS, engine.model_name, SETTINGS, lambda: engine, REVISE, progress)
    return file.path.read_bytes()


@SLOW
def test_a_models_error_comes_as_it_is(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match=str(tmp_path)):
        open_engine(str(tmp_path), SETTINGS, SCALE)


def test_bytes_are_those_of_one_engine(engine: Engine, expected: bytes, tmp_path: Path) -> None:
    seen: list[int] = []
    assert written(tmp_path, engine, lambda done, _: seen.append(done)) == expected
    assert seen == list(range(len(PROMPTS) + 1))
    assert engine.usage.requests == 3 * len(PROMPTS)


@SLOW
def test_the_callers_end_leaves_the_replicas_in_order(
    engine: Engine, expected: bytes, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 20:
            raise Enough

    with pytest.raises(Enough):
        written(tmp_path, engine, stop)
    assert len(RecordFile(tmp_path / "revisions.jsonl").ids()) == 20
    assert written(tmp_path, engine, lambda *_: None) == expected


@SLOW
def test_a_lost_node_loses_nothing(cluster: Any, engine: Engine, expected: bytes, tmp_path: Path) -> None:
    import ray

    def place(engine: Engine, block: Sequence[int]) -> list[str]:
        time.sleep(0.2)  # so that no replica does all of them
        return [ray.get_runtime_context().get_node_id()]

    def lose(done: int, _: int) -> None:
        if done >= len(PROMPTS) // 4 and victim in cluster.worker_nodes:
            cluster.remove_node(victim, allow_graceful=False)

    used = set(engine.run_blocks(range(8), 1, place))
    assert len(used) == 2
    victim = next(node for node in cluster.worker_nodes if node.node_id in used)
    assert written(tmp_path, engine, lose) == expected
    assert set(engine.run_blocks(range(4), 1, place)) == used - {victim.node_id}
    # A machine that joins gets the replica that was on the lost one.
    joined = cluster.add_node(num_cpus=1)
    deadline = time.monotonic() + 60
    while joined.node_id not in engine.run_blocks(range(4), 1, place):
        assert time.monotonic() < deadline


def test_records_that_end_their_replicas_are_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solon.inference.ray_engine.DEATHS", 1)
    with pytest.raises(SolonError, match=r"1 replicas of .* the same records"):
        list(engine.run_blocks([0], 1, lambda *_: os._exit(1)))
