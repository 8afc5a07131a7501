"""The tables, each as CSV for programs, Markdown for readers and LaTeX (booktabs) for papers.

CSV holds every value unrounded and the paths of the records behind it; Markdown and LaTeX hold
the columns that fit a page, rounded, in points (hundredths of the score).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xpeft.claims import read_claims
from xpeft.io import write_text
from xpeft.ledger import read_ledger
from xpeft.report import allin, bank_draws, bank_sizes, cohort_tables
from xpeft.report.forms import Table, to_csv, to_latex, to_markdown
from xpeft.report.overall import make_overall
from xpeft.report.summary import Arm, main_grid, on_tasks, read_summary, task_name
from xpeft.report.verdict_words import effect_interval, effect_text
from xpeft.report.words import (
    arm_title,
    byte_count,
    ends,
    interval,
    loss_text,
    metric_title,
    p_value,
    score,
    signed,
    signed_ends,
    task_title,
    times,
)

Json = dict[str, Any]

TABLES = (
    "scores", "records", "gaps", "examples", "overall", "ablations", "tuning", "claims", "ledger",
    "draws", "sizes", "allin", "cohorts", "comparisons", "profiles",
)  # fmt: skip
"""The names of the files; all are always written, without evidence with a header alone."""


def write_tables(
    summary: str | os.PathLike[str],
    ledger: str | os.PathLike[str] | None,
    claims: str | os.PathLike[str] | None,
    out_dir: str | os.PathLike[str],
) -> None:
    """Write all tables of a tier as `<name>.csv`, `.md` and `.tex`.

    Args:
        summary: `<tier>/summary.json`.
        ledger, claims: JSON of `xpeft ledger` and `xpeft claims`; None leaves their tables empty.
        out_dir: folder; made if it is absent.
    """
    tables = make_tables(
        read_summary(summary),
        None if ledger is None else read_ledger(ledger),
        None if claims is None else read_claims(claims),
    )
    for name, table in tables.items():
        write_text(Path(out_dir, f"{name}.csv"), to_csv(table))
        write_text(Path(out_dir, f"{name}.md"), to_markdown(table))
        write_text(Path(out_dir, f"{name}.tex"), to_latex(table, name))


def make_tables(summary: Json, ledger: Json | None, claims: Json | None) -> dict[str, Table]:
    """All tables, by name, in the order of TABLES."""
    arms = summary["arms"]
    return {
        "scores": _scores(on_tasks(main_grid(arms))),
        "records": _records(summary),
        "gaps": _gaps(on_tasks(main_grid(arms))),
        "examples": _examples(on_tasks(arms)),
        "overall": _overall(on_tasks(main_grid(arms))),
        "ablations": _ablations(arms),
        "tuning": _tuning(summary["tuning"]),
        "claims": _claims(claims),
        "ledger": _ledger(ledger),
        "draws": bank_draws.make_table(arms),
        "sizes": bank_sizes.make_table(arms, summary["step"]),
        "allin": allin.make_table(arms),
        **cohort_tables.make_cohort_tables(summary),
    }


# --------------------------------------------------------------------------------- the tables


_ARM = ("suite", "task", "arm", "method", "mask", "bank", "n", "k", "variant", "metric")


_YARDSTICKS = {"single_adapter": "adapter", "head_only": "head only"}


def _identity(arm: Arm) -> Json:
    return {name: arm[name] for name in _ARM}


def _scores(arms: list[Arm]) -> Table:
    data = [
        _identity(arm)
        | {
            "mean": arm["over_seeds"]["mean"],
            "sd_over_seeds": arm["over_seeds"]["sd"],
            "low_over_seeds": arm["over_seeds"]["low"],
            "high_over_seeds": arm["over_seeds"]["high"],
            "seeds": arm["over_seeds"]["n"],
            "majority": arm["majority"],
            "best": arm["best"],
            "constant_seeds": arm["constant"],
            "validation_rows": arm["rows"]["validation"],
            "bytes": arm["bytes"]["total"],
            "bytes_without_head": arm["bytes"]["total"] - arm["bytes"]["head"],
            "parameters": arm["parameters"]["total"],
            "records": arm["records"],
        }
        for arm in arms
    ]
    rows = [
        [
            task_title(task_name(arm)),
            metric_title(arm["metric"]),
            arm_title(arm),
            score(arm["over_seeds"]["mean"]),
            interval(arm["over_seeds"]["low"], arm["over_seeds"]["high"]),
            str(arm["over_seeds"]["n"]),
            score(arm["majority"]),
            byte_count(arm["bytes"]["total"]),
        ]
        for arm in arms
    ]
    return Table(
        "Scores in points, mean with 95 % interval over seeds (t). Majority: the score of always "
        "predicting the majority class. Stored: all bytes of the profile, its head included.",
        [*_ARM, "mean", "sd_over_seeds", "low_over_seeds", "high_over_seeds", "seeds", "majority",
         "best", "constant_seeds", "validation_rows", "bytes", "bytes_without_head", "parameters",
         "records"],
        data,
        ["Task", "Metric", "Method", "Mean", "95 % over seeds", "Seeds", "Majority", "Stored"],
        rows,
    )  # fmt: skip


def _records(summary: Json) -> Table:
    data, rows = [], []
    for arm in summary["arms"]:
        for place, path in enumerate(arm["records"]):
            record = summary["records"][path]
            result, run = record["result"], record["run"]
            examples = (arm["over_examples"] or [None] * len(arm["records"]))[place]
            low, high = examples or (None, None)
            data.append(
                _identity(arm)
                | {
                    "seed": record["cell"]["seed"],
                    "score": result["score"],
                    "low_over_examples": low,
                    "high_over_examples": high,
                    "constant": result["constant"],
                    "bytes": result["bytes"]["total"],
                    "wall_seconds": run["wall_seconds"],
                    "device": run["device"],
                    "git": run["git"],
                    "config_sha256": run["config_sha256"],
                    "record": path,
                }
            )
            rows.append(
                [
                    task_title(task_name(arm)),
                    arm_title(arm),
                    str(record["cell"]["seed"]),
                    score(result["score"]),
                    "\N{EN DASH}" if low is None else interval(low, high),
                    "yes" if result["constant"] else "no",
                    run["git"],
                ]
            )
    return Table(
        "Every record. The interval is a bootstrap over the validation examples of this one "
        "model; it says nothing about seeds.",
        [*_ARM, "seed", "score", "low_over_examples", "high_over_examples", "constant", "bytes",
         "wall_seconds", "device", "git", "config_sha256", "record"],
        data,
        ["Task", "Method", "Seed", "Score", "95 % over examples", "One class", "Commit"],
        rows,
    )  # fmt: skip


def _gaps(arms: list[Arm]) -> Table:
    data, rows = [], []
    for arm in arms:
        for method, found in arm["versus"].items():
            if found is None:
                continue
            data.append(_identity(arm) | {"versus": found["arm"]} | _differences(found))
            rows.append([*_versus(arm, method, found), str(found["n"])])
    return Table(
        "Differences to the yardsticks in points, paired by seed, with 95 % interval over seeds "
        "(t).",
        [*_ARM, "versus", "difference", "low_over_seeds", "high_over_seeds", "seeds"],
        data,
        ["Task", "Method", "Against", "Difference", "95 % over seeds", "Seeds"],
        rows,
    )


def _versus(arm: Arm, method: str, found: Json) -> list[str]:
    """The cells that name an arm, its yardstick, and their difference with its interval."""
    return [
        task_title(task_name(arm)),
        arm_title(arm),
        _YARDSTICKS[method],
        signed(100 * found["mean"]),
        ends(found["low"], found["high"]),
    ]


def _examples(arms: list[Arm]) -> Table:
    data, rows = [], []
    for arm in arms:
        for method, found in arm["versus_examples"].items():
            data.append(
                _identity(arm)
                | {
                    "versus": found["right"],
                    "difference": found["mean"],
                    "low_over_examples": found["low"],
                    "high_over_examples": found["high"],
                    "seeds": found["seeds"],
                    "mcnemar": found["mcnemar"],
                }
            )
            rows.append(
                [
                    *_versus(arm, method, found),
                    ", ".join(p_value(test["p_value"]) for test in found["mcnemar"])
                    or "\N{EN DASH}",
                ]
            )
    return Table(
        "Differences to the yardsticks in points, the same validation examples for both: 95 % "
        "bootstrap interval over examples (mean over seeds), and p of McNemar's exact test for "
        "each seed, not corrected.",
        [*_ARM, "versus", "difference", "low_over_examples", "high_over_examples", "seeds",
         "mcnemar"],
        data,
        ["Task", "Method", "Against", "Difference", "95 % over examples", "p (McNemar)"],
        rows,
    )  # fmt: skip


def _overall(arms: list[Arm]) -> Table:
    found = make_overall(arms)
    data = [
        {
            "arm": entry["arm"],
            "mean": entry["mean"],
            "iqm": entry["iqm"] and entry["iqm"]["value"],
            "low_over_seeds": entry["iqm"] and entry["iqm"]["low"],
            "high_over_seeds": entry["iqm"] and entry["iqm"]["high"],
            "tasks": found["tasks"],
            "left_out": found["left_out"],
        }
        for entry in found["arms"]
    ]
    rows = [
        [entry["title"], signed(entry["mean"]), *iqm_text(entry["iqm"])] for entry in found["arms"]
    ]
    return Table(
        "Gap of each run (task x seed) to the adapter's mean on the task, in points: mean over "
        "tasks, and interquartile mean of the runs with a 95 % bootstrap interval over the "
        "method's seeds; the adapter's mean is taken as it is.",
        ["arm", "mean", "iqm", "low_over_seeds", "high_over_seeds", "tasks", "left_out"],
        data,
        ["Method", "Mean", "IQM", "95 % over seeds"],
        rows,
    )


def _ablations(arms: list[Arm]) -> Table:
    data, rows = [], []
    for arm in arms:
        if not arm["variant"]:
            continue
        base = arm["changes"]
        found = base["difference"] if base else None
        data.append(
            _identity(arm)
            | {"mean": arm["over_seeds"]["mean"], "base": base and base["arm"]}
            | _differences(found)
            | {"bytes": arm["bytes"]["total"], "records": arm["records"]}
        )
        rows.append(
            [
                task_title(task_name(arm)),
                arm_title(arm | {"variant": ""}),
                arm["variant"],
                score(arm["over_seeds"]["mean"]),
                signed(100 * found["mean"]) if found else "\N{EN DASH}",
                ends(found["low"], found["high"]) if found else "\N{EN DASH}",
                byte_count(arm["bytes"]["total"]),
            ]
        )
    return Table(
        "Ablations: one change each. Difference to the same arm of the main grid in points, "
        "paired by seed, with 95 % interval over seeds (t).",
        [*_ARM, "mean", "base", "difference", "low_over_seeds", "high_over_seeds", "seeds",
         "bytes", "records"],
        data,
        ["Task", "Method", "Change", "Mean", "Difference", "95 % over seeds", "Stored"],
        rows,
    )  # fmt: skip


def _tuning(tuning: Json) -> Table:
    data, rows = [], []
    for job, value in tuning.items():
        suite, task, arm = job.split("/")
        for number, trial in enumerate(value["trials"]):
            chosen = number == value["chosen"]
            settings = trial["settings"]
            data.append(
                {
                    "suite": suite,
                    "task": task,
                    "arm": arm,
                    "split": value.get("split"),
                    "metric": value.get("primary"),
                    "trial": number,
                    "settings": settings,
                    "loss": trial["loss"],
                    "score": trial["score"],
                    "chosen": chosen,
                }
            )
            rows.append(
                [
                    task_title(f"{suite}/{task}"),
                    arm,
                    settings_text(settings),
                    loss_text(trial["loss"]),
                    score(trial["score"]),
                    "chosen" if chosen else "",
                ]
            )
    return Table(
        "Tuning: everything that was tried. The lowest loss on held-out training rows is chosen; "
        "scores in points.",
        ["suite", "task", "arm", "split", "metric", "trial", "settings", "score", "chosen"],
        data,
        ["Task", "Arm", "Settings", "Loss", "Score", ""],
        rows,
    )


def _claims(claims: Json | None) -> Table:
    verdicts = (claims or {}).get("verdicts", [])
    fields = ["id", "statement", "source", "test", "margin", "verdict", "effect", "unit", "bound",
              "interval", "p_value", "p_against", "equivalence", "detectable", "seeds_needed",
              "seeds", "arms", "left_out", "records"]  # fmt: skip
    data = [{name: verdict[name] for name in fields} for verdict in verdicts]
    rows = [
        [
            verdict["statement"],
            verdict["source"],
            verdict["verdict"],
            effect_text(verdict),
            effect_interval(verdict),
            p_value(verdict["p_value"]),
        ]
        for verdict in verdicts
    ]
    return Table(
        "Verdicts. Differences in points with 95 % interval over seeds (of cohorts: over profiles "
        "and seeds) of the paired difference, mean over tasks; p one-sided, of the claim's own "
        "test. Ratios are exact.",
        fields,
        data,
        ["Claim", "Source", "Verdict", "Effect", "95 % interval", "p"],
        rows,
    )


def _ledger(ledger: Json | None) -> Table:
    fields = ["key", "name", "parts", "bytes", "ratio", "ratio_same_head", "reaches_goal"]
    data: list[Json] = []
    if ledger is not None:
        size = ledger["adapter"]["bytes"]
        data.append(
            {
                "key": "adapter",
                "name": f"adapter, b = {ledger['encoder']['bottleneck']}",
                "parts": {"adapter": size},
                "bytes": size,
                "ratio": 1.0,
                "ratio_same_head": 1.0,
                "reaches_goal": False,
            }
        )
        data += ledger["combinations"]
    rows = [[entry["name"], byte_count(entry["bytes"]), times(entry["ratio"])] for entry in data]
    where = "" if ledger is None else f" {ledger['encoder']['name']}, N = {ledger['adapters']}."
    return Table(
        f"Bytes a profile stores, and the ratio to the adapter alone.{where}",
        fields,
        data,
        ["What a profile stores", "Bytes", "Ratio"],
        rows,
    )


# --------------------------------------------------------------------------------- the pieces


def iqm_text(middle: Json | None) -> tuple[str, str]:
    """An interquartile mean and its interval, both in points already."""
    if middle is None:
        return "\N{EN DASH}", "no interval"
    return signed(middle["value"]), signed_ends(middle["low"], middle["high"])


def settings_text(settings: Json) -> str:
    """Settings as `lr 0.01, head_lr 0.001`."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}"
        for name, value in settings.items()
    )


def _differences(found: Json | None) -> Json:
    names = {"difference": "mean", "low_over_seeds": "low", "high_over_seeds": "high", "seeds": "n"}
    return {name: found and found[key] for name, key in names.items()}
