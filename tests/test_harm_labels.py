"""Human labels of harm are told by what the rows are, whatever the file is called, at every door."""

import csv
import gzip
import html
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from command import fails
from solon import config, pipeline
from solon.audit import audit
from solon.errors import SolonError
from solon.planning import estimate
from solon.planning.workload import Assumptions
from solon.prompts.dialogue import assistant, user
from solon.records import PreferenceRecord
from solon.sources import data, harm_labels, harm_names, red_team_words
from solon.sources.data import comparisons, prompts
from solon.stages import preference
from solon.store.record_file import RecordFile
from test_pipeline import config as small

Rows = list[dict[str, Any]]

ASKED = "which answer helps more; asked in May by J. Doe"
CHECK = "people's helpfulness labels are not of harm"


def write(path: Path, rows: Rows) -> str:
    """As the ending of the path says."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def harmless_base(shared_data: Path) -> Rows:
    with gzip.open(shared_data / "hh-rlhf/harmless-base/test.even.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def pandalm(shared_data: Path) -> Rows:
    """People's helpfulness comparisons, by the majority of three."""
    rows: Rows = []
    with gzip.open(shared_data / "pandalm/testset-v1.json.gz", "rt") as file:
        for row in json.load(file):
            votes = [row[f"annotator{number}"] for number in (1, 2, 3)]
            first, second = (str(row["response1"]), str(row["response2"]))
            if votes.count(1) != votes.count(2):
                chosen, rejected = (first, second) if votes.count(1) > votes.count(2) else (second, first)
                prompt = f"{row['instruction']}\n\n{row['input'] or ''}"
                rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def helpful(count: int = 200) -> Rows:
    asked = [record["prompt"][-1]["content"] for record in prompts("packaged", "helpful")][:count]
    return [{"prompt": text, "chosen": f"Gladly: {text}", "rejected": "That is long."} for text in asked]


def harmful(refuses: str = "chosen") -> Rows:
    asked = [record["prompt"][-1]["content"] for record in prompts("packaged", "red-team")]
    other = "rejected" if refuses == "chosen" else "chosen"
    return [
        {"prompt": text, refuses: "I'm sorry, but I can't help with that.", other: "Of course. First of all,"}
        for text in asked
    ]


def passes(source: str, vouched_for: str | None = None) -> list[PreferenceRecord]:
    return comparisons(source, 0.1, vouched_for=vouched_for)


def refused(source: str, says: str, vouched_for: str | None = None) -> None:
    with pytest.raises(SolonError, match=says) as raised:
        comparisons(source, 0.1, vouched_for=vouched_for)
    assert "\n" not in str(raised.value)


# Real labels of harm, under another name and in other forms


def split(row: dict[str, Any]) -> tuple[str, str, str]:
    chosen, rejected = row["chosen"], row["rejected"]
    prompt, _, answer = chosen.rpartition("\n\nAssistant:")
    return prompt, answer.strip(), rejected.rpartition("\n\nAssistant:")[2].strip()


def lowered(rows: Rows) -> Rows:
    return [
        {
            "prompt": prompt.lower().replace("human:", "").strip(),
            "chosen": one.lower(),
            "rejected": two.lower(),
        }
        for prompt, one, two in map(split, rows)
    ]


def in_roles(rows: Rows) -> Rows:
    """The dialogue in one text, with other names of the roles."""
    return [
        {
            "instruction": prompt.replace("\n\nHuman:", "\n### User ").replace(
                "\n\nAssistant:", "\n### Bot "
            ),
            "chosen": one,
            "rejected": two,
        }
        for prompt, one, two in map(split, rows)
    ]


def as_messages(rows: Rows) -> Rows:
    return [
        {"prompt": [user(prompt.strip())], "chosen": [assistant(one)], "rejected": [assistant(two)]}
        for prompt, one, two in map(split, rows)
    ]


def turned_round(rows: Rows) -> Rows:
    return [{"chosen": row["rejected"], "rejected": row["chosen"]} for row in reversed(rows)]


def a_part(rows: Rows) -> Rows:
    return random.Random(1).sample(rows, 40)


def opened_alone(rows: Rows) -> Rows:
    """No more than the first question, as if it had one turn."""
    return [
        {"prompt": prompt.split("\n\nAssistant:")[0], "chosen": one, "rejected": two}
        for prompt, one, two in map(split, rows)
    ]


@pytest.mark.parametrize("name", ["helpful.jsonl.gz", "pairs.csv", "people.parquet"])
@pytest.mark.parametrize(
    "how", [lowered, in_roles, as_messages, turned_round, a_part, opened_alone], ids=lambda how: how.__name__
)
def test_known_labels_of_harm_are_refused_in_any_form(
    how: Callable[[Rows], Rows], name: str, shared_data: Path, tmp_path: Path
) -> None:
    rows = [row for row in how(harmless_base(shared_data)) if all(row.values())]
    if name.endswith(".csv") and how is as_messages:
        pytest.skip("CSV has no lists")
    says = r"\d+ of \d+ rows .* a public set of human labels of harm \(for instance (line|row) \d+, "
    refused(write(tmp_path / name, rows), says)
    refused(str(tmp_path / name), says, vouched_for=ASKED)  # no signature helps


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5])
def test_known_labels_of_harm_are_found_among_helpful_ones(
    share: float, shared_data: Path, tmp_path: Path
) -> None:
    good = pandalm(shared_data)
    hidden = random.Random(0).sample(harmless_base(shared_data), round(len(good) * share))
    rows = [*good, *hidden]
    random.Random(0).shuffle(rows)
    source = write(tmp_path / "mixed.jsonl", rows)
    refused(source, r"rows are from a public set of human labels of harm")
    _, finding = data.looked_at(source, 0.1)
    assert finding.known == pytest.approx(len(hidden), rel=0.3)
    if share > 0.1:
        assert finding.share == pytest.approx(share / (1 + share), abs=0.15)


def test_labels_of_harm_that_are_not_known_are_told_by_their_prompts(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words were fitted on these prompts; studies/harm_labels has the figures for others."""
    monkeypatch.setattr(red_team_words, "_known", frozenset)
    rows = harmless_base(shared_data)
    source = write(tmp_path / "helpful.jsonl", rows)
    refused(source, "prompts read like red-team prompts.* the chosen answer alone refuses", vouched_for=ASKED)
    few = write(tmp_path / "few.jsonl", rows[:60])  # too few to know which answers people preferred
    refused(few, r"few.jsonl: it can't be known .* sign for it in preference_model.vouched_for")
    assert len(passes(few, ASKED)) > 50


def test_helpfulness_comparisons_pass(shared_data: Path, tmp_path: Path) -> None:
    rows = pandalm(shared_data)
    assert len(passes(write(tmp_path / "pairs.jsonl", rows))) > 700
    for seed in range(5):
        passes(write(tmp_path / f"{seed}.jsonl", random.Random(seed).sample(rows, 60)))
    finding = data.looked_at(str(tmp_path / "pairs.jsonl"), 0.1)[1]
    assert (finding.refused, finding.doubt, finding.known, finding.lines) == ("", "", 0, ())


# What always can be looked at


def test_a_few_odd_prompts_pass(tmp_path: Path) -> None:
    rows = helpful() + harmful(refuses="rejected")[:4]
    assert len(passes(write(tmp_path / "pairs.jsonl", rows))) == len(rows)


def test_red_team_prompts_whose_better_answer_refuses_are_labels_of_harm(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", helpful(50) + harmful())
    refused(source, "the chosen answer alone refuses in 216 rows.* human harmlessness labels are never used")
    refused(source, "human harmlessness labels are never used", vouched_for=ASKED)


def test_many_better_answers_that_refuse_want_a_signature(tmp_path: Path) -> None:
    """Whatever they were asked: here red-team prompts whose words tell too little."""
    rows = [row | {"prompt": f"Question {number}?"} for number, row in enumerate(harmful()[:30])]
    source = write(tmp_path / "pairs.jsonl", helpful() + rows)
    refused(source, "it can't be known .* the chosen answer alone refuses in 30 rows, the rejected one in 0")
    assert len(passes(source, ASKED)) == 230
    passes(write(tmp_path / "few.jsonl", helpful() + rows[:8]))


def test_red_team_prompts_whose_better_answer_helps_want_a_signature(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", harmful(refuses="rejected"))
    refused(
        source, r"it can't be known whether people labelled harm there: \d+ of 216 prompts read like red-team"
    )
    assert len(passes(source, ASKED)) == 216


def test_prompts_in_another_language_want_a_signature(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"Wie koche ich ein Ei, das seit {number} Tagen im Kühlschrank liegt?",
            "chosen": "So.",
            "rejected": "?",
        }
        for number in range(30)
    ]
    source = write(tmp_path / "pairs.jsonl", rows)
    refused(source, "30 of 30 prompts are in no language that Solon can judge")
    assert len(passes(source, ASKED)) == 30


@pytest.mark.parametrize(
    "column",
    [
        "is_response_0_safe",
        "safer_response_id",
        "harm_category",
        "toxicity",
        "chosenHarmScore",
        "red_team_rating",
        "schädlich",
        "sécurité",
        "peligroso",
        "安全",
        "вредность",
    ],
)
def test_columns_that_name_harm_want_a_signature(column: str, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [row | {column: 1} for row in helpful(20)])
    refused(source, f"a column named {column}")
    assert len(passes(source, ASKED)) == 20


@pytest.mark.parametrize("column", ["helpfulness", "score", "surface", "length", "language", "annotator_id"])
def test_other_columns_pass(column: str, tmp_path: Path) -> None:
    passes(write(tmp_path / "pairs.jsonl", [row | {column: "3"} for row in helpful(20)]))


@pytest.mark.parametrize("value", ["harmless", "harmless-base", "Harmlessness"])
def test_rows_that_say_they_are_labels_of_harm_are_refused(value: str, tmp_path: Path) -> None:
    rows = helpful(20)
    source = write(tmp_path / "pairs.jsonl", [*rows[:19], rows[19] | {"category": value}])
    refused(source, r"1 of 20 rows say that they are labels of harmlessness \(for instance line 20\)", ASKED)


def test_what_stands_inside_a_column_is_looked_at_too(tmp_path: Path) -> None:
    rows = [row | {"meta": {"source": "hh", "ratings": {"is_safe": 1}}} for row in helpful(20)]
    refused(write(tmp_path / "nested.jsonl", rows), "a column named meta.ratings.is_safe")
    rows = [row | {"tags": ["en", "harmless-base"]} for row in helpful(20)]
    refused(write(tmp_path / "tags.jsonl", rows), "20 of 20 rows say that they are labels of harmlessness")


def test_a_preface_hides_nothing(tmp_path: Path) -> None:
    preface = "Our kitchen assistant explains recipes, spelling, algebra, Python functions and travel plans. "
    rows = harmful(refuses="rejected")
    plain = data.looked_at(write(tmp_path / "plain.jsonl", rows), 0.1)[1]
    hidden = [row | {"prompt": preface * 3 + row["prompt"]} for row in rows]
    found = data.looked_at(write(tmp_path / "prefaced.jsonl", hidden), 0.1)[1]
    assert found.red_team == plain.red_team > 20


@pytest.mark.parametrize("value", ["unsafe", "Safety", "self-harm", "Hate Speech", "red-team"])
def test_values_that_name_harm_want_a_signature(value: str, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [row | {"topic": value} for row in helpful(20)])
    refused(source, "20 of 20 rows have a value that names harm")


@pytest.mark.parametrize("value", ["cooking", "workplace safety", "toxicology", "how to stay safe at sea"])
def test_ordinary_values_pass(value: str, tmp_path: Path) -> None:
    passes(write(tmp_path / "pairs.jsonl", [row | {"topic": value} for row in helpful(20)]))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("datasets:PKU-Alignment/PKU-SafeRLHF", "mixes human harmlessness labels in"),
        ("datasets:pku-alignment/pku-saferlhf-30k:train", "mixes human harmlessness labels in"),
        ("datasets:someone/BeaverTails-copy", "mixes human harmlessness labels in"),
        ("datasets:Anthropic/hh-rlhf", "helpful part, datasets:Anthropic/hh-rlhf/helpful-base"),
        ("datasets:Anthropic/hh-rlhf/red-team-attempts", "mixes human harmlessness labels in"),
        ("datasets:Anthropic/hh-rlhf/helpful-base:harmless", "never used"),
    ],
)
def test_names_of_sets_are_refused_before_they_are_fetched(source: str, says: str) -> None:
    refused(source, says)


def test_names_that_may_be_of_harm_want_a_signature(tmp_path: Path) -> None:
    source = write(tmp_path / "toxicity_pairs.jsonl", helpful(20))
    refused(source, "the name .*toxicity_pairs.jsonl names harm or safety")
    assert len(passes(source, ASKED)) == 20
    assert not harm_names.known_set("Anthropic/hh-rlhf/helpful-base")
    (tmp_path / "safe").mkdir()
    passes(write(tmp_path / "safe" / "pairs.jsonl", helpful(20)))  # the folder says nothing


def test_a_card_that_speaks_of_harm_wants_a_signature(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", helpful(20))
    (tmp_path / "README.md").write_text("# My project\n\nIt is about harmless models.\n")
    passes(source)
    (tmp_path / "README.md").write_text(
        "---\ntask_categories: [other]\n---\nPeople chose the safer answer.\n"
    )
    refused(source, r"its card \(README.md\) speaks of harm or safety")


# The doors


def test_a_run_and_its_plan_are_refused_before_anything_is_done(tiny_model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", harmful(refuses="rejected"))
    asked = small(tiny_model, preference_model={"helpfulness": source})
    with pytest.raises(SolonError, match="it can't be known whether people labelled harm there"):
        pipeline.run(asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SolonError, match="it can't be known whether people labelled harm there"):
        estimate.plan(asked, Assumptions(), "smollm2")


def of_people(rows: Rows, **changes: Any) -> list[PreferenceRecord]:
    return [
        {
            "id": str(number),
            "prompt": [user(row["prompt"])],
            "chosen": [assistant(row["chosen"])],
            "rejected": [assistant(row["rejected"])],
            "probability": 1.0,
            "aspect": "helpfulness",
            "kind": "",
            "split": "train",
            "label_source": "human",
            "labeller": "people.jsonl",
            "votes": [],
            **changes,
        }  # type: ignore[misc]
        for number, row in enumerate(rows)
    ]


def trains(records: Sequence[PreferenceRecord], tiny_model: Path, out: Path, **settings: Any) -> None:
    asked = config.PreferenceModel(batch_size=4, micro_batch_size=4, **settings)
    preference.train(records, str(tiny_model), out, asked, 0, lambda *_: None)


def test_the_command_of_one_stage_and_python_refuse_labels_of_harm(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.jsonl"
    cases = [
        (
            of_people(helpful(8), aspect="harmlessness"),
            "8 of 8 comparisons are people's labels of harm",
        ),
        (of_people(harmful()), "the chosen answer alone refuses in 216 rows"),
        (
            of_people(harmful(), label_source="ai", labeller="me"),
            "the chosen answer alone refuses in 216 rows",
        ),
        (of_people(helpful(8), labeller="safety.jsonl"), "the name .*safety.jsonl names harm"),
    ]
    for records, says in cases:
        labels.unlink(missing_ok=True)
        RecordFile(labels).append(*records)
        out = tmp_path / "model"
        said = fails(capsys, "preference-model", labels, "--out", out, "--model", tiny_model)
        assert re.search(says, " ".join(said.split()))
        with pytest.raises(SolonError, match=says):
            trains(records, tiny_model, out)
        assert not out.exists()
    trains(of_people(helpful(8)), tiny_model, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").exists()


def test_a_signature_stands_in_the_manifest_and_the_audit_prints_it(tiny_model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", harmful(refuses="rejected")[:60])
    signed = {"helpfulness": source, "vouched_for": ASKED}
    folder = tmp_path / "run"
    pipeline.run(small(tiny_model, preference_model=signed), folder, until="feedback")
    told = json.loads((folder / "manifest.json").read_text())["human_labels"]
    assert told["vouched_for"] == ASKED
    assert told["source"] == "pairs.jsonl"
    assert told["in_doubt"]
    assert "read like red-team prompts" in told["says"]
    assert f"vouches for them: “{ASKED}”" in html.unescape((folder / "report.html").read_text())
    assert f"the user vouches for them: {ASKED!r}" in audited(folder, "unknown")
    Path(source).unlink()  # the records are looked at then
    assert "read like red-team prompts" in audited(folder, "unknown")
    for path in (folder / "config.yaml", folder / "manifest.json"):
        path.write_text(path.read_text().replace("J. Doe", "nobody"), encoding="utf-8")
        audited(folder, "FAILED" if path.name == "config.yaml" else "unknown")


def audited(folder: Path, status: str) -> str:
    check = next(check for check in audit(folder)[1] if check.name == CHECK)
    assert check.status == status
    return check.says


def test_the_audit_knows_labels_of_harm_again(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    """In a run whose file was exchanged behind its back."""
    source = write(tmp_path / "pairs.jsonl", helpful(40))
    folder = tmp_path / "run"
    pipeline.run(small(tiny_model, preference_model={"helpfulness": source}), folder, until="feedback")
    assert "as in helpful sets" in audited(folder, "ok")
    write(tmp_path / "pairs.jsonl", harmless_base(shared_data)[:40])
    assert "from a public set of human labels of harm" in audited(folder, "FAILED")


def test_the_words_are_hashes_and_few() -> None:
    path = Path(red_team_words.__file__).with_name("red_team_words.npz")
    assert path.stat().st_size < 100_000
    kept = red_team_words._kept()
    assert kept["words"].dtype == kept["runs"].dtype == "uint64"
    assert len(kept["weights"]) == len(kept["words"]) > 2000


def test_a_large_source_is_looked_at_in_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harm_labels, "ROWS", 50)
    _, finding = data.looked_at(write(tmp_path / "pairs.jsonl", helpful(200)), 0.1)
    assert (finding.rows, finding.looked_at) == (200, 50)
