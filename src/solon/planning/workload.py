"""What every stage will put through which model, found by running the stages on a few of the prompts.

Texts are placeholders of a length that is taken for granted; all else - prompts, principles, worked
examples, orders, rounds, batches - is the run's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from solon import config as configs
from solon import constitution
from solon.constitution import Constitution
from solon.errors import SetAside
from solon.evaluation import tournament
from solon.feedback import METHODS, check, further, labelling
from solon.feedback.made import ByMaking
from solon.feedback.method import Material
from solon.inference.prefix import common_length
from solon.method import trains
from solon.optimisers import OPTIMISERS
from solon.planning.counting import SCORER, CountingEngine, Load, as_key, as_tokens, attended, together
from solon.planning.rewards import Rewards
from solon.planning.stage_work import Assumptions, Prompts, StageWork, sampled, size_of
from solon.prompts.dialogue import assistant
from solon.prompts.template_turns import TemplateTurns
from solon.records import ASPECT_OF, SETS, Aspect, Message, PreferenceRecord, PromptRecord, PromptSet, Split
from solon.role_settings import RoleName
from solon.seeds import derive_seed, generator
from solon.sources import data
from solon.stages import comparison, critique, feedback, red_team
from solon.stages.examples import gather
from solon.texts.written import Written

MODELS = 3  # that the evaluation compares: initial, SL-CAI, RL-CAI


class Workload:
    """The stages' work, in the method's order, in ``stages``; ``notes`` say where the data is not there yet.

    ``tokenizers`` are by role. Raises SolonError for data or constitutions that cannot be read.
    """

    def __init__(
        self,
        config: configs.Config,
        tokenizers: Mapping[str, PreTrainedTokenizerBase],
        assumptions: Assumptions,
    ) -> None:
        self.config, self.tokenizers, self.assumptions = config, tokenizers, assumptions
        self.notes: list[str] = []
        self.law = constitution.load(config.constitution)
        self.helpful_labels = constitution.load(config.preference_model.helpfulness_constitution)
        self.laws: dict[Aspect, Constitution] = {
            "harmlessness": self.law,
            "helpfulness": self.helpful_labels,
        }
        self.helpful_evaluation = constitution.load(config.evaluation.helpfulness_constitution)
        check(config, self.law, self.helpful_labels)
        self._found: dict[PromptSet, list[PromptRecord]] = {}
        self.prompts = {name: self._prompts(name) for name in SETS}
        self._turns = TemplateTurns(tokenizers["policy"])
        self._texts = [
            message["content"]
            for of_set in self.prompts.values()
            for split in of_set.values()
            for record in split.sample
            for message in record["prompt"]
        ]
        self.stages = list(self._stages())

    def _prompts(self, prompt_set: PromptSet) -> dict[Split, Prompts]:
        settings = self.config.prompts
        source = settings.red_team if prompt_set == "red-team" else settings.helpful
        records = self._found[prompt_set] = data.prompts(source.source, prompt_set)
        asked: dict[Split, int | None] = {"train": source.train, "held-out": source.held_out}
        prompts = {}
        for split, wanted in asked.items():
            there = sum(record["split"] == split for record in records)
            count = there if wanted is None else wanted
            if count > there:
                self.notes.append(
                    f"{count} {split} {prompt_set} prompts are asked for and {source.source} has {there}: "
                    "planned as if the others were like these, but a run will want them all."
                )
            number = min(count, there, self.assumptions.sample)
            sample = data.select(records, split, number, self._seed(prompt_set, split))
            prompts[split] = Prompts(sample, count)
        return prompts

    def _seed(self, *parts: str) -> int:
        return derive_seed(self.config.seed, "plan", *parts) % 2**31

    def engine(self, role: RoleName, part: str | None = None) -> CountingEngine:
        """Of the role's model, or of a further one in that ``part`` of it."""
        settings, share, part = self.config.role(role), self.assumptions.share, part or role
        batch, tokenizer = self.config.engine.batch_size, self.tokenizers[part]
        return CountingEngine(part, tokenizer, batch, share, self._texts, settings.system, settings.thoughts)

    def _stages(self) -> Iterable[StageWork]:
        train = {name: self.prompts[name]["train"] for name in SETS}
        generated = self._red_team(train["red-team"])
        yield generated
        more = self.config.prompts.generate
        train["red-team"] = Prompts(train["red-team"].sample, train["red-team"].count + more)

        work, revisions, helpful = self._critique(train)
        yield work
        yield self._supervised(train, revisions, helpful)
        work, pairs = self._comparison(train, revisions, helpful)
        yield work
        work, labelled = self._feedback(train, pairs)
        yield work
        work, scored = self._preference_model(labelled)
        yield work
        pairs_alone = self.config.reinforce.learns_from == "pairs"
        yield self._from_pairs(labelled) if pairs_alone else self._reinforce(train)
        yield self._evaluation(scored)

    # The stages

    def _red_team(self, prompts: Prompts) -> StageWork:
        settings = self.config.prompts
        work = StageWork(
            "red-team", records=sum(split.count for name in SETS for split in self.prompts[name].values())
        )
        for of_set in self.prompts.values():
            for split in of_set.values():
                work.written += size_of(split.sample, split.count)
        self._write(work, "red-team", settings.generate, prompts, self._seed("generate"))
        return work

    def _write(self, work: StageWork, prompt_set: PromptSet, count: int, prompts: Prompts, seed: int) -> None:
        """What it takes to write ``count`` more prompts of the set is added to the work."""
        if not (count and prompts.sample):
            return
        engine = self.engine("assistant")
        examples = [record for record in self._found[prompt_set] if record["split"] == "train"]
        few = min(count, max(engine.concurrency, self.assumptions.sample))
        seeds = examples[: prompts.count]
        made = list(red_team.write(engine, seeds, [], few, self.config.prompts, seed, prompt_set))
        work.records += count
        work.loads = together(work.loads, [load.times(count / few) for load in engine.take()])
        work.sequence = max(work.sequence, engine.longest)
        work.written += size_of(made, count)

    def _critique(self, train: Mapping[PromptSet, Prompts]) -> tuple[StageWork, list[Any], list[Any]]:
        settings, engine = self.config.critique, self.engine("assistant")
        red, kind = train["red-team"], train["helpful"]
        work, critic, answers = StageWork("critique", red.count + kind.count), engine, None
        if self.config.apart("critic", "assistant"):
            critic, answers = self.engine("critic"), self._first_answers(work, engine, red, settings)
        revisions, loads = sampled(
            critic, red, critique.revise, self.law, settings, self._seed("critique"), answers
        )
        helpful, more = sampled(engine, kind, critique.answer, settings, self._seed("helpful"))
        times = settings.helpful_answers
        work.records += kind.count * (times - 1)
        work.loads = together(work.loads, together(loads, [load.times(times) for load in more]))
        work.sequence = max(engine.longest, critic.longest)
        work.written += size_of(revisions, red.count) + size_of(helpful, kind.count * times)
        return work, revisions, helpful

    def _first_answers(
        self, work: StageWork, engine: CountingEngine, prompts: Prompts, settings: configs.Critique
    ) -> dict[str, Written | SetAside]:
        """The answers that another model is to revise; what they take is added to the work."""
        made, loads = sampled(engine, prompts, critique.answer, settings, self._seed("first answers"))
        work.loads = together(work.loads, loads)
        work.written += size_of(made, prompts.count)
        return critique.texts(made)

    def _supervised(
        self, train: Mapping[PromptSet, Prompts], revisions: list[Any], helpful: list[Any]
    ) -> StageWork:
        settings, work = self.config.supervised, StageWork("supervised")
        load, left_out, cut_off = Load("policy", "train"), 0.0, 0.0
        for of_set, prompts, times in (
            (gather(revisions, [], settings) if revisions else [], train["red-team"], 1),
            (
                gather(revisions, helpful, settings)[-len(helpful) :] if revisions and helpful else [],
                train["helpful"],
                self.config.critique.helpful_answers,
            ),
        ):
            if not of_set:
                continue
            factor = times * prompts.count / len(prompts.sample)
            work.records += len(of_set) * factor
            work.written += size_of(of_set, len(of_set) * factor)
            for example in of_set:
                whole = len(self._tokens("policy", [*example["prompt"], *example["completion"]]))
                length = min(whole, settings.max_length)
                if whole > settings.max_length:
                    asked = len(self._tokens("policy", example["prompt"], answers=True))
                    left_out += factor * (asked >= settings.max_length)
                    cut_off += factor * (asked < settings.max_length)
                work.sequence = max(work.sequence, length)
                load += Load("policy", "train", length, length, attended(0, length), length).times(factor)
        self._tell_too_long("supervised", work.records, left_out=left_out, cut_off=cut_off)
        work.loads = [load.times(settings.epochs)]
        return work

    def _comparison(
        self, train: Mapping[PromptSet, Prompts], revisions: list[Any], helpful: list[Any]
    ) -> tuple[StageWork, dict[PromptSet, list[Any]]]:
        method = METHODS[self.config.feedback.method]
        material = Material(
            laws={"red-team": self.law, "helpful": self.helpful_labels},
            sampling=self.config.comparison,
            critique=self.config.critique,
            seed=self._seed("pair"),
            revisions={revision["id"]: revision for revision in revisions},
            answers=critique.texts(helpful),
        )
        engine = self.engine("policy" if method.pairs_by == "sl-cai" else "feedback")
        work = StageWork("comparison")
        pairs: dict[PromptSet, list[Any]] = {}
        for name in self.config.preference_model.by_models:
            held_out = self.config.preference_model.held_out
            pairs[name], loads = sampled(engine, train[name], comparison.pairs, method, material, held_out)
            work.loads = together(work.loads, loads)
            work.records += train[name].count
            work.written += size_of(pairs[name], train[name].count)
        work.sequence = engine.longest
        return work, pairs

    def _feedback(
        self, train: Mapping[PromptSet, Prompts], pairs: Mapping[PromptSet, list[Any]]
    ) -> tuple[StageWork, list[tuple[list[PreferenceRecord], float]]]:
        judges = [self.engine("feedback", part) for part in ("feedback", *further(self.config))]
        work, labelled = StageWork("feedback"), []
        for name, of_set in pairs.items():
            aspect = ASPECT_OF[name]
            law = self.laws[aspect]
            method, settings = labelling(self.config.feedback, law, aspect)
            made: list[Any] = []
            if isinstance(method, ByMaking):
                made = list(feedback.by_making(of_set, aspect, method))
            for judge in [] if isinstance(method, ByMaking) else judges:
                by_judge, loads = sampled(
                    judge,
                    Prompts(of_set, train[name].count),
                    feedback.label,
                    law,
                    aspect,
                    settings,
                    self._seed("feedback"),
                    requests=method.questions(settings, len(law.comparison)),
                )
                made = made or by_judge
                work.loads = together(work.loads, loads)
            work.records += train[name].count
            work.written += size_of(made, train[name].count * len(judges))
            if made:
                labelled.append((made, train[name].count / len(made)))
        human = self._human(labelled)
        for made, factor in human:
            work.records += len(made) * factor
            work.written += size_of(made, len(made) * factor)
        work.sequence = max(judge.longest for judge in judges)
        return work, labelled + human

    def _human(
        self, labelled: list[tuple[list[PreferenceRecord], float]]
    ) -> list[tuple[list[PreferenceRecord], float]]:
        settings, asked = self.config.preference_model, self.assumptions.comparisons
        if asked is not None:  # taken to be as long as those that the models make
            return [(labelled[0][0], asked / len(labelled[0][0]))] if labelled and settings.by_people else []
        human = []
        for aspect, source in settings.by_people.items():
            records = data.comparisons(source, settings.held_out, aspect, settings.vouched_for)
            some = generator(self._seed("human")).sample(records, min(len(records), self.assumptions.sample))
            human.append((some, len(records) / len(some)))
        return human

    def _preference_model(
        self, labelled: list[tuple[list[PreferenceRecord], float]]
    ) -> tuple[StageWork, Load]:
        """The work, and what scoring the held-out comparisons takes."""
        settings, work = self.config.preference_model, StageWork("preference-model")
        load, left_out = Load(SCORER, "train"), 0.0
        if not self.config.trains_preference_model:
            return work, replace(load, way="prompt")
        for records, factor in labelled:
            for record in records:
                longest, of_pair = self._pair(SCORER, record)
                if longest > settings.max_length:
                    left_out += factor
                    continue
                work.sequence = max(work.sequence, round(of_pair.tokens))
                work.records += factor
                load += of_pair.times(factor)
        self._tell_too_long("preference-model", work.records + left_out, left_out=left_out)
        held_out = Load(SCORER, "prompt", load.tokens, load.naive, load.attended).times(settings.held_out)
        work.records *= 1 - settings.held_out
        work.loads = [load.times(settings.epochs * (1 - settings.held_out))]
        return work, held_out

    def _pair(self, role: str, record: PreferenceRecord) -> tuple[int, Load]:
        """Tokens of the longer answer with its prompt, and what training on both takes, which share that."""
        chosen, rejected = (
            self._tokens(role, [*record["prompt"], *answer])
            for answer in (record["chosen"], record["rejected"])
        )
        same = common_length(as_tokens(as_key(chosen)), as_tokens(as_key(rejected)))
        both, seen = len(chosen) + len(rejected), attended(0, len(chosen)) + attended(same, len(rejected))
        return max(len(chosen), len(rejected)), Load(role, "train", both - same, both, seen, both - 2 * same)

    def _tell_too_long(self, stage: str, count: float, **counts: float) -> None:
        """As the run will, of as many as the sample lets expect."""
        training = trains(stage)
        limit = getattr(getattr(self.config, training.section), training.limit)
        self.notes += [f"About {note}" for note in training.too_long(counts, limit, round(count))]

    def _from_pairs(self, labelled: list[tuple[list[PreferenceRecord], float]]) -> StageWork:
        """Of an algorithm that learns from labelled pairs: the policy trains, the reference scores."""
        settings, work = self.config.reinforce, StageWork("reinforce")
        pairs = [(record, factor) for records, factor in labelled for record in records]
        found = [(*self._pair("policy", record), factor) for record, factor in pairs]
        limit = settings.max_prompt_length + settings.max_tokens
        fitting = [(load, factor) for longest, load, factor in found if longest <= limit]
        count, kept = sum(factor for *_, factor in found), sum(factor for _, factor in fitting)
        self._tell_too_long("reinforce", count, pairs_left_out=count - kept)
        if fitting:
            work.records = settings.steps * settings.prompts_per_step
            load = sum((load.times(factor) for load, factor in fitting), Load("policy", "train"))
            load = load.times(work.records / kept)
            reference = replace(load, way="prompt")
            work.loads, work.sequence = [load, reference], max(round(load.tokens) for load, _ in fitting)
        return work

    def _reinforce(self, train: Mapping[PromptSet, Prompts]) -> StageWork:
        settings, work = self.config.reinforce, StageWork("reinforce")
        found = [
            (len(self._tokens("policy", record["prompt"], answers=True)), prompts.count / len(prompts.sample))
            for prompts in train.values()
            for record in prompts.sample
        ]
        lengths = [(length, factor) for length, factor in found if length <= settings.max_prompt_length]
        count, fitting = (sum(factor for _, factor in part) for part in (found, lengths))
        self._tell_too_long("reinforce", count, left_out=count - fitting)
        if not lengths:
            return work
        answer = max(1, round(self.assumptions.share * settings.max_tokens))
        asked, samples = settings.prompts_per_step, settings.prompts_per_step * settings.samples_per_prompt
        weight = settings.steps / sum(factor for _, factor in lengths)
        loads: list[Load] = []
        passes = OPTIMISERS[settings.algorithm].passes(settings.epochs_per_step)
        for prompt, factor in lengths:
            whole = prompt + answer
            shared = asked * prompt + samples * answer
            once = attended(0, prompt) * asked
            answers = attended(prompt, whole) * samples
            parts = [
                Load("policy", "prompt", asked * prompt, samples * prompt, once),
                Load("policy", "generate", samples * answer, samples * answer, answers, samples * answer),
                Load(
                    "policy",
                    "prompt",
                    samples * whole,
                    samples * whole,
                    attended(0, whole) * samples,
                    samples * answer,
                ).times(passes),
                *(
                    [Load(SCORER, "prompt", shared, samples * whole, once + answers)]
                    if settings.needs_preference_model
                    else []
                ),
                Load(
                    "policy",
                    "train",
                    samples * whole,
                    samples * whole,
                    attended(0, whole) * samples,
                    samples * answer,
                ).times(settings.epochs_per_step),
            ]
            loads = together(loads, [part.times(weight * factor) for part in parts])
        work.records = settings.steps * samples
        rewards = Rewards(self.config, self.laws, self._seed("rewards"))
        work.loads = together(loads, rewards.loads(self.engine, train, self.engine("policy")))
        work.sequence = max(length for length, _ in lengths) + settings.max_tokens
        wanted = settings.generate
        self._write(work, "red-team", wanted.red_team, train["red-team"], self._seed("rl", "red-team"))
        self._write(work, "helpful", wanted.helpful, train["helpful"], self._seed("rl", "helpful"))
        return work

    def _evaluation(self, held_out: Load) -> StageWork:
        settings, work = self.config.evaluation, StageWork("evaluation")
        laws: dict[Aspect, Constitution] = {
            "harmlessness": self.law,
            "helpfulness": self.helpful_evaluation,
        }
        how = tournament.settings_of(self.config)
        judge, scores, passing = self.engine("judge"), held_out, self.config.reinforce.checkpoints
        for name in SETS:
            prompts = self.prompts[name]["held-out"]
            if not prompts.sample:
                continue
            texts: dict[str, dict[str, str]] = {}
            for number in range(MODELS + passing):  # each begins with nothing computed
                engine = self.engine("policy")
                made, loads = sampled(
                    engine,
                    prompts,
                    tournament.answer,
                    settings,
                    self._seed("answers", str(number)),
                )
                texts[str(number)] = {answer["id"]: answer["text"] for answer in made}
                work.loads = together(work.loads, loads)
                work.sequence = max(work.sequence, engine.longest)
            wanted = tournament.matches(prompts.sample, texts, list(texts)[MODELS:])
            judged = min(prompts.count, settings.judged or prompts.count)
            games = judged * len(wanted) // len(prompts.sample)
            met, seed, asking = Prompts(wanted, games), self._seed("judge"), tournament.questions(how, laws)
            made, loads = sampled(judge, met, tournament.play, laws, how, seed, requests=asking)
            work.loads = together(work.loads, loads)
            work.records += prompts.count
            work.written += size_of(made, games)
            factor = prompts.count / len(prompts.sample)
            for record in prompts.sample if self.config.trains_preference_model else ():
                for answers in list(texts.values())[:MODELS]:
                    length = len(self._tokens(SCORER, [*record["prompt"], assistant(answers[record["id"]])]))
                    scores += Load(SCORER, "prompt", length, length, attended(0, length)).times(factor)
        work.sequence = max(work.sequence, judge.longest)
        if self.config.trains_preference_model:
            work.loads = together(work.loads, [scores])
        return work

    def _tokens(self, role: str, messages: Sequence[Message], answers: bool = False) -> list[int]:
        """Of the policy or the scorer, which reads no system text of the policy's."""
        system = self.config.role("policy").system if role == "policy" else None
        tokens: list[int] = self.tokenizers["policy"].apply_chat_template(
            self._turns(messages, system or ""),
            add_generation_prompt=answers,
            tokenize=True,
            return_dict=True,
        )["input_ids"]
        return tokens
