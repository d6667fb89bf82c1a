"""Weights of principles: what they make of votes, in a run from its beginning and in a relabelled one."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from audited import BASE, change, change_json, cover
from command import fails, solon
from same_bytes import merged
from solon import config, constitution, feedback, pipeline
from solon.audit import audit, failed
from solon.audit.again import for_first
from solon.audit.labels import ai_labels
from solon.audit.manifest import hashes
from solon.audit.run import Run
from solon.cli.relabel import tell
from solon.config import Config, Feedback
from solon.constitution import Constitution
from solon.evaluation.attribution import attribute, says
from solon.feedback import METHODS
from solon.feedback.method import turned
from solon.pipeline.relabel import relabel
from solon.pipeline.steps.feedback import votes_beside
from solon.pipeline.weighing import PAIRS, weigh_anew
from solon.pipeline.workbench import Workbench
from solon.progress import Watcher
from solon.records import ASPECT_OF, Aspect, Ballot, PreferenceRecord, Vote
from solon.stages import feedback as stages
from solon.store.record_file import RecordFile
from solon.store.run_folder import read

LABELS, ASIDE = "05-feedback/preferences.jsonl", "05-feedback/unlabelled.jsonl"
WEIGHTS = {"wise-person": 0.0, "three-aims": 0.0, "lawful": 3.0}


def vote(probability: float, principle: str = "calm", **more: Any) -> Vote:
    return Vote(
        principle=principle,
        instruction="Which?",
        probability=probability,
        orders=[probability],
        reasoning=[],
        samples=None,
        **more,
    )


def people(file: Path) -> str:
    rows = [
        {"prompt": f"Name {n} trees.", "chosen": f"Oak and {n}.", "rejected": "No.", "aspect": "harmlessness"}
        for n in range(12)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def settings(tiny_model: Path, folder: Path, **changes: Any) -> Config:
    """Two principles a pair, of three."""
    law = constitution.load("harmless")
    three = [each for each in law.comparison if each.name in WEIGHTS]
    some = law.model_copy(update={"comparison": three})
    (folder / "law.yaml").write_text(some.to_yaml())
    asked = {
        "constitution": str(folder / "law.yaml"),
        "models": {"assistant": str(tiny_model)},
        "feedback": {"principles": 2, "untrusted": str(tiny_model)},
        "evaluation": {"trust": people(folder / "people.jsonl")},
        "preference_model": {"helpfulness": "ai"},
    }
    return Config.model_validate(merged(merged(BASE, asked), changes))


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relabelled")
    pipeline.run(settings(tiny_model, folder), folder / "run", until="feedback")
    return folder / "run"


@pytest.fixture(scope="module")
def relabelled(run: Path) -> Path:
    asked = ["--weights", "lawful=3,three-aims=0", "--without", "wise-person"]
    assert solon("relabel", run, *asked) == 0
    return run.with_name("run-relabelled")


def by_id(file: Path) -> dict[str, Any]:
    return {record["id"]: record for record in RecordFile(file)}


def audited(run: Path) -> Run:
    return Run(run, read(run, kinds={}))


def weighed(votes: list[Any]) -> float:
    """The label of votes, written out once more."""
    weights = [vote.get("weight", 1) for vote in votes]
    return sum(w * vote["probability"] for w, vote in zip(weights, votes, strict=True)) / sum(weights)


def near(record: Any) -> Any:
    """The record with its numbers as pytest compares them."""
    if isinstance(record, float):
        return pytest.approx(record, abs=1e-9)
    if isinstance(record, list):
        return [near(each) for each in record]
    return {name: near(value) for name, value in record.items()} if isinstance(record, dict) else record


def test_weights_are_no_part_of_the_hash_and_1_is_no_weight() -> None:
    law = constitution.load("harmless")
    assert (
        law.content_hash == "5010dfcb95a031ee75469f1c894242df7ed39d7746e3d8b103b7e12546cb7341"
    )  # of before weights
    other = law.weighed({"lawful": 0.5})
    assert other.content_hash == law.content_hash
    assert not other.labels_as(law)
    assert other.weights == {"lawful": 0.5}
    assert other.unweighed == law
    assert "weight" not in law.to_yaml()
    assert Constitution.model_validate(yaml.safe_load(other.to_yaml())) == other


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ("-1", "comparison[1].weight is -1"),
        (".nan", "comparison[1].weight is nan"),
        ("heavy", "comparison[1].weight is 'heavy'"),
        ("yes", "comparison[1].weight is True"),
    ],
)
def test_what_is_no_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weight: str, says: str
) -> None:
    file = tmp_path / "law.yaml"
    entry = "- {name: %s, instruction: Which, weight: %s}\n"
    file.write_text("name: a\ncomparison:\n" + entry % ("a", 1) + entry % ("b", weight))
    assert says in fails(capsys, "constitution", "check", file)
    file.write_text("name: a\ncomparison:\n" + entry % ("a", 0) + entry % ("b", 0))
    assert "weight 0 under every principle" in fails(capsys, "constitution", "check", file)


def test_a_label_is_the_weighted_mean_of_its_votes() -> None:
    votes = [vote(0.9, weight=3.0), vote(0.2), vote(0.4, weight=0.0)]
    compare = METHODS["multiple-choice"]
    assert compare.label(votes, Feedback()) == pytest.approx((3 * 0.9 + 0.2) / 4)
    panel = [vote(0.9, judge="a", weight=3.0), vote(0.2, judge="a"), vote(0.3, judge="b", weight=3.0)]
    panel.append(vote(0.7, judge="b"))
    assert compare.label(panel, Feedback()) == pytest.approx(((2.7 + 0.2) / 4 + (0.9 + 0.7) / 4) / 2)
    both = METHODS["comparing-and-rating"]
    rated = vote(0.8, "rating", ratings=[1.0, 2.0])
    rated["orders"] = []
    how = Feedback(method="comparing-and-rating", comparing_weight=1, rating_weight=1, rating_sharpness=2)
    odds = [9.0 ** (3 / 4) * 0.25 ** (1 / 4), 1.0]  # of 0.9 and 0.2, three to one; of none that counts
    for some, odd in zip((votes, [vote(0.9, weight=0.0)]), odds, strict=True):
        told = both.label([*some, rated], how)
        assert told / (1 - told) == pytest.approx(odd * 2.718281828459045**2)
    clamped = how.model_copy(update={"chain_of_thought": True, "clamp": (0.4, 0.6)})
    told = both.label([vote(0.9, weight=3.0), vote(0.2), rated], clamped)
    assert told / (1 - told) == pytest.approx(1.5 ** (3 / 4) * 1.5 ** (-1 / 4) * 2.718281828459045**2)


def test_what_a_principle_did_goes_by_its_weight() -> None:
    votes = [vote(0.9, "a", weight=0.5), vote(0.4, "b", weight=3.0), vote(0.8, "c", weight=0.0)]
    votes.append(vote(0.9, "d"))
    label = weighed(votes)
    record = PreferenceRecord(votes=votes)  # type: ignore[typeddict-item]
    found = {each["principle"]: each for each in attribute([record])["principles"]}
    assert found["d"]["decided"] == 1
    assert found["d"]["moved"] == pytest.approx(label - (0.45 + 1.2) / 3.5)
    assert (found["c"]["moved"], found["c"]["decided"], found["c"]["dead"]) == (0, 0, "weighs nothing")
    assert any("weight 0" in sentence and "“c”" in sentence for sentence in says(attribute([record])))


def test_labels_are_those_of_a_run_under_these_weights(
    run: Path, relabelled: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Asked from the beginning; a label's votes are mirrored twice where it flips, which rounds."""
    bare = shutil.copytree(run, tmp_path / "bare")
    change_json(bare, lambda facts: [facts["stages"].pop(name) for name in ("feedback", "trust")])
    asked = config.load(relabelled / "config.yaml")
    pipeline.run(asked, tmp_path / "fresh", until="feedback", donors=[bare])
    for file in (LABELS, ASIDE, "trust/agreement.jsonl", "trust/labeller-harmlessness.jsonl"):
        fresh, made = (RecordFile(folder / file).read() for folder in (tmp_path / "fresh", relabelled))
        assert made == near(fresh)
        assert made
    entries = [
        json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "fresh", relabelled)
    ]
    for stage in ("feedback", "trust"):
        fresh, made = (entry["stages"][stage] for entry in entries)
        assert fresh["inputs"] == made["inputs"]
        assert [note for note in fresh["notes"] if note not in made["notes"]] == []
        assert made["usage"] == {}
        assert "no model was asked" in made["reused"]


def test_which_labels_flip_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of votes that are surer than a tiny model's: one principle is against every label."""
    sure = {"lawful": 0.8, "wise-person": 0.7, "three-aims": 0.4}
    decided = Path(shutil.copytree(run, tmp_path / "run"))

    def decide(records: list[Any]) -> None:
        for record in records:
            for each in record["votes"]:
                each["probability"] = sure.get(each["principle"], 0.6)
            record["probability"] = weighed(record["votes"])

    change(decided, LABELS, decide)
    (tmp_path / "weights.yaml").write_text(yaml.safe_dump({"wise-person": 0.0, "lawful": 0.1}))
    asked = ["relabel", decided, "--weights", tmp_path / "weights.yaml"]
    assert solon(*asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["changes"]) == ["harmlessness"]
    found = told["changes"]["harmlessness"]
    before, after = by_id(decided / LABELS), by_id(tmp_path / "run-relabelled" / LABELS)
    harm = {name for name, record in before.items() if record["aspect"] == "harmlessness"}
    votes = {name: {each["principle"] for each in before[name]["votes"]} for name in harm}
    flips = {name for name in harm if votes[name] != {"wise-person", "lawful"}}
    assert {flip["id"] for flip in found["diff"]["examples"]} == flips
    assert found["diff"]["flips"] == len(flips) > 0
    for flip in found["diff"]["examples"]:
        name = flip["id"]
        assert flip["preferred"] == before[name]["chosen"][0]["content"]
        assert flip["other"] == after[name]["chosen"][0]["content"]
        assert flip["probability_b"] == pytest.approx(1 - after[name]["probability"])
        assert (votes[name], pytest.approx(flip["probability_b"])) in [
            ({"wise-person", "three-aims"}, 0.4),
            ({"lawful", "three-aims"}, (0.1 * 0.8 + 0.4) / 1.1),
        ]
    tell(relabel(decided, tmp_path / "again", {"wise-person": 0.0, "lawful": 0.1}), tmp_path / "again")
    shown = capsys.readouterr().out
    assert all(name in shown for name in flips)
    assert f"'solon run {tmp_path / 'again'}'" in shown.replace("\n", "")


def test_weights_can_be_taken_back(run: Path, relabelled: Path, tmp_path: Path) -> None:
    """Pairs that were weighed out have kept their votes."""
    relabel(relabelled, tmp_path / "back", dict.fromkeys(WEIGHTS, 1.0))
    assert not (tmp_path / "back" / ASIDE).exists()
    assert RecordFile(tmp_path / "back" / LABELS).read() == near(RecordFile(run / LABELS).read())


def test_the_run_goes_on_with_the_preference_model(
    run: Path, relabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was audited of it before is audited still."""
    checks = audit(relabelled)[1]
    assert not failed(checks), [check for check in checks if not check.ok]
    assert "(weight 3.0)" in (relabelled / "report.html").read_text()
    copied = shutil.copytree(relabelled, tmp_path / "copy")
    manifest = json.loads((relabelled / "manifest.json").read_text())
    pipeline.run(config.load(relabelled / "config.yaml"), copied, until="preference-model")
    assert not (copied / "stale").exists()
    now = json.loads((copied / "manifest.json").read_text())["stages"]
    assert {name: now[name] for name in manifest["stages"]} == manifest["stages"]
    assert now["preference-model"]["status"] == "done"
    [linked] = [run / "03-sl-cai/model.safetensors"]
    assert linked.samefile(relabelled / "03-sl-cai/model.safetensors")


def forge_weight(records: list[Any]) -> None:
    record = next(each for each in records if len(each["votes"]) > 1)
    record["votes"][0]["weight"] = 9.0
    record["probability"] = weighed(record["votes"])


def forge_out(records: list[Any]) -> None:
    for each in records[0]["votes"]:
        each["principle"] = "lawful"


@pytest.mark.parametrize(
    ("file", "how", "wrong"),
    [
        (LABELS, forge_weight, "count otherwise than their principles do"),
        (ASIDE, forge_out, "votes that its constitution does not make so"),
    ],
)
def test_the_audit_finds_other_weights(
    relabelled: Path, tmp_path: Path, file: str, how: Any, wrong: str
) -> None:
    forged = shutil.copytree(relabelled, tmp_path / "run")
    change(forged, file, how)
    cover(forged)
    assert any(wrong in each for each in ai_labels(audited(forged)).wrong)


def test_weights_of_now_are_held_against_those_that_labelled(run: Path, tmp_path: Path) -> None:
    """Which have no part in the hash."""
    copied = shutil.copytree(run, tmp_path / "run")
    law = constitution.load(str(run.parent / "law.yaml")).weighed({"lawful": 2.0})
    (tmp_path / "law.yaml").write_text(law.to_yaml())
    text = (
        (copied / "config.yaml").read_text().replace(str(run.parent / "law.yaml"), str(tmp_path / "law.yaml"))
    )
    (copied / "config.yaml").write_text(text)
    told = hashes(audited(copied)).wrong
    assert any("the weights of constitution were all 1 and are {'lawful': 2.0}" in each for each in told)
    assert read(copied).law("harmlessness") is None


def test_a_run_takes_the_votes_of_one_that_weighed_otherwise(
    run: Path, relabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --reuse, as in a sweep over constitutions: nobody is asked."""
    asked = config.load(relabelled / "config.yaml").model_copy(update={"evaluation": config.Evaluation()})
    told: list[str] = []
    watcher = Watcher()
    monkeypatch.setattr(watcher, "say", told.append)
    monkeypatch.setattr("solon.pipeline.workbench.open_engine", lambda *_: pytest.fail("a model was asked"))
    pipeline.run(asked, tmp_path / "run", watcher, until="feedback", donors=[run])
    assert (tmp_path / "run" / LABELS).read_bytes() == (relabelled / LABELS).read_bytes()
    assert any("votes, which are weighed otherwise here" in each for each in told)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to weigh"),
        (["--without", "lawfull"], "called 'lawfull' (did you mean 'lawful'?); there are"),
        (["--weights", "lawful=-1"], "the weight of 'lawful' is -1"),
        (["--weights", "lawful=inf"], "the weight of 'lawful' is inf"),
        (["--weights", "lawful"], "no list of weights"),
        (["--weights", "lawful=1,lawful=2"], "twice"),
        (["--weights", "lawful=2", "--without", "lawful"], "both name 'lawful'"),
        (["--weights", "lawful=1"], "with these weights already"),
    ],
)
def test_what_cannot_be_weighed(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = sorted(run.parent.iterdir())
    assert says in fails(capsys, "relabel", run, *arguments, "--dir", run.parent / "no")
    assert sorted(run.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"feedback": {"method": "contrast"}}, "pairs were made under a principle and against it"),
        ({"feedback": {"method": "revision"}}, "nobody voted, since pairs were made"),
        ({"feedback": {"method": "rating"}}, "labelled by rating each answer by itself"),
        ({"preference_model": {"harmlessness": "people.jsonl"}}, "since people labelled the pairs"),
    ],
)
def test_methods_without_votes_say_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Mapping[str, Any], says: str
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    asked = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(asked, dict(changes))))
    change(folder, LABELS, lambda records: [record.update(votes=[]) for record in records])
    assert says in fails(capsys, "relabel", folder, "--without", "lawful")


def test_a_panel_is_weighed_by_its_ballots(run: Path, tmp_path: Path) -> None:
    """Of two judges, one of whom says the opposite of the other, and half as surely."""
    asked = config.load(run / "config.yaml")
    asked = asked.model_copy(update={"feedback": asked.feedback.model_copy(update={"panel": ["second"]})})
    names, pairs, panel = feedback.judges(asked), by_id(run / PAIRS), tmp_path / "panel"
    laws = Workbench(asked, Watcher()).laws
    ballots: dict[str, list[Ballot]] = {}
    for name, record in by_id(run / LABELS).items():
        votes = for_first(record, pairs[name])
        doubts: list[Any] = [turned(each) for each in votes]
        for each in doubts:
            each["probability"] = 0.25 + each["probability"] / 2
        ballots[name] = [
            Ballot(id=name, judge=judge, votes=said, problem="")
            for judge, said in zip(names, (votes, doubts), strict=True)
        ]
    for number in (1, 2):
        votes_beside(panel / LABELS, number).append(*(given[number - 1] for given in ballots.values()))
    RecordFile(panel / PAIRS).append(*pairs.values())

    def joined(name: str, laws: Mapping[Aspect, Constitution]) -> Any:
        pair = pairs[name]
        aspect = ASPECT_OF[pair["set"]]
        return stages.joined(pair, ballots[name], laws[aspect], aspect, asked.feedback)

    RecordFile(panel / LABELS).append(*(joined(name, laws) for name in ballots))
    under = {**laws, "harmlessness": laws["harmlessness"].weighed(WEIGHTS)}
    weigh_anew(panel, tmp_path / "new", asked, under)
    for given in ballots.values():  # as they are under these weights
        for ballot in given:
            for each in ballot["votes"]:
                if each["principle"] in WEIGHTS:
                    each["weight"] = WEIGHTS[each["principle"]]
    made = {**by_id(tmp_path / "new" / LABELS), **by_id(tmp_path / "new" / ASIDE)}
    assert made == {name: joined(name, under) for name in ballots}
    assert by_id(tmp_path / "new" / ASIDE)
    for name, record in by_id(tmp_path / "new" / LABELS).items():
        votes = for_first(record, pairs[name])
        label = sum(weighed([each for each in votes if each["judge"] == judge]) for judge in names) / 2
        assert record["probability"] == pytest.approx(max(label, 1 - label))
    shutil.copytree(panel / "04-comparison", tmp_path / "new/04-comparison")
    weigh_anew(tmp_path / "new", tmp_path / "back", asked, laws)
    assert (tmp_path / "back" / LABELS).read_bytes() == (panel / LABELS).read_bytes()
