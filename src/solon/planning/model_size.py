"""How large a model is, from its configuration alone: no weights are read."""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from solon import models
from solon.errors import SolonError, first_line

NUMBER = re.compile(r"(\d+(?:\.\d+)?)([MBT])")
UNITS = {"M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class ModelSize:
    """A decoder's size in numbers of parameters and widths. Of a mixture of experts, all experts count."""

    parameters: int  # all; a matrix that is both input embedding and head counts once
    multiplied: int  # those that every token is multiplied with: neither the input embedding nor the head
    head: int  # of the matrix that gives the logits: hidden width times vocabulary
    vocabulary: int
    layers: int
    hidden: int
    attention: int  # width of all query heads together
    keys: int  # width of all key heads together; the values' is the same
    inner: int  # width of the feed-forward layer; of a mixture, of all experts that a token goes to
    matrices: int  # weights of all linear layers but the head: those that 4 bits take
    linear: int  # inputs and outputs of all linear layers but the head, which adapters scale with

    def scorer(self) -> "ModelSize":
        """With one score in the place of the logits; the embedding stays."""
        return replace(self, parameters=self.multiplied + self.head, head=0)

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA's two matrices on every linear layer (Hu et al. 2021, arXiv:2106.09685)."""
        return rank * self.linear


def of_model(name: str) -> ModelSize:
    """The size of a model that is here or on the hub. Raises SolonError where it cannot be told."""
    config = models.load_config(name)
    text: Any = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        heads = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
    except Exception as error:  # the libraries raise all sorts for what is no plain language model
        raise SolonError(f"the size of model {name!r} cannot be told ({first_line(error)})") from None
    parameters = sum(weight.numel() for weight in model.parameters())  # tied ones come once
    linear = [part for part in model.modules() if isinstance(part, nn.Linear) and part.weight is not head]
    outside = embedding.numel() + (0 if head is embedding else head.numel())
    return ModelSize(
        parameters=parameters,
        multiplied=parameters - outside,
        head=head.numel(),
        vocabulary=head.shape[0],
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        attention=heads * width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * width,
        inner=_inner(text),
        matrices=sum(part.weight.numel() for part in linear),
        linear=sum(part.in_features + part.out_features for part in linear),
    )


def _inner(text: Any) -> int:
    if width := getattr(text, "moe_intermediate_size", None):
        return int(width * getattr(text, "num_experts_per_tok", 1))
    return int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


def imagined(name: str) -> float | None:
    """The number of parameters where a model's name is nothing else, such as "52B"."""
    match = NUMBER.fullmatch(name)
    return float(match[1]) * UNITS[match[2]] if match else None


def of_number(parameters: float, vocabulary: int) -> ModelSize:
    """A plain transformer of about so many parameters, embeddings left out.

    It has 12 layers width^2 parameters (Kaplan et al. 2020, arXiv:2001.08361, table 1) and is 128 times as
    wide as deep, as the paper's family of models is (Askell et al. 2021, arXiv:2112.00861, appendix A): 52B
    has 64 layers and a width of 8192. Every head has keys of its own, and the head is the embedding.
    """
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    multiplied = 12 * layers * hidden**2
    return ModelSize(
        parameters=multiplied + vocabulary * hidden,
        multiplied=multiplied,
        head=vocabulary * hidden,
        vocabulary=vocabulary,
        layers=layers,
        hidden=hidden,
        attention=hidden,
        keys=hidden,
        inner=4 * hidden,
        matrices=multiplied,
        linear=layers * (4 * 2 * hidden + 2 * 5 * hidden),
    )
