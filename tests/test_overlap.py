"""Rows that two tasks share are counted, and compared without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from xpeft.data.prepare import prepare
from xpeft.data.sources import LocalSource
from xpeft.data.specs import get_task

ROOT = Path(__file__).parent.parent
TRAIN = [("A cat sat.", "The dog ran."), ("One more", "and another"), ("Some", "thing")]
VALIDATION = [("the dog ran", "a cat sat"), ("Nothing", "of the kind"), ("Else", "where")]


def put(folder: Path, rows: list[tuple[str, str]], labels: list[Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"sentence1": one, "sentence2": two, "label": label})
        for (one, two), label in zip(rows, labels, strict=True)
    ]
    folder.write_text("\n".join(lines) + "\n")


def test_shared_rows_are_counted_and_taken_out(tmp_path: Path) -> None:
    raw, data, records = tmp_path / "raw", tmp_path / "data", tmp_path / "records"
    put(raw / "glue/stsb/train.jsonl", TRAIN, [0.0, 2.5, 5.0])
    put(raw / "glue/stsb/validation.jsonl", [("x", "y")], [1.0])
    put(raw / "glue/mrpc/train.jsonl", [("u", "v"), ("w", "z")], [0, 1])
    put(raw / "glue/mrpc/validation.jsonl", VALIDATION, [1, 0, 1])
    for name in ("stsb", "mrpc"):
        prepare(get_task("glue", name), LocalSource(raw), data / "glue" / name)
    for arm, predictions in (("left", [1, 0, 1]), ("right", [0, 0, 1])):  # differ on the shared one
        path = records / "glue/mrpc" / arm / "seed0.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"result": {"predictions": predictions}}))
    done = subprocess.run(
        [sys.executable, ROOT / "tools/overlap.py", data, records, "left", "right"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "glue/mrpc: 1 of 3 validation rows are in glue/stsb's training; accuracy of left minus "
        "right: +33.3 points on all, +0.0 on the rest (seeds: 1)"
    ]
