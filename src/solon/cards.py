"""What models from elsewhere say of the labels that they learned from: in names, cards and configurations.

A card may leave out, or not know, what a model learned; so silence proves nothing.
"""

import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from solon.config import LITELLM_MODEL, SERVER_MODEL, UNSAFE, on_server
from solon.store.files import local

HUB_NAME = re.compile(r"^\w[\w.-]*/\w[\w.-]*$")
FIELDS = ("datasets", "base_model", "tags", "model_name")  # of a card's head
READ = ("README.md", "config.json", "adapter_config.json", "solon-mark.json")  # of a model on the hub

# Public data sets with people's labels of harm. Of hh-rlhf the helpful parts alone have none.
SETS = re.compile(
    r"(?P<name>hh-rlhf(?![\w/-]*helpful)|pku-?saferlhf[\w-]*|beavertails[\w-]*|harmless-base|red-team-attempts"
    r"|toxic-?chat\b|wildguard-?mix|aegis-ai-content-safety[\w.-]*|civil[_-]comments|jigsaw[\w-]*toxic[\w-]*"
    r"|bot[_-]adversarial[_-]dialogue|prosocial-dialog|toxigen[\w-]*|diasafety|hate[_-]speech[\w-]*)",
    re.IGNORECASE,
)
# Models that are known to have learned from such labels, and names that say as much of themselves.
LEARNED = re.compile(
    r"beaver-\d|llama-?guard|wildguard|shieldgemma|aegis-ai|toxic-?bert"
    r"|(harmless|safety|toxi|unsafe)[a-z]*[\W_]+([^\W_]+[\W_]+){0,3}?(reward|cost|rm|pm|preference|scorer)"
    r"(?![a-z])|(?<![a-z])(reward|cost|rm|pm|preference|scorer)[\W_]+([^\W_]+[\W_]+){0,3}?(harmless|safety|toxi)",
    re.IGNORECASE,
)
# What a classifier tells apart that people labelled.
CLASSES = re.compile(r"(un)?safe|(non[\W_])?toxic|harmful|hate\w*", re.IGNORECASE)
LEARNING = re.compile(r"\b(train|tun(e|ing)|finetun|learn|fitted|align)", re.IGNORECASE)
MEASURING = re.compile(r"\b(evaluat|benchmark|test(ed)? on|not |never |without )", re.IGNORECASE)

BEFORE = "trained_on_human_harm_ratings"  # in ``config.json`` of Solon's own harm scorers of before 2026-12


def read(name: str) -> tuple[str, str]:
    """Why a model without a mark must be taken to have learned people's labels of harm, and what is known.

    The first is "" where nothing says so. ``name`` is what the roles take.
    """
    file, folder = file_of(name), folder_of(name)
    place = name.removeprefix(UNSAFE).removeprefix(SERVER_MODEL).removeprefix(LITELLM_MODEL)
    names, text, why = [Path(place).name if file or folder else place], "", ""
    known = "on the hub" if HUB_NAME.match(place) else "an embedded model"
    if on_server(name):
        known = "on a server"
    elif file:
        names += gguf_texts(file)
        known = "no field of the file names such labels"
    elif folder:
        front, text = card(folder)
        why, configured = by_configuration(folder)
        names += [*configured, *texts([front.get(field) for field in FIELDS])]
        if folder.parent.name == "snapshots":  # of the hub's cache: models--OWNER--NAME/snapshots/COMMIT
            names.append(folder.parent.parent.name.rpartition("--")[2])
        known = "its card names no such labels" if text else "it has no card"
    why = why or next(filter(None, map(by_name, names)), "") or by_text(text)
    if found := SETS.search(text):
        known = f"its card names {found['name']}"
    return why, f"origin unknown: {known}"


def by_configuration(folder: Path) -> tuple[str, list[str]]:
    """What the folder's configurations say outright of such labels, and the names in them."""
    from solon.libraries.transformers import SOURCE  # takes seconds to import

    config = json_of(folder / "config.json")
    names = [str(config.get(SOURCE) or ""), *adapted(folder)]
    if config.get(BEFORE):
        return "its config.json says that people's ratings of harm trained it", names
    classes = [each for each in texts(config.get("id2label")) if CLASSES.fullmatch(each)]
    return f"its config.json says that it tells {classes[0]!r} apart" if classes else "", names


def by_text(text: str) -> str:
    """What a sentence of a card says outright."""
    for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n|\n(?=[-*#|])", text):
        found = SETS.search(sentence)
        if found and LEARNING.search(sentence) and not MEASURING.search(sentence):
            return f"its card tells of training on {found['name']}"
    return ""


def by_name(text: str) -> str:
    """What the name of the model, of a data set, or of what the model was made from tells."""
    name = text.strip().rstrip("/").rpartition("/")[2]  # folders are called as one likes
    helpful = "helpful" in name.lower() and "harmless" not in name.lower()
    found = None if helpful else SETS.search(name) or LEARNED.search(name)
    return f"{text.strip():.80} is its name or what its card or configuration names" if found else ""


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """The head of the folder's model card, and its whole text."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, ""
    head = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        front = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        front = {"tags": head[1].splitlines() if head else []}  # not YAML, so by its lines
    return front if isinstance(front, dict) else {}, text


def texts(value: Any) -> list[str]:
    """The texts in a value of a card, however it nests them."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [str(value)] if value else []


def adapted(folder: Path) -> list[str]:
    """The model that a folder's adapters are for; none where it has no adapters."""
    base = json_of(folder / "adapter_config.json").get("base_model_name_or_path")
    return [str(base)] if base and local(str(base)) != folder else []


def folder_of(name: str) -> Path | None:
    """The folder with the model's configuration and card; None where there is none (GGUF files, servers)."""
    place = name.removeprefix(UNSAFE)
    if path := local(place):
        return path if path.is_dir() else None
    return _of_hub(place) if HUB_NAME.match(place) else None


def file_of(name: str) -> Path | None:
    """The GGUF file that the name stands for."""
    path = local(name.removeprefix(UNSAFE))
    return path if path and path.is_file() else None


@cache
def _of_hub(name: str) -> Path | None:
    """What can be read of a model on the hub without its weights; None where the hub cannot be reached."""
    from huggingface_hub import snapshot_download  # comes with transformers, and takes a second to import

    try:
        return Path(snapshot_download(name, allow_patterns=list(READ)))
    except Exception:  # whoever loads the model tells what is wrong
        return None


def json_of(path: Path) -> dict[str, Any]:
    """The object in the file; {} where there is none: whoever loads the model tells what is wrong with it."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# Sizes of GGUF's plain values by their type; 8 is a text, 9 a list.
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEXT, LIST = 8, 9


def gguf_texts(path: Path) -> list[str]:
    """The texts of a GGUF file's ``general.`` fields: names, tags, base models, data sets."""
    return [text for texts in gguf_fields(path).values() for text in texts]


def gguf_fields(path: Path) -> dict[str, list[str]]:
    """The same by field.

    The library that comes with the format reads all tokens for them, which takes seconds.
    """
    said: dict[str, list[str]] = {}
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return {}
            _, _, count = struct.unpack("<IQQ", file.read(20))
            for _ in range(count):
                key = _text(file)
                values = list(_values(file, _number(file, 4)))
                if key.startswith("general."):
                    said[key] = values
    except (OSError, struct.error, KeyError, RecursionError, MemoryError, OverflowError):
        pass  # whoever loads the model tells what is wrong with it
    return said


def _values(file: BinaryIO, kind: int) -> Iterator[str]:
    """The texts in the value that comes next, which is read past."""
    if kind == TEXT:
        yield _text(file)
    elif kind == LIST:
        kind, count = _number(file, 4), _number(file, 8)
        if kind in SIZES:
            file.seek(SIZES[kind] * count, 1)
        else:
            for _ in range(count):
                yield from _values(file, kind)
    else:
        file.seek(SIZES[kind], 1)


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, 8)).decode("utf-8", "replace")


def _number(file: BinaryIO, size: int) -> int:
    read = file.read(size)
    if len(read) < size:
        raise struct.error("the file ends")
    return int.from_bytes(read, "little")
