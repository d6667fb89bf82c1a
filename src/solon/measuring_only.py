"""Models that may measure and never train: they know people's ratings of harm, which the method does without.

A harm scorer says so in its ``config.json``, where ``save_pretrained`` keeps it through any further training.
"""

import json
from pathlib import Path

MARK = "trained_on_human_harm_ratings"


def is_measuring_only(folder: Path) -> bool:
    """Whether the model in the folder, or one it was trained from, learned people's ratings of harm."""
    try:
        return bool(json.loads((folder / "config.json").read_bytes()).get(MARK))
    except (OSError, ValueError, AttributeError):  # whoever loads the model tells what is wrong with it
        return False


def refusal(name: str) -> str:
    return (
        f"model {name!r} was trained on people's ratings of harm, so it is for measuring only (solon eval "
        "harmfulness --scorer); name another"
    )
