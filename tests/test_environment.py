"""The pins, the bounds and the package's files say the same everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import xpeft

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_FOR_TRAINING = {"datasets", "evaluate", "matplotlib", "pandas", "peft", "seaborn", "snakemake"}


def pins(name: str) -> list[str]:
    """The lines of a lock without its comments."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def as_dict(lines: list[str]) -> dict[str, Version]:
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


def environment() -> list[Any]:
    found = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert set(found) == {"name", "channels", "dependencies"}
    assert found["name"] == "xpeft"
    return list(found["dependencies"])


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.train.lock"])
def test_a_lock_pins_each_package_once_to_a_public_version(name: str) -> None:
    lines = pins(name)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line) for line in lines)
    assert lines == sorted(set(lines), key=lambda line: line.split("==")[0])
    assert len(as_dict(lines)) == len(lines)


def test_environment_yml_has_the_pins_of_the_lock() -> None:
    python, pip, packages = environment()
    assert pip == "pip"
    assert packages == {"pip": pins("requirements.lock")}
    version = python.removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_the_lock_satisfies_each_bound() -> None:
    locked = as_dict(pins("requirements.lock"))
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"suite", "peers", "dev"}
    groups = [PROJECT["dependencies"], *extras.values()]
    wanted = [Requirement(text) for group in groups for text in group]
    assert len(wanted) > 15
    for requirement in wanted:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_the_training_lock_is_the_lean_part_of_the_lock() -> None:
    training = pins("requirements.train.lock")
    assert set(training) <= set(pins("requirements.lock"))
    names = set(as_dict(training))
    assert {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} <= names
    assert not names & NOT_FOR_TRAINING


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == xpeft.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["references"][0]["authors"][0]["family-names"] == "Kwak"


def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Data files too: a wheel without its schema works only in a checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"xpeft-{xpeft.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        (entry_points,) = (name for name in inside if name.endswith("entry_points.txt"))
        assert "xpeft = xpeft.cli:main" in archive.read(entry_points).decode()
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "xpeft").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "xpeft/py.typed" in expected
    assert {name for name in inside if name.startswith("xpeft/")} == expected
    assert any(name.endswith("licenses/LICENSE") for name in inside)
