"""The engine for models on a server: any OpenAI-compatible one, through the official client."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import replace
from math import log
from threading import Thread
from typing import Any, TypeVar

from solon.config import EngineSettings
from solon.errors import SetAside, SolonError, Unjudged
from solon.inference import first_token
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.openai_modes import ChatMode, CompletionMode, Elsewhere
from solon.inference.openai_server import NoRoom, NoUse, Refused, Server
from solon.inference.spent import SPENT
from solon.inference.verdict import named
from solon.role_settings import DEFAULT, Role
from solon.seeds import derive_seed

T = TypeVar("T")
Record = TypeVar("Record")
Asked = TypeVar("Asked", Request, Question)

# Questions whose choices were improbable first tokens, one after another, until no more are asked so.
ELSEWHERE = 4
# Answers to a question that name no choice, until it is not asked again.
UNNAMED = 2


class OpenAIEngine(Engine):
    """At most ``settings.batch_size`` requests are with the server at a time.

    Calls are made on an event loop in a thread of its own. Whether the same requests give the same texts
    again is up to the server, which is sent each request's seed.

    Choices are scored by the model's log-probabilities. Where the server gives none, or the model is more
    likely to begin with something else than a choice, the question is answered ``settings.openai.votes``
    times at temperature 1, with room for the role's thoughts where it is needed, and the counts of the
    choices that are named stand for them. A question whose answers name none is Unjudged.
    """

    def __init__(self, model: str, settings: EngineSettings, role: Role = DEFAULT) -> None:
        """Raises SolonError where it is not known which server to ask."""
        self.model_name, self.role = model, role
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.settings = role.openai.over(settings.openai)
        self._notes: deque[str] = deque()  # to be told by the thread that asks
        self._noted: set[str] = set()
        self._server = Server(model, self.settings, self._count, self._note)
        self._mode = (ChatMode if self.settings.mode == "chat" else CompletionMode)(self._server, role)
        self.thinks = self._mode.thinks = bool(role.thinking_tokens)
        self._reasons = False  # before it names a choice, in words that nothing marks as thoughts
        self._gives_logprobs: bool | None = None  # not known until the first answer
        self._elsewhere = 0  # questions whose choices were improbable
        self._flight: dict[str, Future[Completion | SetAside]] = {}
        self._failure: Exception | None = None  # the latest; nothing new is begun after one
        self._slots = asyncio.Semaphore(self.concurrency)
        self._loop = asyncio.new_event_loop()
        # A daemon, so that Ctrl-C need not wait for the server.
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        if request.id in self._flight:
            raise ValueError(f"request {request.id!r} is in flight already")
        self._flight[request.id] = self._begin(self._mode.write, request)

    def poll(self) -> list[Completion | SetAside]:
        """Wait until at least one submitted request has finished; [] when none is in flight.

        Raises SolonError where one failed for good, but returns all the others that were begun first.
        """
        while self._flight:
            wait(self._flight.values(), return_when=FIRST_COMPLETED)
            done = [self._flight.pop(name) for name in list(self._flight) if self._flight[name].done()]
            self._tell()
            if sound := [future.result() for future in done if future.exception() is None]:
                return sound
        self._raise_failure()
        return []

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        futures = [self._begin(self._score, question) for question in questions]
        try:
            for future in as_completed(futures):
                self._tell()
                if future.exception() is None:
                    yield future.result()
            self._raise_failure()
        finally:
            for future in futures:
                future.cancel()

    def forget(self) -> None:
        """Nothing is kept here."""

    def run_blocks(
        self, records: Sequence[T], size: int, make: Callable[[Engine, list[T]], Iterable[Record]]
    ) -> Iterator[Record]:
        """All at once: no block makes a server's answers repeatable, and waiting for its end takes time."""
        yield from make(self, list(records))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._flight.clear()

    def _begin(self, work: Callable[[Asked], Coroutine[Any, Any, T]], asked: Asked) -> Future[T | SetAside]:
        async def in_turn() -> T | SetAside:
            async with self._slots:
                if self._failure:
                    raise self._failure
                try:
                    return await work(asked)
                except NoUse as error:
                    return error.kind(asked.id, str(error))
                except Exception as error:
                    self._failure = error
                    raise
                finally:
                    self.thinks = self._mode.thinks

        return asyncio.run_coroutine_threadsafe(in_turn(), self._loop)

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._notes.append(text)

    def _tell(self) -> None:
        while self._notes:
            self.say(self._notes.popleft())

    def _raise_failure(self) -> None:
        """After what was begun has finished: it is paid for."""
        failure, self._failure = self._failure, None
        if failure:
            raise failure

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.client.close()

    async def _score(self, question: Question) -> ChoiceScores:
        if self._gives_logprobs is False:
            return await self._vote(question)
        try:
            logprobs = await self._mode.logprobs(question)
        except (Refused, NoRoom):  # perhaps of log-probabilities; if not, the votes are refused too
            logprobs = None
        except Elsewhere:
            self._elsewhere += 1
            if self._gives_logprobs is None and self._elsewhere == ELSEWHERE:
                self._gives_logprobs = False
            self._note(
                f"{self.model_name} begins its answers with something else than what it is to choose from, "
                f"so it is asked for {self.settings.votes} answers to a question (engine.openai.votes)."
            )
            return await self._vote(question)
        if logprobs is None:
            # One answer without them, after others with them, says nothing about the next.
            self._gives_logprobs = self._gives_logprobs or False
            self._note(
                f"{self._server.name} gives no log-probabilities, so every question is answered "
                f"{self.settings.votes} times (engine.openai.votes)."
            )
            return await self._vote(question)
        self._gives_logprobs = True
        return ChoiceScores(question.id, logprobs)

    async def _vote(self, question: Question) -> ChoiceScores:
        """Sampled answers in place of log-probabilities. Answers that name no choice are not counted.

        One answer a call: not every server takes ``n``, and prompts are cached where they cost much. Raises
        NoUse where they name none, after as few as tell.
        """
        if len(question.choices) < 2:
            raise SolonError(
                f"{self._server.name} gives no log-probabilities, so a single text cannot be scored: use a "
                "server that does, or the transformers engine"
            )
        counts: Counter[str] = Counter()
        for number in range(self.settings.votes):
            completion = await self._answer(question, number)
            if choice := named(completion.text, question.choices):
                counts[choice] += 1
            elif number + 1 == UNNAMED and not counts:
                break
        if not counts:
            said = " ".join(completion.text.split())[:80]
            raise NoUse(
                Unjudged,
                f"{self.model_name} named none of {', '.join(question.choices)} when it was asked "
                f"{question.id!r}; it said: {said!r}",
            )
        return ChoiceScores(
            question.id,
            tuple(
                log((counts[choice] + 1) / (counts.total() + len(question.choices)))  # Laplace: never log 0
                for choice in question.choices
            ),
            votes=counts.total(),
        )

    async def _answer(self, question: Question, number: int) -> Completion:
        """A sampled answer. One that is cut off before it names a choice is sampled again, with more room."""
        room = first_token.ANSWER_TOKENS
        if self._reasons and not self._mode.thinks:  # else the mode gives it
            room += self.role.thoughts
        seed = derive_seed(0, "vote", question.id, number)
        request = replace(self._mode.as_request(question), max_tokens=room, temperature=1.0, seed=seed)
        completion = await self._mode.write(request)
        cut_off = completion.finish == "length" and not completion.thinking
        if self._reasons or not cut_off or named(completion.text, question.choices) or not self.role.thoughts:
            return completion
        self._reasons = True
        return await self._answer(question, number)

    def _count(self, spent: Any) -> None:
        """Add one answer's usage as the server tells it; called on the loop's thread only."""
        self.usage.requests += 1
        if not isinstance(spent, dict):
            return
        details = spent.get("prompt_tokens_details") or {}
        read, written = spent.get("prompt_tokens") or 0, spent.get("completion_tokens") or 0
        cost = (read * self.settings.input_price + written * self.settings.output_price) / 1e6
        self.usage.tokens_generated += written
        self.usage.tokens_naive += read
        self.usage.tokens_computed += read - (details.get("cached_tokens") or 0)
        self.usage.cost += cost
        SPENT.tokens += read + written
        SPENT.cost += cost
