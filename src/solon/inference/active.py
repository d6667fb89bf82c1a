"""A sequence that is being generated, and when it has ended."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import Completion, Request
from solon.inference.prefix import Tokens

# Tokens that were generated, and the log-probability, in nats, that each was drawn with.
Answer = tuple[list[int], list[float]]


@dataclass
class Active:
    """A request under way: its prompt's tokens, and those generated so far by its own draws.

    Where the model thinks first, ``thoughts`` are the most tokens of that. When they are spent, the thought
    is closed in the model's place.
    """

    request: Request
    prompt: Tokens
    stops: tuple[str, ...]
    most: int  # tokens that may be generated, those of thoughts among them
    thoughts: int = 0
    draws: random.Random = field(init=False)
    generated: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # that these were drawn with, nats
    # Where in these the answer begins; None while it has not, or cannot be told yet.
    answer: int | None = None
    cut_short: bool = False  # the thought was closed in the model's place
    _given: deque[int] = field(default_factory=deque)  # tokens that come next, whatever is drawn

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.draws, self.generated, self.logprobs = random.Random(self.request.seed), [], []
        self.answer, self.cut_short = None if self.thoughts else 0, False
        self._given.clear()

    @property
    def length(self) -> int:
        """How many tokens have gone through the model: the last generated one has not been run yet."""
        return len(self.prompt) + len(self.generated) - 1

    @property
    def tokens(self) -> Tokens:
        """Those that have gone through the model."""
        return np.concatenate([self.prompt, np.array(self.generated[:-1], dtype=np.int64)])

    def add(self, drawn: int, dialogue: DialogueTokens, logprob: float = 0.0) -> Completion | None:
        """Take in the next token; what the request gets, if that ends it."""
        self.logprobs.append(0.0 if self._given else logprob)
        self.generated.append(self._given.popleft() if self._given else drawn)
        if self.answer is None:
            self._think(dialogue)
        return self._completion(dialogue)

    def take(self, made: Sequence[int], dialogue: DialogueTokens) -> Completion | None:
        """Take in tokens that were made together, and then those that close the thought, if any are due."""
        for token in made:
            if completion := self.add(token, dialogue):
                return completion
        while self._given:
            self.add(self._given[0], dialogue)
        return None

    def _think(self, dialogue: DialogueTokens) -> None:
        thinking, form = dialogue.thinking, dialogue.thinking.format
        assert form
        if not thinking.opened:
            begun = dialogue.marked(self.generated, False).lstrip()
            if not (form.open.startswith(begun) or begun.startswith(form.open)):
                self.answer = 0
                return
        tail = self.generated[-len(form.close.encode()) - 3 :]  # every token adds at least a byte
        if form.close in dialogue.marked(tail, True) and not self._given:
            self.answer = len(self.generated)
        elif len(self.generated) == self.thoughts:
            self._given += dialogue.closing
            self.cut_short = True

    def _completion(self, dialogue: DialogueTokens) -> Completion | None:
        request, generated = self.request, self.generated
        thinks = self.answer is None
        ended = generated[-1] in dialogue.ends and not (thinks and generated[-1] in dialogue.thought_ends)
        prefilled = bool(request.prefill)
        said = [] if self.answer is None else generated[self.answer :]
        stopped = False
        if self.stops and said and not ended:
            # Every token adds at least a byte, so a stop string just completed lies in these.
            tail = said[-max(len(stop.encode()) for stop in self.stops) - 3 :]
            if cut(dialogue.text(tail, prefilled=True), self.stops) is not None:
                stopped = cut(dialogue.text(said, prefilled), self.stops) is not None
        spent = len(generated) >= self.most or len(said) >= request.max_tokens
        if not (stopped or ended or spent):
            return None
        finish: Literal["stop", "length"] = "stop" if ended or stopped else "length"
        thinking, text = dialogue.parted(generated[:-1] if ended else generated, prefilled)
        if stopped:
            text = cut(text, self.stops) or ""
        return Completion(request.id, text, finish, len(generated), thinking)


def begin(request: Request, prompt: Tokens, dialogue: DialogueTokens, room: int, thoughts: int) -> Active:
    """The request as a sequence. ``room`` tokens may follow the prompt; of them thoughts leave the answer's.

    ``thoughts`` are the most tokens of those, where the model thinks.
    """
    closing = len(dialogue.closing)
    thoughts = min(thoughts, room - request.max_tokens - closing)
    if request.prefill or not dialogue.thinking.may_come or thoughts <= 0:
        thoughts = closing = 0
    most = min(request.max_tokens + thoughts + closing, room)
    stops = dialogue.stops(request.stop)
    return Active(request, prompt, stops, most, thoughts)


def continuing(
    prompts: Sequence[Tokens],
    seeds: Sequence[int],
    max_tokens: int,
    temperature: float,
    dialogue: DialogueTokens,
    room: Callable[[Tokens, str], int],
) -> list[Active]:
    """Prompts given as tokens as sequences; ``room`` tells how many tokens may follow one."""
    return [
        Active(
            Request(str(number), (), max_tokens=max_tokens, temperature=temperature, seed=seed),
            prompt,
            dialogue.stops(()),
            min(max_tokens, room(prompt, str(number))),
        )
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
