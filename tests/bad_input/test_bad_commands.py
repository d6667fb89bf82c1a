"""Commands that were mistyped, and Ctrl-C: one line, no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from command import solon

SOLON = str(Path(sys.executable).parent / "solon")

MISUSES = [
    ("runn", "No such command 'runn'. Did you mean 'run'?", "'solon --help'"),
    ("run", "Missing argument 'config'", "'solon run --help'"),
    ("run x --seting y", "No such option: --seting", "'solon run --help'"),
    (
        "critique a b --modle x",
        "No such option: --modle (Possible options: --model)",
        "'solon critique --help'",
    ),
    ("critique a b", "Missing option '--model'", "'solon critique --help'"),
    ("red-team out --count 0 --model x", "'--count': Input should be greater than or equal to 1", "--help'"),
    ("red-team out --count many --model x", "'--count': Input should be a valid integer", "--help'"),
    ("chat x --temperature hot", "'--temperature': Input should be a valid number", "'solon chat --help'"),
    ("eval modls", "No such command 'modls'. Did you mean 'models'?", "'solon eval --help'"),
    ("constitution chek", "Did you mean 'check'?", "'solon constitution --help'"),
    ("constitution show harmless helpful", "unexpected extra argument", "'solon constitution show --help'"),
    ("run --set", "Option '--set' requires an argument", ""),
    ("init .", "exists and is not an empty folder", "give another name"),
    ("report none", "none is not a run folder", "neither config.yaml nor manifest.json"),
    ("audit none", "none is not a run folder", "neither config.yaml nor manifest.json"),
    ("chat none", "model 'none' is not known", "give one of 'smollm2'"),
    ("eval models a a --judge a", "two different models", "give at least two"),
    ("eval models a b --judge a --aspect kind", "--aspect is 'kind'", "it must be 'harmlessness'"),
]


@pytest.mark.parametrize(("words", "says", "mend"), MISUSES, ids=[each[0] for each in MISUSES])
def test_is_refused(
    words: str,
    says: str,
    mend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    refused(capsys, tmp_path, (says, mend), *words.split())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    refused(capsys, tmp_path, ("file", "Not a directory", "mend that"), "init", tmp_path / "file" / "mine")


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert solon() == 2
    assert "red-team" in capsys.readouterr().err


def test_the_program_itself_says_one_line_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("critique:\n  round: 1\n")
    ended = subprocess.run(
        [SOLON, "run", "bad.yaml"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "bad.yaml line 2: critique.round is not a known field; did you mean 'rounds'?\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_ctrl_c_ends_with_a_word_and_130(tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = [
        SOLON,
        "critique",
        "packaged",
        str(out),
        "--model",
        str(tiny_model),
        "--set",
        "engine.device=cpu",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr
        while "Critique and revision" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130
    assert said.endswith("Stopped. The same command goes on where this one was.\n")
