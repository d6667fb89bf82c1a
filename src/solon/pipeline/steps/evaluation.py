"""What comes after the stages: the models against each other, and the preference model against its labels."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from solon.evaluation import preference as preference_evaluation
from solon.evaluation import tournament
from solon.pipeline.steps.inputs import of_model, of_rules
from solon.pipeline.workspace import Done, Workspace
from solon.prompts.dialogue import assistant
from solon.records import SETS, Message, PreferenceRecord, PromptRecord
from solon.store.files import write_atomically
from solon.texts.written import cut_note


def run(work: Workspace) -> Done:
    settings, seed, measured = work.config.evaluation, work.seed("evaluation"), work.measures_preference
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
    work.complete(work.file("evaluation/answers.jsonl"), records, lambda missing: missing)
    rules, how = work.evaluated_by, tournament.settings_of(work.config)
    judgements = work.generate(
        work.file("evaluation/judgements.jsonl"),
        tournament.matches(tournament.first_of_sets(prompts, settings.judged), texts, passing=kept),
        "judge",
        partial(tournament.play, constitutions=rules, settings=how, seed=seed),
        requests=tournament.questions(how, rules),
        aside=work.file("evaluation/unjudged.jsonl"),
    )
    drawing = settings.bootstrap, seed
    ratings = {aspect: tournament.ratings(judgements, aspect, "initial", *drawing) for aspect in rules}
    decided = {aspect: tournament.judging(judgements, aspect, "initial", *drawing) for aspect in rules}
    summary = {
        "elo": {aspect: list(map(dataclasses.asdict, elos)) for aspect, elos in ratings.items() if elos},
        "judging": {aspect: of_aspect for aspect, of_aspect in decided.items() if of_aspect},
        "qualities": {aspect: law.quality for aspect, law in rules.items()},
        "rl_steps": {
            "sl-cai": 0,
            **dict(zip(kept, work.kept_policies, strict=True)),
            "rl-cai": work.rl_steps,
        },
        "preference_model": _preference_model(work, settings.bootstrap, seed) if measured else {},
    }
    write_atomically(work.folder / "evaluation/summary.json", json.dumps(summary, indent=2) + "\n")
    notes = ["No comparison was held out from the preference model."]
    if not measured:
        notes = ["No preference model scored the answers, since none was trained."]
    elif summary["preference_model"]:
        notes = []
    answered = [answer for model in texts for answer in work.file(f"evaluation/{model}.jsonl")]
    notes += cut_note((answer.get("cut", "") for answer in answered), "evaluation.max_tokens")
    if len(prompts) < asked:
        notes.append(
            f"{asked - len(prompts)} of {asked} prompts got no answer of some model and are left out."
        )
    return Done(len(records), notes)


def _answers(work: Workspace, model: str, name: str, prompts: Sequence[PromptRecord]) -> dict[str, str]:
    answers = work.generate(
        work.file(f"evaluation/{model}.jsonl"),
        prompts,
        "policy",
        partial(tournament.answer, settings=work.config.evaluation, seed=work.seed("evaluation")),
        model=name,
    )
    return {answer["id"]: answer["text"] for answer in answers if not answer["problem"]}


def _scores(
    work: Workspace, prompts: Sequence[PromptRecord], texts: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, float]]:
    """The preference model's score of every model's answer, by model, then by prompt; {} without one."""
    if not work.measures_preference:
        return {}
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


def inputs(work: Workspace) -> dict[str, Any]:
    return {
        "evaluation": work.config.evaluation.model_dump(exclude={"trust", "trust_pairs"}),
        **of_rules("evaluation.helpfulness_constitution", work.helpful_evaluation),
        **of_model(work, "judge" if work.config.apart("judge", "feedback") else "feedback"),
    }
