"""One seed decides everything: every random draw takes a seed derived from the run's seed and its own name.

Derived seeds do not depend on the order in which records finish, so a resumed run draws the same
principles and samples with the same seeds as one that was never stopped.
"""

import hashlib
import random


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed that is a fixed function of ``seed`` and the names in ``parts``."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> random.Random:
    """A random generator of its own for the draw named by ``parts``."""
    return random.Random(derive_seed(seed, *parts))


def stable_id(*parts: str) -> str:
    """A 16-digit hexadecimal id that is a fixed function of the texts in ``parts``."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def share_of(*parts: str) -> float:
    """A number in [0, 1) that is a fixed function of the texts in ``parts``, for splits that never change."""
    return int(stable_id(*parts)[:13], 16) / 16**13
