"""Which of several choices a written answer names: letters of options, or numbers of a scale.

An answer that names none, or more than one without deciding, names nobody: none is better than a wrong one.
"""

import re
import unicodedata
from collections.abc import Sequence

# Letters by themselves that look like Latin ones: Cyrillic and Greek.
ALIKE = str.maketrans("АВСЕНΑΒΕΗ", "ABCEHABEH")
MARKS = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\b|[*_`#~${}\\]")
LETTER = r"A-Za-z0-9\u00c0-\u024f"  # what would make a choice a part of a word; Chinese and others do not
BREAK = re.compile(
    r"[,;:!?\n—–]|\.(?=\s|$)|\b(?:but|however|so|therefore|thus|hence|while|whereas|yet)\b", re.IGNORECASE
)
SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+|(?<=[。！？])")
# A choice after one of these, in the same clause, is not the one that is named.
AGAINST = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|without|reject\w*|avoid\w*|against|than|over|unlike|versus|vs|no"
    r"|instead of|compared (?:to|with)|as \w+ as|beats|outperforms)\b|n['’]t\b|不|非|ではない)[^.]{0,40}$",
    re.IGNORECASE,
)
NOUN = (
    r"(?:option|answer|response|choice|candidate|assistant|output|reply|letter|number|rating|score|verdict"
    r"|model)"
)
GOOD = (
    r"(?:helpful|harmless|honest|ethical|moral|polite|accurate|appropriate|respectful|truthful|responsible"
    r"|balanced|considerate|useful|wise|thoughtful|kind|peaceful|suitable|informative|careful|sensible|desirable"
    r"|safe)"
)
BAD = (
    r"(?:harmful|dangerous|toxic|offensive|risky|unethical|immoral|biased|evasive|problematic|objectionable"
    r"|rude)"
)
BETTER = (
    rf"(?:better|best|preferable|preferred|superior|stronger|safer|safest|kinder|wiser|correct|right|winner"
    rf"|favou?red|(?:more|most) {GOOD}|(?:less|least) {BAD})"
)
SURELY = (
    r"(?:(?:clearly|slightly|much|somewhat|probably|definitely|far|a bit|a lot|overall|also|still|generally"
    r"|the|a|marginally|significantly|really|just|marked as)\s+)*"
)
# Cues of a verdict, the choice (X) being what they are about: first those that announce it.
ANNOUNCED = (
    rf"(?:\b(?:{NOUN}|decision|pick|conclusion)|\b{BETTER}(?:\s+(?:{NOUN}|one))?(?:\s+of \w+ \w+)?)"
    rf"\s*(?:is|are|was|would be|:|=|->|→|to be)+\s*(?:is\s+)?(?:that\s+of\s+)?{SURELY}"
    rf"(?:{NOUN}\s+)?[\"'“(\[]*X",
    r"(?:答案|回答|选择|選択|选|答え|정답|답|更好|较好|ответ|вариант|выбираю|resposta|respuesta|r[ée]ponse|antwort"
    r"|जवाब|उत्तर|विकल्प|الإجابة|الجواب|คำตอบ)[^.。!?\n]{0,12}?[\"'“（(\[]*X",
)
SAID = (
    rf"X[\"'”)\]]*\s+(?:is|are|was|seems|looks|appears|would be|remains)\s+{SURELY}{BETTER}",
    r"X[\"'”)\]]*\s+(?:clearly\s+)?(?:wins|has the edge|does better|is it|it is)\b",
    rf"\b(?:choose|chose|pick|picked|select|selected|prefer|favou?r|go with|going with|vote for|opt for|name"
    rf"|settle on|recommend|say|rate (?:it|this)|give (?:it|this)|lean towards?)\s+{SURELY}"
    rf"(?:{NOUN}\s+)?[\"'“(\[]*X",
    rf"X[\"'”)\]]*\s*(?:>|over|is better than|beats|outperforms)\s*(?:{NOUN}\s+)?",
    r"X[\"'”)\]]*\s*(?:更好|较好|更优|の方が|が良い|が優れ|더|лучше|es mejor|est meilleure?|ist besser"
    r"|é melhor)",
)
NOBODY = re.compile(
    r"\b(?:equal\w*|equivalent|the same|a tie|tied?|identical|comparable|neither"
    r"|can(?:not|['’]t) (?:decide|choose|determine|say)|unable to"
    r"|no (?:clear )?(?:winner|preference|difference)|both (?:are|answers))\b"
    r"|一样|相同|都不",
    re.IGNORECASE,
)
CONDITION = re.compile(r"\b(?:if|unless|depends|otherwise|whether|would have been)\b|\?\s*$", re.IGNORECASE)
FINAL = re.compile(
    r"\b(?:final\w*|therefore|thus|so|hence|overall|in conclusion|in the end|actually|ultimately)\b",
    re.IGNORECASE,
)
# What may stand around a choice in an answer that says nothing else.
NEUTRAL = re.compile(
    rf"\b(?:{NOUN}|the|an?|is|i['’]d|i['’]ll|i|think|believe|would|say|it['’]s|it|that|my|be|this|one|as|definitely"
    r"|probably|clearly|so|sure|okay|here|of|rate|give|with|go|choose|not|but|rather|than|instead)\b",
    re.IGNORECASE,
)


def named(text: str, choices: Sequence[str]) -> str | None:
    """The choice that ``text`` names as its verdict; None where it names none, or leaves it open."""
    text = MARKS.sub("", unicodedata.normalize("NFKC", text)).strip()
    text = re.sub(r"(?<!\w)[АВСЕНΑΒΕΗ](?!\w)", lambda letter: letter[0].translate(ALIKE), text)
    if all(choice.strip().isdecimal() for choice in choices):
        top = max(choices, key=int).strip()
        text = re.sub(rf"(?<![\d.])(\d+)\s*(?:/|out of)\s*{top}\b", r"\1", text)
        text = re.sub(r"[\d.]+\s*(?:/|out of)\s*\d+", "(on another scale)", text)
    reading = _Reading(text, [choice.strip() for choice in choices])
    found = (
        reading.whole()
        or reading.first()
        or reading.stated(ANNOUNCED)
        or reading.stated(SAID)
        or reading.bare()
    )
    return next((choice for choice in choices if choice.strip() == found), None)


class _Reading:
    """``text`` with its mentions of choices, by their places."""

    def __init__(self, text: str, choices: Sequence[str]) -> None:
        self.text, self.choices = text, choices
        self.numbers = all(choice.isdecimal() for choice in choices)
        one = "|".join(sorted(map(re.escape, choices), key=len, reverse=True))
        flags = 0 if all(len(choice) == 1 for choice in choices) else re.IGNORECASE
        lower = "" if self.numbers else f"|(?<=[(\\[\"'“])(?i:{one})(?=[)\\]\"'”])"
        self.pattern = (
            rf"(?<![{LETTER}])(?<![{LETTER}][.,'’-])(?<!-)(?:{one}{lower})(?![{LETTER}'’])(?![.,]\d)"
        )
        self.mentions = [
            match
            for match in re.finditer(self.pattern, text, flags)
            if not self._article(text, match.start(), match.end())
        ]

    def whole(self) -> str | None:
        """The text is a choice and what may stand around it."""
        bare = self.text.strip(" \t\n()[]\"'“”.:!,")
        bare = re.sub(rf"^(?:the\s+)?{NOUN}[\s:#]+[(\[]?", "", bare, flags=re.IGNORECASE)
        return self._choice(bare)

    def first(self) -> str | None:
        """The text begins with one, set apart from what follows, and says nothing else of another."""
        if not self.mentions:
            return None
        head = self.mentions[0]
        opening, after = self.text[: head.start()], self.text[head.end() :]
        closed = r"[)\]\"'”]*(?![)\]\"'”])" if opening else r"[\"'”]*"
        apart = r"(?:[.):,\]]|\s*(?:\n|$)|\s+[-–—]|[–—]|\s+(?:because|since)\b)" + (
            r"|\s+[A-Z]" if opening else ""
        )
        if opening.strip(" \t\n([\"'“") or not re.match(rf"{closed}(?:{apart})", after):
            return None
        each = re.findall(rf"{self.pattern}[)\]\"'”]*:", self.text)  # "A: kind, B: rude"
        joined = len(each) > 1 or re.match(
            rf"{closed}\s*(?:or|and|/|&|,|-|–)\s*[(\[\"'“]*{self.pattern}", after
        )
        if joined or NOBODY.match(after.lstrip(" .):,")) or (self.numbers and len(self._said()) > 1):
            return None
        choice = self._choice(head[0])
        return choice if {self.stated(ANNOUNCED), self.stated(SAID)} <= {None, choice} else None

    def stated(self, cues: Sequence[str]) -> str | None:
        """What the sentences with these cues say; where they differ, the last one, if it says that it is."""
        found: list[tuple[str, bool]] = []
        for sentence in SENTENCE.split(self.text):
            if CONDITION.search(sentence):
                continue
            here = {
                choice
                for cue in cues
                for match in re.finditer(cue.replace("X", rf"({self.pattern})"), sentence, re.IGNORECASE)
                if (choice := self._meant(match, sentence))
            }
            if len(here) == 1:
                found.append((here.pop(), bool(FINAL.search(sentence))))
            elif here or (NOBODY.search(sentence) and not found):
                found.append(("", False))
        if not found:
            return None
        said = {choice for choice, _ in found if choice}
        if len(said) == 1:
            return found[-1][0] or None
        return found[-1][0] or None if found[-1][1] else None

    def bare(self) -> str | None:
        """The one that is mentioned in words that say nothing else."""
        said = self._said()
        if len(said) != 1:
            return None
        rest = NEUTRAL.sub("", re.sub(self.pattern, "", self.text))
        return None if re.search(rf"[{LETTER}]", rest) else self._choice(said.pop())

    def _meant(self, match: re.Match[str], sentence: str) -> str | None:
        """The choice of a cue; None where it is denied, or another stands with it."""
        place, end = match.start(1), match.end(1)
        before, after = sentence[: match.start()], sentence[end:]
        if self._article(sentence, place, end):
            return None
        if AGAINST.search(BREAK.split(before)[-1]) or AGAINST.search(BREAK.split(sentence[:place])[-1][-24:]):
            return None
        if re.match(rf"[)\]\"'”]*\s*(?:or|and|/|&|,|to|-|–)\s*[(\[\"'“]*{self.pattern}", after):
            return None
        if re.search(rf"{self.pattern}[)\]\"'”]*\s*(?:or|and|/|&|to|-|–)\s*[(\[\"'“]*$", sentence[:place]):
            return None
        return self._choice(match[1])

    def _choice(self, said: str) -> str | None:
        return next((choice for choice in self.choices if choice.lower() == said.lower()), None)

    def _article(self, text: str, start: int, end: int) -> bool:
        """Whether "A" or "I" is a word here: "A better one is", "I think"."""
        if text[start:end].upper() not in {"A", "I"} or text[max(0, start - 1) : start] in {*"([\"'“"}:
            return False
        if text[start:end].islower():
            return re.match(r"\s*(?:[)\].,:;!?\"'”]|$)", text[end:]) is None
        if re.search(
            rf"\b(?:{NOUN}|than|over|choose|pick|prefer|is|not|and|or)[:\s]+$", text[:start], re.IGNORECASE
        ):
            return (
                re.match(r"\s+(?:\w+\s+)?(?:one|answer|response|option|tie|better|good|bad)\b", text[end:])
                is not None
            )
        follows = re.match(r"\s+([\w'’]+)", text[end:])
        if follows and self._choice(follows[1]):
            return False
        verbs = (
            r"is|are|was|wins?|seems?|looks|appears|would|does|has|and|or|over|because|since|than|beats|as"
            r"|remains"
        )
        return follows is not None and not re.fullmatch(verbs, follows[1], re.IGNORECASE)

    def _said(self) -> set[str]:
        """The choices that are mentioned and not denied."""
        return {
            each[0].upper()
            for each in self.mentions
            if not AGAINST.search(BREAK.split(self.text[: each.start()])[-1])
        }
