"""The report: one HTML file that needs nothing else, no server, no network and no script.

Every record is embedded, and every measured number is a link to the record, or to the arm with
its records, that it comes from. Without JavaScript the links jump to a `<details>` at the end of
the page; with it, they open in place.

This module turns summaries, ledgers and claims into plain values; the words and the markup are in
`templates/`. Nothing is computed in a template.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xpeft.claims import NO_EVIDENCE, VERDICTS, judge, load_claims
from xpeft.io import canonical_json, read_json, sha256_bytes, write_text
from xpeft.report import allin, bank_sizes, cohort_figures, cohort_page, figures, frontier
from xpeft.report.answers import make_answers
from xpeft.report.drawing import COLOURS, inline_svg, short_bytes
from xpeft.report.links import Names, slug
from xpeft.report.overall import make_overall, performance_figure
from xpeft.report.summary import (
    Arm,
    main_grid,
    make_summary,
    on_tasks,
    read_summary,
    task_name,
    task_names,
)
from xpeft.report.tables import (
    effect_interval,
    effect_text,
    iqm_text,
    p_sign,
    power_text,
    settings_text,
    test_text,
)
from xpeft.report.words import (
    TIER_NOTES,
    arm_title,
    byte_count,
    counted,
    distinct,
    ends,
    interval,
    loss_text,
    metric_title,
    p_value,
    score,
    signed,
    task_title,
    tier_title,
    times,
)

Json = dict[str, Any]

TEMPLATES = Path(__file__).with_name("templates")

KNOWN_TIERS = ("paper", "small", "quick")
"""In the order of the page: what says most about the method comes first."""

EMBEDDED_PREDICTIONS = 5000
"""A longer list of predictions is replaced by its hash in the page; the record's file has it."""


EMBEDDED_PROFILES = 20
"""Likewise the lists of more profiles, but for what was right: the others are in their table."""


def write_report(
    tiers: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    figures: str | os.PathLike[str] | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> None:
    """Write the page.

    Args:
        tiers: folders `results/<tier>` with summary.json, ledger.json and claims.json. A summary
            or claims that are missing are made from the records there.
        out: the HTML file.
        figures, tables: folders of the tiers' files, only to name them in the page.

    Raises:
        XpeftError: a file is damaged; the message names it.
    """
    write_text(out, make_report(tiers, figures=figures, tables=tables))


def make_report(
    tiers: Iterable[str | os.PathLike[str]],
    *,
    figures: str | os.PathLike[str] | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> str:
    """The page as text; the same input gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loaded = sorted((_load(Path(folder)) for folder in tiers), key=_tier_order)
    ledger = next((item["ledger"] for item in loaded if item["ledger"]), None)
    sections = [_tier(item, figures, tables) for item in loaded]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("page.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + _colour_css()),
        script=Markup((TEMPLATES / "script.js").read_text(encoding="utf-8")),
        tiers=sections,
        absent=[
            tier_title(tier)
            for tier in KNOWN_TIERS
            if tier not in {item["summary"]["tier"] for item in loaded if item["summary"]["arms"]}
        ],
        answers=make_answers(sections),
        glance=_glance(sections),
        tally=_tally(sections),
        calculation=None if ledger is None else _calculation(ledger),
        counted=next((s["claims"]["counted"] for s in sections if s["claims"]["counted"]), []),
        method_figure=_inline(
            "method",
            "Drawing of the method: a bank of frozen adapters; for each block two rows of bits, "
            "M_A over the down-projections and M_B over the up-projections; the sums of the "
            "selected ones form one adapter, which reads the normalised sum after the "
            "feed-forward layer of a frozen encoder block and is added before its LayerNorm.",
        ),
    )
    return page.rstrip() + "\n"


# ------------------------------------------------------------------------------------- reading


def _load(folder: Path) -> Json:
    summary_file = folder / "summary.json"
    if summary_file.is_file():
        summary = read_summary(summary_file)
    else:
        summary = make_summary(folder / "records")
    ledger_file, claims_file = folder / "ledger.json", folder / "claims.json"
    ledger = read_json(ledger_file) if ledger_file.is_file() else None
    if claims_file.is_file():
        claims = read_json(claims_file)
    else:
        claims = judge(load_claims(), summary, [ledger] if ledger else [])
    return {"folder": folder, "summary": summary, "ledger": ledger, "claims": claims}


def _tier_order(item: Json) -> tuple[int, str]:
    tier = item["summary"]["tier"]
    return (KNOWN_TIERS.index(tier) if tier in KNOWN_TIERS else len(KNOWN_TIERS), tier)


# ------------------------------------------------------------------------------ the calculation


def _calculation(ledger: Json) -> Json:
    encoder, adapter, masks = ledger["encoder"], ledger["adapter"], ledger["masks"]
    size, n, k = adapter["bytes"], ledger["adapters"], ledger["k"]
    parts = {entry["key"]: entry for entry in ledger["combinations"]}

    def step(title: str, formula: str, value: int, note: str) -> Json:
        return {
            "title": title,
            "formula": _formula(formula),
            "bytes": byte_count(value),
            "ratio": "" if value == size else times(size / value),
            "note": note,
        }

    weights, biases = adapter["formula"]["weights"], adapter["formula"]["biases"]
    bits = masks["hard_bits"]["bytes"]

    def on_top(formula: str) -> str:
        """`A = B` as `bits + A = bits + B`."""
        return " = ".join(f"{bits} + {side}" for side in formula.split(" = "))

    steps = [
        step(
            "One adapter",
            f"({weights} weights, {biases} biases); 4 x {adapter['parameters']:,}",
            size,
            f"Down- and up-projections and biases of a bottleneck of {encoder['bottleneck']} in "
            f"each of the {encoder['layers']} blocks, 4 bytes a number.",
        ),
        step(
            "Soft masks",
            masks["soft_fp32"]["formula"],
            masks["soft_fp32"]["bytes"],
            f"Two numbers for each of the {n} adapters in each block: one for its "
            "down-projection (M_A), one for its up-projection (M_B).",
        ),
        step(
            "Hard masks, one bit each",
            masks["hard_bits"]["formula"],
            masks["hard_bits"]["bytes"],
            "Each number becomes a bit; eight bits a byte, each row rounded up to whole bytes. "
            "This is the 10,000 of the paper.",
        ),
        step(
            "Hard masks, enumerative code",
            masks["hard_enumerative"]["formula"],
            masks["hard_enumerative"]["bytes"],
            f"The number of the masks among all that select {k} of {n} in each row: no code of all "
            "of them is shorter.",
        ),
    ]
    stored = {entry["key"]: entry for entry in ledger["store"]}
    after = [
        step(
            "as a profile of a large store",
            f"{stored['enumerative']['payload_bytes']} + "
            f"{stored['enumerative']['bytes'] - stored['enumerative']['payload_bytes']}",
            stored["enumerative"]["bytes"],
            "The enumerative code with checksum, id, index entry and share of a page: all-in, "
            "where norm and head are fixed, shared, or drawn from a seed.",
        ),
        step(
            "with a LayerNorm of its own",
            on_top(ledger["norm"]["formula"]),
            parts["hard+norm"]["bytes"],
            "Scale and shift over the bottleneck in each block.",
        ),
        step(
            "with a head of its own",
            on_top(ledger["head"]["formula"]),
            parts["hard+head"]["bytes"],
            f"A linear layer for {ledger['classes']} classes. Beside an adapter that also has "
            f"such a head the ratio is {times(parts['hard+head']['ratio_same_head'])}.",
        ),
        step(
            "with both",
            f"{bits} + {ledger['norm']['bytes']:,} + {ledger['head']['bytes']:,}",
            parts["hard+norm+head"]["bytes"],
            "So the 10,000 holds for the masks alone. It holds for all that a profile stores only "
            "where norm and head are fixed or shared.",
        ),
    ]
    rows = figures.waterfall_rows(ledger)
    words = "; ".join(f"{name} {byte_count(value)}" for name, _, value in rows)
    return {
        "encoder": encoder["name"],
        "n": n,
        "k": k,
        "steps": steps,
        "after": after,
        "figure": _inline("waterfall", f"Bars of bytes a profile: {words}.", ledger),
        "caption": figures.CAPTIONS["waterfall"],
        "scale": _inline("scale", _describe_scale(ledger), ledger),
        "scale_caption": figures.CAPTIONS["scale"],
        "peers": [
            {
                "name": peer["name"],
                "bytes": byte_count(peer["bytes"]),
                "ratio": times(peer["ratio"]),
                "note": peer.get("note", ""),
            }
            for peer in ledger.get("peers", ())
        ],
        "banks": _bank_words(ledger),
    }


def _describe_scale(ledger: Json) -> str:
    lines = cohort_figures.scale_lines(ledger)
    words = [f"{name} {short_bytes(round(size(10**6), -6))}" for name, (*_, size) in lines.items()]
    return f"Bytes against the number of profiles; for 1,000,000 profiles: {'; '.join(words)}."


def _bank_words(ledger: Json) -> list[str]:
    words = []
    for kind, bank in ledger.get("bank", {}).items():
        pays = bank.get("break_even_profiles")
        words.append(
            f"A {kind} bank takes {byte_count(bank['bytes'])} on disk and "
            f"{byte_count(bank['memory_bytes'])} in memory, once for all profiles. With their "
            "hard masks it takes less disk than adapters of their own "
            + ("never." if pays is None else f"from {counted(pays, 'profile')} on.")
        )
    return words


def _formula(text: str) -> str:
    return text.replace(" x ", " \N{MULTIPLICATION SIGN} ")


# ---------------------------------------------------------------------------------------- a tier


def _tier(
    item: Json,
    figure_dir: str | os.PathLike[str] | None,
    table_dir: str | os.PathLike[str] | None,
) -> Json:
    summary = item["summary"]
    tier, arms = summary["tier"], summary["arms"]
    main = on_tasks(main_grid(arms))
    place = f"{item['folder'].parent.name or 'results'}/{item['folder'].name}/records"
    names = Names(tier, arms, place)
    files = [
        f"{Path(folder).as_posix()}/{tier}/"
        for folder in (figure_dir, table_dir)
        if folder is not None
    ]
    return {
        "id": tier,
        "title": tier_title(tier),
        "note": TIER_NOTES.get(tier, ""),
        "empty": not arms,
        "run": _run(summary),
        "missing": _missing(summary),
        "claims": _claims(item["claims"], tier, names),
        "tasks": [_task(task, main, summary["records"], names) for task in task_names(main)],
        "overall": _overall(main, names),
        "gaps": _gaps(main, names),
        "figures": _figures(tier, main) if main else {},
        "captions": figures.CAPTIONS,
        "sizes": _sizes(summary, tier),
        "allin": _allin(arms, names),
        "cohorts": cohort_page.sections(summary, names),
        "strays": cohort_page.strays_words(arms),
        "tuning": _tuning(summary),
        "budget": _budget(summary),
        "ablations": _ablations(arms, names),
        "provenance": _provenance(summary),
        "records": _records(summary, names),
        "place": place,
        "files": files,
    }


def _run(summary: Json) -> list[Json]:
    """What was run and where: names and values, with all values where runs differ."""
    records, arms = summary["records"], summary["arms"]
    if not arms:
        return []
    runs = [record["run"] for record in records.values()]

    packages: dict[str, list[str]] = {}
    for run in runs:
        for name, version in run["versions"].items():
            packages.setdefault(name, []).append(version)
    seeds = sorted({seed for arm in arms for seed in arm["seeds"]})
    seconds = sum(arm["seconds"] for arm in arms)
    peak = max((run.get("peak_memory_bytes") or 0 for run in runs), default=0)
    finished = sorted(run["finished"] for run in runs)
    rows = [
        ("Records", f"{len(records)} from {counted(len(arms), 'job')} (task and method)"),
        ("Tasks", ", ".join(task_title(task) for task in task_names(arms))),
        ("Methods", distinct(arm_title(arm) for arm in main_grid(arms))),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Encoder", distinct(run["encoder"]["name"] for run in runs)),
        ("Encoder sha256", distinct(run["encoder"]["sha256"] for run in runs)),
        ("Device", distinct(f"{run['device']}, {run['processor']}" for run in runs)),
        ("Threads", distinct(run["threads"] for run in runs)),
        ("Number format", distinct(run["dtype"] for run in runs) + " (frozen part)"),
        ("Time", f"{_duration(seconds)} in all jobs, tuning included{_planned(summary)}"),
        ("Peak memory", f"{peak / 2**30:.1f} GiB" if peak else "not measured"),
        ("Versions", ", ".join(f"{name} {distinct(found)}" for name, found in packages.items())),
        ("Code", distinct(run["git"] for run in runs)),
        ("Finished", finished[0] if finished[0] == finished[-1] else
         f"{finished[0]} to {finished[-1]}"),
    ]  # fmt: skip
    return [{"name": name, "value": value} for name, value in rows]


def _missing(summary: Json) -> list[Json]:
    """What the grid has and the records have not, job by job."""
    return [
        {
            "job": entry["job"],
            "seeds": ", ".join(map(str, entry["seeds"])),
            "reason": entry["reason"],
        }
        for entry in summary.get("missing", [])
    ]


def _planned(summary: Json) -> str:
    hours = summary.get("planned_hours")
    return "" if hours is None else f"; {_duration(3600 * hours)} on one device were planned"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _task(task: str, main: Sequence[Arm], records: Json, names: Names) -> Json:
    arms = [arm for arm in main if task_name(arm) == task]
    first = arms[0]
    name = f"scores-{slug(names.tier + '-' + task)}"
    return {
        "id": slug(f"{names.tier}-{task}"),
        "title": task_title(task),
        "metric": metric_title(first["metric"]),
        "rows": f"{first['rows']['train']:,} training and "
        f"{first['rows']['validation']:,} validation rows",
        "majority": {"text": score(first["majority"]), "href": names.arm(first)},
        "best": None
        if first["best"] is None
        else {"text": score(first["best"]), "href": names.arm(first)},
        "arms": [_arm_row(arm, names) for arm in arms],
        "figure": inline_svg(figures.scores_figure(arms), name, figures.describe_scores(arms)),
        "learning": inline_svg(
            figures.learning_figure(arms, records),
            f"learning-{slug(names.tier + '-' + task)}",
            _describe_learning(task, arms, records),
        ),
    }


def _describe_learning(task: str, arms: Sequence[Arm], records: Json) -> str:
    words = []
    for arm in figures.without_peers(figures.headline(arms)):
        curves = [records[path]["result"]["loss"]["loss"] for path in arm["records"]]
        if all(curves):
            mean = sum(curve[-1] for curve in curves) / len(curves)
            words.append(f"{arm_title(arm)} ends at {mean:.2f}")
    return f"Training loss on {task_title(task)}: {'; '.join(words)}."


def _arm_row(arm: Arm, names: Names) -> Json:
    spread = arm["over_seeds"]
    bare = arm["bytes"]["total"] - arm["bytes"]["head"]
    adapter = arm["versus"].get("single_adapter")
    return {
        "title": arm_title(arm),
        "href": names.arm(arm),
        "mean": score(spread["mean"]),
        "interval": interval(spread["low"], spread["high"]),
        "seeds": [
            {"seed": seed, "text": score(value), "href": names.record(path)}
            for seed, value, path in zip(arm["seeds"], arm["scores"], arm["records"], strict=True)
        ],
        "adapter": _difference(adapter) if adapter else None,
        "adapter_examples": _over_examples(arm),
        "bytes": byte_count(arm["bytes"]["total"]),
        "bare": byte_count(bare),
        "check": _check(arm),
    }


def _difference(found: Json) -> Json:
    """A paired difference as text, in points."""
    return {"text": signed(100 * found["mean"]), "interval": ends(found["low"], found["high"])}


def _over_examples(arm: Arm) -> str:
    """Interval over examples of the difference to the adapter, in points."""
    found = arm["versus_examples"].get("single_adapter")
    return ends(found["low"], found["high"]) if found else "\N{EN DASH}"


def _check(arm: Arm) -> Json:
    """Whether the scores say that something was learned at all."""
    spread, majority = arm["over_seeds"], arm["majority"]
    if arm["constant"]:
        part = f"{len(arm['constant'])} of {counted(len(arm['seeds']), 'seed')}"
        return {"ok": False, "text": f"one class only in {part}"}
    if spread["mean"] <= majority:
        return {"ok": False, "text": "not above majority"}
    if spread["low"] is None or spread["low"] <= majority:
        return {"ok": False, "text": "not clearly above majority"}
    return {"ok": True, "text": "above majority"}


# ------------------------------------------------------------------------------ verdicts and gaps


def _claims(claims: Json, tier: str, names: Names) -> Json:
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
        "p_sign": p_sign(verdict["p_value"]),
        "seeds": ", ".join(map(str, verdict["seeds"])),
        "power": power_text(verdict),
        "needs": verdict["needs"],
        "tasks": [
            {
                "title": task_title(task["task"]),
                "effect": signed(task["effect"])
                if verdict["unit"] == "points"
                else times(task["effect"]),
                "interval": effect_interval({"interval": task.get("interval"), "unit": "points"}),
                "p": p_value(task.get("p_value")),
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


def _glance(sections: Sequence[Json]) -> list[Json]:
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


def _tally(sections: Sequence[Json]) -> list[Json]:
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


def _overall(main: Sequence[Arm], names: Names) -> Json | None:
    """All tasks as one: the gaps to the adapter, and what is left out of them."""
    found = make_overall(main)
    if len(found["arms"]) < 2:
        return None
    rows = []
    for entry in found["arms"]:
        first = next(arm for arm in main if arm["arm"] == entry["arm"])
        value, around = iqm_text(entry["iqm"])
        rows.append(
            {
                "title": entry["title"],
                "href": names.arm(first),
                "iqm": value,
                "interval": around,
                "mean": signed(entry["mean"]),
            }
        )
    words = "; ".join(f"{row['title']} {row['iqm']}" for row in rows)
    return {
        "rows": rows,
        "tasks": ", ".join(task_title(task) for task in found["tasks"]),
        "left_out": ", ".join(task_title(task) for task in found["left_out"]),
        "figure": inline_svg(
            performance_figure(main),
            f"performance-{names.tier}",
            f"Share of runs by their gap to the adapter; interquartile means in points: {words}.",
        ),
        "caption": figures.CAPTIONS["performance"],
    }


def _gaps(main: Sequence[Arm], names: Names) -> list[Json]:
    """Where it does not work: the negative results with their numbers, by kind and task."""
    below: dict[str, list[Json]] = {}
    no_head: dict[str, list[Json]] = {}
    no_learning: dict[str, list[Json]] = {}

    def add(
        group: dict[str, list[Json]], arm: Arm, number: str, words: str, sure: bool = False
    ) -> None:
        title = task_title(task_name(arm))
        if group is no_learning:
            title += f" (majority {score(arm['majority'])})"
        entry = {"title": arm_title(arm), "href": names.arm(arm), "number": number}
        group.setdefault(title, []).append(entry | {"words": words, "sure": sure})

    for arm in main:
        adapter, head = arm["versus"].get("single_adapter"), arm["versus"].get("head_only")
        if arm["method"] == "x_peft" and adapter and adapter["mean"] < 0:
            sure = adapter["high"] is not None and adapter["high"] < 0
            around = ends(adapter["low"], adapter["high"])
            add(below, arm, signed(100 * adapter["mean"]), f"({around})", sure)
        if head and (head["low"] is None or head["low"] <= 0):
            around = ends(head["low"], head["high"])
            add(no_head, arm, signed(100 * head["mean"]), f"({around})")
        check = _check(arm)
        if not check["ok"]:
            add(no_learning, arm, score(arm["over_seeds"]["mean"]), f"({check['text']})")
    groups = [
        (
            "Masks below a single adapter",
            "In points, with 95 % interval over seeds; in bold where it excludes zero.",
            below,
            "On no task are masks below the adapter.",
        ),
        (
            "Not shown to be better than a head alone",
            "In points, with 95 % interval over seeds, which contains zero.",
            no_head,
            "Every method is above a head alone on every task.",
        ),
        (
            "Not clearly above the majority class",
            "Mean score in points; the interval over seeds reaches the majority class.",
            no_learning,
            "Every method is above the majority class on every task.",
        ),
    ]
    return [
        {
            "title": title,
            "note": note,
            "tasks": [{"title": task, "arms": arms} for task, arms in group.items()],
            "none": none,
        }
        for title, note, group, none in groups
    ]


# -------------------------------------------------------------------- figures, tuning, provenance


def _figures(tier: str, main: Sequence[Arm]) -> Json:
    shown = figures.headline(main)
    gaps = "; ".join(
        f"{task_title(task_name(arm))}, {arm_title(arm)} "
        f"{signed(100 * arm['versus']['single_adapter']['mean'])}"
        for arm in shown
        if arm["versus"].get("single_adapter")
    )
    sizes = {arm_title(arm): byte_count(arm["bytes"]["total"]) for arm in main}
    return {
        "gaps": inline_svg(
            figures.gaps_figure(main), f"gaps-{tier}",
            f"Difference to a single adapter in points: {textwrap.shorten(gaps, 1500)}.",
        ),
        "bytes": inline_svg(
            frontier.bytes_figure(main), f"bytes-{tier}",
            "Score against stored bytes: "
            + textwrap.shorten("; ".join(f"{k} {v}" for k, v in sizes.items()), 1500) + ".",
        ),
    }  # fmt: skip


def _sizes(summary: Json, tier: str) -> Json | None:
    """Scores and costs of random banks by N; None with one N alone."""
    arms, step = summary["arms"], summary["step"]
    found = bank_sizes.make_sizes(arms, step)
    if not found:
        return None
    sizes = [size for group in found.values() for size in group]
    words = [f"{size.mask} masks, N = {size.n}: {signed(size.gap)} points" for size in sizes]
    return {
        "figure": inline_svg(
            bank_sizes.sizes_figure(arms, step), f"sizes-{tier}", "; ".join(words) + "."
        ),
        "caption": figures.CAPTIONS["sizes"],
        "columns": ["Masks", "N", "Difference (95 % over seeds)", *SIZE_COLUMNS],
        "rows": [
            {"title": ", ".join(map(task_title, size.tasks)), "cells": _size_row(size)}
            for size in sizes
        ],
        "measured": step
        and f"{step['rows']} rows of {step['tokens']} tokens, {step['threads']} threads of "
        f"{step['processor']}",
    }


SIZE_COLUMNS = ("Step", "Process", "Bank", *bank_sizes.CODES.values())


def _size_row(size: bank_sizes.Size) -> list[str]:
    mask, n, gap, spread, *costs = bank_sizes.row_text(size)
    return [mask, n, gap if size.n == bank_sizes.BASE else f"{gap} ({spread})", *costs]


def _allin(arms: Sequence[Arm], names: Names) -> Json | None:
    """All that a profile takes, on the shapes of the claim; None without an adapter beside it."""
    panels = allin.make_panels(arms)
    if not panels:
        return None
    words = []
    shown = []
    for panel in panels:
        title = ", ".join(map(task_title, panel.data))
        words.append(
            f"{title}: "
            + "; ".join(
                f"{arm_title(row.arm)} {byte_count(row.stored)}, {signed(row.gap)} points"
                for row in panel.rows
            )
        )
        shown.append(
            {
                "title": title,
                "over": panel.over,
                "learned": panel.learned,
                "left_out": "; ".join(panel.left_out),
                "rows": [
                    {"cells": allin.row_text(row), "fits": row.fits, "href": names.arm(row.arm)}
                    for row in panel.rows
                ],
            }
        )
    described = "Score against all that a profile takes. " + ". ".join(words)
    return {
        "figure": inline_svg(
            allin.allin_figure(arms), f"allin-{names.tier}", textwrap.shorten(described, 1500)
        ),
        "caption": figures.CAPTIONS["allin"],
        "panels": shown,
    }


def _inline(name: str, title: str, *args: Any) -> str:
    maker = {
        "method": figures.method_figure,
        "waterfall": figures.waterfall_figure,
        "scale": cohort_figures.scale_figure,
    }[name]
    return inline_svg(maker(*args), name, title)


def _tuning(summary: Json) -> list[Json]:
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


def _budget(summary: Json) -> str:
    """Whether the methods were tuned with equal budgets, said plainly."""
    counts: dict[int, list[str]] = {}
    for job, value in summary["tuning"].items():
        counts.setdefault(len(value["trials"]), []).append(job.rsplit("/", 1)[-1])
    if len(counts) == 1:
        return f"Equal budgets: {counted(next(iter(counts)), 'trial')} for each method and task."
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


def _ablations(arms: Sequence[Arm], names: Names) -> list[Json]:
    return [
        {
            "task": task_title(task_name(arm)),
            "title": arm_title(arm | {"variant": ""}),
            "variant": arm["variant"],
            "href": names.arm(arm),
            "mean": score(arm["over_seeds"]["mean"]),
            "interval": interval(arm["over_seeds"]["low"], arm["over_seeds"]["high"]),
            "difference": _difference(arm["changes"]["difference"])
            if arm["changes"] and arm["changes"]["difference"]
            else None,
            "bytes": byte_count(arm["bytes"]["total"]),
        }
        for arm in arms
        if arm["variant"]
    ]


def _provenance(summary: Json) -> Json:
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
            "seconds": _duration(arm["seconds"]),
            "rate": f"{records[arm['records'][0]]['run']['rows_per_second']:,.0f}",
            "share": _share(records[arm["records"][0]]["run"].get("encoder_share")),
        }
        for arm in summary["arms"]
    ]
    return {
        "data": [{"task": t, "split": s, "sha256": d} for t, s, d in data],
        "configs": configs,
    }


def _share(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.0f} %"


def _records(summary: Json, names: Names) -> list[Json]:
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


def _colour_css() -> str:
    """The colours of the figures as variables, for light and dark pages."""
    light = "".join(f"--f-{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--f-{name}:{pair[1]};" for name, pair in COLOURS.items())
    return (
        f"\n:root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{{light}}}}}\n"
    )
