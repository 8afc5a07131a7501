"""A tier's methods compared over tasks, sizes and bytes, as plain values for the templates."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from xpeft.report import allin, bank_draws, bank_sizes, figures, frontier
from xpeft.report.drawing import inline_svg
from xpeft.report.links import Names
from xpeft.report.overall import make_overall, performance_figure
from xpeft.report.summary import Arm, task_name
from xpeft.report.tables import iqm_text
from xpeft.report.task_page import check, difference_text
from xpeft.report.words import arm_title, byte_count, ends, interval, score, signed, task_title

Json = dict[str, Any]

SIZE_COLUMNS = ("Step", "Process", "Bank", *bank_sizes.CODES.values())


def overall_section(main: Sequence[Arm], names: Names) -> Json | None:
    """All tasks as one: the gaps to the adapter, and what is left out of them."""
    found = make_overall(main)
    if len(found["arms"]) < 2:
        return None
    rows = []
    for entry in found["arms"]:
        first = next(arm for arm in main if arm["arm"] == entry["arm"])
        value, around = iqm_text(entry["iqm"])
        rows.append(
            {
                "title": entry["title"],
                "href": names.arm(first),
                "iqm": value,
                "interval": around,
                "mean": signed(entry["mean"]),
            }
        )
    words = "; ".join(f"{row['title']} {row['iqm']}" for row in rows)
    return {
        "rows": rows,
        "tasks": ", ".join(task_title(task) for task in found["tasks"]),
        "left_out": ", ".join(task_title(task) for task in found["left_out"]),
        "figure": inline_svg(
            performance_figure(main),
            f"performance-{names.tier}",
            f"Share of runs by their gap to the adapter; interquartile means in points: {words}.",
        ),
        "caption": figures.CAPTIONS["performance"],
    }


def gaps_section(main: Sequence[Arm], names: Names) -> list[Json]:
    """Where it does not work: the negative results with their numbers, by kind and task."""
    below: dict[str, list[Json]] = {}
    no_head: dict[str, list[Json]] = {}
    no_learning: dict[str, list[Json]] = {}

    def add(
        group: dict[str, list[Json]], arm: Arm, number: str, words: str, sure: bool = False
    ) -> None:
        title = task_title(task_name(arm))
        if group is no_learning:
            title += f" (majority {score(arm['majority'])})"
        entry = {"title": arm_title(arm), "href": names.arm(arm), "number": number}
        group.setdefault(title, []).append(entry | {"words": words, "sure": sure})

    for arm in main:
        adapter, head = arm["versus"].get("single_adapter"), arm["versus"].get("head_only")
        if arm["method"] == "x_peft" and adapter and adapter["mean"] < 0:
            sure = adapter["high"] is not None and adapter["high"] < 0
            around = ends(adapter["low"], adapter["high"])
            add(below, arm, signed(100 * adapter["mean"]), f"({around})", sure)
        if arm["method"] != "head_only" and head and (head["low"] is None or head["low"] <= 0):
            around = ends(head["low"], head["high"])
            add(no_head, arm, signed(100 * head["mean"]), f"({around})")
        found = check(arm)
        if not found["ok"]:
            add(no_learning, arm, score(arm["over_seeds"]["mean"]), f"({found['text']})")
    groups = [
        (
            "Masks below a single adapter",
            "In points, with 95 % interval over seeds; in bold where it excludes zero.",
            below,
            "On no task are masks below the adapter.",
        ),
        (
            "Not shown to be better than a head alone",
            "In points, with 95 % interval over seeds, which contains zero.",
            no_head,
            "Every method is above a head alone on every task.",
        ),
        (
            "Not clearly above the majority class",
            "Mean score in points; the interval over seeds reaches the majority class.",
            no_learning,
            "Every method is above the majority class on every task.",
        ),
    ]
    return [
        {
            "title": title,
            "note": note,
            "tasks": [{"title": task, "arms": arms} for task, arms in group.items()],
            "none": none,
        }
        for title, note, group, none in groups
    ]


def headline_figures(tier: str, main: Sequence[Arm]) -> Json:
    """The two figures of a tier: gaps to the adapter, and score against bytes."""
    shown = figures.headline(main)
    gaps = "; ".join(
        f"{task_title(task_name(arm))}, {arm_title(arm)} "
        f"{signed(100 * arm['versus']['single_adapter']['mean'])}"
        for arm in shown
        if arm["versus"].get("single_adapter")
    )
    sizes = {arm_title(arm): byte_count(arm["bytes"]["total"]) for arm in main}
    return {
        "gaps": inline_svg(
            figures.gaps_figure(main), f"gaps-{tier}",
            f"Difference to a single adapter in points: {textwrap.shorten(gaps, 1500)}.",
        ),
        "bytes": inline_svg(
            frontier.bytes_figure(main), f"bytes-{tier}",
            "Score against stored bytes: "
            + textwrap.shorten("; ".join(f"{k} {v}" for k, v in sizes.items()), 1500) + ".",
        ),
    }  # fmt: skip


def sizes_section(summary: Json, tier: str) -> Json | None:
    """Scores and costs of random banks by N; None with one N alone."""
    arms, step = summary["arms"], summary["step"]
    found = bank_sizes.make_sizes(arms, step)
    if not found:
        return None
    sizes = [size for group in found.values() for size in group]
    words = [f"{size.mask} masks, N = {size.n}: {signed(size.gap)} points" for size in sizes]
    return {
        "figure": inline_svg(
            bank_sizes.sizes_figure(arms, step), f"sizes-{tier}", "; ".join(words) + "."
        ),
        "caption": figures.CAPTIONS["sizes"],
        "columns": ["Masks", "N", "Difference (95 % over seeds)", *SIZE_COLUMNS],
        "rows": [
            {"title": ", ".join(map(task_title, size.tasks)), "cells": _size_row(size)}
            for size in sizes
        ],
        "measured": step
        and f"{step['rows']} rows of {step['tokens']} tokens, {step['threads']} threads of "
        f"{step['processor']}",
    }


def all_in_section(arms: Sequence[Arm], names: Names) -> Json | None:
    """All that a profile takes, on the shapes of the claim; None without an adapter beside it."""
    panels = allin.make_panels(arms)
    if not panels:
        return None
    words = []
    shown = []
    for panel in panels:
        title = ", ".join(map(task_title, panel.data))
        words.append(
            f"{title}: "
            + "; ".join(
                f"{arm_title(row.arm)} {byte_count(row.stored)}, {signed(row.gap)} points"
                for row in panel.rows
            )
        )
        shown.append(
            {
                "title": title,
                "over": panel.over,
                "learned": panel.learned,
                "left_out": "; ".join(panel.left_out),
                "free": None if panel.free is None else signed(panel.free),
                "rows": [
                    {"cells": allin.row_text(row), "fits": row.fits, "href": names.arm(row.arm)}
                    for row in panel.rows
                ],
            }
        )
    described = "Score against all that a profile takes. " + ". ".join(words)
    return {
        "figure": inline_svg(
            allin.allin_figure(arms), f"allin-{names.tier}", textwrap.shorten(described, 1500)
        ),
        "caption": figures.CAPTIONS["allin"],
        "panels": shown,
    }


def ablations_section(arms: Sequence[Arm], names: Names) -> list[Json]:
    """Each arm that changes one thing, with what that changes."""
    return [
        {
            "task": task_title(task_name(arm)),
            "title": arm_title(arm | {"variant": ""}),
            "variant": arm["variant"],
            "href": names.arm(arm),
            "mean": score(arm["over_seeds"]["mean"]),
            "interval": interval(arm["over_seeds"]["low"], arm["over_seeds"]["high"]),
            "difference": difference_text(arm["changes"]["difference"])
            if arm["changes"] and arm["changes"]["difference"]
            else None,
            "bytes": byte_count(arm["bytes"]["total"]),
        }
        for arm in arms
        if arm["variant"]
    ]


def draws_section(arms: Sequence[Arm], names: Names) -> list[Json]:
    """How much the draw of a random bank matters, a row for each task."""
    return [
        {"cells": bank_draws.row_text(draws), "href": names.arm(draws.arms[-1])}
        for draws in bank_draws.make_draws(arms)
    ]


def _size_row(size: bank_sizes.Size) -> list[str]:
    mask, n, gap, spread, *costs = bank_sizes.row_text(size)
    return [mask, n, gap if size.n == bank_sizes.BASE else f"{gap} ({spread})", *costs]
