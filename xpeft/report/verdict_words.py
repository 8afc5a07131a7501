"""A verdict in words: its effect, its test, what its data could have told, and its checks."""

from __future__ import annotations

from typing import Any

from xpeft.claims import INCONCLUSIVE
from xpeft.report.words import (
    counted,
    minus,
    p_value,
    points,
    signed,
    signed_ends,
    task_title,
    times,
)
from xpeft.stats import ALPHA

Json = dict[str, Any]


def effect_text(verdict: Json) -> str:
    """The effect of a verdict with its unit."""
    if verdict["effect"] is None:
        return "\N{EN DASH}"
    if verdict["unit"] == "times":
        return times(verdict["effect"])
    return f"{signed(verdict['effect'])} points"


def effect_interval(verdict: Json) -> str:
    """The interval of a verdict, in points."""
    found = verdict["interval"]
    if found is None:
        return "exact" if verdict["unit"] == "times" else "\N{EN DASH}"
    return f"{signed(found['low'])} to {signed(found['high'])}"


def test_text(verdict: Json) -> str:
    """What the test of a verdict asks for."""
    bound, margin = verdict["bound"] or 0, verdict["margin"] or 0
    return {
        "count": f"a ratio of at least {times(bound)}, counted",
        "ratio": f"a ratio of at least {times(bound)}, counted in trained profiles",
        "not_worse": f"not worse by {points(margin)} or more (non-inferiority)",
        "better": "better: a difference above zero (superiority)",
    }[verdict["test"]]


def power_text(verdict: Json) -> str:
    """What the data of a verdict could have told, in a sentence or two; empty where unknown."""
    words = []
    if verdict["equivalence"] is not None:
        words.append(f"Equivalence within the margin (TOST): p {p_sign(verdict['equivalence'])}.")
    if verdict["detectable"] is not None:
        words.append(
            f"This test would find a difference of {verdict['detectable']:.1f} points from the "
            "bound four times in five."
        )
    if verdict["seeds_needed"] is not None:
        words.append(
            "To show of equal methods that one is not worse than the other by a point, four times "
            f"in five, takes {verdict['seeds_needed']} seeds."
        )
    return " ".join(words)


def p_text(verdict: Json) -> str:
    """The p-value of the nearer side, with the level that decides, and in view of all claims."""
    value = deciding_p(verdict)
    if value is None:
        return f"p {p_sign(None)}"
    side = "claim" if value == verdict["p_value"] else "contradiction"
    return (
        f"p of the {side} {p_sign(value)} (one-sided, decides below {ALPHA:g}); among all claims "
        f"{p_sign(verdict['p_family'])} (two-sided, Holm)"
    )


def deciding_p(found: Json) -> float | None:
    """The p-value of a verdict, or a task's: of the claim or of its contradiction, the smaller."""
    sides = (found.get("p_value"), found.get("p_against"))
    return min((value for value in sides if value is not None), default=None)


def checks_text(verdict: Json) -> str:
    """What the choice of tasks and profiles does to a verdict; empty where nothing was chosen."""
    words = []
    if verdict["with_everyone"] is not None:
        words.append(f"With all profiles the effect is {_outcome(verdict['with_everyone'])}.")
    every, without = verdict["with_all"], verdict["without"]
    if every is not None:
        names = ", ".join(map(task_title, verdict["left_out"]))
        words.append(f"With {names} the effect is {_outcome(every)}.")
        other = _changed(verdict, "with_each")
        if other:
            changed = "; ".join(f"with {task_title(o['task'])} alone {_outcome(o)}" for o in other)
            words[-1] = f"{words[-1][:-1]}; the verdict depends on that choice: {changed}."
    if without:
        effects = [one["effect"] for one in without]
        words.append(
            "Without one task in turn it is between "
            f"{signed(min(effects))} and {signed(max(effects))}"
        )
        other = _changed(verdict, "without")
        changed = "; ".join(f"without {task_title(o['task'])} {_outcome(o)}" for o in other)
        words[-1] += f"; the verdict depends on single tasks: {changed}." if other else "."
    return " ".join(words)


def caveat_text(verdict: Json) -> str:
    """What a verdict hangs on, in a few words; empty where it stands by every check."""
    words = []
    family = verdict["p_family"]
    decided = verdict["verdict"] != INCONCLUSIVE
    if decided and family is not None and family >= 2 * ALPHA:
        words.append("weak evidence among so many claims")
    checks = [
        f"{name} {' or '.join(task_title(one['task']) for one in changed)}"
        for name, check in (("without", "without"), ("with", "with_each"))
        if (changed := _changed(verdict, check))
    ]
    everyone = verdict["with_everyone"]
    if everyone is not None and everyone["verdict"] != verdict["verdict"]:
        checks.append("with all profiles")
    if checks:
        words.append(f"{', and '.join(checks)} the verdict differs")
    return "; ".join(words)


def _changed(verdict: Json, check: str) -> list[Json]:
    """The tasks whose absence (`without`) or presence (`with_each`) gives another verdict."""
    return [one for one in verdict[check] if one["verdict"] != verdict["verdict"]]


def yardstick_text(task: Json) -> str:
    """What a task's effect is measured against, and on how much; empty for counted ratios."""
    if "right" not in task:
        return ""
    right, majority = (minus(f"{task[name]:.1f}") for name in ("right", "majority"))
    text = f"{right} (learning nothing {majority}); {counted(task['seeds'], 'seed')}"
    if task["profiles"]:
        text += f", {task['profiles'][0]} of {task['profiles'][1]} profiles"
    if task["over_examples"]:
        text += f"; 95 % over examples {signed_ends(*task['over_examples'])}"
    return text


def _outcome(found: Json) -> str:
    ends = found["interval"]
    spread = signed_ends(ends["low"], ends["high"]) if ends else "no interval"
    return f"{signed(found['effect'])} points ({spread}), {found['verdict']}"


def p_sign(value: float | None) -> str:
    """A p-value with its sign: `= 0.03`, `< 0.001`."""
    text = p_value(value)
    return text if text.startswith("<") or value is None else f"= {text}"
