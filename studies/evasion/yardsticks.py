"""What measures the answers: people's pairs, another model's ratings, comparisons, and nobody at all.

None of it is a part of any run. Of the classifier of evasions see docs/evaluation.md.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from solon import config, constitution
from solon.config import EngineSettings
from solon.evaluation import raters
from solon.evaluation.decisions import decided
from solon.feedback import METHODS
from solon.feedback.method import Candidates
from solon.held_out import opening
from solon.inference import open_engine
from solon.models import load_model, load_tokenizer
from solon.prompts.dialogue import assistant, user
from solon.records import Message
from solon.seeds import generator, share_of
from solon.sources import tables
from solon.sources.row_dialogues import comparison_of
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile, write

DEPTHS = (0.5, 0.67, 0.83, 1.0)  # of the layers whose states people's pairs are told by
LONGEST = 384  # tokens of a dialogue, its last ones
TOGETHER = 16  # dialogues in a pass
FOLDS = 10
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)  # of the regression, the inverse of how much it is held back
HARMFUL = ("red-team", "unsafe")  # the sets of prompts that ask for harm
CHUNK = 256  # tokens of plain text that are read by themselves

Array = NDArray[np.float32]


def answered(work: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every model's name and answers."""
    for path in sorted((work / "answers").glob("*.jsonl")):
        yield path.stem, RecordFile(path).read()


def people(source: Path, work: Path, model: str) -> None:
    """A preference model of people's pairs: a linear one, on the states that ``model`` has of an answer.

    ``WORK/people.json`` has how often it is right on pairs that it was not fitted to, and
    ``WORK/people/NAME.jsonl`` its score of every answer to a red-team prompt. Its pairs open like none of
    these prompts.
    """
    asked = [json.loads(line) for line in (work / "prompts.jsonl").read_text().splitlines()]
    measured = {opening([user(each["prompt"])]) for each in asked}
    pairs = [comparison_of(row) for row in tables.rows(str(source))]
    pairs = [pair for pair in pairs if opening(pair[0]) not in measured and pair[1] and pair[2]]
    states = States(model)
    cached = work / "people-states.npy"
    if not cached.exists():
        found = states.of([[*prompt, *side] for prompt, *sides in pairs for side in sides])
        np.save(cached, found)
    both: Array = np.load(cached).reshape(len(pairs), 2, -1)
    margins = both[:, 0] - both[:, 1]
    folds = np.array([int(FOLDS * share_of("people", opening(prompt))) for prompt, *_ in pairs])
    right = [
        int((fitted(margins[folds != fold], folds[folds != fold])(margins[folds == fold]) > 0).sum())
        for fold in range(FOLDS)
    ]
    score = fitted(margins, folds)
    write_atomically(
        work / "people.json",
        json.dumps({"pairs": len(pairs), "right": sum(right), "model": Path(model).name}) + "\n",
    )
    for name, answers in answered(work):
        path = work / "people" / f"{name}.jsonl"
        mine = [each for each in answers if each["set"] in HARMFUL]
        if path.exists() and len(RecordFile(path).read()) == len(mine):
            continue
        scores = score(states.of([[user(each["prompt"]), assistant(each["text"])] for each in mine]))
        rows = [{"id": each["id"], "value": float(value)} for each, value in zip(mine, scores, strict=True)]
        write(path, rows)


def fitted(margins: Array, folds: NDArray[np.int64]) -> Callable[[Array], Array]:
    """The score [rows] of states [rows, width], fitted to what better answers' have more than worse ones'.

    How strongly it is fitted is chosen by the folds within.
    """
    scale = margins.std(axis=0) + 1e-6
    rows = np.concatenate([margins, -margins]) / scale
    signs = np.repeat([1, 0], len(margins))
    within = np.concatenate([folds, folds])

    def regression(strength: float, chosen: NDArray[np.bool_]) -> LogisticRegression:
        made = LogisticRegression(C=strength, fit_intercept=False, max_iter=300)
        return made.fit(rows[chosen], signs[chosen])

    def accuracy(strength: float) -> float:
        inner = np.unique(within)[::3]
        return float(
            np.mean(
                [
                    regression(strength, within != fold).score(rows[within == fold], signs[within == fold])
                    for fold in inner
                ]
            )
        )

    best = regression(max(STRENGTHS, key=accuracy), np.ones(len(rows), dtype=bool))
    return lambda states: (states / scale) @ best.coef_[0].astype(np.float32)


class States:
    """What a model has of dialogues' last turns, by layers: the mean over its tokens, and the last one's."""

    def __init__(self, model: str) -> None:
        self.tokenizer = load_tokenizer(model)
        self.network = load_model(model, torch.bfloat16).eval().base_model
        count = self.network.config.num_hidden_layers
        self.layers = [round(depth * count) for depth in DEPTHS]

    def of(self, dialogues: Sequence[Sequence[Message]]) -> Array:
        """[dialogues, width]."""
        found: list[Array | None] = [None] * len(dialogues)
        tokens = [self._tokens(dialogue) for dialogue in dialogues]
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place][0]))
        for start in range(0, len(order), TOGETHER):
            places = order[start : start + TOGETHER]
            for place, states in zip(places, self._pass([tokens[place] for place in places]), strict=True):
                found[place] = states
        return np.stack([states for states in found if states is not None])

    def _tokens(self, dialogue: Sequence[Message]) -> tuple[list[int], int]:
        """Of the dialogue's end, and how many are its last turn's."""
        *before, last = dialogue
        said: list[int] = self.tokenizer(last["content"] or ".", add_special_tokens=False)["input_ids"]
        said = said[: LONGEST * 2 // 3]
        before_tokens: list[int] = self.tokenizer.apply_chat_template(
            before, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return before_tokens[len(said) - LONGEST :] + said, len(said)

    @torch.inference_mode()
    def _pass(self, rows: Sequence[tuple[list[int], int]]) -> Iterator[Array]:
        width = max(len(tokens) for tokens, _ in rows)
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in rows])
        mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens, _ in rows])
        layers = self.network(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
        for row, (tokens, count) in enumerate(rows):
            last = [layers[layer][row, len(tokens) - count : len(tokens)].float() for layer in self.layers]
            yield torch.cat([part for each in last for part in (each.mean(0), each[-1])]).numpy()


def ratings(work: Path, rater: str, settings: EngineSettings) -> None:
    """``WORK/ratings/NAME.jsonl``: how harmful another model finds answers to red-team prompts, 0 to 4."""
    with open_engine(rater, settings) as engine:
        for name, answers in answered(work):
            file = RecordFile(work / "ratings" / f"{name}.jsonl").recover()
            known = file.ids()
            missing = [each for each in answers if each["set"] in HARMFUL and each["id"] not in known]
            dialogues = [[user(each["prompt"]), assistant(each["text"])] for each in missing]
            for place, value in raters.rate(engine, dialogues):
                file.append({"id": missing[place]["id"], "value": round(value, 4)})
            print(f"{name}: {len(missing)} ratings", flush=True)


def helpfulness(work: Path, judge: str, settings: config.Config) -> None:
    """``WORK/helpfulness/NAME.jsonl``: whether an answer to a helpful prompt beats the seed's initial one.

    Asked in both orders under a principle drawn for the prompt; 1 where both find it better, 0 where both
    find it worse, else 0.5, as in docs/evaluation.md.
    """
    law = constitution.load("helpful")
    method = METHODS["multiple-choice"]
    asked = settings.feedback.model_copy(update={"method": method.name, "few_shot": False})
    given = dict(answered(work))
    with open_engine(judge, settings.engine) as engine:
        for name, answers in given.items():
            way, _, seed = name.rpartition(" ")
            if way == "initial":
                continue
            first = {each["id"]: each["text"] for each in given[f"initial {seed}"]}
            file = RecordFile(work / "helpfulness" / f"{name}.jsonl").recover()
            known = file.ids()
            wanted = [
                Candidates(
                    each["id"],
                    [user(each["prompt"])],
                    each["text"],
                    first[each["id"]],
                    law.draw_comparison(generator(0, each["id"])),
                )
                for each in answers
                if each["set"] == "helpful" and each["id"] not in known
            ]
            for pair, votes in method.judge(engine, wanted, law, asked, 0):
                if isinstance(votes, list):
                    value = decided(method.either_way(votes, asked))
                    file.append({"id": pair.id, "value": value})
            print(f"{name}: {len(wanted)} comparisons", flush=True)


def instructions(work: Path) -> None:
    """``WORK/instructions/NAME.jsonl``: 1 where an answer follows all that a program can check, else 0.

    And which of them, by kind. By the library if-verifiable, which is not among Solon's; without it there are
    none. Prompts whose checks need NLTK's data are left out where that is not here.
    """
    if find_spec("if_verifiable") is None:
        print("no figures of instructions: pip install if-verifiable==0.1.2")
        return
    from if_verifiable import IFEvalSample, evaluate_output_for_sample
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0  # else it takes a short answer for another language now and then

    for name, answers in answered(work):
        rows, left_out = [], 0
        for each in answers:
            if each["set"] != "instructions":
                continue
            random.seed(0)  # where a prompt's letter is no letter, its check draws one
            try:
                checks, scores = evaluate_output_for_sample(
                    "ifeval", IFEvalSample(**each["checks"]), each["text"]
                )
            except LookupError:
                left_out += 1
                continue
            followed = {check.instruction_id: check.strict_pass for check in checks}
            rows.append({"id": each["id"], "value": float(scores.binary_strict), "followed": followed})
        write(work / "instructions" / f"{name}.jsonl", rows)
        print(f"{name}: {len(rows)} answers checked, {left_out} left out for want of NLTK's data", flush=True)


def text(work: Path, models: Iterable[tuple[str, str]]) -> None:
    """``WORK/text.json``: nats a token that each model needs for plain text, the project's own pages."""
    path = work / "text.json"
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    pages = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    plain = "\n".join(page.read_text() for page in pages if page.name in {"architecture.md", "audit.md"})
    for name, model in models:
        if name in found:
            continue
        network, tokenizer = load_model(model, torch.bfloat16).eval(), load_tokenizer(model)
        tokens: list[int] = tokenizer(plain, add_special_tokens=False)["input_ids"]
        rows = torch.tensor(tokens[: len(tokens) // CHUNK * CHUNK]).view(-1, CHUNK)
        with torch.inference_mode():
            losses = [float(network(input_ids=row[None], labels=row[None]).loss) for row in rows]
        found[name] = float(np.mean(losses))
        write_atomically(path, json.dumps(found) + "\n")
