"""Verdicts as plain values for the templates: in each tier, at a glance, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpeft.claims import NO_EVIDENCE, VERDICTS
from xpeft.report.links import Names, slug
from xpeft.report.summary import task_name
from xpeft.report.verdict_words import (
    caveat_text,
    checks_text,
    deciding_p,
    effect_interval,
    effect_text,
    p_text,
    power_text,
    test_text,
    yardstick_text,
)
from xpeft.report.words import arm_title, p_value, signed, task_title, times

Json = dict[str, Any]


def make_verdicts(claims: Json, tier: str, names: Names) -> Json:
    """The verdicts of a tier: counted ones, judged ones, and those without evidence."""
    verdicts = [_verdict(verdict, names) for verdict in claims["verdicts"]]
    return {
        "counted": [item for item in verdicts if item["exact"]],
        "judged": [
            item for item in verdicts if not item["exact"] and item["verdict"] != NO_EVIDENCE
        ],
        "open": [item for item in verdicts if not item["exact"] and item["verdict"] == NO_EVIDENCE],
        "all": verdicts,
        "tier": tier,
    }


def glance(sections: Sequence[Json]) -> list[Json]:
    """Each claim once, with its verdict in every tier; a claim that none can judge, once."""
    found: dict[str, Json] = {}
    for section in sections:
        for item in section["claims"]["all"]:
            entry = found.setdefault(
                item["key"], {"statement": item["general"], "source": item["source"], "marks": []}
            )
            tier, href = section["id"], item["id"]
            if item["exact"]:
                tier, href = "counted", f"counted-{item['key']}"
            entry["marks"].append(
                {
                    "tier": tier,
                    "verdict": item["verdict"],
                    "kind": item["kind"],
                    "effect": ""
                    if item["verdict"] == NO_EVIDENCE
                    else item["effect"].removesuffix(" points"),
                    "href": href,
                }
            )
    for entry in found.values():
        first = entry["marks"][0]
        if first["tier"] == "counted":
            entry["marks"] = [first]
        elif all(mark["verdict"] == NO_EVIDENCE for mark in entry["marks"]):
            entry["marks"] = [first | {"tier": ""}]
    return list(found.values())


def tally(sections: Sequence[Json]) -> list[Json]:
    """How many claims got which verdict: counted ones once, the others in each tier."""
    groups = []
    if sections:
        groups.append(("counted", "Counted, without training", sections[0]["claims"]["counted"]))
    for section in sections:
        claims = section["claims"]
        groups.append((section["id"], section["title"], claims["judged"] + claims["open"]))
    return [
        {
            "title": title,
            "marks": [
                {"kind": slug(name), "verdict": name, "count": count}
                for name in VERDICTS
                if (count := sum(item["verdict"] == name for item in items))
            ],
        }
        for _, title, items in groups
        if items
    ]


def _verdict(verdict: Json, names: Names) -> Json:
    used = []
    for path in verdict["records"]:
        suite, task, arm_name, _ = path.split("/")
        arm = names.by_key.get((f"{suite}/{task}", arm_name))
        if arm is not None and arm not in used:
            used.append(arm)
    return {
        "id": names.claim(verdict["id"]),
        "key": verdict["id"],
        "exact": verdict["test"] == "count",
        "statement": verdict["statement"],
        "general": verdict["general"],
        "source": verdict["source"],
        "measure": verdict["measure"],
        "test": test_text(verdict),
        "verdict": verdict["verdict"],
        "kind": slug(verdict["verdict"]),
        "sentence": verdict["sentence"],
        "effect": effect_text(verdict),
        "interval": effect_interval(verdict),
        "over": (verdict["interval"] or {}).get("over", "seeds"),
        "p": p_text(verdict),
        "seeds": ", ".join(map(str, verdict["seeds"])),
        "power": power_text(verdict),
        "checks": checks_text(verdict),
        "caveat": caveat_text(verdict),
        "needs": verdict["needs"],
        "tasks": [
            {
                "title": task_title(task["task"]),
                "effect": signed(task["effect"])
                if verdict["unit"] == "points"
                else times(task["effect"]),
                "interval": effect_interval({"interval": task.get("interval"), "unit": "points"}),
                "p": p_value(deciding_p(task)),
                "yardstick": yardstick_text(task),
                "verdict": task.get("verdict", ""),
                "kind": slug(task.get("verdict", "")),
            }
            for task in verdict["tasks"]
        ],
        "compared": [
            arm_title(arm)
            for name in verdict["arms"]
            for arm in [next((a for a in used if a["arm"] == name), None)]
            if arm is not None
        ],
        "used": [
            {"title": f"{task_title(task_name(arm))}, {arm_title(arm)}", "href": names.arm(arm)}
            for arm in used
        ],
        "records": len(verdict["records"]),
        "also": [
            {"arms": " against ".join(other["arms"]), "verdict": other["verdict"],
             "kind": slug(other["verdict"]), "sentence": other["sentence"]}
            for other in verdict["also"]
        ],
    }  # fmt: skip
