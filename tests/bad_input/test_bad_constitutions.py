"""Constitutions, and the paper's files that become one, that must be refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import Case, case, named, place, refused

PRINCIPLE = "- {name: a, critique_request: Find fault., revision_request: Write it again.}\n"
COMPARED = "- {name: a, instruction: Which is better}\n"


def with_example(dialogue: str) -> str:
    return f"name: a\nexamples:\n  comparison:\n  - {{better: a, worse: b, dialogue: {dialogue}}}\n"


BOMB = "x: &a [l]\n" + "".join(f"x{n}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 20}]\n" for n in range(8))

CASES = [
    case("empty", "", "line 1: name is missing", "add it"),
    case("blank", "\n\n# nothing\n", "name is missing", "add it"),
    case("name alone", "name: a\n", "line 1: the file has no principle", "add one under 'critique'"),
    case("no name", f"critique:\n{PRINCIPLE}", "line 1: name is missing", "add it"),
    case("a blank name", f"name: ' '\ncritique:\n{PRINCIPLE}", "line 1: name is ' '", "change it"),
    case("a number as name", f"name: 3\ncritique:\n{PRINCIPLE}", "line 1: name is 3", "change it"),
    case("a date as name", f"name: 2026-01-01\ncritique:\n{PRINCIPLE}", "line 1: name is", "change it"),
    case("unknown kind", f"name: a\ncritiques:\n{PRINCIPLE}", "line 2: critiques is not a known field", "'critique'"),
    case("unknown field", "name: a\ncritique:\n- {name: a, critic_request: b, revision_request: c, "
         "critique_request: d}\n", "line 3: critique[0].critic_request is not", "'critique_request'"),
    case("no revision", "name: a\ncritique:\n- {name: a, critique_request: b}\n", "line 3: critique[0].revision_request"
         " is missing", "add it"),
    case("an empty request", "name: a\ncomparison:\n- name: a\n  instruction: ''\n", "line 4: comparison[0].instruction",
         "change it"),
    case("no instruction", "name: a\ncomparison:\n- {name: a}\n", "line 3: comparison[0].instruction is missing", "add"),
    case("a principle as text", "name: a\ncomparison:\n- Which is better?\n", "line 3: comparison[0] is 'Which",
         "write them below it"),
    case("principles as a mapping", "name: a\ncomparison: {a: Which}\n", "line 2: comparison is", "list", "change it"),
    case("an empty list's key", "name: a\ncomparison:\n", "line 2: comparison is empty", "or remove it"),
    case("an empty item", "name: a\ncomparison:\n-\n", "line 3: comparison[0] is empty", "or remove it"),
    case("two of one name", f"name: a\ncomparison:\n{COMPARED}{COMPARED}", "line 4: comparison[1].name is 'a', the name",
         "give each its own name"),
    case("repeated field", "name: a\nname: b\n", "line 2: 'name' is given a second time", "remove one"),
    case("repeated deep", "name: a\ncomparison:\n- {name: a, name: b, instruction: c}\n", "line 3: 'name' is given"),
    case("no dialogue", "name: a\nexamples:\n  comparison:\n  - {better: a, worse: b}\n",
         "line 4: examples.comparison[0].dialogue is missing", "add it"),
    case("an empty dialogue", with_example("[]"), "line 4: examples.comparison[0].dialogue is []", "change it"),
    case("a dialogue as text", with_example("hello"), "dialogue is 'hello'", "list", "change it"),
    case("an unknown role", with_example("[{role: human, content: a}]"), "dialogue[0].role is 'human'", "'user'"),
    case("no role", with_example("[{content: a}]"), "dialogue[0].role is missing", "add it"),
    case("no content", with_example("[{role: user}]"), "dialogue[0].content is missing", "add it"),
    case("a number said", with_example("[{role: user, content: 3}]"), "dialogue[0].content is 3", "change it"),
    case("ends with the assistant", with_example("[{role: user, content: a}, {role: assistant, content: b}]"),
         "dialogue[1].role is assistant", "must end with a user turn"),
    case("a blank turn", with_example("[{role: user, content: ' '}]"), "dialogue[0].content is blank", "write the turn"),
    case("a third letter", "name: a\nexamples:\n  reasoning:\n  - {dialogue: [{role: user, content: a}], option_a: b,"
         " option_b: c, reasoning: d, answer: C}\n", "line 4: examples.reasoning[0].answer is 'C'", "'A' or 'B'"),
    case("an unknown part", "name: a\nexamples: {compare: []}\n", "examples.compare is not a known", "'comparison'"),
    case("alias bomb", f"name: a\n{BOMB}", "line 7: its aliases", "write less"),
    case("a Python tag", "name: !!python/object/apply:os.system [id]\n", "line 1: not valid YAML", "mend it there"),
    case("a Python name", "name: !!python/name:os.system\n", "line 1: not valid YAML", "mend it there"),
    case("a set", "name: a\ncomparison: !!set {b}\n", "line 2: comparison[0] is 'b'", "write them below it"),
    case("bad UTF-8", b"name: caf\xe9\n", "line 1: not UTF-8 text", "save the file as UTF-8"),
    case("a NUL byte", b"name: a\0\n", "line 1: not valid YAML: the character #x0000", "remove it"),
    case("JSON Lines", '{"name": "a"}\n{"name": "b"}\n', "line 2: not valid YAML", "mend it there"),
    case("prose", "Be kind: always. Never: lie: at all\n", "line 1: not valid YAML", "mend it there"),
    case("a huge line", "name: " + "a" * 10_000_001, "larger than 10 MB", "check the path"),
    case("tabs", "name: a\ncritique:\n\t- name: b\n", "line 3: not valid YAML", "indent with spaces"),
    case("half a character", 'name: "\\ud800"\ncomparison:\n- {name: a, instruction: b}\n', "line 1: name", "change it"),
    case("a folder", Path.mkdir, "is not a file", "check the path"),
    case("missing", lambda _: None, "does not exist", "check the path"),
]  # fmt: skip


@named(CASES)
def test_is_refused(broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place(broken.content, tmp_path / "mine.yaml")
    refused(capsys, tmp_path, (f"{path}", *broken.says), "constitution", "check", path)


def test_a_name_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, tmp_path, ("'harmles'", "did you mean 'harmless'?"), "constitution", "show", "harmles")


def paper(value: Any) -> str:
    return json.dumps(value)


REQUESTS = {"prompt": ["CritiqueRequest: a\n\nCritique:"], "edit_request": "RevisionRequest: b\n\nRevision:"}

PAPER_FILES = [
    case("empty", "", "line 1 column 1: not valid JSON", "mend it there"),
    case("cut off", '{"a": {"prompt": ["Crit', "line 1 column", "not valid JSON", "mend it there"),
    case("a number", "3", "none of the paper's shapes", "give a file such as"),
    case("an empty list", "[]", "none of the paper's shapes", "give a file such as"),
    case("an empty object", "{}", "none of the paper's shapes", "give a file such as"),
    case("a list of a number", paper([1]), "[0] is 1", "write them below it"),
    case("mixed items", paper(["a", {"prompt": "b"}]), "[1] is {", "change it"),
    case("no edit request", paper({"a": {"prompt": ["CritiqueRequest: b"]}}), "a.edit_request is missing", "add it"),
    case("no prompts", paper({"a": {**REQUESTS, "prompt": []}}), "a.prompt is []", "change it"),
    case("unknown field", paper({"a": {**REQUESTS, "prompts": 1}}), "a.prompts is not a known field", "check its spelling"),
    case("no label", paper({"a": {**REQUESTS, "edit_request": "Write it again."}}), "a.edit_request does not fit",
         "expected 'RevisionRequest:'"),
    case("a repeated field", '{"a": {"prompt": [], "prompt": []}}', "'prompt' is given a second time", "remove one"),
    case("turns out of order", paper(["Human: a\n\nHuman: b\n\nCritique: c"]), "[0] has the turns", "expected Human and"),
    case("an unlabelled turn", paper([{"prompt": "a", "corrects": ["b"], "incorrects": ["c"]}]),
         "[0].prompt does not begin with a labelled turn", "label it"),
    case("no answers", paper([{"prompt": "Human: a", "corrects": [], "incorrects": ["c"]}]), "[0].corrects is []",
         "change it"),
    case("no frame", paper([{"prompt": "Human: Consider this."}]), "[0].prompt does not fit", "expected a conversation"),
    case("an empty principle", paper(["Choose. Options:", ""]), "comparison[1].instruction is ''", "change it"),
    case("bad UTF-8", b'["caf\xe9"]', "line 1: not UTF-8 text", "save the file as UTF-8"),
    case("too deep", "[" * 100_000, "nested too deep", "write it flat"),
    case("half a character", '["\\ud800 Options:"]', "comparison[0].instruction is", "change it"),
    case("a folder", Path.mkdir, "is not a file", "check the path"),
    case("missing", lambda _: None, "does not exist", "check the path"),
]  # fmt: skip


@named(PAPER_FILES)
def test_a_paper_file_is_refused(broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place(broken.content, tmp_path / "paper.json")
    out = tmp_path / "out.yaml"
    refused(capsys, tmp_path, (f"{path}", *broken.says), "constitution", "import", path, "--out", out)
