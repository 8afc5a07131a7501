"""What a verification finds: what was checked, what differs, what could not be checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

MOST_LINES = 5
"""Lines for the places in which one thing differs; further ones are counted."""


@dataclass
class Findings:
    """Filled check by check.

    Attributes:
        checked: number of things that were checked, by their kind.
        differs: a line for each difference: what it is in, what was found and expected.
        not_checked: a line for each thing that could not be checked, with the reason.
    """

    checked: Counter[str] = field(default_factory=Counter)
    differs: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def check(self, kind: str, lines: Iterable[str] = ()) -> None:
        """Count one thing of a kind as checked; `lines` say where it differs, if it does."""
        self.checked[kind] += 1
        rest = iter(lines)
        shown = list(islice(rest, MOST_LINES))
        self.differs += shown
        more = sum(1 for _ in rest)
        if more:
            self.differs.append(f"{shown[0].partition(': ')[0]}: and {more} more places beside it")

    def text(self) -> str:
        """A line for each difference and each thing that was not checked, and a summary."""
        counts = ", ".join(f"{kind} {count}" for kind, count in self.checked.items())
        return "\n".join(
            [
                *(f"differs: {line}" for line in self.differs),
                *(f"not checked: {line}" for line in self.not_checked),
                f"checked: {counts or 'nothing'}; differences {len(self.differs)}, "
                f"not checked {len(self.not_checked)}",
            ]
        )
