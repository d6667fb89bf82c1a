"""Rewards a share of a step's answers, one to a prompt, for test_launch.py: started once in each process."""

import json
import sys
from pathlib import Path

from accelerate import PartialState

from solon import config
from solon.policy import online
from solon.policy.preference_model import preference_model
from solon.policy.rollouts import Rollout
from solon.policy.task import Task
from solon.prompts.dialogue import user
from toy_training import prompt_records, unwatched

COUNT = 12


def rewards(scorer: str, out: Path, process: int, processes: int) -> list[float]:
    settings = config.Reinforce(
        algorithm="ppo", samples_per_prompt=1, prompts_per_step=COUNT, length_control=True
    )
    prompts = [{**record, "prompt": [user("How?")]} for record in prompt_records(COUNT)]  # so length decides
    share = slice(process * COUNT // processes, (process + 1) * COUNT // processes)
    answers = [Rollout([], "word " * (1 + number * 5 % COUNT), False) for number in range(COUNT)]
    task = Task(prompts, scorer, scorer, out, settings, 0, unwatched)
    with online.rewards(task, preference_model(task, None)) as reward:
        return reward([prompt["id"] for prompt in prompts[share]], answers[share], 1)


if __name__ == "__main__":
    state = PartialState(cpu=True)
    scorer, out = sys.argv[1], Path(sys.argv[2])
    found = rewards(scorer, out, state.process_index, state.num_processes)
    (out / f"{state.process_index}.json").write_text(json.dumps(found))
    state.destroy_process_group()
