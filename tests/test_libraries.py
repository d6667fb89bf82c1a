"""What Solon uses of libraries beyond what they promise to keep is still there, and still in use."""

import ast
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback
from trl import GRPOConfig, RewardConfig, RLOOConfig, SFTConfig

from solon import config
from solon.evaluation import harm_scorer
from solon.evaluation.human_ratings import Rated
from solon.libraries.trl import DataCollatorForPreference
from solon.policy import dpo, grpo, rloo
from solon.prompts.dialogue import assistant, user
from solon.stages import preference, reinforce, supervised
from solon.training import packing, setup, trainers
from toy_training import QUESTIONS, example, pair, prompt_records, unwatched

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/solon"

LIBRARIES = {"accelerate", "bitsandbytes", "datasets", "peft", "ray", "torch", "transformers", "trl", "vllm"}
DOCUMENTED = {  # of their inner modules, as the libraries' references name what is in them
    "accelerate.utils",
    "bitsandbytes.functional",
    "bitsandbytes.optim",
    "ray.exceptions",
    "torch.distributed",
    "torch.distributed.checkpoint",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.functional",
    "torch.nn.utils.rnn",
    "torch.optim",
    "torch.utils.checkpoint",
    "transformers.modeling_outputs",
    "transformers.utils",
    "transformers.utils.logging",
}
OF_TUPLES = {"_asdict", "_fields", "_replace"}  # Python's own, documented
OUR_STRINGS = {"'_interval'", "'_KEY'"}  # how some names of figures, and keys' variables, end

PROMISED_NOWHERE = {
    "aux_loss_enabled",
    "base_layer",
    "cpu_linear",
    "engine_core",
    "fused_lm_head",
    "model_executor",
    "moe_kernel",
    "is_loaded_in_4bit",
    "prepare_fsdp",
    "process_weights_after_loading",
    "reload_weights",
    "support_avx512bf16_for_cpu",
}
"""Names in the adapters that look like public ones."""

NOT_CALLED = {
    "ScorerTrainer": {"create_model_card"},  # transformers' own trainer makes one for the hub alone
}


@pytest.mark.parametrize("configuration", [SFTConfig, RewardConfig, RLOOConfig, GRPOConfig])
def test_no_trainer_computes_activations_twice(configuration: type, tmp_path: Path) -> None:
    several = {"num_generations": 2} if configuration in (RLOOConfig, GRPOConfig) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = configuration(**setup.common_arguments(tmp_path, 0, 2, 2, []), **several)
    assert arguments.gradient_checkpointing is False
    assert getattr(arguments, "activation_checkpointing", False) is False


# Where a private name may stand


def files() -> Iterator[Path]:
    """The package's, but for the adapters."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.parent != PACKAGE / "libraries":
            yield file


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def imported(node: ast.AST) -> list[tuple[str, str]]:
    """Modules and what is taken from them ("" for themselves) by an import of what is not ours."""
    if isinstance(node, ast.Import):
        found = [(alias.name, "") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        found = [(node.module or "", alias.name) for alias in node.names]
    else:
        return []
    return [each for each in found if each[0].split(".")[0] not in {"solon", *sys.stdlib_module_names}]


def unpromised(module: str, name: str) -> bool:
    """Whether what is imported is private, or deeper in one of the libraries than is documented."""
    library, *inner = module.split(".")
    deep = library in LIBRARIES and inner and module not in DOCUMENTED
    return bool(deep or any(map(is_private, [*inner, name])))


def private_names(file: Path) -> list[tuple[int, str]]:
    """Names of libraries in the file, with their lines, that they may change at any time.

    What begins with an underscore is ours where ``self`` has it and the file itself makes it.
    """
    tree = ast.parse(file.read_text())
    made = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    made |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and type(node.ctx) is ast.Store
    }
    found = []
    for node in ast.walk(tree):
        for module, name in imported(node):
            if unpromised(module, name):
                found.append((node.lineno, f"{module} {name}"))
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in OF_TUPLES:
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not (of_self and node.attr in made):
                found.append((node.lineno, ast.unparse(node)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
            found.append((node.lineno, repr(node.value)))
    return found


def test_private_names_stand_in_the_adapters_alone() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {name}"
        for file in files()
        for line, name in private_names(file)
        if name not in OUR_STRINGS
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "from trl.trainer.utils import split_tensor_dict",
        "import transformers.modeling_layers",
        "from torch._dynamo import config",
        "from transformers import _private",
        "torch.ops.mkldnn._linear_pointwise(x)",
        "trainer._metrics",
        "self._metrics['train']",
        "super()._save_checkpoint(model, trial)",
        "getattr(model.config, '_attn_implementation')",
    ],
)
def test_a_private_name_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(line)
    assert len(private_names(tmp_path / "module.py")) == 1


def adapters_names() -> set[str]:
    """Every name in the adapters that a library may change at any time."""
    found: set[str] = set()
    for file in (PACKAGE / "libraries").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            found |= {name for module, name in imported(node) if unpromised(module, name)}
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef) and is_private(node.name):
                found.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
                found.add(node.value)
    return found


def test_the_list_of_private_names_is_whole() -> None:
    """docs/libraries.md has each in a row of its tables, with the tests that would miss it."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", (ROOT / "docs/libraries.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == adapters_names() | PROMISED_NOWHERE
    for name, guards in rows:
        for file, test in re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", guards) or [("", "")]:
            text = (ROOT / "tests" / file).read_text() if file else ""
            assert file and f"def {test}" in text, f"{name}: no such test: {guards}"


# What is overridden


def ours() -> list[type]:
    """The classes that Solon puts on trainers of libraries, on their callbacks and on their collators."""
    found, waiting = [], [Trainer, TrainerCallback, DataCollatorForPreference]
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            if each.__module__.startswith("solon.") and not each.__module__.startswith("solon.libraries."):
                found.append(each)
    return sorted(found, key=lambda kind: kind.__name__)


def parts(kind: type) -> tuple[list[type], type]:
    """The classes of ours that it consists of, and the library's class below them."""
    mine = [each for each in kind.__mro__ if each.__module__.startswith("solon.")]
    return mine, next(each for each in kind.__mro__ if each not in mine)


def methods(kind: type) -> dict[str, Any]:
    """Those of ours, of which each is found first in the kind's order."""
    mine, _ = parts(kind)
    own = (item for each in reversed(mine) for item in vars(each).items())
    return {name: value for name, value in own if inspect.isfunction(value)}


KINDS = pytest.mark.parametrize("kind", ours(), ids=lambda kind: kind.__name__)


def takes_what_is_given(mine: inspect.Signature, theirs: inspect.Signature) -> bool:
    """Whether a method can stand in another's place: arguments of the same names, and the rest taken too."""
    rest = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    named, wanted = (
        [name for name, each in signature.parameters.items() if each.kind not in rest]
        for signature in (mine, theirs)
    )
    more_of_mine = any(each.kind in rest for each in mine.parameters.values())
    more_of_theirs = any(each.kind in rest for each in theirs.parameters.values())
    same = min(len(named), len(wanted))
    return (
        named[:same] == wanted[:same]
        and (len(wanted) == same or more_of_mine)
        and (len(named) == same or more_of_theirs)
    )


@KINDS
def test_what_is_overridden_is_there_with_the_same_arguments(kind: type) -> None:
    mine, library = parts(kind)
    for part in mine:
        for name, value in vars(part).items():
            if is_private(name) and inspect.isfunction(value):
                assert hasattr(library, name), f"{library.__name__} has no {name} any more"
            if name.startswith("__") or not hasattr(library, name):
                continue
            assert inspect.isfunction(value), f"{name} of {part.__name__} hides that of {library.__name__}"
            theirs = inspect.signature(getattr(library, name))
            assert takes_what_is_given(inspect.signature(value), theirs), f"{part.__name__}.{name}: {theirs}"


def test_arguments_that_differ_are_found() -> None:
    def given(function: Any) -> inspect.Signature:
        return inspect.signature(function)

    base = given(lambda self, model, inputs: 0)
    assert takes_what_is_given(given(lambda self, model, inputs: 0), base)
    assert takes_what_is_given(given(lambda self, model, *_: 0), base)
    assert not takes_what_is_given(given(lambda self, model: 0), base)
    assert not takes_what_is_given(given(lambda self, inputs, model: 0), base)
    assert not takes_what_is_given(given(lambda self, model, inputs, scale: 0), base)


@KINDS
def test_our_own_private_names_are_none_of_the_librarys(kind: type) -> None:
    mine, library = parts(kind)
    known = " ".join(
        inspect.getsource(each) for each in library.__mro__ if each.__module__.split(".")[0] in LIBRARIES
    )
    for part in mine:
        if part.__module__.startswith("solon.libraries."):
            continue
        names = {
            node.attr
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(part))))
            if isinstance(node, ast.Attribute) and is_private(node.attr)
        }
        assert not {name for name in names if re.search(rf"\b{name}\b", known)}


# One real step of each training


@dataclass
class Steps:
    """What one optimiser step of every training has called of ours, and what the trainers had before it."""

    called: set[tuple[str, str]]
    attributes: dict[str, set[str]]


@pytest.fixture(scope="module")
def steps(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    folder, model = tmp_path_factory.mktemp("steps"), str(tiny_model)
    seen = Steps(set(), {})

    def counted(name: str, method: Any) -> Any:
        @wraps(method)
        def call(self: Any, *args: Any, **options: Any) -> Any:
            seen.called.add((type(self).__name__, name))
            return method(self, *args, **options)

        return call

    def run(trainer: Any, *args: Any, **options: Any) -> dict[str, float]:
        seen.attributes[type(trainer).__name__] = set(vars(trainer))
        return training_run(trainer, *args, **options)

    training_run = trainers.run
    pairs = [pair(question, "Yes.", "No, no.", 0.8) for question in QUESTIONS[:2]]
    small: dict[str, Any] = {"batch_size": 2, "micro_batch_size": 1, "save_steps": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "run", run)
        for part in {part for kind in ours() for part in parts(kind)[0]}:
            for name, method in list(vars(part).items()):
                if inspect.isfunction(method):
                    patch.setattr(part, name, counted(name, method))
        examples = [example(question, "Yes.") for question in QUESTIONS[:2]]
        supervised.train(examples, model, folder / "sft", config.Supervised(**small), 0, unwatched)
        dialogues = [[user(question), assistant("Yes.")] for question in QUESTIONS[:2]]
        rated = [Rated(str(number), each, 1.0, "train") for number, each in enumerate(dialogues)]
        harm_scorer.train(rated, model, folder / "harm", config.HarmScorer(**small), 0, unwatched)
        preference.train(pairs, model, folder / "pm", config.PreferenceModel(**small), 0, unwatched)
        for algorithm in ("rloo", "grpo"):
            asked = config.Reinforce(
                algorithm=algorithm,
                steps=1,
                prompts_per_step=2,
                samples_per_prompt=2,
                micro_batch_size=2,
                max_tokens=4,
                save_steps=1,
            )
            judge, out = str(folder / "pm"), folder / algorithm
            reinforce.train(prompt_records(2), model, judge, out, asked, 0, unwatched)
        asked = config.Reinforce(
            algorithm="dpo", steps=1, prompts_per_step=2, micro_batch_size=2, save_steps=1
        )
        reinforce.train(pairs, model, None, folder / "dpo", asked, 0, unwatched)
        patch.setattr(packing, "_attends_plainly", lambda model: False)  # then batches are padded
        preference.train(pairs, model, folder / "padded", config.PreferenceModel(**small), 0, unwatched)
    return seen


@KINDS
def test_every_method_on_a_librarys_class_is_called_in_a_training_step(kind: type, steps: Steps) -> None:
    missed = {name for name in methods(kind) if (kind.__name__, name) not in steps.called}
    assert missed == NOT_CALLED.get(kind.__name__, set())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (preference.SoftLabelTrainer, {"_metrics", "_signature_columns"}),
        (dpo.SoftLabelDPO, {"_metrics", "_signature_columns"}),
        (rloo.MeasuredRLOO, {"_step", "_buffered_inputs"}),
        (grpo.MeasuredGRPO, {"_metrics", "_step", "_buffered_inputs"}),
    ],
)
def test_what_is_written_to_is_the_librarys_own(kind: type, names: set[str], steps: Steps) -> None:
    assert names <= steps.attributes[kind.__name__]
