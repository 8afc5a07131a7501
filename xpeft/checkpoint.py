"""Checkpoints: one file that is whole or absent, bound to the job that wrote it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xpeft.io import atomic_path

log = logging.getLogger(__name__)


def save_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], identity: Mapping[str, str]
) -> None:
    """Write tensors with the identity of the work that they belong to, atomically."""
    with atomic_path(path) as temporary:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, temporary, metadata={"identity": json.dumps(dict(identity))})


def load_checkpoint(
    path: str | os.PathLike[str], identity: Mapping[str, str]
) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint, or None where there is none of this identity.

    A file that is damaged or of other work is passed over with a warning: starting anew gives the
    same result, only later.
    """
    if not Path(path).is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {}).get("identity", "{}"))
            if found != dict(identity):
                log.warning("%s: a checkpoint of other work; starting anew", path)
                return None
            names = file.keys()  # a method of the file, which is no dict
            return {name: torch.as_tensor(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        log.warning("%s: not a whole checkpoint (%s); starting anew", path, error)
        return None
