"""The two ways to talk to an OpenAI-compatible server: as a chat, or as a text that is to be continued."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from solon.errors import SolonError
from solon.inference import first_token
from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import Completion, Question, Request
from solon.inference.openai_server import Server
from solon.models import load_tokenizer
from solon.prompts.dialogue import assistant
from solon.records import Message

MOST_STOPS = 4  # the most that OpenAI's server takes


class Mode(ABC):
    def __init__(self, server: Server) -> None:
        self.server = server

    @abstractmethod
    async def write(self, request: Request) -> Completion:
        """Generate the request's text."""

    @abstractmethod
    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        """The choices' log-probabilities; None where the server gives none."""

    def as_request(self, question: Question) -> Request:
        """The request whose text should be one of the choices."""
        return Request(question.id, question.messages, question.prefill)

    def _completion(self, request: Request, response: Any, text: str, stops: tuple[str, ...]) -> Completion:
        shorter = cut(text, stops)
        ended = shorter is not None or response.choices[0].finish_reason != "length"
        return Completion(
            request.id,
            text if shorter is None else shorter,
            "stop" if ended else "length",
            response.usage.completion_tokens if response.usage else 0,
        )


class ChatMode(Mode):
    """The server knows the dialogue format.

    Where it cannot continue an assistant's message, a prefill becomes a turn of its own, and a further user
    turn asks the model to go on from there.
    """

    async def write(self, request: Request) -> Completion:
        response = await self._ask(request)
        return self._completion(request, response, response.choices[0].message.content or "", request.stop)

    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        """The choices' log-probabilities as first tokens (see ``first_token.logprobs``)."""
        if any(len(choice.split()) != 1 for choice in question.choices):
            raise SolonError(
                "a chat server gives log-probabilities of single tokens only, and here are longer texts to "
                "score: set engine.openai.mode to completion"
            )
        request = replace(self.as_request(question), max_tokens=1)
        response = await self._ask(request, logprobs=True, top_logprobs=first_token.TOP_LOGPROBS)
        logprobs = response.choices[0].logprobs
        likeliest = logprobs.content[0].top_logprobs if logprobs and logprobs.content else None
        if not likeliest:
            return None
        return first_token.logprobs(question.choices, ((entry.token, entry.logprob) for entry in likeliest))

    def as_request(self, question: Question) -> Request:
        request = super().as_request(question)
        if not question.prefill or self.server.settings.continue_final_message:
            return request
        reply = first_token.reply_with(question.choices)
        return replace(
            request, messages=first_token.turns(request.messages, request.prefill, reply), prefill=""
        )

    async def _ask(self, request: Request, **options: Any) -> Any:
        messages: Sequence[Message] = request.messages
        if request.prefill and self.server.settings.continue_final_message:
            messages = [*messages, assistant(request.prefill)]
            options["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        elif request.prefill:
            messages = first_token.turns(request.messages, request.prefill, "Go on from there.")
        return await self.server.ask(
            self.server.client.chat.completions.create,
            lambda choice: choice.message.content or "",
            messages=messages,
            **{self.server.max_tokens_name: request.max_tokens},
            **sampling(request, request.stop),
            **options,
        )


class CompletionMode(Mode):
    """The server continues tokens, made here with the tokenizer and the dialogue format of its model.

    So nothing is left to how the server would read the text, and a choice of any length has exact
    log-probabilities: those that the server gives for its own prompt (``echo``).
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        name = server.settings.tokenizer or server.model
        try:
            tokenizer = load_tokenizer(name)
        except SolonError as error:
            raise SolonError(
                f"the completion mode needs the tokenizer of {server.model!r} here: set "
                f"engine.openai.tokenizer to a model that has it ({error})"
            ) from None
        # The server itself knows where its model's turns end.
        no_model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
        self._dialogue = DialogueTokens(tokenizer, no_model)

    async def write(self, request: Request) -> Completion:
        _, tokens = self._dialogue.prompt(request.messages, request.prefill)
        stops = self._dialogue.stops(request.stop)
        response = await self._ask(tokens.tolist(), max_tokens=request.max_tokens, **sampling(request, stops))
        text = response.choices[0].text
        if self._dialogue.plain and not request.prefill:
            text = text.removeprefix(" ")
        return self._completion(request, response, text, stops)

    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        text, tokens = self._dialogue.prompt(question.messages, question.prefill)
        scores = []
        for choice in question.choices:
            wanted = self._dialogue.continuation(text, tokens, choice, bool(question.prefill))
            if not len(wanted):
                raise ValueError(f"question {question.id!r} has an empty choice")
            whole = [*tokens.tolist(), *wanted.tolist()]
            # One token more is generated, since not every server takes 0.
            response = await self._ask(whole, max_tokens=1, echo=True, logprobs=1)
            logprobs = response.choices[0].logprobs
            if not (logprobs and logprobs.token_logprobs):
                return None
            if len(logprobs.token_logprobs) not in {len(whole), len(whole) + 1}:
                raise SolonError(
                    f"{self.server.name} does not give the log-probabilities of the tokens it was sent: set "
                    "engine.openai.mode to chat, or use another server"
                )
            scores.append(sum(logprobs.token_logprobs[len(tokens) : len(whole)]))
        return tuple(scores)

    async def _ask(self, prompt: list[int], **options: Any) -> Any:
        return await self.server.ask(
            self.server.client.completions.create, lambda choice: choice.text, prompt=prompt, **options
        )


def sampling(request: Request, stops: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed % 2**31,  # which every server takes
    }
    return options | ({"stop": list(stops[:MOST_STOPS])} if stops else {})
