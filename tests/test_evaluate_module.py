"""The `evaluate` module loads without network and equals `xpeft.metrics.compute`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import xpeft
from xpeft.data.specs import TASKS
from xpeft.metrics import compute

# evaluate reads its cache folders from the environment when it is imported: a process of its own.
SCRIPT = """
import json, socket, sys

def refuse(*_):
    raise OSError("the network was used")

socket.socket.connect = refuse
import evaluate
from xpeft.errors import ConfigError, DataError
from xpeft.evaluate_module import PATH

cases = json.load(sys.stdin)
scores = {}
for name, case in cases.items():
    metric = evaluate.load(str(PATH), name, experiment_id=name.replace("/", "-"))
    scores[name] = metric.compute(**case)
for name, error in {"glue/none": DataError, None: ConfigError}.items():
    try:
        evaluate.load(str(PATH), name, experiment_id="wrong")
    except error as caught:
        scores[str(name)] = str(caught)
json.dump(scores, sys.stdout)
"""


def test_equals_the_plain_functions_for_every_task(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = {}
    for spec in TASKS.values():
        if spec.regression:
            values = rng.uniform(0, 5, size=(2, 40)).tolist()
        else:
            values = rng.integers(0, len(spec.labels), size=(2, 40)).tolist()
        cases[spec.name] = {"predictions": values[0], "references": values[1]}
        if spec.answers is not None:
            cases[spec.name]["questions"] = rng.integers(0, 9, size=40).tolist()
        if "answer_f1" in spec.metrics:
            cases[spec.name]["credit"] = rng.uniform(size=40).tolist()
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(xpeft.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert "unknown task 'none'" in scores.pop("glue/none")
    assert "expected one of glue/cola" in scores.pop("None")
    assert set(scores) == set(cases)
    for spec in TASKS.values():
        case = cases[spec.name]
        expected = compute(
            spec.metrics,
            case["predictions"],
            case["references"],
            num_labels=len(spec.labels) or None,
            questions=case.get("questions"),
            credit=case.get("credit"),
        )
        assert scores[spec.name] == expected, spec.name
