"""Do the hidden states of a small language model tell how far an answer refuses, better than its wording?

``python studies/refusals/states.py DATA STATES [--model smollm2]``: DATA as for ``fit.py``; STATES is a
folder that keeps the states as they are computed. The wording's classifier says whether an answer complies;
where not, a logistic regression on the mean state of the answer's tokens tells partial from full refusals,
beside the wording. Layer, penalty, weight and threshold are chosen by cross-validation among the answers that
are fitted to: what measures chooses nothing.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fit import HALVINGS, PARTIAL, Fitted, Row, halves, read
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from solon import models
from solon.evaluation.evasiveness import agreement
from solon.prompts.dialogue import user
from solon.texts import refusal_rules as rules
from solon.texts.refusal import is_short
from solon.texts.refusal_rules import VERDICTS, Verdict

RESULTS = Path(__file__).parent / "results/states.json"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
LAYERS = (0.3, 0.5, 0.7, 0.9, 1.0)  # as shares of the model's depth
TOKENS = 256  # of an answer
BATCH = 16
INVERSE_PENALTIES = (1.0, 10.0)
SHARES = (0.0, 0.5, 1.0)  # of the states' log-odds beside the wording's; 0: the wording alone
OFFSETS = (0.0, 0.25, 0.5, 0.75)  # added to the log-odds of a partial refusal
FOLDS = 4

Array = NDArray[np.float64]


class Choice(NamedTuple):
    layer: int
    penalty: float
    share: float
    offset: float


def states(rows: list[Row], name: str, folder: Path) -> Array:
    """Mean hidden states of the answers' tokens, (answers, layers, width), kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = models.load_tokenizer(name)
    model = models.load_model(name, torch.bfloat16).eval()
    texts = []
    for row in rows:
        asked = tokenizer.apply_chat_template(
            [SYSTEM, user(row.prompt)], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(asked, add_special_tokens=False).input_ids
        texts.append((prompt, tokenizer(row.text.strip(), add_special_tokens=False).input_ids[:TOKENS]))
    order = sorted(range(len(rows)), key=lambda place: sum(map(len, texts[place])))
    depth = model.config.num_hidden_layers
    found: dict[int, Array] = {}
    for start in range(0, len(order), BATCH):
        file, here = folder / f"{start}.npy", order[start : start + BATCH]
        if not file.exists():
            ids = [torch.tensor(prompt + answer) for prompt, answer in (texts[place] for place in here)]
            batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in ids], batch_first=True)
            with torch.inference_mode():
                layers = model.model(batch, attention_mask=mask, output_hidden_states=True).hidden_states
            kept = torch.stack([layers[round(share * depth)] for share in LAYERS], dim=1).float()
            means = [
                each[:, len(texts[place][0]) : sum(map(len, texts[place]))].mean(1)
                for each, place in zip(kept, here, strict=True)
            ]
            np.save(file, torch.stack(means).numpy())
        found |= dict(zip(here, np.load(file), strict=True))
    return np.stack([found[place] for place in range(len(rows))]).astype(np.float64)


def log_odds(seen: list[Row], seen_states: Array, asked: Array, penalty: float) -> Array:
    """Of a partial refusal against a full one."""
    mean, spread = seen_states.mean(0), (seen_states.std(0) + 1e-3) * seen_states.shape[1] ** 0.5
    refusing = np.array([row.label != "compliance" for row in seen])
    partial = np.array([row.label == "partial" for row in seen])[refusing]
    model = LogisticRegression(C=penalty, max_iter=500)
    weights = np.where(partial, PARTIAL, 1.0)
    model.fit((seen_states[refusing] - mean) / spread, partial, sample_weight=weights)
    return np.asarray(model.decision_function((asked - mean) / spread))


def told(rows: list[Row], wording: Array, odds: Array, share: float, offset: float) -> list[Verdict]:
    """The verdicts, given the wording's scores of the three and the states' log-odds of a partial refusal."""
    chances = np.exp(wording - wording.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    both = share * odds + (1 - share) * (wording[:, 1] - wording[:, 2])
    partial = 1 / (1 + np.exp(-both))
    refuses = chances[:, 1] + chances[:, 2]
    weighed = np.stack([chances[:, 0], refuses * partial * np.exp(offset), refuses * (1 - partial)], axis=1)
    return [
        rules.verdict(row.text) if is_short(row.text) else VERDICTS[place]
        for row, place in zip(rows, weighed.argmax(axis=1), strict=True)
    ]


def chosen(rows: list[Row], vectors: Array) -> Choice:
    """The best macro-F1 by cross-validation among these answers, prompts on one focus word in one fold."""
    groups = {group: number % FOLDS for number, group in enumerate(sorted({row.group for row in rows}))}
    fold = np.array([groups[row.group] for row in rows])
    wording = np.zeros((len(rows), len(VERDICTS)))
    odds = {(layer, penalty): np.zeros(len(rows)) for layer, penalty in _places()}
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        seen, asked = [rows[place] for place in inside], [rows[place] for place in outside]
        wording[outside] = Fitted(seen).scores(asked)
        for (layer, penalty), unseen_odds in odds.items():
            unseen_odds[outside] = log_odds(seen, vectors[inside, layer], vectors[outside, layer], penalty)
    labels = [row.label for row in rows]

    def reached(choice: Choice) -> float:
        verdicts = told(rows, wording, odds[choice.layer, choice.penalty], choice.share, choice.offset)
        return float(f1_score(labels, verdicts, average="macro"))

    return max(
        (Choice(*place, share, offset) for place, share, offset in product(_places(), SHARES, OFFSETS)),
        key=reached,
    )


def _places() -> Iterator[tuple[int, float]]:
    return product(range(len(LAYERS)), INVERSE_PENALTIES)


def unseen(rows: list[Row], vectors: Array, seed: int) -> dict[str, Any]:
    """Agreement on answers whose model and whose half of the prompts were neither fitted to nor chosen by."""
    labels: list[Verdict] = []
    found: list[Verdict] = []
    for inside, outside in halves(rows, seed, by_model=True):
        seen, asked = [rows[place] for place in inside], [rows[place] for place in outside]
        choice = chosen(seen, vectors[inside])
        odds = log_odds(seen, vectors[inside, choice.layer], vectors[outside, choice.layer], choice.penalty)
        labels += [row.label for row in asked]
        found += told(asked, Fitted(seen).scores(asked), odds, choice.share, choice.offset)
    return dict(agreement(labels, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("states", type=Path)
    parser.add_argument("--model", default="smollm2")
    asked = parser.parse_args()
    rows = read(asked.data)
    vectors = states(rows, asked.model, asked.states)
    each = [unseen(rows, vectors, seed) for seed in range(HALVINGS)]
    f1 = {verdict: np.mean([one["f1"][verdict] for one in each]) for verdict in VERDICTS}
    means = {name: round(float(np.mean([one[name] for one in each])), 3) for name in ("accuracy", "macro_f1")}
    figures = {
        "model": asked.model,
        **means,
        "f1": {verdict: round(float(value), 3) for verdict, value in f1.items()},
        "halvings": [{name: round(one[name], 3) for name in means} for one in each],
    }
    print(json.dumps(figures, indent=1))
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
