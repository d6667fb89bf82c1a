"""Texts that must not be trained on, and what is wrong with them.

Small models asked to revise often answer with nothing, with the question itself, or with both sides of the
dialogue. Such texts are found here, so that stages can sample again, count them and keep them out.
"""

import re
from collections.abc import Sequence

from solon.texts.refusal import is_evasive
from solon.texts.words import words
from solon.texts.written import Written

# Shares of a text's three-word sequences: ordinary text of 50 words has more than nine in ten only once.
LOOPING = 0.7  # a text of which no more than this is new goes round in circles ...
LOOP_WORDS = 24  # ... unless it is shorter: such texts may repeat themselves
COPIED = 0.7  # a text that has this much or more from one other text is a copy of it
QUOTED = 8  # words in a row; they do not come twice by chance

ROLE = re.compile(
    r"^\W*(human|user|assistant|ai|system|h|a|critique|critique ?request|revision ?request"
    # and in Chinese, Japanese, Korean, Hindi, Arabic, Russian, German, Spanish and French
    r"|人类|用户|使用者|助手|助理|人間|ユーザー|アシスタント|사용자|어시스턴트|उपयोगकर्ता|सहायक|المستخدم|المساعد"
    r"|пользователь|ассистент|nutzer|benutzer|assistent|usuario|asistente|utilisateur)\W{0,3}[:：]"
    r"|<\|[a-z_]+\|>|\[/?inst\]",
    re.IGNORECASE | re.MULTILINE,
)

# "The last answer is a myth": a revision that goes on criticising, and says to the user what only the
# assistant was told.
ANSWER = r"(?:answer|response|reply)"
ABOUT = re.compile(
    "|".join(
        (
            rf"\b(?:the|this|that|your|my) (?:last|previous|original|above|earlier|given|initial) {ANSWER}\b",
            # A sentence's opening: "The answer goes along with it", "The answer to your question is wrong",
            # 'The answer "..." is'; but "The answer depends on the weather" may be said of anything.
            rf"(?:^|[.!?:][\"'”’]?\s)\W*(?:the|this) {ANSWER}(?: provided)?"
            r"(?: to (?:the|this|that|your|my) \w+(?: \"[^\"]*\")?)?,? "
            r"(?:[\"“]|(?:is|was|does|did|has|had|states?|says|should|contains|remains|stays|above|about|goes|"
            r"provides|implies|suggests|addresses)\b)",
            rf"\bact(?:s|ed|ing)? on (?:the|this|that) {ANSWER}\b",
            # "Sure, I'll rewrite the answer to be kinder"
            rf"\b(?:rewrit\w*|rewrote|revis(?:e|ed|ing)|rephras\w*|reword\w*) (?:the|this|my) {ANSWER}\b",
            r"^\W*(?:the|this) (?:request|critique|revision) (?:is|was|does|did|has|asks|goes)\b",
        )
    ),
    re.IGNORECASE,
)
BARE = 20  # words; what explains itself says more

NO_ANSWER = "no answer after thinking"  # the thought did not end, or nothing came after it


def problem(written: Written, requests: Sequence[str], examples: Sequence[str] = ()) -> str:
    """What is wrong with an answer to ``requests``: the human's message and what else was asked.

    ``examples`` are what else the model was shown: an answer may quote the requests, but not these. "" for a
    sound answer, else one of "empty", "no answer after thinking", "unfinished" (it ran into the token limit
    before a sentence ended), "role confusion", "copy of the request", "copy of an example" and "repeats
    itself".
    """
    text, cut, thinking = written
    said = words(text)
    if not said or cut == "unfinished":
        return cut if said else NO_ANSWER if thinking else "empty"
    if ROLE.search(text):
        return "role confusion"
    if any(copies(said, words(request)) for request in requests):
        return "copy of the request"
    if any(copies(said, other) or quotes(said, other) for other in map(words, examples)):
        return "copy of an example"
    trigrams = sequences(said)
    if len(said) >= LOOP_WORDS and len(set(trigrams)) <= LOOPING * len(trigrams):
        return "repeats itself"
    return ""


def answer_problem(written: Written, request: str, evasive: bool) -> str:
    """The same of a model's own answer, which has one more: unless ``evasive``, "evasive"."""
    return problem(written, [request]) or evasive_problem(written, evasive)


def revision_problem(
    written: Written, request: str, told: Sequence[str], shown: Sequence[str], evasive: bool
) -> str:
    """The same of a revision, which has two more: "about the answer" and, unless ``evasive``, "evasive".

    ``request`` is the human's message, ``told`` the requests to criticise and revise, ``shown`` the worked
    examples.
    """
    if wrong := problem(written, [request, *told], [*shown, *told]):
        return wrong
    if is_about_the_answer(written.text, request):
        return "about the answer"
    return evasive_problem(written, evasive)


def evasive_problem(written: Written, evasive: bool) -> str:
    return "evasive" if not evasive and is_bare_refusal(written.text) else ""


def is_bare_refusal(text: str) -> bool:
    """Whether a revision or an answer refuses and leaves it there.

    The paper wants answers that engage and explain their objections (section 1.1). A model that learned
    from bare refusals finds in RL that one of them answers everything.
    """
    return is_evasive(text) and len(words(text)) <= BARE


def is_about_the_answer(revision: str, request: str) -> bool:
    """Whether a revision speaks of the answer it was made from, though the human did not."""
    return bool(ABOUT.search(revision)) and not ABOUT.search(request)


def copies(said: list[str], other: list[str]) -> bool:
    """Whether a text is another one, opens with all of it, or says little that is not in it."""
    if len(said) < 3 or len(other) < 3:
        return said == other
    known, own = set(sequences(other)), sequences(said)
    return said[: len(other)] == other or sum(trigram in known for trigram in own) >= COPIED * len(own)


def quotes(said: list[str], other: list[str]) -> bool:
    """Whether a text has ``QUOTED`` words in a row from another one."""
    return not set(sequences(said, QUOTED)).isdisjoint(sequences(other, QUOTED))


def sequences(said: list[str], length: int = 3) -> list[tuple[str, ...]]:
    return list(zip(*(said[start:] for start in range(length)), strict=False))
