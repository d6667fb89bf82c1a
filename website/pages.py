"""What the site has beside ``docs/``: the README as its first page, examples, and pages of the API.

MkDocs calls the functions that begin with ``on_``; nothing else here needs it.

Links in ``docs/*.md`` are those of the repository. Files that they lead to go into the site as they are.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
EXAMPLES = ("*.py", "*.ipynb")

# The public names, by page and module; of solon.records all.
API: dict[str, tuple[str, dict[str, str]]] = {
    "method": (
        "The method",
        {
            "solon.pipeline.runner": "run",
            "solon.stages.red_team": "write",
            "solon.stages.critique": "revise answer",
            "solon.stages.examples": "gather",
            "solon.stages.supervised": "train",
            "solon.stages.comparison": "pairs",
            "solon.stages.feedback": "label",
            "solon.stages.preference": "train",
            "solon.stages.reinforce": "train",
            "solon.method": "STAGES TRUST Stage Training stage trains",
        },
    ),
    "settings": (
        "Constitutions and settings",
        {
            "solon.constitution": "load packaged Constitution CritiquePrinciple ComparisonPrinciple "
            "RatingScale Examples CritiqueExample ComparisonExample ReasoningExample",
            "solon.config": "load Config Prompts PromptSettings Critique Supervised Comparison Feedback "
            "PreferenceModel Evaluation HarmScorer",
            "solon.role_settings": "Models Role PolicyRole Roles RoleServer",
            "solon.engine_settings": "EngineSettings VLLMSettings OpenAISettings Scale TrainingScale",
            "solon.training_settings": "Training OnDevice Lora Reinforce GeneratedPrompts",
        },
    ),
    "engines": (
        "Models and engines",
        {
            "solon.inference": "open_engine",
            "solon.inference.engine": "Engine Request Completion Question ChoiceScores Usage",
            "solon.models": "resolve load_tokenizer load_model load_preference_model check",
            "solon.marks": "origin admit Origin",
        },
    ),
    "ways": (
        "Feedback and policies",
        {
            "solon.feedback.method": "Method Material Draft Candidates",
            "solon.policy.task": "Task",
            "solon.optimisers": "Optimiser OPTIMISERS",
        },
    ),
    "records": (
        "Records and data",
        {
            "solon.records": "",
            "solon.store.record_file": "RecordFile",
            "solon.store.run_folder": "RunFolder read",
            "solon.sources.data": "prompts comparisons",
        },
    ),
    "evaluation": (
        "Evaluation",
        {
            "solon.evaluation.elo": "Game Rating fit",
            "solon.evaluation.tournament": "answer play ratings judging Judging",
            "solon.evaluation.decisions": "decision count Decisions Standing",
            "solon.evaluation.calibration": "wilson mean_interval agreements brier_score reliability "
            "expected_calibration_error calibration_error_interval Bin",
            "solon.evaluation.agreement": "measure_judge measure_scorer",
            "solon.evaluation.trust": "labelled judge agreement is_above_chance",
            "solon.evaluation.hhh": "own_question likelihoods measure_likelihoods",
            "solon.evaluation.preference": "measure agreement",
            "solon.evaluation.evasiveness": "answer rates difference agreement",
            "solon.evaluation.harmfulness": "measure summary Harmfulness",
            "solon.evaluation.overoptimisation": "watch says Watch Finding",
            "solon.evaluation.attribution": "attribute critiques Attribution Critiques",
        },
    ),
    "outcome": (
        "What comes of a run",
        {
            "solon.report.html": "write",
            "solon.audit": "audit failed as_json",
            "solon.audit.run": "Check",
            "solon.publishing.gather": "gather Wanted",
            "solon.publishing.parcel": "Parcel File write",
            "solon.publishing.hub": "send",
            "solon.errors": "SolonError SetAside TooLong Filtered Unjudged UnsupportedModel NotFinite",
        },
    ),
}

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s]+)(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in ``docs/``, and every file of the repository that a page links to."""
    from mkdocs.structure.files import File

    made = pages()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    texts = {**made, **{file.src_uri: file.content_string for file in files.documentation_pages()}}
    for target in sorted({linked for page, text in texts.items() for linked in outside(page, text)}):
        files.append(File.generated(config, f"files/{target}", content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links of the repository into those of the site."""
    return in_site(page.file.src_uri, markdown)


def pages() -> dict[str, str]:
    """The further pages' Markdown, by their places in the site."""
    found = {}
    for file, place in PAGES.items():
        found[place] = (ROOT / file).read_text(encoding="utf-8")
    for pattern in EXAMPLES:
        for file in sorted((ROOT / "examples").glob(pattern)):
            found[f"examples/{file.name}.md"] = example(file)
    for name, (title, modules) in API.items():
        parts = "\n".join(f"::: {module}\n{members(names)}" for module, names in modules.items())
        found[f"api/{name}.md"] = f"# {title}\n\n{parts}"
    return found


def members(names: str) -> str:
    """What mkdocstrings is told to show of a module."""
    return f"    options:\n      members: [{', '.join(names.split())}]\n" if names else ""


def example(file: Path) -> str:
    """An example as a page: a script with its text first, or a notebook with what its cells printed."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return "\n\n".join(cells(json.loads(text)))
    says = re.match(r'"""(.*?)"""', text, re.DOTALL)
    first, _, rest = (says[1] if says else file.name).partition("\n")
    return (
        f"# {file.name}\n\n{first}\n{rest}\n\n```python\n{text[says.end() if says else 0 :].strip()}\n```\n"
    )


def cells(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
            continue
        yield f"```python\n{source}\n```"
        printed = "".join("".join(each.get("text", [])) for each in cell["outputs"])
        if printed:
            yield f"```text\n{printed.rstrip()}\n```"


def outside(page: str, text: str) -> Iterator[str]:
    """The files of the repository, by their paths there, that a page links to and that are no pages."""
    for link in LINK.finditer(unfenced(text)):
        place = in_repository(page, link[2])
        if place and in_place(place).startswith("files/") and (ROOT / place).is_file():
            yield place


def in_site(page: str, text: str) -> str:
    """The page's text with links that lead to where the site has what the repository has elsewhere."""

    def linked(link: re.Match[str]) -> str:
        place, anchor = in_repository(page, link[2]), link[2].partition("#")[2]
        if place is None:
            return link[0]
        if (ROOT / place).is_dir():  # there is no page of a folder; its name will do
            return link[1].lstrip("!")[1:-2]
        path = posixpath.relpath(in_place(place), posixpath.dirname(page) or ".")
        return link[1] + path + (anchor and f"#{anchor}") + link[3]

    return LINK.sub(linked, text)


def in_repository(page: str, target: str) -> str | None:
    """What a link leads to, by its path in the repository; None of one elsewhere or within the page."""
    path = target.partition("#")[0]
    if "://" in target or not path or page.startswith("api/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin(page)), path))


def origin(page: str) -> str:
    """The file of the repository that a page of the site is."""
    for file, place in PAGES.items():
        if page == place:
            return file
    if page.startswith("examples/"):
        return page.removesuffix(".md")
    return page.removeprefix("files/") if page.startswith("files/") else f"docs/{page}"


def in_place(file: str) -> str:
    """Where the site has a file of the repository."""
    if file in PAGES:
        return PAGES[file]
    if file.startswith("examples/") and file.endswith((".py", ".ipynb")):
        return f"{file}.md"
    return file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file}"


def unfenced(text: str) -> str:
    """The text without its blocks of code, in which nothing is a link."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
