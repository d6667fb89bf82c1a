"""Runs that were tampered with by someone who covers the traces, and sound runs, which raise no alarm.

Every forger here makes the manifest's hashes those of the forged files. What follows from other records is
found out by working it out again. What does not, such as a vote with all that it was made of, is "unknown",
and found out by asking the model anew.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from audited import RUNS, Runs, change, change_json, cover
from solon import constitution, marks
from solon.audit import audit
from solon.config import Config
from solon.evaluation import tournament
from solon.feedback.rating import ByRating, first_is_better
from solon.method import CHECKPOINT
from solon.seeds import derive_seed
from solon.store.record_file import RecordFile

PROMPTS = "01-red-team/prompts.jsonl"
REVISIONS = "02-critique/revisions.jsonl"
HELPFUL = "02-critique/helpful.jsonl"
EXAMPLES = "03-sl-cai/examples.jsonl"
PAIRS = "04-comparison/pairs.jsonl"
LABELS = "05-feedback/preferences.jsonl"
SAMPLES = "07-rl-cai/samples.jsonl"
METRICS = "07-rl-cai/metrics.jsonl"
ANSWERS = "evaluation/answers.jsonl"
JUDGEMENTS = "evaluation/judgements.jsonl"
SUMMARY = "evaluation/summary.json"

VOTES = "AI labels are votes"
MADE = "labels by a pair's making"
COMPARED = "the answers compared"
DRAWN = "prompts are those drawn"
TEXTS = "revisions and answers are what"
EXAMPLES_OF = "supervised examples"
PAIRS_OF = "pairs are what"
STEPS = "trainings took their steps"
REWARDS = "RL's rewards"
SCORES = "scores are the preference model's"
FIGURES = "the preference model's figures"
UNKEPT = "losses and RL's policies"
SIDE_BY_SIDE = "answers side by side"
JUDGED = "judgements follow"
ELO = "Elo scores follow"
SPLITS = "held-out comparisons"
MANIFEST = "the manifest fits"
HASHES = "files and models"
LEFT = "what stages left"
REPORT = "the report is"
REWARDED = "what rewarded RL's samples"
SAMPLES_ANEW = "votes on RL's samples are"
VOTES_ANEW = "votes are what the feedback model says"
JUDGEMENTS_ANEW = "judgements are what the judge says"
TEXTS_ANEW = "texts are what their models write"

EVERYTHING = 1000  # asked anew

Forgery = Callable[[Path], None]


def in_records(file: str, how: Callable[[list[Any]], object]) -> Forgery:
    return lambda run: change(run, file, how)


def in_each(file: str, how: Callable[[Any], object]) -> Forgery:
    return lambda run: change(run, file, lambda records: [how(record) for record in records])


def in_summary(how: Callable[[Any], object]) -> Forgery:
    return lambda run: change_json(run, how, SUMMARY)


def all_of(*forgeries: Forgery) -> Forgery:
    def forge(run: Path) -> None:
        for each in forgeries:
            each(run)

    return forge


def in_settings(stage: str, name: str, value: Any) -> Forgery:
    """In config.yaml, and in what the manifest says that the stage was done with."""

    def forge(run: Path) -> None:
        config(run, name, value)
        change_json(run, lambda manifest: manifest["stages"][stage]["inputs"].update({name: value}))

    return forge


def config(run: Path, name: str, value: Any) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    *sections, last = name.split(".")
    part = settings
    for section in sections:
        part = part[section]
    part[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


def counted(stage: str, change_by: int) -> Forgery:
    def forge(run: Path) -> None:
        def recount(manifest: Any) -> None:
            manifest["stages"][stage]["records"] += change_by

        change_json(run, recount)

    return forge


def replaced(old: str, new: str, *files: str) -> Forgery:
    """A text, wherever it is in the files."""

    def forge(run: Path) -> None:
        for file in files:
            text = (run / file).read_text()
            (run / file).write_text(text.replace(json.dumps(old, ensure_ascii=False), json.dumps(new)))

    return forge


def turn(label: Any) -> None:
    label["chosen"], label["rejected"] = label["rejected"], label["chosen"]


def praise(samples: list[Any]) -> None:
    """A comparison of the first sample made its victory, with its orders, its part and its reward."""
    vote = next(vote for vote in samples[0]["votes"] if "against" in vote)
    vote.update(probability=1.0, orders=[1.0])
    of_it = [each["probability"] for each in samples[0]["votes"] if "against" in each]
    samples[0]["rewards"]["comparison"] = sum(of_it) / len(of_it)
    samples[0]["reward"] = 2 * samples[0]["rewards"]["rating"] + samples[0]["rewards"]["comparison"]


def turn_whole(label: Any) -> None:
    """The label for the other answer, with all that its votes were made of."""
    turn(label)
    for vote in label["votes"]:
        vote["orders"] = vote["orders"][::-1]
        vote["reasoning"] = vote["reasoning"][::-1]
        vote["letters"] = [letters[::-1] for letters in vote["letters"]]


def sure(label: Any, *, votes: bool = False, orders: bool = False) -> None:
    """The label set to 1, or to the most that the clamp allows where its votes are made to say so."""
    label["probability"] = 0.51 if votes else 1.0
    for vote in label["votes"] if votes else []:
        vote["probability"] = 0.51
        if orders:
            vote["orders"] = [0.9, 0.9]


def rate(label: Any, readings: bool) -> None:
    for vote in label["votes"]:
        vote["ratings"] = [0.0, 4.0]
        vote["probability"] = label["probability"] = 1 / (1 + 2.718281828459045**-16)
        if readings:
            first, second = map(sum, zip(*vote["readings"], strict=True))
            vote["readings"] = [[0.0, 4.0] if first < second else [4.0, 0.0]] * 2


def swap_principle(record: Any) -> None:
    vote, law = record["votes"][0], constitution.load("harmless").comparison
    other = next(each for each in law if each.name != vote["principle"])
    vote.update(principle=other.name, instruction=other.instruction)


def revise(run: Path, text: str | None) -> None:
    """The first revision replaced, wherever it went; by the answer where ``text`` is None."""
    record = json.loads((run / REVISIONS).read_text().splitlines()[0])
    sound = [made["revision"] for made in record["rounds"] if not made["problem"]]
    old = sound[0] if sound else record["rounds"][0]["revision"]
    replaced(old, text or record["answer"], REVISIONS, EXAMPLES)(run)


def perturb(run: Path, folder: str) -> None:
    """Other weights, as of another training."""
    file = run / folder / "model.safetensors"
    weights = load_file(file)
    torch.manual_seed(1)
    save_file({name: value + 0.1 * torch.randn_like(value) for name, value in weights.items()}, file)


def refit(run: Path) -> None:
    """Elo scores as the judgements of now make them."""
    asked = Config.model_validate(yaml.safe_load((run / "config.yaml").read_text()))
    judgements = RecordFile(run / JUDGEMENTS).read()
    seed = derive_seed(asked.seed, "evaluation") % 2**31

    def fit(summary: Any) -> None:
        for aspect in summary["elo"]:
            fitted = tournament.ratings(judgements, aspect, "initial", asked.evaluation.bootstrap, seed)
            summary["elo"][aspect] = list(map(dataclasses.asdict, fitted))

    change_json(run, fit, SUMMARY)


def first(run: Path, file: str) -> Any:
    return RecordFile(run / file).read()[0]


def harm(record: Any) -> bool:
    return bool(record["aspect"] == "harmlessness")


def swapped(records: list[Any], field: str, one: int = 0, other: int = 1) -> None:
    records[one][field], records[other][field] = records[other][field], records[one][field]


# Of which run, what is done to it, which check says so, and what it says.
CAUGHT: dict[str, tuple[str, Forgery, str, str]] = {
    "all labels turned round": ("judged", in_each(LABELS, turn), VOTES, "letters"),
    "all ratings' labels turned round": ("rated", in_each(LABELS, turn), VOTES, "0 of|scale read"),
    "one label turned round": ("judged", in_records(LABELS, lambda r: turn(r[0])), VOTES, "letters"),
    "all labels set to 1": ("judged", in_each(LABELS, sure), VOTES, "not what its votes make"),
    "all labels and votes set to the most": (
        "judged",
        in_each(LABELS, lambda r: sure(r, votes=True)),
        VOTES,
        "probability is not what its orders",
    ),
    "all labels, votes and orders set": (
        "judged",
        in_each(LABELS, lambda r: sure(r, votes=True, orders=True)),
        VOTES,
        "letters' log-probabilities",
    ),
    "the clamp not applied": (
        "judged",
        in_each(
            LABELS,
            lambda r: [vote.update(probability=sum(vote["orders"]) / 2) for vote in r["votes"]],
        ),
        VOTES,
        "probability is not what its orders",
    ),
    "an order left out": (
        "judged",
        in_records(LABELS, lambda r: r[0]["votes"][0]["orders"].pop()),
        VOTES,
        "orders are 1, not 2",
    ),
    "another principle of the constitution": (
        "judged",
        in_records(LABELS, lambda r: swap_principle(next(filter(harm, r)))),
        VOTES,
        "other principles than were drawn",
    ),
    "a vote of another pair": (
        "judged",
        in_records(LABELS, lambda r: swapped([one for one in r if harm(one)], "votes")),
        VOTES,
        "other principles|letters|not what its votes",
    ),
    "ratings without their readings": (
        "rated",
        in_each(LABELS, lambda r: rate(r, False)),
        VOTES,
        "up and down",
    ),
    "the letters' prior left out": (
        "both",
        in_each(LABELS, lambda r: [vote.pop("prior", None) for vote in r["votes"]]),
        VOTES,
        "letters' log-probabilities",
    ),
    "comparing weighed otherwise": (
        "both",
        in_settings("feedback", "feedback.comparing_weight", 3.0),
        VOTES,
        "not what its votes make",
    ),
    "a label of helpfulness for a harm pair": (
        "judged",
        in_records(LABELS, lambda r: next(filter(harm, r)).update(aspect="helpfulness")),
        COMPARED,
        "its prompt is red-team",
    ),
    "a label inserted by hand": (
        "judged",
        all_of(in_records(LABELS, lambda r: r.append({**r[0], "id": "mine"})), counted("feedback", 1)),
        COMPARED,
        "mine is no sound pair",
    ),
    "a label twice": (
        "judged",
        all_of(in_records(LABELS, lambda r: r.append(r[0])), counted("feedback", 1)),
        COMPARED,
        "is there 2 times",
    ),
    "labels left out": (
        "judged",
        all_of(in_records(LABELS, lambda r: [r.pop(0), r.pop(0)]), counted("feedback", -2)),
        COMPARED,
        "has no label",
    ),
    "a comparison held out is trained on": (
        "judged",
        all_of(
            in_records(
                LABELS, lambda r: next(o for o in r if o["split"] == "held-out").update(split="train")
            ),
            counted("preference-model", 1),
        ),
        COMPARED,
        "another prompt, kind or split",
    ),
    "the worse of a contrast as the better": ("contrasted", in_each(LABELS, turn), MADE, "worse answer"),
    "a contrast under another principle": (
        "contrasted",
        in_records(PAIRS, lambda r: swapped(r, "contrast")),
        PAIRS_OF,
        "another contrast",
    ),
    "an answer as better than its revision": (
        "revised",
        all_of(in_each(PAIRS, lambda r: r["responses"].reverse()), in_each(LABELS, turn)),
        PAIRS_OF,
        "another responses",
    ),
    "another prompt than was drawn": (
        "judged",
        lambda run: replaced(
            json.loads((run / PROMPTS).read_text().splitlines()[0])["prompt"][0]["content"],
            "Who may read my diary?",
            PROMPTS,
            REVISIONS,
            EXAMPLES,
            PAIRS,
            LABELS,
            SAMPLES,
        )(run),
        DRAWN,
        "another prompt",
    ),
    "a prompt held out moved to training": (
        "judged",
        in_records(PROMPTS, lambda r: next(o for o in r if o["split"] == "held-out").update(split="train")),
        DRAWN,
        "another split",
    ),
    "rounds in another order": (
        "judged",
        in_each(REVISIONS, lambda r: r["rounds"].reverse()),
        TEXTS,
        "another rounds.0",
    ),
    "a critique under another principle": (
        "judged",
        in_records(
            REVISIONS, lambda r: r[0]["rounds"][0].update(principle=r[0]["rounds"][0]["principle"] + "s")
        ),
        TEXTS,
        "another rounds.0.principle",
    ),
    "a critique asked for otherwise": (
        "judged",
        in_records(REVISIONS, lambda r: r[0]["rounds"][0].update(critique_request="Be kind.")),
        TEXTS,
        "another rounds.0.critique_request",
    ),
    "two prompts' critiques exchanged": (
        "judged",
        in_records(REVISIONS, lambda r: swapped(r, "id")),
        TEXTS,
        "another",
    ),
    "a degenerate revision called sound": (
        "judged",
        in_records(
            REVISIONS,
            lambda r: next(m for o in r for m in o["rounds"] if m["problem"]).update(problem=""),
        ),
        TEXTS,
        "another rounds",
    ),
    "a revision replaced by the answer in the examples": (
        "judged",
        in_records(EXAMPLES, lambda r: r[0]["completion"][0].update(content="As I said.")),
        EXAMPLES_OF,
        "another completion",
    ),
    "examples in another order": (
        "judged",
        in_records(EXAMPLES, lambda r: r.reverse()),
        EXAMPLES_OF,
        "order",
    ),
    "an example left out": (
        "judged",
        all_of(in_records(EXAMPLES, lambda r: r.pop(0)), counted("supervised", -1)),
        EXAMPLES_OF,
        "is not there",
    ),
    "another preference model": ("judged", lambda run: perturb(run, "06-preference-model"), SCORES, "gives"),
    "a reward edited": ("judged", in_records(SAMPLES, lambda r: r[0].update(reward=9.0)), REWARDS, "step 1"),
    "a reward edited, and its step's": (
        "judged",
        all_of(
            in_records(SAMPLES, lambda r: r[0].update(reward=r[0]["reward"] + 8)),
            in_records(METRICS, lambda r: r[0].update(reward=r[0]["reward"] + 1)),
        ),
        SCORES,
        "sample 1/0",
    ),
    "an answer of RL edited": (
        "both",
        in_records(SAMPLES, lambda r: r[0].update(response="No.")),
        SCORES,
        "1/0",
    ),
    "a sample's reward and its part edited": (
        "rewarded",
        in_records(SAMPLES, lambda r: [r[0].update(reward=2.0), r[0]["rewards"].update(rating=1.0)]),
        REWARDED,
        "its votes make",
    ),
    "a sample's vote and all that it makes": ("rewarded", in_records(SAMPLES, praise), REWARDED, "letters'"),
    "a sample said to be unrated": (
        "rewarded",
        in_records(SAMPLES, lambda r: r[0].update(problem="filtered")),
        REWARDED,
        "a rating and a problem",
    ),
    "another weight": (
        "rewarded",
        in_settings("reinforce", "reinforce.reward.comparison", 3.0),
        REWARDED,
        "another reward than its parts",
    ),
    "a sample left out": ("contrasted", in_records(SAMPLES, lambda r: r.pop(0)), REWARDS, "7 samples"),
    "samples of other prompts": (
        "revised",
        in_records(SAMPLES, lambda r: swapped(r, "prompt_id", 0, 2)),
        REWARDS,
        "answers no training prompt|different prompts",
    ),
    "length control said to be off": (
        "rated",
        lambda run: config(run, "reinforce.length_control", False),
        MANIFEST,
        "length_control",
    ),
    "half of RL presented as all": (
        "judged",
        all_of(
            in_records(METRICS, lambda r: r.pop()), in_records(SAMPLES, lambda r: [r.pop() for _ in range(8)])
        ),
        STEPS,
        "took 1 steps, not 2",
    ),
    "another learning rate": (
        "contrasted",
        in_settings("reinforce", "reinforce.learning_rate", 1e-6),
        STEPS,
        "learning rate of 0.01",
    ),
    "another KL coefficient": (
        "judged",
        lambda run: config(run, "reinforce.kl_coefficient", 0.5),
        MANIFEST,
        "kl_coefficient",
    ),
    "a judgement flipped": (
        "judged",
        in_records(JUDGEMENTS, lambda r: r[0].update(probability=0.9)),
        JUDGED,
        "another probability",
    ),
    "a judgement left out": ("judged", in_records(JUDGEMENTS, lambda r: r.pop(0)), JUDGED, "is not there"),
    "answers exchanged between models": (
        "judged",
        in_each(ANSWERS, lambda r: swapped(r["answers"], "text", 0, -1)),
        SIDE_BY_SIDE,
        "another answers.0.text",
    ),
    "a refusal hidden": (
        "judged",
        in_each(ANSWERS, lambda r: r["answers"][-1].update(refusal=not r["answers"][-1]["refusal"])),
        SIDE_BY_SIDE,
        "refusal",
    ),
    "Elo edited": (
        "judged",
        in_summary(lambda s: s["elo"]["harmlessness"][0].update(elo=120.0)),
        ELO,
        "elo is 120.0",
    ),
    "a Brier score edited": (
        "judged",
        in_summary(lambda s: s["preference_model"].update(brier=0.01)),
        FIGURES,
        "brier is said to be 0.01",
    ),
    "comparisons held out kept from the figures": (
        "judged",
        in_summary(lambda s: s["preference_model"].update(comparisons=1)),
        FIGURES,
        "said to be of 1",
    ),
    "another seed": (
        "judged",
        all_of(
            lambda run: config(run, "seed", 7),
            lambda run: change_json(
                run,
                lambda m: [m.update(seed=7), [e["inputs"].update(seed=7) for e in m["stages"].values()]],
            ),
        ),
        VOTES,
        "other principles than were drawn",
    ),
    "a seed of the manifest alone": (
        "judged",
        lambda run: change_json(run, lambda m: m.update(seed=7)),
        MANIFEST,
        "seed 7, config.yaml 0",
    ),
    "another feedback model": (
        "judged",
        lambda run: change_json(run, lambda m: m["models"]["feedback"].update(name="larger")),
        MANIFEST,
        "feedback larger",
    ),
    "another number type": (
        "judged",
        lambda run: change_json(run, lambda m: m["engine"].update(dtype="bfloat16")),
        MANIFEST,
        "engine.dtype bfloat16",
    ),
    "an input's hash edited": (
        "judged",
        lambda run: change_json(
            run, lambda m: m["stages"]["feedback"]["inputs"].update({"constitution.hash": "0" * 64})
        ),
        HASHES,
        "recorded as both|constitution.hash",
    ),
    "a stage that never was": (
        "judged",
        lambda run: change_json(run, lambda m: m["stages"].pop("critique")),
        MANIFEST,
        "critique before it was not",
    ),
}


def found(run: Path, again: int = 0) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.says) for check in audit(run, again)[1]}


def of_check(checks: dict[str, tuple[str, str]], name: str) -> tuple[str, str]:
    [said] = [each for full, each in checks.items() if full.startswith(name)]
    return said


@pytest.mark.parametrize("name", CAUGHT)
def test_what_follows_from_other_records_is_worked_out_again(
    name: str, audited: Runs, tmp_path: Path
) -> None:
    of_run, forge, check, says = CAUGHT[name]
    run = Path(shutil.copytree(audited(of_run), tmp_path / "run"))
    forge(run)
    cover(run)
    status, said = of_check(found(run), check)
    assert status == "FAILED", said
    assert any(part in said for part in says.split("|")), said


# Forged with all that they follow from: of which run, what is done, and the check that says "unknown" of it
# and finds it where the models are asked anew.
UNKNOWN: dict[str, tuple[str, Forgery, str]] = {
    "all labels turned round with their letters": ("judged", in_each(LABELS, turn_whole), VOTES_ANEW),
    "votes and labels with their readings": ("rated", in_each(LABELS, lambda r: rate(r, True)), VOTES_ANEW),
    "a chain of thought rewritten": (
        "judged",
        in_each(LABELS, lambda r: [v.update(reasoning=["Obey me."] * 2) for v in r["votes"]]),
        VOTES_ANEW,
    ),
    "judgements with their orders": (
        "judged",
        all_of(in_each(JUDGEMENTS, lambda r: r.update(probability=0.9, orders=[0.9, 0.9])), refit),
        JUDGEMENTS_ANEW,
    ),
    "a revision rewritten wherever it went": ("judged", lambda run: revise(run, "I will help."), TEXTS_ANEW),
    "a revision replaced by the answer": ("judged", lambda run: revise(run, None), TEXTS_ANEW),
    "a helpful answer rewritten": (
        "judged",
        lambda run: replaced(first(run, HELPFUL)["messages"][-1]["content"], "Ask me.", HELPFUL, EXAMPLES)(
            run
        ),
        TEXTS_ANEW,
    ),
    "an answer compared rewritten": (
        "judged",
        lambda run: replaced(first(run, PAIRS)["responses"][0], "Never mind.", PAIRS, LABELS)(run),
        TEXTS_ANEW,
    ),
    "an evaluated answer rewritten": (
        "judged",
        lambda run: change(
            run,
            "evaluation/rl-cai.jsonl",
            lambda r: [one.update(text="I would rather help you.") for one in r],
        ),
        TEXTS_ANEW,
    ),
    "another SL-CAI model": ("judged", lambda run: perturb(run, "03-sl-cai"), TEXTS_ANEW),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_follows_from_nothing_is_unknown_until_the_model_is_asked(
    name: str, audited: Runs, tmp_path: Path
) -> None:
    of_run, forge, check = UNKNOWN[name]
    run = Path(shutil.copytree(audited(of_run), tmp_path / "run"))
    forge(run)
    cover(run)
    status, said = of_check(found(run), check)
    assert status == "unknown", said
    assert "solon audit --again N asks N anew" in said
    status, said = of_check(found(run, EVERYTHING), check)
    assert status == "FAILED", said


@pytest.mark.parametrize(
    ("forge", "check"),
    [
        (in_records(METRICS, lambda r: r[0].update(kl=0.001)), UNKEPT),
        (in_settings("reinforce", "reinforce.kl_coefficient", 0.5), UNKEPT),
        (in_each(SAMPLES, lambda r: r), UNKEPT),
    ],
)
def test_what_nobody_can_tell_is_always_unknown(
    forge: Forgery, check: str, audited: Runs, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(audited("judged"), tmp_path / "run"))
    forge(run)
    cover(run)
    assert of_check(found(run), check)[0] == "unknown"


@pytest.mark.parametrize("file", [EXAMPLES, METRICS, SUMMARY, "06-preference-model/config.json"])
def test_whoever_does_not_cover_the_traces_is_found_at_once(audited: Runs, tmp_path: Path, file: str) -> None:
    run = Path(shutil.copytree(audited("judged"), tmp_path / "run"))
    (run / file).write_text((run / file).read_text().replace(": ", ":  ", 1))
    status, said = of_check(found(run), LEFT)
    assert status == "FAILED"
    assert f"{file} has changed since" in said


def test_an_edited_report_and_one_of_other_records_are_told(audited: Runs, tmp_path: Path) -> None:
    run = Path(shutil.copytree(audited("judged"), tmp_path / "run"))
    assert of_check(found(run), REPORT) == ("ok", "report.html says what the records say")
    page = (run / "report.html").read_text()
    change(run, JUDGEMENTS, lambda r: r[0].update(principle="mine"))
    change_json(run, lambda m: m.update(name="another"))
    assert of_check(found(run), REPORT)[0] == "unknown"
    (run / "report.html").write_text(page.replace("judged", "judged best"))
    assert of_check(found(run), REPORT)[0] == "FAILED"


# Sound runs, which raise no alarm


@pytest.mark.parametrize("name", RUNS)
def test_a_sound_run_raises_no_alarm(name: str, audited: Runs) -> None:
    """Those that are not proven without their models are proven with them."""
    run = audited(name)
    checks = found(run)
    assert {full: said for full, (status, said) in checks.items() if status == "FAILED"} == {}
    unknown = {full for full, (status, _) in checks.items() if status == "unknown"}
    asked = {VOTES_ANEW, SAMPLES_ANEW, JUDGEMENTS_ANEW, TEXTS_ANEW}
    assert {full for full in unknown if not full.startswith((UNKEPT, *asked))} == set()
    checks = found(run, 2)
    assert {full: said for full, (status, said) in checks.items() if status == "FAILED"} == {}
    assert {full for full, (status, _) in checks.items() if status == "unknown"} == {UNKEPT}


def test_an_answer_rated_otherwise_by_rounding_in_another_match_raises_no_alarm(
    audited: Runs, tmp_path: Path
) -> None:
    """As in another batch: in half precision by far more."""
    run = shutil.copytree(audited("rated"), tmp_path / "run")
    settings = audited.settings("rated").feedback

    def rated_otherwise(judgements: list[Any]) -> None:
        judgement = next(each for each in judgements if "ratings" in each["votes"][0])
        [vote] = judgement["votes"]
        vote["readings"] = [[first + 0.002, second] for first, second in vote["readings"]]
        vote["ratings"] = [sum(both) / 2 for both in zip(*vote["readings"], strict=True)]
        vote["probability"] = first_is_better(*vote["ratings"], settings.rating_sharpness)
        judgement["probability"] = vote["probability"]
        judgement["orders"] = ByRating().either_way([vote], settings)

    change(run, JUDGEMENTS, rated_otherwise)
    assert of_check(found(run), JUDGED)[0] == "ok"


@pytest.mark.parametrize("name", ["both", "one-order"])
def test_a_run_of_before_raises_no_alarm(name: str, audited: Runs, tmp_path: Path) -> None:
    """It kept no letters or readings, no cuts, marks and hashes, and sealed no report."""
    run = Path(shutil.copytree(audited(name), tmp_path / name))

    def forget(record: Any) -> None:
        for part in [record, *record.get("votes", []), *record.get("rounds", []), record.get("revised", {})]:
            for later in ("letters", "prior", "readings", "cut"):
                part.pop(later, None)

    for file in (REVISIONS, HELPFUL, PAIRS, LABELS):
        change(run, file, lambda records: [forget(record) for record in records])
    change_json(
        run,
        lambda m: [entry.pop(name, None) for entry in m["stages"].values() for name in ("files", "mark")],
    )
    for folder in (each.parent for each in run.glob(f"0*/**/{CHECKPOINT}")):
        (folder / marks.FILE).unlink(missing_ok=True)
        if (folder / "config.json").exists():  # else it holds adapters
            change_json(folder, lambda settings: settings.pop(marks.KEY, None), "config.json")
    page = (run / "report.html").read_text()
    (run / "report.html").write_text(page[: page.rindex("\n<!-- SHA")])
    checks = found(run)
    assert {full: said for full, (status, said) in checks.items() if status == "FAILED"} == {}
    assert {of_check(checks, check)[0] for check in (VOTES, DRAWN, TEXTS, PAIRS_OF, LEFT, REPORT)} == {
        "unknown"
    }
