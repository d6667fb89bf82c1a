"""What the tests of the training stages share: toy dialogues, kills, and figures known exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon.prompts.dialogue import assistant, user
from solon.records import Example, PreferenceRecord, PromptRecord

Train = Callable[[Path, Callable[..., None]], dict[str, float]]


class Killed(Exception):
    pass


def unwatched(step: int, steps: int, metrics: dict[str, float]) -> None:
    pass


def killed_at(last: int) -> Callable[..., None]:
    def progress(step: int, steps: int, metrics: dict[str, float]) -> None:
        if step == last:
            raise Killed

    return progress


def metrics_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Those of the whole model, or of adapters."""
    return load_file(next(folder.glob("*.safetensors")))


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_a_kill_changes_nothing(train: Train, folder: Path, kills: tuple[int, ...]) -> None:
    """Killed at each of these steps in turn, a run ends bit for bit as one that was never stopped."""
    whole, broken = folder / "whole", folder / "broken"
    expected = train(whole, unwatched)
    for step in kills:
        try:
            train(broken, killed_at(step))
        except Killed:
            continue
        raise AssertionError(f"the run was to be killed at step {step}")
    seen: list[int] = []
    metrics = train(broken, lambda step, steps, _: seen.append(step))
    assert seen[0] > 1, "the run began anew instead of going on"
    assert metrics == expected
    assert metrics_of(broken) == metrics_of(whole)
    assert_same_weights(broken, whole)
    for kept in whole.glob("step-*"):
        assert_same_weights(broken / kept.name, kept)
    for records in whole.glob("samples.jsonl"):
        assert (broken / records.name).read_bytes() == records.read_bytes()
    assert {path.name for path in broken.iterdir()} == {path.name for path in whole.iterdir()}


CHECKPOINT = {
    "solon-mark.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "metrics.jsonl",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
ADAPTERS = CHECKPOINT - {"config.json", "model.safetensors"} | {
    "adapter_config.json",
    "adapter_model.safetensors",
}


def base_model(folder: Path, chat_model: Path) -> str:
    """A copy of the model whose tokenizer, as base models' do, has no template and no padding token."""
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = None
    tokenizer.pad_token = None
    model = AutoModelForCausalLM.from_pretrained(chat_model)
    model.config.pad_token_id = None
    model.generation_config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def often_ends(model: Path, folder: Path) -> str:
    """A copy of the model in which every fourth token ends an answer, so that few are cut off."""
    policy = AutoModelForCausalLM.from_pretrained(model)
    policy.generation_config.eos_token_id = list(range(0, 512, 4))
    policy.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def human_too(folder: Path, chat_model: Path) -> str:
    """A base model that has learned to answer "Yes." and then to ask the human's next question itself."""
    base_model(folder, chat_model)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin, rest = "\n\nHuman: {}\n\nAssistant:", " Yes.\n\nHuman: Why is that so?"
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        for question in QUESTIONS:
            before = tokenizer(begin.format(question), add_special_tokens=False)["input_ids"]
            after = tokenizer(rest, add_special_tokens=False)["input_ids"]
            tokens = torch.tensor([[tokenizer.bos_token_id, *before, *after]])
            labels = torch.tensor([[-100] * (1 + len(before)) + after])
            model(tokens, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def two_tokens(policy: Any, start: Any, prompt: Tensor, end: int) -> tuple[float, float, float]:
    """Exact KL from policy to start (nats an answer), entropy (nats a token) and length of answers.

    Answers have two tokens, or one where it is the end: the sum goes over every first token and every second.
    """
    followed = torch.cat([prompt.expand(512, -1), torch.arange(512)[:, None]], dim=1)
    logits, ref_logits = (model(followed).logits[:, -2:].log_softmax(-1) for model in (policy, start))
    first, second = logits[0, 0], logits[:, 1]
    goes_on = torch.arange(512) != end
    later_kl = (second.exp() * (second - ref_logits[:, 1])).sum(1) * goes_on
    later_entropy = -(second.exp() * second).sum(1) * goes_on
    kl = (first.exp() * (first - ref_logits[0, 0] + later_kl)).sum()
    entropy = (first.exp() * (later_entropy - first)).sum()
    length = 1 + (first.exp() * goes_on).sum()
    return kl.item(), (entropy / length).item(), length.item()


QUESTIONS = [
    "What is a llama?",
    "Who are you",
    "Say it",
    "Why is the night dark?",
    "Name a folder",
    "How",
    "More?",
]


def prompt_records(count: int = len(QUESTIONS)) -> list[PromptRecord]:
    return [
        PromptRecord(
            id=str(number),
            prompt=[user(QUESTIONS[number % len(QUESTIONS)] * (1 + number // len(QUESTIONS)))],
            set="helpful",
            kind="",
            split="train",
            source="test",
        )
        for number in range(count)
    ]


def example(question: str, answer: str) -> Example:
    return Example(id=question, prompt=[user(question)], completion=[assistant(answer)], source="helpful")


def pair(question: str, chosen: str, rejected: str, probability: float) -> PreferenceRecord:
    return PreferenceRecord(
        id=question,
        prompt=[user(question)],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        probability=probability,
        aspect="harmlessness",
        kind="",
        split="train",
        label_source="ai",
        labeller="test",
        votes=[],
    )
