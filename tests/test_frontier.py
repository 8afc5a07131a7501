"""Score against bytes: all methods are named, the frontier is that of the data, one encoder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import MAIN, SMALL, WIDE, make_tier
from matplotlib.text import Annotation

from xpeft.report.drawing import MARKS, render
from xpeft.report.frontier import bytes_figure, frontier, make_points
from xpeft.report.labels import Box, Label, place_labels
from xpeft.report.summary import make_summary
from xpeft.report.words import short_title


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("wide")
    make_tier(folder, tasks=SMALL[:3], arms=WIDE, seeds=3)
    made: list[dict[str, Any]] = make_summary(folder / "records")["arms"]
    return made


def test_the_frontier_is_what_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    points = [(int(size), float(score)) for size, score in rng.integers(0, 12, (40, 2))]
    chosen = frontier(points)
    for index, (size, score) in enumerate(points):
        beaten = any(s <= size and p >= score and (s, p) != (size, score) for s, p in points)
        twin = points.index((size, score)) != index
        assert (index in chosen) == (not beaten and not twin)
    sizes = [points[i][0] for i in chosen]
    scores = [points[i][1] for i in chosen]
    assert sizes == sorted(set(sizes)) and scores == sorted(set(scores))
    assert frontier([]) == []


def test_every_method_is_a_point_with_the_bytes_of_its_own_records(
    arms: list[dict[str, Any]],
) -> None:
    points, tasks = make_points(arms)
    assert tasks == list(SMALL[:3])
    assert len(points) == len(WIDE) >= 12
    for point in points:
        own = [arm for arm in arms if arm["arm"] == point.arm["arm"]]
        assert point.total in {arm["bytes"]["total"] for arm in own}
        assert point.bare == point.total - own[0]["bytes"]["head"]
        if point.arm["method"] == "single_adapter":
            assert (point.gap, point.low) == (0, None)
        else:
            gaps = [100 * arm["versus"]["single_adapter"]["mean"] for arm in own]
            assert point.gap == pytest.approx(np.mean(gaps))
            assert point.low is not None and point.low < point.gap < (point.high or 0)


def test_points_of_another_encoder_or_of_fewer_tasks_are_left_out(
    arms: list[dict[str, Any]],
) -> None:
    changed = copy.deepcopy(arms)
    for arm in changed:
        if arm["arm"] == "lora":
            arm["encoder"] = "another"
    changed.remove(next(arm for arm in changed if arm["arm"] == "vera"))
    shown = {point.arm["arm"] for point in make_points(changed)[0]}
    assert set(WIDE) - shown == {"lora", "vera"}
    assert make_points([arm for arm in arms if arm["method"] != "single_adapter"]) == ([], [])


def test_the_tasks_are_those_that_most_methods_share(arms: list[dict[str, Any]]) -> None:
    peers = [name for name in WIDE if name not in (*MAIN, "full")]
    few = [a for a in arms if a["arm"] not in peers or f"{a['suite']}/{a['task']}" in SMALL[:2]]
    points, tasks = make_points(few)
    assert tasks == list(SMALL[:2])
    assert {point.arm["arm"] for point in points} == set(WIDE)
    own = next(p for p in points if p.arm["arm"] == "head_only")
    gaps = [
        100 * a["versus"]["single_adapter"]["mean"]
        for a in arms
        if a["arm"] == "head_only" and f"{a['suite']}/{a['task']}" in tasks
    ]
    assert own.gap == pytest.approx(np.mean(gaps))
    one = [a for a in arms if a["arm"] not in peers or f"{a['suite']}/{a['task']}" in SMALL[:1]]
    assert make_points(one)[1] == list(SMALL[:3])  # a single task is no comparison over tasks


def test_two_points_of_one_size_of_bank_are_told_apart(arms: list[dict[str, Any]]) -> None:
    def twin(changes: dict[str, Any]) -> list[dict[str, Any]]:
        own = [copy.deepcopy(a) for a in arms if a["arm"] == "x_peft-hard-n100-k50"]
        return [a | changes for a in own]

    more = [*arms, *twin({"arm": "k10", "k": 10}), *twin({"arm": "seeded", "head": "seeded"})]
    names = {note.get_text() for note in bytes_figure(more).axes[0].texts}
    assert {"hard N=100 k=50", "hard N=100 k=10", "hard N=100\nseeded head"} <= names


def test_each_panel_names_its_points_beside_them(arms: list[dict[str, Any]]) -> None:
    figure = bytes_figure(arms)
    upper, lower = figure.axes
    points, _ = make_points(arms)
    names = {short_title(point.arm) for point in points}
    for axes, without in ((upper, set()), (lower, {"head only"})):
        notes = [note for note in axes.texts if isinstance(note, Annotation)]
        assert {note.get_text().replace("\n", " ") for note in notes} == names - without
        assert len(notes) == len(points) - len(without)
    again = render(bytes_figure(arms), "png")
    assert render(figure, "png") == again


def test_marks_tell_all_methods_apart() -> None:
    assert len({marker for _, marker in MARKS.values()}) == len(MARKS) >= 12


def test_labels_in_a_crowd_cover_neither_each_other_nor_marks() -> None:
    from xpeft.report.drawing import new_figure

    figure = new_figure(3.5)
    axes = figure.subplots()
    rng = np.random.default_rng(1)
    places = rng.uniform(0.3, 0.6, (12, 2))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axes, [Label(x, y, f"method {i}", "#000000") for i, (x, y) in enumerate(places)])
    figure.draw_without_rendering()
    boxes = []
    for note in axes.texts:
        found = note.get_bbox_patch().get_window_extent()  # type: ignore[union-attr]
        boxes.append(Box(found.x0, found.y0, found.x1, found.y1))
    frame = axes.get_window_extent()
    for index, box in enumerate(boxes):
        assert frame.x0 < box.left and box.right < frame.x1
        assert frame.y0 < box.bottom and box.top < frame.y1
        assert not any(box.overlap(other) > 1 for other in boxes[:index])
        for x, y in axes.transData.transform(places):
            assert not (box.left < x < box.right and box.bottom < y < box.top)


def test_a_small_grid_still_has_its_figure(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=SMALL[:1], arms=MAIN, seeds=1)
    figure = bytes_figure(make_summary(tmp_path / "records")["arms"])
    assert len(figure.axes) == 2
