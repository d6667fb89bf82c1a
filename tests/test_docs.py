"""The documentation names every setting, and its examples are true."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from solon import cli, constitution
from solon.config import Config

ROOT = Path(__file__).parent.parent


def settings(model: BaseModel) -> set[str]:
    names = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        names |= settings(value) if isinstance(value, BaseModel) else {name}
    return names


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    named = {part for quoted in re.findall(r"`([^`]+)`", text) for part in re.findall(r"\w+", quoted)}
    assert settings(Config()) - named == set()


def test_the_example_constitution_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/constitution.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "kind.yaml"
    path.write_text(example)
    loaded = constitution.load(str(path))
    assert len(loaded.examples.reasoning) == len(loaded.critique) == 1


@pytest.mark.parametrize(
    "page",
    ["README.md"]
    + [f"docs/{name}.md" for name in ("configuration", "constitution", "evaluation", "run-folder", "sweeps")],
)
def test_the_commands_that_pages_name_exist(page: str) -> None:
    known = {command.name for command in cli.app.registered_commands}
    known |= {group.name for group in cli.app.registered_groups}
    named = re.findall(r"(?:`|^)solon ([a-z][a-z-]+)", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert named
    assert set(named) <= known


def test_the_performance_page_tells_what_was_measured() -> None:
    text = (ROOT / "docs/performance.md").read_text()
    for path in (ROOT / "benchmarks/results").glob("*.json"):
        [rows] = [re.findall(rf"^\|.*\| ([\d.]+)[^|]*\| `{path.name}` \|$", text, flags=re.MULTILINE)]
        measured = set(re.findall(r'"ratio": ([\d.]+)', path.read_text()))
        assert set(rows) == measured, path.name


def test_the_results_page_tells_what_was_measured() -> None:
    measured = set((ROOT / "studies/judgement/results/table.md").read_text().splitlines())
    rows = [
        line
        for line in (ROOT / "docs/results.md")
        .read_text()
        .split("### What is measured so far")[0]
        .splitlines()
        if re.match(r"\| (smollm2|qwen)", line)
    ]
    assert rows
    assert set(rows) <= measured


def test_the_readmes_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    quick = example.replace("[:8]", "[:1]").replace("Critique(rounds=2)", "Critique(rounds=1, max_tokens=8)")
    exec(compile(quick, "README.md", "exec"), {})
    assert "->" in capsys.readouterr().out
