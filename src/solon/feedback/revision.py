"""Revision: a pair is an answer and what critique and revision made of it, so nobody judges."""

import random
from collections.abc import Mapping
from typing import Any

from solon import config
from solon.constitution import Constitution
from solon.errors import SetAside, SolonError
from solon.feedback.made import ByMaking
from solon.feedback.method import Draft, Material
from solon.inference.engine import Chain
from solon.prompts.critique import worked_examples
from solon.records import Aspect, PairRecord, PromptRecord, Round
from solon.revising import one_round, text_problem
from solon.texts.written import Written

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

        An answer that would not pass as a revision makes no pair: else whatever is kept from revisions would
        mark the worse answer.
        """
        law, settings = material.laws[prompt["set"]], material.critique
        shots = worked_examples(law.examples.critique, settings.critique) if settings.few_shot else []
        made: Round | None
        if record := material.revisions.get(prompt["id"]):
            answer = Written(record["answer"], record.get("cut", ""), record.get("thinking", ""))
            made = next((revised for revised in reversed(record["rounds"]) if not revised["problem"]), None)
            if made is None:
                return Draft([answer, answer], UNREVISED)
        else:
            known = material.answers[prompt["id"]]
            if isinstance(known, SetAside):
                return Draft([Written("")] * 2, known.problem)
            answer = known
            made = yield from one_round(prompt, answer.text, shots, law, settings, material.seed)
        told = [made["critique_request"], made["revision_request"]]
        wrong = text_problem(answer, prompt["prompt"], told, shots, settings)
        revision = Written(made["revision"], made.get("cut", ""), made.get("thinking", ""))
        return Draft([revision, answer], made["problem"] or (wrong and f"answer: {wrong}"), {"revised": made})

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
