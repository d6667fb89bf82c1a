"""Whether comparisons that people labelled are labels of harm: told from what the rows are, for every door.

Harmlessness is learned from the constitution, without human labels of harm (paper, abstract). No test proves
what people were asked. So a file whose rows are labels of harm is refused, one whose rows may be wants a
signature in the configuration, ``preference_model.vouched_for``, and the manifest keeps what was seen.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from solon.errors import SolonError
from solon.records import Message, PreferenceRecord
from solon.sources import harm_names, red_team_words
from solon.sources.tables import HUB, label
from solon.texts.refusal import is_refusal

ROWS = 10_000  # looked at of a larger source, at even steps
SHOWN = 3  # lines named
USUAL = 0.025  # as many of helpful prompts read like red-team prompts; more are told, at 95 % confidence
UNREAD = 0.2  # share of prompts in other languages from which too little is known
SURE = 0.01  # how unlikely it must be that the chosen answer declines more often by chance
MANY = 0.05  # share of chosen answers that alone refuse, from which one asks what people were asked
FEWEST = 3  # rows that say something, before a share of them does

TEXTS = {
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "question",
    "instruction",
    "text",
    "input",
}

REFUSED = "human harmlessness labels are never used, the constitution takes their place"
SETTING = "preference_model.vouched_for"


@dataclass(frozen=True)
class Finding:
    """What was seen of a source. Its numbers are in the manifest, and the audit counts them again."""

    source: str
    rows: int = 0
    looked_at: int = 0
    red_team: int = 0  # rows whose prompt is like red-team prompts
    unread: int = 0  # rows whose prompt is in a language that cannot be judged
    declined: tuple[int, int] = (
        0,
        0,
    )  # rows where the chosen answer alone refuses, and the rejected one alone
    known: int = 0  # rows with answers from a public set of human harm labels
    labelled: int = 0  # rows that say of themselves that they are labels of harmlessness
    about_harm: int = 0  # rows with a value that names harm or safety
    columns: tuple[str, ...] = ()  # that name harm or safety
    names: tuple[str, ...] = ()  # what else does: the source's own name, its card
    lines: tuple[str, ...] = ()  # of rows that say the most

    @property
    def refused(self) -> str:
        """Why these are labels of harm; "" where that is not sure."""
        if self.labelled:
            return f"{self.labelled} of {self.rows} rows say that they are labels of harmlessness"
        if self.known:
            return f"{self.known} of {self.looked_at} rows are from a public set of human labels of harm"
        if self.is_red_team and self.leans:
            return f"{self.says_red_team}, and {self.says_declined}"
        return ""

    @property
    def doubt(self) -> str:
        """Why it can't be known whether these are labels of harm; "" where nothing speaks for it."""
        reasons = [*self.names]
        if self.columns:
            reasons.append(
                f"{'columns' if len(self.columns) > 1 else 'a column'} named {', '.join(self.columns)}"
            )
        if more_than(self.about_harm, self.rows, USUAL):
            reasons.append(f"{self.about_harm} of {self.rows} rows have a value that names harm")
        if self.is_red_team:
            reasons.append(f"{self.says_red_team}, and {self.says_declined}")
        elif self.leans and more_than(self.declined[0], self.looked_at, MANY):
            reasons.append(self.says_declined)
        if self.unread > UNREAD * self.looked_at:
            reasons.append(
                f"{self.unread} of {self.looked_at} prompts are in no language that Solon can judge"
            )
        return "; ".join(reasons)

    @property
    def is_red_team(self) -> bool:
        """Whether more of the prompts are red-team prompts than of helpful sets."""
        return more_than(self.red_team, self.looked_at, USUAL)

    @property
    def leans(self) -> bool:
        """Whether people preferred the answer that refuses, as who labels harm does."""
        towards, away = self.declined
        return bool(towards) and binomtest(towards, towards + away, alternative="greater").pvalue < SURE

    @property
    def share(self) -> float:
        """The rows with red-team prompts, as a share: what the words catch, made up for what they miss."""
        caught, mistaken = red_team_words.CAUGHT, red_team_words.MISTAKEN
        seen = self.red_team / max(self.looked_at, 1)
        return min(1.0, max(0.0, (seen - mistaken) / (caught - mistaken)))

    @property
    def says_red_team(self) -> str:
        return (
            f"{self.red_team} of {self.looked_at} prompts read like red-team prompts, as where about "
            f"{self.share:.0%} are such"
        )

    @property
    def says_declined(self) -> str:
        chosen, rejected = self.declined
        return f"the chosen answer alone refuses in {chosen} rows, the rejected one in {rejected}"

    @property
    def says(self) -> str:
        """One phrase for the audit."""
        usual = f"{self.red_team} of {self.looked_at} prompts read like red-team prompts, as in helpful sets"
        return self.refused or self.doubt or usual

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"source": label(self.source), "says": self.says, "in_doubt": bool(self.doubt)}


@dataclass
class Look:
    """Goes through a source's rows, given one by one, and says what they are."""

    source: str
    counts: dict[str, int] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)  # (why, line)
    texts: list[tuple[str, str, str, str]] = field(default_factory=list)  # (line, prompt, chosen, rejected)

    def at_names(self, values: Mapping[str, Any], place: str) -> None:
        """At a row's columns and at its values beside the texts, whatever becomes of the row."""
        self._count("rows")
        beside = list(flat({name: value for name, value in values.items() if name not in TEXTS}))
        self.columns |= {name: None for name, _ in beside if harm_names.is_of_harm(name)}
        said = [value for _, value in beside if harm_names.says_harm(value)]
        if any(map(harm_names.is_of_labels, said)):
            self._note("labelled", place)
        elif said:
            self._note("about_harm", place)

    def at_texts(
        self, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message], place: str
    ) -> None:
        said = " ".join(turn["content"] for turn in prompt if turn["role"] != "assistant")
        self.texts.append((place, said, written(chosen), written(rejected)))

    def finding(self, names: Sequence[str]) -> Finding:
        """``names`` are what ``by_name`` says."""
        step = max(1, math.ceil(len(self.texts) / ROWS))
        looked_at = self.texts[::step]
        scores = red_team_words.scores([prompt for _, prompt, *_ in looked_at])
        declined = [0, 0]
        for (place, prompt, *answers), score in zip(looked_at, scores, strict=True):
            if red_team_words.is_known(" ".join(answers)):
                self._note("known", place)
            if not red_team_words.is_english(prompt):
                self._count("unread")
            elif score > red_team_words.FLAG:
                self._note("red_team", place)
            refusals = [bool(answer) and is_refusal(answer) for answer in answers]
            if refusals[0] != refusals[1]:
                declined[refusals.index(True)] += 1
        return Finding(
            source=self.source,
            looked_at=len(looked_at),
            declined=(declined[0], declined[1]),
            columns=tuple(self.columns),
            names=tuple(names),
            lines=self._most_telling(),
            **self.counts,
        )

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _note(self, what: str, place: str) -> None:
        self._count(what)
        self.lines.append((what, place))

    def _most_telling(self) -> tuple[str, ...]:
        for kind in ("labelled", "known", "red_team", "about_harm"):
            if found := [place for what, place in self.lines if what == kind]:
                return tuple(place.removeprefix(self.source).strip() for place in found[:SHOWN])
        return ()


def by_name(source: str) -> Iterable[str]:
    """What the source's own name, and its card where there is one here, say of harm, a phrase each."""
    name = source.removeprefix(HUB)
    local = not source.startswith(HUB) or Path(name).exists()
    shown = "/".join(Path(name).parts[-2:]) if local else name
    if harm_names.known_set(shown):
        yield f"the name {shown} is that of a public set of human labels of harm"
    elif harm_names.is_of_harm(Path(name).name if local else name):
        yield f"the name {shown} names harm or safety"
    if local and harm_names.is_of_harm(harm_names.card_of(Path(name.partition(":")[0]))):
        yield "its card (README.md) speaks of harm or safety"


def refuse_name(source: str) -> None:
    """Raises SolonError for a name that says that these are human labels of harmlessness."""
    if harm_names.is_of_labels(source):
        raise SolonError(
            f"{source}: {REFUSED}; name helpfulness comparisons, at a path without 'harmless' in it"
        )
    if source.startswith(HUB) and harm_names.known_set(source):
        own = f", {HUB}Anthropic/hh-rlhf/helpful-base" if "hh-rlhf" in source.lower() else ""
        raise SolonError(
            f"{source} mixes human harmlessness labels in, which are never used; name its helpful part{own}"
        )


def refuse(finding: Finding, vouched_for: str | None) -> None:
    """Raises SolonError for labels of harm, and for what may be such where nobody ``vouched_for`` them."""
    lines = f" (for instance {', '.join(finding.lines)})" if finding.lines else ""
    if finding.refused:
        raise SolonError(
            f"{finding.source}: {finding.refused}{lines}; {REFUSED}: name helpfulness comparisons, take "
            "these rows out, or name them for what they are in preference_model.harmlessness"
        )
    if finding.doubt and not vouched_for:
        raise SolonError(
            f"{finding.source}: it can't be known whether people labelled harm there: "
            f"{finding.doubt}{lines}; find out what they were asked and sign for it in {SETTING} "
            "('which answer helps more; J. Doe'), or name other comparisons"
        )


def of_records(records: Sequence[PreferenceRecord], place: str) -> Finding:
    """What the labels of people among records are. An AI's label without a vote may be anybody's.

    Those that say themselves that they are of harm are for ``marks`` to admit or refuse.
    """
    look, labellers = Look(place), set()
    for record in records:
        unproved = record["label_source"] == "ai" and not record["votes"]
        by_people = record["label_source"] == "human" and record["aspect"] == "helpfulness"
        if by_people or unproved:
            where = f"{place} {record['id']}"
            look.at_names({"kind": record["kind"]}, where)
            look.at_texts(record["prompt"], record["chosen"], record["rejected"], where)
            labellers |= set() if unproved else {record["labeller"]}
    return look.finding([phrase for name in sorted(labellers) for phrase in by_name(name)])


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All values with their names, also those inside other values: "meta.source", for instance."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from flat(inner, name)
    else:
        yield name, value


def written(answer: Sequence[Message]) -> str:
    return " ".join(turn["content"] for turn in answer if turn["role"] == "assistant")


def more_than(count: int, of: int, share: float) -> bool:
    """Whether so many show a larger share than that, at 95 % confidence (Wilson's interval)."""
    if count < FEWEST:
        return False
    low: float = binomtest(count, of).proportion_ci(0.95, method="wilson").low
    return low > share
