"""AI feedback: which of two answers is better under a principle, as a soft label (paper, section 4.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TypeVar

from scipy.special import expit

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution, Rating
from solon.errors import SolonError, TooLong
from solon.inference.engine import Chain, Engine, Question, Request, total_votes
from solon.prompts import comparison as prompts
from solon.prompts.dialogue import assistant
from solon.records import Aspect, Message, PairRecord, PreferenceRecord, Vote
from solon.seeds import derive_seed, generator
from solon.stages import rating
from solon.stages.comparison import making
from solon.stages.letter_prior import letter_priors
from solon.texts.degenerate import TOO_LONG

T = TypeVar("T")

MAKING = "the pair's making"  # the labeller of pairs that nobody judged


@dataclass(frozen=True)
class Comparison:
    """Two answers to a dialogue, to be judged under each of the principles."""

    id: str
    dialogue: Sequence[Message]
    first: str
    second: str
    principles: Sequence[ComparisonPrinciple]


@dataclass(frozen=True)
class Judgement:
    """What one principle or two ratings say of a comparison: how probable it is that the first is better."""

    principle: ComparisonPrinciple  # or the rating's question
    probability: float  # as used: clamped where there is chain of thought, averaged over the orders
    orders: list[float]  # before clamping; with both orders: the first answer shown as (A), then as (B)
    reasoning: list[str]  # one text an order with chain of thought, else none
    samples: int | None  # over the orders; see ``records.Vote``
    ratings: tuple[float, float] | None = None  # of the first answer and the second


@dataclass(frozen=True)
class Shown:
    """A comparison as it is put to the model: under one principle, in one order."""

    id: str
    principle: ComparisonPrinciple
    swapped: bool  # the second answer is (A)
    question: Message


def label(
    engine: Engine,
    pairs: Iterable[PairRecord],
    constitution: Constitution,
    aspect: Aspect,
    settings: config.Feedback,
    seed: int,
) -> Iterator[PreferenceRecord | PairRecord]:
    """Soft labels for the pairs, as they finish; pairs with a problem get none.

    A pair that does not fit the model's context comes back as it is, with the problem "too long". Each other
    is judged under ``settings.principles`` principles drawn for it, and their probabilities are averaged; or,
    with ``settings.method`` rating, by ratings of its answers. The answer more likely to be better becomes
    ``chosen``. Raises SolonError where the constitution has too few comparison principles, or no scale for
    ratings of harmlessness; helpfulness is compared where its constitution has none.
    """
    sound = {pair["id"]: pair for pair in pairs if not pair["problem"]}
    rates = settings.method == "rating" and (aspect == "harmlessness" or constitution.rating is not None)

    def drawn(pair: PairRecord) -> list[ComparisonPrinciple]:
        return constitution.draw_comparison(generator(seed, "principles", pair["id"]), settings.principles)

    comparisons = (
        Comparison(
            id=pair["id"],
            dialogue=pair["prompt"],
            first=pair["responses"][0],
            second=pair["responses"][1],
            principles=[] if rates else drawn(pair),
        )
        for pair in sound.values()
    )
    judged = (
        rate(engine, comparisons, constitution.scale_of_answers(), settings.rating_sharpness)
        if rates
        else judge(engine, comparisons, constitution, settings, seed)
    )
    for compared, judgements in judged:
        pair = sound[compared.id]
        if isinstance(judgements, TooLong):
            yield {**pair, "problem": TOO_LONG}
        else:
            yield _preference(pair, judgements, aspect, engine.model_name)


def rate(
    engine: Engine, comparisons: Iterable[Comparison], scale: Rating, sharpness: float
) -> Iterator[tuple[Comparison, list[Judgement] | TooLong]]:
    """``judge`` by rating both answers, each without the other; results come as they finish.

    No letter and no order can sway it, but answers of one prompt are told apart less than side by side. For
    ``sharpness`` see ``rating.first_is_better``.
    """
    waiting = iter(comparisons)
    while block := list(islice(waiting, max(1, engine.concurrency // rating.QUESTIONS))):
        dialogues = [[*one.dialogue, assistant(text)] for one in block for text in (one.first, one.second)]
        found: dict[int, dict[int, rating.Rated | TooLong]] = {}
        for place, rated in rating.rate(engine, dialogues, scale):
            both = found.setdefault(place // 2, {})
            both[place % 2] = rated
            if len(both) < 2:
                continue
            one, first, second = block[place // 2], both[0], both[1]
            if isinstance(first, TooLong):
                yield one, first
                continue
            if isinstance(second, TooLong):
                yield one, second
                continue
            values = (first.value, second.value)
            probability = rating.first_is_better(*values, sharpness)
            samples = total_votes([first.samples, second.samples])
            yield one, [Judgement(scale.principle, probability, [], [], samples, values)]


def by_construction(pairs: Iterable[PairRecord], aspect: Aspect) -> Iterator[PreferenceRecord]:
    """Labels of pairs made so that the first answer is the better one: nobody judges.

    It was asked for under a principle and the other against it, with the hard labels of Yang et al. 2023
    (RLCD, arXiv:2307.12950), section 3; or it is what critique and revision made of the other. For models too
    small to judge. Pairs with a problem get none. Raises SolonError for a pair that was not made so.
    """
    for pair in pairs:
        if pair["problem"]:
            continue
        source = making(pair)
        if source is None:
            raise SolonError(
                f"pair {pair['id']!r} was not made under a principle and against it, nor by revision, so its "
                "making gives no label; make the pairs with the same feedback.method"
            )
        yield PreferenceRecord(
            id=pair["id"],
            prompt=pair["prompt"],
            chosen=[assistant(pair["responses"][0])],
            rejected=[assistant(pair["responses"][1])],
            probability=1.0,
            aspect=aspect,
            kind=pair["kind"],
            split=pair["split"],
            label_source=source,
            labeller=MAKING,
            votes=[],
        )


def at_most_all(settings: config.Feedback, constitution: Constitution) -> config.Feedback:
    """The settings, asking for no more principles than ``constitution`` has."""
    if settings.principles == "all" or settings.principles <= len(constitution.comparison):
        return settings
    return settings.model_copy(update={"principles": "all"})


def judge(
    engine: Engine,
    comparisons: Iterable[Comparison],
    constitution: Constitution,
    settings: config.Feedback,
    seed: int,
) -> Iterator[tuple[Comparison, list[Judgement] | TooLong]]:
    """Judge every comparison under each of its principles; results come as they finish.

    TooLong comes in the place of judgements where one of the questions does not fit the model's context.

    With both orders their probabilities are averaged, which cancels a liking for one letter; with one, which
    answer is shown as (A) is drawn. With chain of thought the model reasons before it names a letter, and
    every probability is clamped to ``settings.clamp``, since reasoning makes the model too sure (paper,
    section 4.1). With ``settings.prior_correction`` the letters' prior is taken off first (``letter_prior``).
    ``constitution`` gives the worked examples.
    """
    shots = worked_examples(constitution, settings)
    waiting = iter(comparisons)
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
    engine: Engine, block: Sequence[Comparison], shots: list[Message], settings: config.Feedback, seed: int
) -> Iterator[tuple[Comparison, list[Judgement] | TooLong]]:
    shown = {one.id: shown_of(one, settings, seed) for one in block}
    owner = {each.id: one for one in block for each in shown[one.id]}
    everything = [each for one in block for each in shown[one.id]]
    reasoning = {}
    too_long: dict[str, TooLong] = {}  # by comparison
    if settings.chain_of_thought:
        for name, text in _reasoning(engine, everything, shots, settings, seed):
            if isinstance(text, TooLong):
                too_long.setdefault(owner[name].id, text)
            else:
                reasoning[name] = text
    questions = [
        Question(each.id, [*shots, each.question], prompts.LETTERS, _prefill(reasoning.get(each.id)))
        for each in everything
        if owner[each.id].id not in too_long
    ]
    priors: dict[str, float] = {}
    if settings.prior_correction:
        asked = (each.principle for each in everything)
        priors = letter_priors(engine, asked, shots, settings.layout)
    found: dict[str, float] = {}
    samples: dict[str, int] = {}
    for scores in engine.choice_logprobs(questions):
        one = owner[scores.id]
        if isinstance(scores, TooLong):
            too_long.setdefault(one.id, scores)
            continue
        this = next(each for each in shown[one.id] if each.id == scores.id)
        found[scores.id] = first_is_better(
            scores.logprobs[0], scores.logprobs[1], this.swapped, priors.get(this.principle.name, 0.0)
        )
        if scores.votes is not None:
            samples[scores.id] = scores.votes
        if all(each.id in found for each in shown[one.id]):
            yield one, _judgements(one, shown[one.id], found, samples, reasoning, settings)
    yield from ((one, too_long[one.id]) for one in block if one.id in too_long)


def worked_examples(constitution: Constitution, settings: config.Feedback) -> list[Message]:
    """What is shown before every question; [] with ``few_shot`` off."""
    if not (settings.few_shot and constitution.comparison):
        return []
    examples, principles = constitution.examples, constitution.comparison
    if settings.chain_of_thought:
        return prompts.worked_reasoning(examples.reasoning, principles, settings.layout)
    return prompts.worked_examples(examples.comparison, principles, settings.layout)


def shown_of(one: Comparison, settings: config.Feedback, seed: int) -> list[Shown]:
    """The comparison under each of its principles, in both orders or in a drawn one."""
    shown = []
    for number, principle in enumerate(one.principles):
        drawn = generator(seed, "order", one.id, number).random() < 0.5
        for swapped in (False, True) if settings.both_orders else (drawn,):
            answers = (one.second, one.first) if swapped else (one.first, one.second)
            question = prompts.question(
                one.dialogue, principle.instruction, *answers, settings.layout, settings.chain_of_thought
            )
            shown.append(Shown(f"{one.id}/{number}/{swapped}", principle, swapped, question))
    return shown


def _reasoning(
    engine: Engine, shown: Iterable[Shown], shots: list[Message], settings: config.Feedback, seed: int
) -> Iterator[tuple[str, str | TooLong]]:
    def chain(each: Shown) -> Chain[tuple[str, str | TooLong]]:
        try:
            completion = yield Request(
                each.id,
                [*shots, each.question],
                prefill=prompts.REASONING,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                stop=(prompts.CONCLUSION,),
                seed=derive_seed(seed, "reasoning", each.id),
            )
        except TooLong as error:
            return each.id, error
        return each.id, completion.text.strip()

    return engine.run_chains(chain(each) for each in shown)


def _prefill(reasoning: str | None) -> str:
    if reasoning is None:
        return prompts.VERDICT
    return f"{prompts.REASONING} {reasoning}\n\n{prompts.CONCLUSION} ("


def _judgements(
    one: Comparison,
    shown: Sequence[Shown],
    found: Mapping[str, float],
    samples: Mapping[str, int],
    reasoning: Mapping[str, str],
    settings: config.Feedback,
) -> list[Judgement]:
    judgements = []
    for principle in one.principles:
        mine = [each for each in shown if each.principle is principle]
        orders = [found[each.id] for each in mine]
        judgements.append(
            Judgement(
                principle,
                soft_label(orders, settings.clamp if settings.chain_of_thought else None),
                orders,
                [reasoning[each.id] for each in mine if each.id in reasoning],
                total_votes(samples.get(each.id) for each in mine),
            )
        )
    return judgements


def _preference(
    pair: PairRecord, judgements: Sequence[Judgement], aspect: Aspect, labeller: str
) -> PreferenceRecord:
    probability = fmean(judgement.probability for judgement in judgements)
    first_chosen = probability >= 0.5
    chosen, rejected = pair["responses"] if first_chosen else reversed(pair["responses"])
    return PreferenceRecord(
        id=pair["id"],
        prompt=pair["prompt"],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        probability=max(probability, 1 - probability),
        aspect=aspect,
        kind=pair["kind"],
        split=pair["split"],
        label_source="ai",
        labeller=labeller,
        votes=[_vote(judgement, first_chosen) for judgement in judgements],
    )


def _vote(judgement: Judgement, first_chosen: bool) -> Vote:
    def of_chosen(probability: float) -> float:
        return probability if first_chosen else 1 - probability

    vote = Vote(
        principle=judgement.principle.name,
        instruction=judgement.principle.instruction,
        probability=of_chosen(judgement.probability),
        # The first entry is the order with the chosen answer as (A).
        orders=[of_chosen(order) for order in _chosen_first(judgement.orders, first_chosen)],
        reasoning=_chosen_first(judgement.reasoning, first_chosen),
        samples=judgement.samples,
    )
    if judgement.ratings:
        vote["ratings"] = _chosen_first(list(judgement.ratings), first_chosen)
    return vote


def _chosen_first(orders: list[T], first_chosen: bool) -> list[T]:
    return orders if first_chosen else orders[::-1]
