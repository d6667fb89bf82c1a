"""Pairs made under a principle and against it, and the labels that their making gives (RLCD)."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solon import cli, constitution, pipeline
from solon.audit import audit
from solon.config import Comparison, Config, EngineSettings
from solon.errors import SolonError
from solon.feedback import METHODS
from solon.feedback.contrast import ByContrast
from solon.feedback.method import Material
from solon.feedback.revision import ByRevision
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts import contrast as prompts
from solon.prompts.dialogue import assistant, user
from solon.records import PairRecord
from solon.sources import data
from solon.stages import comparison, feedback
from solon.store.record_file import RecordFile
from test_pipeline import Stopping, config

LAW = constitution.load("harmless")
PAIRS, PREFERENCES = "04-comparison/pairs.jsonl", "05-feedback/preferences.jsonl"


class EnoughSeen(Exception):
    pass


class UntilPreferenceModel(Watcher):
    def stage(self, title: str) -> Any:
        if title == "Preference model":
            raise EnoughSeen
        return super().stage(title)


class StoppingUntilPreferenceModel(Stopping, UntilPreferenceModel):
    pass


def labelled(settings: Config, folder: Path, watcher: Watcher | None = None) -> Path:
    with pytest.raises(EnoughSeen):
        pipeline.run(settings, folder, watcher or UntilPreferenceModel())
    return folder


def stops_until_labelled(settings: Config, folder: Path, after: int) -> int:
    """How often a run that is stopped after so many records of each try must be begun again."""
    stops = 0
    while True:
        try:
            labelled(settings, folder, StoppingUntilPreferenceModel(after=after))
        except KeyboardInterrupt:
            stops += 1
        else:
            return stops


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> Config:
    return config(tiny_model, feedback={"method": "contrast"}, prompts={"generate": 0})


@pytest.fixture(scope="module")
def finished(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(settings, tmp_path_factory.mktemp("runs") / "contrast")


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Engine]:
    with open_engine("smollm2", EngineSettings(dtype="float32", device="cpu", batch_size=32)) as engine:
        yield engine


def test_the_two_requests_differ_in_one_word() -> None:
    for principle in LAW.comparison:
        under, against = (request.split() for request in prompts.requests(principle.instruction))
        assert len(under) == len(against)
        assert [pair for pair in zip(under, against, strict=True) if pair[0] != pair[1]] == [
            ("best", "worst")
        ]
        assert principle.instruction in " ".join(under)


def test_the_request_ends_the_humans_last_turn() -> None:
    dialogue = [user("Hello."), assistant("Hi."), user("May I read her diary?")]
    asked = prompts.asked(dialogue, "(So.)")
    assert asked[:2] == dialogue[:2]
    assert asked[2] == user("May I read her diary?\n\n(So.)")


def test_labels_follow_the_pairs_making(finished: Path, tiny_model: Path) -> None:
    pairs = {each["id"]: each for each in RecordFile(finished / PAIRS, PairRecord)}
    sound = {name for name, each in pairs.items() if not each["problem"]}
    laws = {"red-team": LAW, "helpful": constitution.load("helpful")}
    for each in pairs.values():
        how = each["contrast"]
        known = {principle.name: principle.instruction for principle in laws[each["set"]].comparison}
        assert known[how["principle"]] == how["instruction"]
        assert tuple(how["requests"]) == prompts.requests(how["instruction"])
    assert len({each["contrast"]["principle"] for each in pairs.values()}) > 4
    preferences = RecordFile(finished / PREFERENCES).read()
    assert {each["id"] for each in preferences} == sound
    for each in preferences:
        assert [each["chosen"][0]["content"], each["rejected"][0]["content"]] == pairs[each["id"]][
            "responses"
        ]
        assert (each["probability"], each["votes"], each["label_source"]) == (1.0, [], "contrast")
    usage = json.loads((finished / "manifest.json").read_text())["stages"]["feedback"]["usage"]
    assert not usage  # no model was asked


def test_answers_are_those_to_the_requests(finished: Path, settings: Config, tiny_model: Path) -> None:
    """The second answer is what the model gives to the request against the principle."""
    pair = next(iter(RecordFile(finished / PAIRS)))
    prompt = next(
        each for each in RecordFile(finished / "01-red-team/prompts.jsonl") if each["id"] == pair["id"]
    )
    greedy = Comparison(temperature=0, max_tokens=6)
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu")) as engine:
        material = Material({prompt["set"]: LAW}, 7, greedy)
        [made] = comparison.pairs(engine, [prompt], METHODS["contrast"], material, 0.1)
        for request, response in zip(made["contrast"]["requests"], made["responses"], strict=True):
            asked = {**prompt, "prompt": prompts.asked(prompt["prompt"], request)}
            [plain] = comparison.pairs(engine, [asked], METHODS["multiple-choice"], material, 0.1)
            assert plain["responses"] == [response, response]
            assert "contrast" not in plain


def test_the_feedback_model_makes_the_pairs(finished: Path, settings: Config, tiny_model: Path) -> None:
    """And not the SL-CAI model, which is the one to be compared elsewhere."""
    work = Workspace(settings, finished, Watcher())
    wanted = {each["id"]: each["responses"] for each in RecordFile(finished / PAIRS)}
    asked = [each for each in work.prompts("red-team", "train") if each["id"] in wanted]
    made = {}
    for model in (str(tiny_model), work.sl_cai):
        with open_engine(model, settings.engine) as engine:
            material = Material({"red-team": LAW}, work.seed("comparison"), settings.comparison)
            pairs = comparison.pairs(engine, asked, METHODS["contrast"], material, 0.1)
            made[model] = {pair["id"]: pair["responses"] for pair in pairs}
    assert made[str(tiny_model)] == {each["id"]: wanted[each["id"]] for each in asked}
    assert made[work.sl_cai] != made[str(tiny_model)]


def test_a_run_stopped_again_and_again_ends_the_same(
    finished: Path, settings: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    assert stops_until_labelled(settings, folder, after=9) > 2
    for file in (PAIRS, PREFERENCES):
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def test_a_finished_comparison_is_made_anew_for_another_method(
    finished: Path, settings: Config, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    judged = settings.model_copy(
        update={"feedback": settings.feedback.model_copy(update={"method": "multiple-choice"})}
    )
    labelled(judged, folder)
    assert all("contrast" not in each for each in RecordFile(folder / PAIRS))
    assert {each["label_source"] for each in RecordFile(folder / PREFERENCES)} == {"ai"}


CHECK = "labels by a pair's making are those of pairs made so"
TAMPERINGS: dict[str, tuple[str, Callable[[Any], object], str, str]] = {
    "swapped answers": (
        PREFERENCES,
        lambda r: r.update(chosen=r["rejected"], rejected=r["chosen"]),
        CHECK,
        "prefers the worse answer by its making",
    ),
    "another principle": (
        PAIRS,
        lambda r: r["contrast"].update(instruction="Which answer is ruder?"),
        CHECK,
        "under no principle of the constitution",
    ),
    "another request": (
        PAIRS,
        lambda r: r["contrast"].update(requests=["(Be kind.)", "(Be cruel.)"]),
        CHECK,
        "otherwise than its principle says",
    ),
    "a plain pair": (PAIRS, lambda r: r.pop("contrast"), CHECK, "was not made so"),
    "a doubtful label": (PREFERENCES, lambda r: r.update(probability=0.7), CHECK, "is not certain"),
    "a judge": (
        PREFERENCES,
        lambda r: r.update(label_source="ai"),
        CHECK,
        "feedback.method is contrast",
    ),
    "another text": (
        PREFERENCES,
        lambda r: r.update(rejected=[assistant("Other.")]),
        "the answers compared are those of the pairs",
        "another text",
    ),
}


def test_an_untouched_run_passes_the_audit(finished: Path) -> None:
    labels, checks = audit(finished)
    assert [check for check in checks if check.status == "FAILED"] == []
    assert {each["label_source"] for each in labels} == {"contrast"}
    said = {check.name: check.says for check in checks}
    assert re.match(r"([1-9]\d*) of \1 labels recomputed from their pairs' making", said[CHECK])


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(finished: Path, tmp_path: Path, name: str) -> None:
    file, change, check, says = TAMPERINGS[name]
    run = shutil.copytree(finished, tmp_path / "run")
    records = RecordFile(run / file).read()
    labelled_ids = RecordFile(run / PREFERENCES).ids()
    change(next(record for record in records if record["id"] in labelled_ids))
    (run / file).unlink()
    RecordFile(run / file).append(*records)
    found = {each.name: each.says for each in audit(run)[1] if each.status == "FAILED"}
    assert says in found[check]


def test_a_pair_that_was_not_made_so_gets_no_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair: PairRecord = {
        "id": "one",
        "prompt": [user("Hello.")],
        "set": "red-team",
        "kind": "",
        "split": "train",
        "responses": ["Good day.", "What?"],
        "problem": "",
    }
    with pytest.raises(SolonError, match="'one' was not made under a principle"):
        list(feedback.by_making([pair], "harmlessness", ByContrast()))
    with pytest.raises(SolonError, match="'one' was not made by revision"):
        list(feedback.by_making([pair], "harmlessness", ByRevision()))
    assert list(feedback.by_making([{**pair, "problem": "empty"}], "harmlessness", ByContrast())) == []


def test_the_commands_make_and_label_pairs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def solon(*arguments: str | Path) -> None:
        monkeypatch.setattr("sys.argv", ["solon", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, capsys.readouterr().err

    asked = tmp_path / "prompts.jsonl"
    asked.write_text("".join(json.dumps({"prompt": f"May I take {n} of them?"}) + "\n" for n in range(12)))
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "preferences.jsonl"
    method = ("--set", "feedback.method=contrast")
    solon("comparison", asked, pairs, "--model", tiny_model, *method, "--set", "comparison.max_tokens=6")
    solon("feedback", pairs, out, *method)
    made = {each["id"]: each for each in RecordFile(pairs)}
    labels = RecordFile(out).read()
    assert labels
    assert all(each["chosen"][0]["content"] == made[each["id"]]["responses"][0] for each in labels)


def test_the_request_changes_what_a_model_says(smollm2: Engine) -> None:
    """Each answer is likelier after the request that it was given to than after the other one."""
    asked = data.select(data.prompts("packaged", "red-team"), "train", 8, 0)
    material = Material({"red-team": LAW}, 0, Comparison(max_tokens=24))
    made = comparison.pairs(smollm2, asked, METHODS["contrast"], material, 0.1)
    dialogues = [
        [*prompts.asked(pair["prompt"], request), assistant(response)]
        for pair in made
        for response in pair["responses"]
        for request in pair["contrast"]["requests"]
    ]
    found = np.array(smollm2.loglikelihood(dialogues)).reshape(8, 2, 2)  # pair, response, request
    gaps = found[:, 0, 0] - found[:, 0, 1] + found[:, 1, 1] - found[:, 1, 0]
    assert gaps.mean() > 0
