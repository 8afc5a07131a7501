"""Profiles as a safetensors file: how they come into a store from elsewhere, and go out of one.

One tensor a field of `Profiles`, whose first axis is the profile:

    ids          [P]        uint64, or int64 with the same bits (two's complement)
    down, up     [P, L, N]  bool or uint8 with 0 and 1 for hard masks, float32 scores for soft ones
    head_signs   [P, C', d] bool or uint8 with 0 and 1, of a binary head
    gain, norm_weight, norm_bias, head_scale, head_weight, head_bias
                            float32, where the format has them

The metadata may hold `xpeft_format`, the JSON of a `ProfileFormat`: a store of another one refuses
the file. Names are not in it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xpeft.errors import StoreError
from xpeft.io import canonical_json, write_bytes
from xpeft.profiles import MASKS, TENSORS, ProfileFormat, Profiles

FORMAT_KEY = "xpeft_format"  # not "format", which torch's users set to "pt"
FIELDS = ("ids", *MASKS, *TENSORS)


def write_profiles(path: str | os.PathLike[str], profiles: Profiles, format: ProfileFormat) -> None:
    """Write profiles and their format to a file, atomically."""
    tensors = {"ids": profiles.ids, **profiles.arrays()}
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    write_bytes(path, save(contiguous, {FORMAT_KEY: canonical_json(format.to_dict())}))


def read_profiles(path: str | os.PathLike[str]) -> tuple[Profiles, ProfileFormat | None]:
    """Read profiles, and their format where the file says it.

    Raises:
        StoreError: the file is missing or damaged, has an unknown tensor or no ids, or a tensor is
            of another type.
    """
    if not Path(path).is_file():
        raise StoreError(f"{path}: no such file, expected profiles as safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata.get(FORMAT_KEY)
        form = None if text is None else ProfileFormat.from_dict(json.loads(text))
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read as profiles: {error}; expected a safetensors file with the "
            f"tensors {', '.join(FIELDS)} where there are such"
        ) from None
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
    unknown = sorted(set(tensors) - set(FIELDS))
    if unknown or "ids" not in tensors:
        raise StoreError(
            f"{path}: found {'the tensor ' + unknown[0] if unknown else 'no ids'}, expected ids "
            f"and of {', '.join(FIELDS[1:])} those that the profiles have"
        )
    ids = tensors.pop("ids")
    if ids.dtype == np.int64:
        ids = ids.view(np.uint64)
    try:
        return Profiles(ids, **{name: _bits(name, value) for name, value in tensors.items()}), form
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None


def _bits(name: str, value: Any) -> Any:
    """Hard masks and signs kept as bytes become bits; all else is left as it is."""
    if name not in MASKS or value.dtype != np.uint8:
        return value
    if value.max(initial=0) > 1:
        raise StoreError(f"{name}: found {value.max()}, expected 0 or 1 in masks of uint8")
    return value.view(bool)
