"""Count the validation rows of each task whose text is a training row of another task.

    python tools/overlap.py DATA RECORDS [ARM ARM]

DATA is a tier's folder of prepared data, RECORDS its records. A trained bank is tuned on the
training rows of other tasks. GLUE's tasks were made independently of each other, and some rows are
in two of them; what bank and mask could have met is counted here. Texts are compared in lower case
without punctuation, pairs in either order.

With two arms, also their accuracy difference over the shared seeds on all validation rows and on
those that are in no other task, for tasks whose predictions are classes.
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xpeft.data.prepared import Prepared, Split, load_prepared
from xpeft.io import read_json

Mask = npt.NDArray[np.bool_]


def keys(split: Split) -> list[tuple[str, ...]]:
    """The texts of each row, so that rows with the same texts are equal."""
    columns = [split.texts] if split.pairs is None else [split.texts, split.pairs]
    plain = [[" ".join(re.findall(r"\w+", text.lower())) for text in column] for column in columns]
    return [tuple(sorted(row)) for row in zip(*plain, strict=True)]


def compare(folder: Path, data: Prepared, left: str, right: str, clean: Mask) -> str:
    """Accuracy of `left` minus `right` in points, on all rows and on the clean ones."""
    gaps: dict[str, list[float]] = {"all": [], "clean": []}
    for path in sorted((folder / left).glob("seed*.json")):
        other = folder / right / path.name
        if not other.exists():
            continue
        right_ones = [
            np.asarray(read_json(file)["result"]["predictions"]) == data.validation.labels
            for file in (path, other)
        ]
        gap = right_ones[0].astype(float) - right_ones[1]
        gaps["all"].append(100 * float(gap.mean()))
        gaps["clean"].append(100 * float(gap[clean].mean()))
    if not gaps["all"]:
        return ""
    mean = {name: statistics.fmean(values) for name, values in gaps.items()}
    return (
        f"; accuracy of {left} minus {right}: {mean['all']:+.1f} points on all, "
        f"{mean['clean']:+.1f} on the rest (seeds: {len(gaps['all'])})"
    )


def main() -> None:
    """Print a line for each pair of tasks with shared rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("arms", nargs="*", metavar="ARM")
    options = parser.parse_args()
    if len(options.arms) not in (0, 2):
        parser.error(f"arms: found {len(options.arms)}, expected two to compare, or none")
    tasks = {
        f"{folder.parent.name}/{folder.name}": load_prepared(folder)
        for folder in sorted(path.parent for path in options.data.glob("*/*/meta.json"))
        if folder.parent.name != "profiles"
    }
    trained = {name: set(keys(data.train)) for name, data in tasks.items()}
    for name, data in tasks.items():
        own = keys(data.validation)
        for other, rows in trained.items():
            shared = np.array([key in rows for key in own])
            if other == name or not shared.any():
                continue
            line = f"{name}: {shared.sum()} of {len(own)} validation rows are in {other}'s training"
            if options.arms and not data.meta.regression:
                left, right = options.arms
                line += compare(options.records / name, data, left, right, ~shared)
            print(line)


if __name__ == "__main__":
    main()
