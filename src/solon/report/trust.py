"""What the report says of judge and labeller: how far they agree with people, or that nobody measured it."""

from collections.abc import Iterable

from solon.evaluation import trust
from solon.records import Agreement, Aspect
from solon.report.roles import models
from solon.store.run_folder import RunFolder


def sentences(run: RunFolder) -> list[str]:
    """For the first screen; [] before anybody judged or was measured."""
    return [*_measured(run.trust), *_asked_for(run), *unmeasured(run)]


# Why the judge's word gives no verdict on an aspect, whichever model the verdict is on; "" where it may.


def at_chance(run: RunFolder, aspect: Aspect, _: str) -> str:
    measured = trust.of(run.trust, "judge", aspect)
    return f"the judge {trust.doubt(measured)}" if measured and not trust.is_above_chance(measured) else ""


def called_untrusted(run: RunFolder, aspect: Aspect, _: str) -> str:
    judge = models(run)["judge"]
    if judge != _untrusted(run) or trust.of(run.trust, "judge", aspect):
        return ""
    return (
        f"the configuration itself calls the judge, {judge}, untrusted (feedback.untrusted), and nobody "
        "measured how far it agrees with people"
    )


def _untrusted(run: RunFolder) -> str | None:
    named: str | None = (run.settings.get("feedback") or {}).get("untrusted")
    return named


def _measured(measurements: Iterable[Agreement]) -> list[str]:
    """The judge first; roles in which a model does alike share a sentence."""
    alike: dict[str, list[Agreement]] = {}
    for agreement in sorted(measurements, key=lambda agreement: agreement["role"]):
        alike.setdefault(trust.tells(agreement, "so"), []).append(agreement)
    return [
        trust.tells(
            one, " and ".join(each["role"] for each in (one, *others)) if others else f"the {one['role']}"
        )
        for one, *others in alike.values()
    ]


def unmeasured(run: RunFolder) -> list[str]:
    """That nobody knows what the judge is worth, a sentence."""
    judged = {judgement["aspect"] for judgement in run.judgements}
    unknown = [aspect for aspect in judged if trust.of(run.trust, "judge", aspect) is None]
    if not unknown:
        return []
    about = f" about {unknown[0]}" if len(unknown) < len(judged) else ""
    return [f"Nobody measured how far the judge, {models(run)['judge']}, agrees with people{about}."]


def _asked_for(run: RunFolder) -> list[str]:
    """Whether labels or rewards were made by a feedback model that is not known to be above chance."""
    labeller = models(run)["feedback"]
    made = {label["aspect"] for label in run.preferences if label["votes"]}
    untrusted = _untrusted(run) == labeller
    unfit: dict[str, dict[str, None]] = {}  # aspects, once each and in order
    for what, agreement in trust.unfit_in_use(run.trust, run.preferences, run.samples):
        unfit.setdefault(what, {})[agreement["aspect"]] = None
    if unfit:
        why = (
            "the configuration asks for them by name (feedback.untrusted)"
            if untrusted
            else "they were made before it was measured, or against the configuration"
        )
        return [
            f"Its {what} of {' and '.join(of)} are used all the same: {why}." for what, of in unfit.items()
        ]
    if untrusted and made and not any(agreement["role"] == "labeller" for agreement in run.trust):
        return [
            f"The labels are by {labeller}, which the configuration itself calls untrusted "
            "(feedback.untrusted)."
        ]
    return []
