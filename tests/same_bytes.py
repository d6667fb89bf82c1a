"""Whether a change of the code changes what runs leave: the tiny pipeline's bytes, before and after.

    python tests/same_bytes.py COMMIT        # runs here and at COMMIT, and names each file that differs

The bytes of weights depend on the processor, so no hashes are kept: both sides run on this machine.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent

SMALL: dict[str, Any] = {
    "engine": {"dtype": "float32", "device": "cpu", "batch_size": 8},
    "prompts": {
        "red_team": {"train": 9, "held_out": 4},
        "helpful": {"train": 9, "held_out": 4},
        "generate": 2,
        "max_tokens": 24,
    },
    "critique": {"rounds": 2, "max_tokens": 24, "few_shot": False},
    "supervised": {"batch_size": 4, "micro_batch_size": 4, "learning_rate": 0.01},
    "comparison": {"max_tokens": 8},
    "feedback": {"principles": 2, "few_shot": False},
    "preference_model": {
        "batch_size": 4,
        "micro_batch_size": 4,
        "held_out": 0.4,
        "helpfulness": "ai",
        "learning_rate": 0.01,
    },
    "reinforce": {
        "steps": 3,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "micro_batch_size": 8,
        "max_tokens": 8,
        "learning_rate": 0.01,
        "checkpoints": 1,
    },
    "evaluation": {"max_tokens": 8, "bootstrap": 50},
}

# What each way of feedback and each way to the policy has of its own.
RUNS: dict[str, dict[str, Any]] = {
    "multiple-choice-rloo": {},
    "all-principles-lora": {
        "feedback": {"principles": "all", "both_orders": True, "few_shot": True, "prior_correction": True},
        "reinforce": {"lora": {"rank": 4}, "length_control": True},
        "critique": {"critique": False},
    },
    "chain-of-thought": {
        "feedback": {"chain_of_thought": True, "max_tokens": 12},
        "reinforce": {"algorithm": "grpo", "epochs_per_step": 2},
    },
    "rating-grpo": {"feedback": {"method": "rating"}, "reinforce": {"algorithm": "grpo"}},
    "contrast-ppo": {"feedback": {"method": "contrast"}, "reinforce": {"algorithm": "ppo"}},
    "revision-ppo": {
        "feedback": {"method": "revision"},
        "critique": {"max_tokens": 120},  # so that some of a random model's texts have a whole sentence
        "reinforce": {"algorithm": "ppo", "epochs_per_step": 2, "lora": {"rank": 4}},
        "preference_model": {"lora": {"rank": 4}},
    },
    "no-helpfulness": {"preference_model": {"helpfulness": None}, "feedback": {"both_orders": False}},
}


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return settings | {
        name: {**settings.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }


def leave(model: str, out: Path) -> None:
    """Run everything with the solon that Python finds, and write the hash of each file that it leaves."""
    from solon import pipeline
    from solon.config import Config

    hashes = {}
    for name, changes in RUNS.items():
        folder = out / "runs" / name
        settings = merged(SMALL, changes) | {"models": {"assistant": model}}
        pipeline.run(Config.model_validate(settings), folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in {"manifest.json", "report.html", "config.yaml"}:
                hashes[str(path.relative_to(out / "runs"))] = hashlib.sha256(path.read_bytes()).hexdigest()
        stages = json.loads((folder / "manifest.json").read_text())["stages"]
        for stage, entry in stages.items():  # times and token counts are not results
            for what in ("status", "inputs", "records", "notes"):
                hashes[f"{name}/manifest.json {stage} {what}"] = json.dumps(entry.get(what))
        print(name, "done", file=sys.stderr)
    (out / "hashes.json").write_text(json.dumps(hashes, indent=1))


def run_with(source: Path, model: Path, out: Path) -> dict[str, str]:
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    command = [sys.executable, __file__, "--leave", str(model), str(out)]
    subprocess.run(command, env=environment, check=True)
    return dict(json.loads((out / "hashes.json").read_text()))


def main(commit: str) -> int:
    from conftest import tiny_llama

    with tempfile.TemporaryDirectory() as place:
        model, before = tiny_llama(Path(place) / "model"), Path(place) / "before"
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", str(before), commit], cwd=HERE, check=True
        )
        try:
            theirs = run_with(before, model, Path(place) / "theirs")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=HERE, check=True)
        ours = run_with(HERE, model, Path(place) / "ours")
    other = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    for name in other:
        print(f"{name}\n  before {str(theirs.get(name))[:900]}\n  after  {str(ours.get(name))[:900]}")
    print(f"{len(ours) - len(other)} of {len(theirs)} results are the same")
    return bool(other)


if __name__ == "__main__":
    if sys.argv[1] == "--leave":
        leave(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1]))
