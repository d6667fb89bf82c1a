"""One critique and revision of an answer (paper, section 3.1)."""

from collections.abc import Sequence

from solon import config
from solon.constitution import Constitution, CritiquePrinciple
from solon.errors import SetAside
from solon.inference.engine import Chain, Completion, Request
from solon.prompts import critique as prompts
from solon.prompts.dialogue import assistant
from solon.records import Message, PromptRecord, Round
from solon.seeds import derive_seed, generator
from solon.texts.degenerate import NO_ANSWER, revision_problem
from solon.texts.written import Written, continued, mended


def one_round(
    record: PromptRecord,
    current: str | SetAside,
    shots: list[Message],
    constitution: Constitution,
    settings: config.Critique,
    seed: int,
    number: int = 0,
) -> Chain[Round]:
    """Critique and revision of the answer ``current`` under one principle, sampled again while degenerate.

    Nothing is asked where there is no answer.
    """
    prompt = record["prompt"]
    principle = constitution.draw_critique(generator(seed, "principle", record["id"], number))
    wrong, attempt = "", 0
    critique = revision = Written("")
    try:
        if isinstance(current, SetAside):
            raise current
        for attempt in range(1, settings.attempts + 1):
            critique, dialogue = Written(""), [*shots, *prompt, assistant(current)]
            if settings.critique:
                dialogue = prompts.asked_for_critique(dialogue, principle)
                start = principle.critique_start or ""
                asked = request(record, dialogue, settings, seed, "critique", number, attempt, start=start)
                completion = yield asked
                critique = Written(continued(start, completion.text), thinking=completion.thinking)
                if critique.thinking and not critique.text:
                    revision, wrong = Written(""), NO_ANSWER
                    continue
                dialogue = [*dialogue, assistant(critique.text)]
            dialogue = prompts.asked_for_revision(dialogue, principle)
            start = principle.revision_start or ""
            completion = yield request(
                record, dialogue, settings, seed, "revision", number, attempt, start=start
            )
            revision = begun(start, completion)
            told = [principle.critique_request, principle.revision_request]
            wrong = text_problem(revision, prompt, told, shots, settings)
            if not wrong:
                break
    except SetAside as error:
        revision, wrong = Written(""), error.problem
    return _round(principle, settings, critique, revision, wrong, attempt)


def _round(
    principle: CritiquePrinciple,
    settings: config.Critique,
    critique: Written,
    revision: Written,
    wrong: str,
    attempts: int,
) -> Round:
    made = Round(
        principle=principle.name,
        critique_request=principle.critique_request if settings.critique else "",
        critique=critique.text,
        revision_request=principle.revision_request,
        revision=revision.text,
        cut=revision.cut,
        problem=wrong,
        attempts=attempts,
    )
    if critique.thinking:
        made["critique_thinking"] = critique.thinking
    if settings.critique and principle.critique_start:
        made["critique_start"] = principle.critique_start
    if principle.revision_start:
        made["revision_start"] = principle.revision_start
    return {**made, **revision.thought}


def begun(start: str, completion: Completion) -> Written:
    """A revision that begins with ``start``; one whose only whole sentences are the start's is unfinished."""
    text = continued(start, completion.text)
    whole = mended(text, completion.finish, completion.thinking)
    if start and text and start.startswith(whole.text):
        return Written(text, "unfinished", whole.thinking)
    return whole


def text_problem(
    written: Written,
    prompt: Sequence[Message],
    told: Sequence[str],
    shots: Sequence[Message],
    settings: config.Critique,
) -> str:
    """What is wrong with a revision, or with the answer that it is to be compared with; "" for a sound one.

    ``told`` are the requests to criticise and to revise, ``shots`` the worked examples.
    """
    shown = [message["content"] for message in shots]
    return revision_problem(written, prompt[-1]["content"], told, shown, settings.evasive)


def request(
    record: PromptRecord,
    messages: Sequence[Message],
    settings: config.Critique,
    seed: int,
    *name: str | int,
    start: str = "",
) -> Request:
    return Request(
        id=record["id"],
        messages=messages,
        prefill=start,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=derive_seed(seed, record["id"], *name),
    )
