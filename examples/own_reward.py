"""An own reward: RL learns to use few different words. python examples/own_reward.py [MODEL] [FOLDER]

A configuration names such a function by its module, which is looked for in the working folder:

    reinforce: {reward: {rating: 1, "python:own_reward:plain": 0.2}}
"""

import sys
from pathlib import Path
from statistics import fmean

from solon import config
from solon.records import Message
from solon.sources import data
from solon.stages import reinforce
from solon.store.record_file import RecordFile

LONG = 7  # letters


def plain(prompts: list[list[Message]], answers: list[str]) -> list[float]:
    """The share of an answer's words that are not long: 1 where none is.

    ``prompts`` are the dialogues that the ``answers`` are to, as many, each ending in a human turn: a prompt
    comes once for each of its answers. One finite number is returned for each, the more the better. Called
    once a step, with the answers of all processes.
    """
    return [fmean(len(word) < LONG for word in answer.split() or [""]) for answer in answers]


def main(model: str = "smollm2", out: str = "runs/own-reward") -> None:
    sys.modules["own_reward"] = sys.modules[__name__]  # started as a script, it has another name
    settings = config.Reinforce(
        reward="python:own_reward:plain",
        steps=3,
        prompts_per_step=2,
        samples_per_prompt=4,
        micro_batch_size=8,
        max_tokens=24,
        learning_rate=5e-6,
    )
    prompts = [record for record in data.prompts("packaged", "helpful") if record["split"] == "train"]

    def told(step: int, steps: int, metrics: dict[str, float]) -> None:
        print(f"step {step} of {steps}: reward {metrics['reward']:.3f}")

    reinforce.train(prompts, model, None, Path(out), settings, seed=0, progress=told)
    best = max(RecordFile(Path(out) / "samples.jsonl"), key=lambda sample: sample["reward"])
    print(f"{best['reward']:.2f}: {best['response']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
