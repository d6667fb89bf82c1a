"""Studies that ``solon sweep`` must refuse, before it makes their folder."""

from pathlib import Path

import pytest
from refusals import Case, case, named, place, refused

TWO = "variations:\n  a: {}\n  b: {critique.rounds: 1}\n"

CASES = [
    case("not YAML", "values: [1\n", "line 2: not valid YAML", "mend it there"),
    case("missing", lambda _: None, "does not exist", "check the path"),
    case("nothing varies", "base: laptop\n", "has to say what varies", "give 'setting'"),
    case("both ways", f"setting: seed\nvalues: [1, 2]\n{TWO}", "has to say what varies", "or else 'variations'"),
    case("no values", "setting: critique.rounds\n", "has no 'values' for the setting 'critique.rounds'", "list them"),
    case("values alone", "values: [1, 2]\n", "has to say what varies", "give 'setting'"),
    case("values of nothing", f"values: [1]\n{TWO}", "has to say what varies", "or else 'variations'"),
    case("a number as setting", f"settings: {{1: 2}}\n{TWO}", "line 1: base 'laptop' with 'settings': 1 is not a known field", "remove it"),
    case("nothing in it", lambda path: path.touch(), "has to say what varies", "give 'setting'"),
    case("one value", "setting: critique.rounds\nvalues: [1]\n", "has one variation only", "solon run"),
    case("one variation", "variations: {a: {}}\n", "has one variation only", "give two or more"),
    case("no list", "setting: critique.rounds\nvalues: 3\n", "line 2: values is 3", "change it"),
    case("unknown field", f"sets: {{}}\n{TWO}", "line 1: sets is not a known field", "'settings'"),
    case("empty variation", "variations:\n  a: {}\n  b:\n", "line 3: variations.b is empty", "write what belongs there"),
    case("a variation is a list", "variations:\n  a: {}\n  b: [1]\n", "line 3: variations.b is [1]", "write them below it"),
    case("a path as name", "variations:\n  a: {}\n  ../b: {}\n", "has the name '../b'", "begin it with a letter"),
    case("unknown stage", f"until: rl\n{TWO}", "line 1: until is 'rl'", "'reinforce'"),
    case("a seed twice", f"seeds: [1, 1]\n{TWO}", "line 1: seeds is [1, 1]", "give each once"),
    case("seeds are words", f"seeds: [one]\n{TWO}", "line 1: seeds[0] is 'one'", "change it"),
    # the base
    case("unknown base", f"base: smal\n{TWO}", "no configuration is called 'smal'", "packaged are"),
    case("missing base", f"base: none.yaml\n{TWO}", "none.yaml does not exist", "check the path"),
    case("settings unfit", f"settings: {{critique.rounds: -1}}\n{TWO}", "line 1: base 'laptop' with 'settings'", "critique.rounds is -1"),
    # what varies
    case("unknown setting", "setting: critique.round\nvalues: [1, 2]\n", "line 2: variation 'round-1': critique.round is not", "'rounds'"),
    case("no setting", "setting: critique..rounds\nvalues: [1, 2]\n", "is not a known field", "check its spelling"),
    case("bad value", "setting: critique.rounds\nvalues:\n- 1\n- many\n", "line 4: variation 'rounds-many': critique.rounds is 'many'", "change it"),
    case("bad variation", "variations:\n  a: {}\n  b: {feedback.clamp: [1, 0]}\n", "line 3: variation 'b': feedback.clamp is [1.0, 0.0]", "swap the two"),
    case("the same run", "variations:\n  a: {}\n  b: {critique.rounds: 2}\n", "line 3: variation 'b' is the same run as 'a'", "remove one"),
    case("a value twice", "setting: critique.rounds\nvalues: [1, 1]\n", "variation 'rounds-1' is the same run as 'rounds-1'", "remove one"),
    case("a seed that varies", "seeds: [1, 2]\nsetting: seed\nvalues: [3, 4]\n", "is the same run as", "remove one"),
    # what only a run finds out
    case("too many principles", "setting: critique.principles\nvalues: [1, 99]\n", "16 critique principles and 99", "ask for 'all'"),
    case("no preference model", f"scored_by: ./none\n{TWO}", "'./none'", "a transformers folder"),
]  # fmt: skip


@named(CASES)
def test_is_refused(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(broken.content, tmp_path / "study.yaml")
    refused(capsys, tmp_path, broken.says, "sweep", path, "--set", f"models.assistant={tiny_model}")


def test_a_model_without_a_head_does_not_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(f"scored_by: {tiny_model}\n{TWO}", tmp_path / "study.yaml")
    refused(capsys, tmp_path, ("is no preference model", "name one that has"), "sweep", path)


def test_an_unknown_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, tmp_path, ("no study is called 'revision'", "revisions"), "sweep", "revision")


def test_a_run_folder_is_no_studys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place(TWO, tmp_path / "study.yaml")
    place("{}", tmp_path / "manifest.json")
    says = (f"{tmp_path} is a run folder", "give another with --dir")
    refused(capsys, tmp_path, says, "sweep", path, "--dir", tmp_path)
