"""What older programs read of a checkpoint is written beside what transformers 5 writes.

transformers 4 does not know the class that 5 names for a tokenizer, and takes its own defaults for the base
of rotary positions and the number of experts where these are not where they were. docs/training.md says
which versions read a checkpoint right, and tests/older_readers.py tries it.
"""

import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig

from solon.store.files import write_atomically

RENAMED = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}


def write_for(folder: Path) -> None:
    """Add to the configurations of the model and the tokenizer that were saved there."""
    _rewrite(folder / "tokenizer_config.json", _tokenizer, folder / "chat_template.jinja")
    path = folder / "config.json"
    if not path.exists():  # adapters alone: the model that they are for has one
        return
    said, meant = path.read_text(), _meant(folder)
    _rewrite(path, _model)
    if _meant(folder) != meant:  # a family for which 5 reads the old names otherwise
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


def _model(config: dict[str, Any]) -> None:
    """Rotary positions, and how many experts there are, as transformers 4 has them."""
    for part in (config, config.get("text_config") or {}):
        kind = CONFIG_MAPPING[part["model_type"]] if part.get("model_type") in CONFIG_MAPPING else None
        for older, name in getattr(kind, "attribute_map", {}).items():
            if older == "num_experts" and name in part:
                part[older] = part[name]
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


def _meant(folder: Path) -> Any:
    """The same as this version of transformers reads them."""
    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
    except Exception as error:  # of all sorts
        return str(error)
    return [getattr(config, name, None) for name in ("rope_parameters", "num_experts")]
