"""What critique and supervised finetuning worked with: texts that came from the prompts."""

from collections.abc import Sequence

from solon.audit.run import Found, Run, by_id, repeated
from solon.records import Message
from solon.stages.examples import sound_revisions


def supervised_examples(run: Run) -> Found:
    sound: dict[str, tuple[Sequence[Message], str]] = {
        f"{record['id']}/{number}": (record["prompt"], text)
        for record in run.folder.revisions
        for number, text in sound_revisions(record)
    }
    revised = len(sound)
    sound |= {
        record["id"]: (record["prompt"], record["messages"][-1]["content"])
        for record in run.folder.helpful
        if not record["problem"]
    }
    wrong = repeated(run.folder.examples)
    for example in run.folder.examples:
        said = (example["prompt"], example["completion"][0]["content"])
        if example["id"] not in sound:
            wrong.append(f"{example['id']} is no sound revision or helpful answer of 02-critique")
        elif sound[example["id"]] != said or len(example["completion"]) != 1:
            wrong.append(f"{example['id']} has another text than in 02-critique")
    return Found(
        f"{len(run.folder.examples)} examples; 02-critique has {revised} + {len(sound) - revised} sound",
        wrong,
    )


def prompts_of_stages(run: Run) -> Found:
    prompts = by_id(run.folder.prompts)
    wrong, counts = [], []
    for what, records, of_set in (
        ("revisions", run.folder.revisions, "red-team"),
        ("helpful answers", run.folder.helpful, "helpful"),
        ("pairs", run.folder.pairs, None),
    ):
        counts.append(f"{len(records)} {what}")
        wrong += repeated(records)
        for record in records:
            prompt = prompts.get(str(record.get("prompt_id", record["id"])))
            if prompt is None or prompt["prompt"] != record["prompt"]:
                wrong.append(f"{record['id']} of the {what} is no prompt of 01-red-team")
            elif prompt["split"] != "train" or prompt["set"] != (of_set or record.get("set")):
                wrong.append(f"{record['id']} of the {what} is a {prompt['split']} {prompt['set']} prompt")
    return Found(", ".join(counts), wrong)
