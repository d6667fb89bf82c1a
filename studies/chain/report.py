"""What the runs of the chain study show: figures for each run, and of all runs of one kind together."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from solon.evaluation import elo
from solon.evaluation.calibration import wilson
from solon.evaluation.refusal import classify
from solon.records import Aspect, EvaluationRecord, JudgementRecord
from solon.run import RecordFile

MODELS = ("initial", "sl-cai", "rl-cai")
ASPECTS: Mapping[str, Aspect] = {"red-team": "harmlessness", "helpful": "helpfulness"}
BOOTSTRAP = 1000
Games = dict[tuple[str, Aspect], list[elo.Game]]  # by judge and aspect


def write(work: Path, results: Path) -> None:
    """``table.json`` and ``table.md``: of every run, and of the seeds together."""
    results.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    together: Games = defaultdict(list)
    answers: list[EvaluationRecord] = []
    for path in sorted(work.glob("*/evaluation/answers.jsonl")):
        run, name = path.parent.parent, path.parent.parent.name
        of_run: list[EvaluationRecord] = RecordFile(path).read()
        games = games_of(work, run, of_run)
        found[name] = figures(games, of_run)
        if name.startswith("seed-"):
            answers += of_run
            for key, played in games.items():
                together[key] += played
    if answers:
        found["all seeds"] = figures(together, answers)
    if (work / "judge.json").exists():
        judge = json.loads((work / "judge.json").read_text())
        right = sum(margin > 0 for margin in judge["margins"])
        found["unseen judge"] = {
            "trained_on": judge["trained_on"],
            "tested_on": len(judge["margins"]),
            "accuracy": [right / len(judge["margins"]), *wilson(right, len(judge["margins"]))],
        }
    (results / "table.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    (results / "table.md").write_text("\n".join(page(rounded(found))) + "\n")


def games_of(work: Path, run: Path, answers: Sequence[EvaluationRecord]) -> Games:
    """Of the feedback model that the run was trained by, of the unseen judge and of the blind one."""
    games: Games = defaultdict(list)
    for judge, path in (
        ("its own feedback model", run / "evaluation/judgements.jsonl"),
        ("blind", work / f"{run.name}.blind.jsonl"),
    ):
        if path.exists():
            judgements: list[JudgementRecord] = RecordFile(path).read()
            for each in judgements:
                if "probability" in each:
                    games[judge, each["aspect"]].append(
                        elo.Game(
                            each["model_a"],
                            each["model_b"],
                            each["probability"],
                            cluster(run, each["prompt_id"]),
                        )
                    )
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    path = work / f"{run.name}.scores.jsonl"
    for each in map(json.loads, path.read_text().splitlines()) if path.exists() else ():
        scores[each["id"]][each["model"]] = each["score"]
    for each in answers:
        mine = scores.get(each["id"], {})
        for one, other in combinations(mine, 2):
            # The higher score wins; the judge is of harm, and says nothing of helpfulness.
            won = 0.5 + 0.5 * ((mine[one] > mine[other]) - (mine[one] < mine[other]))
            if each["set"] == "red-team":
                games["people's pairs", "harmlessness"].append(
                    elo.Game(one, other, won, cluster(run, each["id"]))
                )
    return games


def cluster(run: Path, prompt: str) -> str:
    """A prompt of all seeds is one: what they say to it is resampled together."""
    return prompt if run.name.startswith("seed-") else f"{run.name}:{prompt}"


def figures(games: Games, answers: Sequence[EvaluationRecord]) -> dict[str, Any]:
    ratings = {
        f"{aspect} by {judge}": {
            each.model: [each.elo, each.low, each.high]
            for each in elo.fit(played, "initial", BOOTSTRAP, seed=0)
        }
        for (judge, aspect), played in sorted(games.items())
    }
    return {
        "prompts": len(answers),
        "elo": ratings,
        "answers": {name: style(answers, name) for name in MODELS},
    }


def style(answers: Sequence[EvaluationRecord], model: str) -> dict[str, Any]:
    """Refusals by their wording, and lengths, of one model's answers to each set of prompts."""
    found = {}
    for prompts in ASPECTS:
        texts = [
            answer["text"]
            for each in answers
            if each["set"] == prompts
            for answer in each["answers"]
            if answer["model"] == model
        ]
        if not texts:
            continue
        kinds = [classify(text) for text in texts]
        refused = sum(kind == "refusal" for kind in kinds)
        found[prompts] = {
            "refuses": [refused / len(texts), *wilson(refused, len(texts))],
            "partial": fmean(kind == "partial" for kind in kinds),
            "words": fmean(len(text.split()) for text in texts),
            "different_words": different(texts),
        }
    return found


def different(texts: Sequence[str]) -> float:
    """Share of three-word sequences that come once: low where answers repeat one another."""
    threes = [tuple(words[i : i + 3]) for words in map(str.split, texts) for i in range(len(words) - 2)]
    return len(set(threes)) / max(1, len(threes))


def rounded(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: rounded(each) for name, each in values.items()}
    if isinstance(values, list):
        return [rounded(each) for each in values]
    return round(values, 3) if isinstance(values, float) else values


def page(found: Mapping[str, Any]) -> list[str]:
    lines = ["| run | Elo | initial | SL-CAI | RL-CAI |", "| --- | --- | --- | --- | --- |"]
    for run, figures in found.items():
        for what, ratings in figures.get("elo", {}).items():
            cells = [
                f"{e:.0f} ({low:.0f} to {high:.0f})" for e, low, high in (ratings[name] for name in MODELS)
            ]
            lines.append(f"| {run} | {what} | {' | '.join(cells)} |")
    lines += [
        "",
        "| run | answers to | what | initial | SL-CAI | RL-CAI |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run, figures in found.items():
        for prompts in ASPECTS:
            styles = [figures.get("answers", {}).get(name, {}).get(prompts) for name in MODELS]
            if not all(styles):
                continue
            refused = [
                f"{each['refuses'][0]:.2f} ({each['refuses'][1]:.2f} to {each['refuses'][2]:.2f})"
                for each in styles
            ]
            lines.append(f"| {run} | {prompts} | refuses | {' | '.join(refused)} |")
            for what in ("partial", "words", "different_words"):
                cells = [f"{each[what]:.2f}" for each in styles]
                lines.append(f"| {run} | {prompts} | {what.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines
