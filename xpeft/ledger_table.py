"""The ledger as a table for a terminal."""

from __future__ import annotations

from typing import Any

from xpeft.ledger import GOAL

Json = dict[str, Any]


def format_table(account: Json) -> str:
    """The ledger for a terminal: the same numbers step by step, in aligned columns."""
    encoder, adapter, head = account["encoder"], account["adapter"], account["head"]
    n, k, masks, bank = account["adapters"], account["k"], account["masks"], account["bank"]
    lines = [
        f"Byte ledger of a profile on {encoder['name']}",
        f"L = {encoder['layers']} blocks, d = {encoder['width']}, reduction "
        f"{encoder['reduction']} -> b = {encoder['bottleneck']}; a bank of N = {n} adapters, "
        f"k = {k}, C = {head['classes']} classes",
        "x = bytes of one adapter / bytes of what is stored instead",
    ]

    def section(title: str, rows: list[list[str]], left: int = 2) -> None:
        lines.extend(["", title, *_align(rows, left)])

    formula = adapter["formula"]
    section(
        "1. An adapter for each profile (Pfeiffer bottleneck)",
        [
            ["weights", formula["weights"], f"{adapter['weights']:,}"],
            ["biases", formula["biases"], f"{adapter['biases']:,}"],
            ["parameters", "weights + biases", f"{adapter['parameters']:,}"],
            ["bytes, fp32", formula["bytes"], f"{adapter['bytes']:,} B"],
        ],
    )
    titles = {
        "soft_fp32": "soft, fp32",
        "soft_fp16": "soft, fp16",
        "hard_bits": "hard, bit set",
        "hard_enumerative": "hard, enumerative code",
        "information_limit": "hard, information limit",
    }
    section(
        "2. Masks M_A and M_B over a shared bank instead, L x N each",
        [
            [title, masks[name]["formula"], _b(masks[name]), _x(masks[name])]
            for name, title in titles.items()
        ],
    )
    section(
        "3. All that a profile stores: norm and head cost more than the masks",
        [["", "bytes", "adapter", "adapter + same head"]]
        + [
            [entry["name"], _b(entry), _x(entry), _times(entry["ratio_same_head"])]
            for entry in account["combinations"]
        ],
        left=1,
    )
    lines.append(f"   {account['goal']['ratio']:,}x leaves {account['goal']['bytes']:,} B.")
    section(
        "4. All-in: what a profile takes of the file of a large store",
        [["", "data", "of the file", "adapter"]]
        + [
            [entry["name"], f"{entry['payload_bytes']:,} B", _b(entry), _x(entry)]
            for entry in account["store"]
        ],
        left=1,
    )
    section(
        "5. Codes of hard masks over N and k",
        [["N", "k", "bit set", "", "enumerative", "", "limit", ""]]
        + [
            [str(entry["n"]), str(entry["k"])]
            + [
                text
                for name in ("hard_bits", "hard_enumerative", "information_limit")
                for text in (_b(entry[name]), _x(entry[name]))
            ]
            for entry in account["codes"]
        ],
        left=0,
    )
    rows = [["P profiles", "adapters", "random bank + masks", "", "trained bank + masks", ""]]
    for entry in account["profiles"]:
        rows.append([f"{entry['profiles']:,}", f"{entry['adapter_bytes']:,} B"])
        rows[-1] += [text for kind in bank for text in (_b(entry[kind]), _x(entry[kind]))]
    section(
        "6. The bank's share: it is stored once for P profiles (hard masks, bit set, alone)",
        rows,
        0,
    )
    for kind, entry in bank.items():
        even = entry["break_even_profiles"]
        goal = entry["profiles_for_ratio"][str(GOAL)]
        lines.append(
            f"   {kind} bank: {entry['bytes']:,} B ({entry['formula']}); "
            + ("never pays" if even is None else f"pays from P = {even:,}")
            + ("" if goal is None else f"; {GOAL:,}x from P = {goal:,}")
        )
    section(
        "7. Beside other methods, head excluded (by formula, fp32)",
        [[peer["name"], peer["formula"], _b(peer), _x(peer)] for peer in account["peers"]],
    )
    trained = account["trainable_parameters"]
    lines.append(
        f"   Trained numbers: adapter {trained['adapter']:,}, masks {trained['soft_masks']:,}: "
        f"{_times(trained['ratio'])} fewer."
    )
    section(
        "8. Measured from files",
        [["file", "payload", "file", "overhead", ""]]
        + [
            [
                entry["file"],
                f"{entry['payload_bytes']:,} B",
                f"{entry['file_bytes']:,} B",
                f"{entry['overhead_bytes']:,} B",
                _times(entry["ratio"]) if "ratio" in entry else "",
            ]
            for entry in account["measured"]["files"]
        ],
        left=1,
    )
    return "\n".join(lines) + "\n"


def _align(rows: list[list[str]], left: int) -> list[str]:
    """Rows as lines: the first `left` columns flush left, numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "   "
        + "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _b(entry: Json) -> str:
    return f"{entry['bytes']:,} B"


def _x(entry: Json) -> str:
    return _times(entry["ratio"])


def _times(ratio: float | None) -> str:
    """A ratio as people read it: 11,468x, 77.0x, 0.008x; `-` where nothing is stored."""
    if ratio is None:
        return "-"
    digits = 0 if ratio >= 100 else 1 if ratio >= 1 else 3
    return f"{ratio:,.{digits}f}x"
