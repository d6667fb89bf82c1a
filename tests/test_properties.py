"""Parsers and importers on generated input: what is written is read back, and only SolonError comes out."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from solon import config, constitution
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.prompts.dialogue import transcript
from solon.sources import data, paper_files, tables
from solon.sources.cells import blank, text_of
from solon.sources.row_dialogues import comparison_of, prompt_of, turns_of
from solon.sources.tables import Row, rows
from solon.store.record_file import RecordFile

few = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def kept(text: str) -> str:
    """The text as it is read from a table: without outer white space, each character written in one way."""
    return text_of(text, "FILE line 1", "prompt")


any_text = st.text(max_size=40)
# What a person may have written: no lone surrogates and no NUL, and more than white space.
said = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
).filter(lambda text: not blank(text))
# What YAML can hold in plain characters or escapes, which is the same but that outer white space is cut.
written = said.map(str.strip).filter(bool)


@st.composite
def dialogues(draw: st.DrawFn, last: str = "user") -> list[dict[str, str]]:
    """Human and assistant by turns, perhaps after a system's, to end with ``last``."""
    roles = ["user", "assistant"] * draw(st.integers(1, 2))
    roles = roles[:-1] if last == "user" else roles
    system = ["system"] if draw(st.booleans()) else []
    return [{"role": role, "content": draw(written)} for role in [*system, *roles]]


@st.composite
def constitutions(draw: st.DrawFn) -> Constitution:
    def named(**fields: Any) -> Any:
        kinds = st.lists(st.fixed_dictionaries({"name": written, **fields}), min_size=1, max_size=2)
        return draw(kinds.filter(lambda found: len({each["name"] for each in found}) == len(found)))

    texts = dict.fromkeys(("answer", "critique_request", "critique", "revision_request", "revision"), written)
    example = st.fixed_dictionaries({"dialogue": dialogues(), **texts})
    reasoning = {"dialogue": dialogues(), "option_a": written, "option_b": written, "reasoning": written}
    return Constitution.model_validate(
        {
            "name": draw(written),
            "description": draw(st.just("") | written),
            "critique": named(critique_request=written, revision_request=written),
            "comparison": named(instruction=written),
            "examples": {
                "critique": draw(st.lists(example, max_size=1)),
                "reasoning": draw(
                    st.lists(
                        st.fixed_dictionaries({**reasoning, "answer": st.sampled_from("AB")}), max_size=1
                    )
                ),
            },
        }
    )


RARE = {"name": "a", "comparison": [{"name": "b", "instruction": "one\x85two\u2028three\r\nfour"}]}


@few
@example(one=Constitution.model_validate(RARE))
@given(one=constitutions())
def test_a_constitution_written_as_yaml_is_read_as_the_same(one: Constitution, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(one.to_yaml(), encoding="utf-8")
    read = constitution.load(str(path))
    assert read == one
    assert read.content_hash == one.content_hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["name", "critique", "comparison", "examples", "instruction", "seed", "models", "critique"]
)
trees = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=10,
)


@few
@given(tree=trees, layout=st.sampled_from(["json", "text"]), text=any_text)
def test_any_yaml_is_read_or_refused(tree: Any, layout: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes((json.dumps(tree) if layout == "json" else text).encode(errors="surrogatepass"))
    for load in (constitution.load, lambda name: config.load(Path(name))):
        try:
            load(str(path))
        except SolonError as error:
            assert str(error).startswith(str(path))


@few
@given(
    records=st.lists(st.dictionaries(written, json_values, max_size=3), min_size=1, max_size=4),
    data=st.data(),
)
def test_records_survive_a_tear_at_any_byte(
    records: list[dict[str, Any]], data: st.DataObject, tmp_path: Path
) -> None:
    made = [json.loads(json.dumps({**each, "id": str(n)})) for n, each in enumerate(records)]
    made = [each for each in made if sound(each)]
    file = RecordFile(tmp_path / "records.jsonl")
    file.path.unlink(missing_ok=True)
    for each in made:
        file.append(each)
    content = file.path.read_bytes() if made else b""
    assert list(map(json.dumps, file.read())) == list(map(json.dumps, made))  # NaN is not equal to itself
    cut = data.draw(st.integers(0, len(content)))
    file.path.write_bytes(content[:cut])
    # A line that lacks nothing but its end is whole.
    kept = content[:cut].count(b"\n") + (content[cut : cut + 1] == b"\n" and content[cut - 1 : cut] == b"}")
    assert list(map(json.dumps, file.read())) == list(map(json.dumps, made[:kept]))
    file.recover()
    for each in made[kept:]:
        file.append(each)
    assert (file.path.read_bytes() if made else b"") == content


def sound(record: dict[str, Any]) -> bool:
    """Whether UTF-8 can hold it."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@few
@given(content=st.binary(max_size=80) | any_text.map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_records_or_refused(content: bytes, tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.path.write_bytes(content)
    try:
        read = file.recover().read()
    except SolonError as error:
        assert str(error).startswith(str(file.path))
        assert file.path.read_bytes() == content
    else:
        assert all(isinstance(each, dict) for each in read)


def write(path: Path, table: list[dict[str, str]]) -> None:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]), quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(table)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(table), encoding="utf-8")
    else:
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in table)
        path.write_bytes(text.encode())


@few
@given(
    table=st.lists(st.fixed_dictionaries({"prompt": said, "kind": said}), min_size=1, max_size=4),
    ending=st.sampled_from([".csv", ".parquet", ".json", ".jsonl"]),
)
def test_every_form_of_a_table_is_read_as_the_same_rows(
    table: list[dict[str, str]], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"table{ending}"
    write(path, table)
    assert [row.values for row in rows(str(path))] == table
    read = data.prompts(str(path), "helpful")
    assert {each["prompt"][0]["content"] for each in read} <= {kept(each["prompt"]) for each in table}


@few
@given(content=st.binary(max_size=200), ending=st.sampled_from(tables.ENDINGS))
def test_any_bytes_are_a_table_or_refused(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{ending}"
    path.write_bytes(content)
    for read in (lambda name: data.prompts(name, "red-team"), lambda name: data.comparisons(name, 0.1)):
        with pytest.raises(SolonError, match=r"table"):
            read(str(path))


cells = json_values | st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "gpt"]) | json_values,
            "content": json_values,
        }
    ),
    max_size=3,
)
names = st.sampled_from(
    ["prompt", "messages", "conversations", "chosen", "rejected", "probability", "kind", "input"]
)


@few
@given(values=st.dictionaries(names, cells, max_size=5))
def test_any_row_is_a_dialogue_or_refused(values: dict[str, Any]) -> None:
    row = Row(values, "FILE line 1")
    for read in (prompt_of, comparison_of):
        try:
            read(row)
        except SolonError as error:
            assert str(error).startswith("FILE line 1: ")


spoken = said.filter(lambda text: "Human:" not in text and "Assistant:" not in text)


@few
@given(data=st.data(), count=st.integers(1, 5))
def test_hh_rlhfs_text_is_read_as_its_turns(data: st.DataObject, count: int) -> None:
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": kept(data.draw(spoken))}
        for number in range(count)
    ]
    text = f"\n\n{transcript(turns)}"  # type: ignore[arg-type]
    assert turns_of(text, Row({"prompt": text}, "FILE line 1"), "prompt") == turns


@few
@given(value=trees | st.lists(any_text, max_size=3))
def test_any_json_is_a_paper_file_or_refused(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "paper.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        paper_files.read(path)
    except SolonError as error:
        assert str(error).startswith(str(path))


@few
@given(
    names=st.lists(written, min_size=1, max_size=3, unique=True),
    critique=spoken.map(str.strip),
    revision=spoken.map(str.strip),
)
def test_the_papers_principles_are_read_as_they_are(
    names: list[str], critique: str, revision: str, tmp_path: Path
) -> None:
    path = tmp_path / "paper.json"
    entry = {
        "prompt": [f"\n\nCritiqueRequest: {critique}\n\nCritique:"],
        "edit_request": f"\n\nRevisionRequest: {revision}\n\nRevision:",
    }
    path.write_text(json.dumps(dict.fromkeys(names, entry)), encoding="utf-8")
    read = paper_files.read(path, "paper")
    assert [each.name for each in read.critique] == names
    assert {(each.critique_request, each.revision_request) for each in read.critique} == {
        (critique, revision)
    }
