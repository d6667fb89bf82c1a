"""Rewards that are not the preference model's score alone: given by the first process for a whole step.

So a feedback model is in memory, or asked, once, and what it says is written as it comes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from solon.config import on_server
from solon.errors import SetAside, SolonError, Unjudged
from solon.feedback import panel, samples
from solon.feedback.sample_judges import ASKED, Judges
from solon.feedback.samples import Said, Sample
from solon.inference.engine import Engine, Usage
from solon.policy import own_rewards
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog, sample_id
from solon.policy.task import Task
from solon.records import AskedRecord, PromptRecord, SampleRecord, SampleVote
from solon.reward_settings import OWN, PREFERENCE_MODEL
from solon.store.record_file import RecordFile


class Rewarded(NamedTuple):
    reward: float
    rated: bool = True  # else the feedback model gave no rating, and the reward stands in its place


class SumOfRewards:
    """``reinforce.reward``, each sample's written to ``samples.jsonl`` as soon as it is known."""

    def __init__(self, task: Task, log: SampleLog) -> None:
        """Raises SolonError where a reward of the user's own is not there."""
        self._weights, self._log = task.settings.rewards, log
        self._prompts = {record["id"]: record for record in task.records}
        self._own = {name: own_rewards.load(name) for name in self._weights if OWN.fullmatch(name)}
        self._feedback = Feedback(task) if task.judges else None

    def __call__(
        self, step: int, prompts: Sequence[str], answers: Sequence[Rollout], scores: Sequence[float]
    ) -> list[Rewarded]:
        """The rewards of a step's answers, given with their prompts' ids and a preference model's scores.

        What ``samples.jsonl`` has of them, from before a kill, is not asked for again. Raises SolonError
        where a reward fails, or the feedback model rates none of the answers.
        """
        ids = [sample_id(step, number) for number in range(len(answers))]
        found: dict[str, SampleRecord] = self._log.of(step, prompts, answers)
        unrated: dict[str, SampleRecord] = {}
        if found.keys() != set(ids):
            blank = [self._log.record(*given, 0.0) for given in zip(ids, prompts, answers, strict=True)]
            for record, known in zip(blank, self._known(prompts, answers, scores), strict=True):
                record["rewards"] = known
            for record in self._judged(blank, found):
                if record.get("problem"):
                    unrated[record["id"]] = record
                else:
                    record["reward"] = samples.total(record["rewards"], self._weights)
                    self._log.write(record)
                    found[record["id"]] = record
            self._fill(ids, prompts, found, unrated)
            self._log.in_order()
        return [Rewarded(found[id]["reward"], not found[id].get("problem")) for id in ids]

    def close(self) -> None:
        if self._feedback:
            self._feedback.close()

    def _known(
        self, prompts: Sequence[str], answers: Sequence[Rollout], scores: Sequence[float]
    ) -> Iterator[dict[str, float]]:
        """Of each answer the rewards that no feedback model gives."""
        columns: dict[str, Sequence[float]] = {}
        if PREFERENCE_MODEL in self._weights:
            columns[PREFERENCE_MODEL] = scores
        texts = [answer.text for answer in answers]
        for name, reward in self._own.items():
            asked = [self._prompts[prompt]["prompt"] for prompt in prompts]
            columns[name] = own_rewards.given(name, reward, asked, texts)
        for number in range(len(answers)):
            yield {name: column[number] for name, column in columns.items()}

    def _judged(
        self, records: Sequence[SampleRecord], found: dict[str, SampleRecord]
    ) -> Iterator[SampleRecord]:
        """The records with what the feedback model says, as they come; without one all at once."""
        if self._feedback is None:
            yield from (record for record in records if record["id"] not in found)
            return
        yield from self._feedback(records, [self._prompts[record["prompt_id"]] for record in records], found)

    def _fill(
        self,
        ids: Sequence[str],
        prompts: Sequence[str],
        found: dict[str, SampleRecord],
        unrated: dict[str, SampleRecord],
    ) -> None:
        """Samples without a rating, once the others' are known."""
        found |= unrated
        if not unrated:
            return
        given = [None if found[id].get("problem") else found[id]["reward"] for id in ids]
        if not any(reward is not None for reward in given):
            problems = Counter(record["problem"] for record in unrated.values())
            raise SolonError(
                f"{next(iter(unrated.values()))['judge']} rates not one of the {len(ids)} samples of step "
                f"{ids[0].partition('/')[0]} ({problems.most_common(1)[0][0]}): give another model as "
                "models.feedback, or another reinforce.reward"
            )
        for id, reward in zip(ids, samples.filled(prompts, given), strict=True):
            found[id]["reward"] = reward
        self._log.write(*unrated.values())


class Feedback:
    """The feedback model's rewards, by its engine, which is open from the first question to the end.

    Of a panel every judge's is.
    """

    def __init__(self, task: Task) -> None:
        """Raises SolonError where a constitution lacks what these rewards need."""
        assert task.judges
        self._judges: Judges = task.judges
        self._rewards, self._seed = list(task.settings.rewards), task.seed
        samples.check(task.settings, self._judges.settings, self._judges.laws)
        self._engines: dict[str, Engine] = {}
        self._asked = RecordFile(task.out / ASKED).recover()
        self._notes: list[str] = []

    def __call__(
        self,
        records: Sequence[SampleRecord],
        prompts: Sequence[PromptRecord],
        found: Mapping[str, SampleRecord],
    ) -> Iterator[SampleRecord]:
        """A step's records with votes and what they come to, as they come, but of those that are ``found``.

        Where there are no votes they have a ``problem``.
        """
        judged = [
            Sample(record["id"], prompt, record["response"])
            for record, prompt in zip(records, prompts, strict=True)
        ]
        of_id = dict(
            zip((record["id"] for record in records), zip(judged, records, strict=True), strict=True)
        )
        models = self._judges.models
        votes: dict[str, list[SampleVote]] = defaultdict(list)
        problems: dict[str, str] = {}
        waiting = samples.answers(judged, self._rewards, self._judges.laws)
        waiting = {id: count * len(models) for id, count in waiting.items() if id not in found}
        for model in models:
            for id, said in self._said(model, judged, found):
                if id in found:
                    continue
                if isinstance(said, SetAside):
                    problems.setdefault(id, said.problem)
                else:
                    votes[id] += [{**vote, "judge": model} for vote in said] if models[1:] else said
                waiting[id] -= 1
                if not waiting[id]:
                    yield self._rewarded(*of_id[id], votes[id], problems.get(id, Unjudged.problem))

    def _rewarded(
        self, sample: Sample, record: SampleRecord, votes: list[SampleVote], problem: str
    ) -> SampleRecord:
        record["judge"] = panel.labeller(self._judges.models)
        record["votes"] = sorted(votes, key=self._place)
        found = samples.parts(votes, self._rewards, self._judges.laws[sample.aspect])
        record["rewards"] |= {name: value for name, value in found.items() if value is not None}
        record["problem"] = problem if None in found.values() else ""
        return record

    def _place(self, vote: SampleVote) -> tuple[int, int]:
        """In a record: whoever was asked first, and what came first, is not told by the order."""
        judge, other = vote.get("judge"), vote.get("against", "/-1")
        return self._judges.models.index(judge) if judge else 0, int(other.rpartition("/")[2])

    def _said(
        self, model: str, judged: Sequence[Sample], found: Mapping[str, SampleRecord]
    ) -> Iterator[Said]:
        """What one of the models says. What a server has said is not asked again; a model here judges a step
        as a whole, since how it rounds depends on what goes through it together.
        """
        known: dict[str, list[SampleVote]] = {}
        if on_server(model):
            known = {
                id: [vote for vote in record["votes"] if vote.get("judge", model) == model]
                for id, record in found.items()
            }
        engine = self._engine(model)
        engine.forget()
        laws, settings = self._judges.laws, self._judges.settings
        try:
            yield from samples.judge(engine, judged, self._rewards, laws, settings, self._seed, known)
        finally:
            self._count(judged[0].id.partition("/")[0], engine)

    def _engine(self, model: str) -> Engine:
        if model not in self._engines:
            engine = self._engines[model] = self._judges.open(model)
            engine.say = self._notes.append  # type: ignore[method-assign,assignment]
        return self._engines[model]

    def _count(self, step: str, engine: Engine) -> None:
        """Write what a step took, for whoever started the training."""
        usage = {name: count for name, count in asdict(engine.usage).items() if count}
        if usage or self._notes:
            self._asked.append(AskedRecord(id=step, usage=usage, notes=list(self._notes)))
        engine.usage = Usage()
        self._notes.clear()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
