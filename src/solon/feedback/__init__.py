"""The ways of giving feedback, each a ``Method`` in a file of its own, by the names in ``feedback.method``.

Nobody else compares these names: what differs from one way to another is asked of it. A further way is a file
here, its entry in ``METHODS`` and in the configuration, and a test.
"""

from solon import config
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.feedback.comparing_and_rating import ByComparingAndRating
from solon.feedback.contrast import ByContrast
from solon.feedback.made import ByMaking
from solon.feedback.method import Method
from solon.feedback.multiple_choice import ByMultipleChoice
from solon.feedback.rating import ByRating
from solon.feedback.revision import ByRevision
from solon.records import Aspect, PairRecord

METHODS: dict[str, Method] = {
    method.name: method
    for method in (ByMultipleChoice(), ByRating(), ByComparingAndRating(), ByContrast(), ByRevision())
}

MAKINGS = frozenset(method.label_source for method in METHODS.values() if isinstance(method, ByMaking))
"""The sources of labels that the pairs' making gives."""

MODELS_OWN = frozenset(method.label_source for method in METHODS.values())
"""The sources of labels that no person gave."""


def check(asked: config.Config, law: Constitution, helpful: Constitution) -> None:
    """Raises SolonError where the configuration or a constitution lacks what the method needs to label.

    ``helpful`` has the rules for helpfulness, where that is labelled, too.
    """
    judges(asked)
    method = METHODS[asked.feedback.method]
    method.check(asked, law, "harmlessness")
    if asked.preference_model.helpfulness == "ai":
        method.check(asked, helpful, "helpfulness")


def judges(asked: config.Config) -> list[str]:
    """The models that label: the feedback model, and the rest of its panel.

    Raises SolonError for a panel of a method that judges nothing, and for one that names a model twice.
    """
    panel, method = asked.feedback.panel, METHODS[asked.feedback.method]
    if panel and isinstance(method, ByMaking):
        raise SolonError(
            f"feedback.panel names judges, but with feedback.method {method.name} nobody judges: leave the "
            "panel out, or set another method"
        )
    names = [asked.models.by_role["feedback"], *panel]
    if panel and (twice := [name for name in names if names.count(name) > 1]):
        raise SolonError(
            f"{twice[0]} judges twice in the panel, which is models.feedback and feedback.panel: name each "
            "judge once"
        )
    return names


def further(asked: config.Config) -> dict[str, str]:
    """The panel's models beside the feedback model, by what records call their roles: "feedback-2", ..."""
    return {f"feedback-{number}": name for number, name in enumerate(judges(asked)[1:], 2)}


def labelling(settings: config.Feedback, law: Constitution, aspect: Aspect) -> tuple[Method, config.Feedback]:
    """The method that labels an aspect of a run, and its settings for it."""
    settings = METHODS[settings.method].settings(settings, law, aspect)
    return METHODS[settings.method], settings


def is_made(pair: PairRecord) -> bool:
    """Whether the pair was made so that its first answer is the better one."""
    return any(isinstance(method, ByMaking) and method.made(pair) is not None for method in METHODS.values())
