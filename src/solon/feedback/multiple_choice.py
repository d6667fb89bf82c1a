"""Multiple choice: which of two answers is better under a principle, as a soft label (paper, section 4.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

from scipy.special import expit

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution
from solon.errors import SetAside
from solon.feedback.guesses import marked
from solon.feedback.letter_prior import letter_priors
from solon.feedback.method import Candidates, Method, Voted, close
from solon.feedback.weights import weighing
from solon.inference.engine import Chain, ChoiceScores, Engine, Question, Request, total_votes
from solon.prompts import comparison as prompts
from solon.records import Message, Vote
from solon.seeds import derive_seed, generator
from solon.texts.written import Written, stripped


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

    def drawn(
        self, pair: str, law: Constitution, settings: config.Feedback, seed: int
    ) -> list[ComparisonPrinciple]:
        return drawn(pair, law, settings, seed)

    def contradictions(
        self, vote: Vote, number: int, pair: str, settings: config.Feedback, seed: int
    ) -> Iterator[str]:
        orders = orders_of(pair, number, settings, seed)
        if len(vote["orders"]) != len(orders):
            yield f"orders are {len(vote['orders'])}, not {len(orders)}"
            return
        if len(vote["reasoning"]) != len(orders) * settings.chain_of_thought:
            yield f"chains of thought are {len(vote['reasoning'])}"
        if "letters" in vote and not all(map(close, vote["orders"], by_letters(vote, orders))):
            yield "orders are not what its letters' log-probabilities make"
        if not close(vote["probability"], soft_label(vote["orders"], clamp_of(settings))):
            yield "probability is not what its orders make"


def drawn(pair: str, law: Constitution, settings: config.Feedback, seed: int) -> list[ComparisonPrinciple]:
    """The principles for the pair with this id. Raises SolonError where ``law`` has too few."""
    return law.draw_comparison(generator(seed, "principles", pair), settings.principles)


def under_drawn(pair: Candidates, law: Constitution, settings: config.Feedback, seed: int) -> Candidates:
    """The pair with principles drawn for it, where it has none. SolonError where ``law`` has too few."""
    if pair.principles:
        return pair
    return replace(pair, principles=drawn(pair.id, law, settings, seed))


def orders_of(pair: str, number: int, settings: config.Feedback, seed: int) -> tuple[bool, ...]:
    """The orders of the question under a pair's principle ``number``: whether the second answer is (A)."""
    swapped = generator(seed, "order", pair, number).random() < 0.5
    return (False, True) if settings.both_orders else (swapped,)


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

    SetAside comes in the place of votes where one of the questions got no answer (see ``Engine``).

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


def clamp_of(settings: config.Feedback) -> tuple[float, float] | None:
    return settings.clamp if settings.chain_of_thought else None


def by_letters(vote: Vote, orders: Sequence[bool]) -> list[float]:
    """The probability of the pair's first answer in each of the orders, from the letters of the vote."""
    prior = vote.get("prior", 0.0)
    return [
        first_is_better(letter_a, letter_b, swapped, prior)
        for (letter_a, letter_b), swapped in zip(vote["letters"], orders, strict=True)
    ]


def _judge_block(
    engine: Engine, block: Sequence[Candidates], shots: list[Message], settings: config.Feedback, seed: int
) -> Voted:
    posed = {pair.id: posed_of(pair, settings, seed) for pair in block}
    owner = {posing.id: pair for pair in block for posing in posed[pair.id]}
    everything = [posing for pair in block for posing in posed[pair.id]]
    reasoning: dict[str, Written] = {}
    aside: dict[str, SetAside] = {}  # by pair
    if settings.chain_of_thought:
        for name, reasoned in _reasoning(engine, everything, shots, settings, seed):
            if isinstance(reasoned, SetAside):
                aside.setdefault(owner[name].id, reasoned)
            else:
                reasoning[name] = reasoned
    questions = [
        _question(posing, shots, reasoning.get(posing.id))
        for posing in everything
        if owner[posing.id].id not in aside
    ]
    priors: dict[str, float] = {}
    if settings.prior_correction:
        asked = (posing.principle for posing in everything)
        priors = letter_priors(engine, asked, shots, settings.layout)
    found: dict[str, ChoiceScores] = {}
    for scores in engine.choice_logprobs(questions):
        pair = owner[scores.id]
        if isinstance(scores, SetAside):
            aside.setdefault(pair.id, scores)
            continue
        found[scores.id] = scores
        if all(posing.id in found for posing in posed[pair.id]):
            yield pair, _votes(pair, posed[pair.id], found, priors, reasoning, settings)
    yield from ((pair, aside[pair.id]) for pair in block if pair.id in aside)


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
        for swapped in orders_of(one.id, number, settings, seed):
            answers = (one.second, one.first) if swapped else (one.first, one.second)
            question = prompts.question(
                one.dialogue, principle.instruction, *answers, settings.layout, settings.chain_of_thought
            )
            posed.append(Posed(f"{one.id}/{number}/{swapped}", principle, swapped, question))
    return posed


def _reasoning(
    engine: Engine, posed: Iterable[Posed], shots: list[Message], settings: config.Feedback, seed: int
) -> Iterator[tuple[str, Written | SetAside]]:
    """A model that thinks by itself needs no words to begin with."""

    def chain(posing: Posed) -> Chain[tuple[str, Written | SetAside]]:
        try:
            completion = yield Request(
                posing.id,
                [*shots, posing.question],
                prefill="" if engine.thinks else prompts.REASONING,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                stop=(prompts.CONCLUSION,),
                seed=derive_seed(seed, "reasoning", posing.id),
            )
        except SetAside as error:
            return posing.id, error
        return posing.id, Written(stripped(completion.text), thinking=completion.thinking)

    return engine.run_chains(chain(posing) for posing in posed)


def _question(posing: Posed, shots: list[Message], reasoned: Written | None) -> Question:
    """For the letter, which comes after what the model reasoned and thought, if it did."""
    asked = [*shots, posing.question]
    if reasoned is None:
        return Question(posing.id, asked, prompts.LETTERS, prompts.VERDICT)
    text = reasoned.text if reasoned.thinking else f"{prompts.REASONING} {reasoned.text}"
    prefill = f"{text}\n\n{prompts.CONCLUSION} (".lstrip()
    return Question(posing.id, asked, prompts.LETTERS, prefill, reasoned.thinking)


def _votes(
    pair: Candidates,
    posed: Sequence[Posed],
    found: Mapping[str, ChoiceScores],
    priors: Mapping[str, float],
    reasoning: Mapping[str, Written],
    settings: config.Feedback,
) -> list[Vote]:
    votes = []
    for principle in pair.principles:
        mine = [posing for posing in posed if posing.principle is principle]
        reasons = [reasoning[posing.id] for posing in mine if posing.id in reasoning]
        vote = Vote(
            principle=principle.name,
            instruction=principle.instruction,
            probability=0.5,
            orders=[],
            reasoning=[reasoned.text for reasoned in reasons],
            samples=total_votes(found[posing.id].votes for posing in mine),
            letters=[list(found[posing.id].logprobs) for posing in mine],
        )
        if any(reasoned.thinking for reasoned in reasons):
            vote["thinking"] = [reasoned.thinking for reasoned in reasons]
        if principle.name in priors:
            vote["prior"] = priors[principle.name]
        vote["orders"] = by_letters(vote, [posing.swapped for posing in mine])
        vote["probability"] = soft_label(vote["orders"], clamp_of(settings))
        guessed = sum(found[posing.id].improbable for posing in mine)
        votes.append(weighing(marked(vote, guessed), principle.weight))
    return votes
