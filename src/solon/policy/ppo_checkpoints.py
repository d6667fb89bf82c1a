"""What PPO goes on from after a kill: the weights that it trains, and its optimiser's state.

Where weights are shared out (FSDP) each process writes its part; else the first writes all. Frozen weights
under adapters are where they came from.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import Optimizer

from solon.training import checkpoints, sharing

STEP = "trainer_state.json"  # where ``checkpoints.resumable`` finds what step it is, as in TRL's checkpoints


def save(out: Path, step: int, actor: nn.Module, optimizer: Optimizer, accelerator: Accelerator) -> None:
    """Write the checkpoint aside, and give it its place when all processes have written."""
    name = f"checkpoint-{step}"
    folder = out / checkpoints.ASIDE / name
    with checkpoints.writing(out):
        folder.mkdir(parents=True, exist_ok=True)
        state = _state(actor, optimizer)
        if sharing.shared_out() or accelerator.is_main_process:
            with without_warning():
                state_dict_saver.save(state, checkpoint_id=folder, no_dist=not sharing.shared_out())
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / STEP).write_text(json.dumps({"global_step": step}))
        checkpoints.put_in_place(out, name)
    accelerator.wait_for_everyone()


def load(checkpoint: Path, actor: nn.Module, optimizer: Optimizer) -> None:
    """Take in the checkpoint, which as many processes have written, or others."""
    state = _state(actor, optimizer)
    with without_warning():
        # Weights come into their places.
        state_dict_loader.load(state, checkpoint_id=checkpoint, no_dist=not sharing.shared_out())
    set_optimizer_state_dict(actor, optimizer, state["optimizer"])


@contextmanager
def without_warning() -> Iterator[None]:
    """Inside, torch does not warn that it takes this process for the only one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _state(actor: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    return {
        "actor": {name: weight for name, weight in actor.named_parameters() if weight.requires_grad},
        "optimizer": get_optimizer_state_dict(actor, optimizer),
    }
