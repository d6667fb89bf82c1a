"""The one exception that a user is meant to read."""


class SolonError(Exception):
    """Something the user can mend.

    The message is one clear sentence (or a few) that names the file, line and field where there is one,
    and says how to mend it. The command line prints it without a traceback.
    """
