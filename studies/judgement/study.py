"""How well small models judge, by every way of asking them.

    python studies/judgement/study.py --data ../shared/data --models ../shared [--report]

Measures what ``config.yaml`` schedules and ``results/`` lacks, a row at a time, so that it may be stopped at
any moment; then makes ``results/table.json`` of all that is there, as ``--report`` does at once. ``--models``
is the folder that the configuration's model files are named from.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table
import ways
import yaml

from solon import constitution
from solon.config import EngineSettings
from solon.evaluation import kinds_of_harm, paper_evals
from solon.evaluation.paper_evals import LetteredChoice, Pair
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.records import PromptRecord
from solon.seeds import generator
from solon.sources import data

HERE = Path(__file__).parent
READ = {"hhh": paper_evals.read_hhh, "pairs": paper_evals.read_pairs, "choices": paper_evals.read_choices}


@dataclass(frozen=True)
class Prompt:
    """A red-team prompt, to be answered."""

    id: str
    record: PromptRecord


Row = Pair | LetteredChoice | Prompt
Key = tuple[str, str, str]  # data, way, id


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path())
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument(
        "--only", nargs="+", metavar="MODEL", help="measure these models of the configuration"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing more")
    asked = parser.parse_args(arguments)
    plan = yaml.safe_load(asked.config.read_text())
    rows = {name: ordered(asked.data, source, plan["seed"]) for name, source in plan["data"].items()}
    if not asked.report:
        measure_all(plan, rows, asked)
    table.write(
        plan,
        rows,
        {name: measured(asked.results / f"{name}.jsonl") for name in plan["models"]},
        asked.results,
    )


def ordered(folder: Path, source: dict[str, Any], seed: int) -> list[Row]:
    """The rows that are short enough, in an order drawn by the seed."""
    found: list[Row]
    if source["form"] == "prompts":
        found = [Prompt(each["id"], each) for each in data.prompts(source["file"], "red-team")]
    else:
        found = [row for row in READ[source["form"]](str(folder / source["file"])) if fits(row, source)]
    generator(seed, "rows").shuffle(found)
    return found


def fits(row: Row, source: dict[str, Any]) -> bool:
    if isinstance(row, LetteredChoice):
        return len(row.stem) <= source["characters"]
    texts = [*(turn["content"] for turn in row.dialogue), *row.texts]
    return all(texts) and row.texts[0] != row.texts[1] and sum(map(len, texts)) <= source["characters"]


def measure_all(plan: dict[str, Any], rows: dict[str, list[Row]], asked: argparse.Namespace) -> None:
    asked.results.mkdir(parents=True, exist_ok=True)
    files = {name: asked.results / f"{name}.jsonl" for name in plan["models"]}
    done = {name: {key(each) for each in measured(file)} for name, file in files.items()}
    for step in plan["schedule"]:
        for name in step["models"]:
            if asked.only and name not in asked.only:
                continue
            wanted = list(missing(plan, step, rows, done[name]))
            if not wanted:
                continue
            place = asked.models / plan["models"][name]
            model = str(place) if place.exists() else plan["models"][name]
            with open_engine(model, EngineSettings(**plan["engine"])) as engine:
                for dataset, way, some in wanted:
                    measure(engine, files[name], plan, asked.data, dataset, way, some, done[name])


def missing(
    plan: dict[str, Any], step: dict[str, Any], rows: dict[str, list[Row]], done: set[Key]
) -> Iterator[tuple[str, str, list[Row]]]:
    for way in step["ways"]:
        samples = plan["ways"][way].get("samples", 1)
        for dataset in step["data"]:
            if plan["data"][dataset]["form"] == "choices" and way not in {"zero-first", "few-first"}:
                continue  # there is no layout, and no second answer
            some = rows[dataset][: step["rows"]]
            if "characters" in step:
                some = [row for row in some if fits(row, step)]
            some = [row for row in some if not all((dataset, way, id) in done for id in ids(row, samples))]
            if some:
                yield dataset, way, some


def ids(row: Row, samples: int) -> list[str]:
    return [f"{row.id}/{sample}" for sample in range(samples)] if samples > 1 else [row.id]


def measure(
    engine: Engine,
    results: Path,
    plan: dict[str, Any],
    folder: Path,
    dataset: str,
    way: str,
    rows: Sequence[Any],
    done: set[Key],
) -> None:
    """Ask about the rows, and write down each answer with what it has cost since the answer before."""
    source, settings, seed = plan["data"][dataset], plan["ways"][way], plan["seed"]
    print(time.strftime("%H:%M:%S"), results.stem, dataset, way, len(rows), flush=True)

    def keep(kind: str, found: ways.Found) -> None:
        usage = engine.usage
        before, cpu = (usage.tokens_computed, usage.tokens_naive, usage.tokens_generated), time.process_time()
        with results.open("a") as file:
            for id, values in found:
                now = (usage.tokens_computed, usage.tokens_naive, usage.tokens_generated)
                spent = [int(new - old) for new, old in zip(now, before, strict=True)]
                seconds, before, cpu = time.process_time() - cpu, now, time.process_time()
                if (kind, way, id) in done:
                    continue
                record = {"data": kind, "way": way, "id": id, "values": rounded(values)}
                record |= {"tokens": spent, "cpu_seconds": round(seconds, 2)}
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
                file.flush()
                done.add((kind, way, id))

    if source["form"] == "choices":
        shots = (
            kinds_of_harm.shots(list(READ["choices"](str(folder / source["file"]))), 4, seed)
            if way == "few-first"
            else []
        )
        keep(
            dataset,
            ways.about_conversations(
                engine, [row for row in rows if row not in shots], settings, shots, seed
            ),
        )
        return
    if source["form"] == "prompts":
        prompts = [row.record for row in rows]
        keep(dataset, ways.made_pairs(engine, prompts, constitution.load(source["constitution"]), seed))
        return
    law = ways.law_of(source, settings, folder / plan["paper_prompts"])
    if way == "each-answer":
        keep(dataset, ways.each_answer(engine, rows, law, seed))
    elif way == "rated":
        keep(dataset, ways.rated(engine, rows))
    elif way == "likelihood":
        keep(dataset, ways.likelihood(engine, rows, law, seed))
    else:
        if not settings.get("chain_of_thought"):
            prior = f"prior of {dataset}"
            if not all((prior, way, text) in done for text in ways.CONTENT_FREE):
                keep(prior, ways.priors(engine, law, settings, seed))
        keep(dataset, ways.by_letter(engine, rows, law, settings, seed))


def measured(file: Path) -> list[dict[str, Any]]:
    """What the results have of a model. A line that a killed run left torn is cut off the file."""
    if not file.exists():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def key(record: dict[str, Any]) -> Key:
    return record["data"], record["way"], record["id"]


def rounded(values: Any) -> Any:
    return [rounded(each) for each in values] if isinstance(values, list | tuple) else round(values, 4)


if __name__ == "__main__":
    main()
