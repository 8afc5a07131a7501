"""Scores and costs by N: sizes over the tasks that they share, costs from the benchmark's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import MAIN, MORE, SMALL, make_tier

from xpeft.codec import code_bytes
from xpeft.errors import RecordError
from xpeft.io import write_json
from xpeft.records import STEP_FILE
from xpeft.report.bank_sizes import make_sizes, make_table, sizes_figure
from xpeft.report.drawing import render
from xpeft.report.summary import make_summary
from xpeft.report.words import task_title

STEP = {
    "schema": 1,
    "rows": 32,
    "tokens": 64,
    "threads": 2,
    "processor": "made up for tests",
    "encoder": "all-MiniLM-L6-v2",
    "steps": [
        {"mask": mask, "n": n, "time_ratio": 1 + n / 1000, "memory_ratio": 1.0}
        for mask in ("hard", "soft")
        for n in (100, 400)
    ],
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four sizes beside the base on two tasks, the base alone on a third."""
    folder = tmp_path_factory.mktemp("sizes")
    make_tier(folder, tasks=SMALL[:2], arms=tuple(arm for arm in MORE if arm != "full"), seeds=3)
    make_tier(folder, tasks=SMALL[2:3], arms=MAIN, seeds=3)
    write_json(folder / STEP_FILE, STEP)
    return make_summary(folder / "records")


def test_sizes_are_compared_over_the_tasks_that_they_share(summary: dict[str, Any]) -> None:
    found = make_sizes(summary["arms"], summary["step"])
    assert set(found) == {"soft", "hard"}
    for mask, sizes in found.items():
        assert [size.n for size in sizes] == [100, 150, 200, 400, 800]
        base, *others = sizes
        assert (base.gap, base.low, base.high, base.tasks) == (0, None, None, list(SMALL[:3]))
        for size in others:
            assert size.tasks == list(SMALL[:2])
            scores = [
                np.mean([a["over_seeds"]["mean"] for a in summary["arms"] if fits(a, mask, n)])
                for n in (size.n, 100)
            ]
            assert size.gap == pytest.approx(100 * (scores[0] - scores[1]))
            assert size.low is not None and size.high is not None
            assert size.low < size.gap < size.high


def fits(arm: dict[str, Any], mask: str, n: int) -> bool:
    return (arm["mask"], arm["n"]) == (mask, n) and f"{arm['suite']}/{arm['task']}" in SMALL[:2]


def test_costs_are_those_of_the_benchmark_and_of_the_codec(summary: dict[str, Any]) -> None:
    sizes = make_sizes(summary["arms"], summary["step"])["hard"]
    by_n = {size.n: size for size in sizes}
    assert (by_n[400].time, by_n[400].memory, by_n[800].time) == (1.4, 1.0, None)
    assert by_n[800].bank == 4 * 800 * 2 * 6 * 384 * 24
    assert by_n[800].codes == {
        "bits": code_bytes("bits", 6, 800),
        "enumerative": code_bytes("enumerative", 6, 800, 400),
    }
    soft = make_sizes(summary["arms"], None)["soft"]
    assert {size.time for size in soft} == {None}
    of_another = {**summary["step"], "encoder": "another"}
    assert {size.time for size in make_sizes(summary["arms"], of_another)["hard"]} == {None}
    assert soft[0].codes == {"soft32": code_bytes("soft32", 6, 100)}


def test_table_and_figure(summary: dict[str, Any]) -> None:
    table = make_table(summary["arms"], summary["step"])
    assert len(table.rows) == len(table.data) == 10
    figure = sizes_figure(summary["arms"], summary["step"])
    assert len(figure.axes) == 2
    assert render(sizes_figure(summary["arms"], summary["step"]), "png") == render(figure, "png")
    one = [arm for arm in summary["arms"] if arm["arm"] in MAIN]
    assert make_sizes(one, None) == {} and make_table(one, None).rows == []
    assert "No evidence yet" in sizes_figure(one, None).texts[0].get_text()


def test_lines_join_sizes_over_the_same_tasks(summary: dict[str, Any]) -> None:
    gone = SMALL[0].split("/")[1]
    arms = [arm for arm in summary["arms"] if not (arm["n"] == 800 and arm["task"] == gone)]
    sizes = make_sizes(arms, None)["hard"]
    assert [len(size.tasks) for size in sizes] == [3, 2, 2, 2, 1]
    upper = sizes_figure(arms, None).axes[0]
    assert upper.get_ylabel() == f"points over N = 100,\n{task_title(SMALL[1])}"
    (line,) = (line for line in upper.get_lines() if line.get_label() == "hard masks")
    alone = make_sizes(arms, None, {SMALL[1]})["hard"]
    assert list(line.get_ydata()) == [size.gap for size in alone]
    assert alone[3].gap != sizes[3].gap


def test_tasks_on_which_the_adapter_learned_nothing_do_not_count(summary: dict[str, Any]) -> None:
    dull = [
        arm | {"majority": 2.0} if arm["task"] == SMALL[0].split("/")[1] else arm
        for arm in summary["arms"]
    ]
    assert [size.tasks for size in make_sizes(dull, None)["hard"][1:]] == [[SMALL[1]]] * 4


def test_a_damaged_file_of_the_benchmark_is_an_error(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=SMALL[:1], seeds=1)
    for damaged in ({"steps": STEP["steps"]}, {**STEP, "steps": [{"mask": "hard"}]}):
        write_json(tmp_path / STEP_FILE, damaged)
        with pytest.raises(RecordError, match=r"step.json: expected what benchmarks/step.py --out"):
            make_summary(tmp_path / "records")
