"""GGUF weights as an ordinary folder in the cache: packed ones can be neither trained nor saved."""

import glob
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from solon.errors import SolonError, first_line
from solon.load_errors import mend
from solon.store.files import file_hash

UNPACKING = "2"  # raised when GGUF files are unpacked in another way: what was cached before is not used


def cache_folder() -> Path:
    """Where dequantized models are kept: $SOLON_CACHE, or ``~/.cache/solon``."""
    return Path(os.environ.get("SOLON_CACHE") or Path.home() / ".cache" / "solon")


def dequantized(gguf: Path) -> Path:
    """The folder with the file's weights in float32, made once and found by the file's hash afterwards.

    Raises SolonError for a file that cannot be read, or that lacks tensors of the model.
    """
    folder = cache_folder() / f"{gguf.stem}-{file_hash(gguf)[:12]}-{UNPACKING}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model, info = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            output_loading_info=True,
        )
        _all_tensors(gguf, info["missing_keys"])
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.replace(folder)
    except SolonError:
        raise
    except Exception as error:  # the libraries raise all sorts for a damaged file
        if not folder.exists():  # another process may have made it meanwhile
            raise SolonError(
                f"{gguf} could not be read as a GGUF model ({first_line(error)}); "
                f"{mend(error, 'download it again')}"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _all_tensors(gguf: Path, missing: Collection[str]) -> None:
    """The library would fill those that are not in the file with random numbers."""
    if not missing:
        return
    fields = GGUFReader(gguf).fields
    parts = fields["split.count"].contents() if "split.count" in fields else 1
    part = f"it is one of {parts} parts; join them (llama-gguf-split --merge) and name the whole"
    raise SolonError(
        f"{gguf} lacks {len(missing)} of the model's weights, such as {min(missing)}: "
        + (part if parts > 1 else "download it again")
    )


def unpacked(gguf: Path) -> bool:
    """Whether the file, or one of its name, has been dequantized."""
    return any(cache_folder().glob(f"{glob.escape(gguf.stem)}-*-{UNPACKING}"))
