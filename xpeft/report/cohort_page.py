"""The cohorts of a tier as plain values for `templates/cohorts.html.j2`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from xpeft.report import cohort_figures
from xpeft.report.cohort_masks import overlaps, project
from xpeft.report.cohort_tables import OWN_LABEL, usual_scores, wins
from xpeft.report.cohorts import (
    about,
    accuracies,
    chief,
    cohorts,
    headline_mean,
    row_counts,
    strays,
    yardstick,
)
from xpeft.report.drawing import inline_svg
from xpeft.report.links import Names, slug
from xpeft.report.pairs import is_masked
from xpeft.report.summary import Arm, varied
from xpeft.report.words import (
    arm_title,
    byte_count,
    counted,
    ends,
    interval,
    metric_title,
    p_value,
    score,
    signed,
    task_title,
)

Json = dict[str, Any]


def sections(summary: Json, names: Names) -> list[Json]:
    """One entry a cohort of the tier."""
    return [_section(task, arms, summary, names) for task, arms in cohorts(summary["arms"]).items()]


def strays_words(arms: Sequence[Arm]) -> str:
    """Which arms are not shown because their profiles are others; empty if there are none."""
    found = [f"{task_title(a['suite'] + '/' + a['task'])}, {arm_title(a)}" for a in strays(arms)]
    return f"Left out, for they stand on another sheet of profiles: {'; '.join(found)}." * any(
        found
    )


def _section(task: str, arms: list[Arm], summary: Json, names: Names) -> Json:
    profiles = arms[0]["profiles"]
    pairs = [pair for pair in summary.get("pairs", ()) if f"{pair['suite']}/{pair['task']}" == task]
    by_name = {arm["arm"]: arm for arm in arms}
    pairs = [pair for pair in pairs if pair["left"] in by_name]
    return {
        "id": slug(f"{names.tier}-{task}"),
        "title": task_title(task),
        "source": f"{metric_title(arms[0]['metric'])}; {counted(len(profiles['id']), 'profile')}",
        "about": " ".join(about(task, arms)),
        "arms": [_arm(arm, pairs, names) for arm in arms],
        "references": _references(arms[0], summary["records"], names),
        "pairs": [
            _pair(pair, by_name, names)
            for pair in pairs
            if pair["kind"] != "usual" and pair["headline"]
        ],
        "negative": _negative(pairs, by_name, names),
        "figures": _figures(task, arms, pairs, names),
        "profiles": _profiles(arms),
    }


def _arm(arm: Arm, pairs: Sequence[Json], names: Names) -> Json:
    spread, others = arm["over_seeds"], arm["others"]
    usual = next(p for p in pairs if p["kind"] == "usual" and p["left"] == arm["arm"])
    found = usual["headline"] or usual["all"]
    return {
        "title": arm_title(arm),
        "href": names.arm(arm),
        "headline": score(headline_mean(arm)),
        "gain": signed(100 * found["mean"]),
        "gain_interval": ends(found["low"], found["high"]),
        "mean": score(spread["mean"]),
        "interval": interval(spread["low"], spread["high"]),
        "seeds": [
            {"text": score(value), "href": names.record(path)}
            for value, path in zip(arm["scores"], arm["records"], strict=True)
        ],
        "rows": _other(others, "accuracy"),
        "macro": _other(others, "macro_f1"),
        "bytes": byte_count(arm["bytes"]["total"]),
        "check": _check(arm, found),
    }


def _other(others: Json, metric: str) -> str:
    return score(others[metric]["mean"] if metric in others else None)


def _check(arm: Arm, found: Json) -> Json:
    """Whether the scores say that more was learned than each profile's usual label."""
    if arm["constant"]:
        part = f"{len(arm['constant'])} of {counted(len(arm['seeds']), 'seed')}"
        return {"ok": False, "text": f"one class only in {part}"}
    if found["mean"] <= 0:
        return {"ok": False, "text": "not above usual label"}
    if found["low"] is None or found["low"] <= 0:
        return {"ok": False, "text": "not clearly above usual label"}
    return {"ok": True, "text": "above usual label"}


def _references(arm: Arm, records: Mapping[str, Any], names: Names) -> list[Json]:
    usual = usual_scores(arm, records)
    own, kept = arm["profiles"]["usual"], varied(arm["profiles"])
    found = [
        {
            "title": "usual label of each",
            "href": names.arm(arm),
            "headline": score(sum(own[i] for i in kept) / len(kept) if kept else None),
            "mean": score(usual[arm["metric"]]),
            "rows": score(usual.get("accuracy")),
            "macro": score(usual.get("macro_f1")),
            "note": "most frequent training label of each profile",
        }
    ]
    if arm["best"] is not None:
        found.append(
            {
                "title": "best possible",
                "href": names.arm(arm),
                "headline": score(None),
                "mean": score(arm["best"]),
                "rows": score(None),
                "macro": score(None),
                "note": "known, because the labels were made by a rule",
            }
        )
    return found


def _pair(pair: Json, by_name: Mapping[str, Arm], names: Names) -> Json:
    found, every = pair["headline"], pair["all"]
    left = by_name[pair["left"]]
    return {
        "left": arm_title(left),
        "right": arm_title(by_name[pair["right"]]),
        "href": names.arm(left),
        "difference": signed(100 * found["mean"]),
        "interval": ends(found["low"], found["high"]),
        "both": ends(found["low_both"], found["high_both"]),
        "sure": _sign(found) != 0,
        "wins": wins(found),
        "rate": f"{100 * found['wins'] / found['profiles']:.0f} %",
        "p": p_value(found["p_value"]),
        "all": f"{signed(100 * every['mean'])} ({ends(every['low'], every['high'])})",
    }


def _sign(found: Json) -> int:
    """1 or -1 where the interval over profiles and seeds excludes zero, else 0."""
    if found["low_both"] is None:
        return 0
    return int(found["low_both"] > 0) - int(found["high_both"] < 0)


def _negative(pairs: Sequence[Json], by_name: Mapping[str, Arm], names: Names) -> list[Json]:
    """Where masks, or a warm bank, are below what they are compared with."""
    found = []
    for pair in pairs:
        left, result = by_name[pair["left"]], pair["headline"]
        if not is_masked(left) or result is None or result["mean"] >= 0:
            continue
        right = arm_title(by_name[pair["right"]]) if pair["right"] else OWN_LABEL
        found.append(
            {
                "title": arm_title(left),
                "number": signed(100 * result["mean"]),
                "href": names.arm(left),
                "words": f"to {right} ({ends(result['low_both'], result['high_both'])})",
                "sure": _sign(result) < 0,
            }
        )
    return found


def _figures(task: str, arms: list[Arm], pairs: Sequence[Json], names: Names) -> list[Json]:
    made = {
        "gains": (cohort_figures.gains_figure(arms), _describe_gains(arms)),
        "warm": (cohort_figures.warm_figure(arms, pairs), _describe_warm(arms, pairs)),
        "map": (cohort_figures.map_figure(arms), _describe_map(arms)),
        "overlap": (cohort_figures.overlap_figure(arms), _describe_overlap(arms)),
    }
    return [
        {
            "svg": inline_svg(
                figure, f"{name}-{slug(names.tier + '-' + task)}", textwrap.shorten(words, 900)
            ),
            "caption": cohort_figures.CAPTIONS[name] + _more(name, words),
        }
        for name, (figure, words) in made.items()
    ]


def _more(name: str, words: str) -> str:
    """What a caption says of this cohort beyond the general words."""
    return f" {words}" if name in ("overlap", "map", "gains") else ""


def _describe_gains(arms: Sequence[Arm]) -> str:
    left, right = chief(arms), yardstick(arms)
    if left is None or right is None:
        return "No masks of profiles beside another method yet."
    gaps = accuracies(left) - accuracies(right)
    rows = row_counts(left)
    order = sorted(range(len(rows)), key=lambda place: rows[place])
    half = len(order) // 2
    words = f"Here: {arm_title(left)}, over {arm_title(right)}"
    if rows[order[0]] == rows[order[-1]] or half == 0:
        return f"{words}, {signed(100 * float(gaps.mean()))}."
    few, many = (
        f"{signed(100 * float(gaps[part].mean()))} for the half with {which} rows"
        for part, which in ((order[:half], "fewer"), (order[half:], "more"))
    )
    return f"{words}: {few}, {many}."


def _describe_warm(arms: Sequence[Arm], pairs: Sequence[Json]) -> str:
    for warm, near, pair in cohort_figures.warm_pairs(arms, pairs).values():
        found = pair["headline"]
        return (
            f"{arm_title(warm)}, minus {arm_title(near)}: {signed(100 * found['mean'])} points; "
            f"wins, ties, losses {wins(found)}."
        )
    return "No masks of profiles over warm and random banks yet."


def _describe_map(arms: Sequence[Arm]) -> str:
    for arm, bits in cohort_figures.mapped(arms).values():
        found = project(bits)
        if found is not None:
            return (
                f"Here: {arm_title(arm)}; the two directions hold "
                f"{100 * sum(found.shares):.1f} % of the variance."
            )
    return "No hard masks of profiles yet."


def _describe_overlap(arms: Sequence[Arm]) -> str:
    for arm, bits in cohort_figures.mapped(arms).values():
        found = overlaps(bits, arm["profiles"]["top"])
        if found is not None:
            return (
                f"Over all blocks: {100 * found.alike.mean():.1f} % with the same main label, "
                f"{100 * found.different.mean():.1f} % with another, {100 * found.chance:.1f} % by "
                f"chance; p of labels that mean nothing {p_value(found.p_value)} (permutation)."
            )
    return "No hard masks of profiles yet."


def _profiles(arms: Sequence[Arm]) -> list[Json]:
    profiles = arms[0]["profiles"]
    kept = set(varied(profiles))
    means = [accuracies(arm) for arm in arms]
    return [
        {
            "id": name,
            "label": profiles["top"][place],
            "headline": place in kept,
            "numbers": [
                score(profiles["top_share"][place]),
                f"{profiles['train'][place]:,}",
                f"{profiles['test'][place]:,}",
                score(profiles["usual"][place]),
                *(score(float(values[place])) for values in means),
            ],
        }
        for place, name in enumerate(profiles["id"])
    ]
