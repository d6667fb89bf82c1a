"""The lock file is the pins, with hashes, and tells nothing of the machine that made it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def test_the_lock_has_every_pin_but_torch_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = pins((ROOT / "constraints.txt").read_text())
    assert pinned.pop("torch")  # a build for every accelerator: whoever installs it chooses one
    assert pins(lock) == pinned, "run 'make requirements.lock'"
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)) >= 1, entry.split()[0]
    assert not re.search(r"://|index-url|find-links|^/", lock, re.MULTILINE)
