"""What to do about a model that a library did not load: damaged files are the least of it."""

import re

# What libraries say, by its words or the error's type, and the mend.
MENDS: tuple[tuple[str, str], ...] = (
    (
        r"trust_remote_code|custom code",
        "it needs code that comes with it, which is never run: name a model that transformers has itself",
    ),
    (
        r"does not recognize this architecture|Unrecognized model in",
        "this version of transformers does not know its kind: upgrade transformers, or name another model",
    ),
    (
        r"Unrecognized configuration class|not supported yet",
        "transformers has no such model of this family: name another, or one in transformers' own form",
    ),
    (
        r"requires the .+ librar|pip install|ImportError|ModuleNotFoundError|No module named",
        "install what is missing there",
    ),
    (
        r"gated repo|401 Client Error|403 Client Error|Unauthorized|Forbidden",
        "the hub does not let you have it: ask for access on its page there and log in ('hf auth login')",
    ),
    (
        r"valid model identifier|Repository ?Not ?Found|404 Client Error|RevisionNotFound",
        "check its name on the hub, or name a folder that is here",
    ),
    (
        r"couldn't connect|offline mode|Connection ?Error|Max retries|Name or service not known|Timeout",
        "the hub cannot be reached: try again, or name a folder that is here",
    ),
    (r"No space left|Disk quota", "make room on that disk and give the same command again"),
    (r"Permission ?(denied|Error)", "make its files readable for you"),
    (
        r"MemoryError|out of memory|can't allocate|cannot allocate",
        "there is not the memory for it here: name a smaller one, or use a larger machine",
    ),
    (r"does not appear to have a file named", "copy that file there, or name another model"),
)


def mend(error: BaseException, otherwise: str) -> str:
    """What the user can do about the ``error``; ``otherwise`` where its cause is not known."""
    said = f"{type(error).__name__}: {error}"
    return next((what for cause, what in MENDS if re.search(cause, said, re.IGNORECASE)), otherwise)
