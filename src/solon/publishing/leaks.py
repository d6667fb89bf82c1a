"""Secrets and personal paths in what would go out: found before anything does."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from solon.errors import SolonError
from solon.publishing.names import Names
from solon.publishing.parcel import File, Parcel
from solon.store.manifest import flat
from solon.store.run_folder import RunFolder

SHOWN = 5  # of what was found; all are counted

# Keys and tokens by the shape that who hands them out gives them.
SECRETS: Mapping[str, str] = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an API key": r"(?<![A-Za-z0-9])(?:sk-|[sr]k_(?:live|test)_)(?=[\w-]*\d)[\w-]{16,}"
    r"|(?<![A-Za-z0-9])(?:gsk_|xai-|pplx-|nvapi-|r8_|AIza|tskey-)(?=[\w-]*\d)[\w-]{24,}",
    "a Hugging Face token": r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{20,}",
    "a GitHub token": r"(?<![A-Za-z0-9])(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a GitLab token": r"(?<![A-Za-z0-9])gl(?:pat|ptt|dt|rt|cbt)-[\w-]{20,}",
    "an AWS key": r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "a Slack token": r"(?<![A-Za-z0-9])xox[abeoprs]-[\w-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w+",
    "a package registry's token": r"(?<![A-Za-z0-9])(?:npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}"
    r"|dckr_pat_[\w-]{20,})",
    "a service's token": r"(?<![A-Za-z0-9])(?:ya29\.[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|dop_v1_[a-f0-9]{40,}|dapi[a-f0-9]{32}|\d{8,10}:[\w-]{35}(?![\w-]))",
    "a signed token": r"(?<![A-Za-z0-9])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "an authorization header": r"(?i:\b(?:bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{20,}",
    "a password in an address": r"(?i:\b[a-z][a-z0-9+.-]{0,20}://)[^\s/:@\"'<>]+:[^\s/@\"'<>]{3,}@[\w.-]+",
    "a secret that is called one": r"(?i:(?:api|access|auth|secret|private|account)[_-]?(?:key|token|secret)"
    r"|client[_-]?secret|passw(?:or)?d|credentials?)[\\\"']*\s*[:=]\s*[\\\"']*(?=[\w+/.~-]*\d)(?=[\w+/.~-]*[A-Za-z])"
    r"[\w+/.~-]{16,}|(?i:(?:token|secret)[\\\"']*\s*[:=]\s*[\\\"']*)(?=[\w+/~-]*\d)(?=[\w+/~-]*[A-Za-z])[\w+/~-]{24,}",
}
# Where people have their files: home folders of Linux and macOS, also below other folders, and of Windows.
PATHS: Mapping[str, str] = {
    "a personal path": r"(?<![\w.])(?<!:/)(?:/[\w.@+-]+)*/(?:home|homes|Users)/[\w.@+-]+"
    r"|(?<![\w.~/-])/root/[\w.-]+|\b[A-Za-z]:(?:\\+|/)(?:Users|Documents and Settings)(?:\\+|/)[^\\/\s\"']+",
}
# What variables are called that hold such things.
VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
CONFIGURED, OTHERS = 8, 16  # characters at least of their values: shorter ones also stand in ordinary text


class Leaks:
    """Finds them in lines of text."""

    def __init__(self, run: RunFolder, folder: Path, names: Names, allowed: Collection[str] = ()) -> None:
        """``allowed`` are found texts that who publishes has looked at and lets through."""
        self._allowed = set(allowed)
        # As it is, and as JSON has it.
        self._secret = {why: {value, json.dumps(value)[1:-1]} for value, why in _values(run)}
        places = {str(folder), str(folder.resolve()), str(Path.cwd()), str(Path.home()), *names.paths}
        mine = [each.removeprefix("unsafe:").removeprefix("datasets:") for each in places]
        # Not what a machine of others has too, such as "/".
        own = sorted({each for each in mine if len(Path(each).parts) > 2}, key=len, reverse=True)
        here = rf"(?<![\w.])(?:{'|'.join(map(re.escape, own))})(?![\w-])"
        patterns = {**SECRETS, **PATHS, **({"a path of this machine": here} if own else {})}
        self._kinds = list(patterns)
        self._pattern = re.compile("|".join(f"({pattern})" for pattern in patterns.values()))

    def found(self, line: str) -> Iterator[str]:
        """What is wrong with a line, a phrase each. Secrets are not repeated."""
        yield from (why for why, texts in self._secret.items() if any(text in line for text in texts))
        line = line.replace("\\/", "/")  # as some programs write JSON
        for match in self._pattern.finditer(line):
            why = self._kinds[(match.lastindex or 1) - 1]
            if match[0] in self._allowed:
                continue
            yield f"what looks like {why} ({match[0][:4]}…)" if why in SECRETS else f"{why} ({match[0]})"


def _values(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Secrets that this process knows, and what they are."""
    from huggingface_hub import get_token

    settings = flat(run.settings)
    named = {str(value) for name, value in settings.items() if name.endswith("key_variable") and value}
    for variable, value in os.environ.items():
        asked = variable in named or variable == "OPENAI_API_KEY"
        if (asked or VARIABLE.search(variable)) and len(value) >= (CONFIGURED if asked else OTHERS):
            yield value, f"the value of the environment variable {variable}"
    if token := get_token():
        yield token, "your token for the hub"


def check(parcels: Iterable[Parcel], leaks: Leaks) -> None:
    """Raises SolonError, naming file and line, where a secret or a personal path would go out."""
    found = [
        f"{where}: {why}" for parcel in parcels for where, line in _lines(parcel) for why in leaks.found(line)
    ]
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise SolonError(
            "\n".join(["Nothing was sent, for this would have gone out:", *found[:SHOWN], *more])
            + "\nTake each out of the file that is named; what is nobody's is let through by --allow TEXT."
        )


def _lines(parcel: Parcel) -> Iterator[tuple[str, str]]:
    """The lines of all texts in the parcel, each with its place."""
    for name, file in parcel.files.items():
        for number, line in enumerate(_text(file.path), 1):
            yield _place(parcel, name, file, number), line


def _place(parcel: Parcel, name: str, file: File, number: int) -> str:
    if file.made_from:
        return f"{file.made_from} line {file.lines[number - 1] if file.lines else number}"
    return f"{parcel.name}/{name} line {number}"


def _text(path: Path) -> Iterator[str]:
    """The file's lines; of weights what their head says, in which there may be anything."""
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            size = int.from_bytes(file.read(8), "little")
            yield file.read(size).decode(errors="replace")
        else:
            for line in file:
                yield line.decode(errors="replace")
