"""What older programs read of a checkpoint is written beside what transformers 5 writes.

transformers 4 does not know the class that 5 names for a tokenizer, and takes its own default for the base
of rotary positions where that is not where it was. Which versions read a checkpoint right is in
docs/run-folder.md; tests/older_readers.py tries it.
"""

import json
from pathlib import Path
from typing import Any

from solon.store.files import write_atomically


def write_for(folder: Path) -> None:
    """Add to the configurations of the model and the tokenizer that were saved there."""
    for name, add in {"config.json": _positions, "tokenizer_config.json": _tokenizer}.items():
        path = folder / name
        said = json.loads(path.read_bytes())
        add(said)
        write_atomically(path, json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _positions(config: dict[str, Any]) -> None:
    """Rotary positions as transformers 4 has them; 5 reads both, and they say the same."""
    for part in (config, config.get("text_config") or {}):
        rope = part.get("rope_parameters") or {}
        full = rope.get("full_attention", rope)
        if "rope_theta" not in full:
            continue
        part["rope_theta"] = full["rope_theta"]
        if "partial_rotary_factor" in full:
            part["partial_rotary_factor"] = full["partial_rotary_factor"]
        if full.get("rope_type", "default") != "default":
            part["rope_scaling"] = {key: value for key, value in full.items() if key != "rope_theta"}
        if sliding := rope.get("sliding_attention"):
            part["rope_local_base_freq"] = sliding["rope_theta"]


def _tokenizer(config: dict[str, Any]) -> None:
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
