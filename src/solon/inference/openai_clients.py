"""How a model on a server is reached: by OpenAI's client, or by LiteLLM in its form."""

import os
from typing import Any, NamedTuple

import openai

from solon.config import LITELLM_MODEL, OPENAIS_KEY, SERVER_MODEL, OpenAISettings
from solon.errors import SolonError


class Reached(NamedTuple):
    model: str  # as the server calls it
    client: Any
    name: str  # of the server, to be told
    variable: str  # of the environment, with the key, likewise
    secrets: list[str]  # never to be told
    openais: bool  # whether it is OpenAI's own


def reach(model: str, settings: OpenAISettings) -> Reached:
    """The server of a model named ``openai:NAME`` or ``litellm:PROVIDER/NAME``.

    The key is read from the environment here and goes nowhere but into the client. Raises SolonError where it
    is not known which server to ask, or a key that it needs is not there.
    """
    key = os.environ.get(settings.key_variable)
    if not key and settings.key_variable != OPENAIS_KEY:
        raise SolonError(
            f"model {model!r} is on a server, and the environment variable {settings.key_variable}, which "
            "key_variable says has the key, is not set"
        )
    if model.startswith(LITELLM_MODEL):
        # LiteLLM looks for each provider's own.
        return _by_litellm(model, settings, None if settings.key_variable == OPENAIS_KEY else key)
    if not (key or settings.base_url or os.environ.get("OPENAI_BASE_URL")):
        raise SolonError(
            f"model {model!r} is on a server: set engine.openai.base_url to a server of yours, or the "
            "environment variable OPENAI_API_KEY to your key for OpenAI's"
        )
    client = openai.AsyncOpenAI(
        api_key=key or "none",  # a server of one's own seldom asks for one, but the client does
        base_url=settings.base_url,
        timeout=settings.timeout,
        max_retries=0,  # not every refusal that it would repeat can end otherwise
    )
    url = client.base_url
    return Reached(
        model.removeprefix(SERVER_MODEL),
        client,
        f"the server at {url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/"),
        settings.key_variable,
        [key] if key else [],
        url.host == "api.openai.com",
    )


def _by_litellm(model: str, settings: OpenAISettings, key: str | None) -> Reached:
    if settings.mode != "chat":
        raise SolonError(f"model {model!r} is reached by LiteLLM, which only chats: set mode to chat")
    try:
        from solon.inference.litellm_client import LiteLLMClient
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise SolonError(f"model {model!r} needs LiteLLM: run 'pip install solon[litellm]'") from None
    client = LiteLLMClient(model.removeprefix(LITELLM_MODEL), settings, key)
    return Reached(
        client.model,
        client,
        f"{client.provider}, by LiteLLM,",
        settings.key_variable if key else f"with your key for {client.provider}",
        # Whichever of them it takes.
        [value for name, value in os.environ.items() if name.endswith("_KEY") and value],
        False,
    )
