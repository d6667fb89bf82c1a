"""Multiple choice: which of two answers is better under a principle, as a soft label (paper, section 4.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

from scipy.special import expit

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution
from solon.errors import TooLong
from solon.feedback.letter_prior import letter_priors
from solon.feedback.method import Candidates, Method, Voted
from solon.inference.engine import Chain, Engine, Question, Request, total_votes
from solon.prompts import comparison as prompts
from solon.records import Message, Vote
from solon.seeds import derive_seed, generator


class ByMultipleChoice(Method):
    """The feedback model names the letter of the better answer, under principles drawn for the pair."""

    name = "multiple-choice"
    manner = "by comparing the two answers"

    def questions(self, settings: config.Feedback, principles: int) -> int:
        drawn = principles if settings.principles == "all" else settings.principles
        return drawn * (2 if settings.both_orders else 1)

    def judge(
        self,
        engine: Engine,
        pairs: Iterable[Candidates],
        law: Constitution,
        settings: config.Feedback,
        seed: int,
    ) -> Voted:
        return judge(engine, (under_drawn(pair, law, settings, seed) for pair in pairs), law, settings, seed)


def under_drawn(pair: Candidates, law: Constitution, settings: config.Feedback, seed: int) -> Candidates:
    """The pair with principles drawn for it, where it has none. SolonError where ``law`` has too few."""
    if pair.principles:
        return pair
    drawn = law.draw_comparison(generator(seed, "principles", pair.id), settings.principles)
    return replace(pair, principles=drawn)


@dataclass(frozen=True)
class Posed:
    """A pair as it is put to the model: under one principle, in one order."""

    id: str
    principle: ComparisonPrinciple
    swapped: bool  # the second answer is (A)
    question: Message


def judge(
    engine: Engine,
    pairs: Iterable[Candidates],
    constitution: Constitution,
    settings: config.Feedback,
    seed: int,
) -> Voted:
    """Judge every pair under each of its principles; votes come as they finish.

    TooLong comes in the place of votes where one of the questions does not fit the model's context.

    With both orders their probabilities are averaged, which cancels a liking for one letter; with one, which
    answer is shown as (A) is drawn. With chain of thought the model reasons before it names a letter, and
    every probability is clamped to ``settings.clamp``, since reasoning makes the model too sure (paper,
    section 4.1). With ``settings.prior_correction`` the letters' prior is taken off first (``letter_prior``).
    ``constitution`` gives the worked examples.
    """
    shots = worked_examples(constitution, settings)
    waiting = iter(pairs)
    while first := next(waiting, None):
        # Blocks are large enough to fill the engine's batch, and small enough that records finish often.
        orders = 2 if settings.both_orders else 1
        size = max(1, 4 * engine.concurrency // (orders * len(first.principles)))
        yield from _judge_block(engine, [first, *islice(waiting, size - 1)], shots, settings, seed)


def first_is_better(logprob_a: float, logprob_b: float, swapped: bool, prior: float = 0.0) -> float:
    """The probability of the first answer's letter, normalised over the two letters (paper, section 4.1).

    P(A) / (P(A) + P(B)) is the logistic function of the difference of the log-probabilities (nats), of which
    ``prior``, that of a question without content, is taken off.
    """
    difference = logprob_a - logprob_b - prior
    return float(expit(-difference if swapped else difference))


def soft_label(orders: Sequence[float], clamp: tuple[float, float] | None) -> float:
    """The mean of the orders' probabilities, each clamped first where ``clamp`` is given."""
    if clamp is None:
        return fmean(orders)
    low, high = clamp
    return fmean(min(max(order, low), high) for order in orders)


def _judge_block(
    engine: Engine, block: Sequence[Candidates], shots: list[Message], settings: config.Feedback, seed: int
) -> Voted:
    posed = {pair.id: posed_of(pair, settings, seed) for pair in block}
    owner = {posing.id: pair for pair in block for posing in posed[pair.id]}
    everything = [posing for pair in block for posing in posed[pair.id]]
    reasoning = {}
    too_long: dict[str, TooLong] = {}  # by pair
    if settings.chain_of_thought:
        for name, text in _reasoning(engine, everything, shots, settings, seed):
            if isinstance(text, TooLong):
                too_long.setdefault(owner[name].id, text)
            else:
                reasoning[name] = text
    questions = [
        Question(posing.id, [*shots, posing.question], prompts.LETTERS, _prefill(reasoning.get(posing.id)))
        for posing in everything
        if owner[posing.id].id not in too_long
    ]
    priors: dict[str, float] = {}
    if settings.prior_correction:
        asked = (posing.principle for posing in everything)
        priors = letter_priors(engine, asked, shots, settings.layout)
    probabilities: dict[str, float] = {}
    samples: dict[str, int] = {}
    for scores in engine.choice_logprobs(questions):
        pair = owner[scores.id]
        if isinstance(scores, TooLong):
            too_long.setdefault(pair.id, scores)
            continue
        this = next(posing for posing in posed[pair.id] if posing.id == scores.id)
        probabilities[scores.id] = first_is_better(
            scores.logprobs[0], scores.logprobs[1], this.swapped, priors.get(this.principle.name, 0.0)
        )
        if scores.votes is not None:
            samples[scores.id] = scores.votes
        if all(posing.id in probabilities for posing in posed[pair.id]):
            yield pair, _votes(pair, posed[pair.id], probabilities, samples, reasoning, settings)
    yield from ((pair, too_long[pair.id]) for pair in block if pair.id in too_long)


def worked_examples(constitution: Constitution, settings: config.Feedback) -> list[Message]:
    """What is shown before every question; [] with ``few_shot`` off."""
    if not (settings.few_shot and constitution.comparison):
        return []
    examples, principles = constitution.examples, constitution.comparison
    if settings.chain_of_thought:
        return prompts.worked_reasoning(examples.reasoning, principles, settings.layout)
    return prompts.worked_examples(examples.comparison, principles, settings.layout)


def posed_of(one: Candidates, settings: config.Feedback, seed: int) -> list[Posed]:
    """The pair under each of its principles, in both orders or in a drawn one."""
    posed = []
    for number, principle in enumerate(one.principles):
        drawn = generator(seed, "order", one.id, number).random() < 0.5
        for swapped in (False, True) if settings.both_orders else (drawn,):
            answers = (one.second, one.first) if swapped else (one.first, one.second)
            question = prompts.question(
                one.dialogue, principle.instruction, *answers, settings.layout, settings.chain_of_thought
            )
            posed.append(Posed(f"{one.id}/{number}/{swapped}", principle, swapped, question))
    return posed


def _reasoning(
    engine: Engine, posed: Iterable[Posed], shots: list[Message], settings: config.Feedback, seed: int
) -> Iterator[tuple[str, str | TooLong]]:
    def chain(posing: Posed) -> Chain[tuple[str, str | TooLong]]:
        try:
            completion = yield Request(
                posing.id,
                [*shots, posing.question],
                prefill=prompts.REASONING,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                stop=(prompts.CONCLUSION,),
                seed=derive_seed(seed, "reasoning", posing.id),
            )
        except TooLong as error:
            return posing.id, error
        return posing.id, completion.text.strip()

    return engine.run_chains(chain(posing) for posing in posed)


def _prefill(reasoning: str | None) -> str:
    if reasoning is None:
        return prompts.VERDICT
    return f"{prompts.REASONING} {reasoning}\n\n{prompts.CONCLUSION} ("


def _votes(
    pair: Candidates,
    posed: Sequence[Posed],
    probabilities: Mapping[str, float],
    samples: Mapping[str, int],
    reasoning: Mapping[str, str],
    settings: config.Feedback,
) -> list[Vote]:
    votes = []
    for principle in pair.principles:
        mine = [posing for posing in posed if posing.principle is principle]
        orders = [probabilities[posing.id] for posing in mine]
        votes.append(
            Vote(
                principle=principle.name,
                instruction=principle.instruction,
                probability=soft_label(orders, settings.clamp if settings.chain_of_thought else None),
                orders=orders,
                reasoning=[reasoning[posing.id] for posing in mine if posing.id in reasoning],
                samples=total_votes(samples.get(posing.id) for posing in mine),
            )
        )
    return votes
