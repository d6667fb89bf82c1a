"""Which model had which role in a run."""

from collections.abc import Mapping
from typing import Any

from solon.config import Models
from solon.store.run_folder import RunFolder


def models(run: RunFolder) -> dict[str, str]:
    """The name of the model in each of the roles; one that is not named is the assistant's.

    The judge's is the feedback model's.
    """
    named = run.manifest.get("models") or {}
    asked = run.settings.get("models") or {}
    names = {role: _name(named.get(role)) or asked.get(role) for role in Models().by_role}
    assistant = names["assistant"] or "not recorded"
    names["judge"] = names["judge"] or names["feedback"]
    return {role: name or assistant for role, name in names.items()}


def _name(model: Any) -> str | None:
    """Manifests name a model, or describe it in an object that has its name."""
    if isinstance(model, Mapping):
        return next((str(model[key]) for key in ("name", "model", "source") if model.get(key)), None)
    return str(model) if model else None
