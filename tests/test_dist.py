"""What ``pip install solon`` would bring: built and installed here without a network, and used elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs",
    "examples",
    "src",
]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def package_files() -> set[str]:
    """The paths, below ``src``, of all that the package holds."""
    return {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/solon").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def built(kind: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves files where it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    leave = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, source)
    return built("sdist", source, out)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as for a user."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return built("wheel", source, sdist.parent)


def test_the_source_distribution_holds_the_package_and_its_documents(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {each.name.partition("/")[2] for each in archive if each.isfile()}
    assert {f"src/{path}" for path in package_files()} <= held
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/configuration.md", "examples/method.py"} <= held
    assert not any(path.startswith("tests/") for path in held)


WEIGHTS = "texts/refusal_weights.json"


def test_the_wheel_holds_the_package_and_its_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        [metadata] = [path for path in held if path.endswith(".dist-info/METADATA")]
        described = archive.read(metadata).decode()
    assert {path for path in held if ".dist-info/" not in path} == package_files()
    for kind in ("py.typed", "constitutions/harmless.yaml", "prompts/packaged/red-team.jsonl"):
        assert f"solon/{kind}" in held
    for kind in ("configs/laptop.yaml", "studies/labels.yaml", "report/templates/report.html.j2", WEIGHTS):
        assert f"solon/{kind}" in held
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in held)
    assert "\nLicense-Expression: Apache-2.0\n" in described
    assert "\n# Solon\n" in described  # the README


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    # Solon's source on the path would pass for an installed one.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python, solon = environment / "bin/python", environment / "bin/solon"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    # The libraries are those of this environment, whose own Solon comes after the one installed here.
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import solon; print(solon.__file__, solon.__version__)")
    assert where.startswith(str(packages))
    assert run(solon, "--version") == f"solon {where.split()[-1]}\n"
    run(solon, "init", "mine")
    assert "16" in run(solon, "constitution", "check", "mine/constitution.yaml")
