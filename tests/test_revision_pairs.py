"""A critic in the assistant's place, and pairs whose better answer is the other one's revision."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from solon import cli, constitution, pipeline, report
from solon.audit import audit
from solon.config import Config
from solon.inference import open_engine
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.stages import critique
from solon.store.record_file import RecordFile
from test_contrast import labelled, stops_until_labelled
from test_pipeline import config

LAWS = {"red-team": constitution.load("harmless"), "helpful": constitution.load("helpful")}
ANSWERED, REVISED = "02-critique/first-answers.jsonl", "02-critique/revisions.jsonl"
PAIRS, PREFERENCES = "04-comparison/pairs.jsonl", "05-feedback/preferences.jsonl"


@pytest.fixture(scope="module")
def critic(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the tiny model, with other weights."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "critic")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def settings(tiny_model: Path, critic: Path) -> Config:
    few = {"train": 5, "held_out": 1}
    return config(
        tiny_model,
        models={"critic": str(critic), "feedback": str(critic)},
        feedback={"method": "revision"},
        prompts={"generate": 0, "red_team": few, "helpful": few},
        # Long enough that some texts of a random model have a sentence's end.
        critique={"max_tokens": 80, "rounds": 1},
        comparison={"max_tokens": 80},
    )


@pytest.fixture(scope="module")
def finished(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(settings, tmp_path_factory.mktemp("runs") / "revision")


def test_the_assistant_answers_and_the_critic_revises(
    finished: Path, settings: Config, tiny_model: Path, critic: Path
) -> None:
    given = critique.texts(RecordFile(finished / ANSWERED))
    revised = RecordFile(finished / REVISED).read()
    assert {each["id"]: each["answer"] for each in revised} == {
        name: written.text for name, written in given.items()
    }
    work = Workspace(settings, finished, Watcher())

    seeds = {"first": work.seed("first answers", "02-critique"), "critique": work.seed("critique")}
    prompts = work.prompts("red-team", "train")
    by_model = {}
    for model in (tiny_model, critic):
        with open_engine(str(model), settings.engine) as engine:
            answers = critique.texts(critique.answer(engine, prompts, settings.critique, seeds["first"]))
            made = critique.revise(
                engine, prompts, LAWS["red-team"], settings.critique, seeds["critique"], given
            )
            by_model[model] = answers, {each["id"]: each for each in made}
    assert by_model[tiny_model][0] == given != by_model[critic][0]
    assert by_model[critic][1] == {each["id"]: each for each in revised} != by_model[tiny_model][1]


def test_a_pair_is_an_answer_of_the_assistant_and_its_revision(finished: Path) -> None:
    revised = {each["id"]: each for each in RecordFile(finished / REVISED)}
    helpful = {each["id"]: each for each in RecordFile(finished / "02-critique/helpful.jsonl")}
    pairs = RecordFile(finished / PAIRS).read()
    assert {each["set"] for each in pairs if "revised" in each} == {"red-team", "helpful"}
    for each in pairs:
        name, red_team = each["id"], each["set"] == "red-team"
        answer = revised[name]["answer"] if red_team else helpful[name]["messages"][-1]["content"]
        assert each["responses"][1] == answer
        if "revised" not in each:
            assert red_team and all(made["problem"] for made in revised[name]["rounds"])
            assert each["problem"] == "unrevised"
            continue
        how = each["revised"]
        assert each["responses"][0] == how["revision"]
        assert not red_team or how["revision"] == revised[name]["messages"][-1]["content"]
        known = {one.name: (one.critique_request, one.revision_request) for one in LAWS[each["set"]].critique}
        assert known[how["principle"]] == (how["critique_request"], how["revision_request"])
        assert not how["problem"] or each["problem"] == how["problem"]


def test_the_revision_is_the_chosen_answer(finished: Path) -> None:
    pairs = {each["id"]: each for each in RecordFile(finished / PAIRS) if not each["problem"]}
    preferences = RecordFile(finished / PREFERENCES).read()
    assert {each["id"] for each in preferences} == set(pairs)
    assert preferences
    for each in preferences:
        revision, answer = pairs[each["id"]]["responses"]
        assert (each["chosen"], each["rejected"]) == ([assistant(revision)], [assistant(answer)])
        assert (each["probability"], each["votes"], each["label_source"]) == (1.0, [], "revision")


def test_a_run_stopped_again_and_again_ends_the_same(
    finished: Path, settings: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    assert stops_until_labelled(settings, folder, after=25) > 1
    for file in (ANSWERED, REVISED, PAIRS, PREFERENCES):
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def test_the_report_names_the_critic(finished: Path, critic: Path) -> None:
    page = report.write(finished).read_text()
    assert f"<dt>Critic</dt><dd>{critic}</dd>" in page


def test_a_critic_is_an_input_of_critique(finished: Path, settings: Config, tmp_path: Path) -> None:
    folder, said = shutil.copytree(finished, tmp_path / "run"), []

    class Listening(Watcher):
        def say(self, text: str) -> None:
            said.append(text)

    alone = settings.model_copy(update={"models": settings.models.model_copy(update={"critic": None})})
    pipeline.run(alone, folder, Listening(), until="critique")
    assert any("models.critic" in text and "critique" in text for text in said)
    assert not (folder / ANSWERED).exists()


CHECK = "labels by a pair's making are those of pairs made so"
TAMPERINGS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "swapped answers": (
        PREFERENCES,
        lambda r: r.update(chosen=r["rejected"], rejected=r["chosen"]),
        "prefers the worse answer by its making",
    ),
    "another principle": (
        PAIRS,
        lambda r: r["revised"].update(revision_request="Make it ruder."),
        "under no principle of the constitution",
    ),
    "another revision": (
        PAIRS,
        lambda r: r["revised"].update(revision="Other."),
        "is of another revision",
    ),
    "a plain pair": (PAIRS, lambda r: r.pop("revised"), "was not made so"),
    "another source": (PREFERENCES, lambda r: r.update(label_source="contrast"), "has the source contrast"),
    "a judge": (PREFERENCES, lambda r: r.update(label_source="ai"), "feedback.method is revision"),
}


def test_an_untouched_run_passes_the_audit(finished: Path) -> None:
    labels, checks = audit(finished)
    assert [check for check in checks if check.status == "FAILED"] == []
    assert {each["label_source"] for each in labels} == {"revision"}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(finished: Path, tmp_path: Path, name: str) -> None:
    file, change, says = TAMPERINGS[name]
    run = shutil.copytree(finished, tmp_path / "run")
    records = RecordFile(run / file).read()
    labelled_ids = RecordFile(run / PREFERENCES).ids()
    change(next(record for record in records if record["id"] in labelled_ids))
    (run / file).unlink()
    RecordFile(run / file).append(*records)
    found = {each.name: each.says for each in audit(run)[1] if each.status == "FAILED"}
    assert says in found[CHECK]


def test_the_commands_answer_revise_and_label(
    tiny_model: Path,
    critic: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def solon(*arguments: str | Path) -> str:
        monkeypatch.setattr("sys.argv", ["solon", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                return capsys.readouterr().err
        return ""

    asked = tmp_path / "prompts.jsonl"
    asked.write_text("".join(json.dumps({"prompt": f"May I take {n} of them?"}) + "\n" for n in range(12)))
    answers, pairs, out = (tmp_path / f"{name}.jsonl" for name in ("answers", "pairs", "labels"))
    short = ("--set", "critique.max_tokens=6", "--set", "critique.few_shot=false")
    method = ("--set", "feedback.method=revision", *short)
    making = ("comparison", asked, pairs, "--model", critic, *method)
    assert "nothing to revise; give --revisions or --answers" in solon(*making)
    assert not solon("answer", asked, answers, "--model", tiny_model, "--set-name", "red-team", *short)
    given = {each["id"]: each["messages"][-1]["content"] for each in RecordFile(answers)}
    assert "nothing revises them" in solon(*making[:5], "--answers", answers)
    assert not solon(*making, "--answers", answers)
    made = {each["id"]: each for each in RecordFile(pairs)}
    assert {name: each["responses"][1] for name, each in made.items()} == given
    assert not solon("feedback", pairs, out, *method)
    assert RecordFile(out).ids() == {name for name, each in made.items() if not each["problem"]}
    revised = tmp_path / "revised.jsonl"
    assert not solon("critique", asked, revised, "--model", critic, "--answers", answers, *short)
    assert {each["id"]: each["answer"] for each in RecordFile(revised)} == given
    answers.write_text("\n".join(answers.read_text().splitlines()[1:]) + "\n")
    assert "has no answer to prompt" in solon(
        *making[:2], tmp_path / "more.jsonl", *making[3:], "--answers", answers
    )
