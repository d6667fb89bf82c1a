"""Calls to one OpenAI-compatible server: retried, limited in time, counted, and clear when they fail."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import openai

from solon.config import OpenAISettings
from solon.errors import SolonError

TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error"}  # OpenAI's, llama.cpp's
TOO_LONG = re.compile(  # vLLM's, SGLang's and others' words for it
    r"(maximum|max|available) (context|model|sequence)[ _](length|size|len)|context[ _](length|window|size)"
    r"|longer than the model's|(prompt|input) is too long",
    re.IGNORECASE,
)
PAUSE = 0.5  # seconds before a call whose answer was damaged is made again


class Refused(SolonError):
    """The server understood the request and will not do it: asking again is no use."""


@dataclass
class Spent:
    """On servers' answers so far."""

    tokens: int = 0
    cost: float = 0.0


SPENT = Spent()  # by this process, whichever engines it has opened


class DoesNotFit(SolonError):
    """The prompt leaves no room in the model's context."""


class Server:
    """``model`` on the server of ``settings``; ``count`` is given the usage of every answer.

    The key is read from the environment here and goes nowhere but into the client.
    """

    def __init__(self, model: str, settings: OpenAISettings, count: Callable[[Any], None]) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        if not (key or settings.base_url or os.environ.get("OPENAI_BASE_URL")):
            raise SolonError(
                f"model {model!r} is on a server: set engine.openai.base_url to a server of yours, or the "
                "environment variable OPENAI_API_KEY to your key for OpenAI's"
            )
        self.model, self.settings, self._count = model, settings, count
        self._key = key
        self.client = openai.AsyncOpenAI(
            api_key=key or "none",  # a server of one's own seldom asks for one, but the client does
            base_url=settings.base_url,
            timeout=settings.timeout,
            max_retries=settings.retries,
        )
        url = self.client.base_url
        self.name = f"the server at {url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")

    @property
    def max_tokens_name(self) -> str:
        """OpenAI's own server knows only the new name of the setting, most others the old one."""
        return "max_completion_tokens" if self.client.base_url.host == "api.openai.com" else "max_tokens"

    async def ask(
        self, create: Callable[..., Awaitable[Any]], read: Callable[[Any], Any], **options: Any
    ) -> Any:
        """The server's answer. ``create`` is a method of the client, ``read`` takes the text from a choice.

        Raises DoesNotFit where the prompt is too long for the model, Refused where the server refuses the
        request for another reason, and SolonError for every other failure that lasted.
        """
        settings = self.settings
        self._within_budget()
        try:
            async with asyncio.timeout(settings.time_limit):
                response = await self._whole(create, read, options)
        except TimeoutError:
            raise SolonError(
                f"{self.name} gave no answer within {settings.time_limit:g} s in all: ask for less at a time "
                "(engine.batch_size), or raise engine.openai.time_limit"
            ) from None
        except openai.APITimeoutError:
            raise SolonError(
                f"{self.name} gave no answer within {settings.timeout:g} s, {settings.retries + 1} times: "
                "ask for less at a time (engine.batch_size), or raise engine.openai.timeout"
            ) from None
        except openai.APIConnectionError:
            raise SolonError(
                f"{self.name} cannot be reached, or breaks off: start it, look into its log, or correct "
                "engine.openai.base_url"
            ) from None
        except openai.APIStatusError as error:
            raise self._explained(error) from None
        self._count(response.usage)
        return response

    def _within_budget(self) -> None:
        for name, spent in (("budget", SPENT.cost), ("token_budget", SPENT.tokens)):
            most = getattr(self.settings, name)
            if most is not None and spent >= most:
                raise SolonError(
                    f"engine.openai.{name} is {most:g}, and {spent:g} is spent. What is finished is kept: "
                    "raise it, or give the same command again, which goes on and may spend as much again"
                )

    async def _whole(
        self,
        create: Callable[..., Awaitable[Any]],
        read: Callable[[Any], Any],
        options: dict[str, Any],
    ) -> Any:
        """An answer that can be read.

        The client itself retries what failed on the way (connections, timeouts, 408, 409, 429, 5xx), waiting
        longer each time, with jitter, or as long as Retry-After says. A damaged answer it does not retry.
        """
        for _ in range(self.settings.retries + 1):
            with suppress(ValueError, TypeError, AttributeError, IndexError):  # no JSON, or another one
                response = await create(model=self.model, **options)
                if isinstance(read(response.choices[0]), str):
                    return response
            await asyncio.sleep(PAUSE)
        raise SolonError(
            f"{self.name} answers with something else than completions: "
            "engine.openai.base_url must name an OpenAI-compatible API (it mostly ends in /v1)"
        )

    def _explained(self, error: openai.APIStatusError) -> SolonError:
        said = error.message.strip()
        if self._key:  # servers like to repeat it
            said = said.replace(self._key, "***")
        match error.status_code:
            case 401 | 403:  # what it says is left out, for it may hold a part of the key
                return SolonError(
                    f"{self.name} does not accept the key (status {error.status_code}): set the environment "
                    f"variable OPENAI_API_KEY to one that may use {self.model!r}"
                )
            case 404:
                return SolonError(
                    f"{self.name} does not know the model {self.model!r} or the address (404): correct the "
                    "model's name or engine.openai.base_url"
                )
            case 429:
                return SolonError(
                    f"{self.name} still says that there are too many requests after "
                    f"{self.settings.retries + 1} tries (429): lower engine.batch_size, raise "
                    f"engine.openai.retries, or see to your quota; it says: {said}"
                )
            case status if status >= 500:
                return SolonError(
                    f"{self.name} failed {self.settings.retries + 1} times (status {status}): look into its "
                    "log, then start the run again, which goes on where it stopped"
                )
            case 400 | 413 | 422 if error.code in TOO_LONG_CODES or TOO_LONG.search(said):
                return DoesNotFit(f"{self.name} finds a prompt too long for {self.model!r}; it says: {said}")
            case status:
                return Refused(
                    f"{self.name} refuses a request (status {status}); change what it names: {said}"
                )
