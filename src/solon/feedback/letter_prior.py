"""How much a model likes the letter (A) when nothing is asked, to be taken off its answers.

Contextual calibration (Zhao et al. 2021, "Calibrate Before Use", arXiv:2102.09690, section 5): the answer to
an input without content is the model's prior, and what it says of a real input is divided by it. Of two
letters that is a difference of log-odds.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

from scipy.special import expit, logit

from solon.constitution import ComparisonPrinciple
from solon.errors import SolonError
from solon.inference.engine import Engine, Question
from solon.prompts import comparison as prompts
from solon.prompts.dialogue import user
from solon.records import Message

# As in section 5, but for the empty input, which a turn of a dialogue cannot be.
CONTENT_FREE = ("N/A", "[MASK]", "-")


def letter_priors(
    engine: Engine,
    principles: Iterable[ComparisonPrinciple],
    shots: Sequence[Message],
    layout: prompts.Layout,
) -> dict[str, float]:
    """The log-odds (nats) of "(A)" against "(B)" without content, under each principle, by its name.

    The probabilities of the content-free inputs are averaged. ``shots`` are the worked examples that stand
    before real questions.
    """
    questions = [
        Question(
            f"{number}/{principle.name}",
            [*shots, prompts.question([user(text)], principle.instruction, text, text, layout, reason=False)],
            prompts.LETTERS,
            prompts.VERDICT,
        )
        for principle in {each.name: each for each in principles}.values()
        for number, text in enumerate(CONTENT_FREE)
    ]
    by_principle: dict[str, list[float]] = {}
    for scores in engine.unless_set_aside(engine.choice_logprobs(questions), resumed=True):
        _, name = scores.id.split("/", 1)
        by_principle.setdefault(name, []).append(float(expit(scores.logprobs[0] - scores.logprobs[1])))
    if (
        missing := {name for *_, name in (question.id.split("/", 1) for question in questions)}
        - by_principle.keys()
    ):
        raise SolonError(
            f"{engine.model_name} names no letter where nothing is asked under {min(missing)!r}, so what it "
            "likes by itself is not known; set feedback.prior_correction to false"
        )
    return {name: float(logit(fmean(probabilities))) for name, probabilities in by_principle.items()}
