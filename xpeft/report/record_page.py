"""The appendix of a tier as plain values: its records as JSON, and where they come from."""

from __future__ import annotations

import json
from typing import Any

from xpeft.io import canonical_json, sha256_bytes
from xpeft.report.links import Names
from xpeft.report.summary import Arm, task_name, task_names
from xpeft.report.tables import settings_text
from xpeft.report.words import (
    arm_title,
    byte_count,
    distinct,
    duration,
    interval,
    metric_title,
    score,
    task_title,
)

Json = dict[str, Any]

EMBEDDED_PREDICTIONS = 5000
"""A longer list of predictions is replaced by its hash in the page; the record's file has it."""

EMBEDDED_PROFILES = 20
"""Likewise the lists of more profiles, but for what was right: the others are in their table."""


def provenance_section(summary: Json) -> Json:
    """Hashes: of the data of each task and of the config of each job."""
    records = summary["records"]
    data: dict[tuple[str, str, str], None] = {}
    for arm in summary["arms"]:
        for path in arm["records"]:
            for split, digest in records[path]["run"]["data_sha256"].items():
                data[task_title(task_name(arm)), split, digest] = None
    configs = [
        {
            "task": task_title(task_name(arm)),
            "title": arm_title(arm),
            "config": distinct(records[path]["run"]["config_sha256"] for path in arm["records"]),
            "git": distinct(records[path]["run"]["git"] for path in arm["records"]),
            "seconds": duration(arm["seconds"]),
            "rate": f"{records[arm['records'][0]]['run']['rows_per_second']:,.0f}",
            "share": _share(records[arm["records"][0]]["run"].get("encoder_share")),
        }
        for arm in summary["arms"]
    ]
    return {
        "data": [{"task": t, "split": s, "sha256": d} for t, s, d in data],
        "configs": configs,
    }


def records_section(summary: Json, names: Names) -> list[Json]:
    """The appendix: arms with their statistics, and each record as JSON."""
    tasks = []
    for task in task_names(summary["arms"]):
        arms = []
        for arm in summary["arms"]:
            if task_name(arm) != task:
                continue
            spread = arm["over_seeds"]
            arms.append(
                {
                    "id": names.arm(arm),
                    "title": arm_title(arm),
                    "full": f"{task_title(task)}, {arm_title(arm)}",
                    "name": arm["arm"],
                    "mean": score(spread["mean"]),
                    "interval": interval(spread["low"], spread["high"]),
                    "metric": metric_title(arm["metric"]),
                    "others": [
                        f"{metric_title(name)} {score(value['mean'])}"
                        for name, value in arm["others"].items()
                    ],
                    "majority": score(arm["majority"]),
                    "reference": "usual label" if arm["profiles"] else "majority class",
                    "bytes": byte_count(arm["bytes"]["total"]),
                    "parameters": f"{arm['parameters']['total']:,}",
                    "settings": settings_text(arm["settings"]),
                    "records": [
                        _record(path, arm, place, summary["records"][path], names)
                        for place, path in enumerate(arm["records"])
                    ],
                }
            )
        tasks.append({"title": task_title(task), "arms": arms})
    return tasks


def record_text(value: Any, indent: str = "") -> str:
    """JSON for reading: an object over several lines, a list of plain values on one."""
    if isinstance(value, dict) and value:
        inner = indent + "  "
        items = (
            f"{inner}{json.dumps(key)}: {record_text(item, inner)}" for key, item in value.items()
        )
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list):
        return "[" + ", ".join(record_text(item, indent) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _share(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.0f} %"


def _record(path: str, arm: Arm, place: int, record: Json, names: Names) -> Json:
    examples = arm["over_examples"][place] if arm["over_examples"] else None
    return {
        "id": names.record(path),
        "path": f"{names.place}/{path}",
        "title": f"{task_title(task_name(arm))}, {arm_title(arm)}, seed {arm['seeds'][place]}",
        "seed": arm["seeds"][place],
        "score": score(arm["scores"][place]),
        "examples": None if examples is None else interval(*examples),
        "json": record_text(_short(record)),
    }


def _short(record: Json) -> Json:
    """A record with hashes for its long lists; of a cohort's profiles, only what is its own."""
    result = record["result"]
    if len(result["predictions"]) > EMBEDDED_PREDICTIONS:
        result = result | {"predictions": _hashed(result["predictions"])}
    profiles = result.get("profiles")
    if profiles and len(profiles["id"]) > EMBEDDED_PROFILES:
        own = {
            name: values if name == "correct" else _hashed(values)
            for name, values in profiles.items()
        }
        result = result | {"profiles": own}
    return record | {"result": result}


def _hashed(values: list[Any]) -> str:
    digest = sha256_bytes(canonical_json(values).encode())
    return f"{len(values)} values, in the record's file; sha256 of their JSON {digest}"
