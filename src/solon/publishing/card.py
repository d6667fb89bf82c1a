"""The cards of what goes out: what it is, how it was made, how well it does, and what nobody knows of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader

from solon import audit
from solon.audit.run import Check
from solon.constitution import Constitution
from solon.evaluation import overoptimisation
from solon.publishing import dataset
from solon.publishing.dataset import Table
from solon.publishing.models import Licence, Model
from solon.publishing.names import Names
from solon.report import content, trust
from solon.report.plots import MODELS
from solon.report.roles import models as roles
from solon.store.run_folder import Json, RunFolder

HOW = ("engine", "scale", "trackers")  # sections of how a run was run, which decide none of its results


@dataclass(frozen=True)
class Facts:
    """What all cards of a run are written from."""

    run: RunFolder
    names: Names
    law: Constitution
    labels: Sequence[Json]  # by who gave them, as the audit counts them
    checks: Sequence[Check]  # of the audit

    @classmethod
    def of(cls, run: RunFolder, folder: Path, names: Names, law: Constitution) -> "Facts":
        return cls(run, names, law, *audit.audit(folder))

    @cached_property
    def settings(self) -> str:
        """The run's configuration as YAML, but for how it was run and on which servers."""
        told: dict[str, Any] = {name: value for name, value in self.run.settings.items() if name not in HOW}
        if isinstance(told.get("roles"), Mapping):
            told["roles"] = {
                role: {name: value for name, value in settings.items() if name != "openai"}
                for role, settings in told["roles"].items()
                if isinstance(settings, Mapping)
            }
        return yaml.safe_dump(self.names.everywhere(told), sort_keys=False, allow_unicode=True)

    @property
    def trusted(self) -> list[str]:
        """What judge and labeller are worth, a sentence each; never nothing, where anybody judged."""
        said = trust.sentences(self.run)
        labelled = any(label["votes"] for label in self.run.preferences)
        if labelled and not any(measured["role"] == "labeller" for measured in self.run.trust):
            labeller = roles(self.run)["feedback"]
            said.append(f"Nobody measured how far the labeller, {labeller}, agrees with people.")
        return said

    @property
    def findings(self) -> list[str]:
        """What the records warn of."""
        return [each["text"] for each in overoptimisation.says(content.watch(self.run)) if each["warning"]]

    def audited(self, status: str) -> list[Check]:
        return [check for check in self.checks if check.status == status]

    def shared(self) -> dict[str, Any]:
        """What both templates are given."""
        counts = Counter(prompt["source"] for prompt in self.run.prompts)
        return {
            "facts": self,
            "run": self.run,
            "content": content,
            "roles": roles(self.run),
            "sources": counts.most_common(),
            "constitution": self.law.to_yaml().rstrip(),
        }


def of_model(facts: Facts, model: Model, licence: Licence, repository: str, data: str | None) -> str:
    """The model's card.

    ``data`` is the dataset's repository, "" where it goes into a folder, and None where there is none.
    """
    head = {
        **licence.head,
        **({"base_model": model.base} if _on_hub(facts, model) else {}),
        **(
            {"base_model_relation": "adapter" if model.adapter else "finetune"}
            if _on_hub(facts, model)
            else {}
        ),
        **({"datasets": [data]} if data else {}),
        "library_name": "peft" if model.adapter else "transformers",
        "pipeline_tag": "text-classification" if model.name == "preference-model" else "text-generation",
        "tags": ["constitutional-ai", "rlaif", "solon", model.name],
    }
    page = _render(
        "model.md.j2",
        **facts.shared(),
        model=model,
        shown=MODELS,
        licence=licence,
        repository=repository or f"FOLDER/{model.name}",
        data=data,
        origin=model.origin,
    )
    return _with_head(head, facts.names.within(page))


def _on_hub(facts: Facts, model: Model) -> bool:
    """Whether others find the base by its name."""
    return "/" in model.base and model.base not in facts.names.paths


def of_data(facts: Facts, tables: Sequence[Table], repository: str) -> str:
    head = {
        **dataset.head(list(tables)),
        "pretty_name": f"{facts.run.name}: a run of Constitutional AI",
        "tags": ["constitutional-ai", "rlaif", "preference", "solon"],
    }
    page = _render("dataset.md.j2", **facts.shared(), tables=tables, repository=repository or "FOLDER/data")
    return _with_head(head, facts.names.within(page))


def _with_head(head: Mapping[str, Any], page: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n\n{page}"


def _render(template: str, **context: Any) -> str:
    environment = Environment(
        loader=PackageLoader("solon.publishing"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters |= {
        "percent": _percent,
        "elo": _elo,
        "count": _count,
        "fenced": _fenced,
        "cell": _cell,
    }
    return environment.get_template(template).render(**context)


def _percent(share: float | None, interval: Sequence[float] | None = None) -> str:
    if share is None:
        return "–"
    return f"{share:.0%}" + (f" ({interval[0]:.0%} to {interval[1]:.0%})" if interval else "")


def _elo(rating: Any) -> str:
    if rating is None:
        return "–"
    low, high = content.elo(rating.low), content.elo(rating.high)
    return content.elo(rating.elo) + (f" ({low} to {high})" if rating.low != rating.high else "")


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _fenced(text: str, language: str = "") -> str:
    """A block of code, fenced by more backticks than any that the text has."""
    fence = "`" * max(3, 1 + max((len(part) for part in text.split() if not part.strip("`")), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _cell(text: Any) -> str:
    """What stands in a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")
