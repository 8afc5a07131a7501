"""Masks as bytes: what a profile stores, and the masks that are read back from it.

A profile has a mask M_A over the down-projections and M_B over the up-projections, each [L, N].
Stored are their rows one after another, blocks 0 to L-1 of M_A, then those of M_B. Sides other
than `separate` store one matrix: `tied` (M_A = M_B), `down` (M_A alone) or `up` (M_B alone).

    codec        the R rows of N entries become                             bytes
    soft32       little-endian float32 numbers                              4 N R
    soft16       little-endian float16 numbers, rounded to nearest          2 N R
    bits         row by row, adapter i is bit i % 8 of byte i // 8          ceil(N / 8) R
    enumerative  their number among all masks with k ones in each row,      ceil(R log2 C(N, k) / 8)
                 as one little-endian integer

A row's number is that of the combinatorial number system: ones at p_1 < p_2 < ... < p_k make
C(p_1, 1) + C(p_2, 2) + ... + C(p_k, k). The numbers of the rows are the digits of the mask's, the
first row's the lowest, in the base C(N, k): exact for any N with Python's integers, and no code of
all hard masks has fewer bytes.

Codes are canonical: a mask has one code and a code one mask, so `decode(encode(m)) == m` (soft16:
for numbers that are float16) and `encode(decode(c)) == c`. What is not a code raises CodecError:
a wrong length, padding bits that are set, a row without exactly k ones, a number not below
C(N, k) ** R, a soft mask that is not finite. That is no checksum. With k given, one flipped bit in
`bits` is always noticed and a pair may not be; in `enumerative` and the soft codecs most flips
make another valid mask. Finding them is the business of the checksum of whoever stores the code.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from xpeft.errors import CodecError
from xpeft.job import Sides

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Codec = Literal["soft32", "soft16", "bits", "enumerative"]

_FLOATS = {"soft32": "<f4", "soft16": "<f2"}


@dataclass(frozen=True)
class MaskFormat:
    """All that is needed to read a code: bytes alone do not say what they are.

    Attributes:
        codec: one of `soft32`, `soft16`, `bits`, `enumerative`.
        layers: L, blocks of the encoder.
        n: N, adapters of the bank.
        k: ones in each row. Needed by `enumerative`; `bits` checks it where it is given; soft
            masks have none.
        sides: `separate` for M_A and M_B, `tied`, `down` or `up` for one stored matrix.

    Raises:
        CodecError: the attributes contradict each other or are out of range.
    """

    codec: Codec
    layers: int
    n: int
    k: int | None = None
    sides: Sides = "separate"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("codec", self.codec, get_args(Codec)),
            ("sides", self.sides, get_args(Sides)),
        ):
            if value not in known:
                raise CodecError(
                    f"{name}: found {value!r}, expected one of {', '.join(map(str, known))}"
                )
        if self.layers < 1 or self.n < 1:
            raise CodecError(
                f"mask format: found {self.layers} blocks and {self.n} adapters, "
                "expected at least one of each"
            )
        if self.k is not None and self.codec in _FLOATS:
            raise CodecError(f"k: found {self.k}, expected none: {self.codec} masks select nothing")
        if self.k is None and self.codec == "enumerative":
            raise CodecError("k: enumerative needs the number of ones in a row, found none")
        if self.k is not None and not 0 <= self.k <= self.n:
            raise CodecError(f"k: found {self.k}, expected 0 to N = {self.n}")

    @property
    def soft(self) -> bool:
        """Whether masks are numbers rather than bits."""
        return self.codec in _FLOATS

    @property
    def rows(self) -> int:
        """Rows that are stored: 2 L for separate sides, else L."""
        return self.layers * (2 if self.sides == "separate" else 1)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of a profile's masks."""
        if self.soft:
            return self.rows * self.n * np.dtype(_FLOATS[self.codec]).itemsize
        if self.codec == "bits":
            return bits_bytes(self.rows, self.n)
        return _ceil8((self._masks - 1).bit_length())

    @cached_property
    def _masks(self) -> int:
        """How many masks there are with k ones in each row."""
        assert self.k is not None
        return int(math.comb(self.n, self.k) ** self.rows)

    def encode(self, down: Array | None = None, up: Array | None = None) -> bytes:
        """The code of one profile's masks.

        Args:
            down: M_A, [L, N]: bool or 0 and 1 for hard codecs, real for soft ones. None for `up`.
            up: M_B, likewise. None for `down`; for `tied` None or equal to M_A.

        Raises:
            CodecError: a mask is missing, superfluous, of another shape, or not of this format.
        """
        one = [None if side is None else np.asarray(side)[None] for side in (down, up)]
        return self.encode_many(one[0], one[1]).tobytes()

    def decode(self, code: bytes) -> tuple[Array | None, Array | None]:
        """M_A and M_B of a code, [L, N], bool or float32; None for a side that is not used.

        Raises:
            CodecError: `code` is not the code of any mask in this format.
        """
        down, up = self.decode_many(np.frombuffer(code, np.uint8)[None])
        return None if down is None else down[0], None if up is None else up[0]

    def encode_many(self, down: Array | None = None, up: Array | None = None) -> Bytes:
        """The codes of P profiles, [P, nbytes] uint8, of masks [P, L, N]; else like `encode`."""
        rows = self._stack(down, up)
        if self.soft:
            _require_finite(rows, self)
            with np.errstate(over="ignore"):
                numbers = rows.astype(_FLOATS[self.codec], order="C")
            _require_finite(numbers, self)
            return numbers.view(np.uint8).reshape(len(rows), self.nbytes)
        ones = self._require_hard(rows)
        if self.codec == "bits":
            return encode_bits(ones)
        return self._rank(ones)

    def decode_many(self, codes: Bytes) -> tuple[Array | None, Array | None]:
        """M_A and M_B of P codes, [P, L, N] each, of `codes` [P, nbytes]; else like `decode`."""
        if codes.ndim != 2 or codes.dtype != np.uint8 or codes.shape[1] != self.nbytes:
            raise CodecError(
                f"mask code: found {codes.shape[-1]} bytes, expected {self.nbytes} "
                f"for {self._describe()}; the code is damaged or of another format"
            )
        if self.soft:
            numbers = np.ascontiguousarray(codes).view(_FLOATS[self.codec])
            rows: Array = numbers.reshape(len(codes), self.rows, self.n).astype(np.float32)
            _require_finite(rows, self)
        elif self.codec == "bits":
            rows = self._require_hard(decode_bits(codes, self.rows, self.n))
        else:
            rows = self._unrank(codes)
        if self.sides == "separate":
            return rows[:, : self.layers], rows[:, self.layers :]
        return None if self.sides == "up" else rows, None if self.sides == "down" else rows

    def _stack(self, down: Array | None, up: Array | None) -> Array:
        """The stored rows, [P, rows, N]."""
        wanted = {"separate": (True, True), "down": (True, False), "up": (False, True)}
        if self.sides == "tied":
            if down is not None and up is not None and not np.array_equal(down, up):
                raise CodecError("masks: M_A and M_B differ, expected equal ones for tied sides")
            given = [down if down is not None else up]
            if given[0] is None:
                raise CodecError("masks: found neither M_A nor M_B, expected one for tied sides")
        else:
            for name, side, want in zip(
                ("M_A", "M_B"), (down, up), wanted[self.sides], strict=True
            ):
                if (side is not None) != want:
                    raise CodecError(
                        f"{name}: found {'none' if side is None else 'a mask'}, expected "
                        f"{'one' if want else 'none'} for sides = {self.sides}"
                    )
            given = [side for side in (down, up) if side is not None]
        matrices = [np.asarray(side) for side in given]
        for matrix in matrices:
            if matrix.ndim != 3 or matrix.shape[1:] != (self.layers, self.n):
                raise CodecError(
                    f"mask: found shape {list(matrix.shape[1:])}, "
                    f"expected [L, N] = [{self.layers}, {self.n}]"
                )
        return np.concatenate(matrices, axis=1)

    def _require_hard(self, rows: Array) -> npt.NDArray[np.bool_]:
        """`rows` as bool, after checking that they hold 0 and 1 alone, and k ones each."""
        ones = rows.astype(bool)
        if rows.dtype != bool and not np.array_equal(ones, rows):
            profile, row, i = np.argwhere(ones != rows)[0]
            raise CodecError(
                f"{self._where(profile, row)}, adapter {i}: found {rows[profile, row, i]}, "
                f"expected 0 or 1; {self.codec} is for hard masks"
            )
        if self.k is not None:
            counts = ones.sum(axis=2)
            if (counts != self.k).any():
                profile, row = np.argwhere(counts != self.k)[0]
                raise CodecError(
                    f"{self._where(profile, row)}: found {counts[profile, row]} selected adapters, "
                    f"expected k = {self.k}; the mask is damaged or of another k"
                )
        return ones

    def _rank(self, ones: npt.NDArray[np.bool_]) -> Bytes:
        """Numbers of masks [P, rows, N] with k ones a row, as [P, nbytes]."""
        assert self.k is not None
        columns, base = _binomials(self.n, self.k), math.comb(self.n, self.k)
        positions = np.nonzero(ones)[2].reshape(len(ones), self.rows, self.k)
        codes = []
        for mask in (positions - np.arange(self.k)).tolist():
            number = 0
            for offsets in reversed(mask):
                row = sum(column[o] for column, o in zip(columns, offsets, strict=True))
                number = number * base + row
            codes.append(number.to_bytes(self.nbytes, "little"))
        return np.frombuffer(b"".join(codes), np.uint8).reshape(len(ones), self.nbytes)

    def _unrank(self, codes: Bytes) -> npt.NDArray[np.bool_]:
        """Masks [P, rows, N] of numbers [P, nbytes]."""
        assert self.k is not None
        base = math.comb(self.n, self.k)
        positions = []
        for profile, code in enumerate(codes):
            number = int.from_bytes(code.tobytes(), "little")
            if number >= self._masks:
                raise CodecError(
                    f"mask of profile {profile}: found a code not below C({self.n}, {self.k}) ** "
                    f"{self.rows}, expected that of a mask; it is damaged or of another N or k"
                )
            for _ in range(self.rows):
                number, rank = divmod(number, base)
                positions.append(self._unrank_row(rank))
        ones = np.zeros((len(codes) * self.rows, self.n), dtype=bool)
        places = np.array(positions, dtype=np.intp).reshape(len(ones), self.k)
        ones[np.arange(len(ones))[:, None], places] = True
        return ones.reshape(len(codes), self.rows, self.n)

    def _unrank_row(self, rank: int) -> list[int]:
        """Places of the ones of a row with this number: each one sits as far up as fits."""
        assert self.k is not None
        columns, found, end = _binomials(self.n, self.k), [], self.n - self.k + 1
        for i in range(self.k - 1, -1, -1):
            offset = bisect_right(columns[i], rank, 0, end) - 1
            rank -= columns[i][offset]
            found.append(offset + i)
            end = offset + 1
        return found

    def _describe(self) -> str:
        k = "" if self.k is None else f", k = {self.k}"
        return f"{self.codec}, L = {self.layers}, N = {self.n}{k}, sides = {self.sides}"

    def _where(self, profile: int, row: int) -> str:
        """A row's place in words; profiles count from 0 in the order given."""
        second = self.sides == "up" or row >= self.layers
        side = "M_A = M_B" if self.sides == "tied" else "M_B" if second else "M_A"
        return f"mask of profile {profile}, {side}, block {row % self.layers}"


def encode_bits(masks: Array) -> Bytes:
    """Bit sets of P hard masks: [P, rows, N] bool to [P, rows * ceil(N / 8)] uint8."""
    packed = np.packbits(masks, axis=2, bitorder="little")
    return packed.reshape(packed.shape[0], packed.shape[1] * packed.shape[2])


def decode_bits(codes: Bytes, rows: int, n: int) -> npt.NDArray[np.bool_]:
    """Hard masks of P bit sets, [P, rows, N] bool; the inverse of `encode_bits`.

    Raises:
        CodecError: the number of bytes is not rows * ceil(N / 8), or a padding bit is set.
    """
    size = _ceil8(n)
    if codes.shape[1] != bits_bytes(rows, n):
        raise CodecError(
            f"bit set: found {codes.shape[1]} bytes, "
            f"expected {rows} rows of {size} bytes for N = {n}; the code is damaged"
        )
    packed = codes.reshape(len(codes), rows, size)
    if n % 8 and (padding := packed[:, :, -1] >> (n % 8)).any():
        profile, row = np.argwhere(padding)[0]
        raise CodecError(
            f"bit set of profile {profile}, row {row}: found padding bits beyond N = {n} that are "
            "set, expected zeros; the code is damaged or of another N"
        )
    return np.unpackbits(packed, axis=2, count=n, bitorder="little").view(bool)


def bits_bytes(rows: int, n: int) -> int:
    """Bytes of bit sets of so many rows."""
    return rows * _ceil8(n)


def code_bytes(
    codec: Codec, layers: int, n: int, k: int | None = None, sides: Sides = "separate"
) -> int:
    """Bytes of a profile's masks, by formula. Soft codecs take no k."""
    return MaskFormat(codec, layers, n, k, sides).nbytes


def information_limit_bits(layers: int, n: int, k: int, sides: Sides = "separate") -> int:
    """Bits that no code of all hard masks can go below: ceil(2 L log2 C(N, k)), exactly.

    Separate sides have 2 L rows, others L; the power is taken in integers, not floats.
    """
    rows = MaskFormat("enumerative", layers, n, k, sides).rows
    return int((math.comb(n, k) ** rows - 1).bit_length())


@lru_cache(maxsize=8)
def _binomials(n: int, k: int) -> tuple[list[int], ...]:
    """Column i < k holds C(i + o, i + 1) for the offsets o = 0 .. N - k that a one can have.

    By Pascal's rule each column is the running sum of the one before.
    """
    columns: list[list[int]] = []
    column = list(range(n - k + 1))
    for _ in range(k):
        columns.append(column)
        column = list(accumulate(column))
    return tuple(columns)


def _require_finite(rows: Array, form: MaskFormat) -> None:
    if rows.dtype.kind in "biu":
        return
    if not np.isfinite(rows).all():
        profile, row, i = np.argwhere(~np.isfinite(rows))[0]
        raise CodecError(
            f"{form._where(profile, row)}, adapter {i}: found {rows[profile, row, i]}, expected a "
            f"finite number that fits {form.codec}"
        )


def _ceil8(bits: int) -> int:
    return -(-bits // 8)
