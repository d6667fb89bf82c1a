"""RL's update with shared prompts gives the figures and gradients of TRL's own batches."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from solon import models
from solon.policy import grpo, rloo
from solon.policy.sample_logprobs import packed_answers
from solon.prompts.dialogue import user
from solon.training import packing, setup
from test_packing import assert_same_gradients, computed_tokens

pytestmark = pytest.mark.numeric

PROMPTS = [[5, 6, 7, 8, 9, 10, 11]] * 3 + [[5, 6, 7, 12, 13]] * 2 + [[20, 21]]
ANSWERS = [[30, 31, 32], [30, 31, 33, 34], [40], [41, 42, 43, 44, 45], [41, 46], [50, 51, 52]]


def trainer(algorithm: str, model: Any, folder: Path) -> Any:
    tokenizer = models.load_tokenizer(str(model))
    kind, settings = {
        "rloo": (rloo.MeasuredRLOO, RLOOConfig),
        "grpo": (grpo.MeasuredGRPO, GRPOConfig),
    }[algorithm]
    arguments = setup.common_arguments(folder, 0, 6, 6, []) | {"bf16": False}  # exact on a GPU too
    return kind(
        model=models.load_model(str(model)),
        reward_funcs=lambda prompts, **_: [0.0] * len(prompts),
        args=settings(**arguments, num_generations=3, temperature=0.7, beta=0.1),
        train_dataset=setup.conversational([{"prompt": [user("Why?")]}], tokenizer, "prompt"),
        processing_class=tokenizer,
    )


def batch(device: torch.device) -> dict[str, Any]:
    """The samples as TRL pads them: prompts on the left, answers on the right."""
    before, after = max(map(len, PROMPTS)), max(map(len, ANSWERS))
    rows, seen = [], []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        left, right = before - len(prompt), after - len(answer)
        rows.append([0] * left + prompt + answer + [0] * right)
        seen.append([0] * left + [1] * (len(prompt) + len(answer)) + [0] * right)
    return {
        "input_ids": torch.tensor(rows, device=device),
        "attention_mask": torch.tensor(seen, device=device),
        "logits_to_keep": after,
        "compute_entropy": True,
    }


def found_with(maker: Any, packs: bool, batch_size: int | None, kind: Any = None) -> tuple[torch.Tensor, ...]:
    """``kind``'s method is asked; by default the trainer's own."""
    maker.packs = packs
    maker.model.zero_grad()
    logprobs, entropies, _ = (kind or type(maker))._get_per_token_logps_and_entropies(
        maker, maker.model, **batch(maker.model.device), batch_size=batch_size
    )
    weights = torch.arange(1, 1 + logprobs.shape[1], device=logprobs.device)
    ((logprobs - 0.3 * entropies) * weights).sum().backward()
    return logprobs.detach(), entropies.detach()


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("packs", [True, False])
def test_figures_and_gradients_are_those_of_trls_batches(
    tiny_model: Path, tmp_path: Path, algorithm: str, batch_size: int | None, packs: bool
) -> None:
    maker = trainer(algorithm, tiny_model, tmp_path)
    with torch.no_grad():  # far from even distributions, so that a wrong place shows
        for weight in maker.model.parameters():
            weight.mul_(3)
    trl = RLOOTrainer if algorithm == "rloo" else GRPOTrainer
    expected = found_with(maker, False, batch_size, trl)
    expected_gradients = gradients(maker.model)
    with packing.packed(maker.model) if packs else nullcontext():
        found = found_with(maker, packs, batch_size)
        found_gradients = gradients(maker.model)
    assert found[0].shape == (6, 5) and expected[0].min() < -1
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert_same_gradients(found_gradients, expected_gradients)


def test_a_prompt_is_computed_once_for_its_answers(tiny_model: Path, tmp_path: Path) -> None:
    maker = trainer("grpo", tiny_model, tmp_path)
    with packing.packed(maker.model), computed_tokens(maker.model) as computed:
        found_with(maker, True, None)
    # Each prompt once but for its last token, which every answer begins from.
    assert computed == [6 + 4 + 1 + sum(len(answer) + 1 for answer in ANSWERS)]


def test_the_labels_are_the_answers_where_they_are_predicted() -> None:
    sequences = [torch.tensor(p + a).numpy() for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    row, places = packed_answers(sequences, [len(answer) for answer in ANSWERS])
    for sequence, answer, mine in zip(sequences, ANSWERS, places, strict=True):
        assert row["shift_labels"][0, mine].tolist() == answer
        before = sequence[len(sequence) - len(answer) - 1 : -1].tolist()
        assert row["input_ids"][0, mine].tolist() == before
    assert (row["shift_labels"] != -100).sum() == sum(map(len, ANSWERS))


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_answers_to_one_prompt_stay_in_one_micro_batch(
    tiny_model: Path, tmp_path: Path, algorithm: str
) -> None:
    maker = trainer(algorithm, tiny_model, tmp_path)
    maker.args.steps_per_generation = 2
    sampled = {"prompt_ids": torch.arange(6), "num_items_in_batch": torch.tensor(9)}
    maker._generate_and_score_completions = lambda _: sampled
    given = []
    for maker._step in (0, 1):
        given.append(maker._prepare_inputs(None)["prompt_ids"].tolist())
    assert given == [[0, 1, 2], [3, 4, 5]]
