"""`xpeft plan`: how many jobs a config means, how long they take, what they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpeft.sizes import Need
from xpeft.workflow import Plan


@dataclass(frozen=True)
class Step:
    """All jobs of one rule.

    Attributes:
        rule: its name.
        jobs: how many.
        hours: of one device, over all jobs.
        longest: hours of the longest job.
        memory_mb, device_mb: of the largest job, in the process and on the GPU.
        disk_mb: that they leave.
    """

    rule: str
    jobs: int
    hours: float
    longest: float
    memory_mb: float
    device_mb: float
    disk_mb: float


def make_steps(plan: Plan) -> list[Step]:
    """What a plan's jobs take, rule by rule."""
    needs: dict[str, list[Need]] = {}
    for rule, need in plan.needs():
        needs.setdefault(rule, []).append(need)
    return [
        Step(
            rule,
            len(found),
            sum(need.seconds for need in found) / 3600,
            max(need.seconds for need in found) / 3600,
            max(need.memory_mb for need in found),
            max(need.device_mb for need in found),
            sum(need.disk_mb for need in found),
        )
        for rule, found in needs.items()
    ]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON: tier, device, steps and their sums."""
    steps = make_steps(plan)
    return {
        "schema": 1,
        "tier": plan.tier,
        "device": plan.config["device"],
        "encoder": plan.config["encoder"]["name"],
        "records": len(plan.records(plan.tier)),
        "steps": [
            {
                "rule": step.rule,
                "jobs": step.jobs,
                "hours": _short(step.hours),
                "longest_hours": _short(step.longest),
                "memory_mb": round(step.memory_mb),
                "device_mb": round(step.device_mb),
                "disk_mb": _short(step.disk_mb),
            }
            for step in steps
        ],
        "jobs": sum(step.jobs for step in steps),
        "hours": _short(sum(step.hours for step in steps)),
        "disk_mb": _short(sum(step.disk_mb for step in steps)),
    }


def plan_text(plan: Plan) -> str:
    """The plan as a table."""
    value = plan_json(plan)
    unit = device_words(value["device"])
    lines = [
        f"tier {value['tier']}: {value['encoder']}, {value['records']} records",
        "",
        f"{'step':<14}{'jobs':>6}{unit + ' hours':>14}{'longest, h':>12}{'memory, GB':>12}"
        f"{'GPU, GB':>9}{'disk, GB':>10}",
    ]
    for step in value["steps"]:
        lines.append(
            f"{step['rule']:<14}{step['jobs']:>6}{step['hours']:>14.1f}"
            f"{step['longest_hours']:>12.2f}{step['memory_mb'] / 1024:>12.1f}"
            f"{step['device_mb'] / 1024:>9.1f}{step['disk_mb'] / 1024:>10.2f}"
        )
    lines.append(
        f"{'all':<14}{value['jobs']:>6}{value['hours']:>14.1f}{'':>12}{'':>12}{'':>9}"
        f"{value['disk_mb'] / 1024:>10.2f}"
    )
    speed = plan.config["speed"]
    rate = (
        f"{speed['gpu_tflops']:g} TFLOP/s a GPU (speed.gpu_tflops)"
        if value["device"] == "cuda"
        else f"{speed['cpu_gflops']:g} GFLOP/s a thread (speed.cpu_gflops)"
    )
    lines += ["", f"Estimated from rows, tokens and shapes, at {rate}."]
    return "\n".join(lines)


def plan_line(plan: Plan) -> str:
    """The plan in one line, for the start of a run."""
    value = plan_json(plan)
    hours = f"{value['hours']:.2g} {device_words(value['device'])} hours"
    return f"{value['jobs']} jobs that train, some {hours} in all; `xpeft plan` tells more"


def device_words(device: str) -> str:
    """`GPU` or `core`: what the hours of a plan are of."""
    return "GPU" if device == "cuda" else "core"


def _short(value: float) -> float:
    return float(f"{value:.4g}")
