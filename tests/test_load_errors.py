"""What is said of a model that cannot be loaded fits the cause."""

import json
import shutil
from pathlib import Path

import pytest

from solon import models
from solon.errors import SolonError
from solon.load_errors import mend

OTHERWISE = "copy it anew"


def changed(tiny_model: Path, folder: Path, **settings: object) -> str:
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "of_tomorrow"}, "upgrade transformers"),
        (
            {
                "model_type": "own",
                "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
            },
            "code that comes with it, which is never run",
        ),
    ],
)
def test_an_unknown_family_is_no_damaged_file(
    tiny_model: Path, tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    name = changed(tiny_model, tmp_path / "model", **settings)
    with pytest.raises(SolonError, match=says) as caught:
        models.load_model(name)
    assert "copy it anew" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SolonError, match="does not say which model its adapters are for: write its name"):
        models.resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("You are trying to access a gated repo.\nMake sure"), "ask for access"),
        (OSError("x/y is not a local folder and is not a valid model identifier listed"), "check its name"),
        (OSError("We couldn't connect to the hub to load the files"), "cannot be reached"),
        (OSError(28, "No space left on device"), "make room"),
        (PermissionError(13, "Permission denied"), "readable"),
        (MemoryError(), "not the memory"),
        (ImportError("This tokenizer requires the sentencepiece library"), "install"),
        (
            ValueError("Unrecognized configuration class T5Config for this kind of AutoModel"),
            "of this family",
        ),
        (ValueError("header too small"), OTHERWISE),
    ],
)
def test_the_mend_fits_the_cause(error: Exception, says: str) -> None:
    assert says in mend(error, OTHERWISE)
