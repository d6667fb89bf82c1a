"""One process at a time works in a run folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from solon.errors import SolonError
from solon.store.files import write_atomically
from solon.store.manifest import now


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. It is gone when the process is, however that ends.

    Raises SolonError, naming its owner, where another has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SolonError(
            f"{folder} is not a folder and cannot be made one ({error.strerror}); give another with --dir"
        ) from None
    # Who owns the lock is beside it: some systems let nobody read a locked file.
    file, owner = folder / "running.lock", folder / "running.json"
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise SolonError(refusal(folder, file, owner)) from None
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        write_atomically(owner, json.dumps(me) + "\n")
        yield
    finally:
        # While the lock is held: a newcomer must not find it in a file that is about to go.
        for each in (owner, file):
            with suppress(OSError):
                each.unlink()
        lock.release()


def refusal(folder: Path, file: Path, owner: Path) -> str:
    try:
        holder = json.loads(owner.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']} has worked in it since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or is about to end
        who = "another process works in it"
    return (
        f"{folder} is in use: {who}. Wait for it or stop it; if it is dead and you still read this, "
        f"delete {file} and try again"
    )
