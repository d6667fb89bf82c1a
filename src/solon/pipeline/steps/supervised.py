"""Stage 3 in a run folder: SL-CAI, trained on revisions and helpful answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solon.pipeline.steps.inputs import of_model
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import Example
from solon.stages import examples


def train(bench: Workbench, mixed: Sequence[Example], out: Path) -> dict[str, float]:
    """Finetune the policy on the examples; returns the last step's metrics."""
    return bench.train("supervised", mixed, [bench.roles["policy"]], out, bench.seed("supervised"))


def run(work: Workspace) -> Done:
    mixed = work.complete(
        work.file("03-sl-cai/examples.jsonl"),
        examples.gather(
            work.file("02-critique/revisions.jsonl").read(),
            work.file("02-critique/helpful.jsonl").read(),
            work.config.supervised,
        ),
        lambda missing: missing,
    )
    train(work, mixed, Path(work.sl_cai))
    cut = sum(bool(example.get("cut")) for example in mixed)
    told = f"{cut} of {len(mixed)} examples were cut off by critique.max_tokens: no end of theirs is learned."
    return Done(len(mixed), [told] if cut else [])


def inputs(work: Workspace) -> dict[str, Any]:
    return {"supervised": work.config.supervised.model_dump(), **of_model(work, "policy")}
