"""What is set for each role by itself, and that it reaches the role's engine and training, and no other."""

from pathlib import Path
from typing import Any

import pytest

from solon import config
from solon.config import Config
from solon.errors import SolonError
from solon.inference import open_engine
from solon.inference.engine import Question
from solon.inference.plain_engine import PlainEngine
from solon.method import STAGES
from solon.pipeline import runner
from solon.pipeline.steps import critique as step
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import user
from solon.records import Example, PromptRecord
from solon.role_settings import Role
from solon.stages import reinforce

ENGINE = {"dtype": "float32", "device": "cpu", "batch_size": 4}
LONG = "Be kind, be short, be clear. " * 40


def asked(model: Path, **roles: dict[str, Any]) -> Config:
    return Config.model_validate({"models": {"assistant": str(model)}, "roles": roles, "engine": ENGINE})


def test_a_role_takes_what_it_leaves_open_from_the_role_whose_model_it_takes() -> None:
    settings = {
        "models": {"judge": "other"},
        "roles": {
            "assistant": {
                "system": "Be short.",
                "chat_template_kwargs": {"think": False},
                "openai": {"base_url": "http://one", "votes": 3},
            },
            "feedback": {"system": "", "openai": {"base_url": "http://two"}},
        },
        "engine": {"openai": {"votes": 7, "input_price": 2}},
    }
    found = Config.model_validate(settings)
    assert found.role("critic") == found.role("assistant")
    assert found.role("policy").system is None
    assert found.role("feedback").system == ""
    assert found.role("feedback").chat_template_kwargs == {"think": False}
    assert (found.server("feedback").base_url, found.server("feedback").votes) == ("http://two", 3)
    assert found.role("judge") == Role()  # its model is its own
    assert (found.server("judge").votes, found.server("judge").input_price) == (7, 2)
    assert found.with_models(judge=None).role("judge", "another") == Role()
    again = Config.model_validate(found.model_dump(mode="json"))  # as a run's config.yaml has it
    assert again == found


def test_what_is_not_set_is_no_input_of_a_stage(tiny_model: Path, tmp_path: Path) -> None:
    def named(**roles: dict[str, Any]) -> dict[str, dict[str, Any]]:
        work = Workspace(asked(tiny_model, **roles), tmp_path, Watcher())
        inputs = {stage.name: runner.inputs(stage, work) for stage in STAGES}
        return {
            stage: kept
            for stage, of_stage in inputs.items()
            if (kept := {name: value for name, value in of_stage.items() if name.startswith("roles.")})
        }

    assert named() == {}
    assert named(assistant={"system": "Be short."}) == {"critique": {"roles.assistant.system": "Be short."}}
    policy = {"roles.policy.system": "Be kind."}
    assert named(policy={"system": "Be kind."}) == {"supervised": policy, "preference-model": policy}
    judge = {"roles.judge.system": "Be fair."}
    assert named(judge={"system": "Be fair."}) == {"evaluation": judge}
    feedback = {"roles.feedback.system": "Be fair."}
    assert named(feedback={"system": "Be fair."}) == {"feedback": feedback, "evaluation": feedback}
    critic = {"roles.critic.system": "Be strict."}
    assert named(critic={"system": "Be strict."}) == {"critique": critic}


@pytest.mark.parametrize("kind", ["transformers", "plain"])
def test_a_roles_text_is_said_before_its_dialogues(tiny_model: Path, kind: str) -> None:
    def scores(role: Role, *messages: Any) -> tuple[float, ...]:
        settings = config.EngineSettings.model_validate(ENGINE)
        opened = (
            PlainEngine(str(tiny_model), settings, role=role)
            if kind == "plain"
            else open_engine(str(tiny_model), settings, role=role)
        )
        with opened as engine:
            [found] = engine.scores([Question("q", messages, ("A", "B"))])
        return found.logprobs

    system = {"role": "system", "content": "Be short."}
    expected = scores(Role(), system, user("Tea?"))
    assert scores(Role(system="Be short."), user("Tea?")) == expected != scores(Role(), user("Tea?"))


def test_an_engine_is_one_roles(tiny_model: Path) -> None:
    with Workbench(asked(tiny_model, feedback={"system": "Be fair."}), Watcher()) as bench:
        first = bench.engine("assistant")
        assert bench.engine("critic") is first
        assert bench.engine("feedback") is not first
        assert bench.engine("judge").role.system == "Be fair."


def test_the_policys_text_is_part_of_what_it_is_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    short = {"max_length": 60, "batch_size": 1, "micro_batch_size": 1}
    example = Example(
        id="a", prompt=[user("Tea?")], completion=[{"role": "assistant", "content": "Yes."}], source="helpful"
    )
    small = {"supervised": config.Supervised.model_validate(short)}
    plain, with_text = (
        asked(tiny_model, policy={"system": text}).model_copy(update=small) for text in ("", LONG)
    )
    with Workbench(plain, Watcher()) as bench:
        bench.train("supervised", [example], [str(tiny_model)], tmp_path / "plain", 0)
    with Workbench(with_text, Watcher()) as bench, pytest.raises(SolonError, match="longer than max_length"):
        bench.train("supervised", [example], [str(tiny_model)], tmp_path / "with", 0)


def test_a_prompt_of_rl_is_as_long_as_it_is_with_the_policys_text(tiny_model: Path, tmp_path: Path) -> None:
    prompts = [
        PromptRecord(
            id=str(n), prompt=[user(f"Tea {n}?")], set="red-team", kind="", split="train", source="packaged"
        )
        for n in range(2)
    ]
    settings = config.Reinforce(prompts_per_step=2, samples_per_prompt=2, micro_batch_size=4)
    with pytest.raises(SolonError, match="0 of 2 prompts are at most max_prompt_length"):
        reinforce.train(
            prompts,
            str(tiny_model),
            str(tiny_model),
            tmp_path,
            settings,
            0,
            lambda *_: None,
            role=Role(system=LONG),
        )


def test_a_critic_with_a_text_of_its_own_revises_the_assistants_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = asked(tiny_model, critic={"system": "Be strict."})
    small = {"rounds": 1, "max_tokens": 6, "few_shot": False, "attempts": 1}
    settings = settings.model_copy(update={"critique": config.Critique.model_validate(small)})
    with Workspace(settings, tmp_path, Watcher()) as work:
        prompt = PromptRecord(
            id="p", prompt=[user("Tea?")], set="red-team", kind="", split="train", source="packaged"
        )
        work.file("01-red-team/prompts.jsonl").append(prompt)
        step.run(work)
        [first] = work.file("02-critique/first-answers.jsonl")
        [revised] = work.file("02-critique/revisions.jsonl")
        assert revised["answer"] == first["messages"][-1]["content"]
