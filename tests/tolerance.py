"""How far a log-probability may be from that of another way of computing it, on any processor."""

import math

import torch

LARGEST_LOGIT = 64  # of the models in the tests
ROUNDINGS = 8  # of a logit this size; a plain pass of 80 tokens was off by 1.4 of them at most, at any token


def tolerance(tokens: int = 1, dtype: torch.dtype = torch.float32) -> float:
    """In nats, of a text of so many ``tokens``.

    A logit is rounded to a part in 1 / eps of its size, by every product on the way to it. Roundings of
    different tokens have either sign, so that over a text they grow as the root of its length; an error that
    grows as the length itself is a fault, and is meant to be found.
    """
    return ROUNDINGS * LARGEST_LOGIT * torch.finfo(dtype).eps * math.sqrt(tokens)
