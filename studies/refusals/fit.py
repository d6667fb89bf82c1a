"""Fit the classifier of refusals on XSTest's labelled answers, and measure it on what it was not fitted to.

``python studies/refusals/fit.py DATA [--write]``: DATA has XSTest's prompts and completions
(https://github.com/paul-rottger/exaggerated-safety, CC-BY-4.0). Each answer is judged by a classifier that
saw neither its model nor its half of the prompts; prompts on one focus word stay in one half.
"""

import argparse
import csv
import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from solon.evaluation.evasiveness import LABELS, agreement
from solon.texts import refusal_rules as rules
from solon.texts.refusal import is_short
from solon.texts.refusal_cues import SENTENCE, features
from solon.texts.refusal_rules import VERDICTS, Verdict

WEIGHTS = Path(__file__).parents[2] / "src/solon/texts/refusal_weights.json"
SOURCE = (
    "Fitted to XSTest's labelled answers (Roettger et al. 2023, paul-rottger/exaggerated-safety), CC-BY-4.0"
)
HALVINGS = 5
C = 0.005  # inverse strength of the L2 penalty, of features scaled to a standard deviation of 1
PARTIAL = 3.0  # how much more a partial refusal counts: they are few
BEGINNING = 0.25  # how much less the beginning of a refusal counts, which is a refusal as well
LEAST = 0.05  # rarer features are not scaled up further


class Row(NamedTuple):
    prompt: str
    text: str
    label: Verdict
    model: str
    group: str


def read(folder: Path) -> list[Row]:
    with next(folder.glob("xstest_prompts*.csv")).open(newline="") as file:
        focus = {row["prompt"]: row["focus"] or row["prompt"] for row in csv.DictReader(file)}
    rows = []
    for path in sorted(folder.glob("completions_*.csv.gz")):
        with gzip.open(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                rows.append(
                    Row(
                        row["prompt"],
                        row["completion"],
                        LABELS[row["final_label"]],
                        path.name.split(".")[0],
                        focus[row["prompt"]],
                    )
                )
    return rows


cues = cache(features)  # of a text, which many of the classifiers see


class Fitted:
    """Weights of features for "partial" and "refusal", those for "compliance" taken off."""

    def __init__(self, rows: list[Row]) -> None:
        texts = [(row.text, row.label, 1.0) for row in rows]
        for row in rows:  # models that refuse in one sentence are no others
            sentences = SENTENCE.split(rules.plain(row.text))
            if row.label == "refusal":
                texts += [
                    (" ".join(sentences[:n]), row.label, BEGINNING) for n in (1, 2) if len(sentences) > n
                ]
        self.names = DictVectorizer(sparse=False)
        x = self.names.fit_transform([cues(text) for text, _, _ in texts])
        scale = StandardScaler().fit(x)
        spread = np.maximum(scale.scale_, LEAST)
        counts = [weight * (PARTIAL if label == "partial" else 1) for _, label, weight in texts]
        model = LogisticRegression(C=C, max_iter=1000)
        model.fit(
            (x - scale.mean_) / spread, [VERDICTS.index(label) for _, label, _ in texts], sample_weight=counts
        )
        weights = model.coef_ / spread
        offset = model.intercept_ - weights @ scale.mean_
        self.weights, self.offset = weights - weights[0], offset - offset[0]

    def scores(self, rows: list[Row]) -> NDArray[np.float64]:
        """Of the three verdicts, (answers, 3): the logarithms of their odds against compliance."""
        x = self.names.transform([cues(row.text) for row in rows])
        return np.asarray(x @ self.weights.T + self.offset)

    def verdicts(self, rows: list[Row]) -> list[Verdict]:
        best = np.argmax(self.scores(rows), axis=1)
        return [
            rules.verdict(row.text) if is_short(row.text) else VERDICTS[place]
            for row, place in zip(rows, best, strict=True)
        ]

    def written(self) -> str:
        """JSON, a cue a line."""
        names = self.names.get_feature_names_out()
        lines = (
            f"  {json.dumps(str(name))}: {json.dumps(np.round(self.weights[:, number], 3).tolist())}"
            for number, name in enumerate(names)
        )
        return (
            "{\n"
            f' "source": {json.dumps(SOURCE)},\n "verdicts": {json.dumps(VERDICTS)},\n'
            f' "offset": {json.dumps(np.round(self.offset, 3).tolist())},\n'
            ' "weights": {\n' + ",\n".join(lines) + "\n }\n}\n"
        )


def halves(rows: list[Row], seed: int, by_model: bool) -> Iterator[tuple[list[int], list[int]]]:
    """Places of rows to fit to, and of those to measure on: of other prompts and, if so, another model."""
    groups = sorted({row.group for row in rows})
    shuffled = np.random.default_rng(seed).permutation(groups)
    half = {group: number % 2 for number, group in enumerate(shuffled)}
    for model in sorted({row.model for row in rows}) if by_model else [""]:
        for side in (0, 1):
            yield (
                [n for n, row in enumerate(rows) if half[row.group] != side and row.model != model],
                [n for n, row in enumerate(rows) if half[row.group] == side and row.model.endswith(model)],
            )


def unseen(rows: list[Row], seed: int, by_model: bool) -> dict[str, Any]:
    """Agreement of classifiers that saw neither an answer's half of the prompts nor, if so, its model."""
    labels: list[Verdict] = []
    found: list[Verdict] = []
    for seen, asked in halves(rows, seed, by_model):
        ours = [rows[place] for place in asked]
        labels += [row.label for row in ours]
        found += Fitted([rows[place] for place in seen]).verdicts(ours)
    return dict(agreement(labels, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="write the weights of all answers to the package"
    )
    asked = parser.parse_args()
    rows = read(asked.data)
    figures = {
        "rules, on the answers they were read against": [
            dict(agreement([row.label for row in rows], [rules.verdict(row.text) for row in rows]))
        ]
    }
    for name, by_model in (("other prompts", False), ("other prompts and another model", True)):
        figures[name] = [unseen(rows, seed, by_model) for seed in range(HALVINGS)]
    for name, each in figures.items():
        f1 = {verdict: np.mean([one["f1"][verdict] for one in each]) for verdict in VERDICTS}
        print(
            f"| {name} | {np.mean([one['accuracy'] for one in each]):.3f} "
            f"| {np.mean([one['macro_f1'] for one in each]):.3f} | "
            + " | ".join(f"{value:.2f}" for value in f1.values())
            + " |"
        )
    if asked.write:
        WEIGHTS.write_text(Fitted(rows).written())


if __name__ == "__main__":
    main()
