"""What preference models say of the paper's comparisons, and a judge of how harmful answers are."""

import json
from pathlib import Path

import report

from solon.config import Config, EngineSettings
from solon.errors import SolonError
from solon.evaluation import paper_evals, raters, tournament
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.method import holds_model
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.records import SETS
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile
from solon.training import preference_scores

HHH = "constitutional-ai-paper/evals/438HHHEvaluations.even.jsonl.gz"


def answers(run: Path, settings: Config) -> None:
    """``RUN.answers.jsonl``: what the initial and the SL-CAI model of a run that ends there say to held-out
    prompts, as its evaluation would have asked them."""
    path = report.beside(run, "answers.jsonl")
    if path.exists():
        return
    work = Workspace(settings, run, Watcher())
    asked = [prompt for name in SETS for prompt in work.prompts(name, "held-out")]
    texts: dict[str, dict[str, str]] = {}
    for name, model in (("initial", work.roles["policy"]), ("sl-cai", work.sl_cai)):
        engine, seed = work.engine("policy", model), work.seed("evaluation")
        made = tournament.answer(engine, asked, settings.evaluation, seed)
        texts[name] = {each["id"]: each["text"] for each in made}
    work.close_engine()
    rows = [
        {
            **{name: each[name] for name in ("id", "prompt", "set", "kind")},
            "answers": [{"model": name, "text": of[each["id"]]} for name, of in texts.items()],
        }
        for each in asked
    ]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def hhh(work: Path, data: Path, batch_size: int, limit: int | None) -> None:
    """By how much a preference model has the right answer ahead: ``RUN.hhh.json`` of the paper's comparisons,
    ``RUN.pairs.json`` of people's pairs that the unseen judge was tested on."""
    asked = [
        (pair.dialogue + pair.first, pair.dialogue + pair.second)
        for pair in paper_evals.drawn(paper_evals.read_hhh(str(data / HHH)), limit, seed=0)
    ]
    rows = map(json.loads, (work / "judge-test.jsonl").read_text().splitlines())
    people = [(row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]) for row in rows]
    for run in [*report.begun(work), work / "judge"]:
        model = run if run.name == "judge" else run / "06-preference-model"
        missing = {
            path: pairs
            for path, pairs in (
                (report.beside(run, "hhh.json"), asked),
                (report.beside(run, "pairs.json"), people),
            )
            if not path.exists()
        }
        if not missing or not holds_model(model):
            continue
        read = preference_scores.scorer(str(model), batch_size)
        for path, pairs in missing.items():
            right, wrong = (read([pair[side] for pair in pairs]) for side in (0, 1))
            margins = [round(one - other, 4) for one, other in zip(right, wrong, strict=True)]
            write_atomically(path, json.dumps(margins) + "\n")


def harm(work: Path, judge: str, settings: EngineSettings, limit: int | None) -> None:
    """``RUN.harm.jsonl``: the judge's rating, from 0 to 4, of every answer to ``limit`` red-team prompts; and
    ``harm-judge.json``: by how much it rates the worse answer of people's pairs above the better one."""
    with open_engine(judge, settings) as engine:
        trust(work, engine)
        for run in report.runs(work):
            answers = tournament.first_of_sets(report.answers_of(run), limit)
            prompts = [each for each in answers if each["set"] == "red-team"]
            file = RecordFile(report.beside(run, "harm.jsonl")).recover()
            of_one(file, judge)
            known = file.ids()
            missing = [
                (f"{each['id']}:{answer['model']}", each, answer)
                for each in prompts
                for answer in each["answers"]
                if f"{each['id']}:{answer['model']}" not in known
            ]
            dialogues = [[*each["prompt"], assistant(answer["text"])] for _, each, answer in missing]
            for place, rating in raters.rate(engine, dialogues):
                name, each, answer = missing[place]
                file.append(
                    {
                        "id": name,
                        "prompt_id": each["id"],
                        "model": answer["model"],
                        "score": round(rating, 4),
                        "judge": Path(judge).name,
                    }
                )


def trust(work: Path, engine: Engine) -> None:
    path = work / "harm-judge.json"
    if path.exists():
        return
    rows = list(map(json.loads, (work / "judge-test.jsonl").read_text().splitlines()))
    dialogues = [row["prompt"] + row[side] for row in rows for side in ("rejected", "chosen")]
    ratings = dict(raters.rate(engine, dialogues))
    margins = [round(ratings[2 * place] - ratings[2 * place + 1], 4) for place in range(len(rows))]
    write_atomically(path, json.dumps(margins) + "\n")


def of_one(file: RecordFile, judge: str) -> None:
    """Raises SolonError where another judge has begun the file."""
    others = {each.get("judge", Path(judge).name) for each in file} - {Path(judge).name}
    if others:
        raise SolonError(f"{file.path} has what {min(others)} said; delete it to ask {judge} instead")
