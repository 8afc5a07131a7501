"""A task of a tier as plain values: its methods, their scores, what was learned at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpeft.report import figures
from xpeft.report.drawing import inline_svg
from xpeft.report.links import Names, slug
from xpeft.report.summary import Arm, task_name
from xpeft.report.words import (
    arm_title,
    byte_count,
    counted,
    ends,
    interval,
    metric_title,
    score,
    signed,
    task_title,
)

Json = dict[str, Any]


def task_section(task: str, main: Sequence[Arm], records: Json, names: Names) -> Json:
    """The methods of one task, their figure and their learning curves."""
    arms = [arm for arm in main if task_name(arm) == task]
    usual = figures.headline(main)  # chosen over all tasks, shown for one
    usual = [arm for arm in usual if task_name(arm) == task]
    first = arms[0]
    name = f"scores-{slug(names.tier + '-' + task)}"
    return {
        "id": slug(f"{names.tier}-{task}"),
        "title": task_title(task),
        "metric": metric_title(first["metric"]),
        "rows": f"{first['rows']['train']:,} training and "
        f"{first['rows']['validation']:,} validation rows",
        "majority": {"text": score(first["majority"]), "href": names.arm(first)},
        "best": None
        if first["best"] is None
        else {"text": score(first["best"]), "href": names.arm(first)},
        "arms": [_arm_row(arm, names) for arm in arms],
        "figure": inline_svg(figures.scores_figure(arms), name, figures.describe_scores(arms)),
        "learning": inline_svg(
            figures.learning_figure(usual, records),
            f"learning-{slug(names.tier + '-' + task)}",
            _describe_learning(task, usual, records),
        ),
    }


def check(arm: Arm) -> Json:
    """Whether the scores say that something was learned at all."""
    spread, majority = arm["over_seeds"], arm["majority"]
    if arm["constant"]:
        part = f"{len(arm['constant'])} of {counted(len(arm['seeds']), 'seed')}"
        return {"ok": False, "text": f"one class only in {part}"}
    if spread["mean"] <= majority:
        return {"ok": False, "text": "not above majority"}
    if spread["low"] is None or spread["low"] <= majority:
        return {"ok": False, "text": "not clearly above majority"}
    return {"ok": True, "text": "above majority"}


def difference_text(found: Json) -> Json:
    """A paired difference as text, in points."""
    return {"text": signed(100 * found["mean"]), "interval": ends(found["low"], found["high"])}


def _describe_learning(task: str, arms: Sequence[Arm], records: Json) -> str:
    words = []
    for arm in arms:
        curves = [records[path]["result"]["loss"]["loss"] for path in arm["records"]]
        if all(curves):
            mean = sum(curve[-1] for curve in curves) / len(curves)
            words.append(f"{arm_title(arm)} ends at {mean:.2f}")
    return f"Training loss on {task_title(task)}: {'; '.join(words)}."


def _arm_row(arm: Arm, names: Names) -> Json:
    spread = arm["over_seeds"]
    bare = arm["bytes"]["total"] - arm["bytes"]["head"]
    adapter = arm["versus"].get("single_adapter")
    return {
        "title": arm_title(arm),
        "href": names.arm(arm),
        "mean": score(spread["mean"]),
        "interval": interval(spread["low"], spread["high"]),
        "seeds": [
            {"seed": seed, "text": score(value), "href": names.record(path)}
            for seed, value, path in zip(arm["seeds"], arm["scores"], arm["records"], strict=True)
        ],
        "adapter": difference_text(adapter) if adapter else None,
        "adapter_examples": _over_examples(arm),
        "bytes": byte_count(arm["bytes"]["total"]),
        "bare": byte_count(bare),
        "check": check(arm),
    }


def _over_examples(arm: Arm) -> str:
    """Interval over examples of the difference to the adapter, in points."""
    found = arm["versus_examples"].get("single_adapter")
    return ends(found["low"], found["high"]) if found else "\N{EN DASH}"
