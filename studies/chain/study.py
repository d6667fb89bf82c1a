"""Does the method change a model? A policy, its SL-CAI and its RL-CAI, and judges that training never saw.

    python studies/chain/study.py all --data ../shared/data --work WORK --supervisor MODEL --judge MODEL

or its parts, of which the runs and ``judge`` may go side by side:

    python studies/chain/study.py prepare --data ../shared/data --work WORK --supervisor MODEL
    python studies/chain/study.py chains --work WORK --run revision-0        (and so on: all of CHAINS)
    solon sweep WORK/ablation-labels.yaml --dir WORK/ablation-labels --reuse WORK/judged-0        (and so on)
    python studies/chain/study.py answers --work WORK
    python studies/chain/study.py judge --work WORK
    python studies/chain/study.py score --work WORK
    python studies/chain/study.py hhh --work WORK --data ../shared/data
    python studies/chain/study.py blind --work WORK --judge MODEL
    python studies/chain/study.py harm --work WORK --judge MODEL
    python studies/chain/study.py report --work WORK

``prepare`` shares the data out: no first human turn of hh-rlhf is on two sides. The policy answers, and
the supervisor criticises, revises and gives feedback. Kinds of runs differ in the feedback: a ``judged``
run has it compare the two answers of a pair, a ``rated`` run has it rate each by itself, a ``contrast``
run has it make pairs under a principle and against it, and in a ``revision`` run a pair is an answer and
its revision. An ``unchecked`` run is like that, but its rewards keep what they owe to an answer's length.
A ``plain`` run has the constitution plain-english and ends with SL-CAI, and in ``self`` the supervisor is
the policy too, with LoRA. Runs of one seed take from one another what they do alike.

``answers`` has the models of runs that end early answer the held-out prompts, ``judge`` trains the unseen
judge on people's pairs, ``score`` has it read the held-out answers of every run and the revisions, ``hhh``
asks all preference models the paper's comparisons and people's pairs, ``blind`` has another model compare
the answers, and ``harm`` has it rate them from 0 to 4. ``report`` makes ``results/`` of the records in WORK
and needs no weights. A part that was stopped goes on where it was.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import measures
import report
import yaml

from solon import config, constitution, pipeline, sweep
from solon.cli.show import SCREEN
from solon.evaluation import paper_evals, revisions, tournament
from solon.held_out import folded
from solon.inference import open_engine
from solon.method import CHECKPOINT
from solon.prompts.dialogue import assistant
from solon.records import EvaluationRecord, Message, PreferenceRecord, RevisionRecord
from solon.seeds import derive_seed, share_of
from solon.sources import data, tables
from solon.sources.row_dialogues import comparison_of
from solon.stages import preference
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile
from solon.study import load
from solon.texts.written import trimmed
from solon.training import preference_scores
from solon.yaml_file import merge

HERE = Path(__file__).parent
PAIRS = "hh-rlhf/harmless-base/test.even.jsonl.gz"
HELPFUL = "pandalm/testset-v1.json.gz"
JUDGED = 0.5  # share of the first turns whose pairs are the judge's; the others are red-team prompts
TESTED = 0.1  # and of all, those that it is tested on
CHARACTERS = 400  # of a prompt, at most
SEEDS = 3
KINDS = {
    "revision": {"feedback": {"method": "revision"}},
    "unchecked": {"feedback": {"method": "revision"}, "reinforce": {"length_control": False}},
    "judged": {"feedback": {"method": "multiple-choice"}},
    "rated": {"feedback": {"method": "rating"}},
    "contrast": {"feedback": {"method": "contrast"}},
    "plain": {"feedback": {"method": "revision"}, "constitution": "plain-english"},
}
CHAINS = (*(f"{kind}-{seed}" for kind in KINDS for seed in range(SEEDS)), "self")
LORA = {"lora": {"rank": 16}, "micro_batch_size": 4, "learning_rate": 2.0e-4}
SELF = {  # of ``self``, whose policy is ten times as dear
    "prompts": {"red_team": {"train": 24, "held_out": 48}, "helpful": {"train": 16, "held_out": 16}},
    "feedback": {"method": "revision"},
    "supervised": LORA,
    "preference_model": LORA,
    "reinforce": LORA | {"prompts_per_step": 4, "micro_batch_size": 8, "steps": 8},
    "evaluation": {"judged": 8},
}
UNTIL = {"plain": "supervised"}  # the last stage of kinds that end early
PARTS = ("prepare", "chains", "answers", "judge", "score", "hhh", "blind", "harm", "report")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all", "ablations"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the folder of the shared data")
    parser.add_argument("--supervisor", help="the model that criticises and gives feedback")
    parser.add_argument("--policy", default="smollm2", help="is trained; the unseen judge begins as it too")
    parser.add_argument("--judge", help="the model that compares, blind")
    parser.add_argument("--run", help="which chain; all of them without")
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml")
    parser.add_argument("--ablations", type=Path, default=HERE / "ablations.yaml")
    parser.add_argument(
        "--limit", type=int, help="how many rows of HHH, and prompts of each set and run for blind and harm"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    for part in PARTS if asked.part == "all" else [asked.part]:
        do(part, asked)


def do(part: str, asked: argparse.Namespace) -> None:
    settings, work = config.load(asked.config), asked.work
    batch_size = settings.harm_scorer.micro_batch_size
    parts: dict[str, Callable[[], None]] = {
        "prepare": lambda: prepare(asked, yaml.safe_load(asked.config.read_text())),
        "chains": lambda: chains(work, [asked.run] if asked.run else CHAINS),
        "ablations": lambda: ablations(work),
        "answers": lambda: answers(work),
        "judge": lambda: train_judge(work, asked.policy, settings.harm_scorer),
        "score": lambda: score(work, batch_size),
        "hhh": lambda: measures.hhh(work, asked.data, batch_size, asked.limit),
        "blind": lambda: blind(work, asked.judge, settings, asked.limit),
        "harm": lambda: measures.harm(work, asked.judge, settings.engine, asked.limit),
        "report": lambda: report.write(work, asked.results),
    }
    parts[part]()


def chains(work: Path, names: Sequence[str]) -> None:
    for name in names:
        kind = name.partition("-")[0]
        # What does not depend on the labels is done once for all kinds of a seed.
        donors = [work / name.replace(kind, other) for other in KINDS if other != kind]
        donors = [donor for donor in donors if (donor / "manifest.json").exists()]
        until = UNTIL.get(kind, "evaluation")
        pipeline.run(config.load(work / f"{name}.yaml"), work / name, SCREEN, until=until, donors=donors)


def ablations(work: Path) -> None:
    base = [work / "judged-0"] if (work / "judged-0/manifest.json").exists() else []
    for path in sorted(work.glob("ablation-*.yaml")):
        sweep.run(load(str(path)), path.with_suffix(""), SCREEN, base)


def answers(work: Path) -> None:
    for kind in UNTIL:
        for path in sorted(work.glob(f"{kind}-*/03-sl-cai/{CHECKPOINT}")):
            run = path.parent.parent
            measures.answers(run, config.load(run / "config.yaml"))


def prepare(asked: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Prompts, the judge's pairs, and a configuration for every run."""
    asked.work.mkdir(parents=True, exist_ok=True)
    pairs = [comparison_of(row) for row in tables.rows(str(asked.data / PAIRS))]
    red_team = {prompt[0]["content"] for prompt, *_ in pairs if share(prompt) >= JUDGED}
    helpful = {pair.dialogue[0]["content"] for pair in paper_evals.read_pairs(str(asked.data / HELPFUL))}
    helpful |= {each["prompt"][0]["content"] for each in data.prompts("packaged", "helpful")}
    for name, texts in (("red-team", red_team), ("helpful", helpful)):
        rows = [{"prompt": text} for text in sorted(texts) if 0 < len(text) <= CHARACTERS]
        write_lines(asked.work / f"{name}.jsonl", rows)
    for name, low, high in (("train", TESTED, JUDGED), ("test", 0.0, TESTED)):
        write_lines(
            asked.work / f"judge-{name}.jsonl",
            [
                {"prompt": prompt, "chosen": chosen, "rejected": rejected}
                for prompt, chosen, rejected in pairs
                if low <= share(prompt) < high and chosen and rejected and chosen != rejected
            ],
        )
    for set_name in ("red-team", "helpful"):
        settings["prompts"][set_name.replace("-", "_")]["source"] = str(
            (asked.work / f"{set_name}.jsonl").resolve()
        )
    roles = {"assistant": asked.policy, "critic": asked.supervisor, "feedback": asked.supervisor}
    for seed in range(SEEDS):
        for kind, own in KINDS.items():
            of_kind = merge(settings, own) | {"models": roles, "seed": seed}
            write_config(asked.work / f"{kind}-{seed}.yaml", of_kind)
    by_itself = merge(settings, SELF) | {"models": {"assistant": asked.supervisor}}
    write_config(asked.work / "self.yaml", by_itself)
    for name, variations in yaml.safe_load(asked.ablations.read_text()).items():
        write_config(asked.work / f"ablation-{name}.yaml", {"base": "judged-0.yaml", **variations})


def share(prompt: Sequence[Message]) -> float:
    return share_of("chain study", folded([prompt[0]]))


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_config(path: Path, settings: dict[str, Any]) -> None:
    write_atomically(path, yaml.safe_dump(settings, sort_keys=False))


def train_judge(work: Path, model: str, settings: config.HarmScorer) -> None:
    """Train the unseen judge on people's pairs; ``judge.json`` gets its margins on those it has not seen.

    It knows people's labels of harm, which the method does without: it is marked, and no run can take it.
    """
    if (work / "judge.json").exists():
        return
    known = {name: list(labelled(work / f"judge-{name}.jsonl")) for name in ("train", "test")}
    own = config.PreferenceModel(
        **{name: getattr(settings, name) for name in config.Training.model_fields}, held_out=0
    )
    preference.train(
        known["train"], model, work / "judge", own, 0, lambda done, steps, row: None, human_harm=True
    )
    read = preference_scores.scorer(str(work / "judge"), settings.micro_batch_size)
    margins = [
        chosen - rejected
        for chosen, rejected in zip(
            *(
                read([pair["prompt"] + pair[side] for pair in known["test"]])
                for side in ("chosen", "rejected")
            ),
            strict=True,
        )
    ]
    found = {"trained_on": len(known["train"]), "margins": margins}
    write_atomically(work / "judge.json", json.dumps(found))


def labelled(path: Path) -> Iterator[PreferenceRecord]:
    for number, row in enumerate(map(json.loads, path.read_text().splitlines())):
        yield PreferenceRecord(
            id=str(number),
            prompt=row["prompt"],
            chosen=row["chosen"],
            rejected=row["rejected"],
            probability=1.0,
            aspect="harmlessness",
            kind="",
            split="train",
            label_source="human",
            labeller="hh-rlhf",
            votes=[],
        )


def score(work: Path, batch_size: int) -> None:
    """``RUN.scores.jsonl``: the unseen judge's score of every held-out answer; and of revisions."""
    read = preference_scores.scorer(str(work / "judge"), batch_size)
    for run in report.runs(work):
        answers, path = report.answers_of(run), report.beside(run, "scores.jsonl")
        if scored(path, answers):
            continue
        asked = [(each, answer) for each in answers for answer in each["answers"]]
        scores = read([[*each["prompt"], assistant(whole(answer["text"]))] for each, answer in asked])
        write_lines(
            path,
            [
                {"id": each["id"], "set": each["set"], "model": answer["model"], "score": round(value, 4)}
                for (each, answer), value in zip(asked, scores, strict=True)
            ],
        )
    score_revisions(work, read)


def scored(path: Path, records: Sequence[EvaluationRecord | RevisionRecord]) -> bool:
    """Whether the file has all of the records, whose run may have gone on since it was written."""
    return path.exists() and RecordFile(path).ids() == {each["id"] for each in records}


def whole(text: str) -> str:
    """The text up to its last whole sentence.

    Answers that ran into their limit end in the middle of one, as no answer does that the judge has learned
    from: it scored them far too high.
    """
    return trimmed(text, "length").text


def score_revisions(work: Path, read: Callable[[list[list[Message]]], list[float]]) -> None:
    """``RUN.revisions.jsonl``: the unseen judge's score of each answer, and of what each round made of it.

    A degenerate revision has the score of the text that stayed.
    """
    for run in report.begun(work):
        revised: list[RevisionRecord] = RecordFile(run / "02-critique/revisions.jsonl").read()
        path = report.beside(run, "revisions.jsonl")
        if scored(path, revised):
            continue
        texts = [revisions.texts(each) for each in revised]
        scores = iter(
            read(
                [
                    [*each["prompt"], assistant(whole(text))]
                    for each, mine in zip(revised, texts, strict=True)
                    for text in mine
                ]
            )
        )
        write_lines(
            path,
            [
                {"id": each["id"], "scores": [round(next(scores), 4) for _ in mine]}
                for each, mine in zip(revised, texts, strict=True)
            ],
        )


def blind(work: Path, judge: str, settings: config.Config, limit: int | None = None) -> None:
    """``RUN.blind.jsonl`` for every run: what another model says of its models' answers, two by two."""
    laws = {"harmlessness": constitution.load("harmless"), "helpfulness": constitution.load("helpful")}
    with open_engine(judge, settings.engine) as engine:
        for run in report.runs(work):
            answers = tournament.first_of_sets(report.answers_of(run), limit)
            texts: dict[str, dict[str, str]] = {}
            for each in answers:
                for answer in each["answers"]:
                    texts.setdefault(answer["model"], {})[each["id"]] = answer["text"]
            file = RecordFile(report.beside(run, "blind.jsonl")).recover()
            measures.of_one(file, judge)
            known = file.ids()
            wanted = [match for match in tournament.matches(answers, texts) if match["id"] not in known]
            for judgement in tournament.play(
                engine, wanted, laws, tournament.settings_of(settings), derive_seed(0, "blind")
            ):
                file.append({**judgement, "judge": Path(judge).name})


if __name__ == "__main__":
    main()
