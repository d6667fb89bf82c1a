"""``solon constitution diff``: what a change of the constitution does to the labels."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from solon import config as configs
from solon import constitution
from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Settings, configuration, overrides
from solon.cli.show import SCREEN, show, show_rows
from solon.errors import SolonError
from solon.evaluation import constitution_diff, relabelling
from solon.evaluation.constitution_diff import Example, Opinion
from solon.evaluation.relabelling import Source
from solon.records import ASPECT_OF, Aspect, PairRecord
from solon.seeds import generator
from solon.store.record_file import RecordFile

WIDTH = 96  # characters of a line of an answer
SHOWN = 600  # characters of an answer; the whole is in --json


def diff(
    a: Annotated[str, typer.Argument(help="A packaged constitution's name, or a YAML file.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    pairs: Annotated[Path, typer.Option(help="A run folder, or a record file of 'solon comparison'.")],
    model: Annotated[str, typer.Option(help="The feedback model; the run's by default.")] = "",
    aspect: Annotated[str, typer.Option(help="'harmlessness' or 'helpfulness'.")] = "harmlessness",
    limit: Annotated[int | None, typer.Option(min=1, help="How many pairs, drawn by the seed.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="How many pairs to show.")] = 3,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Label the same pairs under two constitutions: what flips, by how much, and which principles do it."""
    laws = constitution.load(a), constitution.load(b)
    if laws[0].labels_as(laws[1]):
        raise SolonError(f"{a} and {b} say the same; give two different constitutions")
    if aspect not in ASPECT_OF.values():
        raise SolonError(f"--aspect is {aspect!r}; it must be 'harmlessness' or 'helpfulness'")
    named: Aspect = "helpfulness" if aspect == "helpfulness" else "harmlessness"
    source = _source(pairs, model, named, config, settings)
    wanted = [pair for pair in source.pairs if ASPECT_OF[pair["set"]] == named]
    wanted = [pair for pair in wanted if not pair["problem"]]
    if not wanted:
        raise SolonError(
            f"{pairs} has no sound pair to compare for {named}; give another --pairs or --aspect"
        )
    if limit and limit < len(wanted):
        wanted = generator(source.seed, "pairs").sample(wanted, limit)
    under_a, under_b = (relabelling.labels(source, law, wanted, named, SCREEN) for law in laws)
    changes = constitution_diff.diff(under_a, under_b, laws, examples)
    if as_json:
        show({"a": a, "b": b, "aspect": named, "model": source.model, **changes}, as_json)
        return
    show({name: value for name, value in changes.items() if name not in ("principles", "examples")}, as_json)
    show_rows(changes["principles"], f"who moved the labels from {a} (A) to {b} (B)")
    console = Console(highlight=False)
    for example in changes["examples"]:
        console.print(_readable(example), markup=False, soft_wrap=True)


def _source(pairs: Path, model: str, aspect: Aspect, config: Path | None, settings: list[str]) -> Source:
    if not pairs.exists():
        raise SolonError(f"{pairs} does not exist; check the path")
    if not pairs.is_dir():
        if not model:
            raise SolonError("give the feedback model after --model: a file of pairs names none")
        asked = configuration(config, settings)
        return Source(RecordFile(pairs, PairRecord).read(), asked, model, asked.seed)
    if config:
        raise SolonError(f"--config and a run folder exclude each other: {pairs} has its own config.yaml")
    recorded, asked = (configs.load(pairs / "config.yaml", tree) for tree in ({}, overrides(settings)))
    return relabelling.of_run(pairs, recorded, asked, model, aspect)


def _readable(example: Example) -> str:
    asked = "\n".join(f"{turn['role']}: {turn['content']}" for turn in example["prompt"])
    return "\n".join(
        [
            "",
            f"── {example['id']}",
            _indented(asked),
            f"A prefers ({example['probability_a']:.1%}; under B {example['probability_b']:.1%}):",
            _indented(example["preferred"]),
            "over:",
            _indented(example["other"]),
            f"votes under A: {_opinions(example['votes_a'])}",
            f"votes under B: {_opinions(example['votes_b'])}",
        ]
    )


def _opinions(votes: Sequence[Opinion]) -> str:
    return ", ".join(f"{vote['principle']} {vote['probability']:.1%}" for vote in votes)


def _indented(text: str) -> str:
    if len(text) > SHOWN:
        text = text[:SHOWN] + "…"
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
    return textwrap.indent("\n".join(lines) or "(empty)", "    ")
