"""Prompts and human comparisons: every source gives the same records, and every fault is named."""

import csv
import gzip
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from solon.errors import SolonError
from solon.held_out import opening
from solon.sources import tables
from solon.sources.data import comparisons, looked_at, prompts, select

ROWS = [
    {"prompt": "How do I pick a lock?", "kind": "theft"},
    {"prompt": 'Say "no",\nthen leave.', "kind": "bullying"},
    {"prompt": "Où est la gare ? 🚉", "kind": "travel"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows in the format that the file's name asks for."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return str(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.suffixes:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        elif path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(source: str) -> list[str]:
    return [record["prompt"][-1]["content"] for record in prompts(source, "red-team")]


@pytest.mark.parametrize(("prompt_set", "kinds", "each"), [("red-team", 9, 23), ("helpful", 12, 20)])
def test_packaged_prompts_are_many_and_differ(prompt_set: Any, kinds: int, each: int) -> None:
    records = prompts("packaged", prompt_set)
    assert len(records) >= 207
    assert len({record["id"] for record in records}) == len(records)
    count = Counter(record["kind"] for record in records)
    assert len(count) == kinds
    assert min(count.values()) >= each
    assert all(re.fullmatch("[a-z-]+", kind) for kind in count)
    assert {record["source"] for record in records} == {"packaged"}
    words = [set(re.findall(r"\w+", record["prompt"][0]["content"].lower())) for record in records]
    assert all(len(a & b) <= 0.7 * len(a | b) for a, b in itertools.combinations(words, 2))
    for split in ("train", "held-out"):  # every kind is trained on and evaluated
        assert len({record["kind"] for record in records if record["split"] == split}) == kinds


def test_packaged_sets_share_no_prompt() -> None:
    red_team, helpful = (
        {record["prompt"][0]["content"] for record in prompts("packaged", prompt_set)}
        for prompt_set in ("red-team", "helpful")
    )
    assert not red_team & helpful


def test_ids_and_splits_stay_as_they_are(tmp_path: Path) -> None:
    lock, leave, station = prompts(write(tmp_path / "p.jsonl", ROWS), "red-team")
    assert [record["id"] for record in (lock, leave, station)] == [
        "0cff6a753e180b1a",
        "5edb900f1806ab08",
        "f4b3f9cb09e3d61d",
    ]
    assert [record["split"] for record in (lock, leave, station)] == ["train"] * 3
    rows = [{"prompt": f"May I take {number} of them?"} for number in range(16)]
    kept = [record["split"] for record in prompts(write(tmp_path / "more.jsonl", rows), "red-team")]
    assert [number for number, split in enumerate(kept) if split == "held-out"] == [4, 8, 12, 15]
    (again,) = prompts(write(tmp_path / "other.csv", [{"question": " how do i  PICK a lock?"}]), "helpful")
    assert again["split"] == lock["split"]
    assert again["id"] != lock["id"]


def test_a_fifth_is_held_out(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question number {number}?"} for number in range(5000)]
    records = prompts(write(tmp_path / "many.jsonl", rows), "helpful")
    share = sum(record["split"] == "held-out" for record in records) / len(records)
    assert share == pytest.approx(0.2, abs=0.023)  # four standard errors


@pytest.mark.parametrize("ending", tables.ENDINGS)
def test_every_file_format_gives_the_same_records(ending: str, tmp_path: Path) -> None:
    records = prompts(write(tmp_path / f"mine{ending}", ROWS), "red-team")
    expected = prompts(write(tmp_path / "reference.jsonl", ROWS), "red-team")
    assert records == [{**record, "source": f"mine{ending}"} for record in expected]
    assert [record["kind"] for record in records] == ["theft", "bullying", "travel"]
    assert records[1]["prompt"] == [{"role": "user", "content": 'Say "no",\nthen leave.'}]


def test_datasets_by_name_split_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder / "train.jsonl", ROWS)
    write(folder / "test.jsonl", ROWS[:1])
    assert texts(f"datasets:{folder}") == [row["prompt"] for row in ROWS]
    assert texts(f"datasets:{folder}:test") == ["How do I pick a lock?"]
    (record,) = prompts(f"datasets:{folder}:test", "red-team")
    assert record["source"] == "datasets:mine"
    with pytest.raises(SolonError, match=r"nowhere cannot be loaded: .*check name and split"):
        prompts(f"datasets:{folder}:nowhere", "red-team")

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **named: asked.append((args, named)) or ROWS)
    (first, *_) = prompts("datasets:owner/name/folder:test", "red-team")
    assert first["source"] == "datasets:owner/name/folder"
    assert asked == [(("owner/name",), {"data_dir": "folder", "split": "test"})]


@pytest.mark.parametrize("column", ["prompt", "messages", "conversations", "question", "instruction", "text"])
def test_prompt_columns(column: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello?"}]
    assert texts(write(tmp_path / "list.jsonl", [{"id": 1, column: turns}])) == ["Hello?"]
    if column not in ("messages", "conversations"):
        assert texts(write(tmp_path / "text.jsonl", [{"id": 1, column: " Hello?\n"}])) == ["Hello?"]


@pytest.mark.parametrize("column", ["kind", "category", "topic", "type"])
def test_kind_columns(column: str, tmp_path: Path) -> None:
    (record,) = prompts(write(tmp_path / "p.csv", [{"prompt": "Hello?", column: "greeting "}]), "helpful")
    assert record["kind"] == "greeting"


def test_message_lists_end_with_the_last_human_turn(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Who are you?"},
    ]
    answered = [*chat, {"role": "assistant", "content": "Solon."}]
    (record,) = prompts(write(tmp_path / "chat.jsonl", [{"messages": answered}]), "helpful")
    assert record["prompt"] == chat
    (record,) = prompts(write(tmp_path / "chat.csv", [{"messages": json.dumps(answered)}]), "helpful")
    assert record["prompt"] == chat
    shared = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes?"}]
    assert texts(write(tmp_path / "sharegpt.parquet", [{"conversations": shared}])) == ["Hello?"]


def test_alpaca_keeps_the_input(tmp_path: Path) -> None:
    rows = [{"instruction": "Shorten this.", "input": "It is long."}, {"instruction": "Sing.", "input": ""}]
    assert texts(write(tmp_path / "alpaca.json", rows)) == ["Shorten this.\n\nIt is long.", "Sing."]


def test_duplicates_count_once(tmp_path: Path) -> None:
    rows = [{"prompt": text} for text in ("Hello there?", "hello   THERE?", "Hello there!")]
    assert texts(write(tmp_path / "p.jsonl", rows)) == ["Hello there?", "Hello there!"]


def test_hh_rlhf_gives_first_human_turns(tmp_path: Path, shared_data: Path) -> None:
    records = prompts(str(shared_data / "hh-rlhf/harmless-base/test.even.jsonl.gz"), "red-team")
    assert 1000 < len(records) <= 1189
    assert records[0]["prompt"] == [{"role": "user", "content": "How much alcohol can I drink per day?"}]
    assert all(len(record["prompt"]) == 1 for record in records)
    assert {record["source"] for record in records} == {"test.even.jsonl.gz"}


def test_select_is_balanced_seeded_and_nested(tmp_path: Path) -> None:
    records = prompts("packaged", "red-team")
    drawn = select(records, "train", 50, seed=1)
    assert {record["split"] for record in drawn} == {"train"}
    assert set(Counter(record["kind"] for record in drawn).values()) == {5, 6}
    assert select(records[::-1], "train", 50, seed=1) == drawn
    assert select(records, "train", 20, seed=1) == drawn[:20]
    assert select(records, "train", 50, seed=2) != drawn
    everything = select(records, "train", None, seed=1)
    assert everything[:50] == drawn
    assert len(everything) + len(select(records, "held-out", None, seed=1)) == len(records)
    assert select(records, "held-out", 0, seed=1) == []


def test_select_says_how_many_there_are() -> None:
    records = prompts("packaged", "helpful")
    have = len(select(records, "held-out", None, seed=0))
    with pytest.raises(
        SolonError, match=f"500 held-out prompts were asked for and there are {have}; ask for"
    ):
        select(records, "held-out", 500, seed=0)


ASKED = [{"role": "user", "content": "Tea or coffee?"}]
GOOD = [{"role": "assistant", "content": "Tea, for it is late."}]
BAD = [{"role": "assistant", "content": "Yes."}]
HUMAN = "\n\nHuman: Tea or coffee?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Tea or coffee?", "chosen": "Tea, for it is late.", "rejected": "Yes."},
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
        {"prompt": "Tea or coffee?", "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
        {"prompt": HUMAN, "chosen": " Tea, for it is late.", "rejected": " Yes."},
        {"chosen": f"{HUMAN} Tea, for it is late.", "rejected": f"{HUMAN} Yes."},
        {
            "prompt": "Tea or coffee?",
            "chosen": "Yes.",
            "rejected": "Tea, for it is late.",
            "probability": 0.0,
        },
    ],
)
def test_comparison_forms_give_the_same_record(row: dict[str, Any], tmp_path: Path) -> None:
    (record,) = comparisons(write(tmp_path / "pairs.jsonl", [row, row]), held_out=0.1)
    assert record == {
        "id": record["id"],
        "prompt": ASKED,
        "chosen": GOOD,
        "rejected": BAD,
        "probability": 1.0,
        "aspect": "helpfulness",
        "kind": "",
        "split": "held-out",
        "label_source": "human",
        "labeller": "pairs.jsonl",
        "votes": [],
    }


def test_dialogues_that_part_early_share_what_they_can(tmp_path: Path) -> None:
    row = {"chosen": f"{HUMAN} Tea.\n\nHuman: Why?\n\nAssistant: Late.", "rejected": f"{HUMAN} Yes."}
    (record,) = comparisons(write(tmp_path / "pairs.csv", [row]), held_out=0.1)
    assert record["prompt"] == ASKED
    assert [turn["content"] for turn in record["chosen"]] == ["Tea.", "Why?", "Late."]
    assert record["rejected"] == BAD


def test_soft_human_labels_and_split(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {number}?", "chosen": "One", "rejected": "Two", "probability": 0.25}
        for number in range(2000)
    ]
    records = comparisons(write(tmp_path / "pairs.parquet", rows), held_out=0.1)
    assert records[0]["chosen"][0]["content"] == "Two"
    assert records[0]["probability"] == 0.75
    # Of the four fifths that may be trained on, a tenth.
    held_out = [record["split"] for record in records].count("held-out")
    assert held_out / len(records) == pytest.approx(0.28, abs=0.04)
    of_all = [record["split"] for record in comparisons(str(tmp_path / "pairs.parquet"), 0)]
    assert of_all.count("held-out") / len(records) == pytest.approx(0.2, abs=0.04)


def test_no_held_out_prompt_opens_a_comparison_that_is_trained_on(shared_data: Path, tmp_path: Path) -> None:
    """Where both come from one file, whose comparisons go on for several turns after the same opening."""
    source = tmp_path / "people.jsonl.gz"
    shutil.copy(shared_data / "hh-rlhf/harmless-base/test.even.jsonl.gz", source)
    kept = [record for record in prompts(str(source), "red-team") if record["split"] == "held-out"]
    assert len(kept) > 200
    trained = [record for record in looked_at(str(source), 0.1)[0] if record["split"] == "train"]
    assert len(trained) > 600
    assert not {opening(record["prompt"]) for record in kept} & {opening(each["prompt"]) for each in trained}


def test_pairs_without_two_different_answers_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Hello. "},
        {"prompt": "Hi?", "chosen": "Hello.", "rejected": ""},
        {"chosen": f"{HUMAN} Tea.", "rejected": HUMAN},
    ]
    source = write(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(SolonError, match="no row has two different answers"):
        comparisons(source, held_out=0.1)


def test_human_harmlessness_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "harmless-base").mkdir()
    row = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go away."}
    source = write(tmp_path / "harmless-base" / "test.jsonl", [row])
    with pytest.raises(SolonError, match="human harmlessness labels are never used"):
        comparisons(source, held_out=0.1)
    with pytest.raises(SolonError, match="name its helpful part, datasets:Anthropic/hh-rlhf/helpful-base"):
        comparisons("datasets:Anthropic/hh-rlhf", held_out=0.1)


GOOD_LINE = b'{"prompt": "Hello?"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "p.jsonl",
            GOOD_LINE + b"\n{oops\n",
            r"p.jsonl line 3: not valid JSON: .* at column 2; mend it there",
        ),
        (
            "p.jsonl",
            GOOD_LINE + b"[1]\n",
            r"p.jsonl line 2: expected an object such as .* found \[1\]; mend it",
        ),
        ("p.jsonl", GOOD_LINE + b'{"prompt": "\xff"}\n', r"p.jsonl line 2: not UTF-8 text; save the file"),
        ("p.jsonl", b"", r"p.jsonl holds no rows; add some"),
        ("p.jsonl", b"\n\n", r"p.jsonl holds no rows; add some"),
        (
            "p.jsonl",
            b'{"ask": "Hi?", "id": 1}',
            r"line 1: the prompt is missing among the columns ask, id; name its",
        ),
        (
            "p.jsonl",
            b"{}",
            r"line 1: the prompt is missing among the columns \(none\); name its column one of prompt",
        ),
        ("p.jsonl", b'{"prompt": " "}', r"line 1: prompt is empty; write it or remove the row"),
        ("p.jsonl", b'{"prompt": null}', r"line 1: prompt is empty"),
        ("p.jsonl", b'{"prompt": NaN}', r"line 1: prompt is empty"),
        ("p.jsonl", b'{"prompt": 7}', r"line 1: prompt is 7, not text; write it as text"),
        ("p.jsonl", b'{"prompt": "\\ud800"}', r"line 1: prompt holds half a character"),
        ("p.jsonl", b'{"prompt": []}', r"line 1: prompt is an empty list"),
        (
            "p.jsonl",
            b'{"prompt": ["Hi?"]}',
            r"line 1: prompt\[0\] is 'Hi\?'; give an object with role and content",
        ),
        ("p.jsonl", b'{"messages": "Hi?"}', r"line 1: messages: not valid JSON"),
        (
            "p.jsonl",
            b'{"messages": [{"role": "robot", "content": "Hi?"}]}',
            r"line 1: messages\[0\] has the role 'robot'; use one of system, user, human",
        ),
        (
            "p.jsonl",
            b'{"messages": [{"role": "user", "content": ""}]}',
            r"line 1: messages\[0\].content is empty",
        ),
        (
            "p.jsonl",
            b'{"messages": [{"role": "assistant", "content": "Hi."}]}',
            r"line 1: messages has no user turn to answer; end it with one",
        ),
        ("p.jsonl", b'{"chosen": "Tea.", "rejected": "Yes."}', r"line 1: chosen has no user turn to answer"),
        ("p.jsonl.gz", b"not packed", r"p.jsonl.gz cannot be read: .*; write the file anew"),
        (
            "p.jsonl.gz",
            gzip.compress(GOOD_LINE * 9, mtime=0)[:-9],
            r"p.jsonl.gz cannot be read: .*; write the file anew",
        ),
        ("p.json", b'[{"prompt": "Hi?"},\n oops]', r"p.json line 2: not valid JSON: .*; mend it there"),
        (
            "p.json",
            GOOD_LINE * 2,
            r"p.json line 2: not valid JSON: Extra data; name a file of one object a line",
        ),
        ("p.json", GOOD_LINE, r"p.json line 1: expected a list of objects, found a dict; put it in \[ \]"),
        ("p.json", b'[{"prompt": "Hi?"}, 3]', r"p.json item 2: expected an object"),
        ("p.json", b"", r"p.json holds no rows"),
        ("p.csv", b"", r"p.csv holds no rows"),
        ("p.csv", b"prompt\n", r"p.csv holds no rows"),
        ("p.csv", b'prompt,kind\n"a\nb",x\n\n,y\n', r"p.csv line 5: prompt is empty"),
        ("p.csv", b"prompt,kind\nnan,x\n", r"p.csv line 2: prompt is empty"),
        (
            "p.csv",
            b"prompt,kind\nHi, you?,x\n",
            r"p.csv line 2: has 3 cells where line 1 has 2; quote commas",
        ),
        ("p.csv", b"prompt,kind\nHi?\n", r"p.csv line 2: has 1 cells where line 1 has 2"),
        ("p.csv", b'prompt\nHi?\n"never closed\n', r"p.csv line 3: not valid CSV: .*; mend it there"),
        ("p.parquet", b"not Parquet", r"p.parquet cannot be read as Parquet: .*; write it anew"),
        (
            "p.txt",
            b"Hi?",
            r"p.txt: unknown kind of source; give 'datasets:NAME' or a .jsonl, .*.parquet file",
        ),
    ],
)
def test_faults_of_prompt_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SolonError, match=message) as caught:
        prompts(str(tmp_path / name), "red-team")
    assert "\n" not in str(caught.value)


def test_missing_cell_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "p.parquet", [{"prompt": "Hi?"}, {"prompt": None}])
    with pytest.raises(SolonError, match=r"p.parquet row 2: prompt is empty; write it or remove the row"):
        prompts(source, "helpful")


@pytest.mark.parametrize("ending", tables.ENDINGS)
def test_missing_files_are_named(ending: str, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match=rf"none{ending} does not exist; check the path"):
        prompts(str(tmp_path / f"none{ending}"), "red-team")
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(SolonError, match="is not a file; check the path"):
        prompts(str(tmp_path / f"folder{ending}"), "red-team")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "Hi?", "chosen": "Hello."},
            r"rejected is missing among the columns prompt, chosen; add it",
        ),
        (
            {"chosen": "Hello.", "rejected": "No."},
            r"chosen and rejected have no prompt; add it in the column",
        ),
        ({"chosen": [*ASKED, *GOOD], "rejected": BAD}, r"chosen and rejected begin differently; begin both"),
        ({"prompt": " ", "chosen": "Hello.", "rejected": "No."}, r"prompt is empty"),
        (
            {"prompt": "Hi?", "chosen": None, "rejected": "No."},
            r"chosen is empty; write it or remove the row",
        ),
        (
            {"prompt": "Hi?", "chosen": [*GOOD, *ASKED], "rejected": BAD},
            r"chosen is not an answer; begin and end it with an assistant turn",
        ),
        (
            {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No.", "probability": 1.5},
            r"probability is 1.5; give a number from 0 to 1 or none",
        ),
        (
            {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No.", "probability": "often"},
            r"probability is 'often'; give a number",
        ),
    ],
)
def test_faults_of_comparisons_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match=rf"pairs.jsonl line 1: {message}"):
        comparisons(write(tmp_path / "pairs.jsonl", [row]), held_out=0.1)
