"""An own judge: one model asked as several people. python examples/own_judge.py [MODEL] [FILE]

Whoever can say how probable each letter of a question is can judge: the feedback stage asks an `Engine` for
nothing else, unless judges are to reason first. This one puts every question to one model as three people and
takes the mean of their log-probabilities. The labels go to FILE, which `solon preference-model` trains on.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from solon import config, constitution
from solon.errors import TooLong
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference import open_engine
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request
from solon.records import Message, PreferenceRecord
from solon.sources import data
from solon.stages import comparison, feedback
from solon.store.record_file import RecordFile, complete

PEOPLE = ("a nurse", "a teacher", "a lawyer")


class Panel(Engine):
    """A model whose log-probabilities are the mean over the people that it is told to be."""

    def __init__(self, model: Engine, people: Sequence[str] = PEOPLE) -> None:
        self.model, self.people = model, people
        self.model_name = f"{model.model_name} as {', '.join(people)}"
        self.concurrency, self.usage = model.concurrency, model.usage

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | TooLong]:
        heard: dict[str, list[ChoiceScores]] = {}
        for person in self.people:
            told = Message(role="system", content=f"You are {person}. Judge as {person} would.")
            asked = [replace(question, messages=[told, *question.messages]) for question in questions]
            for score in self.model.scores(asked):
                heard.setdefault(score.id, []).append(score)
        for name, scores in heard.items():
            yield ChoiceScores(name, tuple(map(fmean, zip(*(each.logprobs for each in scores), strict=True))))

    def submit(self, request: Request) -> None:
        self.model.submit(request)

    def poll(self) -> list[Completion | TooLong]:
        return self.model.poll()

    def forget(self) -> None:
        self.model.forget()

    def close(self) -> None:
        self.model.close()


def main(model: str = "smollm2", file: str = "runs/panel.jsonl") -> None:
    law, prompts = constitution.load("harmless"), data.prompts("packaged", "red-team")[:4]
    asking = config.Feedback(principles=2, few_shot=False)
    with open_engine(model, config.EngineSettings()) as engine:
        material = Material({"red-team": law}, seed=0, sampling=config.Comparison(max_tokens=48))
        pairs = list(comparison.pairs(engine, prompts, METHODS["multiple-choice"], material, held_out=0))
        labels = complete(
            RecordFile(Path(file), PreferenceRecord),
            [pair for pair in pairs if not pair["problem"]],
            lambda missing: feedback.label(Panel(engine), missing, law, "harmlessness", asking, seed=0),
            progress=lambda done, total: print(f"{done} of {total} labels"),
        )
    for label in labels:
        print(f"\n{label['prompt'][-1]['content']}")
        print(f"better, at {label['probability']:.0%}: {label['chosen'][0]['content']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
