"""The server in ``openai_server.py`` as a fixture, for test modules that name this one in ``pytest_plugins``.

It is not in ``conftest.py``, whose text the tiny model's tokenizer is trained on.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def address(tiny_model: Path) -> Iterator[str]:
    """Of the server, a process of its own."""
    command = [sys.executable, str(Path(__file__).parent / "openai_server.py"), str(tiny_model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.terminate()
    process.wait()
    process.stdout.close()
