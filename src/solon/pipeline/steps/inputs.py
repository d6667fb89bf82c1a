"""What decides a stage's result, as the manifest records it: hashes of files, models and constitutions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solon.config import on_server
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.pipeline.workspace import Workspace
from solon.role_settings import RoleName
from solon.sources.tables import HUB, source_name
from solon.store.files import file_hash

NONE: Mapping[str, str] = {}
TRAINED = "preference_model.trained"  # whether there is to be one; one that nobody needs does no harm


def of_source(source: str | None) -> str:
    """The hash of a file that data comes from, "" for other sources. SolonError where the file is missing."""
    if source in {None, "packaged", "ai"} or str(source).startswith(HUB):
        return ""
    path = Path(str(source))
    if not path.is_file():
        raise SolonError(f"{path} does not exist; check the path of this source of data")
    return file_hash(path)


def of_model(work: Workspace, role: RoleName, others: Mapping[str, str] = NONE) -> dict[str, Any]:
    """The role's model, and ``others`` that have a part in it, whose names are settings of their own."""
    name = work.roles[role]
    deciding: dict[str, Any] = {f"models.{role}": name, f"models.{role}.hash": work.hashes[name]}
    deciding |= {f"models.{part}.hash": work.hashes[other] for part, other in others.items()}
    settings = work.config.role(role)
    deciding[f"roles.{role}"] = settings.deciding()
    if any(map(on_server, [name, *others.values()])):
        server, own = work.config.engine.openai, settings.openai
        deciding |= {
            f"engine.openai.{field}": getattr(server, field)
            for field in ("base_url", "mode", "votes", "extra_body")
            if getattr(own, field) is None
        }
    return deciding


def of_human_harm(work: Workspace) -> dict[str, Any]:
    """Where people's labels of harm come from, where they are asked for by name."""
    settings = work.config.preference_model
    if not settings.human_harm:
        return {}
    return {
        "preference_model.harmlessness": source_name(settings.harmlessness),
        "preference_model.harmlessness.hash": of_source(settings.harmlessness),
    }


def of_weights(name: str, rules: Constitution) -> dict[str, Any]:
    """How much the principles' votes count; nothing where all count alike, as in runs of before weights."""
    return {f"{name}.weights": list(map(list, rules.weights.items()))} if rules.weights else {}


def of_rules(name: str, rules: Constitution) -> dict[str, str]:
    return {name: rules.name, f"{name}.hash": rules.content_hash}


def of_laws(work: Workspace) -> dict[str, Any]:
    """What both aspects are labelled by, with the weights of the principles."""
    laws = {
        "constitution": work.constitution,
        "preference_model.helpfulness_constitution": work.helpful_labels,
    }
    return {
        key: value
        for name, rules in laws.items()
        for key, value in (of_rules(name, rules) | of_weights(name, rules)).items()
    }
