"""The whole method, stage by stage, from Python: python examples/method.py [MODEL] [FOLDER]

A sketch to build on: `solon.pipeline.run` does the same with records on disk, resuming and an evaluation.
With the embedded model it takes some minutes on two cores.
"""

import sys
from pathlib import Path

from solon import config, constitution
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference import open_engine
from solon.sources import data
from solon.stages import comparison, critique, examples, feedback, preference, reinforce, supervised


def main(model: str = "smollm2", folder: str = "runs/method") -> None:
    out, law, seed = Path(folder), constitution.load("harmless"), 0
    prompts = data.prompts("packaged", "red-team")[:12]
    short = {"max_tokens": 48, "temperature": 0.8}

    with open_engine(model, config.EngineSettings()) as assistant:
        revising = config.Critique(rounds=2, few_shot=False, **short)
        revisions = list(critique.revise(assistant, prompts, law, revising, seed))
    tuning = config.Supervised(batch_size=4, micro_batch_size=4)
    supervised.train(examples.gather(revisions, [], tuning), model, out / "sl-cai", tuning, seed, show)

    with open_engine(str(out / "sl-cai"), config.EngineSettings()) as tuned:
        material = Material({"red-team": law}, seed, config.Comparison(**short))
        pairs = list(comparison.pairs(tuned, prompts, METHODS["multiple-choice"], material, held_out=0))
    with open_engine(model, config.EngineSettings()) as judge:
        asking = config.Feedback(few_shot=False)
        labels = list(feedback.label(judge, pairs, law, "harmlessness", asking, seed))
    scoring = config.PreferenceModel(batch_size=4, micro_batch_size=4)
    preference.train(labels, model, out / "preference-model", scoring, seed, show)

    rl = config.Reinforce(steps=2, prompts_per_step=4, samples_per_prompt=2, micro_batch_size=8, **short)
    start, reward = str(out / "sl-cai"), str(out / "preference-model")
    reinforce.train(prompts, start, reward, out / "rl-cai", rl, seed, show)
    print(f"Talk to it: solon chat {out / 'rl-cai'}")


def show(step: int, steps: int, metrics: dict[str, float]) -> None:
    print(f"step {step} of {steps}:", ", ".join(f"{name} {value:.3g}" for name, value in metrics.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
