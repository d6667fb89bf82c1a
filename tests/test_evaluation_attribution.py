"""What principles did to the labels, against plain recomputation from the votes."""

import itertools
import json
import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import run_folder
from command import fails, solon
from solon import constitution
from solon.evaluation.attribution import Attribution, attribute, changed, correlation, critiques, says
from solon.store.record_file import RecordFile
from solon.store.run_folder import read

NAMES = ["kind", "honest", "lawful", "brief", "brave"]
LAW = constitution.Constitution.model_validate(
    {
        "name": "five",
        "comparison": [
            {"name": name, "instruction": f"Which is more {name}?"} for name in [*NAMES, "silent"]
        ],
    }
)


def record(votes: dict[str, float], number: int = 0) -> Any:
    """A label with these votes for the first of two answers, turned as the stage turns it."""
    first = fmean(votes.values()) >= 0.5
    turned = {name: vote if first else 1 - vote for name, vote in votes.items()}
    return {
        "id": f"pair-{number}",
        "aspect": "harmlessness",
        "probability": fmean(turned.values()),
        "votes": [
            {"principle": name, "probability": vote, "orders": [vote]} for name, vote in turned.items()
        ],
    }


def simulate(count: int, contradict: bool, seed: int) -> list[Any]:
    """Three principles of five vote on every pair; "brief" may vote against what "kind" votes for."""
    rng, records = random.Random(seed), []
    for number in range(count):
        votes = {name: rng.betavariate(2, 2) for name in NAMES}
        if contradict:
            votes["brief"] = min(max(1 - votes["kind"] + rng.gauss(0, 0.1), 0), 1)
        records.append(record({name: votes[name] for name in rng.sample(NAMES, 3)}, number))
    return records


def by_name(found: Attribution) -> dict[str, Any]:
    return {each["principle"]: each for each in found["principles"]}


def test_a_vote_decides_where_the_label_turns_without_it() -> None:
    found = by_name(attribute([record({"kind": 0.9, "honest": 0.4, "lawful": 0.45})]))
    assert [found[name]["decided"] for name in ("kind", "honest", "lawful")] == [1, 0, 0]
    assert found["kind"]["moved"] == pytest.approx(1.75 / 3 - 0.425)
    assert found["honest"]["moved"] == pytest.approx(abs(1.75 / 3 - 0.675))
    tie = by_name(attribute([record({"kind": 0.7, "honest": 0.5})]))  # without kind: a tie
    assert (tie["kind"]["decided"], tie["honest"]["decided"]) == (1, 0)
    none = by_name(attribute([record({"kind": 0.5, "honest": 0.5 + 1e-9})]))  # a tie that rounding hides
    assert (none["kind"]["decided"], none["honest"]["decided"]) == (0, 0)


def test_votes_by_ratings_leave_the_principles_figures_as_they_are() -> None:
    records = simulate(50, contradict=True, seed=2)
    vote = {"principle": "rating", "probability": 0.1, "ratings": [1.0, 0.0]}
    rated = [{**each, "votes": [*each["votes"], vote]} for each in records]
    assert attribute(rated, LAW) == attribute(records, LAW)


def test_a_principle_alone_decides_against_no_other() -> None:
    found = attribute([record({"kind": 0.9}), record({"honest": 0.2})])
    for each in found["principles"]:
        assert (each["votes"], each["shared"], each["decided"], each["moved"]) == (1, 0, 0, None)
    assert found["relations"] == []
    assert "under one principle alone" in says(found)[0]


def test_the_figures_are_those_of_a_plain_recomputation() -> None:
    records = simulate(200, contradict=True, seed=1)
    found = by_name(attribute(records, LAW))
    for name in NAMES:
        decided, moves, leans = 0, [], []
        for each in records:
            votes = {vote["principle"]: vote["probability"] for vote in each["votes"]}
            if name not in votes:
                continue
            rest = [vote for other, vote in votes.items() if other != name]
            decided += each["probability"] > 0.5 and fmean(rest) <= 0.5
            moves.append(abs(each["probability"] - fmean(rest)))
            leans.append(abs(votes[name] - 0.5))
        assert found[name]["decided"] == decided
        assert found[name]["moved"] == pytest.approx(fmean(moves))
        assert found[name]["lean"] == pytest.approx(fmean(leans))
        assert found[name]["votes"] == found[name]["shared"] == len(moves)
    assert found["silent"]["dead"] == "never drawn"
    assert found["silent"]["lean"] is None


def test_correlation_is_pearsons_over_the_pairs_both_ways_round() -> None:
    rng = np.random.default_rng(2)
    one = rng.random(40)
    other = np.clip(1 - one + rng.normal(0, 0.2, 40), 0, 1)
    both = np.corrcoef(np.concatenate([one, 1 - one]), np.concatenate([other, 1 - other]))[0, 1]
    assert correlation(one, other) == pytest.approx(both)
    turned = rng.random(40) < 0.5  # which answer is first does not matter
    assert correlation(np.where(turned, 1 - one, one), np.where(turned, 1 - other, other)) == pytest.approx(
        both
    )
    assert correlation(one, np.full(40, 0.5)) is None


def test_relations_and_findings_are_those_of_plain_tests() -> None:
    records = simulate(300, contradict=True, seed=3)
    relations = attribute(records)["relations"]
    assert len(relations) == 10
    chances = []
    for each in relations:
        votes = [
            {vote["principle"]: vote["probability"] for vote in record["votes"]}
            for record in records
            if {each["one"], each["other"]} <= {vote["principle"] for vote in record["votes"]}
        ]
        one = [vote[each["one"]] > 0.5 for vote in votes]
        other = [vote[each["other"]] > 0.5 for vote in votes]
        assert each["pairs"] == len(votes)
        assert each["agreement"] == pytest.approx(accuracy_score(one, other))
        n, k = len(votes), round(accuracy_score(one, other) * len(votes))
        tail = sum(math.comb(n, i) for i in range(min(k, n - k) + 1)) / 2**n
        chances.append(min(1.0, 2 * tail if 2 * k != n else 1.0))
    # Benjamini & Hochberg: all up to the last whose chance is at most its rank's share of 5 %.
    ranked = sorted(chances)
    last = max((p for rank, p in enumerate(ranked, 1) if p < 0.05 * rank / len(ranked)), default=-1.0)
    for each, chance in zip(relations, chances, strict=True):
        assert bool(each["finding"]) == (chance <= last)
    found = {frozenset((each["one"], each["other"])): each["finding"] for each in relations}
    assert found[frozenset(("kind", "brief"))] == "contradict"
    assert "“kind”" in (sentence := says(attribute(records))[1])
    assert "contradict each other: of the" in sentence


def test_chance_alone_is_seldom_a_finding() -> None:
    runs = [attribute(simulate(120, contradict=False, seed=seed))["relations"] for seed in range(60)]
    wrong = sum(any(each["finding"] for each in relations) for relations in runs)
    assert wrong <= 8  # 5 % of 60 runs expected; the chance of more than 8 is 0.002


def test_that_the_label_puts_an_answer_first_makes_no_agreement() -> None:
    """Two unrelated votes, turned so that their mean is above one half, look alike unless that is undone."""
    rng = random.Random(4)
    records = [record({"kind": rng.random(), "honest": rng.random()}, number) for number in range(2000)]
    [relation] = attribute(records)["relations"]
    assert abs(relation["correlation"] or 0) < 0.05
    assert relation["agreement"] == pytest.approx(0.5, abs=0.03)


def test_undecided_and_idle_principles_are_dead() -> None:
    records = [record({"kind": 0.9, "honest": 0.51, "lawful": 0.8}, number) for number in range(6)]
    found = attribute(records, LAW)
    assert by_name(found)["honest"]["dead"] == "always undecided"
    assert by_name(found)["lawful"]["dead"] == "never decides"
    text = " ".join(says(found))
    assert "Never drawn: “brave”, “brief”, “silent”." in text
    assert "Never further than 0.02 from one half: “honest” (6 votes)." in text


def test_human_labels_have_no_principles() -> None:
    assert attribute([{**record({"kind": 0.9}), "votes": []}])["comparisons"] == 0
    assert says(attribute([])) == []


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ("a b c d", "a b c d", 0),
        ("a b c d", "e f g h", 1),
        ("a b c d", "a b x d", 0.25),
        ("a b", "a b c d", 1 / 3),
    ],
)
def test_the_share_of_words_changed(before: str, after: str, share: float) -> None:
    assert changed(before.split(), after.split()) == pytest.approx(share)


def test_critiques_follow_the_last_sound_revision() -> None:
    def round_(principle: str, revision: str, problem: str = "") -> dict[str, str]:
        return {"principle": principle, "revision": revision, "problem": problem}

    rounds = [round_("gentle", "one two"), round_("firm", "", "empty"), round_("firm", "one three four five")]
    [firm, gentle] = critiques([{"answer": "one two three four", "rounds": rounds}])  # type: ignore[typeddict-item,list-item]
    assert (gentle["principle"], gentle["drawn"], gentle["sound"]) == ("gentle", 1, 1)
    assert gentle["changed"] == pytest.approx(1 - 2 * 2 / 6)
    assert (firm["drawn"], firm["sound"], firm["words_before"], firm["words_after"]) == (2, 1, 2, 4)
    assert firm["changed"] == pytest.approx(1 - 2 * 1 / 6)  # against "one two", not the empty revision


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model", prompts=60)


def test_the_command_prints_what_the_records_hold(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solon("eval", "principles", finished, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    votes = [
        vote for each in RecordFile(finished / "05-feedback/preferences.jsonl") for vote in each["votes"]
    ]
    found = {each["principle"]: each["votes"] for each in shown["comparisons"]["harmlessness"]["principles"]}
    assert found == {
        name: sum(vote["principle"] == name for vote in votes) for name in run_folder.COMPARISONS
    }
    assert [each["drawn"] for each in shown["critiques"]]
    assert len(shown["comparisons"]["harmlessness"]["relations"]) == len(
        list(itertools.combinations(run_folder.COMPARISONS, 2))
    )
    assert solon("eval", "principles", finished) == 0
    assert "decided most" in capsys.readouterr().out


def test_a_constitution_that_changed_since_is_not_taken(finished: Path) -> None:
    run = read(finished)
    law = run.law("harmlessness")
    assert law is not None
    assert law.name == "harmless"
    path = finished / "constitution.yaml"
    text = path.read_text()
    path.write_text(text.replace("Wiser", "Wisest"))
    assert run.law("harmlessness") is None
    path.write_text(text)


def test_a_run_without_votes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert "no critique and no AI label yet" in fails(capsys, "eval", "principles", tmp_path)
