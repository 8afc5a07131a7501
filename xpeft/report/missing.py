"""The cells of a grid that have no record, and why, as far as their logs tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_STARTED = "not started"
_ERROR = "xpeft: error: "
_TAIL = 4096  # bytes of a log that are read


def list_missing(
    paths: Sequence[str], logs: Path, damaged: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One entry a job: its name, the seeds without a record, the reason.

    Args:
        paths: records that are absent, as `<suite>/<task>/<arm>/seed<k>.json`.
        logs: `<tier>/logs`.
        damaged: those of them that are there, with what is wrong with each.
    """
    wrong = {path.rpartition("/")[0]: damaged[path] for path in paths if path in damaged}
    seeds: dict[str, list[int]] = {}
    for path in paths:
        job, _, file = path.rpartition("/")
        seeds.setdefault(job, []).append(int(file.removeprefix("seed").removesuffix(".json")))
    return [
        {"job": job, "seeds": sorted(found), "reason": wrong.get(job) or _reason(job, logs)}
        for job, found in seeds.items()
    ]


def _reason(job: str, logs: Path) -> str:
    """The error in the newest log of a job, or what it said last."""
    suite, task, arm = job.split("/")
    if suite == "profiles":
        found = [logs / "tune" / task / f"{arm}.log", logs / "gather" / task / f"{arm}.log"]
        found += (logs / "part" / task / arm).glob("*.log")
    else:
        found = [logs / rule / suite / task / f"{arm}.log" for rule in ("train", "train_more")]
    found = [log for log in found if log.is_file()]
    if not found:
        return NOT_STARTED
    newest = max(found, key=lambda log: (log.stat().st_mtime, log.name))
    with newest.open("rb") as file:
        file.seek(max(0, newest.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix(_ERROR) for line in said if line.startswith(_ERROR)]
    if errors:
        return errors[-1]
    return f"no error in its log; it ends with: {said[-1]}" if said else "its log is empty"
