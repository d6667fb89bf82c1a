"""Revision: a pair is an answer and what critique and revision made of it, so nobody judges."""

import random
from collections.abc import Mapping
from typing import Any

from solon import config
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.feedback.made import ByMaking
from solon.feedback.method import Draft, Material
from solon.inference.engine import Chain
from solon.prompts.critique import worked_examples
from solon.records import Aspect, PairRecord, PromptRecord, RevisionRecord
from solon.revising import one_round

UNREVISED = "unrevised"  # the problem of a pair whose answer has no sound revision


class ByRevision(ByMaking):
    name = "revision"
    label_source = "revision"
    making = "revised"
    manner = "by revision"
    revises = True

    def check(self, asked: config.Config, law: Constitution, aspect: Aspect) -> None:
        super().check(asked, law, aspect)
        if not asked.critique.rounds:
            raise SolonError(
                "feedback.method is revision, whose pairs are answers and their revisions, but "
                "critique.rounds is 0: give it 1 or more"
            )
        law.draw_critique(random.Random(0))

    def draft(self, prompt: PromptRecord, material: Material) -> Chain[Draft]:
        """The last sound revision that stage 2 made of the prompt's answer, and the answer.

        Where stage 2 revised no answer to it, what one critique and revision makes of its answer, under a
        critique principle drawn from the constitution of the prompt's set, and that answer.
        """
        if prompt["id"] in material.revisions:
            return _last_sound(material.revisions[prompt["id"]])
        law, settings = material.laws[prompt["set"]], material.critique
        answer = material.answers[prompt["id"]]
        shots = worked_examples(law.examples.critique, settings.critique) if settings.few_shot else []
        made = yield from one_round(prompt, answer, shots, law, settings, material.seed)
        return Draft([made["revision"], answer], made["problem"], {"revised": made})

    def grounds(self, law: Constitution) -> set[tuple[str, str]]:
        return {(principle.name, principle.revision_request) for principle in law.critique}

    def faults_of_making(
        self, making: Mapping[str, Any], pair: PairRecord, law: Constitution | None
    ) -> dict[str, bool]:
        return {
            "was made under no principle of the constitution": law is not None
            and (making.get("principle"), making.get("revision_request")) not in self.grounds(law),
            "is of another revision": making["revision"] != pair["responses"][0],
        }


def _last_sound(record: RevisionRecord) -> Draft:
    sound = [revised for revised in record["rounds"] if not revised["problem"]]
    if not sound:
        return Draft([record["answer"], record["answer"]], UNREVISED)
    return Draft([sound[-1]["revision"], record["answer"]], "", {"revised": sound[-1]})
