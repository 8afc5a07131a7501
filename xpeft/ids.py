"""Names of profiles: 64-bit numbers, shown as 16 hexadecimal digits."""

from __future__ import annotations

import hashlib
import re

from xpeft.errors import StoreError


def profile_id(cohort: str, name: str) -> int:
    """The 64-bit id of a named profile: nothing but the id need ever be written down."""
    text = f"xpeft-profile\0{cohort}\0{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def id_text(identity: int) -> str:
    """An id as files and reports show it: 16 hex digits."""
    return f"{identity:016x}"


def parse_id(text: str) -> int:
    """The id that 16 hex digits name.

    Raises:
        StoreError: they are not 16 lower-case hex digits.
    """
    if not re.fullmatch("[0-9a-f]{16}", text):
        raise StoreError(f"profile id: found {text!r}, expected 16 hex digits, as in {id_text(1)}")
    return int(text, 16)
