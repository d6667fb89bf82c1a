"""Two processes and one run folder: one works, the other is told who does, and a dead owner owns nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from solon import pipeline
from solon.config import Config
from solon.errors import SolonError
from solon.store.lock import alone_in

OWNER = """
import sys, time
from pathlib import Path
from solon.store.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_told_who_the_first_is(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(SolonError) as refused, alone_in(tmp_path):
        pass
    said = str(refused.value)
    assert f"{tmp_path} is in use: process {owner.pid} on {socket.gethostname()}" in said
    assert "since 20" in said
    assert f"delete {tmp_path / 'running.lock'}" in said
    assert owner.poll() is None
    with pytest.raises(SolonError, match=f"process {owner.pid}"), alone_in(tmp_path):
        pass  # being refused took nothing from the owner


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_owner_that_is_gone_owns_nothing(
    owner: subprocess.Popen[str], tmp_path: Path, end: signal.Signals
) -> None:
    owner.send_signal(end)
    owner.wait()
    with alone_in(tmp_path):
        assert str(os.getpid()) in (tmp_path / "running.json").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_refused_before_it_changes_anything(
    owner: subprocess.Popen[str], tiny_model: Path, tmp_path: Path
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(SolonError, match=f"process {owner.pid}"):
        pipeline.run(Config.model_validate({"models": {"assistant": str(tiny_model)}}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_lock_goes_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
