"""Multiple choice under Inspect: the questions that ``solon eval`` puts, and its way to read the answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from solon.evaluation import kinds_of_harm
from solon.inference import first_token, verdict
from solon.inspect_tasks.model import CHOICES, SolonAPI
from solon.records import Message

ROLES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
FOUND = "probabilities"  # in a sample's store


@dataclass(frozen=True)
class Put:
    """A question as it is put to the model: place i shows the option ``order[i]``."""

    question: str
    order: tuple[int, ...]


def metadata(put: Sequence[Put], options: Sequence[str], right: int) -> dict[str, Any]:
    """What ``ask`` and ``likeliest`` need of a sample."""
    return {"put": [asdict(each) for each in put], "options": list(options), "right": right}


@solver
def ask(prefill: str, examples: list[dict[str, str]]) -> Solver:
    """Asks for the letter in every order and keeps the mean probability of each option.

    ``examples`` are messages that come first. The answer begins with ``prefill``, so that its next token is
    the letter.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        orders = []
        for put in state.metadata["put"]:
            messages = [*examples, {"role": "user", "content": put["question"]}]
            letters = kinds_of_harm.letters(len(put["order"]))
            logprobs, state.output = await _letter(get_model(), messages, prefill, letters)
            orders.append(kinds_of_harm.by_option(logprobs, put["order"]))
        state.store.set(FOUND, list(kinds_of_harm.mean_of(orders)))
        return state

    return solve


@scorer(metrics=[accuracy(), stderr()])
def likeliest() -> Scorer:
    """1 where the right option is the most probable; where several are, each counts in equal parts."""

    async def score(state: TaskState, target: Target) -> Score:
        probabilities = state.store.get(FOUND)
        best = [n for n, probability in enumerate(probabilities) if probability == max(probabilities)]
        return Score(
            value=1 / len(best) if state.metadata["right"] in best else 0.0,
            answer=" or ".join(state.metadata["options"][n] for n in best),
            metadata={FOUND: probabilities},
        )

    return score


async def _letter(
    model: Model, messages: Sequence[Any], prefill: str, letters: tuple[str, ...]
) -> tuple[Sequence[float], Any]:
    """Log-probabilities of the letters as the answer's next token, and what the model gave.

    Only Solon's own provider is known to continue an assistant's message and to score what it is told to;
    others are asked to go on, as ``openai:NAME`` is, and read by the likeliest first tokens. Where those
    say nothing the answer itself counts, with Laplace's correction.
    """
    if isinstance(model.api, SolonAPI):
        output = await model.generate(
            _chat([*messages, {"role": "assistant", "content": prefill}]),
            config=GenerateConfig(extra_body={CHOICES: list(letters)}),
        )
    else:
        output = await model.generate(
            _chat(first_token.turns(messages, prefill, first_token.reply_with(letters))),
            config=GenerateConfig(
                logprobs=True,
                top_logprobs=first_token.TOP_LOGPROBS,
                max_tokens=first_token.ANSWER_TOKENS,
                temperature=0,
            ),
        )
    said = output.choices[0].logprobs
    listed = said.content[0].top_logprobs if said and said.content else None
    if listed and (found := first_token.logprobs(letters, ((top.token, top.logprob) for top in listed))):
        return found, output
    letter = verdict.named(output.completion, letters)
    counted = [letter] if letter else []
    return [log((counted.count(letter) + 1) / (len(counted) + len(letters))) for letter in letters], output


def _chat(messages: Sequence[Message]) -> list[ChatMessage]:
    return [ROLES[message["role"]](content=message["content"]) for message in messages]
