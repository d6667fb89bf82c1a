"""Rewards of one's own: ``reinforce.reward: python:MODULE:FUNCTION``."""

import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from solon.errors import SolonError, first_line
from solon.records import Message
from solon.reward_settings import OWN

OwnReward = Callable[[list[list[Message]], list[str]], Sequence[float]]
"""Takes the dialogues of a step's prompts, each ending in a human turn, and the policy's answers to them.

A prompt comes as often as it was answered. Returns one finite number for each answer, in their order: the
more, the better. It is called once a step, by the first process that trains, with the answers of all.
"""


def load(name: str) -> OwnReward:
    """The function ``python:MODULE:FUNCTION``; the module is looked for in the working folder first.

    Raises SolonError where it is not there or cannot be imported.
    """
    module_name, function = parts(name)
    here = str(Path.cwd())
    try:
        with _first(here):
            module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise SolonError(
                f"reinforce.reward is {name}, but there is no module {error.name!r} in {here} or "
                "installed: start Solon where the module is, or install it"
            ) from None
        raise SolonError(f"reinforce.reward is {name}, whose module fails: {_why(error)}") from None
    except (Exception, SystemExit) as error:
        raise SolonError(f"reinforce.reward is {name}, whose module fails: {_why(error)}") from None
    found = getattr(module, function, None)
    if not callable(found):
        there = [known for known, value in vars(module).items() if callable(value) and known[0] != "_"]
        close = get_close_matches(function, there, n=1)
        raise SolonError(
            f"reinforce.reward is {name}, but {module.__file__} has no function {function!r}"
            + (f" (did you mean {close[0]!r}?)" if close else "; define it there")
        )
    rewarding: OwnReward = found
    return rewarding


@contextmanager
def _first(folder: str) -> Iterator[None]:
    """Modules are looked for in the folder first, and later on after all that is installed."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def source(name: str) -> Path | None:
    """The file that the function's module is read from. Raises SolonError as ``load`` does."""
    load(name)
    file = sys.modules[parts(name)[0]].__file__
    return Path(file) if file else None


def parts(name: str) -> tuple[str, str]:
    """The module's name and the function's."""
    matched = OWN.fullmatch(name)
    assert matched  # the configuration is checked
    return matched[1], matched[2]


def given(
    name: str, reward: OwnReward, prompts: Sequence[Sequence[Message]], answers: Sequence[str]
) -> list[float]:
    """What the function gives. Raises SolonError where it fails or gives something else than it should."""
    try:
        numbers: list[Any] = list(reward(deepcopy([list(prompt) for prompt in prompts]), list(answers)))
    except SolonError:
        raise
    except Exception as error:
        raise SolonError(f"reward {name} fails: {_why(error)}") from None
    if len(numbers) != len(answers):
        raise SolonError(
            f"reward {name} gives {len(numbers)} numbers for {len(answers)} answers: have it return one each"
        )
    rewards = []
    for number, answer in zip(numbers, answers, strict=True):
        try:
            value = float(number)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise SolonError(
                f"reward {name} gives {number!r:.60} to the answer {answer!r:.60}: have it return a finite "
                "number for every answer"
            )
        rewards.append(value)
    return rewards


def _why(error: BaseException) -> str:
    """What was raised and where, to be found without a traceback."""
    told = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, SyntaxError):
        return f"{told} ({error.filename} line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if "importlib" not in frame.filename]
    return f"{told} ({own[-1].filename} line {own[-1].lineno})" if own else told
