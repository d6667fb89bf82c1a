"""Whether an older transformers reads Solon's checkpoints right.

    python tests/older_readers.py OLD_PYTHON [FAMILY ...]

builds tiny models here, saves them as trainings do, and has ``OLD_PYTHON``, an interpreter with the older
version, compute logits, tokens and a dialogue from each folder: "right", "wrong", or why it reads none.
"""

import json
import subprocess
import sys
from pathlib import Path

ASKED = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26]
TEXT = "Tea?<|im_end|>\n<|im_start|>Why do people in the north drink it?"
DIALOGUE = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Gladly."}]


def read(folder: str) -> dict[str, object]:
    """What the transformers of this interpreter makes of the folder; any version that there is."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ASKED])).logits[0, -1]
    return {
        "logits": logits.tolist(),
        "tokens": tokenizer(TEXT)["input_ids"],
        "dialogue": tokenizer.apply_chat_template(DIALOGUE, tokenize=False),
        "end": tokenizer.eos_token,
    }


def compare(old_python: str, folder: Path) -> str:
    told = subprocess.run([old_python, __file__, str(folder)], check=False, capture_output=True, text=True)
    if told.returncode:
        return "not read: " + told.stderr.strip().splitlines()[-1][:160]
    old, new = json.loads(told.stdout.splitlines()[-1]), json.loads(json.dumps(read(str(folder))))
    apart = max(abs(one - other) for one, other in zip(old.pop("logits"), new.pop("logits"), strict=True))
    other = [name for name in new if old[name] != new[name]]
    if apart > 1e-3 or other:
        return f"wrong: logits are {apart:.2g} apart" + "".join(f", {name} differs" for name in other)
    return "right"


def unusual_positions(path: Path) -> None:
    """Another base than what an older version takes where it finds none."""
    said = json.loads(path.read_text())
    rope = said.get("rope_parameters") or {}
    for part in (rope, *rope.values()):
        if isinstance(part, dict) and "rope_theta" in part:
            part["rope_theta"] *= 30
    path.write_text(json.dumps(said))


def main(old_python: str, families: list[str]) -> int:
    import tempfile

    from conftest import tiny_llama
    from solon import models
    from solon.training import checkpoints
    from training_families import FAMILIES, build

    count = 0
    with tempfile.TemporaryDirectory() as place:
        tokenizer = tiny_llama(Path(place) / "tokenizer")
        for family in families or FAMILIES:
            folder, saved = Path(place) / family, Path(place) / f"{family}-saved"
            if why := build(family, tokenizer, folder):
                print(json.dumps({"family": family, "status": f"not to be had: {why}"}), flush=True)
                continue
            unusual_positions(folder / "config.json")
            saved.mkdir()
            checkpoints.save(models.load_model(str(folder)), models.load_tokenizer(str(folder)), saved)
            status = compare(old_python, saved)
            count += status.startswith("wrong")
            print(json.dumps({"family": family, "status": status}), flush=True)
    return count


if __name__ == "__main__":
    if Path(sys.argv[1]).is_dir():
        print(json.dumps(read(sys.argv[1])))
    else:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
