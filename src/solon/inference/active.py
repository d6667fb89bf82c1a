"""A sequence that is being generated, and when it has ended."""

import random
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import Completion, Request
from solon.inference.prefix import Tokens


@dataclass
class Active:
    """A request under way: its prompt's tokens, and those generated so far by its own draws."""

    request: Request
    prompt: Tokens
    stops: tuple[str, ...]
    most: int  # tokens that may be generated
    draws: random.Random
    generated: list[int] = field(default_factory=list)

    def restart(self) -> None:
        self.draws, self.generated = random.Random(self.request.seed), []

    @property
    def tokens(self) -> Tokens:
        """The tokens that have gone through the model: the last generated one has not been run yet."""
        return np.concatenate([self.prompt, np.array(self.generated[:-1], dtype=np.int64)])

    def completion(self, dialogue: DialogueTokens) -> Completion | None:
        """What the request gets, if the last token ends it."""
        request, generated = self.request, self.generated
        ended = generated[-1] in dialogue.ends
        prefilled = bool(request.prefill)
        text = None
        if self.stops and not ended:
            # Every token adds at least a byte, so a stop string just completed lies in these.
            tail = generated[-max(len(stop.encode()) for stop in self.stops) - 3 :]
            if cut(dialogue.text(tail, prefilled=True), self.stops) is not None:
                text = cut(dialogue.text(generated, prefilled), self.stops)
        if text is None and not ended and len(generated) < self.most:
            return None
        finish: Literal["stop", "length"] = "stop" if ended or text is not None else "length"
        if text is None:
            text = dialogue.text(generated[:-1] if ended else generated, prefilled)
        return Completion(request.id, text, finish, len(generated))
