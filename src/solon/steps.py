"""What each stage reads from the run folder and leaves there. ``STAGES`` has them in the method's order."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from solon import config, launch
from solon.config import SERVER_MODEL
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation import preference as preference_evaluation
from solon.evaluation import tournament
from solon.feedback import METHODS
from solon.feedback.made import ByMaking
from solon.feedback.method import Material
from solon.inference.engine import Engine
from solon.prompts.dialogue import assistant
from solon.records import (
    Aspect,
    Message,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    PromptSet,
    Split,
)
from solon.sources import data
from solon.sources.tables import HUB, source_name
from solon.stages import comparison, critique, examples, feedback, red_team
from solon.store.files import file_hash, write_atomically
from solon.workspace import Workspace

SETS: tuple[PromptSet, PromptSet] = ("red-team", "helpful")
ASPECTS: tuple[Aspect, Aspect] = ("harmlessness", "helpfulness")


class Done(NamedTuple):
    """What a finished stage leaves in the manifest."""

    records: int
    notes: list[str]


def check_data(work: Workspace) -> None:
    """Read all data that the run names, so that a broken row is told now and not after hours of work."""
    _prompts(work)
    if (source := work.config.preference_model.helpfulness) not in {None, "ai"}:
        data.comparisons(str(source), work.config.preference_model.held_out)


def _prompts(work: Workspace) -> list[PromptRecord]:
    settings = work.config.red_team
    prompts: list[PromptRecord] = []
    for prompt_set in SETS:
        source = settings.red_team if prompt_set == "red-team" else settings.helpful
        found = data.prompts(source.source, prompt_set)
        counts: list[tuple[Split, int | None]] = [("train", source.train), ("held-out", source.held_out)]
        for split, count in counts:
            prompts += data.select(found, split, count, work.seed("prompts", prompt_set, split))
    return prompts


def run_red_team(work: Workspace) -> Done:
    settings, prompts, notes = work.config.red_team, _prompts(work), []
    if settings.generate:
        generated = _generate(work, [record for record in prompts if record["set"] == "red-team"])
        prompts += generated
        notes.append(f"{len(generated)} of {settings.generate} red-team prompts asked for were generated.")
    return Done(len(work.complete("01-red-team/prompts.jsonl", prompts, lambda missing: missing)), notes)


def _generate(work: Workspace, seeds: Sequence[PromptRecord]) -> list[PromptRecord]:
    settings, file = work.config.red_team, work.file("01-red-team/generated.jsonl").recover()
    written = file.read()
    if len(written) < settings.generate:
        engine = work.engine(work.roles["assistant"])
        for record in red_team.write(engine, seeds, written, settings, work.seed("generate")):
            file.append(record)
            written.append(record)
            work.watcher.advance("generated", len(written), settings.generate)
    return written


def run_critique(work: Workspace) -> Done:
    model, settings = work.roles["assistant"], work.config.critique
    prompts = work.prompts("red-team", "train")
    answers = None
    if work.roles["critic"] != model:
        answers = _first_answers(work, prompts, model, settings)
    revisions = work.generate(
        "02-critique/revisions.jsonl",
        prompts,
        work.roles["critic"],
        partial(
            critique.revise,
            constitution=work.constitution,
            settings=settings,
            seed=work.seed("critique"),
            answers=answers,
        ),
    )
    helpful = work.generate(
        "02-critique/helpful.jsonl",
        work.prompts("helpful", "train"),
        model,
        partial(critique.answer, settings=settings, seed=work.seed("helpful")),
    )
    found = Counter(each["problem"] for record in revisions for each in record["rounds"])
    found.update(record["problem"] for record in helpful)
    sound = found.pop("", 0)
    notes = []
    if found:
        why = ", ".join(f"{count} {problem}" for problem, count in found.most_common())
        notes.append(
            f"{found.total()} of {sound + found.total()} revisions and helpful answers were degenerate after "
            f"{settings.attempts} attempts and are not trained on ({why})."
        )
    return Done(len(revisions) + len(helpful), notes)


def _first_answers(
    work: Workspace, prompts: Sequence[PromptRecord], model: str, settings: config.Critique
) -> dict[str, str]:
    """The answers, by the prompts' ids, that another model is to revise."""
    answers = work.generate(
        "02-critique/first-answers.jsonl",
        prompts,
        model,
        partial(critique.answer, settings=settings, seed=work.seed("first answers", "02-critique")),
    )
    return critique.texts(answers)


def run_supervised(work: Workspace) -> Done:
    settings = work.config.supervised
    mixed = work.complete(
        "03-sl-cai/examples.jsonl",
        examples.gather(
            work.file("02-critique/revisions.jsonl").read(),
            work.file("02-critique/helpful.jsonl").read(),
            settings,
        ),
        lambda missing: missing,
    )
    launch.train(
        "supervised",
        mixed,
        [work.roles["policy"]],
        Path(work.sl_cai),
        settings,
        work.seed("supervised"),
        work.training_progress(),
        work.config.scale.training,
    )
    return Done(len(mixed), [])


def run_comparison(work: Workspace) -> Done:
    prompts = work.prompts("red-team", "train")
    if work.config.preference_model.helpfulness == "ai":
        prompts += work.prompts("helpful", "train")
    method, asked = METHODS[work.config.feedback.method], work.config
    material = Material(
        laws=dict(zip(SETS, (work.constitution, work.helpful_labels), strict=True)),
        sampling=asked.comparison,
        critique=asked.critique,
        seed=work.seed("comparison"),
        revisions={each["id"]: each for each in work.file("02-critique/revisions.jsonl")},
        answers=critique.texts(work.file("02-critique/helpful.jsonl")),
    )
    pairs = work.generate(
        "04-comparison/pairs.jsonl",
        prompts,
        work.sl_cai if method.pairs_by == "sl-cai" else work.roles["feedback"],
        partial(
            comparison.pairs,
            method=method,
            material=material,
            held_out=asked.preference_model.held_out,
        ),
    )
    unusable = sum(bool(pair["problem"]) for pair in pairs)
    return Done(
        len(pairs),
        [f"{unusable} of {len(pairs)} pairs had identical, empty or degenerate answers and get no label."]
        if unusable
        else [],
    )


def run_feedback(work: Workspace) -> Done:
    pairs: list[PairRecord] = work.file("04-comparison/pairs.jsonl").read()
    settings, wanted = work.config.preference_model, [pair for pair in pairs if not pair["problem"]]
    human: list[PreferenceRecord] = []
    if settings.helpfulness == "ai":
        note = "No human helpfulness comparisons were given: AI feedback labelled helpfulness, too."
    elif settings.helpfulness is None:
        note = (
            "No human helpfulness comparisons were given, so the preference model learns harmlessness alone."
        )
    else:
        # Prompts that the models are evaluated on must not be trained on, whoever labelled them.
        evaluated = {data.folded(each["prompt"]) for name in SETS for each in work.prompts(name, "held-out")}
        human = [
            {**record, "split": "held-out"} if data.folded(record["prompt"]) in evaluated else record
            for record in data.comparisons(settings.helpfulness, settings.held_out)
        ]
        note = f"{len(human)} helpfulness comparisons were labelled by people ({human[0]['labeller']})."
    path, together = "05-feedback/preferences.jsonl", [*wanted, *human]
    method = METHODS[work.config.feedback.method]
    if isinstance(method, ByMaking):
        return Done(len(work.complete(path, together, partial(_made, method=method))), [note])
    laws = dict(zip(ASPECTS, (work.constitution, work.helpful_labels), strict=True))
    labels = work.generate(
        path,
        together,
        work.roles["feedback"],
        partial(_label, laws=laws, settings=work.config.feedback, seed=work.seed("feedback")),
        method.questions(work.config.feedback, len(work.constitution.comparison)),
        aside="05-feedback/unlabelled.jsonl",
    )
    notes = [note]
    if unlabelled := len(work.file("05-feedback/unlabelled.jsonl").read()):
        notes.append(
            f"{unlabelled} of {len(wanted)} pairs were too long for the feedback model and got no label "
            "(unlabelled.jsonl)."
        )
    return Done(len(labels), notes)


def _made(records: list[Any], method: ByMaking) -> Iterator[PreferenceRecord]:
    """Labels that the pairs' making gives; comparisons that people labelled stay as they are."""
    yield from (record for record in records if "label_source" in record)
    for prompt_set, aspect in tournament.ASPECTS.items():
        yield from feedback.by_making(
            (pair for pair in records if "responses" in pair and pair["set"] == prompt_set), aspect, method
        )


def _label(
    engine: Engine,
    records: list[Any],
    laws: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
) -> Iterator[PreferenceRecord | PairRecord]:
    """Labels of pairs, each by the rules of its aspect; comparisons that people labelled stay as they are."""
    yield from (record for record in records if "label_source" in record)
    for aspect, rules in laws.items():
        yield from feedback.label(
            engine,
            [pair for pair in records if "responses" in pair and tournament.ASPECTS[pair["set"]] == aspect],
            rules,
            aspect,
            settings,
            seed,
        )


def run_preference_model(work: Workspace) -> Done:
    records: list[PreferenceRecord] = work.file("05-feedback/preferences.jsonl").read()
    training = [record for record in records if record["split"] == "train"]
    launch.train(
        "preference",
        training,
        [work.roles["policy"]],
        Path(work.preference_model),
        work.config.preference_model,
        work.seed("preference model"),
        work.training_progress(),
        work.config.scale.training,
    )
    return Done(len(training), [])


def run_reinforce(work: Workspace) -> Done:
    settings = work.config.reinforce
    prompts = [prompt for prompt_set in SETS for prompt in work.prompts(prompt_set, "train")]
    figures = launch.train(
        "reinforce",
        prompts,
        [work.sl_cai, work.preference_model],
        Path(work.rl_cai),
        settings,
        work.seed("reinforce"),
        work.training_progress(),
        work.config.scale.training,
    )
    notes = []
    if "stopped_at_kl" in figures:
        notes.append(
            f"RL stopped at step {figures['step']:.0f} of {settings.steps}: its KL of "
            f"{figures['stopped_at_kl']:.1f} nats passed the limit of {settings.kl_limit:g}."
        )
    return Done(len(prompts), notes)


def run_evaluation(work: Workspace) -> Done:
    settings, seed = work.config.evaluation, work.seed("evaluation")
    prompts = [prompt for prompt_set in SETS for prompt in work.prompts(prompt_set, "held-out")]
    names = {"initial": work.roles["policy"], "sl-cai": work.sl_cai}
    kept = {f"rl-cai-{step}": str(folder) for step, folder in work.kept_policies.items()}
    texts = {
        model: _answers(work, model, name, prompts)
        for model, name in (names | kept | {"rl-cai": work.rl_cai}).items()
    }
    asked, prompts = len(prompts), tournament.answered_by_all(prompts, texts)
    ends = {model: of_model for model, of_model in texts.items() if model not in kept}
    records = tournament.side_by_side(prompts, ends, _scores(work, prompts, ends))
    work.complete("evaluation/answers.jsonl", records, lambda missing: missing)
    rules = dict(zip(ASPECTS, (work.constitution, work.helpful_evaluation), strict=True))
    judgements = work.generate(
        "evaluation/judgements.jsonl",
        tournament.matches(tournament.first_of_sets(prompts, settings.judged), texts, passing=kept),
        work.roles["feedback"],
        partial(tournament.play, constitutions=rules, settings=work.config.feedback, seed=seed),
        requests=2,  # both orders
        aside="evaluation/unjudged.jsonl",
    )
    ratings = {
        aspect: tournament.ratings(judgements, aspect, "initial", settings.bootstrap, seed)
        for aspect in ASPECTS
    }
    summary = {
        "elo": {aspect: list(map(dataclasses.asdict, each)) for aspect, each in ratings.items() if each},
        "rl_steps": {
            "sl-cai": 0,
            **dict(zip(kept, work.kept_policies, strict=True)),
            "rl-cai": work.rl_steps,
        },
        "preference_model": _preference_model(work, settings.bootstrap, seed),
    }
    write_atomically(work.folder / "evaluation/summary.json", json.dumps(summary, indent=2) + "\n")
    notes = [] if summary["preference_model"] else ["No comparison was held out from the preference model."]
    if len(prompts) < asked:
        notes.append(f"{asked - len(prompts)} of {asked} prompts were too long for a model and are left out.")
    if unjudged := len(work.file("evaluation/unjudged.jsonl").read()):
        notes.append(f"{unjudged} matches were too long for the feedback model (unjudged.jsonl).")
    return Done(len(records), notes)


def _answers(work: Workspace, model: str, name: str, prompts: Sequence[PromptRecord]) -> dict[str, str]:
    answers = work.generate(
        f"evaluation/{model}.jsonl",
        prompts,
        name,
        partial(tournament.answer, settings=work.config.evaluation, seed=work.seed("evaluation")),
    )
    return {each["id"]: each["text"] for each in answers if not each["problem"]}


def _scores(
    work: Workspace, prompts: Sequence[PromptRecord], texts: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, float]]:
    """The preference model's score of every model's answer, by model, then by prompt."""
    dialogues = [
        [*prompt["prompt"], assistant(of_model[prompt["id"]])]
        for of_model in texts.values()
        for prompt in prompts
    ]
    scores = iter(work.score(dialogues))
    return {model: {prompt["id"]: next(scores) for prompt in prompts} for model in texts}


def _preference_model(work: Workspace, bootstrap: int, seed: int) -> dict[str, Any]:
    held_out: list[PreferenceRecord] = [
        record for record in work.file("05-feedback/preferences.jsonl") if record["split"] == "held-out"
    ]

    def dialogues(answer: str) -> list[list[Message]]:
        return [[*record["prompt"], *record[answer]] for record in held_out]  # type: ignore[literal-required]

    scores = work.score([*dialogues("chosen"), *dialogues("rejected")]) if held_out else []
    chosen, rejected = scores[: len(held_out)], scores[len(held_out) :]
    return preference_evaluation.agreement(held_out, chosen, rejected, bootstrap, seed)


# What decides each stage's result


def source_hash(source: str | None) -> str:
    """The hash of a file that data comes from, "" for other sources. SolonError where the file is missing."""
    if source in {None, "packaged", "ai"} or str(source).startswith(HUB):
        return ""
    path = Path(str(source))
    if not path.is_file():
        raise SolonError(f"{path} does not exist; check the path of this source of data")
    return file_hash(path)


def _model(work: Workspace, role: str) -> dict[str, Any]:
    name = work.roles[role]
    found: dict[str, Any] = {f"models.{role}": name, f"models.{role}.hash": work.hashes[name]}
    if name.startswith(SERVER_MODEL):
        server = work.config.engine.openai
        found |= {f"engine.openai.{each}": getattr(server, each) for each in ("base_url", "mode", "votes")}
    return found


def _rules(name: str, rules: Constitution) -> dict[str, str]:
    return {name: rules.name, f"{name}.hash": rules.content_hash}


def red_team_inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.red_team
    return {
        "red_team": settings.model_dump(),
        "red_team.red_team.source": source_name(settings.red_team.source),
        "red_team.helpful.source": source_name(settings.helpful.source),
        "red_team.red_team.hash": source_hash(settings.red_team.source),
        "red_team.helpful.hash": source_hash(settings.helpful.source),
        **(_model(work, "assistant") if settings.generate else {}),
    }


def critique_inputs(work: Workspace) -> dict[str, Any]:
    return {
        "critique": work.config.critique.model_dump(),
        **_rules("constitution", work.constitution),
        **_model(work, "assistant"),
        **(_model(work, "critic") if work.config.models.critic else {}),
    }


def supervised_inputs(work: Workspace) -> dict[str, Any]:
    return {"supervised": work.config.supervised.model_dump(), **_model(work, "policy")}


def comparison_inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.preference_model
    return {
        "comparison": work.config.comparison.model_dump(),
        "preference_model.held_out": settings.held_out,
        "preference_model.helpfulness": source_name(settings.helpfulness),
        **(_making(work) if METHODS[work.config.feedback.method].pairs_by == "feedback" else {}),
    }


def _making(work: Workspace) -> dict[str, Any]:
    """Of pairs whose making is the feedback."""
    return {
        "feedback.method": work.config.feedback.method,
        **_rules("constitution", work.constitution),
        **_rules("preference_model.helpfulness_constitution", work.helpful_labels),
        **_model(work, "feedback"),
    }


def feedback_inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.preference_model
    return {
        "feedback": work.config.feedback.model_dump(),
        "preference_model.helpfulness.hash": source_hash(settings.helpfulness),
        **_rules("constitution", work.constitution),
        **_rules("preference_model.helpfulness_constitution", work.helpful_labels),
        **_model(work, "feedback"),
    }


def preference_model_inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.preference_model
    return {
        "preference_model": settings.model_dump(),
        "preference_model.helpfulness": source_name(settings.helpfulness),
        **_model(work, "policy"),
    }


def reinforce_inputs(work: Workspace) -> dict[str, Any]:
    return {"reinforce": work.config.reinforce.model_dump()}


def evaluation_inputs(work: Workspace) -> dict[str, Any]:
    return {
        "evaluation": work.config.evaluation.model_dump(),
        **_rules("evaluation.helpfulness_constitution", work.helpful_evaluation),
        **_model(work, "feedback"),
    }


class Stage(NamedTuple):
    name: str
    title: str
    folder: str
    run: Callable[[Workspace], Done]
    inputs: Callable[[Workspace], Mapping[str, Any]]  # what decides its result, beside the stages before it


STAGES = (
    Stage("red-team", "Red-team prompts", "01-red-team", run_red_team, red_team_inputs),
    Stage("critique", "Critique and revision", "02-critique", run_critique, critique_inputs),
    Stage("supervised", "Supervised finetuning", "03-sl-cai", run_supervised, supervised_inputs),
    Stage("comparison", "Two answers a prompt", "04-comparison", run_comparison, comparison_inputs),
    Stage("feedback", "AI feedback", "05-feedback", run_feedback, feedback_inputs),
    Stage(
        "preference-model",
        "Preference model",
        "06-preference-model",
        run_preference_model,
        preference_model_inputs,
    ),
    Stage("reinforce", "Reinforcement learning", "07-rl-cai", run_reinforce, reinforce_inputs),
    Stage("evaluation", "Evaluation", "evaluation", run_evaluation, evaluation_inputs),
)
