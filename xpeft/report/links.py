"""Names of places on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xpeft.report.summary import Arm, task_name


class Names:
    """Ids on the page: of records, arms and claims of a tier.

    Attributes:
        tier: its name.
        place: folder of its records, as the page shows it.
        by_key: its arms by (`suite/task`, name of the arm).
    """

    def __init__(self, tier: str, arms: Sequence[Arm], place: str) -> None:
        self.tier = tier
        self.place = place
        self.by_key = {(task_name(arm), arm["arm"]): arm for arm in arms}

    def record(self, path: str) -> str:
        """Of the record of a path below the folder of records."""
        return "r-" + slug(f"{self.tier}-{path.removesuffix('.json')}")

    def arm(self, arm: Arm) -> str:
        """Of an arm."""
        return "a-" + slug(f"{self.tier}-{task_name(arm)}-{arm['arm']}")

    def claim(self, name: str) -> str:
        """Of a claim."""
        return "c-" + slug(f"{self.tier}-{name}")


def slug(text: str) -> str:
    """A text as part of an id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
