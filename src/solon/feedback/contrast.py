"""Contrast: one answer is asked for under a principle and the other against it, so nobody judges.

With the hard labels of Yang et al. 2023 (RLCD, arXiv:2307.12950), section 3.
"""

from collections.abc import Mapping
from typing import Any

from solon.constitution import Constitution
from solon.feedback.made import ByMaking
from solon.feedback.method import Draft, Material, sampled
from solon.inference.engine import Chain
from solon.prompts import contrast as prompts
from solon.records import Contrast, PairRecord, PromptRecord
from solon.seeds import generator


class ByContrast(ByMaking):
    name = "contrast"
    label_source = "contrast"
    making = "contrast"
    manner = "under a principle and against it"

    def draft(self, prompt: PromptRecord, material: Material) -> Chain[Draft]:
        """The first answer is asked for under a comparison principle drawn for the prompt, the other against.

        Raises SolonError where the constitution of the prompt's set has none.
        """
        law = material.laws[prompt["set"]]
        [principle] = law.draw_comparison(generator(material.seed, "principle", prompt["id"]))
        making = Contrast(
            principle=principle.name,
            instruction=principle.instruction,
            requests=list(prompts.requests(principle.instruction)),
        )
        asked = [prompts.asked(prompt["prompt"], request) for request in making["requests"]]
        return sampled(prompt, material, asked, contrast=making)

    def faults_of_making(
        self, making: Mapping[str, Any], pair: PairRecord, law: Constitution | None
    ) -> dict[str, bool]:
        return {
            "was made under no principle of the constitution": law is not None
            and (making.get("principle"), making.get("instruction")) not in self.grounds(law),
            "was asked for otherwise than its principle says": tuple(making["requests"])
            != prompts.requests(making["instruction"]),
        }
