"""The preference model's scores, given again where the model is here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from solon.audit.run import Found, Run
from solon.errors import SolonError
from solon.method import stage
from solon.prompts.dialogue import assistant
from solon.records import Message
from solon.reward_settings import PREFERENCE_MODEL
from solon.seeds import generator

SCORED = 64  # of each kind where ``again`` is no more: so an audit takes seconds
# Points by which a score may differ, and its share: of float32 on a CPU; of accelerators, whose training may
# have scored in bfloat16. A preference model tells two answers apart by a point or so.
TOLERANCE = {"cpu": 1e-3, "mps": 1e-2}
ELSEWHERE = 5e-2
REWARDS = "rewards"

# What it is of, the dialogue, the score that was recorded, and whether the last turn was cut off.
Scored = tuple[str, list[Message], float, bool]


def rescored(run: Run) -> Found:
    """A seeded draw of the scores in RL's samples and the evaluation's answers; all where there are few."""
    kinds = {REWARDS: in_samples(run), "scores of answers": in_answers(run)}
    recorded = sum(map(len, kinds.values()))
    if why := out_of_reach(run) if recorded else "":
        return Found(f"0 of {recorded} scores given again", (), [f"all of them, since {why}"])
    drawn = {kind: draw(run, kind, scored) for kind, scored in kinds.items()}
    asked = [each for of_kind in drawn.values() for each in of_kind]
    dialogues, cut_off = [dialogue for _, dialogue, *_ in asked], [cut_off for *_, cut_off in asked]
    count = len(drawn[REWARDS])
    now = score(run, dialogues[:count], cut_off[:count], in_rl=True)
    now += score(run, dialogues[count:], cut_off[count:])
    allowed = [tolerance(run, kind) for kind, of_kind in drawn.items() for _ in of_kind]
    wrong = [
        f"{what} has the score {was:.4f}, the preference model gives {is_now:.4f}"
        for (what, _, was, _), is_now, least in zip(asked, now, allowed, strict=True)
        if not math.isclose(was, is_now, rel_tol=least, abs_tol=least)
    ]
    given = ", ".join(f"{len(drawn[kind])} of {len(kinds[kind])} {kind}" for kind in kinds)
    rest = recorded - len(asked)
    unknown = [f"{rest} scores that were not drawn (solon audit --again N draws N of each)"] if rest else []
    return Found(f"{given} given again by the preference model", wrong, unknown)


def agreement(run: Run) -> Found:
    """The preference model's accuracy and Brier score on the comparisons held out, computed again."""
    said = run.folder.summary.get("preference_model") or {}
    held_out = [record for record in run.folder.preferences if record["split"] == "held-out"]
    counted = f"accuracy and Brier score on {len(held_out)} comparisons held out"
    if not run.done("evaluation"):
        return Found("no evaluation yet")
    if not run.folder.trained_on("preference-model"):
        return Found("no preference model was trained", ["it is said to have figures"] if said else ())
    if said.get("comparisons", 0) != len(held_out):
        return Found(counted, [f"they are said to be of {said.get('comparisons', 0)} comparisons"])
    if why := out_of_reach(run) if held_out else "":
        return Found(counted, (), [f"whether they are right, since {why}"])
    if len(held_out) > max(SCORED, run.again):
        return Found(
            counted, (), [f"whether they are right (solon audit --again {len(held_out)} scores all)"]
        )
    from solon.evaluation import preference

    both = ([*one["prompt"], *one[side]] for side in ("chosen", "rejected") for one in held_out)
    scores = score(run, list(both))
    chosen, rejected = scores[: len(held_out)], scores[len(held_out) :]
    now = preference.agreement(held_out, chosen, rejected, 1, 0)
    # An answer that is ahead by less than scores may differ counts for either side.
    allowed = tolerance(run)
    ties = sum(abs(one - other) < 2 * allowed for one, other in zip(chosen, rejected, strict=True))
    wrong = [
        f"{name} is said to be {one:.4f}, the preference model's scores make {other:.4f}"
        for name, one, other in figures(said, now)
        if abs(one - other) > allowed + (ties / len(held_out) if "accuracy" in name else 0)
    ]
    return Found(f"{counted} computed again", wrong)


def figures(said: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    if not now:
        return
    for name in ("accuracy", "brier"):
        yield name, said[name], now[name]
        for aspect, of_aspect in now["by_aspect"].items():
            if len(now["by_aspect"]) > 1 or name == "brier":
                yield f"{name} on {aspect}", said["by_aspect"][aspect][name], of_aspect[name]


def in_samples(run: Run) -> list[Scored]:
    return [
        (
            f"sample {one['id']}",
            [*one["prompt"], assistant(one["response"])],
            one["rewards"][PREFERENCE_MODEL] if "rewards" in one else one["reward"],
            one.get("truncated", False),
        )
        for one in run.folder.samples
        if PREFERENCE_MODEL in one.get("rewards", (PREFERENCE_MODEL,))
    ]


def in_answers(run: Run) -> list[Scored]:
    return [
        (
            f"{answer['model']}'s answer to {one['id']}",
            [*one["prompt"], assistant(answer["text"])],
            answer["preference_score"],
            False,
        )
        for one in run.folder.answers
        for answer in one["answers"]
        if answer["preference_score"] is not None
    ]


def draw(run: Run, kind: str, scored: Sequence[Scored]) -> list[Scored]:
    count = min(len(scored), max(SCORED, run.again))
    return generator(run.config.seed, "audit", kind).sample(scored, count)


def score(
    run: Run,
    dialogues: Sequence[Sequence[Message]],
    cut_off: Sequence[bool] | None = None,
    in_rl: bool = False,
) -> list[float]:
    """By the preference model, on weights in the type that they had ``in_rl`` where these are its scores."""
    if not dialogues:
        return []
    from solon import models  # these bring torch
    from solon.policy.preference_model import alone
    from solon.training import preference_scores

    name, size = str(folder(run)), run.config.preference_model.micro_batch_size
    model = alone(name, run.config.reinforce) if in_rl else models.load_preference_model(name, trained=True)
    scorer = model.to(models.best_device())
    return preference_scores.score(scorer, models.load_tokenizer(name), dialogues, size, cut_off)


def tolerance(run: Run, kind: str = "") -> float:
    """Of RL's rewards too: weights under adapters may be bfloat16, which processors round each their way."""
    rl = run.config.reinforce
    if kind == REWARDS and rl.lora and rl.weights != "float32":
        return ELSEWHERE
    return TOLERANCE.get((run.folder.manifest.get("engine") or {}).get("device", "cpu"), ELSEWHERE)


def folder(run: Run) -> Path:
    return run.path / stage("preference-model").folder


def out_of_reach(run: Run) -> str:
    """Why the preference model cannot be asked here; "" where it can."""
    if not list(folder(run).glob("*.safetensors")):
        return "the preference model is not here"
    import torch

    from solon.inference.memory import device_memory
    from solon.models import best_device, resolve, whole

    try:
        places = {folder(run), Path(resolve(whole(str(folder(run)))))}
    except SolonError as error:  # the model that its adapters are for
        return str(error)
    weights = sum(file.stat().st_size for place in places for file in place.glob("*.safetensors"))

    if 2 * weights > device_memory(torch.device(best_device())):
        return f"the preference model's {weights / 1e9:.0f} GB are too much for this machine"
    return ""
