"""What is held out: one rule for prompts, pairs, comparisons and ratings, by a dialogue's opening turn alone.

Dialogues that open alike are about the same thing, whichever file or stage they come from, so they are on one
side everywhere: a model is never measured on what it, or its preference model, was trained on.
"""

from collections.abc import Sequence

from solon.prompts.dialogue import transcript
from solon.records import Message, Split
from solon.seeds import share_of

HELD_OUT = 0.2  # share of the openings that nothing is trained on


def folded(dialogue: Sequence[Message]) -> str:
    """The dialogue's text with case and white space made equal."""
    return " ".join(transcript(dialogue).split()).casefold()


def opening(dialogue: Sequence[Message]) -> str:
    """The first turn of a person, folded; of a dialogue without one, all of it."""
    first = [turn for turn in dialogue if turn["role"] == "user"][:1]
    return folded(first or dialogue)


def split_of(dialogue: Sequence[Message], share: float = HELD_OUT) -> Split:
    """Whether the dialogue is held out; a smaller share's openings are among a larger one's."""
    return "held-out" if share_of("split", opening(dialogue)) < share else "train"


def split_of_comparison(prompt: Sequence[Message], share: float) -> Split:
    """The same for a comparison by its prompt: of those trained on elsewhere, ``share`` is held out here too.

    So the preference model's accuracy is known on prompts that the policy was trained on, as RL uses it.
    """
    kept = split_of(prompt) == "held-out" or share_of("comparison", opening(prompt)) < share
    return "held-out" if kept else "train"
