"""Solon's engines as a model provider of Inspect: ``solon/MODEL``, with any name that Solon takes."""

from itertools import count
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from pydantic import ValidationError

from solon.config import EngineSettings
from solon.errors import SolonError
from solon.inference import open_engine
from solon.inference.engine import ChoiceScores, Completion, Question, Request
from solon.records import Message

CHOICES = "guided_choice"
"""Names, in ``extra_body``, the choices that are to be scored instead of a text (vLLM's name for it)."""
GATHERING = 0.01  # seconds that a call waits for others to share its batch


class SolonAPI(ModelAPI):
    """``model_args`` are the settings under ``engine``: ``-M dtype=float32``.

    Where a call names ``CHOICES``, the answer is the likeliest of them and its log-probabilities are those of
    ``Engine.scores``. An assistant message at the end is continued.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's signature; it is immutable here)
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        try:
            settings = EngineSettings.model_validate(model_args)
        except ValidationError as error:
            first = error.errors()[0]
            raise SolonError(f"-M {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        self._engine = open_engine(model_name, settings)
        self._numbers = count()
        self._waiting: dict[str, Question | Request] = {}
        self._answers: dict[str, ChoiceScores | Completion] = {}
        self._running = anyio.Lock()

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        if tools:
            raise SolonError(f"{self.model_name} is run without tools; give the task a model that has them")
        messages: list[Message] = [{"role": message.role, "content": message.text} for message in input]
        prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        number = str(next(self._numbers))
        choices: list[str] = (config.extra_body or {}).get(CHOICES, [])
        if choices:
            answer = await self._run(Question(number, messages, tuple(choices), prefill))
        else:
            answer = await self._run(_request(number, messages, prefill, config))
        if isinstance(answer, ChoiceScores):
            return _scored(self.model_name, choices, answer)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=answer.text, model=self.model_name),
                    stop_reason="stop" if answer.finish == "stop" else "max_tokens",
                )
            ],
            usage=ModelUsage(output_tokens=answer.tokens, total_tokens=answer.tokens),
        )

    def max_connections(self) -> int:
        return self._engine.concurrency

    def close(self) -> None:
        self._engine.close()

    async def _run(self, asked: Question | Request) -> ChoiceScores | Completion:
        """The answer; whoever comes while the engine works waits, and all who wait share the next batch."""
        self._waiting[asked.id] = asked
        await anyio.sleep(GATHERING)
        async with self._running:
            if asked.id not in self._answers:
                batch, self._waiting = self._waiting, {}
                answers = await anyio.to_thread.run_sync(self._answer, list(batch.values()))
                self._answers |= {answer.id: answer for answer in answers}
        return self._answers.pop(asked.id)

    def _answer(self, batch: list[Question | Request]) -> list[ChoiceScores | Completion]:
        questions = [item for item in batch if isinstance(item, Question)]
        requests = [item for item in batch if isinstance(item, Request)]
        return [*self._engine.scores(questions), *self._engine.generate(requests)]


@modelapi(name="solon")
def provider() -> type[ModelAPI]:
    return SolonAPI


def _request(number: str, messages: list[Message], prefill: str, config: GenerateConfig) -> Request:
    given = {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": config.seed,
        "stop": tuple(config.stop_seqs) if config.stop_seqs else None,
    }
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Request(number, messages, prefill, **known)


def _scored(model: str, choices: list[str], scores: ChoiceScores) -> ModelOutput:
    listed = [
        TopLogprob(token=choice, logprob=logprob)
        for choice, logprob in zip(choices, scores.logprobs, strict=True)
    ]
    best = max(listed, key=lambda top: top.logprob)
    said = Logprob(token=best.token, logprob=best.logprob, top_logprobs=listed)
    return ModelOutput(
        model=model,
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=best.token, model=model),
                stop_reason="stop",
                logprobs=Logprobs(content=[said]),
            )
        ],
    )
