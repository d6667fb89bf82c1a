"""How a model thinks by its chat template: where thoughts begin, and where the answer does."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from solon.prompts.dialogue import assistant, user
from solon.prompts.template_arguments import bound, reads
from solon.prompts.thoughts import CHANNELS, Format, format_of

ASKED, SAID = "Tea?", "Gladly."
SWITCHES = ("enable_thinking", "thinking", "reasoning")


class Thinking:
    """One tokenizer's. ``format`` is None for a model that doesn't think, as far as can be seen."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.format: Format | None = format_of(tokenizer)

    @cached_property
    def begun(self) -> str:
        """What the template writes of the assistant's turn before the model goes on."""
        return self._after_asked([user(ASKED)], add_generation_prompt=True)

    @cached_property
    def opened(self) -> bool:
        """Whether the template opens the thought, so that a text begins amid it."""
        return self.format is not None and (
            self.begun.rfind(self.format.open) > self.begun.rfind(self.format.close)
        )

    @cached_property
    def closed(self) -> bool:
        """Whether the template itself says that thoughts are over."""
        return self.format is not None and self.format.close in self.begun and not self.opened

    @cached_property
    def may_come(self) -> bool:
        """Whether the template knows thoughts and leaves room for them."""
        form, template = self.format, str(self._tokenizer.chat_template)
        return form is not None and (
            self.opened or (not self.closed and (form.open in template or form.close in template))
        )

    @cached_property
    def _closed_at_once(self) -> str:
        """How the template itself begins an answer that was not thought over; "" where it never does."""
        if self.format is None:
            return ""
        whole = self._after_asked([user(ASKED), assistant(SAID)])
        if whole.startswith(self.begun):
            between, said, _ = whole.removeprefix(self.begun).partition(SAID)
            if said and between.strip() and (not self.opened or self.format.close in between):
                return between
        for switch in self.switches:
            begun = self._after_asked([user(ASKED)], add_generation_prompt=True, **{switch: False})
            if begun.startswith(self.begun) and self.format.close in begun:
                return begun.removeprefix(self.begun)
        return ""

    @cached_property
    def closing(self) -> str:
        """What closes a thought that was not closed, as the models themselves write it.

        Most have "</think>" on a line of its own. Where the template has its thoughts without lines, so do
        they.
        """
        form = self.format
        if form is None:
            return ""
        shown = self.begun + self._closed_at_once
        lines = form.close.startswith("</") and (form.open not in shown or f"{form.open}\n" in shown)
        return f"\n{form.close}\n\n" if lines else form.before_close + form.close

    @property
    def switches(self) -> list[str]:
        """The template's arguments that may turn thinking off."""
        template = self._tokenizer.chat_template
        known = reads(template) if isinstance(template, str) else ()
        return [name for name in SWITCHES if name in known]

    @cached_property
    def answering(self) -> str:
        """What comes between the beginning of the turn and an answer that was not thought over.

        As the template writes an answer, where that goes on from the beginning, or as it begins one when told
        not to think; else by closing the thought that it opens.
        """
        if self.format is None or self.closed:
            return ""
        return self._closed_at_once or (self.closing if self.opened else "")

    def after(self, thoughts: str) -> str:
        """The same of an answer that comes after ``thoughts``."""
        form = self.format
        if form is None or self.closed or not thoughts:
            return self.answering
        if form == CHANNELS:
            return f"<|channel|>analysis<|message|>{thoughts}{self.closing}"
        line = "\n" if self.closing.startswith("\n") else ""
        return ("" if self.opened else form.open + line) + thoughts + self.closing

    def _after_asked(self, dialogue: Sequence[Any], **options: Any) -> str:
        text: str = self._tokenizer.apply_chat_template(dialogue, tokenize=False, **options)
        return text.rpartition(ASKED)[2]


def continued(tokenizer: Any, dialogue: Sequence[Any]) -> tuple[str, str, str]:
    """A dialogue's last turn, the assistant's, as a model writes it.

    What it goes on from, the answer that it adds, and what ends the turn.

    Some templates write a whole dialogue otherwise than they begin its last turn: without the thought that
    they open there. Then the answer and what ends it are taken from the whole.
    """
    begun: str = tokenizer.apply_chat_template(dialogue[:-1], add_generation_prompt=True, tokenize=False)
    whole: str = tokenizer.apply_chat_template(dialogue, tokenize=False)
    said, added = dialogue[-1]["content"].strip(), whole.removeprefix(begun)
    place = added.rindex(said) + len(said) if said in added else len(added)
    if whole.startswith(begun):
        return begun, added[:place], added[place:]
    return begun, said, added[place:] if said in added else tokenizer.eos_token


def close(tokenizer: Any) -> None:
    """Have the template write that thoughts are over, as it begins a turn: the model answers at once.

    By its own argument for that, where it has one.
    """
    thinking, template = Thinking(tokenizer), tokenizer.chat_template
    if not isinstance(template, str) or not thinking.answering:
        return
    for switch in thinking.switches:
        tokenizer.chat_template = bound(template, {switch: False})
        if Thinking(tokenizer).closed:
            return
    tokenizer.chat_template = template
    if answering := thinking.answering:
        written = f"{{% if add_generation_prompt %}}{{{{ {answering!r} }}}}{{% endif %}}"
        tokenizer.chat_template = tokenizer.chat_template.removesuffix("\n") + written
