"""An engine that counts what its requests would cost a model, and writes placeholder texts in their stead.

Stages run on it as they run on a model, so a plan asks what a run will ask, in the same words.
"""

import random
import re
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from solon.errors import SetAside
from solon.inference.active import begin
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.prefill import LEAST_MATCH
from solon.inference.prefix import Tokens, common_length
from solon.inference.scoring import Sheet
from solon.seeds import generator
from solon.texts.words import words

SCORER = "preference model"
Way = Literal["prompt", "generate", "train"]
KEY = np.dtype(">u4")
WORD = re.compile(r"[a-z]{2,}")


@dataclass(frozen=True)
class Load:
    """Tokens that go through one model in one way."""

    role: str  # "assistant", "policy", "feedback" or SCORER
    way: Way
    tokens: float = 0  # that go through the model
    naive: float = 0  # that would, had every sequence been computed on its own
    attended: float = 0  # of all these tokens together: how many tokens each attends to, itself included
    logits: float = 0  # tokens whose logits are computed

    def __add__(self, other: "Load") -> "Load":
        assert (self.role, self.way) == (other.role, other.way)
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            naive=self.naive + other.naive,
            attended=self.attended + other.attended,
            logits=self.logits + other.logits,
        )

    def times(self, factor: float) -> "Load":
        return replace(
            self,
            tokens=self.tokens * factor,
            naive=self.naive * factor,
            attended=self.attended * factor,
            logits=self.logits * factor,
        )


def attended(start: int, end: int) -> int:
    """How many tokens those at positions ``start`` to ``end`` (not included) attend to, all together."""
    return (end * (end + 1) - start * (start + 1)) // 2


def together(first: Sequence[Load], second: Sequence[Load]) -> list[Load]:
    """The loads of both; those of one role and way are added up."""
    sums: dict[tuple[str, str], Load] = {}
    for load in (*first, *second):
        key = (load.role, load.way)
        sums[key] = sums[key] + load if key in sums else load
    return list(sums.values())


class CountingEngine(Engine):
    """Counts as the transformers engine shares: a prompt's beginning is computed once.

    It takes the beginnings of all earlier requests of a block to be kept, as the engine keeps those of the
    last ones: records of one stage share little but the few-shot examples. Texts are ``share`` of
    ``max_tokens`` long and made of the words of ``texts``, with no sense but without repetition. Where the
    model thinks before it answers, the same share of ``thoughts`` tokens comes before.
    """

    def __init__(
        self,
        role: str,
        tokenizer: PreTrainedTokenizerBase,
        batch: int,
        share: float,
        texts: Sequence[str],
        system: str | None = None,
        thoughts: int = 0,
    ) -> None:
        self.model_name, self.concurrency, self.usage = role, batch, Usage()
        self.prompt, self.generated = Load(role, "prompt"), Load(role, "generate")
        self.longest = 0  # tokens of a sequence, with the most that it may become
        self._share, self._thoughts = share, thoughts
        self._words = sorted({word for text in texts for word in WORD.findall(text) or words(text)})
        plain: Any = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
        self.dialogue = DialogueTokens(tokenizer, plain, system)
        self._seen: list[bytes] = []  # sorted, so that neighbours share the longest beginnings
        self._finished: list[Completion | SetAside] = []

    def submit(self, request: Request) -> None:
        _, prompt = self.dialogue.prompt(request.messages, request.prefill)
        self.prompt += self._computed(prompt, len(prompt) - 1, logits=1)
        written = self._text(request)
        tokens = self.dialogue.tokenizer.encode(written, add_special_tokens=False)
        writing = begin(request, prompt, self.dialogue, sys.maxsize, self._thoughts)
        count = len(tokens) + round(self._share * writing.thoughts)
        attention = attended(len(prompt), len(prompt) + count)
        self.generated += Load(self.model_name, "generate", count, count, attention, count)
        self._remember(as_key([*prompt.tolist(), *tokens]))
        self.longest = max(self.longest, len(prompt) + writing.most)
        self._finished.append(Completion(request.id, written, "stop", len(tokens)))

    def poll(self) -> list[Completion | SetAside]:
        finished, self._finished = self._finished, []
        return finished

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        # Whatever the context: ``longest`` says how long it must be.
        sheet = Sheet(self.dialogue, questions, sys.maxsize, self.model_name)
        for row in sheet.rows:
            self.prompt += self._computed(row.tokens, row.start, logits=len(row.tokens) - row.start)
            extra = len(row.tokens) * (len(row.choices) - 1)
            self.prompt += Load(self.model_name, "prompt", naive=extra)
            self.longest = max(self.longest, len(row.tokens))
        for question in questions:
            draws = generator(0, "score", question.id)
            yield ChoiceScores(question.id, tuple(-draws.random() for _ in question.choices))

    def take(self) -> list[Load]:
        """The loads since the last call."""
        loads = [self.prompt, self.generated]
        self.prompt, self.generated = Load(self.model_name, "prompt"), Load(self.model_name, "generate")
        return loads

    def forget(self) -> None:
        self._seen.clear()

    def close(self) -> None:
        self.forget()

    def _computed(self, tokens: Tokens, shareable: int, logits: int) -> Load:
        key = as_key(tokens[:shareable].tolist())
        place = bisect_left(self._seen, key)
        known = max(
            (
                common_length(as_tokens(seen), as_tokens(key))
                for seen in self._seen[max(0, place - 1) : place + 1]
            ),
            default=0,
        )
        if known < LEAST_MATCH:
            known = 0
        self._remember(as_key(tokens.tolist()))
        return Load(
            self.model_name, "prompt", len(tokens) - known, len(tokens), attended(known, len(tokens)), logits
        )

    def _remember(self, key: bytes) -> None:
        place = bisect_left(self._seen, key)
        if place < len(self._seen) and self._seen[place].startswith(key):
            return
        self._seen.insert(place, key)

    def _text(self, request: Request) -> str:
        count = max(1, round(self._share * request.max_tokens))
        draws = random.Random(request.seed)
        words = " ".join(draws.choices(self._words, k=count))
        tokens = self.dialogue.tokenizer.encode(words, add_special_tokens=False)
        text: str = self.dialogue.tokenizer.decode(tokens[: max(1, count - 1)])
        return f"{text}."


def as_key(tokens: Sequence[int]) -> bytes:
    """Tokens as bytes that sort as the tokens do."""
    return np.array(tokens, dtype=KEY).tobytes()


def as_tokens(key: bytes) -> Tokens:
    return np.frombuffer(key, dtype=KEY)
