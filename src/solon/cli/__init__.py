"""The command line: ``solon init``, ``solon run``, every stage on its own, and what looks at the results."""

import os
import sys
from typing import Annotated

import typer

from solon import __version__
from solon.cli import (
    audit,
    chat,
    constitution,
    evaluate,
    export,
    harmfulness,
    plan,
    publish,
    relabel,
    run,
    stages,
    sweep,
    view,
)
from solon.cli.show import SCREEN
from solon.errors import SolonError

STOPPED = 130  # exit status, as shells have it for Ctrl-C

app = typer.Typer(
    help="Train a language model to follow a written constitution.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,  # a key may be among them
)


def show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"solon {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """What stands before a command."""


app.command("init")(run.init)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("sweep")(sweep.sweep)
app.command("relabel")(relabel.relabel)
app.command("report")(run.report)
app.command("view")(view.view)
app.command("audit")(audit.audit)
app.command("publish")(publish.publish)
app.command("chat")(chat.chat)
app.command("export")(export.export)
app.add_typer(constitution.app, name="constitution", help="Show, check, import, compare constitutions.")
app.add_typer(evaluate.app, name="eval", help="Measure models, preference models and answers.")
app.add_typer(harmfulness.train, name="train", help="Train models that measure, and are no part of a run.")
stages.add_to(app)


def main() -> None:
    """Run the command. Exit status: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    # Threads that wait by spinning slow one another down many times over where another program runs as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except SolonError as error:
        SCREEN.error(str(error))
        sys.exit(2)
    except typer.TyperException as error:
        SCREEN.error(misuse(error))
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        SCREEN.error(f"{where}{error.strerror or error}; mend that and give the same command again")
        sys.exit(2)
    if status == STOPPED:  # which typer makes of Ctrl-C
        SCREEN.error("Stopped. The same command goes on where this one was.")
        sys.exit(STOPPED)


def misuse(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where to read what it takes; or that help where nothing is."""
    said, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if "\n" in said or context is None:
        return said
    return f"{said}{' See' if said.endswith('?') else '; see'} '{context.command_path} --help'"
