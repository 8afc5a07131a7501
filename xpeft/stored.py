"""What a trained profile amounts to: numbers, bytes and a digest, by the ledger's parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from xpeft import records
from xpeft.codec import MaskFormat, bits_bytes
from xpeft.io import canonical_json
from xpeft.methods import BankMasks, Method, part_of
from xpeft.peers import Peer


def count_parts(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by parameter name to counts by part of the ledger, with their total."""
    parts = dict.fromkeys(records.PARTS, 0)
    for name, count in counts.items():
        parts[part_of(name)] += count
    return {**parts, "total": sum(parts.values())}


def stored_bytes(method: Method, one: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes that a profile's file must hold, by parameter: codes of masks, all else as float32.

    A peer's parameters are one entry, `peer`: the weights file that its library writes.
    """
    stored = {name: 4 * value.numel() for name, value in one.items()}
    if "mask_head" in one:
        stored["mask_head"] = bits_bytes(*one["mask_head"].shape)
    if isinstance(method, Peer):
        head = {name: size for name, size in stored.items() if part_of(name) == "head"}
        return {**head, "peer": method.saved_bytes(one)}
    if isinstance(method, BankMasks):
        spec, bank = method.spec, method.bank
        masks = {name: one[name] for name in method.sides}
        if spec.mask == "hard":
            code = MaskFormat("bits", bank.layers, bank.n, k=spec.k, sides=spec.sides)
            masks = {name: method.selected(scores) for name, scores in masks.items()}
        else:
            code = MaskFormat("soft32", bank.layers, bank.n, sides=spec.sides)
        arrays = {name: value.float().numpy() for name, value in masks.items()}
        size = len(code.encode(arrays.get("mask_a"), arrays.get("mask_b")))
        for name in masks:
            stored[name] = size // len(masks)
    return stored


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        header = canonical_json([name, str(tensor.dtype), list(tensor.shape)])
        total.update(header.encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
