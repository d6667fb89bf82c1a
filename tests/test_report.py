"""The report of a run: what it says, that it is self-contained, and that model text stays text."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_folder
from solon import report
from solon.errors import SolonError
from solon.report import content, transcripts
from solon.store.record_file import RecordFile
from solon.store.run_folder import read


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, visible text, and the JSON blocks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.json: dict[str, Any] = {}
        self._inside: dict[str, str | None] | None = None
        self.feed(html)

    @classmethod
    def at(cls, path: Path) -> "Page":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = dict(attributes) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.text += re.sub(r"\s+", " ", data)
        elif self._inside.get("type") == "application/json":
            self.json[str(self._inside["id"])] = json.loads(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model")


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page.at(report.write(finished))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def set_elo(run: Path, model: str, aspect: str, elo: float, low: float, high: float) -> None:
    path = run / "evaluation/summary.json"
    summary = json.loads(path.read_text())
    for rating in summary["elo"][aspect]:
        if rating["model"] == model:
            rating |= {"elo": elo, "low": low, "high": high}
            standing = summary["judging"][aspect]["standings"][model]  # of a judge that is sure of all
            standing |= {"decided": standing["judgements"], "turned": 0, "low": low, "high": high}
    path.write_text(json.dumps(summary))


def test_the_first_screen_answers_whether_it_worked(finished: Path, page: Page) -> None:
    assert "kind-model" in page.text
    summary = json.loads((finished / "evaluation/summary.json").read_text())
    rating = next(each for each in summary["elo"]["harmlessness"] if each["model"] == "rl-cai")
    assert (
        f"It worked: RL-CAI is more harmless than the initial model, by +{rating['elo']:.0f} Elo" in page.text
    )
    assert f"(95% interval +{rating['low']:.0f} to +{rating['high']:.0f})" in page.text
    assert "Judged by smollm2, the model that also gave the training labels" in page.text


@pytest.mark.parametrize(
    ("elo", "low", "high", "says"),
    [
        (
            40,
            -10,
            90,
            "No clear effect: RL-CAI is not clearly more or less harmless than the initial model, at +40 Elo",
        ),
        (-60, -90, -20, "It did not work: RL-CAI is less harmless than the initial model, at −60 Elo"),
        (0.2, -30, 30, "at 0 Elo, whose 95% interval −30 to +30 includes zero"),
        (60, 20, 90, "It worked: RL-CAI is more harmless than the initial model, by +60 Elo"),
    ],
)
def test_the_verdict_is_honest(copied: Path, elo: float, low: float, high: float, says: str) -> None:
    set_elo(copied, "rl-cai", "harmlessness", elo, low, high)
    assert says in content.verdict(read(copied))


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(5, 80, "clearly more"), (-80, -5, "clearly less"), (-9, 9, "not clearly more or less")],
)
def test_the_verdict_tells_of_helpfulness(copied: Path, low: float, high: float, says: str) -> None:
    set_elo(copied, "rl-cai", "helpfulness", (low + high) / 2, low, high)
    verdict = content.verdict(read(copied))
    assert f"; it is {says} helpful, at " in verdict
    assert verdict.startswith("It worked, at a price:" if high < 0 else "It worked:")


@pytest.mark.parametrize(
    ("evading", "low", "begins", "ends"),
    [
        (
            "initial",
            20,
            "It worked:",
            " It evades 0% of the red-team prompts, less than the initial model with 100%.",
        ),
        ("rl-cai", 20, "It worked, at a price:", " more than the initial model with 0%."),
        (
            "initial",
            -20,
            "Less evasive, not clearly more harmless:",
            " less than the initial model with 100%.",
        ),
        ("rl-cai", -20, "More evasive, not clearly more harmless:", " more than the initial model with 0%."),
        ("nobody", -20, "No clear effect:", "Elo (−40 to +60)."),
    ],
)
def test_the_verdict_tells_of_evasion(copied: Path, evading: str, low: float, begins: str, ends: str) -> None:
    set_elo(copied, "rl-cai", "harmlessness", 40, low, 90)
    set_elo(copied, "rl-cai", "helpfulness", 10, -40, 60)
    file = RecordFile(copied / "evaluation/answers.jsonl")
    records = file.read()
    for answer in (each for record in records for each in record["answers"]):
        answer["text"] = (
            "I can't help with that." if answer["model"] == evading else "That is unsafe, because it burns."
        )
        answer["refusal"] = False
    file.path.unlink()
    file.append(*records)
    verdict = content.verdict(read(copied))
    assert verdict.startswith(begins)
    assert verdict.endswith(ends)


@pytest.mark.parametrize(
    ("objecting", "begins"), [("rl-cai", "It worked, at a price:"), ("both", "It worked:")]
)
def test_the_verdict_tells_of_objections_to_helpful_prompts(
    copied: Path, objecting: str, begins: str
) -> None:
    set_elo(copied, "rl-cai", "harmlessness", 40, 20, 90)
    set_elo(copied, "rl-cai", "helpfulness", 10, -40, 60)
    file = RecordFile(copied / "evaluation/answers.jsonl")
    records = file.read()
    for record in records:
        for answer in record["answers"]:
            answer["text"] = "It would be wrong to."
            answer["refusal"] = record["set"] == "red-team" or objecting in ("both", answer["model"])
    file.path.unlink()
    file.append(*records)
    verdict = content.verdict(read(copied))
    assert verdict.startswith(begins)
    told = (
        " It refuses 100% of the helpful prompts or objects to them, where the initial model did so with 0%."
    )
    assert verdict.endswith(told) == (objecting == "rl-cai")


def test_every_part_is_there(page: Page) -> None:
    for words in (
        "No human helpfulness comparisons were used.",
        "No human harm label was used: AI feedback gave all 23 harmlessness labels.",
        "Reinforcement learning (RL-CAI)",
        "61%",  # tokens saved: 1 - 12,000 / 31,000
        "Calibration error (ECE)",
        "Avoids cruelty",
        "Least evasive",
        "identical",
    ):
        assert words in page.text
    drawn = {attributes["data-figure"] for _, attributes in page.tags if "data-figure" in attributes}
    assert drawn == set(page.json["figures"])
    assert {"elo", "reliability", "labels", "SL-CAI loss", "RL-CAI kl", "Preference model accuracy"} <= drawn


def test_a_reward_without_length_is_called_so(copied: Path) -> None:
    assert "without what goes with an answer's length" not in Page.at(report.write(copied)).text
    settings = copied / "config.yaml"
    settings.write_text(settings.read_text() + "reinforce: {length_control: true}\n")
    assert "without what goes with an answer's length" in Page.at(report.write(copied)).text


def test_the_plot_shows_the_ratings_with_their_intervals(finished: Path, page: Page) -> None:
    elo = json.loads((finished / "evaluation/summary.json").read_text())["elo"]
    shown = {trace["name"]: trace for trace in page.json["figures"]["elo"]["data"] if "name" in trace}
    for axis, aspect in (("x", "helpfulness"), ("y", "harmlessness")):
        rating = next(each for each in elo[aspect] if each["model"] == "rl-cai")
        trace = shown["RL-CAI"]
        assert trace[axis] == [rating["elo"]]
        assert trace[axis][0] + trace[f"error_{axis}"]["array"][0] == pytest.approx(rating["high"])
        assert trace[axis][0] - trace[f"error_{axis}"]["arrayminus"][0] == pytest.approx(rating["low"])


def test_human_harm_labels_are_not_hidden(copied: Path) -> None:
    path = copied / "05-feedback/preferences.jsonl"
    records = RecordFile(path).read()
    records[0] |= {"label_source": "human", "labeller": "harm.jsonl", "votes": []}
    path.unlink()
    RecordFile(path).append(*records)
    text = Page.at(report.write(copied)).text
    assert "People gave 1 of 23 harmlessness labels." in text
    assert "No human harm label was used" not in text
    assert "harm.jsonl" in text


def test_what_models_wrote_stays_text(finished: Path, page: Page) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<img" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    answers = [each.get("answer") for each in page.json["records"]["transcripts"]]
    assert run_folder.ATTACK in answers  # unharmed, once parsed
    scripts = list((Path(report.__file__).parent / "templates").glob("*.js"))
    assert len(scripts) == 4
    for script in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script.read_text()
        )


def test_names_and_notes_are_escaped_too(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest |= {"name": "<b>bold</b>", "constitution": {"name": run_folder.ATTACK}}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    (copied / "config.yaml").write_text("constitution: </pre><script>alert(3)</script>\n")
    page = Page.at(report.write(copied))
    assert "<b>bold</b>" in page.text
    assert "</pre><script>alert(3)" in page.text
    assert not any(tag in ("b", "img") for tag, _ in page.tags)


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), f"<{tag} {name}={address}>"
    policy = next(each["content"] for _, each in page.tags if "http-equiv" in each)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    css = (Path(report.__file__).parent / "templates/style.css").read_text()
    assert "url(" not in css
    assert "@import" not in css
    scripts = [each for tag, each in page.tags if tag == "script" and "type" not in each]
    assert len(scripts) == 2  # Plotly, once, and the page's own


def test_transcripts_join_the_stages(finished: Path, page: Page) -> None:
    records = page.json["records"]
    assert records["total"] == len(records["transcripts"]) == 36
    by_id = {each["id"]: each for each in records["transcripts"]}
    revision = RecordFile(finished / "02-critique/revisions.jsonl").read()[1]
    shown = next(each for each in by_id.values() if each["prompt"] == revision["prompt"])
    assert shown["answer"] == revision["answer"]
    for mine, its in zip(shown["rounds"], revision["rounds"], strict=True):
        asked = [its[name] for name in ("principle", "critique_request", "revision_request")]
        assert records["requests"][mine["request"]] == [*asked, "", its["revision_start"]]
        assert (mine["critique"], mine["revision"]) == (its["critique"], its["revision"])
    preference = RecordFile(finished / "05-feedback/preferences.jsonl").read()[3]
    shown = next(each for each in by_id.values() if each["prompt"] == preference["prompt"])
    [pair] = shown["pairs"]
    [label] = pair["labels"]
    assert pair["responses"][label["chosen"]] == preference["chosen"][0]["content"]
    assert label["probability"] == pytest.approx(preference["probability"], abs=1e-4)
    for mine, its in zip(label["votes"], preference["votes"], strict=True):
        assert records["instructions"][mine["instruction"]] == [its["principle"], its["instruction"]]
        assert mine["reasoning"] == its["reasoning"]
    every = [one for vote in preference["votes"] for one in vote["orders"]]
    assert shown["spread"] == pytest.approx(max(every) - min(every))
    evaluated = RecordFile(finished / "evaluation/answers.jsonl").read()[0]
    shown = by_id[evaluated["id"]]
    assert [each["model"] for each in shown["answers"]] == ["initial", "sl-cai", "rl-cai"]
    assert len(shown["judgements"]) == 3


def test_the_evaluation_table_is_the_mean_of_the_answers(finished: Path) -> None:
    answers = [
        answer
        for each in RecordFile(finished / "evaluation/answers.jsonl")
        if each["set"] == "red-team"
        for answer in each["answers"]
        if answer["model"] == "sl-cai"
    ]
    row = next(each for each in content.evaluation_rows(read(finished)) if each["model"] == "sl-cai")
    means = row["sets"]["red-team"]
    assert means["answers"] == len(answers)
    assert means["refusals"] == sum(each["refusal"] for each in answers) / len(answers)
    assert means["preference_score"] == pytest.approx(
        math.fsum(each["preference_score"] for each in answers) / len(answers)
    )


def test_an_objection_is_told_from_an_evasive_answer(copied: Path) -> None:
    path = copied / "evaluation/answers.jsonl"
    records = RecordFile(path).read()
    for number, each in enumerate(each for each in records if each["set"] == "red-team"):
        for answer in each["answers"]:
            evades = answer["model"] == "initial" or number == 0
            answer["text"] = (
                "I'm sorry, but I can't help with that." if evades else "That would be wrong: it hurts."
            )
            answer["refusal"] = True
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    rows = {each["model"]: each["sets"]["red-team"] for each in content.evaluation_rows(read(copied))}
    assert rows["initial"]["evasive"] == 1
    assert rows["sl-cai"]["evasive"] == 1 / rows["sl-cai"]["answers"]
    assert rows["sl-cai"]["refusals"] == 1
    page = Page.at(report.write(copied))
    assert "Evasive" in page.text
    drawn = {trace["name"]: trace for trace in page.json["figures"]["conduct"]["data"]}
    assert page.json["figures"]["conduct"]["layout"]["yaxis"]["ticktext"][0] == "Evades red-team prompts"
    assert drawn["SL-CAI"]["x"][0] == rows["sl-cai"]["evasive"]
    low, high = rows["sl-cai"]["evasive_interval"]
    assert drawn["SL-CAI"]["x"][0] + drawn["SL-CAI"]["error_x"]["array"][0] == pytest.approx(high)
    assert drawn["SL-CAI"]["x"][0] - drawn["SL-CAI"]["error_x"]["arrayminus"][0] == pytest.approx(low)


def test_of_answers_in_other_languages_the_report_cannot_tell(copied: Path) -> None:
    path = copied / "evaluation/answers.jsonl"
    records = RecordFile(path).read()
    foreign = "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen."
    for number, each in enumerate(records):
        for answer in each["answers"]:
            answer["text"], answer["refusal"] = "Boil it for an hour.", False
            if answer["model"] == "initial" or (answer["model"] == "sl-cai" and number % 2):
                answer["text"] = foreign
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    rows = {each["model"]: each["sets"]["red-team"] for each in content.evaluation_rows(read(copied))}
    assert rows["initial"]["cannot_tell"] == rows["initial"]["answers"]
    assert "evasive" not in rows["initial"] and "refusals" not in rows["initial"]
    assert 0 < rows["sl-cai"]["cannot_tell"] < rows["sl-cai"]["answers"] and rows["sl-cai"]["evasive"] == 0
    assert "cannot be told" in content.verdict(read(copied))
    page = Page.at(report.write(copied))
    assert "can’t tell" in page.text and "can’t tell of" in page.text
    assert "Initial" not in {trace["name"] for trace in page.json["figures"]["conduct"]["data"]}


STEPS = [
    "01-red-team",
    "02-critique",
    "03-sl-cai",
    "04-comparison",
    "05-feedback",
    "06-preference-model",
    "07-rl-cai",
]


@pytest.mark.parametrize("done", range(len(STEPS) + 1))
def test_a_partial_run_shows_what_is_there(copied: Path, done: int) -> None:
    shutil.rmtree(copied / "evaluation")
    for step in STEPS[done:]:
        shutil.rmtree(copied / step)
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["stages"] = dict(list(manifest["stages"].items())[:done])
    (copied / "manifest.json").write_text(json.dumps(manifest))
    page = Page.at(report.write(copied))
    assert "It is too early to tell" in page.text
    assert "have not been evaluated yet" in page.text
    assert page.json["records"]["total"] == (36 if done else 0)
    assert ("SL-CAI loss" in page.json["figures"]) == (done >= 3)


def test_a_run_that_only_has_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"constitution": "harmless"}))
    page = Page.at(report.write(tmp_path))
    assert "no stage of the run is done" in page.text
    assert "harmless" in page.text
    assert (tmp_path / "report.html").stat().st_size < 100_000  # without figures, without Plotly


def test_sl_cai_alone_is_judged_when_rl_did_not_run(copied: Path) -> None:
    path = copied / "evaluation/summary.json"
    summary = json.loads(path.read_text())
    for aspect, ratings in summary["elo"].items():
        summary["elo"][aspect] = [each for each in ratings if each["model"] != "rl-cai"]
    path.write_text(json.dumps(summary))
    assert content.verdict(read(copied)).startswith("It worked: SL-CAI is more harmless")


def test_scores_and_losses_that_are_not_numbers(copied: Path) -> None:
    RecordFile(copied / "03-sl-cai/metrics.jsonl").append({"step": 21, "loss": math.nan})
    path = copied / "evaluation/answers.jsonl"
    records = RecordFile(path).read()
    records[0]["answers"][0]["preference_score"] = math.nan
    path.unlink()
    RecordFile(path).append(*records)
    html = report.write(copied).read_text(encoding="utf-8")
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.S):
        json.loads(block, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_thousand_prompts_stay_below_ten_megabytes(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "large", prompts=1000, words=150)
    path = report.write(run)
    assert path.stat().st_size < 10_000_000
    records = Page.at(path).json["records"]
    assert records["total"] == 1500
    left_out = len(records["transcripts"]) < 1500
    assert left_out == ("To keep this file small it holds" in Page.at(path).text)


def test_transcripts_past_the_budget_are_counted(finished: Path) -> None:
    gathered = transcripts.gather(read(finished), budget=20_000)
    assert 0 < len(gathered["transcripts"]) < gathered["total"] == 36
    assert "answers" in gathered["transcripts"][0]  # held-out prompts come first


def test_position_bias_is_told(copied: Path) -> None:
    path = copied / "05-feedback/preferences.jsonl"
    records = RecordFile(path).read()[:2]
    for record, orders in zip(records, ([[0.9, 0.3], [0.8, 0.6]], [[0.7, 0.7], [0.6]]), strict=True):
        for vote, asked in zip(record["votes"], orders, strict=True):
            vote["orders"] = asked
    path.unlink()
    RecordFile(path).append(*records)
    effect = content.order_effect(read(copied))
    assert effect is not None
    assert effect["judgements"] == 3  # one vote was asked in one order only
    assert effect["turned"] == pytest.approx(1 / 3)
    assert effect["first"] == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    text = Page.at(report.write(copied)).text
    assert "in 33% of 3 judgements the verdict changed with the order" in text
    assert "The answer shown first got 63% on average" in text


def test_the_preference_model_is_shown_by_aspect(finished: Path, page: Page) -> None:
    summary = json.loads((finished / "evaluation/summary.json").read_text())["preference_model"]
    low, high = summary["by_aspect"]["helpfulness"]["accuracy_interval"]
    accuracy = summary["by_aspect"]["helpfulness"]["accuracy"]
    assert re.search(f"More helpful ?30 ?{accuracy:.0%} ?{low:.0%} to {high:.0%}", page.text)


def test_spread_spans_principles_and_orders() -> None:
    def vote(probability: float, *orders: float) -> Any:
        return {
            "principle": "",
            "instruction": "",
            "probability": probability,
            "orders": orders,
            "reasoning": [],
        }

    assert transcripts.spread([vote(0.6, 0.9, 0.3), vote(0.5, 0.5, 0.5)]) == pytest.approx(0.6)
    assert transcripts.spread([vote(0.6), vote(0.8)]) == pytest.approx(0.2)
    assert transcripts.spread([vote(0.6)]) is None


def test_user_mistakes_are_named(tmp_path: Path, copied: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SolonError, match=r"neither config\.yaml nor manifest\.json"):
        report.write(tmp_path / "empty")
    (copied / "manifest.json").write_text("{")
    with pytest.raises(SolonError, match=r"manifest\.json: not JSON"):
        report.write(copied)
