"""What is held out: one rule for prompts, pairs, comparisons and ratings, by a dialogue's opening turn alone.

Dialogues that open alike are about the same thing, whichever file or stage they come from, so they are on one
side everywhere: a model is never measured on what it, or its preference model, was trained on.
"""

import unicodedata
from collections.abc import Collection, Iterable, Sequence

from solon.prompts.dialogue import transcript
from solon.records import Message, PromptRecord, Split
from solon.seeds import share_of

HELD_OUT = 0.2  # share of the openings that nothing is trained on


def folded(dialogue: Sequence[Message]) -> str:
    """The dialogue's text with case and white space made equal."""
    return " ".join(transcript(dialogue).split()).casefold()


def opening(dialogue: Sequence[Message]) -> str:
    """The words of a person's first turn, in small letters; of a dialogue without one, those of all of it.

    Case, punctuation, white space, and how a character is written (full-width, composed, with something
    invisible in it) make no other opening. What has no words is its own opening.
    """
    first = [turn for turn in dialogue if turn["role"] == "user"][:1]
    text = unicodedata.normalize("NFKC", transcript(first or dialogue)).casefold()
    kept = "".join(_kept(character) for character in text).split()
    return " ".join(kept) if len(kept) > 1 else folded(first or dialogue)  # the speaker's name alone


def _kept(character: str) -> str:
    if character in "'’" or unicodedata.category(character) == "Cf":
        return ""
    return character if unicodedata.category(character)[0] in "LMN" else " "


def split_of(dialogue: Sequence[Message], share: float = HELD_OUT) -> Split:
    """Whether the dialogue is held out; a smaller share's openings are among a larger one's."""
    return "held-out" if share_of("split", opening(dialogue)) < share else "train"


def split_of_comparison(prompt: Sequence[Message], share: float) -> Split:
    """The same for a comparison by its prompt: of those trained on elsewhere, ``share`` is held out here too.

    So the preference model's accuracy is known on prompts that the policy was trained on, as RL uses it.
    """
    kept = split_of(prompt) == "held-out" or share_of("comparison", opening(prompt)) < share
    return "held-out" if kept else "train"


def apart(prompts: Iterable[PromptRecord], shown: Collection[str] = ()) -> list[PromptRecord]:
    """The prompts without those that would be on both sides, where a source has a split of its own.

    A training prompt that opens as one held out goes, and so does one held out whose opening is among those
    ``shown`` to the models as worked examples.
    """
    given = list(prompts)
    kept = {opening(record["prompt"]) for record in given if record["split"] == "held-out"}
    return [
        record
        for record in given
        if opening(record["prompt"]) not in (kept if record["split"] == "train" else shown)
    ]
