"""The tables of cohorts: arms, pairs, and every profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpeft.report.cohorts import accuracies, cohorts, headline_mean
from xpeft.report.forms import Table
from xpeft.report.summary import VARIED, Arm, main_grid, on_cohorts, task_name, varied
from xpeft.report.words import (
    arm_title,
    byte_count,
    ends,
    interval,
    p_value,
    score,
    signed,
    task_title,
)

Json = dict[str, Any]

_ARM = ("suite", "task", "arm", "method", "mask", "bank", "n", "k", "scope", "base", "head")

OWN_LABEL = "its own usual label"
"""The yardstick that needs no model: always say a profile's most frequent training label."""

HEADLINE = (
    f"Headline: the profiles whose most frequent training label has less than {100 * VARIED:.0f} % "
    "of their training rows."
)


def make_cohort_tables(summary: Json) -> dict[str, Table]:
    """The tables `cohorts`, `comparisons` and `profiles`, each of all cohorts."""
    arms = main_grid(on_cohorts(summary["arms"]))
    return {
        "cohorts": _cohorts(arms, summary["records"]),
        "comparisons": _comparisons(arms, summary.get("pairs", [])),
        "profiles": _profiles(arms),
    }


def usual_scores(arm: Arm, records: Mapping[str, Any]) -> dict[str, float]:
    """Scores of always saying each profile's most frequent training label, by metric."""
    found: dict[str, float] = records[arm["records"][0]]["result"]["majority"]
    return found


def _cohorts(arms: list[Arm], records: Mapping[str, Any]) -> Table:
    data, rows = [], []
    for arm in arms:
        spread, others = arm["over_seeds"], arm["others"]
        usual = usual_scores(arm, records)
        kept = varied(arm["profiles"])
        own = arm["profiles"]["usual"]
        data.append(
            {name: arm[name] for name in _ARM}
            | {
                "profiles": len(own),
                "mean": spread["mean"],
                "low_over_seeds": spread["low"],
                "high_over_seeds": spread["high"],
                "seeds": spread["n"],
                "usual": usual[arm["metric"]],
                "headline_profiles": len(kept),
                "headline_mean": headline_mean(arm),
                "headline_usual": sum(own[i] for i in kept) / len(kept) if kept else None,
                "accuracy_of_rows": _mean(others, "accuracy"),
                "macro_f1_of_rows": _mean(others, "macro_f1"),
                "best": arm["best"],
                "test_rows": arm["rows"]["validation"],
                "bytes": arm["bytes"]["total"],
                "bytes_without_head": arm["bytes"]["total"] - arm["bytes"]["head"],
                "records": arm["records"],
            }
        )
        rows.append(
            [
                task_title(task_name(arm)),
                arm_title(arm),
                score(spread["mean"]),
                interval(spread["low"], spread["high"]),
                score(headline_mean(arm)),
                score(_mean(others, "accuracy")),
                score(_mean(others, "macro_f1")),
                score(usual[arm["metric"]]),
                byte_count(arm["bytes"]["total"]),
            ]
        )
    return Table(
        "Cohorts: accuracy in points, mean over profiles, with 95 % interval over seeds (t). "
        f"{HEADLINE} Of rows: over the test rows of all profiles as one. Usual label: the mean "
        "over profiles of always saying a profile's most frequent training label. Stored: all "
        "bytes of a profile, its head included; of one model for all a profile stores nothing.",
        [*_ARM, "profiles", "mean", "low_over_seeds", "high_over_seeds", "seeds", "usual",
         "headline_profiles", "headline_mean", "headline_usual", "accuracy_of_rows",
         "macro_f1_of_rows", "best", "test_rows", "bytes", "bytes_without_head", "records"],
        data,
        ["Cohort", "Method", "Mean", "95 % over seeds", "Headline", "Accuracy of rows",
         "Macro F1 of rows", "Usual label", "Stored"],
        rows,
    )  # fmt: skip


def _mean(others: Json, metric: str) -> float | None:
    return others[metric]["mean"] if metric in others else None


def _comparisons(arms: list[Arm], pairs: list[Json]) -> Table:
    titles = {(task_name(arm), arm["arm"]): arm_title(arm) for arm in arms}
    data, rows = [], []
    for pair in pairs:
        task = f"{pair['suite']}/{pair['task']}"
        for which in ("headline", "all"):
            found = pair[which]
            if found is None:
                continue
            data.append(
                {name: pair[name] for name in ("suite", "task", "kind", "left", "right")}
                | {
                    "over": which,
                    "profiles": found["profiles"],
                    "difference": found["mean"],
                    "low_over_profiles": found["low"],
                    "high_over_profiles": found["high"],
                    "low_over_profiles_and_seeds": found["low_both"],
                    "high_over_profiles_and_seeds": found["high_both"],
                    "wins": found["wins"],
                    "ties": found["ties"],
                    "losses": found["losses"],
                    "win_rate": found["wins"] / found["profiles"],
                    "wilcoxon_p": found["p_value"],
                    "seeds": pair["seeds"],
                }
            )
            rows.append(
                [
                    task_title(task),
                    titles[task, pair["left"]],
                    titles[task, pair["right"]] if pair["right"] else OWN_LABEL,
                    f"{which}, {found['profiles']:,}",
                    signed(100 * found["mean"]),
                    ends(found["low"], found["high"]),
                    ends(found["low_both"], found["high_both"]),
                    wins(found),
                    p_value(found["p_value"]),
                ]
            )
    return Table(
        "Pairs of methods, profile by profile: differences of accuracy in points, each profile's "
        "mean over seeds. Intervals of 95 %: bootstrap (BCa) over profiles, and t over profiles "
        f"and seeds. Wilcoxon's p is two-sided and not corrected for the number of pairs. "
        f"{HEADLINE}",
        ["suite", "task", "kind", "left", "right", "over", "profiles", "difference",
         "low_over_profiles", "high_over_profiles", "low_over_profiles_and_seeds",
         "high_over_profiles_and_seeds", "wins", "ties", "losses", "win_rate", "wilcoxon_p",
         "seeds"],
        data,
        ["Cohort", "Method", "Against", "Profiles", "Difference", "95 % over profiles",
         "95 % over profiles and seeds", "Wins / ties / losses", "p"],
        rows,
    )  # fmt: skip


def wins(found: Json) -> str:
    """Wins, ties and losses."""
    return f"{found['wins']:,} / {found['ties']:,} / {found['losses']:,}"


def _profiles(arms: list[Arm]) -> Table:
    """A row a profile and arm, so that one file holds cohorts with different arms."""
    data, rows = [], []
    for task, group in cohorts(arms).items():
        kept = set(varied(group[0]["profiles"]))
        for arm in group:
            profiles, means = arm["profiles"], accuracies(arm)
            for place, name in enumerate(profiles["id"]):
                each = [seed[place] for seed in profiles["accuracy"]]
                row = {
                    "suite": arm["suite"],
                    "task": arm["task"],
                    "profile": name,
                    "label": profiles["top"][place],
                    "label_share": profiles["top_share"][place],
                    "headline": place in kept,
                    "train_rows": profiles["train"][place],
                    "test_rows": profiles["test"][place],
                    "usual": profiles["usual"][place],
                    "arm": arm["arm"],
                    "mean": float(means[place]),
                    "seeds": arm["seeds"],
                    "accuracy": each,
                }
                data.append(row)
                rows.append(
                    [
                        task_title(task),
                        name,
                        profiles["top"][place],
                        score(profiles["top_share"][place]),
                        f"{profiles['train'][place]:,}",
                        f"{profiles['test'][place]:,}",
                        score(profiles["usual"][place]),
                        arm_title(arm),
                        score(float(means[place])),
                    ]
                )
    return Table(
        "Every profile with every method: accuracy in points, mean over seeds. Main label: its "
        "most frequent training label, with its share of the training rows in points; usual "
        "label: the accuracy of always saying it.",
        ["suite", "task", "profile", "label", "label_share", "headline", "train_rows",
         "test_rows", "usual", "arm", "mean", "seeds", "accuracy"],
        data,
        ["Cohort", "Profile", "Main label", "Share", "Training rows", "Test rows", "Usual label",
         "Method", "Accuracy"],
        rows,
    )  # fmt: skip
