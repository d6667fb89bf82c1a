"""Dialogues as the tokens that a model continues, and the tokens it generated as text."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from solon.inference.prefix import Tokens
from solon.prompts.dialogue import (
    HUMAN_ASSISTANT_TEMPLATE,
    HUMAN_TURN,
    neutral,
    reserved,
)
from solon.prompts.template_turns import TemplateTurns
from solon.prompts.thinking import Thinking
from solon.prompts.thoughts import Parted, part
from solon.prompts.turn_end import turn_end
from solon.records import Message

PIECES = 4096  # whose tokens are remembered


class DialogueTokens:
    """One model's dialogue format.

    In the Human/Assistant format an answer follows "Assistant:" after a space. The space belongs to the
    format: it goes before a prefill or a choice that does not begin with one, and the first space of a
    generated text is left out. In every other format texts are as the model wrote them.

    Messages, prefills and choices are text: what looks like a special token in them is broken (``neutral``).
    Prefills and choices belong to the answer: they come after the model's thoughts, of which there are none
    unless some are given.
    Every dialogue comes after the text ``system``, where there is one.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, system: str | None = None
    ) -> None:
        self.tokenizer, self._system = tokenizer, system or ""
        self._turns = TemplateTurns(tokenizer)
        self.reserved = reserved(tokenizer)
        self.plain = tokenizer.chat_template == HUMAN_ASSISTANT_TEMPLATE
        self.thinking = Thinking(tokenizer)
        self._thought_marks = special_in("".join(self.thinking.format or ()), tokenizer)
        self.ends = end_tokens(tokenizer, model)
        # What ends a thought, and the turn only where the model answers.
        self.thought_ends = set(special_in((self.thinking.format or ("",))[-1], tokenizer))
        self.turn_ends = tuple(turn_end(tokenizer).strings)
        self._marks = re.compile("|".join(map(re.escape, marks(tokenizer))) or r"(?!)")
        self._encode_piece = lru_cache(PIECES)(self._encode_anew)

    def prompt(
        self, messages: Sequence[Message], prefill: str, thoughts: str | None = None
    ) -> tuple[str, Tokens]:
        """Everything before the text to be generated or scored, as text and as tokens.

        Where ``thoughts`` are None and nothing is prefilled, the model's own may come. Raises SolonError for
        turns that the format does not take.
        """
        text: str = self.tokenizer.apply_chat_template(
            self._turns(messages, self._system), add_generation_prompt=True, tokenize=False
        )
        if prefill or thoughts is not None:
            text += self.thinking.after(neutral(thoughts or "", self.reserved))
        if prefill:
            text += self._opening(neutral(prefill, self.reserved))
        return text, self._encode(text)

    def continuation(self, prompt: str, tokens: Tokens, choice: str, prefilled: bool) -> Tokens:
        """The tokens of ``choice`` after ``prompt``.

        The prompt's own tokens stay as they are when generating, so where the tokenizer would merge the end
        of the prompt with the beginning of the choice, the choice is tokenized by itself.
        """
        choice = neutral(choice, self.reserved)
        choice = choice if prefilled else self._opening(choice)
        whole = self._encode(prompt + choice)
        if len(whole) > len(tokens) and np.array_equal(whole[: len(tokens)], tokens):
            return whole[len(tokens) :]
        return self._encode(choice)

    def text(self, generated: Sequence[int], prefilled: bool) -> str:
        text: str = self.tokenizer.decode(
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.removeprefix(" ") if self.plain and not prefilled else text

    def marked(self, generated: Sequence[int], prefilled: bool) -> str:
        """The same with what marks thoughts, where that is special tokens."""
        places = [place for place, token in enumerate(generated) if token in self._thought_marks]
        if not places:
            return self.text(generated, prefilled)
        pieces = [self.text(generated[: places[0]], prefilled)]
        for place, following in zip(places, [*places[1:], len(generated)], strict=True):
            pieces += [
                self._thought_marks[generated[place]],
                self.text(generated[place + 1 : following], True),
            ]
        return "".join(pieces)

    def parted(self, generated: Sequence[int], prefilled: bool = False) -> Parted:
        """What the model thought, and what it answered."""
        thinking = self.thinking
        text = self.marked(generated, prefilled)
        closed = prefilled or thinking.closed
        return part(text, thinking.format, thinking.opened and not prefilled, closed)

    @cached_property
    def closing(self) -> list[int]:
        """The tokens that close a thought."""
        return self._encode(self.thinking.closing).tolist() if self.thinking.format else []

    def written(self, generated: Sequence[int]) -> tuple[Parted, bool]:
        """An answer, and whether it came to its end: one of the model's, or what a text stops before.

        Either is among the tokens, as their last, and not in the text.
        """
        ended = bool(generated) and generated[-1] in self.ends
        parted = self.parted(generated[:-1] if ended else generated)
        whole = None if ended else cut(parted.text, self.stops(()))
        return (parted, ended) if whole is None else (parted._replace(text=whole), True)

    def stops(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """The strings a text ends before. A base model would write the human's next turn by itself."""
        turns = (HUMAN_TURN,) if self.plain else self.turn_ends
        return (*asked, *turns)

    def _opening(self, text: str) -> str:
        return f" {text}" if self.plain and not text.startswith(" ") else text

    def _encode(self, text: str) -> Tokens:
        """As the tokenizer does. Pieces that begin at marks are remembered: few-shot examples come again."""
        starts = [mark.start() for mark in self._marks.finditer(text)]
        if not starts or starts[0]:
            starts.insert(0, 0)
        ends = [*starts[1:], len(text)]
        return np.concatenate(
            [self._encode_piece(text[start:end]) for start, end in zip(starts, ends, strict=True)]
        )

    def _encode_anew(self, text: str) -> Tokens:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)


def marks(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens before which a text may be cut, and its pieces be encoded by themselves.

    A fast tokenizer looks for special tokens first, and then at each text between two of them. Not those
    that take spaces from the text before or after them, or that another token has in it.
    """
    if not tokenizer.is_fast:
        return []
    added = tokenizer.added_tokens_decoder.values()
    return [
        token.content
        for token in added
        if token.special
        and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
        and not any(token.content in other.content for other in added if other is not token)
    ]


def special_in(text: str, tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The special tokens in a text."""
    added = tokenizer.added_tokens_decoder.items()
    return {number: token.content for number, token in added if token.special and token.content in text}


def end_tokens(tokenizer: PreTrainedTokenizerBase, model: Any) -> set[int]:
    """The tokens that end a turn: the model's, the tokenizer's and the chat template's."""
    ends = model.generation_config.eos_token_id
    written = tokenizer.convert_tokens_to_ids(turn_end(tokenizer).tokens)
    return {tokenizer.eos_token_id, *written, *(ends if isinstance(ends, list) else [ends])} - {None}


def cut(text: str, stops: tuple[str, ...]) -> str | None:
    """The text before the first stop string in it; None where there is none."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None
