"""Answer, then critique and revise, round after round (paper, section 3.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from solon import config
from solon.constitution import Constitution
from solon.errors import SET_ASIDE, SetAside
from solon.inference.engine import Chain, Engine
from solon.prompts.critique import worked_examples
from solon.prompts.dialogue import assistant
from solon.records import AnswerRecord, Message, PromptRecord, PromptSet, RevisionRecord, Round
from solon.revising import one_round, request
from solon.seeds import generator
from solon.texts.degenerate import answer_problem
from solon.texts.written import Written, mended

# Names the seed of answers, by the prompts' set: those to red-team prompts are for another model, the critic,
# to revise.
SEEDS: Mapping[PromptSet, tuple[str, ...]] = {
    "red-team": ("first answers", "02-critique"),
    "helpful": ("helpful",),
}


def revise(
    engine: Engine,
    prompts: Sequence[PromptRecord],
    constitution: Constitution,
    settings: config.Critique,
    seed: int,
    answers: Mapping[str, Written | SetAside] | None = None,
) -> Iterator[RevisionRecord]:
    """The assistant's answer to every prompt, revised ``settings.rounds`` times; records come as they finish.

    ``answers`` are by the prompts' ids, where another model gave them. Every round draws one critique
    principle, of the ``settings.principles`` drawn for all prompts together. Prompts advance on their own:
    none waits for another's round. A revision whose dialogue does not fit the model has the problem "too
    long", one that a server's filter kept back has "filtered"; without an answer no revision is asked for.
    Raises SolonError where the constitution has too few critique principles.
    """
    constitution = constitution.with_critique(settings.principles, generator(seed, "principles"))
    shots = worked_examples(constitution.examples.critique, settings.critique) if settings.few_shot else []
    return engine.run_chains(
        _chain(prompt, shots, constitution, settings, seed, answers[prompt["id"]] if answers else None)
        for prompt in prompts
    )


def first_rounds(record: RevisionRecord, count: int) -> RevisionRecord:
    """The record as ``revise`` makes it with ``count`` rounds, where it has as many or more.

    What is sampled in a round has a seed of its own and depends on the rounds before it alone; only
    how a batch rounds may differ.
    """
    rounds = record["rounds"][:count]
    sound = [revised["revision"] for revised in rounds if not revised["problem"]]
    last = assistant(sound[-1] if sound else record["answer"])
    return {**record, "rounds": rounds, "messages": [*record["prompt"], last]}


def several(prompts: Sequence[PromptRecord], times: int) -> tuple[list[PromptRecord], dict[str, str]]:
    """The prompts, to be answered so many times each; and the prompts of those that have ids of their own.

    The second answer's id is "PROMPT/2".
    """
    wanted, prompt_ids = list(prompts), {}
    for number in range(2, times + 1):
        for record in prompts:
            name = f"{record['id']}/{number}"
            prompt_ids[name] = record["id"]
            wanted.append({**record, "id": name})
    return wanted, prompt_ids


def answer(
    engine: Engine,
    prompts: Sequence[PromptRecord],
    settings: config.Critique,
    seed: int,
    prompt_ids: Mapping[str, str] | None = None,
) -> Iterator[AnswerRecord]:
    """A model's own answers to prompts, as they finish. Degenerate ones are sampled again, and so are bare
    refusals of helpful prompts, from which SL-CAI would learn to evade.

    ``prompt_ids`` are of prompts that are asked ``several`` times.
    """
    ids = prompt_ids or {}
    return engine.run_chains(_answer(prompt, settings, seed, ids.get(prompt["id"])) for prompt in prompts)


def texts(answers: Iterable[AnswerRecord]) -> dict[str, Written | SetAside]:
    """The answers themselves, or why there is none, by the prompts' ids."""

    def text(record: AnswerRecord) -> Written | SetAside:
        if kind := SET_ASIDE.get(record["problem"]):
            return kind(record["id"], f"the answer to {record['id']!r} was set aside")
        return answer_of(record)

    return {record["id"]: text(record) for record in answers}


def answer_of(record: AnswerRecord) -> Written:
    return Written(record["messages"][-1]["content"], record.get("cut", ""), record.get("thinking", ""))


def _chain(
    record: PromptRecord,
    shots: list[Message],
    constitution: Constitution,
    settings: config.Critique,
    seed: int,
    answer: Written | SetAside | None = None,
) -> Chain[RevisionRecord]:
    prompt = record["prompt"]
    if answer is None:
        try:
            completion = yield request(record, prompt, settings, seed, "answer")
            answer = mended(completion.text, completion.finish, completion.thinking)
        except SetAside as error:
            answer = error
    written = Written("") if isinstance(answer, SetAside) else answer
    current: str | SetAside = answer if isinstance(answer, SetAside) else written.text
    rounds: list[Round] = []
    for number in range(settings.rounds):
        revised = yield from one_round(record, current, shots, constitution, settings, seed, number)
        rounds.append(revised)
        if not revised["problem"]:
            current = revised["revision"]
    made = RevisionRecord(
        id=record["id"],
        prompt=prompt,
        kind=record["kind"],
        answer=written.text,
        cut=written.cut,
        rounds=rounds,
        messages=[*prompt, assistant("" if isinstance(current, SetAside) else current)],
    )
    return {**made, **written.thought}


def _answer(
    record: PromptRecord, settings: config.Critique, seed: int, prompt_id: str | None = None
) -> Chain[AnswerRecord]:
    answer, wrong = Written(""), ""
    # first answers to red-team prompts may be bare refusals, since they are there to be revised
    evasive = settings.evasive or record["set"] == "red-team"
    for attempt in range(1, settings.attempts + 1):
        try:
            completion = yield request(record, record["prompt"], settings, seed, "helpful", attempt)
        except SetAside as error:
            answer, wrong = Written(""), error.problem
            break
        answer = mended(completion.text, completion.finish, completion.thinking)
        wrong = answer_problem(answer, record["prompt"][-1]["content"], evasive)
        if not wrong:
            break
    made = AnswerRecord(
        id=record["id"],
        prompt=record["prompt"],
        kind=record["kind"],
        messages=[*record["prompt"], assistant(answer.text)],
        cut=answer.cut,
        problem=wrong,
    )
    made = {**made, **answer.thought}
    return {**made, "prompt_id": prompt_id} if prompt_id else made
