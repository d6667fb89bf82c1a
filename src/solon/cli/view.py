"""``solon view``: read a run in the browser, with all of its records."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.show import SCREEN

PORT = 8642  # one that no server of models takes


def view(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 is any free one.")] = PORT,
) -> None:
    """Show a run's report and all of its transcripts in the browser, from this machine only, until Ctrl-C."""
    from solon.report.viewer import Viewer  # brings the report's libraries, which take a second to import

    SCREEN.say(f"Reading the records of {run}.")
    with Viewer(run, port) as viewer:
        typer.echo(viewer.address)
        SCREEN.say("Open this address in a browser of this machine; Ctrl-C ends the viewer.")
        with suppress(KeyboardInterrupt):
            viewer.serve_forever()
