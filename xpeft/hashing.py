"""Random numbers that are the same everywhere: a counter-based integer generator.

Every draw is a 64-bit hash of (key, counter): integer arithmetic of our own, so that the same
numbers give the same values with every version of every library, which the streams of `random`,
`numpy.random` and `torch` do not promise. Draw i does not depend on how many others are drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_MASK = 0xFFFFFFFFFFFFFFFF
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: npt.ArrayLike, key: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each value under `key`: splitmix64's finalizer, integer arithmetic only.

    Args:
        values: integers of any shape.
        key: any integer; its low 64 bits count.

    Returns:
        uint64 hashes, same shape.
    """
    offset = _finalize(np.array([key & _MASK], dtype=np.uint64))
    return _finalize(np.asarray(values).astype(np.uint64) * _GOLDEN + offset)


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from a purpose and its numbers, such as `derive_key("order", seed, epoch)`."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def sample(values: npt.ArrayLike, limit: int | None, key: int) -> npt.NDArray[np.int64]:
    """Positions, ascending, of at most `limit` (None: all) of the values, chosen by their hash."""
    hashes = mix64(values, key)
    return np.sort(np.argsort(hashes, kind="stable")[:limit]).astype(np.int64)


def uniform(count: int, key: int, offset: int = 0) -> npt.NDArray[np.float32]:
    """Draws `offset` to `offset + count` of the stream `key`, uniform in (-1, 1).

    Each hash gives two draws of 24 bits. Every step is exact in float32 (an odd integer below
    2**25 times a power of two), so the values are the same on every machine.

    Returns:
        float32 [count], symmetric about 0 and never 0; variance 1/3.
    """
    first, last = offset // 2, (offset + count + 1) // 2
    hashes = mix64(np.arange(first, last, dtype=np.uint64), key)
    draws = hashes.view(np.uint32)  # low half first on every supported (little-endian) machine
    integers = (draws >> np.uint32(8)).astype(np.int32) * np.int32(2) - np.int32((1 << 24) - 1)
    start = offset - 2 * first
    return integers[start : start + count].astype(np.float32) * np.float32(2.0**-24)


def permutation(count: int, key: int) -> npt.NDArray[np.int64]:
    """A random order of range(count): int64 [count]."""
    return np.argsort(mix64(np.arange(count), key), kind="stable").astype(np.int64)


def _finalize(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
