"""The exceptions that a user is meant to read."""


class SolonError(Exception):
    """Something the user can mend.

    The message is one clear sentence (or a few) that names the file, line and field where there is one,
    and says how to mend it. The command line prints it without a traceback.
    """


class UnsupportedModel(SolonError):
    """The model is of a kind that this engine cannot run; another engine may."""


class NotFinite(SolonError):
    """The model's probabilities are not numbers: its weights are damaged, or training has diverged."""


def first_line(error: BaseException) -> str:
    """Of another library's message, which may hold a whole traceback; without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
