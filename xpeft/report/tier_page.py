"""A tier as plain values for `templates/tier.html.j2`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xpeft.report import cohort_page, figures
from xpeft.report.comparison_page import (
    ablations_section,
    all_in_section,
    draws_section,
    gaps_section,
    headline_figures,
    overall_section,
    sizes_section,
)
from xpeft.report.links import Names
from xpeft.report.record_page import provenance_section, records_section
from xpeft.report.summary import main_grid, on_tasks, task_names
from xpeft.report.task_page import task_section
from xpeft.report.tuning_page import budget_words, tuning_section
from xpeft.report.verdict_page import make_verdicts
from xpeft.report.words import (
    TIER_NOTES,
    arm_title,
    counted,
    distinct,
    duration,
    task_title,
    tier_title,
)

Json = dict[str, Any]


def tier_section(
    item: Json,
    figure_dir: str | os.PathLike[str] | None,
    table_dir: str | os.PathLike[str] | None,
) -> Json:
    """All that the page says of a tier.

    Args:
        item: its folder, summary, ledger and claims.
        figure_dir, table_dir: folders of its files, to name them; None for none.
    """
    summary = item["summary"]
    tier, arms = summary["tier"], summary["arms"]
    main = on_tasks(main_grid(arms))
    place = f"{item['folder'].parent.name or 'results'}/{item['folder'].name}/records"
    names = Names(tier, arms, place)
    files = [
        f"{Path(folder).as_posix()}/{tier}/"
        for folder in (figure_dir, table_dir)
        if folder is not None
    ]
    return {
        "id": tier,
        "title": tier_title(tier),
        "note": TIER_NOTES.get(tier, ""),
        "empty": not arms,
        "run": _run(summary),
        "missing": _missing(summary),
        "claims": make_verdicts(item["claims"], tier, names),
        "tasks": [task_section(task, main, summary["records"], names) for task in task_names(main)],
        "overall": overall_section(main, names),
        "gaps": gaps_section(main, names),
        "figures": headline_figures(tier, main) if main else {},
        "captions": figures.CAPTIONS,
        "sizes": sizes_section(summary, tier),
        "allin": all_in_section(arms, names),
        "cohorts": cohort_page.sections(summary, names),
        "strays": cohort_page.strays_words(arms),
        "tuning": tuning_section(summary),
        "budget": budget_words(summary),
        "ablations": ablations_section(arms, names),
        "draws": draws_section(arms, names),
        "provenance": provenance_section(summary),
        "records": records_section(summary, names),
        "place": place,
        "files": files,
    }


def _run(summary: Json) -> list[Json]:
    """What was run and where: names and values, with all values where runs differ."""
    records, arms = summary["records"], summary["arms"]
    if not arms:
        return []
    runs = [record["run"] for record in records.values()]

    packages: dict[str, list[str]] = {}
    for run in runs:
        for name, version in run["versions"].items():
            packages.setdefault(name, []).append(version)
    seeds = sorted({seed for arm in arms for seed in arm["seeds"]})
    seconds = sum(arm["seconds"] for arm in arms)
    peak = max((run.get("peak_memory_bytes") or 0 for run in runs), default=0)
    finished = sorted(run["finished"] for run in runs)
    rows = [
        ("Records", f"{len(records)} from {counted(len(arms), 'job')} (task and method)"),
        ("Tasks", ", ".join(task_title(task) for task in task_names(arms))),
        ("Methods", distinct(arm_title(arm) for arm in main_grid(arms))),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Encoder", distinct(run["encoder"]["name"] for run in runs)),
        ("Encoder sha256", distinct(run["encoder"]["sha256"] for run in runs)),
        ("Device", distinct(f"{run['device']}, {run['processor']}" for run in runs)),
        ("Threads", distinct(run["threads"] for run in runs)),
        ("Number format", distinct(run["dtype"] for run in runs) + " (frozen part)"),
        ("Time", f"{duration(seconds)} in all jobs, tuning included{_planned(summary)}"),
        ("Peak memory", f"{peak / 2**30:.1f} GiB" if peak else "not measured"),
        ("Versions", ", ".join(f"{name} {distinct(found)}" for name, found in packages.items())),
        ("Code", distinct(run["git"] for run in runs)),
        ("Finished", finished[0] if finished[0] == finished[-1] else
         f"{finished[0]} to {finished[-1]}"),
    ]  # fmt: skip
    return [{"name": name, "value": value} for name, value in rows]


def _missing(summary: Json) -> list[Json]:
    """What the grid has and the records have not, job by job."""
    return [
        {
            "job": entry["job"],
            "seeds": ", ".join(map(str, entry["seeds"])),
            "reason": entry["reason"],
        }
        for entry in summary.get("missing", [])
    ]


def _planned(summary: Json) -> str:
    hours = summary.get("planned_hours")
    return "" if hours is None else f"; {duration(3600 * hours)} on one device were planned"
