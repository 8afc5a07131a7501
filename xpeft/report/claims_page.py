"""CLAIMS.md: every claim with its verdict on one tier, for readers of the repository.

Each number is a link to the records that it comes from: an effect to the folder of each arm that it
compares, a count to the section that shows how it was counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xpeft.claims import NO_EVIDENCE, VERDICTS
from xpeft.io import write_text
from xpeft.report.verdict_words import (
    checks_text,
    deciding_p,
    effect_interval,
    effect_text,
    p_text,
    power_text,
    test_text,
    yardstick_text,
)
from xpeft.report.words import TIER_NOTES, counted, p_value, signed, task_title, times
from xpeft.stats import ALPHA

Json = dict[str, Any]


def write_claims_page(
    claims: Json, out: str | os.PathLike[str], records: str | os.PathLike[str]
) -> None:
    """Write the page.

    Args:
        claims: what `xpeft.claims.judge` returns.
        out: the Markdown file.
        records: `<tier>/records`; links lead there, relative to `out`.
    """
    place = Path(os.path.relpath(records, Path(out).parent)).as_posix()
    write_text(out, claims_page(claims, place))


def claims_page(claims: Json, records: str) -> str:
    """The page as text; `records` goes before the paths of records in links."""
    verdicts = claims["verdicts"]
    counts = [verdict for verdict in verdicts if verdict["test"] == "count"]
    judged = [verdict for verdict in verdicts if verdict["test"] != "count"]
    lines = [
        "# Claims",
        "",
        "<!-- Written by `xpeft claims --markdown` from the committed records. -->",
        "",
        f"{counted(len(verdicts), 'claim')}. {len(counts)} are counted, without training: "
        f"{_tally(counts)}. {len(judged)} are judged on the tier `{claims['tier']}` (on "
        f"{claims['data']}, where a claim does not name other data): {_tally(judged)}.",
        "",
        f"What they hold for: {counted(claims['records'], 'record')} of runs with "
        f"{' and '.join(claims['encoders']) or 'no encoder'}. "
        f"{TIER_NOTES.get(claims['tier'], '')} What limits them stands in "
        "[ARTIFACT.md](ARTIFACT.md#limitations).",
        "",
        "How a claim is judged stands in [claims.yaml](xpeft/claims.yaml) and was written down "
        "before its evidence was there, but for the [changes](#changes) below. Effects are in "
        "points (hundredths of the score) and paired by seed, a mean over tasks, of which each "
        "counts the same though their metrics differ; intervals are at 95 % over training seeds, "
        f"of cohorts over profiles and seeds. A one-sided p below {ALPHA:g} decides, which is "
        "where the interval excludes the bound. Each claim is judged by itself; “p, all claims” "
        "is two-sided, with Holm's correction over all comparisons of scores, and above "
        f"{2 * ALPHA:g} a verdict would not stand among so many. Of single tasks the p-values and "
        "verdicts are corrected over the tasks of the claim, the intervals are not. Of cohorts the "
        "profiles of the headline count, those whose training rows are not nearly all of one "
        "label. A claim with no verdict has no records yet, or none on which anything was learned.",
        "",
        *_overview(verdicts),
    ]
    for verdict in verdicts:
        lines += ["", *_section(verdict, records)]
    lines += ["", *_changes(claims["changes"])]
    return "\n".join(lines) + "\n"


def _overview(verdicts: Iterable[Json]) -> list[str]:
    lines = [
        "| claim | source | verdict | effect | 95 % interval | p, all claims | measured on |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for verdict in verdicts:
        none = verdict["verdict"] == NO_EVIDENCE
        effect = "" if none else f"[{effect_text(verdict)}](#{verdict['id']})"
        lines.append(
            f"| [{verdict['statement']}](#{verdict['id']}) | {verdict['source']} "
            f"| {verdict['verdict']} | {effect} | {'' if none else effect_interval(verdict)} "
            f"| {'' if verdict['p_family'] is None else p_value(verdict['p_family'])} "
            f"| {', '.join(task_title(task['task']) for task in verdict['tasks'])} |"
        )
    return lines


def _tally(verdicts: Iterable[Json]) -> str:
    names = [verdict["verdict"] for verdict in verdicts]
    return ", ".join(f"{names.count(name)} {name}" for name in VERDICTS if name in names)


def _section(verdict: Json, records: str) -> list[str]:
    lines = [
        f"## {verdict['id']}",
        "",
        f"**{verdict['statement']}** ({_SOURCES[verdict['source']]})",
        "",
        f"Verdict: **{verdict['verdict']}**. {verdict['sentence']}",
        "",
        f"- Measured: {verdict['measure']}",
        f"- Test: {test_text(verdict)}.",
    ]
    if verdict["verdict"] == NO_EVIDENCE:
        return lines
    if verdict["p_value"] is not None:
        lines.append(f"- {p_text(verdict)}.")
    if verdict["seeds"]:
        seeds = ", ".join(map(str, verdict["seeds"]))
        tasks = counted(len(verdict["tasks"]), "task")
        lines.append(f"- {tasks}; seeds {seeds}; {counted(len(verdict['records']), 'record')}.")
    lines += [f"- {text}" for text in (power_text(verdict), checks_text(verdict)) if text]
    if verdict["tasks"]:
        lines += ["", *_tasks(verdict, records)]
    for other in verdict["also"]:
        tasks = ", ".join(
            f"[{task_title(task['task'])}]({records}/{task['task']}/{other['arms'][0]})"
            for task in other["tasks"]
        )
        lines += [
            "",
            f"For information, another pair that fits: `{other['arms'][0]}` against "
            f"`{other['arms'][1]}`, {other['verdict']}. {other['sentence']} Records: {tasks}.",
        ]
    return lines


def _changes(changes: Iterable[Json]) -> list[str]:
    """What was changed of the claims when evidence was there already."""
    lines = ["## changes", "", "| date | claims | change | reason |", "| --- | --- | --- | --- |"]
    for item in changes:
        names = item["claims"] if item["claims"] == "all" else ", ".join(item["claims"])
        lines.append(f"| {item['date']} | {names} | {item['change']} | {item['reason']} |")
    return lines


_SOURCES = {"paper": "a claim of the paper", "ours": "a question of ours"}


def _tasks(verdict: Json, records: str) -> list[str]:
    """A table of the tasks; its first column of numbers leads to the records of the left arm."""
    left, right = verdict["arms"]
    lines = [
        "| task | effect | 95 % interval | p (Holm) | on its own | against | which scores |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in verdict["tasks"]:
        points = verdict["unit"] == "points"
        effect = signed(task["effect"]) if points else times(task["effect"])
        ends = effect_interval({"interval": task.get("interval"), "unit": verdict["unit"]})
        lines.append(
            f"| {task_title(task['task'])} | [{effect}]({records}/{task['task']}/{left}) | {ends} "
            f"| {p_value(deciding_p(task))} | {task.get('verdict') or ''} "
            f"| [{right}]({records}/{task['task']}/{right}) | {yardstick_text(task)} |"
        )
    return lines
