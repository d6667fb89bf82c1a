"""Fits the words by which red-team prompts are known, and collects runs of known answers: see README.md.

python studies/harm_labels/fit.py --data ../shared/data --prompts FOLDER
"""

import argparse
import csv
import gzip
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from solon.sources import data
from solon.sources import red_team_words as lexicon
from solon.sources.harm_labels import Finding
from solon.sources.row_dialogues import comparison_of
from solon.sources.tables import rows
from solon.texts.refusal import is_refusal

OUT = Path(lexicon.__file__).with_name("red_team_words.npz")
HH = "hh-rlhf, harmless-base"
TABLE = Path(__file__).with_name("results") / "table.md"
FOLDS = 5
RUNS_EACH = 2  # kept of an answer: those with the smallest hashes, which a shorter or longer copy has too
LEAST = 0.05  # smaller weights are left out

DRAWN = 100  # files of each kind
JOINED = 2  # dialogues that are made of each helpful prompt and others of its set, as long as hh-rlhf's

Sets = dict[str, list[str]]


class Comparison(NamedTuple):
    turns: list[str]  # what the person says
    answers: list[str]


def of_hh(data_folder: Path) -> list[Comparison]:
    found = []
    for row in rows(str(data_folder / "hh-rlhf/harmless-base/test.even.jsonl.gz")):
        prompt, *answers = comparison_of(row)
        turns = [turn["content"] for turn in prompt if turn["role"] == "user"]
        found.append(Comparison(turns, [turn[-1]["content"] if turn else "" for turn in answers]))
    return found


def to_fit(data_folder: Path, folder: Path) -> tuple[Sets, Sets]:
    """The sets of red-team prompts beside hh-rlhf's, and those of helpful prompts."""
    with (data_folder / "xstest/xstest_prompts.even.csv").open(newline="") as file:
        xstest = list(csv.DictReader(file))
    with gzip.open(data_folder / "ifeval/input_data.even.jsonl.gz", "rt") as lines:
        ifeval = [json.loads(line)["prompt"] for line in lines]
    pandalm = [f"{row['instruction']}\n\n{row['input'] or ''}" for row in of_pandalm(data_folder)]
    red = {
        "Solon's red-team prompts": packaged("red-team"),
        "XSTest, unsafe": [row["prompt"] for row in xstest if row["label"] == "unsafe"],
        **named(folder, "red-team"),
    }
    helpful = {
        "Solon's helpful prompts": packaged("helpful"),
        "XSTest, safe": [row["prompt"] for row in xstest if row["label"] == "safe"],
        "IFEval": ifeval,
        "PandaLM": pandalm,
        **named(folder, "helpful"),
    }
    return red, {name: list(dict.fromkeys(prompts)) for name, prompts in helpful.items()}


def packaged(name: str) -> list[str]:
    return [record["prompt"][-1]["content"] for record in data.prompts("packaged", name)]


def named(folder: Path, kind: str) -> Sets:
    """``KIND-NAME.jsonl`` files of rows with a prompt."""
    return {
        file.stem.removeprefix(f"{kind}-"): [json.loads(line)["prompt"] for line in file.open()]
        for file in sorted(folder.glob(f"{kind}-*.jsonl"))
    }


def joined(prompts: Sequence[str], turns: Sequence[int], count: int) -> list[str]:
    """So many dialogues of the prompts, with as many turns as ``turns`` says.

    Red-team prompts come in dialogues and helpful ones singly: without these a long dialogue would be a sign.
    """
    draw = random.Random(0)
    return [" ".join(draw.sample(prompts, min(len(prompts), draw.choice(turns)))) for _ in range(count)]


class Fit:
    """Logistic regression on which content words there are."""

    def __init__(self, red: Iterable[str], helpful: Iterable[Sequence[str]], turns: Sequence[int]) -> None:
        bad = list(red)
        good = [
            text for prompts in helpful for text in (*prompts, *joined(prompts, turns, JOINED * len(prompts)))
        ]
        self.vectorizer = CountVectorizer(analyzer=lexicon.stems, binary=True, min_df=2)
        counts = self.vectorizer.fit_transform(bad + good)
        harmful = [1] * len(bad) + [0] * len(good)
        self.model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(counts, harmful)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self.model.decision_function(self.vectorizer.transform(texts)))

    def weights(self) -> dict[str, float]:
        names = self.vectorizer.get_feature_names_out()
        return {
            name: weight
            for name, weight in zip(names, self.model.coef_[0], strict=True)
            if abs(weight) >= LEAST
        }


def fitted(comparisons: Sequence[Comparison], red: Sets, helpful: Sets) -> Fit:
    """By hh-rlhf's openings and whole dialogues, and by the other sets' prompts."""
    own = [text for each in comparisons for text in (each.turns[0], " ".join(each.turns))]
    others = [text for prompts in red.values() for text in prompts]
    return Fit([*own, *others], helpful.values(), [len(each.turns) for each in comparisons])


def unseen_scores(comparisons: Sequence[Comparison], red: Sets, helpful: Sets) -> dict[str, np.ndarray]:
    """Scores by fits without the set, or of hh-rlhf without the dialogues that open alike."""
    fold = np.array([zlib.crc32(each.turns[0].casefold().encode()) % FOLDS for each in comparisons])
    own = np.zeros(len(comparisons))
    for number in range(FOLDS):
        fit = fitted(
            [each for each, its in zip(comparisons, fold, strict=True) if its != number], red, helpful
        )
        inside = [each for each, its in zip(comparisons, fold, strict=True) if its == number]
        own[fold == number] = fit.scores([" ".join(each.turns) for each in inside])
    found = {HH: own}
    for name, prompts in (red | helpful).items():
        fit = fitted(comparisons, without(red, name), without(helpful, name))
        found[name] = fit.scores(prompts)
    return found


def without(sets: Sets, name: str) -> Sets:
    """Without the set and those of its family: XSTest's two halves are about the same words."""
    family = name.partition(",")[0]
    return {other: prompts for other, prompts in sets.items() if other.partition(",")[0] != family}


def known_runs(comparisons: Sequence[Comparison], common: Iterable[str]) -> np.ndarray:
    """Of each answer some runs that do not overlap; those that are in others too are no proof."""
    counts = Counter(
        run for each in comparisons for run in {run for text in each.answers for run in lexicon.runs(text)}
    )
    elsewhere = {run for text in common for run in lexicon.runs(text)}
    kept: set[int] = set()
    for answer in (text for each in comparisons for text in each.answers):
        of_answer: list[int] = []
        found = lexicon.runs(answer)
        for place in sorted(range(len(found)), key=lambda place: found[place]):
            apart = all(abs(place - other) >= lexicon.RUN for other in of_answer)
            if apart and counts[found[place]] == 1 and found[place] not in elsewhere:
                of_answer.append(place)
        kept |= {found[place] for place in of_answer[:RUNS_EACH]}
    return np.array(sorted(kept), dtype=np.uint64)


def common_answers(data_folder: Path) -> list[str]:
    """Answers that models give elsewhere: what they share with hh-rlhf's is a phrase."""
    texts = []
    for file in sorted((data_folder / "xstest").glob("completions_*.csv.gz")):
        texts += [str(row.values["completion"]) for row in rows(str(file))]
    for row in of_pandalm(data_folder):
        texts += [str(row["response1"]), str(row["response2"])]
    return texts


def of_pandalm(data_folder: Path) -> list[dict[str, Any]]:
    with gzip.open(data_folder / "pandalm/testset-v1.json.gz", "rt") as file:
        found: list[dict[str, Any]] = json.load(file)
    return found


def table(unseen: dict[str, np.ndarray], packed: dict[str, np.ndarray], red: Sequence[str]) -> str:
    lines = [
        f"Share of prompts with a score over {lexicon.FLAG}: by a fit without them ({FOLDS}-fold by opening "
        "for hh-rlhf, without the whole set for the others), and by the weights in the package.",
        "",
        "| set | prompts | red-team | not fitted | as packaged |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for name, scores in packed.items():
        out = f"{share(unseen[name]):.1%}" if name in unseen else f"{share(scores):.1%}"
        own = f"{share(scores):.1%}" if name in unseen else "never fitted"
        lines.append(f"| {name} | {len(scores)} | {'yes' if name in red else 'no'} | {out} | {own} |")
    return "\n".join(lines) + "\n"


def as_files(unseen: dict[str, np.ndarray], comparisons: Sequence[Comparison], never: Sets) -> str:
    """What becomes of files of comparisons of which nothing was fitted or collected."""
    lines = [
        f"Of {DRAWN} files drawn from sets that were never fitted, some with comparisons of hh-rlhf, scored "
        "by fits without them and none of their answers known: how many are refused, how many want a "
        "signature, and the share of red-team prompts that is told.",
        "",
        "| the rest | rows | of hh-rlhf | refused | signature | share told |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rest = {name: packaged_scores(prompts) for name, prompts in never.items()}
    kinds = [(name, scores, (0.0,)) for name, scores in rest.items()]
    kinds.append(("all of these", np.concatenate([*rest.values()]), (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)))
    draw = np.random.default_rng(0)
    for name, others, parts in kinds:
        for size, part in ((size, part) for size in (50, 200, 1000) for part in parts):
            found = [drawn(draw, unseen[HH], comparisons, others, size, part) for _ in range(DRAWN)]
            refused = np.mean([bool(each.refused) for each in found])
            doubt = np.mean([bool(each.doubt) and not each.refused for each in found])
            told = np.mean([each.share for each in found])
            lines.append(f"| {name} | {size} | {part:.0%} | {refused:.0%} | {doubt:.0%} | {told:.0%} |")
    return "\n".join(lines) + "\n"


def drawn(
    draw: np.random.Generator,
    scores: np.ndarray,
    comparisons: Sequence[Comparison],
    others: np.ndarray,
    size: int,
    part: float,
) -> Finding:
    """What is seen of a file of ``size`` rows, ``part`` of them hh-rlhf's with these scores."""
    own = draw.choice(len(comparisons), round(part * size))
    both = np.concatenate([scores[own], draw.choice(others, size - len(own))])
    declined = [0, 0]
    for number in own:
        refuses = [bool(text) and is_refusal(text) for text in comparisons[number].answers]
        if refuses[0] != refuses[1]:
            declined[refuses.index(True)] += 1
    return Finding(
        source="",
        rows=size,
        looked_at=size,
        red_team=int((both > lexicon.FLAG).sum()),
        declined=(declined[0], declined[1]),
    )


def packaged_scores(prompts: Sequence[str]) -> np.ndarray:
    return np.array([lexicon.score(lexicon.stems(prompt)) for prompt in prompts])


def share(scores: np.ndarray) -> float:
    return float((scores > lexicon.FLAG).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    asked = parser.parse_args()
    comparisons = of_hh(asked.data)
    red, helpful = to_fit(asked.data, asked.prompts)
    fit = fitted(comparisons, red, helpful)
    weights = {lexicon.hashed(name): round(weight * lexicon.SCALE) for name, weight in fit.weights().items()}
    order = sorted(weights)
    np.savez_compressed(
        OUT,
        words=np.array(order, dtype=np.uint64),
        weights=np.clip([weights[word] for word in order], -127, 127).astype(np.int8),
        bias=np.float32(fit.model.intercept_[0]),
        runs=known_runs(comparisons, common_answers(asked.data)),
    )
    never = named(asked.prompts, "unseen")
    never |= {f"{name}, three joined": joined(prompts, [3], 1000) for name, prompts in never.items()}
    sets = {HH: [" ".join(each.turns) for each in comparisons]} | red | helpful | never
    packed = {name: packaged_scores(prompts) for name, prompts in sets.items()}
    TABLE.parent.mkdir(exist_ok=True)
    unseen = unseen_scores(comparisons, red, helpful)
    pages = [table(unseen, packed, [HH, *red]), as_files(unseen, comparisons, named(asked.prompts, "unseen"))]
    TABLE.write_text("\n".join(pages))
    print(TABLE.read_text(), f"{OUT.stat().st_size} bytes, {len(order)} words", sep="\n")


if __name__ == "__main__":
    main()
