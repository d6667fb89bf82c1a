"""Data as it is published: every form becomes the right dialogue, or is counted and left out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from solon.errors import SolonError
from solon.sources.data import comparisons, prompts

ASKED = [{"role": "user", "content": "Tea?"}]
GOOD = [{"role": "assistant", "content": "Gladly."}]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def told(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(record.getMessage() for record in caplog.records)


TURNS = [("user", "a"), ("assistant", "b"), ("user", "c")]
MESSAGES = [{"role": role, "content": text} for role, text in TURNS]
LABELLED = {
    "as it is": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
    "no blank lines before": "Human: a\n\nAssistant: b\n\nHuman: c",
    "line ends of Windows": "\r\n\r\nHuman: a\r\n\r\nAssistant: b\r\n\r\nHuman: c",
    "line ends of old": "\r\rHuman: a\r\rAssistant: b\r\rHuman: c",
    "spaces at line ends": "\n \nHuman: a  \n \nAssistant: b\n\t\n Human: c ",
    "no blank lines": "Human: a\nAssistant: b\nHuman: c",
    "OpenAssistant's": "### Human: a### Assistant: b### Human: c",
}
FORMS: dict[str, dict[str, Any]] = {
    **{name: {"prompt": text} for name, text in LABELLED.items()},
    "null beside": {"messages": None, "conversations": [], "text": float("nan"), "prompt": MESSAGES},
    "a list as JSON": {"prompt": json.dumps([{"from": role.title(), "value": text} for role, text in TURNS])},
    "blank turns around": {
        "conversations": [
            {"from": "system", "value": ""},
            *({"from": role, "value": text} for role, text in TURNS),
            {"from": "gpt", "value": None},
        ]
    },
    "a list of pandas": {"messages": str(MESSAGES)},
    "parts": {
        "messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in TURNS]
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_published_forms_become_the_dialogue(form: str, tmp_path: Path) -> None:
    for system in ({}, {"system": " "}, {"system_prompt": "Be kind."}):
        [record] = prompts(write(tmp_path / "p.jsonl", [{**FORMS[form], **system}]), "red-team")
        said = [(turn["role"], turn["content"]) for turn in record["prompt"]]
        assert said == ([("system", "Be kind.")] if "system_prompt" in system else []) + TURNS


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_marks_of_files_do_not_matter(ending: str, tmp_path: Path) -> None:
    lines = ["", '{"prompt": "Hi?"}', "  ", '{"prompt": "Who?"}', ""]
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + ending.join(lines).encode())
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbf" + ending.join(["prompt", '"Hi?"', "Who?", ""]).encode())
    for name in ("p.jsonl", "p.csv"):
        found = [record["prompt"][0]["content"] for record in prompts(str(tmp_path / name), "red-team")]
        assert found == ["Hi?", "Who?"]


def test_one_text_has_one_id_however_it_is_written(tmp_path: Path) -> None:
    for texts in (("Caf\u00e9?", "Cafe\u0301?"), ("a\nb", "a\r\nb"), ("a\nb", "\ufeffa\u2028b")):
        one, other = (prompts(write(tmp_path / "p.jsonl", [{"prompt": text}]), "helpful") for text in texts)
        assert one == other


def test_answers_with_the_prompt_written_again(tmp_path: Path) -> None:
    asked = "What is the capital of France?"
    row = {"prompt": asked, "chosen": f"{asked} Paris.", "rejected": f"{asked}\nRome."}
    [record] = comparisons(write(tmp_path / "c.jsonl", [row]), held_out=0)
    assert [record["chosen"][0]["content"], record["rejected"][0]["content"]] == ["Paris.", "Rome."]
    row = {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi you"}
    [record] = comparisons(write(tmp_path / "c.jsonl", [row]), held_out=0)
    assert record["chosen"][0]["content"] == "Hi there"


def test_a_mere_answer_may_begin_with_a_label(tmp_path: Path) -> None:
    row = {"prompt": "Who?", "chosen": "Human: I do.", "rejected": "Human: No."}
    [record] = comparisons(write(tmp_path / "c.jsonl", [row]), held_out=0)
    assert record["prompt"][0]["content"] == "Who?"
    dialogue = "Human: Who?\n\nAssistant: "
    row = {"chosen": f"{dialogue}I.", "rejected": f"{dialogue}You.", "system": "Be brief."}
    [record] = comparisons(write(tmp_path / "c.jsonl", [row]), held_out=0)
    assert [turn["content"] for turn in record["prompt"]] == ["Be brief.", "Who?"]


NO_USE: list[dict[str, Any]] = [
    {"prompt": None},
    {"prompt": " \u200b"},
    {"prompt": 7},
    {"messages": [{"role": "tool", "content": "7"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}, *ASKED]},
    {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    {"messages": [*GOOD, *ASKED]},
]


def test_what_is_no_use_is_an_error_in_a_file_and_counted_in_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for row in NO_USE:
        with pytest.raises(SolonError, match=r"p.jsonl line 2: "):
            prompts(write(tmp_path / "p.jsonl", [{"prompt": "Hi?"}, row]), "red-team")
    loaded = [{"prompt": "Hi?"}, *NO_USE]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: loaded)
    for _ in range(2):
        [record] = prompts("datasets:some/set", "red-team")
        assert record["prompt"][0]["content"] == "Hi?"
    said = f"{len(NO_USE)} of {len(loaded)} rows of datasets:some/set are left out, such as"
    assert told(caplog).count(said) == 1
    del loaded[0]
    with pytest.raises(SolonError, match="datasets:some/set row 1: prompt is empty"):
        prompts("datasets:some/set", "red-team")


def test_blank_and_equal_answers_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [("Yes.", "No."), ("Yes.", "Yes."), ("", "No.")]
    rows = [{"prompt": "Tea?", "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    assert len(comparisons(write(tmp_path / "c.jsonl", rows), held_out=0)) == 1
    assert re.search(r"2 rows of .*c\.jsonl have a blank answer, or two equal ones", told(caplog))
