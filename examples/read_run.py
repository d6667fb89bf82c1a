"""What a run thought: critiques, votes and labels. python examples/read_run.py [RUN]

RUN is the folder of a run, by default that of `make demo`. Its records are JSON Lines, which `datasets` reads
too; `solon.records` says what their fields mean. Read with their type, a record that does not fit is refused.
"""

import sys
from pathlib import Path

from solon.records import PreferenceRecord, RevisionRecord
from solon.store.record_file import RecordFile


def main(run: str = "runs/demo") -> None:
    labels: dict[str, PreferenceRecord] = {
        label["id"]: label
        for label in RecordFile(Path(run) / "05-feedback/preferences.jsonl", PreferenceRecord)
    }
    record: RevisionRecord
    for record in RecordFile(Path(run) / "02-critique/revisions.jsonl", RevisionRecord):
        print(f"\n=== {record['prompt'][-1]['content']}\nanswer: {record['answer']}")
        for made in record["rounds"]:
            print(f"critique ({made['principle']}): {made['critique']}")
            print(
                f"revision: {made['revision']}"
                + (f" [not kept: {made['problem']}]" if made["problem"] else "")
            )

        # A prompt keeps its id to the end. A pair without a label was two equal or unusable answers.
        if label := labels.get(record["id"]):
            print(f"preferred, at {label['probability']:.0%}: {label['chosen'][0]['content']}")
            print(f"to: {label['rejected'][0]['content']}")
            for vote in label["votes"]:
                print(f"  {vote['probability']:.0%} by {vote['principle']}, by order {vote['orders']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
