"""Calls to one OpenAI-compatible server: retried, limited in time, counted, and clear when they fail."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import openai

from solon.config import OpenAISettings
from solon.errors import Filtered, SetAside, SolonError, TooLong
from solon.inference.openai_answers import Answer, Damaged, Nothing, Withheld, body_of
from solon.inference.openai_clients import reach
from solon.inference.openai_options import LIMITS, Options
from solon.inference.openai_refusals import Json, Refusal, of_answer, within
from solon.inference.spent import SPENT

PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before the first further try, and before later ones at most
MOST_LEARNED = 8  # refusals of one request that are of its settings
NOTHINGS = 2  # answers without any text in them, after which it is no accident
CONTROL = re.compile(r"[^\S ]+|[\x00-\x1f\x7f]")


class Refused(SolonError):
    """The server understood the request and will not do it: asking again is no use."""


class NoRoom(SolonError):
    """The model had thought up to the token limit, and the server gives nothing of it."""


class NoUse(SolonError):
    """One request is of no use: the others may be. ``kind`` is what becomes of its record."""

    def __init__(self, kind: type[SetAside], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Later(Exception):
    """A call that failed on the way, and may not the next time."""

    def __init__(self, lasting: SolonError, wait: float | None = None) -> None:
        super().__init__()
        self.lasting = lasting  # what is said where it lasts
        self.wait = wait  # seconds, where the server says so


class Unwilling(Exception):
    """A refusal that may be of one setting of the request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class Server:
    """``model`` on the server of ``settings``; ``count`` is given the usage of every answer.

    What the server has to be told otherwise than it was asked (see ``Options``), ``note`` is told of.
    """

    def __init__(
        self,
        model: str,
        settings: OpenAISettings,
        count: Callable[[Any], None],
        note: Callable[[str], None],
    ) -> None:
        self.settings, self._count, self._note = settings, count, note
        self._reached = reach(model, settings)
        self.model, self.client, self.name = self._reached.model, self._reached.client, self._reached.name
        # OpenAI's own server knows only the new name of the setting, most others the old one.
        self._options = Options(LIMITS[self._reached.openais])

    async def ask(
        self, create: Callable[..., Awaitable[Any]], read: Callable[[Json], Answer], **options: Any
    ) -> Answer:
        """The server's answer. ``create`` is a method of the client, ``read`` one of ``openai_answers``.

        Raises NoUse where the prompt is too long for the model or a filter keeps the answer back, NoRoom
        where thoughts took all the tokens, Refused where the server refuses the request for another reason,
        and SolonError for every other failure that lasted.
        """
        if self.settings.extra_body:
            options["extra_body"] = self.settings.extra_body | options.get("extra_body", {})
        self._within_budget()
        limit, clock = self.settings.time_limit, asyncio.get_running_loop().time
        end, learned = clock() + limit, 0
        failed: Counter[type[SolonError]] = Counter()
        try:
            async with asyncio.timeout(limit):
                while True:
                    sent = self._options.of(options)
                    try:
                        return await self._once(create, read, sent)
                    except Later as failure:
                        failed[type(failure.lasting)] += 1
                        await asyncio.sleep(self._pause(failure, failed, end - clock()))
                    except Unwilling as error:
                        learned += 1
                        if self._options.of(options) == sent:  # else another request has learned it
                            self._learn(error.refusal, sent, learned)
        except TimeoutError:
            raise SolonError(
                f"{self.name} gave no answer within {limit:g} s in all: ask for less at a time "
                "(engine.batch_size), or raise engine.openai.time_limit"
            ) from None

    async def _once(
        self, create: Callable[..., Awaitable[Any]], read: Callable[[Json], Answer], sent: dict[str, Any]
    ) -> Answer:
        try:
            response = await create(model=self.model, **sent)
            if sent.get("stream"):
                response = "\n".join([f"data: {piece.model_dump_json()}" async for piece in response])
            body = body_of(response)
            if refusal := within(body):
                raise self._meant(refusal)
            answer = read(body)
        except openai.APITimeoutError:
            raise Later(
                SolonError(
                    f"{self.name} gave no answer within {self.settings.timeout:g} s, "
                    f"{self.settings.retries + 1} times: ask for less at a time (engine.batch_size), or "
                    "raise engine.openai.timeout"
                )
            ) from None
        except openai.APIStatusError as error:
            refusal = of_answer(error.status_code, error.body, error.response.headers)
            raise self._meant(refusal) from None
        except openai.APIConnectionError:
            raise Later(
                SolonError(
                    f"{self.name} cannot be reached, or breaks off: start it, look into its log, or correct "
                    "engine.openai.base_url"
                )
            ) from None
        except Withheld as error:
            self._count(body.get("usage"))
            raise NoUse(Filtered, f"a filter of {self.name} kept an answer back ({error})") from None
        except Nothing:
            raise Later(NoUse(Filtered, f"{self.name} gives no answer to a prompt, as filters do")) from None
        except (
            Damaged,
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            IndexError,
            openai.APIError,
        ) as error:
            raise Later(self._no_completion(error)) from None
        self._count(body.get("usage"))
        return answer

    def _pause(self, failure: Later, failed: Counter[type[SolonError]], left: float) -> float:
        """Seconds until the next try, of the ``left`` ones. Raises SolonError where there is none."""
        if failed.total() > self.settings.retries or failed[NoUse] >= NOTHINGS:
            raise failure.lasting from None
        if not failure.wait:  # 0: at once, which is no advice to many
            pause: float = min(PAUSE * 2 ** (failed.total() - 1), LONGEST_PAUSE)
            return pause * random.uniform(0.75, 1)  # not all at once
        if failure.wait > left:
            raise SolonError(
                f"{self.name} asks to be left alone for {failure.wait:.0f} s, longer than "
                f"engine.openai.time_limit ({self.settings.time_limit:g} s) leaves: start again then, which "
                "goes on where it stopped, or raise it"
            ) from None
        return failure.wait

    def _within_budget(self) -> None:
        for name, spent in (("budget", SPENT.cost), ("token_budget", SPENT.tokens)):
            most = getattr(self.settings, name)
            if most is not None and spent >= most:
                raise SolonError(
                    f"engine.openai.{name} is {most:g}, and {spent:g} is spent. What is finished is kept: "
                    "raise it, or give the same command again, which goes on and may spend as much again"
                )

    def _no_completion(self, error: Exception) -> SolonError:
        said = self._shown(str(error)) if isinstance(error, Damaged) else ""
        return SolonError(
            f"{self.name} answers with something else than completions: "
            "engine.openai.base_url must name an OpenAI-compatible API (it mostly ends in /v1)"
            + (f"; it says: {said}" if said else "")
        )

    def _learn(self, refusal: Refusal, sent: dict[str, Any], times: int) -> None:
        """Ask otherwise from now on. Raises SolonError where nothing can be left out that is refused."""
        told = self._options.learn(refusal, sent) if times <= MOST_LEARNED else None
        if told is None:
            raise self._explained(refusal) from None
        if told:
            self._note(f"{self.name} {told}.")

    def _meant(self, refusal: Refusal) -> Exception:
        """What is to be done about a refusal, as the exception that has it done."""
        match refusal.kind:
            case "key" | "address" | "refused":
                return Unwilling(refusal)
            case "later":
                return Later(self._explained(refusal), refusal.wait)
            case "no room":
                return NoRoom(str(self._explained(refusal)))
            case _:
                return self._explained(refusal)

    def _explained(self, refusal: Refusal) -> SolonError:
        said, status = self._shown(refusal.said), f"status {refusal.status}" if refusal.status else "an error"
        its = f"; it says: {said}" if said else ""
        tries = self.settings.retries + 1
        kind: Callable[[str], SolonError] = SolonError
        match refusal.kind:
            case "filtered":
                kind, what = partial(NoUse, Filtered), f"a filter of {self.name} refuses a prompt ({status})"
            case "too long":
                kind, what = (
                    partial(NoUse, TooLong),
                    f"{self.name} finds a prompt too long for {self.model!r}",
                )
            case "spent":
                what = (
                    f"{self.name} says that your quota or credit is spent ({status}): see to it there, then "
                    "start the run again, which goes on where it stopped"
                )
            case "key":
                what = (
                    f"{self.name} does not accept the key ({status}): set the environment variable "
                    f"{self._reached.variable} to one that may use {self.model!r}"
                )
                its = its if refusal.status == 403 else ""  # of a 401 it may hold a part of the key
            case "address":
                what = (
                    f"{self.name} does not know the model {self.model!r} or the address (404): correct the "
                    "model's name or engine.openai.base_url"
                )
            case "later" if refusal.status == 429:
                what = (
                    f"{self.name} still says that there are too many requests after {tries} tries (429): "
                    "lower engine.batch_size, raise engine.openai.retries, or see to your quota"
                )
            case "later":
                what = (
                    f"{self.name} failed {tries} times ({status}): look into its log, then start the run "
                    "again, which goes on where it stopped"
                )
            case _:
                kind, what = Refused, f"{self.name} refuses a request ({status}); change what it names"
        return kind(what + its)

    def _shown(self, said: str) -> str:
        """A server's words, on one line and without the key, which servers like to repeat or to hint at."""
        said = CONTROL.sub(" ", said).strip()
        for secret in self._reached.secrets:
            said = said.replace(secret, "***")
        return re.sub(r"\S*\*{3,}\S*|\bsk-[\w*.-]+", "***", said)
