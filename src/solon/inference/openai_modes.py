"""The two ways to talk to an OpenAI-compatible server: as a chat, or as a text that is to be continued."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from solon.errors import SolonError
from solon.inference import first_token, openai_answers
from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import Completion, Question, Request
from solon.inference.openai_answers import Answer
from solon.inference.openai_server import NoRoom, Refused, Server
from solon.models import load_tokenizer
from solon.prompts.dialogue import assistant, system_first
from solon.prompts.template_turns import WAYS
from solon.prompts.thoughts import part
from solon.records import Message
from solon.role_settings import Role
from solon.texts.written import unsaid

# What chat templates say of turns that they do not take; servers pass it on.
OF_TURNS = re.compile(r"\bsystem (role|message|prompt|turn)|\broles? must\b|\balternat", re.IGNORECASE)
MOST_STOPS = 4  # the most that OpenAI's server takes
UNSEEN = "(thoughts that the server does not show)"
EMPTY = "(empty)"  # in the place of a message without text, which strict servers refuse


class Elsewhere(Exception):
    """The first token of the answer is more likely to be something else than one of the choices."""


class Mode(ABC):
    """``thinks`` is whether the model thinks first: seen in its answers, which then get room for it."""

    def __init__(self, server: Server, role: Role) -> None:
        self.server, self.role, self.thoughts, self.thinks = server, role, role.thoughts, False

    async def write(self, request: Request) -> Completion:
        """Generate the request's text. Its thoughts are parted from it."""
        roomy = self.thinks
        answer, text = await self._written(request, roomy)
        if answer.thinking and not text and answer.finish == "length" and self.thoughts and not roomy:
            answer, text = await self._written(request, roomy=True)
        self.thinks |= bool(answer.thinking) and self.thoughts > 0
        shorter = cut(text, self.stops(request))
        return Completion(
            request.id,
            text if shorter is None else shorter,
            "length" if shorter is None and answer.finish == "length" else "stop",
            answer.tokens,
            answer.thinking,
        )

    @abstractmethod
    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        """The choices' log-probabilities; None where the server gives none."""

    def as_request(self, question: Question) -> Request:
        """The request whose text should be one of the choices."""
        return Request(question.id, question.messages, question.prefill)

    def stops(self, request: Request) -> tuple[str, ...]:
        return request.stop

    async def _written(self, request: Request, roomy: bool) -> tuple[Answer, str]:
        room = request.max_tokens + (self.thoughts if roomy else 0)
        try:
            return await self._answer(replace(request, max_tokens=room))
        except NoRoom:
            if roomy or not self.thoughts:
                return Answer("", "length", 0, UNSEEN), ""
            self.thinks = True
            return await self._written(request, roomy=True)

    @abstractmethod
    async def _answer(self, request: Request) -> tuple[Answer, str]:
        """The answer and its text."""


class ChatMode(Mode):
    """The server knows the dialogue format.

    Where it cannot continue an assistant's message, a prefill becomes a turn of its own, and a further user
    turn asks the model to go on from there; a prefill that it says again is left out. Where it refuses system
    turns, or turns of one speaker in a row, it gets dialogues without them from then on
    (``template_turns.WAYS``).
    """

    def __init__(self, server: Server, role: Role) -> None:
        super().__init__(server, role)
        self._ways = WAYS  # that it has not refused yet

    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        """The choices' log-probabilities as first tokens. Raises Elsewhere where those are others."""
        if any(len(choice.split()) != 1 for choice in question.choices):
            raise SolonError(
                "a chat server gives log-probabilities of single tokens only, and here are longer texts to "
                "score: set engine.openai.mode to completion"
            )
        request = replace(self.as_request(question), max_tokens=1)
        answer = await self._ask(request, logprobs=True, top_logprobs=first_token.TOP_LOGPROBS)
        likeliest = first_token.likeliest(answer.logprobs)
        if not likeliest:
            return None
        if (found := first_token.logprobs(question.choices, likeliest)) is None:
            raise Elsewhere
        return found

    def as_request(self, question: Question) -> Request:
        request = super().as_request(question)
        if not question.prefill or self.server.settings.continue_final_message:
            return request
        reply = first_token.reply_with(question.choices)
        return replace(
            request, messages=first_token.turns(request.messages, request.prefill, reply), prefill=""
        )

    async def _answer(self, request: Request) -> tuple[Answer, str]:
        answer = await self._ask(request)
        return answer, unsaid(request.prefill, answer.text)

    async def _ask(self, request: Request, **options: Any) -> Answer:
        messages: Sequence[Message] = system_first(request.messages, self.role.system or "")
        body: dict[str, Any] = {}
        if self.role.chat_template_kwargs:
            body["chat_template_kwargs"] = self.role.chat_template_kwargs
        if request.prefill and self.server.settings.continue_final_message:
            messages = [*messages, assistant(request.prefill)]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        elif request.prefill:
            messages = first_token.turns(messages, request.prefill, "Go on from there.")
        if body:
            options["extra_body"] = body
        return await self._put(
            messages, max_tokens=request.max_tokens, **sampling(request, request.stop), **options
        )

    async def _put(self, messages: Sequence[Message], **options: Any) -> Answer:
        way, *others = self._ways
        try:
            return await self.server.ask(
                self.server.client.chat.completions.create,
                openai_answers.chat,
                messages=[
                    {**each, "content": each["content"] if each["content"].strip() else EMPTY}
                    for each in way(messages)
                ],
                **options,
            )
        except Refused as error:
            if not (others and OF_TURNS.search(str(error))):
                raise
            if self._ways[0] is way:  # else another request has learned it
                self._ways = tuple(others)
            return await self._put(messages, **options)


class CompletionMode(Mode):
    """The server continues tokens, made here with the tokenizer and the dialogue format of its model.

    So nothing is left to how the server would read the text, and a choice of any length has exact
    log-probabilities: those that the server gives for its own prompt (``echo``).
    """

    def __init__(self, server: Server, role: Role) -> None:
        super().__init__(server, role)
        name = server.settings.tokenizer or server.model
        try:
            tokenizer = load_tokenizer(name, role=role)
        except SolonError as error:
            raise SolonError(
                f"the completion mode needs the tokenizer of {server.model!r} here: set "
                f"engine.openai.tokenizer to a model that has it ({error})"
            ) from None
        # The server itself knows where its model's turns end.
        no_model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
        self._dialogue = DialogueTokens(tokenizer, no_model, role.system)

    def stops(self, request: Request) -> tuple[str, ...]:
        return self._dialogue.stops(request.stop)

    async def _answer(self, request: Request) -> tuple[Answer, str]:
        _, tokens = self._dialogue.prompt(request.messages, request.prefill)
        answer = await self._ask(
            tokens.tolist(), max_tokens=request.max_tokens, **sampling(request, self.stops(request))
        )
        text, thinking = answer.text, self._dialogue.thinking
        if self._dialogue.plain and not request.prefill:
            text = text.removeprefix(" ")
        closed = bool(request.prefill) or thinking.closed
        parted = part(text, thinking.format, thinking.opened and not request.prefill, closed)
        return replace(answer, thinking=parted.thinking), parted.text

    async def logprobs(self, question: Question) -> tuple[float, ...] | None:
        text, tokens = self._dialogue.prompt(question.messages, question.prefill, question.thinking)
        scores = []
        for choice in question.choices:
            wanted = self._dialogue.continuation(text, tokens, choice, bool(question.prefill))
            if not len(wanted):
                raise ValueError(f"question {question.id!r} has an empty choice")
            whole = [*tokens.tolist(), *wanted.tolist()]
            # One token more is generated, since not every server takes 0.
            answer = await self._ask(whole, max_tokens=1, echo=True, logprobs=1)
            given = (answer.logprobs or {}).get("token_logprobs")
            if not given:
                return None
            if len(given) not in {len(whole), len(whole) + 1}:
                raise SolonError(
                    f"{self.server.name} does not give the log-probabilities of the tokens it was sent: set "
                    "engine.openai.mode to chat, or use another server"
                )
            scores.append(sum(given[len(tokens) : len(whole)]))
        return tuple(scores)

    async def _ask(self, prompt: list[int], **options: Any) -> Answer:
        return await self.server.ask(
            self.server.client.completions.create, openai_answers.completion, prompt=prompt, **options
        )


def sampling(request: Request, stops: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed % 2**31,  # which every server takes
    }
    return options | ({"stop": list(stops[:MOST_STOPS])} if stops else {})
