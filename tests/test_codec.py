"""Codes of masks: sizes by formula, one code a mask, and damage that is noticed where it can be."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from xpeft.codec import (
    Codec,
    MaskFormat,
    code_bytes,
    decode_bits,
    encode_bits,
    information_limit_bits,
)
from xpeft.errors import CodecError
from xpeft.job import Sides

Array = npt.NDArray[Any]
SIDES: tuple[Sides, ...] = ("separate", "tied", "down", "up")


def hard(seed: int, *shape: int, k: int) -> Array:
    """Random masks of `shape` with k ones in each row."""
    order = np.random.default_rng(seed).random(shape).argsort(axis=-1).argsort(axis=-1)
    return order < k


def pair(form: MaskFormat, masks: Array) -> tuple[Array | None, Array | None]:
    """The two sides of `masks` [2, ...] as `form.sides` wants them."""
    sides = {
        "separate": (masks[0], masks[1]),
        "tied": (masks[0], masks[0]),
        "down": (masks[0], None),
        "up": (None, masks[1]),
    }
    return sides[form.sides]


def same(left: tuple[Array | None, Array | None], right: tuple[Array | None, Array | None]) -> bool:
    """Whether two pairs of sides are equal, to the bit and in dtype."""
    return all(
        (a is None and b is None)
        or (a is not None and b is not None and a.dtype == b.dtype and a.tobytes() == b.tobytes())
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(
    ("codec", "n", "k", "expected"),
    [
        ("soft32", 100, None, 9_600),
        ("soft16", 100, None, 4_800),
        ("bits", 100, None, 312),
        ("bits", 150, None, 456),
        ("bits", 200, None, 600),
        ("bits", 400, None, 1_200),
        ("enumerative", 100, 50, 290),
        ("enumerative", 100, 10, 132),
        ("enumerative", 400, 50, 641),
        ("enumerative", 400, 10, 194),
    ],
)
def test_sizes_of_bert_base_by_formula_and_by_coding(
    codec: Any, n: int, k: int | None, expected: int
) -> None:
    assert code_bytes(codec, 12, n, k) == expected
    assert [code_bytes(codec, 12, n, k, side) for side in SIDES[1:]] == [-(-expected // 2)] * 3
    form = MaskFormat(codec, 12, n, k)
    masks = hard(0, 2, 12, n, k=k or 50)
    assert len(form.encode(masks[0], masks[1])) == expected


@pytest.mark.parametrize(
    ("n", "k", "expected"), [(100, 50, 290), (100, 10, 132), (400, 50, 641), (400, 10, 194)]
)
def test_information_limit(n: int, k: int, expected: int) -> None:
    bits = information_limit_bits(12, n, k)
    assert -(-bits // 8) == expected
    assert bits == math.ceil(24 * math.log2(math.comb(n, k)))
    assert information_limit_bits(12, n, k, "tied") == math.ceil(12 * math.log2(math.comb(n, k)))
    assert code_bytes("enumerative", 12, n, k) == expected  # no code has fewer bytes


def test_information_limit_is_exact_where_floats_are_not() -> None:
    # C(2, 1)^(2 L) = 2^(2 L) states need 2 L bits; one more state would need one bit more.
    assert information_limit_bits(12, 2, 1) == 24
    assert information_limit_bits(1, 3, 1) == 4  # 9 states
    assert information_limit_bits(1, 5, 5) == 0
    assert 2 ** (information_limit_bits(50, 1000, 500) - 1) < math.comb(1000, 500) ** 100


def test_bits_by_hand() -> None:
    mask = np.zeros((1, 10), dtype=bool)
    mask[0, [0, 3, 9]] = True
    assert MaskFormat("bits", 1, 10, sides="down").encode(mask) == bytes([0b00001001, 0b10])


def test_enumerative_by_hand() -> None:
    form = MaskFormat("enumerative", 1, 10, 3, sides="down")
    mask = np.zeros((1, 10), dtype=bool)
    mask[0, [0, 3, 9]] = True
    assert form.encode(mask) == bytes([math.comb(0, 1) + math.comb(3, 2) + math.comb(9, 3)])


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (7, 3), (8, 4), (9, 8), (10, 10), (11, 0)])
def test_enumerative_counts_every_row_once_in_order(n: int, k: int) -> None:
    form = MaskFormat("enumerative", 1, n, k, sides="down")
    rows = sorted(combinations(range(n), k), key=lambda row: row[::-1])
    masks = np.zeros((len(rows), 1, n), dtype=bool)
    for mask, row in zip(masks, rows, strict=True):
        mask[0, list(row)] = True
    codes = form.encode_many(masks)
    assert [int.from_bytes(code.tobytes(), "little") for code in codes] == list(range(len(rows)))
    assert np.array_equal(form.decode_many(codes)[0], masks)  # type: ignore[arg-type]


def test_rows_are_digits_of_the_enumerative_code_the_first_the_lowest() -> None:
    form = MaskFormat("enumerative", 2, 5, 2)
    base = math.comb(5, 2)
    numbers = [3, 0, 9, 7]  # of M_A's two rows, then of M_B's
    rows = sorted(combinations(range(5), 2), key=lambda row: row[::-1])
    masks = np.zeros((4, 5), dtype=bool)
    for mask, number in zip(masks, numbers, strict=True):
        mask[list(rows[number])] = True
    code = form.encode(masks[:2], masks[2:])
    assert len(code) == form.nbytes == 2  # 10 ** 4 masks; row by row it would be 4 bytes
    assert int.from_bytes(code, "little") == sum(x * base**i for i, x in enumerate(numbers))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(
    ("codec", "k"), [("soft32", None), ("soft16", None), ("bits", None), ("bits", 5)]
    + [("enumerative", k) for k in (0, 1, 5, 9, 13)],
)  # fmt: skip
def test_one_code_a_mask(codec: Any, k: int | None, sides: Any) -> None:
    form = MaskFormat(codec, 3, 13, k, sides)
    for seed in range(20):
        if form.soft:
            masks = np.random.default_rng(seed).normal(size=(2, 3, 13)).astype(np.float32)
            masks = masks.astype(np.float16).astype(np.float32) if codec == "soft16" else masks
            masks[0, 0, :2] = 0.0, -0.0
        else:
            masks = hard(seed, 2, 3, 13, k=seed % 14 if k is None else k)
        code = form.encode(*pair(form, masks))
        assert len(code) == form.nbytes
        assert same(form.decode(code), pair(form, masks))
        assert form.encode(*form.decode(code)) == code


@pytest.mark.parametrize(("n", "k"), [(100, 50), (150, 75), (400, 50), (400, 390), (800, 400)])
def test_large_masks_come_back(n: int, k: int) -> None:
    codecs: tuple[Codec, ...] = ("bits", "enumerative")
    for codec in codecs:
        form = MaskFormat(codec, 12, n, k)
        masks = hard(n + k, 2, 12, n, k=k)
        masks[0, 0], masks[0, 1] = np.arange(n) < k, np.arange(n) >= n - k  # first and last number
        code = form.encode(masks[0], masks[1])
        assert same(form.decode(code), (masks[0], masks[1]))


@pytest.mark.parametrize("codec", ["soft32", "soft16", "bits", "enumerative"])
def test_many_profiles_are_each_one_alone(codec: Any) -> None:
    form = MaskFormat(codec, 2, 21, 6 if codec == "enumerative" else None)
    down, up = hard(1, 5, 2, 21, k=6), hard(2, 5, 2, 21, k=6)
    codes = form.encode_many(down, up)
    assert codes.shape == (5, form.nbytes) and codes.dtype == np.uint8
    assert [code.tobytes() for code in codes] == [
        form.encode(*both) for both in zip(down, up, strict=True)
    ]
    several = form.decode_many(codes)
    for profile in range(5):
        alone = form.decode(codes[profile].tobytes())
        assert same(alone, (several[0][profile], several[1][profile]))  # type: ignore[index]
    none = form.encode_many(down[:0], up[:0])
    assert none.shape == (0, form.nbytes) and form.decode_many(none)[0].shape == (0, 2, 21)  # type: ignore[union-attr]


def test_bit_sets_of_many_profiles() -> None:
    masks = np.random.default_rng(0).random((40, 6, 100)) < 0.5
    codes = encode_bits(masks)
    assert codes.shape == (40, 6 * 13)
    assert np.array_equal(decode_bits(codes, 6, 100), masks)
    with pytest.raises(CodecError, match="found 78 bytes, expected 5 rows of 13 bytes"):
        decode_bits(codes, 5, 100)


def test_memory_order_does_not_matter() -> None:
    masks = np.random.default_rng(0).normal(size=(2, 3, 4))
    fortran = np.asfortranarray(masks)
    form = MaskFormat("soft32", 3, 4)
    assert form.encode(fortran[0], fortran[1]) == form.encode(masks[0], masks[1])
    assert form.encode_many(fortran, fortran).tobytes() == form.encode_many(masks, masks).tobytes()


def test_numbers_of_zero_and_one_are_bits() -> None:
    mask = hard(0, 3, 13, k=5)
    form = MaskFormat("bits", 3, 13, 5)
    for dtype in (np.float32, np.int64, np.uint8):
        assert form.encode(mask.astype(dtype), mask.astype(dtype)) == form.encode(mask, mask)
    halves = np.where(mask, 0.5, 0.0)
    with pytest.raises(CodecError, match=r"block 0, adapter \d+: found 0.5, expected 0 or 1"):
        form.encode(halves, halves)


def test_a_flipped_bit_in_a_bit_set_is_always_noticed() -> None:
    form = MaskFormat("bits", 2, 13, 5)
    masks = hard(0, 2, 2, 13, k=5)
    code = form.encode(masks[0], masks[1])
    for bit in range(8 * len(code)):
        with pytest.raises(CodecError, match="damaged"):
            form.decode(flip(code, bit))
    # Two flips may leave k ones: another valid mask, which only the store's checksum can tell.
    one, zero = np.argmax(masks[0, 0]), np.argmin(masks[0, 0])
    moved = form.decode(flip(flip(code, int(one)), int(zero)))[0]
    assert moved is not None and moved[0].sum() == 5 and not np.array_equal(moved, masks[0])


def test_a_flipped_bit_in_an_enumerative_code_never_gives_the_same_mask() -> None:
    form = MaskFormat("enumerative", 2, 13, 5)  # 1287 ** 4 of the 2 ** 48 numbers in 6 bytes
    masks = hard(0, 2, 2, 13, k=5)
    code = form.encode(masks[0], masks[1])
    outcomes = {"refused": 0, "another": 0}
    for bit in range(8 * len(code)):
        damaged = flip(code, bit)
        try:
            down, up = form.decode(damaged)
        except CodecError:
            outcomes["refused"] += 1
            continue
        assert form.encode(down, up) == damaged != code
        outcomes["another"] += 1
    assert min(outcomes.values()) >= 6  # both happen: a code is not its own checksum


def test_what_is_not_a_code_is_refused_with_its_place() -> None:
    mask = hard(0, 2, 13, k=5)
    bits, numbers = MaskFormat("bits", 2, 13, 5), MaskFormat("enumerative", 2, 13, 5)
    with pytest.raises(
        CodecError, match="found 7 bytes, expected 8 for bits, L = 2, N = 13, k = 5"
    ):
        bits.decode(bits.encode(mask, mask)[:-1])
    with pytest.raises(CodecError, match="found 0 bytes, expected 8"):
        bits.decode(b"")
    with pytest.raises(CodecError, match="profile 0, row 3: found padding bits"):
        bits.decode(flip(bits.encode(mask, mask), 63))
    wrong = np.stack([mask[0], hard(1, 13, k=6)])
    with pytest.raises(CodecError, match="M_B, block 1: found 6 selected adapters, expected k = 5"):
        bits.encode(mask, wrong)
    with pytest.raises(CodecError, match="M_B, block 1: found 4 selected adapters, expected k = 5"):
        numbers.encode_many(mask[None], np.stack([mask[0], hard(1, 13, k=4)])[None])
    limit = math.comb(13, 5) ** 4
    assert numbers.decode((limit - 1).to_bytes(6, "little"))[0] is not None
    with pytest.raises(CodecError, match=r"profile 0: found a code not below C\(13, 5\) \*\* 4"):
        numbers.decode(limit.to_bytes(6, "little"))


def test_soft_masks_must_be_finite_and_fit() -> None:
    mask = np.zeros((2, 3), dtype=np.float32)
    for codec, value in (("soft32", np.nan), ("soft32", 1e39), ("soft16", 70_000.0)):
        bad = mask.astype(np.float64)
        bad[1, 2] = value
        form = MaskFormat(codec, 2, 3)  # type: ignore[arg-type]
        with pytest.raises(CodecError, match=f"M_B, block 1, adapter 2: .* that fits {codec}"):
            form.encode(mask, bad)
    code = MaskFormat("soft32", 2, 3).encode(mask, mask)
    with pytest.raises(CodecError, match="M_A, block 0, adapter 0: found inf"):
        MaskFormat("soft32", 2, 3).decode(np.float32(np.inf).tobytes() + code[4:])


def test_sides_that_do_not_fit_are_refused() -> None:
    mask = hard(0, 2, 13, k=5)
    with pytest.raises(CodecError, match="M_B: found none, expected one for sides = separate"):
        MaskFormat("bits", 2, 13).encode(mask)
    with pytest.raises(CodecError, match="M_B: found a mask, expected none for sides = down"):
        MaskFormat("bits", 2, 13, sides="down").encode(mask, mask)
    with pytest.raises(CodecError, match="M_A and M_B differ"):
        MaskFormat("bits", 2, 13, sides="tied").encode(mask, ~mask)
    with pytest.raises(CodecError, match="found neither"):
        MaskFormat("bits", 2, 13, sides="tied").encode()
    with pytest.raises(CodecError, match=r"found shape \[2, 13\], expected \[L, N\] = \[3, 13\]"):
        MaskFormat("bits", 3, 13).encode(mask, mask)
    tied = MaskFormat("bits", 2, 13, sides="tied")
    assert tied.encode(mask) == tied.encode(mask, mask) == tied.encode(up=mask)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("zip", 2, 3), "codec: found 'zip', expected one of soft32, soft16, bits, enumerative"),
        (("bits", 2, 3, None, "both"), "sides: found 'both'"),
        (("bits", 0, 3), "found 0 blocks and 3 adapters"),
        (("bits", 2, 0), "found 2 blocks and 0 adapters"),
        (("enumerative", 2, 3), "k: enumerative needs"),
        (("enumerative", 2, 3, 4), "k: found 4, expected 0 to N = 3"),
        (("bits", 2, 3, -1), "k: found -1"),
        (("soft32", 2, 3, 1), "k: found 1, expected none"),
    ],
)
def test_impossible_formats_are_refused(arguments: Any, match: str) -> None:
    with pytest.raises(CodecError, match=match):
        MaskFormat(*arguments)
    with pytest.raises(CodecError, match=match):
        code_bytes(*arguments)


def test_the_codec_needs_no_torch() -> None:
    import subprocess
    import sys

    script = (
        "import sys, xpeft.codec; print([m for m in ('torch', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def flip(code: bytes, bit: int) -> bytes:
    """`code` with one bit flipped."""
    damaged = bytearray(code)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
