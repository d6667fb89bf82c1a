"""Adapters on a model's frozen weights: one base, and as many models as there are adapters on it.

LoRA (Hu et al. 2021, arXiv:2106.09685) adds to a matrix W the product of two thin ones, scale x B A. The
model that an adapter began as is the same base under another adapter, or under none, at no cost in memory.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, TaskType, get_peft_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from solon import adapter_folders, cards, scoring_heads
from solon.errors import SolonError, first_line
from solon.libraries.bitsandbytes import in_four_bits
from solon.libraries.transformers import HEADS
from solon.store.files import write_atomically

TRAINED = "default"  # the name that PEFT and TRL give the adapter that learns
SCORER = "scorer"  # ours for a preference model's
BEGINNING = "ref"  # and TRL its copy as it began


def put(network: Any, folder: Path, task: str = "CAUSAL_LM", trainable: bool = False) -> PeftModel:
    """The network under the adapters in ``folder``, which are in float32; its own weights are frozen.

    ``task`` is PEFT's name for what the network does: in "SEQ_CLS" its scoring head is trained too, and taken
    from the folder where it has one. Raises SolonError where they do not fit the network, or are not of the
    kind that is added to weights.
    """
    model, found = _made(network, folder, task, trainable)
    with torch.no_grad():
        _load(model, found, folder)
    return model.train(network.training)


def _load(model: PeftModel, found: dict[str, Tensor], folder: Path, adapter: str = TRAINED) -> None:
    try:
        loaded = set_peft_model_state_dict(model, found, adapter)
        missing = [name for name in loaded.missing_keys if "lora_" in name and f".{adapter}." in name]
        odd = sorted([*missing, *loaded.unexpected_keys])
    except RuntimeError:
        odd = ["their sizes are others"]
    if odd:
        raise SolonError(
            f"the adapters in {folder} do not fit the model that they name ({odd[0]}): correct "
            f"base_model_name_or_path in {adapter_folders.CONFIG}, or copy them anew"
        )


def _made(network: Any, folder: Path, task: str, trainable: bool) -> tuple[PeftModel, dict[str, Tensor]]:
    try:
        settings = PeftConfig.from_pretrained(str(folder))
        settings.inference_mode, settings.task_type = not trainable, TaskType(task)
        return get_peft_model(network, settings), load_file(folder / adapter_folders.WEIGHTS)
    except Exception as error:  # the libraries raise all sorts for what is damaged or does not fit
        raise SolonError(
            f"the adapters in {folder} cannot be put on the model that they name ({first_line(error)}): copy "
            f"them anew, or correct base_model_name_or_path in {adapter_folders.CONFIG}"
        ) from error


def merged(network: Any, folder: Path, task: str = "CAUSAL_LM") -> Any:
    """The network with the adapters in ``folder`` added to its weights, each rounded once to its type.

    Rounding to 4 bits would lose most of them: there they stay beside the weights.
    """
    model = put(network, folder, task)
    if any(map(in_four_bits, network.modules())):
        return model.get_base_model()
    return model.merge_and_unload().requires_grad_(True)


def scorer_on(model: PeftModel, folder: Path) -> Any:
    """The preference model in ``folder``, adapters for the model's own base, without weights of its own.

    It is itself under the adapter ``SCORER`` alone.
    """
    settings = PeftConfig.from_pretrained(str(folder))
    settings.inference_mode, settings.task_type, settings.modules_to_save = True, TaskType.CAUSAL_LM, None
    model.add_adapter(SCORER, settings)
    found = load_file(folder / adapter_folders.WEIGHTS)
    head = found.pop(next(name for name in found if is_head(name)))
    _load(model, found, folder, SCORER)
    model.base_model.set_adapter(TRAINED)
    return scoring_heads.on_trunk(model.get_base_model(), head)


def is_head(name: str) -> bool:
    """Whether a weight of this name is a scoring head's."""
    return name.endswith(tuple(f".{head}.weight" for head in HEADS))


def head_of(folder: Path) -> Tensor | None:
    """The weight [1, width] of the scoring head in the folder; None where there is none."""
    with safe_open(folder / adapter_folders.WEIGHTS, "pt") as file:
        names = [name for name in file.keys() if is_head(name)]  # noqa: SIM118 (no mapping)
        return file.get_tensor(names[0]) if names else None


@contextmanager
def under(model: PeftModel, name: str) -> Iterator[None]:
    """Inside, the model has the adapter of this name alone, and nothing is trained."""
    model.base_model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.base_model.set_adapter(TRAINED)


def keep_beginning(model: PeftModel) -> None:
    """Keep a copy of the adapter as it is now, as TRL's trainers do."""
    model.add_adapter(BEGINNING, model.peft_config[TRAINED])
    for name, weight in list(model.named_parameters()):
        if f".{TRAINED}." in name:
            copy = model.get_parameter(name.replace(f".{TRAINED}.", f".{BEGINNING}."))
            copy.data.copy_(weight.data)


def save(model: PeftModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapter that is trained, alone; its base is named, and its model card is not PEFT's.

    ``weights`` are the adapter's where the model has not all of them.
    """
    model.save_pretrained(folder, selected_adapters=[TRAINED], state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)
    settings = cards.json_of(folder / adapter_folders.CONFIG)
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"].sort()  # a set, in another order from one process to the next
    write_atomically(folder / adapter_folders.CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")
