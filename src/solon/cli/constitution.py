"""``solon constitution``: list, show, check, import and compare constitutions."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from solon import constitution
from solon.cli import constitution_diff
from solon.cli.options import AsJson
from solon.cli.show import show
from solon.errors import SolonError
from solon.sources import paper_files
from solon.store.files import write_atomically

app = typer.Typer(no_args_is_help=True)
app.command("diff")(constitution_diff.diff)
Name = Annotated[str, typer.Argument(help="A packaged constitution's name, or a YAML file.")]


@app.command("list")
def list_packaged(as_json: AsJson = False) -> None:
    """The constitutions that come with Solon."""
    show({name: constitution.load(name).description for name in constitution.packaged()}, as_json)


@app.command("show")
def show_one(name: Name) -> None:
    """Print a constitution as YAML, to be read or to start one's own from."""
    typer.echo(constitution.load(name).to_yaml(), nl=False)


@app.command()
def check(name: Name, as_json: AsJson = False) -> None:
    """Check a constitution; every mistake is told with its line and field."""
    show(_counts(constitution.load(name)), as_json)


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="The paper's JSON files, to be merged into one.")],
    out: Annotated[Path, typer.Option("--out", help="The YAML file to write.")],
    name: Annotated[str, typer.Option(help="The constitution's name; the file's by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Turn the paper's published prompt files into a constitution."""
    if out.exists():
        raise SolonError(f"{out} exists already; give another name after --out")
    parts = [paper_files.read(file) for file in files]
    merged = paper_files.merge(parts, name or out.stem)
    write_atomically(out, merged.to_yaml())
    show({"file": str(out), **_counts(merged)}, as_json)


def _counts(one: constitution.Constitution) -> dict[str, int | str]:
    counts = Counter(
        {
            "critique principles": len(one.critique),
            "comparison principles": len(one.comparison),
            "steps of the rating scale": len(one.rating.scale) if one.rating else 0,
            "critique examples": len(one.examples.critique),
            "comparison examples": len(one.examples.comparison),
            "reasoning examples": len(one.examples.reasoning),
        }
    )
    return {"name": one.name, **counts, "hash": one.content_hash}
