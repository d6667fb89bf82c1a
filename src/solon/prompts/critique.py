"""How the assistant is asked to criticise and to revise its own answer (paper, section 3.1 and Appendix E).

Critique and revision are turns of the dialogue they are about, after worked examples as earlier turns. So
each prompt begins with the whole prompt before it, and engines compute only what is new.
"""

from collections.abc import Sequence

from solon.constitution import CritiqueExample, CritiquePrinciple
from solon.prompts.dialogue import assistant, user
from solon.records import Message


def worked_examples(examples: Sequence[CritiqueExample], critique: bool) -> list[Message]:
    """The examples as finished dialogues, one after another; without their critiques for direct revision."""
    messages: list[Message] = []
    for example in examples:
        messages += [*example.dialogue, assistant(example.answer)]
        if critique:
            messages += [user(example.critique_request), assistant(example.critique)]
        messages += [user(example.revision_request), assistant(example.revision)]
    return messages


def asked_for_critique(dialogue: Sequence[Message], principle: CritiquePrinciple) -> list[Message]:
    """A dialogue that ends in an answer, and the request to criticise it."""
    return [*dialogue, user(principle.critique_request)]


def asked_for_revision(dialogue: Sequence[Message], principle: CritiquePrinciple) -> list[Message]:
    """A dialogue that ends in a critique, or in an answer, and the request to revise what was answered."""
    return [*dialogue, user(principle.revision_request)]
