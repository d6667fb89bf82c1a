"""Feeds mutated files to the readers of constitutions, configurations, records and tables.

    python tests/fuzz/readers.py --seconds 300 [--seed 1]

It needs no library. Whole, valid files are cut, spliced, repeated and sprinkled with what readers stumble
over; a reader may give its result or raise SolonError, and nothing else, within ten seconds. What makes it do
otherwise is kept in a file whose name is printed, and the exit status is 1. Not a part of the test suite.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from solon import config, constitution
from solon.errors import SolonError
from solon.records import KINDS
from solon.sources import data, paper_files
from solon.store.record_file import RecordFile

SLOW = 10  # seconds

# What parsers treat in a way of its own.
PIECES = [
    b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b"\t", b" ", b"\x85", b"\xe2\x80\xa8", b"\x1b",
    b"\\ud800", b"\\u0000", b"\"", b"'", b"\\", b"[", b"]", b"{", b"}", b":", b": ", b",", b"- ", b"? ", b"|", b">",
    b"&a ", b"*a", b"<<: *a\n", b"!!int ", b"!!bool ", b"!!timestamp ", b"!!binary ", b"!!set ", b"!!float ",
    b"!!python/object/apply:os.system [id]", b"!!omap ", b"!!pairs ", b"!x ", b"%YAML 1.1\n", b"---\n", b"...\n",
    b"#", b"null", b"~", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"2026-13-45", b"0x", b"0b", b"1:60:61", b".",
    b"_", b"0o9", b"=", b"true", b"\n\nHuman:", b"\n\nAssistant:", b"\n\nH:", b"CritiqueRequest:", b"[[[", b"]]]",
    b"[" * 3000, b'{"a":' * 3000, b'"id": 3,', b'"id": "a",', b'"role": "system",', b'"content": null,', b"~nobody/",
]  # fmt: skip

TURNS = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Gladly."}]
PAIR = {
    "id": "a", "prompt": TURNS[:1], "set": "red-team", "kind": "", "split": "train", "responses": ["a", "b"],
    "problem": "",
}  # fmt: skip
VOTE = {
    "principle": "p",
    "instruction": "i",
    "probability": 0.5,
    "orders": [0.5],
    "reasoning": [],
    "samples": None,
}
LABEL = {
    "id": "b", "prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:], "probability": 0.5, "kind": "",
    "aspect": "harmlessness", "split": "train", "label_source": "ai", "labeller": "smollm2", "votes": [VOTE],
}  # fmt: skip
ROWS = [{"messages": TURNS}, {"prompt": "a", "chosen": "b", "rejected": "c", "probability": 0.7}]
TEXT = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
PAPER = {
    "a": {"prompt": ["CritiqueRequest: b\n\nCritique:"], "edit_request": "RevisionRequest: c\n\nRevision:"}
}
RANKED = [{"prompt": "Human: a\n\nAssistant:", "corrects": ["b"], "incorrects": ["c"]}]


def lines(*records: object) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in records).encode()


def records(path: Path, kind: str) -> None:
    """Read them; and recover the file, which must change no whole line."""
    before = path.read_bytes()
    file = RecordFile(path, KINDS[kind])
    read = list(file)
    file.recover()
    after = path.read_bytes()
    assert before.startswith(after) or after == before + b"\n", "recovering changed a record"
    assert list(map(json.dumps, file)) == list(map(json.dumps, read)), "recovering changed what is read"


def prompts(path: Path) -> None:
    data.prompts(str(path), "red-team")


def comparisons(path: Path) -> None:
    data.comparisons(str(path), 0.1)


def rewritten(path: Path) -> None:
    """A constitution that can be read can be written, and is then read as the same."""
    one = constitution.load(str(path))
    path.write_text(one.to_yaml(), encoding="utf-8")
    assert constitution.load(str(path)) == one, "written as another constitution"


def targets() -> list[tuple[str, Callable[[Path], object], list[bytes]]]:
    """The name of the file, its reader, and valid contents to start from."""
    packaged = [constitution.load(name).to_yaml().encode()[:6000] for name in constitution.packaged()]
    law = (
        "name: a\ncomparison:\n- {name: b, instruction: c}\nexamples: {comparison: [{dialogue: [{role: user,"
    )
    law += " content: d}], better: e, worse: f}]}\n"
    folder = Path(config.__file__).parent / "configs"
    settings = [path.read_bytes() for path in folder.glob("*.yaml")]
    small = [
        b"seed: 1\ncritique: {rounds: 2, few_shot: true}\nfeedback: {clamp: [0.4, 0.6], principles: all}\n"
    ]
    table = b'prompt,chosen,rejected\n"a, b","c\nd",e\n'
    return [
        ("mine.yaml", rewritten, [law.encode(), *packaged]),
        ("config.yaml", config.load, settings + small),
        ("pairs.jsonl", lambda path: records(path, "pairs"), [lines(PAIR, {**PAIR, "id": "c"})]),
        (
            "preferences.jsonl",
            lambda path: records(path, "preferences"),
            [lines(LABEL, {**LABEL, "id": "c"})],
        ),
        ("prompts.jsonl", prompts, [lines(*ROWS, {"prompt": TEXT})]),
        ("prompts.json", prompts, [json.dumps(ROWS).encode()]),
        ("prompts.csv", prompts, [table, b"messages\n" + json.dumps(json.dumps(TURNS)).encode()]),
        (
            "comparisons.jsonl",
            comparisons,
            [lines(ROWS[1], {"chosen": TEXT + " x", "rejected": TEXT + " y"})],
        ),
        ("comparisons.csv", comparisons, [table]),
        (
            "paper.json",
            paper_files.read,
            [json.dumps(each).encode() for each in (PAPER, RANKED, ["a Options:"])],
        ),
    ]


def mutated(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 6)):
        at, to = sorted(draw.randint(0, len(content)) for _ in range(2))
        to = min(to, at + draw.choice([1, 4, 64, 10_000]))
        content = draw.choice(
            [
                content[:at] + draw.choice(PIECES) + content[at:],
                content[:at] + draw.choice(PIECES) + content[to:],
                content[:at] + content[to:],
                content[:at] + content[at:to] * draw.choice([2, 2, 50]) + content[to:],
                content[:at] + draw.randbytes(draw.randint(1, 4)) + content[to:],
                content[:to],
            ]
        )[:200_000]
    return content


def too_slow(*_: object) -> None:
    raise TimeoutError(f"it took more than {SLOW} s")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    draw, end = random.Random(asked.seed), time.monotonic() + asked.seconds
    tried, refused = Counter[str](), Counter[str]()
    signal.signal(signal.SIGALRM, too_slow)
    found, everything = 0, targets()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            name, read, valid = draw.choice(everything)
            content = mutated(draw.choice(valid), draw)
            path = Path(folder) / name
            path.write_bytes(content)
            tried[name] += 1
            signal.alarm(SLOW)
            try:
                read(path)
            except SolonError as error:
                refused[name] += 1
                assert str(error).strip(), "an empty message"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    break
                found += 1
                kept = Path(tempfile.gettempdir()) / f"solon-fuzz-{asked.seed}-{found}-{name}"
                kept.write_bytes(content)
                traceback.print_exc(limit=-4)
                print(f"{type(error).__name__}: {kept}", file=sys.stderr)
            finally:
                signal.alarm(0)
    for name, count in sorted(tried.items()):
        print(f"{name}: {count} files, {refused[name]} refused")
    print(f"{sum(tried.values())} files in all, {found} that make a reader fail")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
