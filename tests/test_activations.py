"""Activations that are computed a second time: the same gradients, less kept, and when that is done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, MixtralConfig

from solon import config, models
from solon.errors import SolonError
from solon.libraries.transformers import recompute_activations
from solon.libraries.trl import fuse_head, fused_logprobs
from solon.policy.ppo import Policy
from solon.policy.sample_logprobs import packed_answers
from solon.training import activations, packing, setup

GIGA = 10**9


def kept_and_gradients(model: Any, loss: Callable[[], Tensor]) -> tuple[int, dict[str, Tensor]]:
    """Bytes that are kept for the backward pass, and what it gives."""
    kept = 0
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes if tensor.untyped_storage().data_ptr() not in weights else 0
        return tensor

    model.zero_grad()
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss()
    result.backward()
    return kept, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def assert_equal_without(model: Any, network: Any, loss: Callable[[], Tensor]) -> None:
    """With the network's layers run twice less is kept, and gradients are those of a pass that keeps all."""
    before, expected = kept_and_gradients(model, loss)
    recompute_activations(network)
    after, found = kept_and_gradients(model, loss)
    assert after < 0.6 * before
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5)


def answers() -> list[Any]:
    """Four, to two prompts of which each goes through the model once."""
    prompts = [torch.arange(3, 40), torch.arange(50, 90)]
    return [torch.cat([prompt, torch.arange(100 + n, 120)]).numpy() for prompt in prompts for n in range(2)]


def of_answers(model: Any) -> Tensor:
    row, _ = packed_answers(answers(), [20, 19, 20, 19])
    return fused_logprobs(model, row)[0].sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [None, 0.5])
def test_shared_prompts(dtype: torch.dtype, dropout: float | None, tiny_model: Path) -> None:
    """In packed rows, whose branches each layer is given; of adapters under the dropout that they have."""
    model = network = setup.without_dropout(models.load_model(str(tiny_model), dtype))
    fuse_head(network, 0.7)
    if dropout is not None:
        lora = config.Lora(rank=4, dropout=dropout)
        model = get_peft_model(model, setup.lora_config(lora, model, "CAUSAL_LM"))
    with packing.packed(network) as packs:
        assert packs
        assert_equal_without(model.train(), network, lambda: of_answers(model))


def test_scores(tiny_model: Path) -> None:
    model = models.load_preference_model(str(tiny_model)).train()
    batch = packing.pack([answers()[:2], answers()[2:]], None)
    with packing.packed_scores(model):
        assert_equal_without(model, model, lambda: model(**batch).logits.sigmoid().sum())


def test_ppo(tiny_model: Path) -> None:
    policy = Policy(models.load_model(str(tiny_model)), 1.0).train()
    torch.nn.init.normal_(policy.value.weight)
    tokens, starts = torch.randint(3, 500, (4, 40)), torch.tensor([20, 16, 20, 9])

    def loss() -> Tensor:
        logp, _, values = policy(tokens, starts, 20)
        return (logp + values**2).sum()

    assert_equal_without(policy, policy.network, loss)


def test_noise_in_the_choice_of_experts() -> None:
    """It is off in training, and stays so where a layer runs again."""
    torch.manual_seed(0)
    size: dict[str, Any] = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 32}
    size |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    family = MixtralConfig(**size, num_local_experts=4, router_jitter_noise=0.5)
    model = setup.without_dropout(AutoModelForCausalLM.from_config(family)).train()
    fuse_head(model, 1.0)
    with packing.packed(model):
        assert_equal_without(model, model, lambda: of_answers(model))


# When it is done


@pytest.mark.parametrize("adapters", [False, True])
def test_what_is_kept_is_near_what_is_counted(adapters: bool, tiny_model: Path) -> None:
    model = network = models.load_model(str(tiny_model)).train()
    if adapters:
        model = get_peft_model(model, setup.lora_config(config.Lora(rank=4), model, "CAUSAL_LM")).train()
    tokens = torch.randint(3, 500, (4, 256))
    kept, _ = kept_and_gradients(model, lambda: network.model(tokens)[0].mean() * 2)
    counted = tokens.numel() * activations.kept_of_token(network, adapters)
    assert 0.7 * kept < counted < 1.4 * kept


def test_auto_looks_at_what_all_takes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config.Supervised()
    for room, twice in ((GIGA, False), (10**6, True)):
        monkeypatch.setattr(activations, "memory", lambda room=room: room)
        model = models.load_model(str(tiny_model))
        activations.settle(model, asked, 1024)
        assert model.is_gradient_checkpointing == twice
    all_kept = activations.needed(model, asked, 1024, 0)
    assert activations.needed(model, asked, 2048, 0) > all_kept
    assert activations.needed(model, asked, 1024, 1) - all_kept == sum(p.nbytes for p in model.parameters())
    fewer = asked.model_copy(update={"lora": config.Lora(rank=2)})
    assert activations.needed(model, fewer, 1024, 0) < all_kept


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_set_holds(asked: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "memory", lambda: 1.0)
    model = models.load_model(str(tiny_model))
    activations.settle(model, config.Supervised(gradient_checkpointing=asked), 1024)
    assert model.is_gradient_checkpointing == asked


def test_a_family_that_cannot_is_refused_where_it_is_asked_for(tiny_model: Path) -> None:
    model = models.load_model(str(tiny_model))
    model.supports_gradient_checkpointing = False
    with pytest.raises(SolonError, match=r"^gradient_checkpointing is true, but .* family llama: set it to"):
        activations.settle(model, config.Supervised(gradient_checkpointing=True), 1024)
    activations.settle(model, config.Supervised(), 10**12)
    assert not model.is_gradient_checkpointing
