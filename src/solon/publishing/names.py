"""Models and files by their own names: where they are on a machine is nobody's business."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from solon.store.files import local
from solon.store.run_folder import RunFolder

PATH = re.compile(r"^(unsafe:|datasets:)?(~|\.{0,2}/|[A-Za-z]:[\\/]|\\\\)")


class Names:
    """Knows the paths that a run's settings and manifest name, and what to call them."""

    def __init__(self, run: RunFolder, folder: Path) -> None:
        named = _texts([run.settings, run.manifest.get("models") or {}])
        self.paths = {text for text in named if is_path(text)}
        own = {str(folder): run.name, str(folder.resolve()): run.name}
        self._called = {path: called(path) for path in self.paths} | own

    def within(self, text: str) -> str:
        """The text with the name of each of these in the place of its path."""
        for path in sorted(self._called, key=len, reverse=True):  # a folder's files before the folder
            name = self._called[path].replace("\\", r"\\")
            text = re.sub(re.escape(path) + r"(?![\w-])", name, text)
        return text

    def everywhere(self, value: Any) -> Any:
        """The same value with such names in all of its texts."""
        if isinstance(value, Mapping):
            return {name: self.everywhere(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(part) for part in value]
        return self.within(value) if isinstance(value, str) else value


def is_path(text: str) -> bool:
    """Whether the text is a place on a machine, this one or the one that it was written on."""
    return len(text) > 1 and "\n" not in text and bool(PATH.match(text) or ("/" in text and local(text)))


def called(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name or path


def _texts(value: Any) -> Iterator[str]:
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, str):
        yield value
    for part in parts:
        yield from _texts(part)
