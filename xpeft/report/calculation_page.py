"""The 10,000 times, step by step, as plain values for `templates/page.html.j2`."""

from __future__ import annotations

from typing import Any

from xpeft.report import cohort_figures, figures
from xpeft.report.drawing import inline_svg, short_bytes
from xpeft.report.words import byte_count, counted, times

Json = dict[str, Any]


def calculation(ledger: Json) -> Json:
    """From the bytes of an adapter to all that a profile takes, with figures, peers and banks."""
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
    small = stored["enumerative+binary"]
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
            "as such a profile with a binary head of its own",
            f"{small['payload_bytes']} + {small['bytes'] - small['payload_bytes']}",
            small["bytes"],
            "A bit for each weight of a head for two classes, its scale and its bias; "
            f"{'with' if small['reaches_goal'] else 'even with'} k = {small['k']} adapters "
            f"selected{', the most that leave room for it' if small['reaches_goal'] else ''}.",
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
            "where its norm is fixed or shared, and its head is so too, or binary.",
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
        "figure": inline_svg(
            figures.waterfall_figure(ledger), "waterfall", f"Bars of bytes a profile: {words}."
        ),
        "caption": figures.CAPTIONS["waterfall"],
        "scale": inline_svg(cohort_figures.scale_figure(ledger), "scale", _describe_scale(ledger)),
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
