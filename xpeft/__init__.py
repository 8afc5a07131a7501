"""X-PEFT: extremely parameter-efficient fine-tuning over a frozen bank of adapters."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpeft.bank import load_bank, random_bank
    from xpeft.encoder import load_encoder
    from xpeft.serving import XPeft
    from xpeft.store import ProfileStore

__version__ = "0.1.0"

__all__ = ["ProfileStore", "XPeft", "load_bank", "load_encoder", "random_bank"]

_HOMES = {
    "ProfileStore": "xpeft.store",
    "XPeft": "xpeft.serving",
    "load_bank": "xpeft.bank",
    "load_encoder": "xpeft.encoder",
    "random_bank": "xpeft.bank",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
