"""What was tried for each method and what was chosen, as plain values for the templates."""

from __future__ import annotations

from typing import Any

from xpeft.report.summary import task_name, task_names
from xpeft.report.tables import settings_text
from xpeft.report.words import arm_title, counted, loss_text, score, task_title

Json = dict[str, Any]


def tuning_section(summary: Json) -> list[Json]:
    """One entry an arm: the grid that was tried, and on each task what was chosen."""
    titles = {(task_name(arm), arm["arm"]): arm_title(arm) for arm in summary["arms"]}
    groups: dict[tuple[bool, str], list[tuple[str, Json]]] = {}
    for job, value in summary["tuning"].items():
        suite, task, arm = job.split("/")
        if value["trials"] and (f"{suite}/{task}", arm) in titles:
            groups.setdefault((suite == "profiles", arm), []).append((f"{suite}/{task}", value))
    order = {
        (arm["suite"] == "profiles", arm["arm"]): index
        for index, arm in reversed(list(enumerate(summary["arms"])))
    }
    tasks = task_names(summary["arms"])
    found = []
    for key in sorted(groups, key=lambda key: (key[0], order[key])):
        jobs, arm = sorted(groups[key], key=lambda job: tasks.index(job[0])), key[1]
        grids = dict.fromkeys(
            "; ".join(settings_text(trial["settings"]) for trial in value["trials"])
            for _, value in jobs
        )
        found.append(
            {
                "arm": arm,
                "title": titles[jobs[0][0], arm],
                "trials": " or ".join(dict.fromkeys(str(len(v["trials"])) for _, v in jobs)),
                "grids": list(grids),
                "splits": list(dict.fromkeys(value.get("split", "") for _, value in jobs)),
                "jobs": [
                    {
                        "task": task_title(task),
                        "chosen": settings_text(value["trials"][value["chosen"]]["settings"]),
                        "edge": _edge(value),
                        "trials": [
                            {
                                "settings": settings_text(trial["settings"]),
                                "loss": loss_text(trial["loss"]),
                                "score": score(trial["score"]),
                                "chosen": number == value["chosen"],
                            }
                            for number, trial in enumerate(value["trials"])
                        ],
                    }
                    for task, value in jobs
                ],
            }
        )
    return found


def budget_words(summary: Json) -> str:
    """Whether the methods were tuned with equal budgets, said plainly."""
    counts: dict[int, list[str]] = {}
    kinds: dict[str, set[int]] = {}
    for job, value in summary["tuning"].items():
        trials = len(value["trials"])
        counts.setdefault(trials, []).append(job.rsplit("/", 1)[-1])
        kinds.setdefault("people" if job.startswith("profiles/") else "tasks", set()).add(trials)
    if len(counts) == 1:
        return f"Equal budgets: {counted(next(iter(counts)), 'trial')} for each method and task."
    if all(len(trials) == 1 for trials in kinds.values()):
        words = (
            f"{counted(min(trials), 'trial')} for each on {kind}" for kind, trials in kinds.items()
        )
        return f"Equal budgets of all methods: {'; '.join(words)}."
    words = (
        f"{counted(count, 'trial')} for {', '.join(dict.fromkeys(arms))}"
        for count, arms in sorted(counts.items())
    )
    return f"Budgets differ: {'; '.join(words)}."


def _edge(value: Json) -> str:
    """The settings whose chosen value is the largest or smallest that was tried."""
    chosen = value["trials"][value["chosen"]]["settings"]
    names = []
    for name, found in chosen.items():
        tried = {trial["settings"].get(name) for trial in value["trials"]}
        numbers = [item for item in tried if isinstance(item, (int, float))]
        if len(numbers) > 2 and found in (min(numbers), max(numbers)):
            names.append(f"{name} at the {'lower' if found == min(numbers) else 'upper'} end")
    return ", ".join(names)
