"""Checkpoint folders: ordinary ones of transformers, in their place when they are whole."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from solon import adapter_folders, adapters, marks
from solon.errors import SolonError, first_line
from solon.inference.dialogue_tokens import end_tokens
from solon.store.files import flush
from solon.training import older_readers

ASIDE = "unfinished"  # where in a checkpoint folder things are written that are not whole yet, and deleted


def resumable(out: Path) -> Path | None:
    """The last ``checkpoint-*`` folder in ``out``.

    Damaged ones, whose state cannot be read, are deleted, as is what was never whole.
    """
    shutil.rmtree(out / ASIDE, ignore_errors=True)
    whole = {}
    for folder in out.glob("checkpoint-*"):
        try:
            whole[json.loads((folder / "trainer_state.json").read_text())["global_step"]] = folder
        except (OSError, ValueError):
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


def clear(out: Path) -> None:
    """Delete all checkpoints, and what is not whole: training is done."""
    for folder in out.glob("checkpoint-*"):
        delete(folder)
    shutil.rmtree(out / ASIDE, ignore_errors=True)


def step_of(checkpoint: Path | None) -> int:
    """The optimiser steps that were done; 0 where there is no checkpoint."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises SolonError for what the libraries raise, beside OSError, where the disk is full."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        raise SolonError(
            f"a checkpoint cannot be written to {folder} ({first_line(error)}); mend that and give the same "
            "command again, which goes on from the checkpoint before"
        ) from error


def put_in_place(out: Path, name: str) -> None:
    """Give a checkpoint that was written aside its place, in one step, and delete those before it."""
    flush(out / ASIDE / name)
    (out / ASIDE / name).rename(out / name)
    for older in out.glob("checkpoint-*"):
        if older.name != name:
            delete(older)


def delete(checkpoint: Path) -> None:
    """In one step too: what a kill leaves of its files must not be taken for a checkpoint."""
    gone = checkpoint.parent / ASIDE / checkpoint.name
    gone.parent.mkdir(exist_ok=True)
    checkpoint.rename(gone)
    shutil.rmtree(gone)


def save(
    model: Any, tokenizer: PreTrainedTokenizerBase, out: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write an ordinary transformers folder, or PEFT's where adapters are trained; wait until it is on disk.

    The model's mark, if it has one, is sealed. ``weights`` are the model's where it has not all of them.
    """
    # Not written over: they may be another run's as well (see ``reuse``), or of the other kind.
    for file in (*out.glob("*.safetensors"), out / "config.json", out / adapter_folders.CONFIG):
        file.unlink(missing_ok=True)
    with writing(out):
        write(model, tokenizer, out, weights)
    flush(out)


def write(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """The folder's files, for older readers too, with the model's mark sealed."""
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    if network.can_generate():  # for whoever generates with it elsewhere
        network.generation_config.eos_token_id = sorted(end_tokens(tokenizer, network))
    if isinstance(model, PeftModel):
        adapters.save(model, folder, weights)
        if network.can_generate():
            network.generation_config.save_pretrained(folder)
    else:
        model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    older_readers.write_for(folder)
    marks.seal(folder, getattr(network.config, marks.KEY, None))
