"""What an inference engine does, whichever library runs the model.

An engine generates texts and scores choices. Generation is built on ``submit`` and ``poll`` so that a chain
of dependent requests (answer, critique, revision, ...) advances on its own inside one continuous batch
instead of waiting for the slowest record of the round before.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from math import exp
from typing import Literal, Self, TypeVar

from solon.errors import SetAside, set_aside_note
from solon.records import Message
from solon.role_settings import DEFAULT, Role

T = TypeVar("T")
# Of the probability, for all choices of a question together: with less, a judgement is of one answer in a
# hundred. Judges that can do the task give the letters nearly all of it.
LEAST = 0.01
Record = TypeVar("Record")


@dataclass(frozen=True)
class Request:
    """A text to generate: the assistant's next turn in ``messages``."""

    id: str
    messages: Sequence[Message]
    prefill: str = ""  # how the assistant's turn begins; not repeated in the completion's text
    max_tokens: int = 256  # of the text; thoughts that come before it have their own limit, the role's
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    seed: int = 0  # each request draws from a generator of its own


@dataclass(frozen=True)
class Completion:
    """The text generated for the request with the same id."""

    id: str
    text: str
    finish: Literal["stop", "length"]  # "stop": end of turn or a stop string; "length": max_tokens reached
    tokens: int
    thinking: str = ""  # what a model that thinks before it answers thought; no part of the text


@dataclass(frozen=True)
class Question:
    """Continuations to score: each of ``choices`` as the text that follows ``messages`` and ``prefill``."""

    id: str
    messages: Sequence[Message]
    choices: tuple[str, ...]
    prefill: str = ""
    thinking: str = ""  # what the model thought before (``Completion.thinking``)


@dataclass(frozen=True)
class ChoiceScores:
    """Log-probabilities (natural logarithm, summed over each choice's tokens), in the order of the choices.

    ``votes`` is None where they are the model's own; where an engine cannot give log-probabilities it is the
    number of sampled answers whose counts stand behind them.
    """

    id: str
    logprobs: tuple[float, ...]
    votes: int | None = None

    @property
    def improbable(self) -> bool:
        """Whether the model would nearly always say something else than one of the choices."""
        return self.votes is None and sum(map(exp, self.logprobs)) < LEAST


def total_votes(votes: Iterable[int | None]) -> int | None:
    """Those of several questions together; None where all probabilities are the model's own."""
    counted = [count for count in votes if count is not None]
    return sum(counted) if counted else None


@dataclass
class Usage:
    """Token counts of an engine since it was made."""

    requests: int = 0
    tokens_generated: int = 0
    tokens_computed: int = 0  # prompt tokens that went through the model
    tokens_naive: int = 0  # prompt tokens had every request been computed on its own
    thoughts_cut: int = 0  # closed for the model, since they came to the role's limit
    cost: float = 0.0  # of a server's tokens, at the configured prices

    def add(self, other: "Usage") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


Chain = Generator[Request, Completion, T]
"""A record in the making: yields requests one at a time, is sent each completion, returns the record."""


class Engine(ABC):
    """One model, ready to generate and to score in a role. Engines are interchangeable."""

    model_name: str
    role: Role = DEFAULT
    concurrency: int  # how many requests the engine works on at a time
    usage: Usage
    thinks: bool = False  # its model thinks before it answers, where nothing is prefilled

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Queue a request. Its id must not be in flight already (ValueError)."""

    @abstractmethod
    def poll(self) -> list[Completion | SetAside]:
        """Work until at least one submitted request has finished; [] when none is in flight.

        In the place of a completion is SetAside: TooLong where the prompt leaves no room in the model's
        context, Filtered where a server keeps the text back.
        """

    @abstractmethod
    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        """Score every choice of every question; results come as they finish, in any order.

        In the place of a question's scores is SetAside: as of ``poll``, or Unjudged where the model names
        none of the choices.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the model and drop whatever is still in flight."""

    def load(self, model: str, role: Role = DEFAULT) -> bool:
        """Put the weights of ``model`` in the place of the present ones; False where the engine cannot.

        Then nothing has changed, and an engine for ``model`` in the ``role`` must be opened anew.
        """
        return False

    def serves(self, model: str, role: Role) -> bool:
        """Whether this engine, with what ``load`` can do, is one for the model in the role."""
        return (self.model_name, self.role) == (model, role) or self.load(model, role)

    @abstractmethod
    def forget(self) -> None:
        """Keep nothing of earlier requests that could touch later ones. Nothing may be in flight."""

    def run_blocks(
        self,
        records: Sequence[Record],
        size: int,
        make: Callable[["Engine", list[Record]], Iterable[T]],
    ) -> Iterator[T]:
        """What ``make`` gives for each ``size`` records, in blocks that know nothing of one another.

        How a text is rounded depends on what is computed beside it and on what is in the cache. So a block's
        results are the same in every run in which it is made as a whole.
        """
        for start in range(0, len(records), size):
            self.forget()
            yield from make(self, list(records[start : start + size]))

    def say(self, text: str) -> None:
        """Tell the user. Whoever has another way to do so may replace this."""
        logging.getLogger("solon").warning(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete every request; completions come as they finish, in any order.

        Raises SetAside (see ``poll``) after what was begun.
        """

        def single(request: Request) -> Chain[Completion]:
            return (yield request)

        return self.run_chains(single(request) for request in requests)

    def each(self, requests: Iterable[Request]) -> Iterator[Completion | SetAside]:
        """What comes of every request, as it finishes, in any order."""

        def single(request: Request) -> Chain[Completion | SetAside]:
            try:
                return (yield request)
            except SetAside as error:
                return error

        return self.run_chains(single(request) for request in requests)

    def unless_set_aside(self, results: Iterable[T | SetAside], resumed: bool = False) -> Iterator[T]:
        """The results that there are; of how many there is none, and why, is said at the end.

        Raises SetAside where there is none at all, unless they may be the last ones of ``resumed`` work.
        """
        aside: list[SetAside] = []
        came = 0
        for result in results:
            if isinstance(result, SetAside):
                aside.append(result)
            else:
                came += 1
                yield result
        if aside and not came and not resumed:
            raise aside[0]
        problems, total = [error.problem for error in aside], came + len(aside)
        for note in set_aside_note(problems, total, f"requests to {self.model_name}"):
            self.say(note)

    def run_chains(self, chains: Iterable[Chain[T]]) -> Iterator[T]:
        """Advance every chain as its own completions arrive; results come as chains end, in any order.

        At most ``concurrency`` chains are open at a time: each has one request in flight, which fills the
        batch, and those begun first finish first. So ``chains`` may be long and lazily made.

        SetAside is thrown into the chain whose request it is. Where the chain lets it pass, no other is
        begun, and it is raised when those that were have ended.
        """
        waiting = iter(chains)
        running: dict[str, Chain[T]] = {}
        failures: list[SetAside] = []

        def start() -> Iterator[T]:
            while (
                len(running) < self.concurrency
                and not failures
                and (chain := next(waiting, None)) is not None
            ):
                yield from advance(chain, None)

        def advance(chain: Chain[T], result: Completion | SetAside | None) -> Iterator[T]:
            try:
                match result:
                    case None:
                        request = next(chain)
                    case SetAside():
                        request = chain.throw(result)
                    case _:
                        request = chain.send(result)
            except StopIteration as end:
                yield end.value
            except SetAside as error:
                failures.append(error)
            else:
                self.submit(request)
                running[request.id] = chain

        yield from start()
        while running:
            for result in self.poll():
                yield from advance(running.pop(result.id), result)
            yield from start()
        if failures:
            raise failures[0]

    def scores(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        """What ``choice_logprobs`` gives. Raises SetAside, after all the others, where a question is."""
        failures = []
        for result in self.choice_logprobs(questions):
            if isinstance(result, SetAside):
                failures.append(result)
            else:
                yield result
        if failures:
            raise failures[0]

    def loglikelihood(self, dialogues: Sequence[Sequence[Message]]) -> list[float]:
        """log P(last message | the messages before it) of each dialogue, in nats, in the order given.

        The end-of-turn token is not counted. Raises ValueError where a dialogue does not end in an
        assistant message.
        """
        questions = []
        for number, dialogue in enumerate(dialogues):
            if not dialogue or dialogue[-1]["role"] != "assistant":
                raise ValueError(f"dialogue {number} does not end in an assistant message")
            questions.append(Question(str(number), dialogue[:-1], (dialogue[-1]["content"],)))
        scores = {score.id: score.logprobs[0] for score in self.scores(questions)}
        return [scores[question.id] for question in questions]
