"""A checkpoint as a folder that needs no other: adapters merged, weights in another number type."""

import shutil
from pathlib import Path
from typing import Any

import torch

from solon import adapters, marks, models
from solon.adapter_folders import CONFIG, WEIGHTS, is_adapter
from solon.errors import SolonError
from solon.training import checkpoints

# What a folder of adapters is: the rest is its training's.
OF_ADAPTERS = (CONFIG, WEIGHTS, marks.FILE, "generation_config.json", "chat_template.jinja", "token*.json")


def export(folder: Path, out: Path, merge: bool, dtype: str | None) -> None:
    """Write the model in ``folder`` to ``out``, its mark with it.

    Adapters are copied as they are, or merged: added to the weights in ``dtype`` where those are stored in
    it, which rounds once, and else in float32. Without a ``dtype`` the weights keep their own. Raises
    SolonError where adapters alone are asked for in another number type.
    """
    alone = is_adapter(folder)
    if alone and not merge:
        if dtype:
            raise SolonError(f"{folder} holds adapters, which stay float32: give --merge too, or no --dtype")
        out.mkdir(parents=True, exist_ok=True)
        for file in (file for pattern in OF_ADAPTERS for file in folder.glob(pattern)):
            shutil.copyfile(file, out / file.name)
        return
    name = str(folder)
    stored = models.load_config(name).dtype or torch.float32
    wanted = getattr(torch, dtype) if dtype else stored
    model = _loaded(folder, stored if wanted == stored else torch.float32)
    if mark := marks.of_folder(folder):
        marks.put(model, mark)
    out.mkdir(parents=True, exist_ok=True)
    checkpoints.save(model.to(wanted), models.load_tokenizer(name), out)


def _loaded(folder: Path, dtype: torch.dtype) -> Any:
    """With its scoring head, where it has one."""
    name = str(folder)
    if is_adapter(folder):
        scores = adapters.head_of(folder) is not None
    else:
        scores = any("SequenceClass" in kind for kind in models.load_config(name).architectures or ())
    return models.load_preference_model(name, dtype) if scores else models.load_model(name, dtype)
