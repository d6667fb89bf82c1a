"""An engine that says what is recorded: a stage run with it makes its records again, or others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from solon import config
from solon.errors import SET_ASIDE, SetAside
from solon.feedback.method import close
from solon.feedback.multiple_choice import orders_of
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.records import AnswerRecord, Cut, PairRecord, RevisionRecord, Round, Vote
from solon.seeds import derive_seed
from solon.texts.written import Written, untrimmed

Answer = Written | type[SetAside]  # a text, or why there is none
Said = dict[int, Answer]  # by the seeds of requests
UNSEEN = Written("")  # of an attempt before the last: it was degenerate, and nobody kept it


class Recorded(Engine):
    """Answers each request with the text that was sampled with its seed, and one never made with nothing.

    What is to be scored goes to ``judge``, where there is one.
    """

    def __init__(self, said: Mapping[int, Answer], judge: Engine | None = None) -> None:
        self.said, self.judge, self.usage = said, judge, Usage()
        self.model_name = judge.model_name if judge else "records"
        self.concurrency = judge.concurrency if judge else 1
        self._ready: list[Completion | SetAside] = []

    def submit(self, request: Request) -> None:
        written = self.said.get(request.seed, UNSEEN)
        if not isinstance(written, Written):
            self._ready.append(written(request.id, f"was {written.problem}"))
        else:  # what was trimmed is trimmed again
            finish: Literal["stop", "length"] = "length" if written.cut else "stop"
            text = untrimmed(written.text) if written.cut == "trimmed" else written.text
            self._ready.append(Completion(request.id, text, finish, 0, written.thinking))

    def poll(self) -> list[Completion | SetAside]:
        ready, self._ready = self._ready, []
        return ready

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        if self.judge is None:
            raise NotImplementedError("only texts are recorded")
        return self.judge.choice_logprobs(questions)

    def forget(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def answer(problem: str, written: Written) -> Answer:
    """What a model said where its record has this text and problem."""
    return SET_ASIDE.get(problem) or written


def of(text: str, record: Mapping[str, Any]) -> Written:
    """The text of a record that says what the token limit did to it, and what was thought before."""
    return Written(text, record.get("cut", ""), record.get("thinking", ""))


def said_in_round(made: Round, prompt: str, seed: int, number: int) -> Said:
    """The texts of a round by the seeds they were sampled with, as ``revising.one_round`` derives them."""
    last = made["attempts"]
    thoughts = made.get("critique_thinking", "")
    added = made["revision"].removeprefix(made.get("revision_start", ""))
    revision = answer(made["problem"], of(added, made))
    added = made["critique"].removeprefix(made.get("critique_start", ""))
    critique: Answer = Written(added, thinking=thoughts)
    if not made["critique"]:
        critique = answer(made["problem"], Written("", thinking=thoughts))
    return {
        derive_seed(seed, prompt, "critique", number, last): critique,
        derive_seed(seed, prompt, "revision", number, last): revision,
    }


def said_in_revisions(record: RevisionRecord, seed: int) -> Said:
    # Where nothing was sampled in a round, there was no answer to be revised.
    unasked = next((made["problem"] for made in record["rounds"] if not made["attempts"]), "")
    first = answer(unasked, of(record["answer"], record))
    said: Said = {derive_seed(seed, record["id"], "answer"): first}
    for number, made in enumerate(record["rounds"]):
        said |= said_in_round(made, record["id"], seed, number)
    return said


def said_in_answer(record: AnswerRecord, seed: int, attempts: int) -> Said:
    text = record["messages"][-1]["content"]
    written = answer(record["problem"], of(text, record))
    return {
        derive_seed(seed, record["id"], "helpful", attempt): written for attempt in range(1, attempts + 1)
    }


def said_in_pair(pair: PairRecord, seed: int) -> Said:
    cuts: Sequence[Cut] = pair.get("cut", ("", ""))
    thoughts = pair.get("thinking", ("", ""))
    said: Said = {
        derive_seed(seed, pair["id"], "response", number): answer(pair["problem"], Written(*written))
        for number, written in enumerate(zip(pair["responses"], cuts, thoughts, strict=True))
    }
    if "revised" in pair:
        said |= said_in_round(pair["revised"], pair["id"], seed, 0)
    return said


def said_in_votes(votes: Sequence[Vote], pair: str, settings: config.Feedback, seed: int) -> Said:
    """The chains of thought behind votes for the pair's first answer."""
    return {
        derive_seed(seed, "reasoning", f"{pair}/{number}/{swapped}"): Written(text, thinking=thoughts)
        for number, vote in enumerate(votes)
        for swapped, text, thoughts in zip(
            orders_of(pair, number, settings, seed),
            vote["reasoning"],
            vote.get("thinking", [""] * len(vote["reasoning"])),
            strict=False,
        )
    }


def together(said: Iterable[Said]) -> Said:
    return {seed: text for each in said for seed, text in each.items()}


def difference(stored: Any, made: Any, place: str = "") -> str | None:
    """Where two records differ first, as a dotted name; None where they do not."""
    if isinstance(stored, dict) and isinstance(made, dict):
        pairs = [(name, stored.get(name), made.get(name)) for name in {**stored, **made}]
    elif isinstance(stored, list) and isinstance(made, list) and len(stored) == len(made):
        pairs = [(str(number), *both) for number, both in enumerate(zip(stored, made, strict=True))]
    else:
        return None if alike(stored, made) else place
    found = (difference(one, other, f"{place}.{name}".strip(".")) for name, one, other in pairs)
    return next((each for each in found if each is not None), None)


def alike(stored: Any, made: Any) -> bool:
    """Whether two values are equal, or numbers that are but for how they were rounded."""
    if isinstance(stored, float) and isinstance(made, float):
        return close(stored, made)
    return bool(stored == made)
