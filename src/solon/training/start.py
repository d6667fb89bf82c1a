"""The models that trainings begin with: whole ones, or adapters on frozen weights."""

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel, get_peft_model

from solon import adapter_folders, adapters, marks, models, scoring_heads
from solon.errors import SolonError
from solon.inference.precision import native_type
from solon.marks import Mark
from solon.training import setup, sharing
from solon.training_settings import OnDevice


def policy(name: str, settings: OnDevice, mark: Mark) -> Any:
    """The causal language model to train: all weights in float32, or a PeftModel where ``lora`` is set."""
    return _begun(name, settings, mark, models.load_model, "CAUSAL_LM")


def scorer(name: str, settings: OnDevice, mark: Mark) -> Any:
    """The same of a model with one score a sequence; its head is in float32, and trained in full."""

    def load(name: str, dtype: torch.dtype, in_4_bits: bool) -> Any:
        return scoring_heads.in_float32(models.load_preference_model(name, dtype, in_4_bits=in_4_bits))

    return _begun(name, settings, mark, load, "SEQ_CLS")


def _begun(name: str, settings: OnDevice, mark: Mark, load: Callable[..., Any], task: str) -> Any:
    """Adapters that the name stands for go on, where adapters are trained, and are merged in where not."""
    if sharing.shared_out():
        try:
            settings.check_shared_out()
        except ValueError as error:
            raise SolonError(str(error)) from None
    if settings.lora is None:
        return marks.put(setup.without_dropout(load(name, torch.float32, False)), mark)
    base = marks.put(setup.without_dropout(load(models.whole(name), *frozen(settings))), mark)
    if folder := adapter_folders.adapter_of(name):
        adapter_folders.fits(name, settings.lora)
        model = adapters.put(base, folder, task, trainable=True)
    else:
        model = get_peft_model(base, setup.lora_config(settings.lora, base, task))
    # TRL, which asks the PeftModel, would round adapters on weights of 4 bits to bfloat16: a step of 1e-6 is
    # lost there.
    model.is_loaded_in_4bit = False
    return model


def frozen(settings: OnDevice) -> tuple[torch.dtype, bool]:
    """The number type of the weights under adapters, and whether they are packed in 4 bits.

    Nothing is timed: a run that goes on finds the same.
    """
    if settings.weights in {"auto", "4bit"}:
        return native_type(), settings.weights == "4bit"
    return getattr(torch, settings.weights), False


def network_of(model: Any) -> Any:
    """The transformers model that is trained, or that has the adapters which are."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
