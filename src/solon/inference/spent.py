"""What this process has spent on servers' answers, whichever engines it has opened: budgets count it."""

from dataclasses import dataclass


@dataclass
class Spent:
    """On servers' answers so far."""

    tokens: int = 0
    cost: float = 0.0


SPENT = Spent()
