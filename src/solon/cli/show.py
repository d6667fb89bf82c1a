"""What the command line shows: progress on standard error, results on standard output."""

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.progress import ProgressColumn as Column
from rich.table import Table
from rich.text import Text

from solon.evaluation.elo import Rating
from solon.progress import Watcher

FIGURES = ("loss", "accuracy", "reward", "kl")  # of a training step, shown beside its bar


class Rate(Column):
    """Records or steps a second, or seconds each where it takes longer."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="dim")


class Screen(Watcher):
    """Shows a bar for each part of a stage, with its rate and the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._bars: dict[str, Any] = {}

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True, style="red")

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        quiet_libraries()
        self.console.print(title, style="bold", markup=False)
        started = time.monotonic()
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
        )
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as self._progress:
            self._bars = {}
            yield
        self._progress = None
        self.console.print(f"  done in {duration(time.monotonic() - started)}", style="dim")

    def advance(self, part: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        if self._progress is None:
            return
        text = (
            "  ".join(f"{name} {figures[name]:.3g}" for name in FIGURES if name in figures) if figures else ""
        )
        if part not in self._bars:
            # Begun at what was there already, so that the rate counts this process's work alone.
            self._bars[part] = self._progress.add_task(part, total=total, completed=done, figures=text)
        self._progress.update(self._bars[part], completed=done, total=total, figures=text)


SCREEN = Screen()


def quiet_libraries() -> None:
    """Other libraries' warnings and progress bars would draw over ours."""
    from transformers.utils import logging  # takes seconds to import; whoever calls this needs it anyway

    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def show(figures: Mapping[str, Any], as_json: bool, title: str = "") -> None:
    """Figures on standard output: as JSON, or as a table of names and values."""
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    table = Table("", "", title=title or None, show_header=False, title_justify="left")
    for name, value in lines(figures):
        table.add_row(Text(name), Text(value))
    Console(highlight=False).print(table)


def elo_of(rating: Rating) -> str:
    return f"{rating.elo:+.0f} ({rating.low:+.0f} to {rating.high:+.0f})"


def show_rows(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """A table with a column for each key of the first row."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console(highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple | list):
        return " to ".join(map(_cell, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def lines(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from lines(value, f"{prefix}{name} · ")
        elif name.endswith("interval") and value:
            yield f"{prefix}{name}", f"{value[0]:.3f} to {value[1]:.3f}"
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.4g}"
        elif isinstance(value, str | int):
            yield f"{prefix}{name}", str(value)
