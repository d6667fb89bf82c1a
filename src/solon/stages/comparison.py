"""Two answers to every prompt, to be compared (paper, section 4.1), or made so that one is the better."""

from collections.abc import Iterator, Mapping, Sequence

from solon import config
from solon.constitution import Constitution
from solon.errors import TooLong
from solon.inference.engine import Chain, Engine, Request
from solon.prompts import contrast as prompts_of_contrast
from solon.prompts.critique import worked_examples
from solon.records import (
    Contrast,
    LabelSource,
    Message,
    PairRecord,
    PromptRecord,
    PromptSet,
    RevisionRecord,
    Split,
)
from solon.seeds import derive_seed, generator, share_of
from solon.stages.critique import one_round
from solon.texts.degenerate import TOO_LONG

UNREVISED = "unrevised"  # the problem of a pair whose answer has no sound revision


def pair(
    engine: Engine,
    prompts: Sequence[PromptRecord],
    settings: config.Comparison,
    held_out: float,
    seed: int,
    contrast: Mapping[PromptSet, Constitution] | None = None,
) -> Iterator[PairRecord]:
    """One pair a prompt, as they finish; ``held_out`` is the share of prompts kept from the preference model.

    Pairs that cannot be compared say why in ``problem``: "identical", "empty" or "too long". With
    ``contrast``, the first answer is asked for under a principle drawn from the constitution of the prompt's
    set, and the second against it. Raises SolonError where that has no comparison principle.
    """
    return engine.run_chains(
        _chain(
            prompt,
            settings,
            held_out,
            seed,
            _contrast(prompt, contrast[prompt["set"]], seed) if contrast else None,
        )
        for prompt in prompts
    )


def making(pair: PairRecord) -> LabelSource | None:
    """How the pair was made so that its first answer is the better one; None where it was not."""
    if "contrast" in pair:
        return "contrast"
    return "revision" if "revised" in pair else None


def from_revision(prompt: PromptRecord, record: RevisionRecord, held_out: float) -> PairRecord:
    """The last sound revision of an answer, and the answer; "unrevised" where none is sound."""
    sound = [each for each in record["rounds"] if not each["problem"]]
    if not sound:
        return _pair(prompt, [record["answer"], record["answer"]], UNREVISED, held_out)
    responses = [sound[-1]["revision"], record["answer"]]
    return {**_pair(prompt, responses, _problem(*responses), held_out), "revised": sound[-1]}


def revised(
    engine: Engine,
    prompts: Sequence[PromptRecord],
    answers: Mapping[str, str],
    laws: Mapping[PromptSet, Constitution],
    settings: config.Critique,
    held_out: float,
    seed: int,
) -> Iterator[PairRecord]:
    """One pair a prompt: what one critique and revision makes of its answer, and that answer.

    ``answers`` are by the prompts' ids. Each is revised under one critique principle drawn from the
    constitution of the prompt's set. A pair whose revision is degenerate has that as its problem. Raises
    SolonError where a constitution has no critique principle.
    """
    shots: dict[PromptSet, list[Message]] = {
        name: worked_examples(law.examples.critique, settings.critique) if settings.few_shot else []
        for name, law in laws.items()
    }

    def chain(record: PromptRecord) -> Chain[PairRecord]:
        answer, law = answers[record["id"]], laws[record["set"]]
        made = yield from one_round(record, answer, shots[record["set"]], law, settings, seed)
        responses = [made["revision"], answer]
        wrong = made["problem"] or _problem(*responses)
        return {**_pair(record, responses, wrong, held_out), "revised": made}

    return engine.run_chains(chain(prompt) for prompt in prompts)


def _contrast(record: PromptRecord, law: Constitution, seed: int) -> Contrast:
    [principle] = law.draw_comparison(generator(seed, "principle", record["id"]))
    return Contrast(
        principle=principle.name,
        instruction=principle.instruction,
        requests=list(prompts_of_contrast.requests(principle.instruction)),
    )


def _chain(
    record: PromptRecord, settings: config.Comparison, held_out: float, seed: int, contrast: Contrast | None
) -> Chain[PairRecord]:
    responses: list[str] = []
    try:
        for number in range(2):
            completion = yield Request(
                id=record["id"],
                messages=prompts_of_contrast.asked(record["prompt"], contrast["requests"][number])
                if contrast
                else record["prompt"],
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=derive_seed(seed, record["id"], "response", number),
            )
            responses.append(completion.text.strip())
        wrong = _problem(*responses)
    except TooLong:
        responses, wrong = ["", ""], TOO_LONG
    pair = _pair(record, responses, wrong, held_out)
    return {**pair, "contrast": contrast} if contrast else pair


def _pair(record: PromptRecord, responses: list[str], problem: str, held_out: float) -> PairRecord:
    split: Split = "held-out" if share_of(record["id"]) < held_out else "train"
    return PairRecord(
        id=record["id"],
        prompt=record["prompt"],
        set=record["set"],
        kind=record["kind"],
        split=split,
        responses=responses,
        problem=problem,
    )


def _problem(first: str, second: str) -> str:
    if not first or not second:
        return "empty"
    return "identical" if first == second else ""
