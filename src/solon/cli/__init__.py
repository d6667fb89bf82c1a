"""The command line: ``solon init``, ``solon run``, every stage on its own, and what looks at the results."""

import os
import sys

import click
import typer

from solon.cli import audit, chat, constitution, evaluate, method, stages
from solon.cli.show import SCREEN
from solon.errors import SolonError

app = typer.Typer(
    help="Train a language model to follow a written constitution.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("init")(method.init)
app.command("run")(method.run)
app.command("report")(method.report)
app.command("audit")(audit.audit)
app.command("chat")(chat.chat)
app.add_typer(constitution.app, name="constitution", help="Show, check, import, compare constitutions.")
app.add_typer(evaluate.app, name="eval", help="Measure models, preference models and answers.")
stages.add_to(app)


def main() -> None:
    """Run the command. Exit status: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    # Threads that wait by spinning slow one another down many times over where another program runs as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=False)
    except SolonError as error:
        SCREEN.error(str(error))
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        SCREEN.error("Stopped. The same command goes on where this one was.")
        sys.exit(130)
