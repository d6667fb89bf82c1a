"""The documentation names every setting, and its examples are true."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from solon import cli, constitution
from solon.config import Config, Lora
from solon.role_settings import Role, Roles

ROOT = Path(__file__).parent.parent
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}  # of JSON schema


def settings(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting's dotted name, its default, and what it may be."""
    schema = type(model).model_json_schema(mode="serialization")
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Roles):  # all have the same
            yield from settings(Role(), f"{prefix}{name}.ROLE.")
        elif isinstance(value, BaseModel):
            yield from settings(value, f"{prefix}{name}.")
        else:
            default = list(value) if isinstance(value, tuple) else value
            yield prefix + name, default, allowed(schema["properties"][name])


def allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words; None, which is "not set", goes without saying."""
    match schema:
        case {"anyOf": kinds}:
            words = " or ".join(allowed(kind) for kind in kinds if kind != {"type": "null"})
        case {"$ref": kind}:
            words = f"settings: {kind.rpartition('/')[2].lower()}"
        case {"enum": values}:
            words = ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            words = f"`{value}`"
        case {"type": "boolean"}:
            words = "`true`, `false`"
        case {"type": "array", "prefixItems": kinds}:
            words = f"{len(kinds)} of: {allowed(kinds[0])}"
        case {"type": "array", "items": kind}:
            words = f"list of {allowed(kind)}"
        case {"type": "object"}:
            words = "mapping"
        case {"type": "string"}:
            words = "text"
        case {"type": "integer" | "number" as kind}:
            bounds = [f"{sign} {schema[bound]:g}" for bound, sign in SIGNS.items() if bound in schema]
            words = ", ".join(["whole number" if kind == "integer" else "number", *bounds])
        case _:
            raise ValueError(f"a new kind of setting: {schema}")
    return words


def test_every_setting_is_documented_with_its_default_and_bounds() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `([A-Za-z_.]+)` \| ([^|]*) \| ([^|]*) \| [^|]+ \|$", text, flags=re.MULTILINE)
    written = {name: (default, values) for name, default, values in rows}
    assert len(written) == len(rows)
    known = {name: (default, values) for name, default, values in settings(Config())}
    assert written.keys() == known.keys()
    for name, (default, values) in known.items():
        assert written[name][1] == values, name
        said = re.fullmatch(r"`(.+)`", written[name][0])
        assert bool(said) == (default is not None), name  # what "not set" comes to is told in words
        if said:
            value = float(said[1]) if isinstance(default, float) else yaml.safe_load(said[1])
            assert value == default, name
    [lora] = re.findall(r"^\| `supervised.lora` .*\| `(\{.*\})`", text, flags=re.MULTILINE)
    assert yaml.safe_load(lora) == Lora().model_dump()


def test_the_example_constitution_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/constitution.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "kind.yaml"
    path.write_text(example)
    loaded = constitution.load(str(path))
    assert len(loaded.examples.reasoning) == len(loaded.critique) == 1


@pytest.mark.parametrize(
    "page",
    ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
    + [
        f"docs/{name}.md"
        for name in (
            "architecture",
            "audit",
            "configuration",
            "constitution",
            "evaluation",
            "publishing",
            "run-folder",
            "sweeps",
        )
    ],
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
