"""ARTIFACT.md and LICENSES.md: what a reviewer of the artifact asks, with the numbers filled in.

Expected times come from the configs (`xpeft plan`), expected scores and used times from records,
licences from the specs of tasks and cohorts. The words are in `templates/`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpeft.claims import NO_EVIDENCE, read_claims
from xpeft.config import load_config
from xpeft.data.cohort_specs import COHORTS
from xpeft.data.specs import TASKS
from xpeft.errors import XpeftError
from xpeft.estimate import device_words, plan_json
from xpeft.io import json_text, write_text
from xpeft.report.summary import read_summary, task_name
from xpeft.report.verdict_words import effect_text
from xpeft.report.words import distinct, interval, score, task_title
from xpeft.workflow import Plan

Json = dict[str, Any]

TEMPLATES = Path(__file__).with_name("templates")

PAPERS = {"ARTIFACT.md": "artifact.md.j2", "LICENSES.md": "licences.md.j2"}
"""The files, and the template of each."""

TIERS = ("quick", "small", "paper", "people")
"""The project's own tiers, whose configs ARTIFACT.md shows."""


def write_papers(
    summary: str | os.PathLike[str],
    claims: str | os.PathLike[str],
    configs: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
) -> None:
    """Write the files of PAPERS.

    Args:
        summary: `<tier>/summary.json` of the committed evidence.
        claims: `<tier>/claims.json` of the same tier.
        configs: config files of the tiers, one of them that of the evidence.
        out_dir: folder; links to records are relative to it.

    Raises:
        ConfigError: a config is invalid.
        XpeftError: a file is missing or damaged.
    """
    data = read_summary(summary)
    records = Path(os.path.relpath(Path(summary).parent / "records", out_dir)).as_posix()
    plans = [Plan.make(load_config(path), where=str(path)) for path in configs]
    for name, text in make_papers(data, read_claims(claims), plans, records).items():
        write_text(Path(out_dir, name), text)


def make_papers(summary: Json, claims: Json, plans: Sequence[Plan], records: str) -> dict[str, str]:
    """The files of PAPERS as text; `records` goes before the paths of records in links."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    if claims["tier"] != summary["tier"]:
        raise XpeftError(
            f"found claims of the tier {claims['tier']} with a summary of {summary['tier']}, "
            "expected those of one tier"
        )
    used = _used_hours(summary)
    plan = next((plan for plan in plans if plan.tier == summary["tier"]), None)
    values = {
        "tiers": [_tier(plan) for plan in plans],
        "actual": _actual(summary, used, plan),
        "claims": [_claim(verdict, used) for verdict in claims["verdicts"]],
        "experiments": _experiments(summary, plan, used, records),
        "cut": _cut(summary),
        "cap": plan and (plan.config["cohorts"] or {}).get("max_train_rows"),
        "passes": plan and _passes(plan),
        "unclean": _unclean(summary),
        "data": _licences(),
    }
    return {name: environment.get_template(file).render(values) for name, file in PAPERS.items()}


def _tier(plan: Plan) -> Json:
    found = plan_json(plan)
    steps = found["steps"]
    return {
        "name": found["tier"],
        "encoder": found["encoder"],
        "jobs": found["jobs"],
        "records": found["records"],
        "hours": f"{found['hours']:.1f}",
        "unit": device_words(found["device"]),
        "longest": f"{max(step['longest_hours'] for step in steps):.2f}",
        "memory": f"{max(step['memory_mb'] for step in steps) / 1024:.1f}",
        "disk": f"{found['disk_mb'] / 1024:.2f}",
    }


def _used_hours(summary: Json) -> dict[str, float]:
    """Hours of the processes that wrote an arm's records, all seeds and tuning, by job."""
    return {f"{task_name(arm)}/{arm['arm']}": arm["seconds"] / 3600 for arm in summary["arms"]}


def _actual(summary: Json, used: dict[str, float], plan: Plan | None) -> str:
    if not used:
        return "No run is recorded yet."
    machines = sorted({record["run"]["processor"] for record in summary["records"].values()})
    there = len(summary["records"])
    planned = there if plan is None else plan_json(plan)["records"]
    rest = f" The other {planned - there} are still to be run." if planned > there else ""
    return (
        f"The {there} records of the tier `{summary['tier']}` took "
        f"{sum(used.values()):.1f} hours in {len(used)} jobs on {'; '.join(machines)}; other work "
        f"ran beside some of them.{rest}"
    )


def _passes(plan: Plan) -> str:
    """How often training goes over the rows, of tasks and of people."""
    config = plan.config
    common = config["training"]["epochs"]
    other = {
        task: training["epochs"]
        for task, training in config["task_training"].items()
        if training.get("epochs", common) != common
    }
    words = f"{common:g} passes over the rows of a task"
    if other:
        parts = [f"{task_title(task)} {epochs:g}" for task, epochs in other.items()]
        words += f" ({', '.join(parts)})"
    if config["cohorts"] is not None:
        epochs = {**config["training"], **config["cohorts"]["training"]}["epochs"]
        words += f", {epochs:g} over those of a person"
    return words


def _unclean(summary: Json) -> int:
    """How many records come from a tree with changes that were not committed."""
    return sum("modified" in record["run"]["git"] for record in summary["records"].values())


def _claim(verdict: Json, used: dict[str, float]) -> Json:
    jobs = sorted({path.rsplit("/", 1)[0] for path in verdict["records"]})
    none = verdict["verdict"] == NO_EVIDENCE
    arms = " against ".join(f"`{name}`" for name in verdict["arms"])
    return {
        "id": verdict["id"],
        "arms": f"needs {verdict['needs']}" if none else arms or "counted bytes",
        "tasks": ", ".join(task_title(task["task"]) for task in verdict["tasks"]),
        "verdict": verdict["verdict"],
        "effect": "" if none else effect_text(verdict),
        "hours": f"{sum(used[job] for job in jobs):.1f}" if jobs else "",
    }


def _experiments(
    summary: Json, plan: Plan | None, used: dict[str, float], records: str
) -> list[Json]:
    rows = []
    for arm in summary["arms"]:
        job = f"{task_name(arm)}/{arm['arm']}"
        spread = arm["over_seeds"]
        runs = [summary["records"][path]["run"] for path in arm["records"]]
        rows.append(
            {
                "task": task_title(task_name(arm)),
                "arm": arm["arm"],
                "link": f"{records}/{job}",
                "score": score(spread["mean"]),
                "interval": interval(spread["low"], spread["high"]),
                "seeds": ", ".join(map(str, arm["seeds"])),
                "planned": _planned(plan, job, arm["seeds"]),
                "used": f"{used[job]:.2f}",
                "memory": _memory(runs),
                "disk": f"{_disk(summary, arm) / 1e6:.2f}",
                "processor": distinct(run["processor"] for run in runs),
            }
        )
    return rows


def _memory(runs: Sequence[Json]) -> str:
    peaks = [peak for run in runs if (peak := run.get("peak_memory_bytes"))]
    return f"{max(peaks) / 1e9:.1f}" if peaks else "\N{EN DASH}"


def _disk(summary: Json, arm: Json) -> int:
    """Bytes of an arm's records, as they are written."""
    return sum(len(json_text(summary["records"][path])) for path in arm["records"])


def _cut(summary: Json) -> str:
    """The tasks of which not all training rows were taken, with their numbers."""
    found = {}
    for arm in summary["arms"]:
        spec = TASKS.get((arm["suite"], arm["task"]))
        rows = arm["rows"]["train"]
        if spec is not None and spec.size is not None and rows < spec.size.train:
            found[task_title(spec.name)] = f"{rows:,} of {spec.size.train:,}"
    return ", ".join(f"{name} {rows}" for name, rows in found.items())


def _planned(plan: Plan | None, job: str, seeds: list[int]) -> str:
    """Hours of one device that were planned for these seeds; a dash where the config lacks them."""
    if plan is None:
        return "\N{EN DASH}"
    if job in plan.jobs:
        return f"{plan.hours_of(job, seeds):.2f}"
    if job in plan.grid.jobs:
        cohort = plan.grid.jobs[job]
        seconds = sum(plan.sizes.part(cohort).seconds for _ in plan.grid.parts_of(cohort))
        seconds += plan.sizes.tune(cohort).seconds if cohort.tuned else 0.0
        return f"{seconds / 3600:.2f}"
    return "\N{EN DASH}"


def _licences() -> list[Json]:
    rows = []
    for task in TASKS.values():
        hub = "\N{EN DASH}"
        if task.hub_id is not None:
            hub = f"`{task.hub_id}` at `{(task.revision or 'main')[:12]}`"
        rows.append(_licence(task.name, task.licence, task.note, hub))
    for cohort in COHORTS.values():
        rows.append(_licence(cohort.name, cohort.licence, cohort.note, "\N{EN DASH}"))
    return rows


def _licence(name: str, licence: str, note: str, hub: str) -> Json:
    return {"name": name, "licence": licence, "note": note, "hub": hub}
