"""Computed values in a form that can be kept in a file and compared with later ones.

Sums and quantiles may differ in their last bits between processors and versions of libraries. So
floats are compared with a tolerance and never hashed; all else must be equal. A long list is kept
in short: the hash of all that is not a float, and two sums over the floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from xpeft.hashing import derive_key, uniform
from xpeft.io import canonical_json, sha256_bytes

TOLERANCE = 1e-9
"""Relative and absolute, of floats (ours): far above rounding, far below one row of any set."""


def condense(value: Any, most: int) -> Any:
    """Plain JSON with every long list in short, as `{"items", "sha256", "sums"}`.

    Args:
        value: what JSON can hold; tuples count as lists.
        most: items of a list that is kept as it is.

    Returns:
        The same, where `items` is the length of a long list, `sha256` of its canonical JSON with
        null for every float, and `sums` the sum of its floats and one with fixed weights in
        (-1, 1), in which the order counts. A list without floats has no sums.

    Raises:
        ValueError: a float is not finite.
    """
    return _condense(json.loads(canonical_json(value)), most)


def _condense(value: Any, most: int) -> Any:
    if isinstance(value, dict):
        return {key: _condense(item, most) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) <= most:
        return [_condense(item, most) for item in value]
    floats: list[float] = []
    rest = canonical_json(_without_floats(value, floats))
    short: dict[str, Any] = {"items": len(value), "sha256": sha256_bytes(rest.encode())}
    if floats:
        weights = uniform(len(floats), derive_key("verify"))
        weighted = (float(w) * x for w, x in zip(weights, floats, strict=True))
        short["sums"] = [math.fsum(floats), math.fsum(weighted)]
    return short


def _without_floats(value: Any, floats: list[float]) -> Any:
    """The value with null for its floats, which are appended in order."""
    if isinstance(value, float):
        floats.append(value)
        return None
    if isinstance(value, dict):
        return {key: _without_floats(value[key], floats) for key in sorted(value)}
    if isinstance(value, list):
        return [_without_floats(item, floats) for item in value]
    return value


def differences(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """One line for each place where two condensed values differ.

    Args:
        found, expected: of `condense`.
        where: what the value is called; names within it are appended with dots and brackets.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            name = f"{where}.{key}" if where else key
            if key not in found:
                yield f"{name}: found nothing, expected {_show(expected[key])}"
            elif key not in expected:
                yield f"{name}: found {_show(found[key])}, expected nothing of that name"
            else:
                yield from differences(found[key], expected[key], name)
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            yield f"{where}: found {len(found)} items, expected {len(expected)}"
            return
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif not _same(found, expected):
        yield f"{where}: found {_show(found)}, expected {_show(expected)}"


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(found) is type(expected) and bool(found == expected)


def _show(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
