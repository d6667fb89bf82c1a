"""Packed rows give the scores, losses and gradients of padded batches, and compute common beginnings once."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    JambaConfig,
    MistralConfig,
    NemotronConfig,
    OlmoConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from solon import config, marks, models
from solon.prompts.dialogue import assistant, user
from solon.stages import preference, supervised
from solon.training import packing, preference_scores
from solon.training.soft_labels import soft_label_loss
from toy_training import base_model, example, metrics_of, pair, unwatched, weights_of

pytestmark = pytest.mark.numeric

PAD = 0

PAIRS = {
    "mixed lengths": ([7, 8, 9, 10, 11, 12, 13], [7, 8, 9, 20, 21]),
    "a long beginning": ([*range(3, 60), 70, 71, 72], [*range(3, 60), 90]),
    "nothing in common": ([30, 31, 32, 33], [40, 41, 42, 43, 44, 45]),
    "the same": ([50, 51, 52], [50, 51, 52]),
    "one begins the other": ([60, 61], [60, 61, 62, 63, 64]),
    "one token": ([5], [6]),
    "ends in padding": ([80, 81, 82, PAD], [80, 81, PAD, 83, PAD, PAD]),
}


def examples(names: Any = PAIRS) -> list[dict[str, Any]]:
    return [
        {"chosen_ids": PAIRS[name][0], "rejected_ids": PAIRS[name][1], "probability": 0.55 + 0.05 * number}
        for number, name in enumerate(names)
    ]


def scorer(folder: Path | str) -> Any:
    torch.manual_seed(0)
    model = models.load_preference_model(str(folder))
    model.config.pad_token_id = PAD
    model.score.weight.data *= 20
    return model


def loss_and_gradients(
    model: Any, collator: Any, micro_batches: list[list[dict[str, Any]]]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = torch.zeros(())
    for micro_batch in micro_batches:
        batch = collator(micro_batch)
        probability = batch.pop("probability")
        chosen, rejected = model(**batch, use_cache=False).logits.squeeze(-1).float().chunk(2)
        loss = soft_label_loss(chosen, rejected, probability) * len(probability)
        loss.backward()
        total += loss.detach()
    return total, {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    whole = torch.cat([each.flatten() for each in expected.values()]).norm()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm() + 1e-7 * whole, name


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS", init_lora_weights=False)
    return get_peft_model(model, lora)


def checkpointing(model: Any) -> Any:
    model.gradient_checkpointing_enable()
    return model.train()


@pytest.mark.parametrize("sizes", [[7], [3, 4], [1] * 7], ids=str)
@pytest.mark.parametrize("wrap", [lambda model: model, adapted, checkpointing], ids=["full", "lora", "ckpt"])
def test_loss_and_every_gradient_are_those_of_padded_batches(
    tiny_model: Path, wrap: Callable[[Any], Any], sizes: list[int]
) -> None:
    rows = iter(examples())
    micro_batches = [[next(rows) for _ in range(size)] for size in sizes]
    base = scorer(tiny_model)
    model = wrap(base)
    padded, expected = loss_and_gradients(
        model, preference.SoftLabelCollator(pad_token_id=PAD), micro_batches
    )
    with packing.packed_scores(base) as packs:
        assert packs
        loss, found = loss_and_gradients(model, preference.PackedCollator(pad_token_id=PAD), micro_batches)
    assert loss.item() == pytest.approx(padded.item(), rel=1e-6)
    assert expected.keys() == {name for name, each in model.named_parameters() if each.requires_grad}
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_each_kind_of_pair_by_itself(tiny_model: Path, name: str) -> None:
    """Scores one by one: a sum over pairs could hide a swap."""
    model = scorer(tiny_model)
    alone = [
        model(torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens))).logits.item()
        for tokens in PAIRS[name]
    ]
    inputs = preference.PackedCollator(pad_token_id=PAD)(examples([name]))
    inputs.pop("probability")
    with packing.packed_scores(model):
        assert model(**inputs).logits.flatten().tolist() == pytest.approx(alone, abs=1e-5)


@torch.no_grad()
def test_no_sequence_sees_another(tiny_model: Path) -> None:
    """With other tokens in one place only the score of their own sequence moves."""
    model = scorer(tiny_model)
    groups = [list(PAIRS["mixed lengths"]), [[30, 31, 32], [30, 41, 42, 43], [30, 50]], [[9, 9, 9, 9]]]
    with packing.packed_scores(model):
        before = model(**packing.pack(groups, PAD)).logits.flatten()
        sequences = [(number, place) for number, group in enumerate(groups) for place in range(len(group))]
        for moved, (number, place) in enumerate(sequences):
            changed = [[list(sequence) for sequence in group] for group in groups]
            changed[number][place][-1] += 100
            after = model(**packing.pack(changed, PAD)).logits.flatten()
            still = [index for index in range(len(sequences)) if index != moved]
            torch.testing.assert_close(after[still], before[still], rtol=0, atol=1e-6)
            assert abs(after[moved] - before[moved]) > 1e-2


def test_a_common_beginning_is_in_the_row_once() -> None:
    row = packing.pack([[[1, 2, 3, 4], [1, 2, 5], [1, 2]], [[6, 7]]], None)
    assert row["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert row["ends"].tolist() == [3, 4, 1, 6]
    assert [[tuple(mask.shape[2:]) for mask in group] for group in row["branches"]] == [
        [(2, 4), (1, 3), (0, 2)],
        [(0, 2)],
    ]
    assert row["branches"][0][0][0, 0].tolist() == [[True, True, True, False], [True, True, True, True]]


@contextmanager
def computed_tokens(model: Any) -> Iterator[list[int]]:
    """The number of tokens of each forward pass."""
    seen: list[int] = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    yield seen
    hook.remove()


def test_answers_to_one_prompt_share_it_when_they_are_scored(tiny_model: Path) -> None:
    model, tokenizer = scorer(tiny_model), models.load_tokenizer(str(tiny_model))
    model.config.pad_token_id = tokenizer.pad_token_id
    question = user("Please tell me about llamas and the night, at length, and then about folders.")
    dialogues = [[question, assistant(answer)] for answer in ("Yes, I will", "No", "Why not?", "Yes")]
    dialogues.insert(2, [user("Who?"), assistant("A model of few words")])

    def scores(batch_size: int) -> list[float]:
        return preference_scores.score(model, tokenizer, dialogues, batch_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "packed_scores", lambda _: nullcontext(False))
        padded = scores(5)
    model.train()
    with computed_tokens(model) as seen:
        assert scores(5) == pytest.approx(padded, abs=1e-5)
        trial, computed = seen[:-1], seen[-1]
    assert scores(2) == pytest.approx(padded, abs=1e-5)
    assert model.training and model.config._attn_implementation == "sdpa"  # as it was before
    lengths = [
        len(tokenizer.apply_chat_template(dialogue, return_dict=True)["input_ids"]) for dialogue in dialogues
    ]
    prompt = len(tokenizer.apply_chat_template([question], return_dict=True)["input_ids"])
    assert max(trial) < 10
    assert computed <= sum(lengths) - 3 * prompt


TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "num_labels": 1,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
PLAIN = {
    "Qwen2": Qwen2Config(**TINY),
    "Qwen3": Qwen3Config(**TINY, head_dim=8),
    "Mistral without a window": MistralConfig(**TINY, sliding_window=None),
    "Gemma": GemmaConfig(**TINY, head_dim=8),
    "Phi3": Phi3Config(**TINY),
    "OLMo": OlmoConfig(**TINY),
}
OTHER = {
    "windows": MistralConfig(**TINY, sliding_window=4),
    "windows in some layers": Gemma2Config(**TINY, head_dim=8),
    "a state from token to token": JambaConfig(
        **TINY, num_experts=2, attn_layer_period=2, attn_layer_offset=1
    ),
    "positions learned by heart": GPT2Config(**{**TINY, "n_embd": 32}),
    "layers that hand nothing on": NemotronConfig(**TINY, head_dim=8),
}


def random_classifier(kind: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(kind).eval()
    model.config.pad_token_id = PAD
    return model


@pytest.mark.parametrize("name", PLAIN)
def test_architectures_with_plain_attention_are_packed(name: str) -> None:
    model = random_classifier(PLAIN[name])
    micro_batches = [examples()]
    padded, expected = loss_and_gradients(
        model, preference.SoftLabelCollator(pad_token_id=PAD), micro_batches
    )
    with packing.packed_scores(model) as packs:
        assert packs
        loss, found = loss_and_gradients(model, preference.PackedCollator(pad_token_id=PAD), micro_batches)
    assert loss.item() == pytest.approx(padded.item(), rel=1e-5)
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("name", OTHER)
def test_others_are_left_alone_and_it_is_said_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = random_classifier(OTHER[name])
    packing._say_that_it_pads.cache_clear()
    inputs = preference.SoftLabelCollator(pad_token_id=PAD)(examples())
    inputs.pop("probability")
    before = model(**inputs).logits
    with caplog.at_level(logging.WARNING, logger="solon"):
        for _ in range(2):
            with packing.packed_scores(model) as packs:
                assert packs is False
                assert torch.equal(model(**inputs).logits, before)
    said = [record.message for record in caplog.records if record.name == packing.__name__]
    assert [message.split(" are ")[0] for message in said] == [f"batches of {type(model).__name__}"]


def test_a_bias_for_distance_shows_in_the_trial(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances in the row are not those in the sequence, where a model measures them itself."""

    def leaning(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        bias = torch.linspace(0, 5, key.shape[2]).view(1, 1, 1, -1)
        return sdpa_attention_forward(module, query, key, value, mask, position_bias=bias, **options)

    model = scorer(tiny_model)
    assert packing._attends_plainly(model)
    monkeypatch.setattr(packing, "sdpa_attention_forward", leaning)
    assert not packing._attends_plainly(model)


def test_bfloat16_autocast_stays_within_its_rounding(tiny_model: Path) -> None:
    model = scorer(tiny_model)
    exact, expected = loss_and_gradients(model, preference.SoftLabelCollator(pad_token_id=PAD), [examples()])
    expected = {name: gradient.clone() for name, gradient in expected.items()}
    with packing.packed_scores(model), torch.autocast("cpu", torch.bfloat16):
        loss, found = loss_and_gradients(model, preference.PackedCollator(pad_token_id=PAD), [examples()])
    assert loss.item() == pytest.approx(exact.item(), rel=2e-2)
    whole, parted = (torch.cat([each.flatten() for each in all.values()]) for all in (expected, found))
    assert torch.cosine_similarity(whole, parted, dim=0) > 0.99


RECORDS = [
    pair("What is a llama?", "An animal with a long neck.", "No", 0.9),
    pair("Who are you?", "A model.", "I am the night, and the folder is the night too", 0.8),
    pair("Say something long, please, as long as you can", "No", "Yes, yes, yes, yes", 0.6),
    pair("Why?", "Because the template says so.", "Why not", 1.0),
    pair("And now?", "Now we wait.", "Now we wait for the tokens to come.", 0.7),
    pair("Again?", "The same", "The same", 0.5),
    pair("And again?", "The", "The night", 0.5),
]


@pytest.mark.parametrize("kind", ["chat", "base"])
@pytest.mark.parametrize("lora", [None, config.Lora(rank=4)], ids=["full", "adapters"])
@pytest.mark.parametrize("stage", ["preference", "supervised"])
def test_training_takes_the_same_steps_packed_and_padded(
    tiny_model: Path, tmp_path: Path, stage: str, lora: config.Lora | None, kind: str
) -> None:
    """The same pairs a step, by the metrics of every step; and the same weights and files in the end."""
    model = str(tiny_model) if kind == "chat" else base_model(tmp_path / "base", tiny_model)
    small = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-4, "epochs": 3, "lora": lora}
    small["weights"] = "float32"

    def train(out: Path) -> None:
        if stage == "preference":
            preference.train(RECORDS, model, out, config.PreferenceModel(**small), 3, unwatched)
        else:
            answers = [example(r["prompt"][0]["content"], r["rejected"][0]["content"]) for r in RECORDS]
            supervised.train(answers, model, out, config.Supervised(**small), 3, unwatched)

    train(tmp_path / "packed")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("packed", "packed_scores"):
            patch.setattr(packing, name, lambda _: nullcontext(False))
        train(tmp_path / "padded")
    ours, theirs = metrics_of(tmp_path / "packed"), metrics_of(tmp_path / "padded")
    assert len(ours) == len(theirs) == 6
    for our, their in zip(ours, theirs, strict=True):
        if (
            stage == "preference"
        ):  # which of two equal answers scores higher is rounding; the margin tells more
            our.pop("accuracy"), their.pop("accuracy")
        assert our == pytest.approx(their, rel=1e-4, abs=1e-6)
    before, packed, padded = map(weights_of, (Path(model), tmp_path / "packed", tmp_path / "padded"))
    for name, weight in padded.items():
        # Adam turns a gradient of next to nothing into a whole step, so a few weights may differ by more.
        apart = (packed[name] - weight).abs().flatten()
        assert np.quantile(apart, 0.99) < 2e-5, name
        assert name not in before or "norm" in name or lora or not torch.equal(weight, before[name])
    about = "adapter_config.json" if lora else "config.json"
    our_config, their_config = (
        json.loads((tmp_path / name / about).read_text()) for name in ("packed", "padded")
    )
    for found in () if lora else (our_config, their_config):
        del found[marks.KEY]["weights"], found[marks.KEY]["seal"]  # hashes of weights that are only near
    assert our_config == their_config
    file = "tokenizer_config.json"
    assert (tmp_path / "packed" / file).read_text() == (tmp_path / "padded" / file).read_text()


def test_supervised_batches_have_no_padding_and_no_label_across_a_seam() -> None:
    batch = supervised.packed_batch(
        [
            {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
            {"input_ids": [4, 5], "labels": [4, 5]},
        ]
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
