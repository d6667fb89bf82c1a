"""What older programs read of a checkpoint is written beside what transformers 5 writes.

transformers 4 does not know the class that 5 names for a tokenizer, and takes its own default for the base
of rotary positions where that is not where it was. docs/run-folder.md says which versions read a checkpoint
right, and tests/older_readers.py tries it.
"""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from solon.store.files import write_atomically

RENAMED = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}


def write_for(folder: Path) -> None:
    """Add to the configurations of the model and the tokenizer that were saved there."""
    _rewrite(folder / "tokenizer_config.json", _tokenizer, folder / "chat_template.jinja")
    path = folder / "config.json"
    said, meant = path.read_text(), _positions_in(folder)
    _rewrite(path, _positions)
    if _positions_in(folder) != meant:  # a family for which 5 reads the old names otherwise
        write_atomically(path, said)


def _rewrite(path: Path, add: Any, *rest: Any) -> None:
    said = json.loads(path.read_bytes())
    add(said, *rest)
    write_atomically(path, json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _tokenizer(config: dict[str, Any], template: Path) -> None:
    if template.exists():
        config["chat_template"] = template.read_text(encoding="utf-8")
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")


def _positions(config: dict[str, Any]) -> None:
    """Rotary positions as transformers 4 has them."""
    for part in (config, config.get("text_config") or {}):
        rope = part.get("rope_parameters") or {}
        full = rope.get("full_attention", rope)
        names = RENAMED.get(part.get("model_type", ""), {})
        for name in ("rope_theta", "partial_rotary_factor"):
            if name in full:
                part[names.get(name, name)] = full[name]
        if full.get("rope_type", "default") != "default":
            part["rope_scaling"] = {name: value for name, value in full.items() if name != "rope_theta"}
        if "sliding_attention" in rope:
            part["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]


def _positions_in(folder: Path) -> Any:
    """As this version of transformers reads them."""
    try:
        return getattr(AutoConfig.from_pretrained(folder).get_text_config(), "rope_parameters", None)
    except Exception as error:  # of all sorts
        return str(error)
