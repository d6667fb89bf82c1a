"""What the feedback model reads where it rewards RL's samples."""

from collections.abc import Callable, Mapping, Sequence

from solon.config import Config
from solon.constitution import Constitution
from solon.feedback import further, samples
from solon.feedback.samples import Sample
from solon.inference.engine import Request
from solon.planning.counting import CountingEngine, Load, together
from solon.planning.stage_work import Prompts
from solon.records import Aspect, PromptRecord, PromptSet
from solon.role_settings import RoleName

Engines = Callable[[RoleName, str], CountingEngine]


class Rewards:
    """Of all steps: a step is a block, whose first question alone computes what all have in common."""

    def __init__(self, config: Config, laws: Mapping[Aspect, Constitution], seed: int) -> None:
        self.config, self.laws, self.seed = config, laws, seed

    @property
    def judges(self) -> list[str]:
        """The parts that reward: the feedback model, and the rest of its panel."""
        return ["feedback", *further(self.config)] if self.config.reinforce.asks_feedback else []

    def loads(
        self, engine: Engines, train: Mapping[PromptSet, Prompts], answers: CountingEngine
    ) -> list[Load]:
        """``engine`` makes those of the judges; ``answers`` writes placeholders for the policy's samples."""
        rl, loads = self.config.reinforce, list[Load]()
        of_sets = [prompts for prompts in train.values() if prompts.sample and prompts.count]
        everywhere = sum(prompts.count for prompts in of_sets)
        for part in self.judges:
            judge = engine("feedback", part)
            for prompts in of_sets:
                asked = rl.prompts_per_step * prompts.count / everywhere
                first, *rest = prompts.sample
                begun = self._took(judge, [first], answers)
                later = self._took(judge, rest, answers)
                more = max(0.0, asked - 1) / max(1, len(rest))
                judge.forget()
                loads = together(loads, [load.times(rl.steps * min(1.0, asked)) for load in begun])
                loads = together(loads, [load.times(rl.steps * more) for load in later if rest])
        return loads

    def _took(
        self, judge: CountingEngine, prompts: Sequence[PromptRecord], answers: CountingEngine
    ) -> list[Load]:
        rl = self.config.reinforce
        asked = [prompt for prompt in prompts for _ in range(rl.samples_per_prompt)]
        requests = [
            Request(str(number), prompt["prompt"], max_tokens=rl.max_tokens, seed=number)
            for number, prompt in enumerate(asked)
        ]
        texts = {completion.id: completion.text for completion in answers.generate(requests)}
        sampled = [Sample(f"1/{number}", prompt, texts[str(number)]) for number, prompt in enumerate(asked)]
        for _ in samples.judge(judge, sampled, rl.rewards, self.laws, self.config.feedback, self.seed):
            pass
        return judge.take()
