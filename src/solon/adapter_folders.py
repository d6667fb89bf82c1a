"""Folders that hold adapters alone, as PEFT writes them, and name the model that these are for."""

from pathlib import Path

from solon import cards
from solon.errors import SolonError
from solon.store.files import local
from solon.training_settings import Lora

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether the folder has adapters, and not a whole model beside them."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_of(name: str) -> Path | None:
    """The folder that ``name`` stands for where it holds adapters."""
    folder = local(name)
    return folder if folder and is_adapter(folder) else None


def base_of(folder: Path) -> str:
    """The name of the model that the folder's adapters are for: of one that has moved with it, where that is.

    Raises SolonError where it names none, where that is not here, or where it has adapters itself.
    """
    base = cards.json_of(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise SolonError(
            f"{folder / CONFIG} does not say which model its adapters are for: write its name as "
            "base_model_name_or_path"
        )
    gone, beside = Path(base).is_absolute() and not Path(base).exists(), folder.parent / Path(base).name
    if gone and beside.exists():
        return str(beside)
    if gone or adapter_of(base):
        problem = "not here" if gone else "adapters itself"
        raise SolonError(
            f"the adapters in {folder} are for {base!r}, which is {problem}: correct base_model_name_or_path "
            f"in {CONFIG} to the name or folder of the whole model"
        )
    return base


def fits(name: str, lora: Lora | None) -> None:
    """Raises SolonError where training goes on from adapters, and ``lora`` asks for others."""
    folder = adapter_of(name)
    if not folder or not lora:
        return
    theirs = cards.json_of(folder / CONFIG)
    rank, alpha = theirs.get("r", lora.rank), theirs.get("lora_alpha", lora.alpha)
    if (rank, alpha) != (lora.rank, lora.alpha):
        raise SolonError(
            f"model {name!r} is adapters of rank {rank} and alpha {alpha}, and training goes on from them, "
            f"but lora has rank {lora.rank} and alpha {lora.alpha}: give lora theirs"
        )
