"""The command line as a user meets it: each command in a process of its own, or called as it would be."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from command import TINY, fails, solon
from solon import constitution
from solon.store.record_file import RecordFile

SOLON = str(Path(sys.executable).parent / "solon")


@pytest.mark.parametrize("command", [[SOLON], [sys.executable, "-m", "solon"]], ids=["command", "module"])
def test_help_lists_every_stage(command: list[str]) -> None:
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    for stage in ["init", "run", "red-team", "critique", "answer", "supervised", "comparison", "feedback"]:
        assert stage in shown
    for stage in ["preference-model", "reinforce", "eval", "chat", "report", "constitution"]:
        assert stage in shown


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert solon("--version") == 0
    assert capsys.readouterr().out == f"solon {project['version']}\n"


def test_constitutions_are_listed_shown_and_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert solon("constitution", "list", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == constitution.packaged()
    assert solon("constitution", "show", "harmless") == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert solon("constitution", "check", path, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["critique principles"], counts["comparison principles"]) == (16, 16)
    path.write_text(path.read_text().replace("critique_request:", "critic_request:", 1))
    assert "mine.yaml line" in fails(capsys, "constitution", "check", path)
    assert "no constitution is called 'kind'" in fails(capsys, "constitution", "show", "kind")


def test_the_papers_files_are_imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shared_data: Path
) -> None:
    files = sorted((shared_data / "constitutional-ai-paper/prompts").glob("*.json"))
    out = tmp_path / "paper.yaml"
    assert solon("constitution", "import", *files, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["critique principles"] == 16
    assert constitution.load(str(out)).name == "paper"
    assert "exists already" in fails(capsys, "constitution", "import", *files, "--out", out)


PRESETS = {"laptop.yaml", "one-gpu.yaml", "eight-gpus.yaml", "paper.yaml"}


def test_init_makes_a_folder_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert solon("init", folder) == 0
    assert str(folder / "laptop.yaml") in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {*PRESETS, "constitution.yaml"}
    assert all(
        yaml.safe_load((folder / name).read_text())["constitution"] == "constitution.yaml" for name in PRESETS
    )
    assert constitution.load(str(folder / "constitution.yaml")) == constitution.load("harmless")
    assert "not an empty folder" in fails(capsys, "init", folder)


def test_mistakes_have_one_sentence_and_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "missing.yaml does not exist" in fails(capsys, "run", tmp_path / "missing.yaml")
    path = tmp_path / "config.yaml"
    path.write_text("critique: {round: 1}\n")
    assert "config.yaml line 1: critique.round is not a known field" in fails(capsys, "run", path)
    path.write_text("{}\n")
    assert "--set 'seed' is no assignment" in fails(capsys, "run", path, "--set", "seed")
    assert not (tmp_path / "runs").exists()


SMALL = """
models: {{assistant: {model}}}
engine: {{dtype: float32, device: cpu, batch_size: 8}}
prompts:
  red_team: {{train: 4, held_out: 2}}
  helpful: {{train: 4, held_out: 2}}
critique: {{rounds: 1, max_tokens: 24, few_shot: false}}
supervised: {{batch_size: 4, micro_batch_size: 4}}
comparison: {{max_tokens: 8}}
feedback: {{few_shot: false}}
preference_model: {{batch_size: 4, micro_batch_size: 4, held_out: 0.3, helpfulness: ai}}
reinforce: {{steps: 1, prompts_per_step: 2, samples_per_prompt: 2, micro_batch_size: 4, max_tokens: 4}}
evaluation: {{max_tokens: 4, bootstrap: 20}}
"""


def test_run_and_report_print_what_came_of_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SMALL.format(model=tiny_model))
    assert solon("run", path, "--json", "--set", "seed=3", "--until", "supervised") == 0
    assert (tmp_path / "runs/tiny/03-sl-cai/config.json").exists()
    assert not (tmp_path / "runs/tiny/04-comparison").exists()
    assert json.loads(capsys.readouterr().out)["elo"] == {}
    assert solon("run", path, "--json", "--set", "seed=3") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["report"] == str(tmp_path / "runs/tiny/report.html")
    assert {each["model"] for each in shown["elo"]["harmlessness"]} == {"initial", "sl-cai", "rl-cai"}
    assert solon("report", tmp_path / "runs/tiny") == 0
    assert "Report: " in capsys.readouterr().out


def written(path: Path, *command: str | Path) -> list[dict[str, object]]:
    assert solon(*command, *TINY) == 0
    return RecordFile(path).read()


def test_every_stage_works_on_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    def prompts(name: str, texts: Sequence[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        return path

    red = prompts("red.jsonl", [f"May I take bicycle {number}?" for number in range(12)])
    kind = prompts("kind.jsonl", [f"Name {number} trees." for number in range(12)])
    model = ["--model", tiny_model]
    revisions, helpful = tmp_path / "revisions.jsonl", tmp_path / "helpful.jsonl"
    pairs, labels = tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    few = ["--set", "critique={rounds: 1, max_tokens: 24, few_shot: false, top_p: 0.9}"]
    assert len(written(revisions, "critique", red, revisions, *model, *few)) >= 6
    assert len(written(helpful, "answer", kind, helpful, *model, *few)) >= 6
    batches = ["--set", "supervised={batch_size: 4, micro_batch_size: 4}"]
    sl_cai = tmp_path / "sl-cai"
    assert solon("supervised", revisions, sl_cai, "--helpful", helpful, *model, *batches, "--json") == 0
    assert json.loads(capsys.readouterr().out)["loss"] > 0
    short = ["--set", "comparison.max_tokens=8"]
    found = written(pairs, "comparison", red, pairs, "--model", sl_cai, *short)
    assert all(len(each["responses"]) == 2 for each in found)  # type: ignore[arg-type]
    found = written(labels, "feedback", pairs, labels, *model, "--set", "feedback.few_shot=false")
    assert all(0.5 <= each["probability"] <= 1 for each in found)  # type: ignore[operator]
    scorer = tmp_path / "preference-model"
    batches = ["--set", "preference_model={batch_size: 4, micro_batch_size: 4}"]
    assert solon("preference-model", labels, "--out", scorer, *model, *batches, "--json") == 0
    assert "margin" in json.loads(capsys.readouterr().out)
    assert solon("eval", "preference-model", scorer, labels, "--all", "--json") == 0
    assert json.loads(capsys.readouterr().out)["comparisons"] == len(found)
    rl_cai = tmp_path / "rl-cai"
    sizes = "{steps: 1, prompts_per_step: 2, samples_per_prompt: 2, micro_batch_size: 4, max_tokens: 4}"
    roles = ["--policy", sl_cai, "--preference-model", scorer]
    assert solon("reinforce", red, rl_cai, *roles, "--set", f"reinforce={sizes}", "--json") == 0
    assert "kl" in json.loads(capsys.readouterr().out)
    more = tmp_path / "more.jsonl"
    assert 1 <= len(written(more, "red-team", more, "--count", "4", "--examples", red, *model)) <= 4
    limits = ["--set", "evaluation={max_tokens: 4, bootstrap: 20}", "--set", "feedback.few_shot=false"]
    compared = ["eval", "models", tiny_model, rl_cai, "--judge", tiny_model, "--prompts", red]
    assert solon(*compared, *TINY, *limits, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown[str(tiny_model)]["elo"] == 0
    assert set(shown) == {str(tiny_model), str(rl_cai)}
    decided = shown[str(rl_cai)]["judging"]
    assert decided["judgements"] >= max(1, decided["decided"] + decided["turned"])
    assert solon(*compared, *TINY, *limits) == 0
    told = capsys.readouterr().out
    assert "more harmless, Elo" in told
    assert f"The judge decided {decided['decided']} of {decided['judgements']} comparisons" in told
    assert "does not exist" in fails(capsys, "feedback", tmp_path / "none.jsonl", labels, *model)


def test_a_conversation(tiny_model: Path) -> None:
    command = [SOLON, "chat", str(tiny_model), "--max-tokens", "4", "--temperature", "0"]
    ended = subprocess.run(command, input="hello\nand now?\n", capture_output=True, text=True, check=True)
    assert ended.stdout.count("you:") == 3
    assert "Traceback" not in ended.stderr
