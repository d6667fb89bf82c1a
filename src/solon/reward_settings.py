"""What rewards the policy: the preference model, AI feedback, functions of one's own, or a sum of these."""

import math
import re
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator

PREFERENCE_MODEL, RATING, COMPARISON = "preference-model", "rating", "comparison"
ASKED = (RATING, COMPARISON)
"""The rewards that the feedback model gives."""
OWN = re.compile(r"python:([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
"""The name of a function that rewards: its module and its own name."""


def known(name: Any) -> None:
    names = (PREFERENCE_MODEL, *ASKED)
    if name in names or (isinstance(name, str) and OWN.fullmatch(name)):
        return
    close = get_close_matches(str(name).lower(), names, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"has {name!r:.60}{meant}; rewards are {', '.join(names)} and python:MODULE:FUNCTION")


def rewarding(reward: Any) -> Any:
    if not reward or not isinstance(reward, str | dict):
        raise ValueError(
            f"is {reward!r:.60}: name one reward, or several with their weights, e.g. {{rating: 1, "
            "preference-model: 0.5}"
        )
    for name, weight in weights(reward).items():
        known(name)
        number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not (number and weight):
            raise ValueError(f"has the weight {weight!r:.60} for {name}: give a number other than 0")
    return reward


def weights(reward: str | dict[str, float]) -> dict[str, float]:
    """By the rewards' names; one alone counts as it is."""
    return {reward: 1.0} if isinstance(reward, str) else reward


Rewards = Annotated[str | dict[str, float], BeforeValidator(rewarding)]
