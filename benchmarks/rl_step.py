"""Steps of reinforcement learning a second: Solon's GRPO against TRL's GRPOTrainer as it is.

    python benchmarks/rl_step.py [--prompts 4] [--samples 4] [--tokens 48] [--runs 5] > result.json

A step samples answers, scores them with the preference model, and updates the policy. Both sides take the
same prompts, batch, micro-batch and settings, and every answer has the same length: ends of text are never
sampled. TRL's trainer gets the preference model as a model, so that it scores in its own way. Trainers
are made outside the time that is measured. Memory is the peak of a process that does one side's step and
nothing else.
"""

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import side_by_side
from transformers import PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from solon import config, models
from solon.inference.dialogue_tokens import end_tokens
from solon.libraries.trl import NoTelemetry
from solon.policy import grpo, schedule
from solon.policy.rollouts import Sampler
from solon.sources import data
from solon.training import preference_scores, setup, trainers


class Peer(trainers.Discreet, NoTelemetry, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer."""


class Step:
    def __init__(self, model: str, settings: config.Reinforce, folder: str) -> None:
        setup.settle_libraries()
        self.model, self.settings, self.folder = model, settings, Path(folder)
        self.tokenizer = models.load_tokenizer(model)
        set_seed(0)
        self.judge = models.load_preference_model(model).to(side_by_side.DEVICE)
        self.judge.config.pad_token_id = self.tokenizer.pad_token_id
        records = data.select(data.prompts("packaged", "red-team"), "train", None, 0)
        fitting = schedule.within_length(records, self.tokenizer, settings)
        self.prompts = schedule.prompts_by_step(fitting, settings, seed=0)[0]
        self.ends = sorted(end_tokens(self.tokenizer, models.load_model(model)))
        self.trainer: Any = None

    def prepare(self, side: str) -> None:
        settings = self.settings
        sequences = settings.prompts_per_step * settings.samples_per_prompt
        arguments = setup.common_arguments(self.folder, 0, sequences, settings.micro_batch_size, [])
        kind, judge = (Peer, self.judge) if side == "theirs" else (grpo.MeasuredGRPO, self._reward)
        self.trainer = kind(
            model=models.load_model(self.model),
            reward_funcs=judge,
            reward_processing_classes=self.tokenizer if side == "theirs" else None,
            args=GRPOConfig(
                **{**arguments, "save_strategy": "no"},
                max_steps=1,
                shuffle_dataset=False,
                num_generations=settings.samples_per_prompt,
                max_completion_length=settings.max_tokens,
                temperature=settings.temperature,
                learning_rate=settings.learning_rate,
                beta=settings.kl_coefficient,
                generation_kwargs={"suppress_tokens": self.ends},
            ),
            train_dataset=setup.conversational(self.prompts, self.tokenizer, "prompt"),
            processing_class=self.tokenizer,
        )
        self.trainer.remove_callback(PrinterCallback)
        if side == "ours":
            self.trainer.rl = settings
            self.trainer.sampler = Sampler(self.model, settings, seed=0)
            self.trainer.sampler._engine._dialogue.ends = set()

    def _reward(self, prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        return preference_scores.score(
            self.judge,
            self.tokenizer,
            [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)],
            self.settings.micro_batch_size,
        )

    def run(self) -> int:
        ours = isinstance(self.trainer, grpo.MeasuredGRPO)
        with self.trainer.shared_prompts() if ours else nullcontext():
            self.trainer.train()
        length = self.trainer.state.log_history[0]["completions/mean_length"]
        assert length == self.settings.max_tokens, f"answers of {length} tokens on average"
        return 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--alone", choices=side_by_side.SIDES, help="one step of one side, and its peak memory"
    )
    asked = parser.parse_args()
    settings = config.Reinforce(
        algorithm="grpo",
        steps=1,
        prompts_per_step=asked.prompts,
        samples_per_prompt=asked.samples,
        micro_batch_size=asked.micro_batch_size,
        max_tokens=asked.tokens,
    )
    with tempfile.TemporaryDirectory() as folder:
        step = Step(asked.model, settings, folder)
        if asked.alone:
            step.prepare(asked.alone)
            step.run()
            print(side_by_side.own_peak())
            return
        trainers: dict[str, Any] = {}

        def prepare() -> None:
            for side in ("ours", "theirs"):
                step.prepare(side)
                trainers[side] = step.trainer

        def work(side: str) -> int:
            step.trainer = trainers[side]
            return step.run()

        found = side_by_side.compare(prepare, lambda: work("ours"), lambda: work("theirs"), asked.runs)

    side_by_side.show(
        benchmark="RL steps/s, GRPO",
        asked=vars(asked),
        dtype="bfloat16 autocast"
        if setup.use_bfloat16()
        else "float32; our sampler's copy of the policy in bfloat16 where that is faster",
        peer="TRL's GRPOTrainer as it is",
        **found,
        peak_memory_gb=side_by_side.peaks(__file__),
    )


if __name__ == "__main__":
    main()
