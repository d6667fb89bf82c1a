"""Two answers to every prompt, to be compared (paper, section 4.1), or made so that one is the better."""

from collections.abc import Iterator, Sequence

from solon.feedback.method import Draft, Material, Method
from solon.held_out import split_of_comparison
from solon.inference.engine import Chain, Engine
from solon.records import PairRecord, PromptRecord
from solon.texts.degenerate import NO_ANSWER
from solon.texts.written import Written


def pairs(
    engine: Engine, prompts: Sequence[PromptRecord], method: Method, material: Material, held_out: float
) -> Iterator[PairRecord]:
    """One pair a prompt, made as the method of feedback needs it; records come as they finish.

    For ``held_out`` see ``split_of_comparison``. Pairs that cannot be compared say why
    in ``problem``: "identical", "empty", "too long", or what is wrong with an answer. Raises SolonError where
    a constitution has no principle to make a pair by.
    """

    def chain(prompt: PromptRecord) -> Chain[PairRecord]:
        return _pair(prompt, (yield from method.draft(prompt, material)), held_out)

    return engine.run_chains(chain(prompt) for prompt in prompts)


def _pair(prompt: PromptRecord, draft: Draft, held_out: float) -> PairRecord:
    first, second = draft.responses
    pair = PairRecord(
        id=prompt["id"],
        prompt=prompt["prompt"],
        set=prompt["set"],
        kind=prompt["kind"],
        split=split_of_comparison(prompt["prompt"], held_out),
        responses=[first.text, second.text],
        cut=[first.cut, second.cut],
        problem=draft.problem or _problem(first, second),
    )
    if first.thinking or second.thinking:
        pair["thinking"] = [first.thinking, second.thinking]
    return {**pair, **draft.making}  # type: ignore[typeddict-item]


def _problem(first: Written, second: Written) -> str:
    if not first.text or not second.text:
        return NO_ANSWER if any(each.thinking and not each.text for each in (first, second)) else "empty"
    return "identical" if first.text == second.text else ""
