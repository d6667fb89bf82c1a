"""A scoring head for every family: transformers' own classifier, or one made as transformers makes them."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from solon.libraries.transformers import GenericForSequenceClassification


class Scored(GenericForSequenceClassification):  # type: ignore[misc]
    """A trunk with a linear layer, ``score``, on its last states; mixed with a family's own base class."""

    def forward(
        self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> SequenceClassifierOutputWithPast:
        """``logits`` [rows, labels], read at the last token that is not padding, as transformers does.

        Of the trunk's results the last states alone are asked for: families differ in all others.
        """
        trunk = getattr(self, self.base_model_prefix)
        given = {name: value for name, value in options.items() if value is not None and name != "labels"}
        states = trunk(input_ids, attention_mask=attention_mask, **given).last_hidden_state
        places = torch.arange(input_ids.shape[1], device=states.device)
        pad = self.config.get_text_config().pad_token_id
        ends = (places * (input_ids != pad)).argmax(-1) if pad is not None else places[-1]
        return SequenceClassifierOutputWithPast(
            logits=self.score(states[torch.arange(len(states), device=states.device), ends])
        )


def classifier(config: PreTrainedConfig) -> Any:
    """The class of the family's model with a score; None where transformers has no such family."""
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    return made(config) if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None


def in_float32(scorer: Any) -> Any:
    """The scorer with its head in float32, whatever the number type of the states that it reads."""
    head = scorer.score
    head.float()
    head.register_forward_pre_hook(_exactly)
    return scorer


def _exactly(head: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
    weights = next(head.parameters())
    return (inputs[0].to(weights.dtype),)


def with_trunk_in(scorer: Any, dtype: torch.dtype) -> Any:
    """The scorer with all but its head in this number type."""
    if dtype == torch.float32:
        return scorer
    getattr(scorer, scorer.base_model_prefix).to(dtype)
    return in_float32(scorer)


def on_trunk(model: Any, weight: Tensor) -> PreTrainedModel:
    """A scorer on the trunk of a causal language model, which has no other, with a head [1, width]."""
    kind: Any = classifier(model.config)
    with torch.device("meta"):
        scorer = kind(model.config)
    setattr(scorer, scorer.base_model_prefix, getattr(model, model.base_model_prefix))
    scorer.score = torch.nn.Linear(weight.shape[1], 1, bias=False, device=weight.device)
    scorer.score.weight = torch.nn.Parameter(weight.float(), requires_grad=False)
    return in_float32(scorer)


def made(config: PreTrainedConfig) -> Any:
    """The class that transformers would give the family, with the trunk's weights under their own names.

    So once transformers has the class, it reads what was saved by this one.
    """
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    family = causal.__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    parts = {
        "base_model_prefix": _trunk(causal, config),
        "config_class": causal.config_class,
        "__module__": causal.__module__,  # where transformers looks for what the family can do
    }
    return type(f"{family}ForSequenceClassification", (Scored, causal.__bases__[0]), parts)


def _trunk(causal: Any, config: Any) -> str:
    """What the model of this class has its trunk as, which is not always what the class says."""
    if not isinstance(config, causal.config_class):
        config = config.get_text_config()
    with torch.device("meta"):
        network = causal(config)
    return next(str(name) for name, part in network.named_children() if isinstance(part, PreTrainedModel))
