"""Rewards as users write them, for the tests and the processes that these start."""

from solon.records import Message


def brevity(prompts: list[list[Message]], answers: list[str]) -> list[float]:
    """The shorter, the better."""
    assert all(dialogue[-1]["role"] == "user" for dialogue in prompts)
    return [-len(answer) / 100 for answer in answers]


def one_too_few(prompts: list[list[Message]], answers: list[str]) -> list[float]:
    return [0.0] * (len(answers) - 1)


def not_a_number(prompts: list[list[Message]], answers: list[str]) -> list[float]:
    return [float("nan") for _ in answers]


def words(prompts: list[list[Message]], answers: list[str]) -> list[str]:
    return ["good" for _ in answers]


def fails(prompts: list[list[Message]], answers: list[str]) -> list[float]:
    return [1 / len(answer[:0]) for answer in answers]


constant = 3
