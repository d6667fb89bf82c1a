"""Data files that must be refused: prompts, comparisons, and what models are measured on."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from refusals import Case, case, named, place, refused

GOOD = '{"prompt": "Tea?"}\n'


def row(**columns: Any) -> str:
    return json.dumps(columns) + "\n"


def parquet(**columns: list[Any]) -> Callable[[Path], None]:
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)


def cut_parquet(path: Path) -> None:
    parquet(prompt=["Tea?"] * 100)(path)
    path.write_bytes(path.read_bytes()[:-20])


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "Tea?"} for role in roles]


PROMPTS = [
    # JSON Lines
    case("empty.jsonl", "", "holds no rows", "add some"),
    case("blank.jsonl", "\n \n\n", "holds no rows", "add some"),
    case("no-json.jsonl", GOOD + "Tea?\n", "line 2: not valid JSON", "mend it there"),
    case("cut-off.jsonl", GOOD + '{"prompt": "Te', "line 2: not valid JSON", "mend it there"),
    case("single-quotes.jsonl", "{'prompt': 'Tea?'}\n", "line 1: not valid JSON", "mend it there"),
    case("two-on-a-line.jsonl", '{"prompt": "a"} {"prompt": "b"}\n', "line 1: not valid JSON: Extra data", "mend"),
    case("a-list.jsonl", '["Tea?"]\n', "line 1: expected an object", "mend it"),
    case("a-text.jsonl", '"Tea?"\n', "line 1: expected an object", "mend it"),
    case("a-number.jsonl", GOOD * 2 + "3\n", "line 3: expected an object", "mend it"),
    case("null.jsonl", "null\n", "line 1: expected an object", "mend it"),
    case("too-deep.jsonl", '{"prompt": ' + "[" * 100_000 + "\n", "line 1: it is nested too deep", "write it flat"),
    case("too-long-a-number.jsonl", '{"prompt": ' + "1" * 10_000 + "}\n", "line 1: it is nested", "as text"),
    case("bad-utf8.jsonl", GOOD.encode() + b'{"prompt": "caf\xe9"}\n', "line 2: not UTF-8 text", "save the file as"),
    case("utf16.jsonl", GOOD.encode("utf-16"), "line 1: not UTF-8 text", "save the file as UTF-8"),
    case("nul.jsonl", b'{"prompt": "a\0b"}\n', "line 1: not valid JSON", "mend it there"),
    case("escaped-nul.jsonl", row(prompt="a\0b"), "line 1: prompt holds a NUL", "remove it"),
    case("half-a-character.jsonl", '{"prompt": "\\ud800"}\n', "line 1: prompt holds half a character", "write it again"),
    case("no-column.jsonl", row(ask="Tea?"), "line 1: the prompt is missing among the columns ask", "name its column"),
    case("no-columns.jsonl", "{}\n", "line 1: the prompt is missing among the columns (none)", "name its column"),
    case("repeated-column.jsonl", '{"prompt": "a", "prompt": "b"}\n', "line 1: 'prompt' is given a second time", "remove one"),
    case("other-columns-later.jsonl", GOOD + row(ask="b"), "line 2: the prompt is missing", "name its column"),
    case("null-prompt.jsonl", row(prompt=None), "line 1: prompt is empty", "write it or remove the row"),
    case("empty-prompt.jsonl", GOOD + row(prompt="  "), "line 2: prompt is empty", "write it or remove the row"),
    case("number-prompt.jsonl", row(prompt=3), "line 1: prompt is 3, not text", "write it as text"),
    case("true-prompt.jsonl", row(prompt=True), "line 1: prompt is True, not text", "write it as text"),
    case("object-prompt.jsonl", row(prompt={"a": 1}), "line 1: prompt is {'a': 1}, not text", "write it as text"),
    case("nan-prompt.jsonl", '{"prompt": NaN}\n', "line 1: prompt is empty", "write it"),
    case("no-turns.jsonl", row(messages=[]), "line 1: messages is an empty list", "write it or remove the row"),
    case("text-turns.jsonl", row(messages=["Tea?"]), "line 1: messages[0] is 'Tea?'", "give an object with role"),
    case("unknown-role.jsonl", row(messages=turns("narrator")), "messages[0] has the role 'narrator'", "use one of"),
    case("no-role.jsonl", row(messages=[{"content": "a"}]), "messages[0] has the role None", "use one of"),
    case("list-role.jsonl", row(messages=[{"role": ["user"], "content": "a"}]), "has the role ['user']", "use one of"),
    case("no-content.jsonl", row(messages=[{"role": "user"}]), "messages[0].content is empty", "write it"),
    case("parts.jsonl", row(messages=[{"role": "user", "content": [{"type": "image"}]}]), "of the type 'image'", "remove it"),
    case("only-assistant.jsonl", row(messages=turns("assistant")), "messages has no user turn to answer", "end it"),
    case("only-system.jsonl", row(messages=turns("system")), "messages has no user turn to answer", "end it with one"),
    case("system-last.jsonl", row(messages=turns("user", "system")), "messages[1] is a system turn", "put it first"),
    case("two-users.jsonl", row(messages=turns("user", "user")), "messages[1] is a second user turn in a row", "join the two"),
    case("late-system.jsonl", row(messages=turns("user", "assistant", "system", "user")), "messages[2] is a system turn", "put it first"),
    case("assistant-first.jsonl", row(messages=turns("assistant", "user")), "messages begins with an assistant turn", "put a user turn before it"),
    case("text-messages.jsonl", row(messages="Tea?"), "line 1: messages: not valid JSON", "mend it there"),
    case("blank-turn.jsonl", row(prompt="\n\nHuman: \n\nAssistant: b\n\nHuman: c"), "prompt is empty", "write it"),
    case("no-human.jsonl", row(chosen="Gladly."), "line 1: chosen has no user turn", "end it with one"),
    # JSON
    case("empty.json", "", "holds no rows", "add some"),
    case("object.json", '{"prompt": "Tea?"}', "line 1: expected a list of objects", "put it in [ ]"),
    case("lines.json", GOOD * 2, "line 2: not valid JSON: Extra data", "name a file of one object a line .jsonl"),
    case("list-of-text.json", '["Tea?"]', "item 1: expected an object", "mend it"),
    case("cut-off.json", '[{"prompt": "Tea?"},\n', "line 2: not valid JSON", "mend it there"),
    case("too-deep.json", "[" * 100_000, "nested too deep", "write it flat"),
    case("no-rows.json", "[]", "holds no rows", "add some"),
    # gzip
    case("plain.jsonl.gz", GOOD, "cannot be read: Not a gzipped file", "write the file anew"),
    case("cut-off.jsonl.gz", gzip.compress((GOOD * 500).encode())[:-9], "cannot be read", "write the file anew"),
    case("damaged.jsonl.gz", gzip.compress(GOOD.encode())[:-8] + bytes(8), "cannot be read", "write the file anew"),
    case("empty.jsonl.gz", gzip.compress(b""), "holds no rows", "add some"),
    case("bomb.jsonl.gz", gzip.compress(gzip.compress(b"a" * 10_000)), "line 1: not UTF-8 text", "save the file"),
    # CSV
    case("empty.csv", "", "holds no rows", "add some"),
    case("header.csv", "prompt,kind\n", "holds no rows", "add some"),
    case("no-column.csv", "ask,kind\nTea?,a\n", "line 2: the prompt is missing among the columns ask, kind", "name its"),
    case("more-cells.csv", "prompt\nTea, or coffee?\n", "line 2: has 2 cells where line 1 has 1", "quote commas"),
    case("fewer-cells.csv", "prompt,kind\na,b\nTea?\n", "line 3: has 1 cells where line 1 has 2", "quote commas"),
    case("open-quote.csv", 'prompt\n"Tea?\n', "line 2: not valid CSV", "mend it there"),
    case("stray-quote.csv", 'prompt\n"Tea" or coffee?\n', "line 2: not valid CSV", "mend it there"),
    case("empty-cell.csv", "prompt,kind\n,a\n", "line 2: prompt is empty", "write it or remove the row"),
    case("nan.csv", "prompt,kind\nnan,a\n", "line 2: prompt is empty", "write it or remove the row"),
    case("semicolons.csv", "prompt;kind\nTea?;a\n", "the prompt is missing among the columns prompt;kind", "name its"),
    case("repeated-column.csv", "prompt,prompt\na,b\n", "line 1: the column 'prompt' is given twice", "rename one"),
    case("nul.csv", b"prompt\na\0b\n", "line 2: prompt holds a NUL", "remove it"),
    case("bad-utf8.csv", b"prompt\ncaf\xe9\n", "line 2: not UTF-8 text", "save the file as UTF-8"),
    case("binary.csv", bytes(range(1, 256)), "not UTF-8 text", "save the file as UTF-8"),
    case("half-messages.csv", "messages\n\"[{'role': 'user'}]\"\n", "line 2: messages[0].content is empty", "write it"),
    # Parquet
    case("no-parquet.parquet", GOOD * 10, "cannot be read as Parquet", "write it anew"),
    case("empty.parquet", "", "cannot be read as Parquet", "write it anew"),
    case("cut-off.parquet", cut_parquet, "cannot be read as Parquet", "write it anew"),
    case("no-rows.parquet", parquet(prompt=[]), "holds no rows", "add some"),
    case("no-column.parquet", parquet(ask=["a"]), "row 1: the prompt is missing among the columns ask", "name its"),
    case("numbers.parquet", parquet(prompt=[1, 2]), "row 1: prompt is 1, not text", "write it as text"),
    case("null.parquet", parquet(prompt=["a", None]), "row 2: prompt is empty", "write it or remove the row"),
    case("bytes.parquet", parquet(prompt=[b"a"]), "row 1: prompt is b'a', not text", "write it as text"),
    # no such file
    case("folder.jsonl", Path.mkdir, "is not a file", "check the path"),
    case("missing.jsonl", lambda _: None, "does not exist", "check the path"),
    case("prompts.txt", "Tea?\n", "unknown kind of source", "give 'datasets:NAME' or a .jsonl"),
    case("prompts.JSONL", GOOD, "unknown kind of source", "give 'datasets:NAME' or a .jsonl"),
]  # fmt: skip


@named(PROMPTS)
def test_prompts_are_refused(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(broken.content, tmp_path / broken.name)
    out = tmp_path / "out" / "revisions.jsonl"
    refused(capsys, tmp_path, (f"{path}", *broken.says), "critique", path, out, "--model", tiny_model)


ANSWERS = {"chosen": "Gladly.", "rejected": "No."}

COMPARISONS = [
    case("no-chosen", row(prompt="Tea?", rejected="No."), "line 1: chosen is missing", "add it"),
    case("no-rejected", row(prompt="Tea?", chosen="Yes."), "line 1: rejected is missing", "add it"),
    case("no-prompt", row(**ANSWERS), "chosen and rejected have no prompt", "add it in the column prompt"),
    case("apart", row(chosen="\n\nHuman: a\n\nAssistant: b", rejected="\n\nHuman: c\n\nAssistant: d"),
         "chosen and rejected begin differently", "begin both with the same user turn"),
    case("probability", row(prompt="Tea?", **ANSWERS, probability=2), "probability is 2", "from 0 to 1"),
    case("probability-text", row(prompt="Tea?", **ANSWERS, probability="sure"), "probability is 'sure'", "from 0 to 1"),
    case("probability-list", row(prompt="Tea?", **ANSWERS, probability=[1]), "probability is [1]", "from 0 to 1"),
    case("all-equal", row(prompt="Tea?", chosen="a", rejected="a"), "no row has two different answers", "name a source"),
    case("all-blank", row(prompt="Tea?", chosen="", rejected="a"), "no row has two different answers", "name a source"),
    case("number", row(prompt="Tea?", chosen=1, rejected="a"), "chosen is 1, not text", "write it as text"),
    case("null", row(prompt="Tea?", chosen=None, rejected="a"), "chosen is empty", "write it"),
    case("user-answer", row(prompt="Tea?", chosen=turns("user"), rejected=turns("assistant")), "begin differently",
         "begin both"),
    case("ends-with-user", row(prompt="Tea?", chosen=turns("assistant", "user"), rejected="a"), "chosen is not an answer",
         "begin and end it with an assistant turn"),
    case("empty", "", "holds no rows", "add some"),
]  # fmt: skip


@named(COMPARISONS)
def test_comparisons_are_refused_before_the_run_begins(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(broken.content, tmp_path / "helpful.jsonl")
    settings = {"models": {"assistant": str(tiny_model)}, "preference_model": {"helpfulness": str(path)}}
    config = place(json.dumps(settings), tmp_path / "config.yaml")
    refused(capsys, tmp_path, (f"{path}", *broken.says), "run", config)


def table(*rows: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


MEASURED = [
    ("evasiveness", "x.csv", table({"answer": "a"}), "line 2: no column 'completion'", "add it"),
    ("evasiveness", "x.csv", table({"completion": "a", "final_label": "maybe"}), "final_label is 'maybe'", "write one"),
    ("hhh", "x.jsonl", row(text_correct="a"), "line 1: text_incorrect is missing", "add it"),
    ("hhh", "x.jsonl", row(text_correct="\n\nHuman: a", text_incorrect="\n\nHuman: a"), "text_correct", "write"),
    ("preferences", "x.jsonl", row(answer="a"), "neither chosen nor response1", "give chosen and rejected"),
    ("preferences", "x.jsonl", row(instruction="a", response1="b", response2="c", annotator1=3), "annotator1 is 3",
     "write 1, 2, or 0"),
    ("harm", "x.jsonl", row(prompt="a", corrects=[" (A)"]), "prompt does not end in options", "end it with lines"),
    ("harm", "x.jsonl", row(prompt="a\n (A) b\n (B) c\nThe answer is:", corrects=["C"]), "corrects is ['C']", "letters"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "name", "content", "says", "mend"), MEASURED, ids=[f"{m[0]}: {m[3]}" for m in MEASURED]
)
def test_what_models_are_measured_on_is_refused(
    what: str,
    name: str,
    content: str,
    says: str,
    mend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_model: Path,
) -> None:
    path = place(content, tmp_path / name)
    model = [] if what == "evasiveness" else [tiny_model]
    refused(capsys, tmp_path, (f"{path}", says, mend), "eval", what, *model, "--data", path)
