"""The exceptions that a user is meant to read."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar


class SolonError(Exception):
    """Something the user can mend.

    The message is one clear sentence (or a few) that names the file, line and field where there is one,
    and says how to mend it. The command line prints it without a traceback.
    """


class SetAside(SolonError):
    """Of all requests the one with this ``id`` is no use; the others go on.

    Its record says so with the ``problem``. Engines give it in the place of a text or of scores.
    """

    problem: ClassVar[str]

    def __init__(self, id: str, message: str) -> None:
        super().__init__(message)
        self.id = id

    def __reduce__(self) -> tuple[type["SetAside"], tuple[str, str]]:
        """Ray brings it from another machine."""
        return type(self), (self.id, str(self))


class TooLong(SetAside):
    """The prompt leaves no room in the model's context."""

    problem = "too long"


class Filtered(SetAside):
    """A content filter kept the prompt or the answer back."""

    problem = "filtered"


class Unjudged(SetAside):
    """The model was asked to choose and named none of the choices."""

    problem = "unjudged"


class WeighedOut(SetAside):
    """A pair was judged, but under no principle whose votes count."""

    problem = "weighed out"


SET_ASIDE: Mapping[str, type[SetAside]] = {
    kind.problem: kind for kind in (TooLong, Filtered, Unjudged, WeighedOut)
}
"""The kinds, by the problem that records have of them."""


def set_aside_note(problems: Iterable[str], total: int, what: str, kept: str = "") -> list[str]:
    """How many of ``total`` were set aside, and why; [] where none was. Other problems do not count."""
    counts = Counter(problem for problem in problems if problem in SET_ASIDE)
    if not counts:
        return []
    why = ", ".join(f"{count} {problem}" for problem, count in counts.most_common())
    return [f"{counts.total()} of {total} {what} were set aside: {why}{kept}."]


class UnsupportedModel(SolonError):
    """The model is of a kind that this engine cannot run; another engine may."""


class NotFinite(SolonError):
    """A model gives no finite numbers: its weights are damaged or too large, or its training has diverged."""


def first_line(error: BaseException) -> str:
    """Of another library's message, which may hold a whole traceback; without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
