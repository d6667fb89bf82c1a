"""Judges and preference models against people: hh-rlhf, PandaLM, ties, margins and the people themselves."""

import gzip
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, brier_score_loss, cohen_kappa_score, mean_squared_error

from command import TINY, fails, solon
from solon import constitution, models
from solon.config import Feedback
from solon.errors import SolonError
from solon.evaluation import agreement
from solon.evaluation.calibration import expected_calibration_error
from solon.evaluation.paper_evals import Pair, read_pairs
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.prompts.dialogue import assistant, user

HH = "hh-rlhf/harmless-base/test.even.jsonl.gz"
PANDALM = "pandalm/testset-v1.json.gz"


def pair(number: int, probability: float = 1.0, votes: tuple[float, ...] = (), subset: str = "") -> Pair:
    dialogue = [user(f"{number}?")]
    return Pair(str(number), dialogue, [assistant("good")], [assistant("bad")], probability, votes, subset)


def panel(*votes: tuple[float, ...]) -> list[Pair]:
    return [pair(n, sum(each) / len(each), each) for n, each in enumerate(votes)]


class Stub(Engine):
    """Says (A) with a logit of ``letter``, and the answer "good" with one of ``good`` more."""

    def __init__(self, letter: float, good: float) -> None:
        self.model_name, self.concurrency, self.usage = "stub", 4, Usage()
        self.letter, self.good = letter, good
        self.waiting: list[Request] = []

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def poll(self) -> list[Completion]:
        waiting, self.waiting = self.waiting, []
        return [Completion(each.id, "It depends.", "stop", 2) for each in waiting]

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        for each in reversed(questions):
            a_is_good = "(A) good" in each.messages[-1]["content"]
            yield ChoiceScores(each.id, (self.letter + (self.good if a_is_good else -self.good), 0.0))

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_both_orders_cancel_a_liking_for_a_letter() -> None:
    pairs = [pair(n) for n in range(6)]
    settings = Feedback(few_shot=False, both_orders=False, principles=2)  # orders are not for the user to say
    law = constitution.load("harmless")
    judged = list(agreement.judge_pairs(Stub(letter=3.1, good=1e-8), pairs, law, settings, seed=0))
    assert [each.probability for each in judged] == [0.5] * 6  # a tie, and not what rounding leaves of it
    assert [each.letter_a for each in judged] == pytest.approx([1 / (1 + np.exp(-3.1))] * 6)
    judged = list(agreement.judge_pairs(Stub(letter=0.0, good=3.0), pairs, law, settings, seed=0))
    assert [each.probability for each in judged] == pytest.approx([1 / (1 + np.exp(-3))] * 6)
    assert [each.letter_a for each in judged] == pytest.approx([0.5] * 6)
    figures = agreement.judge_summary(judged, bootstrap=5, seed=0)
    assert (figures["accuracy"], figures["letter_a"]) == (1, pytest.approx(0.5))


def test_reasoned_judgements_are_not_clamped() -> None:
    settings = Feedback(few_shot=False, chain_of_thought=True, clamp=(0.4, 0.6))
    law = constitution.load("harmless")
    [judged] = agreement.judge_pairs(Stub(letter=0.0, good=3.0), [pair(1)], law, settings, seed=0)
    assert judged.probability == pytest.approx(1 / (1 + np.exp(-3)))


def test_scores_are_paired_in_their_order() -> None:
    pairs = [pair(n) for n in range(150)]  # more than one block

    def score(dialogues: list[list[object]]) -> list[float]:
        return [
            float(str(turns[0]["content"])[:-1]) * (turns[-1]["content"] == "good") for turns in dialogues
        ]  # type: ignore[index]

    found = list(agreement.score_pairs(score, pairs))  # type: ignore[arg-type]
    assert [(each.id, margin) for each, margin in found] == [(str(n), float(n)) for n in range(150)]
    figures = agreement.score_summary(found[1:], bootstrap=5, seed=0)
    assert figures["by_margin"][0]["lowest"] == 1
    assert figures["by_margin"][-1]["highest"] == 149


def random_pairs(count: int = 400, seed: int = 0) -> tuple[list[Pair], np.ndarray]:
    """Pairs with soft labels, a third of them ties, and predictions that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 0.5, 1.0, 2 / 3], size=count, p=[0.25, 0.3, 0.25, 0.2])
    predicted = 1 / (1 + np.exp(-(rng.normal(size=count) * 2 + 2 * (labels - 0.5))))
    return [
        pair(n, label, subset="even" if n % 2 == 0 else "odd") for n, label in enumerate(labels)
    ], predicted


def test_figures_are_those_of_the_references() -> None:
    pairs, predicted = random_pairs()
    figures = agreement.summary(pairs, predicted, bootstrap=20, seed=0)
    labels = np.asarray([each.probability for each in pairs])
    decided = labels != 0.5
    right = accuracy_score(labels[decided] > 0.5, predicted[decided] > 0.5)
    assert figures["comparisons"] == 400
    assert figures["decided"] == decided.sum()
    assert figures["accuracy"] == pytest.approx(right)
    interval = binomtest(round(right * decided.sum()), int(decided.sum())).proportion_ci(method="wilson")
    assert figures["accuracy_interval"] == pytest.approx((interval.low, interval.high))
    assert figures["brier"] == pytest.approx(mean_squared_error(labels, predicted))
    hard = np.flatnonzero((labels == 0) | (labels == 1))
    only = agreement.summary([pairs[n] for n in hard], predicted[hard], bootstrap=20, seed=0)
    assert only["brier"] == pytest.approx(brier_score_loss(labels[hard], predicted[hard]))
    # Which answer is written first must not matter.
    turned = [pair(n, 1 - each.probability) for n, each in enumerate(pairs)]
    other = agreement.summary(turned, 1 - predicted, bootstrap=20, seed=0)
    for name in ("accuracy", "brier", "ece"):
        assert other[name] == pytest.approx(figures[name])
    favoured = np.where(predicted > 0.5, labels, 1 - labels)
    assert figures["ece"] == pytest.approx(
        expected_calibration_error(np.maximum(predicted, 1 - predicted), favoured)
    )
    assert figures["ece_interval"][0] <= figures["ece"] <= figures["ece_interval"][1]
    even = figures["by_subset"]["even"]
    mine = decided & (np.arange(400) % 2 == 0)
    assert even["accuracy"] == pytest.approx(accuracy_score(labels[mine] > 0.5, predicted[mine] > 0.5))


def test_accuracy_against_margin_is_that_of_a_loop() -> None:
    pairs, predicted = random_pairs()
    figures = agreement.summary(pairs, predicted, bootstrap=5, seed=0)
    order = sorted(
        (abs(2 * probability - 1), (probability > 0.5) == (each.probability > 0.5))
        for each, probability in zip(pairs, predicted, strict=True)
        if each.probability != 0.5
    )
    start = 0
    for part in figures["by_margin"]:
        mine = order[start : start + part["decided"]]
        assert (part["lowest"], part["highest"]) == pytest.approx((mine[0][0], mine[-1][0]))
        assert part["accuracy"] == pytest.approx(sum(right for _, right in mine) / len(mine))
        start += part["decided"]
    assert start == len(order)
    sizes = {part["decided"] for part in figures["by_margin"]}
    assert len(figures["by_margin"]) == 5
    assert max(sizes) - min(sizes) <= 1


def test_predictions_of_one_half_count_half_and_ties_not_at_all() -> None:
    pairs = [pair(1, 1.0), pair(2, 0.0), pair(3, 0.5), pair(4, 1.0)]
    figures = agreement.summary(pairs, [0.5, 0.2, 0.9, 0.1], bootstrap=5, seed=0)
    assert (figures["decided"], figures["accuracy"]) == (3, 0.5)
    tied = agreement.summary([pair(1, 0.5)], [0.7], bootstrap=5, seed=0)
    assert "accuracy" not in tied
    assert tied["brier"] == pytest.approx(0.04)
    assert tied["by_margin"] == []


def test_people_agree_as_the_references_say(shared_data: Path) -> None:
    pairs = read_pairs(str(shared_data / PANDALM))
    people = agreement.annotators(pairs)
    rows = json.loads(gzip.decompress((shared_data / PANDALM).read_bytes()))
    said = [[row[f"annotator{n}"] for row in rows] for n in (1, 2, 3)]
    two = list(combinations(said, 2))
    assert people["annotators"] == 3
    assert people["same"] == pytest.approx(np.mean([accuracy_score(*each) for each in two]))
    assert people["kappa"] == pytest.approx(np.mean([cohen_kappa_score(*each) for each in two]))
    worth = {1: 1, 2: -1, 0: 0}
    right = decided = 0.0
    for one, other, another in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        for row in range(len(rows)):
            rest = worth[said[other][row]] + worth[said[another][row]]
            if rest:
                decided += 1
                right += (1 + np.sign(rest) * worth[said[one][row]]) / 2
    assert people["one_against_others"] == pytest.approx(right / decided)


def test_people_are_measured_only_where_all_pairs_have_votes() -> None:
    assert agreement.annotators([pair(1)]) == {}
    assert agreement.annotators(panel((1.0,), (0.0,))) == {}
    assert agreement.annotators([*panel((1.0, 0.0)), pair(2)]) == {}
    same = agreement.annotators(panel((1.0, 1.0), (1.0, 1.0)))
    assert (same["same"], same["kappa"], same["one_against_others"]) == (1, 1, 1)
    assert "one_against_others" not in agreement.annotators(panel((0.5, 0.5), (0.5, 0.5)))
    figures = agreement.summary(panel((1.0, 1.0), (1.0, 0.5)), [0.9, 0.2], bootstrap=5, seed=0)
    assert figures["by_annotators"]["unanimous"]["accuracy"] == 1
    assert figures["by_annotators"]["divided"]["accuracy"] == 0


def test_pandalm_is_read_row_by_row(shared_data: Path) -> None:
    pairs = read_pairs(str(shared_data / PANDALM))
    rows = json.loads(gzip.decompress((shared_data / PANDALM).read_bytes()))
    assert len(pairs) == len(rows) == 999
    for each, row in zip(pairs, rows, strict=True):
        votes = [{1: 1, 2: 0, 0: 0.5}[row[f"annotator{n}"]] for n in (1, 2, 3)]
        assert each.votes == tuple(votes)
        assert each.probability == pytest.approx(sum(votes) / 3)
        assert each.texts == (str(row["response1"]).strip(), str(row["response2"]).strip())
        [turn] = each.dialogue
        assert turn["content"].split() == f"{row['instruction']}\n\n{row['input']}".split()


def bare(text: str) -> str:
    """Without white space and speakers, since two turns in a row of one speaker are read as one."""
    return "".join(text.replace("Human:", "").replace("Assistant:", "").split())


def test_hh_rlhf_is_read_row_by_row(shared_data: Path) -> None:
    pairs = read_pairs(str(shared_data / HH))
    with gzip.open(shared_data / HH, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(pairs) == len(rows) == 1189
    for each, row in zip(pairs, rows, strict=True):
        assert each.probability == 1
        for text, answer in zip((row["chosen"], row["rejected"]), each.texts, strict=True):
            assert bare(text).endswith(bare(answer))
    assert all(len(each.first) == len(each.second) == 1 for each in pairs)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a"}, "line 1: neither chosen nor response1"),
        ({"instruction": "a", "response1": "b"}, "line 1: annotator1 is missing"),
        (
            {"instruction": "a", "response1": "b", "annotator1": 3},
            "line 1: annotator1 is 3; write 1, 2, or 0",
        ),
        ({"instruction": "a", "response1": "b", "annotator1": 1}, "line 1: response2 is missing"),
        (
            {"instruction": "a", "response1": "b", "response2": [], "annotator1": 1},
            "line 1: response2 is [], not text",
        ),
        (
            {"instruction": " ", "input": "", "response1": "b", "response2": "c", "annotator1": 1},
            "line 1: instruction is empty",
        ),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b"}, "line 1: rejected is missing"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: object, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(SolonError, match=r"pairs\.jsonl") as error:
        read_pairs(str(path))
    assert said in str(error.value)


def test_an_empty_packed_list_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none.json.gz"
    path.write_bytes(gzip.compress(b"[]"))
    with pytest.raises(SolonError, match="holds no rows"):
        read_pairs(str(path))


def test_the_command(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    scorer = tmp_path / "scorer"
    models.load_preference_model(str(tiny_model)).save_pretrained(scorer)
    models.load_tokenizer(str(tiny_model)).save_pretrained(scorer)
    file = tmp_path / "panda.json"
    votes = [(1, 1, 1), (2, 2, 1), (0, 0, 0), (1, 2, 0), (2, 2, 2)]
    rows = [
        {
            "instruction": f"Name {n} trees.",
            "input": "",
            "response1": "Oak.",
            "response2": "" if n == 0 else "None that I know.",
            **{f"annotator{k}": vote for k, vote in enumerate(each, 1)},
        }
        for n, each in enumerate(votes)
    ]
    file.write_text(json.dumps(rows))
    command = ["eval", "preferences", tiny_model, "--data", file, *TINY, "--zero-shot"]
    assert solon(*command, "--json", "--preference-model", scorer) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["comparisons"], shown["ties"]) == (5, 2)
    assert shown["judge"]["constitution"] == "helpful"
    assert shown["judge"]["decided"] == shown["preference-model"]["decided"] == 3
    assert shown["people"]["annotators"] == 3
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a?", "chosen": "yes", "rejected": "no"}) + "\n")
    assert solon("eval", "preferences", tiny_model, "--data", pairs, *TINY, "--zero-shot", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["judge"]["constitution"] == "harmless"
    assert "people" not in shown
    assert solon(*command) == 0
    assert "judge · by_margin" in capsys.readouterr().out
    assert "nothing to measure" in fails(capsys, "eval", "preferences", "--data", file)
