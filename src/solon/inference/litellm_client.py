"""Models of many providers (Anthropic's, Google's, Mistral's, ...) through LiteLLM, as by OpenAI's client."""

import os
from types import SimpleNamespace
from typing import Any

# Its list of prices would be fetched as it is imported, and Solon's prices are the configuration's.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
import openai

from solon.config import OpenAISettings
from solon.errors import SolonError, first_line


class LiteLLMClient:
    """As much of OpenAI's client as ``Server`` has use for.

    A provider's key is where its own client looks for it (ANTHROPIC_API_KEY, GEMINI_API_KEY, ...), unless it
    is given. What a provider does not know of a request (log-probabilities, seeds) it is not sent.
    """

    def __init__(self, model: str, settings: OpenAISettings, key: str | None) -> None:
        """Raises SolonError for a provider that LiteLLM does not know, or whose key is not there."""
        litellm.suppress_debug_info = True  # it would print where to report its faults
        try:
            _, self.provider, _, _ = litellm.get_llm_provider(model)
        except openai.OpenAIError as error:
            raise SolonError(
                f"LiteLLM does not know whose model {model!r} is ({first_line(error)}): write "
                "litellm:PROVIDER/NAME"
            ) from None
        found = litellm.validate_environment(model, api_base=settings.base_url)
        if found["missing_keys"] and not key:
            raise SolonError(
                f"model {model!r} is at {self.provider}: set the environment variable "
                f"{' and '.join(found['missing_keys'])} to your key there, or name another as key_variable"
            )
        self.model = model
        self._settings, self._key = settings, key
        self.chat = SimpleNamespace(completions=self)

    async def create(self, **options: Any) -> Any:
        """A chat's answer; raises what OpenAI's client raises."""
        more = options.pop("extra_body", {})
        try:
            return await litellm.acompletion(
                **options,
                **more,
                api_key=self._key,
                api_base=self._settings.base_url,
                timeout=self._settings.timeout,
                drop_params=True,
                num_retries=0,
                max_retries=0,
            )
        except openai.APIStatusError as error:
            error.body = error.body or error.message
            raise

    async def close(self) -> None:
        await litellm.close_litellm_async_clients()
