"""How a model is asked for an answer under a principle, and for one against it (Yang et al. 2023)."""

from collections.abc import Sequence

from solon.prompts.dialogue import user
from solon.records import Message

# Said at the end of the human's last turn. RLCD (arXiv:2307.12950, section 3) asks that the two be as alike
# as can be, so that the answers differ in little but what the principle is about: these differ in one word.
UNDER = "(Give the best answer by this measure: {})"
AGAINST = "(Give the worst answer by this measure: {})"


def requests(instruction: str) -> tuple[str, str]:
    """What is added to a prompt for the answer under the principle, and for the one against it."""
    return UNDER.format(instruction), AGAINST.format(instruction)


def asked(dialogue: Sequence[Message], request: str) -> list[Message]:
    """The dialogue, which ends with the human's turn, with the request at the end of it."""
    return [*dialogue[:-1], user(f"{dialogue[-1]['content']}\n\n{request}")]
