"""Two answers of the SL-CAI model to every prompt, to be compared (paper, section 4.1)."""

from collections.abc import Iterator, Sequence

from solon import config
from solon.inference.engine import Chain, Engine, Request
from solon.records import PairRecord, PromptRecord, Split
from solon.seeds import derive_seed, share_of


def pair(
    engine: Engine,
    prompts: Sequence[PromptRecord],
    settings: config.Comparison,
    held_out: float,
    seed: int,
) -> Iterator[PairRecord]:
    """One pair a prompt, as they finish; ``held_out`` is the share of prompts kept from the preference model.

    Pairs that cannot be compared say why in ``problem``: "identical" or "empty".
    """
    return engine.run_chains(_chain(prompt, settings, held_out, seed) for prompt in prompts)


def _chain(
    record: PromptRecord, settings: config.Comparison, held_out: float, seed: int
) -> Chain[PairRecord]:
    responses: list[str] = []
    for number in range(2):
        completion = yield Request(
            id=record["id"],
            messages=record["prompt"],
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=derive_seed(seed, record["id"], "response", number),
        )
        responses.append(completion.text.strip())
    split: Split = "held-out" if share_of(record["id"]) < held_out else "train"
    return PairRecord(
        id=record["id"],
        prompt=record["prompt"],
        set=record["set"],
        kind=record["kind"],
        split=split,
        responses=responses,
        problem=_problem(*responses),
    )


def _problem(first: str, second: str) -> str:
    if not first or not second:
        return "empty"
    return "identical" if first == second else ""
