"""Profiles: their bytes come back to the bit, and what was trained predicts the same after them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profilefactory import (
    BOTTLENECK,
    LABELS,
    LAYERS,
    WIDTH,
    K,
    N,
    large_format,
    make_format,
    make_ids,
    make_profiles,
    same,
    sha,
)

from xpeft.errors import CodecError, StoreError
from xpeft.ids import id_text, parse_id, profile_id
from xpeft.profilefile import read_profiles, write_profiles
from xpeft.profiles import ProfileFormat, Profiles

HEADS = ("private", "binary", "shared", "shared+bias", "none")


# ---------------------------------------------------------------------------------- ids


def test_an_id_is_written_down_once() -> None:
    """A change of it would cut every stored profile off from its author."""
    assert profile_id("huffpost", "Jane Doe") == 0x9FC57117E6A0A376
    assert profile_id("huffpost", "Jane Doe") != profile_id("huffpost\0Jane", "Doe")
    assert parse_id(id_text(2**64 - 1)) == 2**64 - 1
    assert id_text(1) == "0000000000000001"


@pytest.mark.parametrize("text", ["", "1", "00C0FFEE00C0FFEE", "0x00c0ffee00c0ff", "0" * 17])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(StoreError, match="expected 16 hex digits"):
        parse_id(text)


# ------------------------------------------------------------------------------- format


def test_a_format_is_plain_json() -> None:
    form = make_format()
    again = ProfileFormat.from_dict(form.to_dict())
    assert again == form
    assert again.digest() == form.digest()
    assert len({make_format(bank=f"seed {i}").digest() for i in range(3)}) == 3
    assert make_format(head="none").digest() != form.digest()


def test_bytes_by_formula() -> None:
    masks = 2 * LAYERS * -(-N // 8)
    norm, gain, head = 4 * 2 * LAYERS * BOTTLENECK, 4 * 2 * LAYERS, 4 * 3 * (WIDTH + 1)
    plain: dict[str, Any] = {"norm": "fixed", "learned_gain": False}
    assert make_format(head="none", **plain).payload_bytes == masks
    assert make_format().payload_bytes == masks + norm + gain + head
    assert make_format(head="shared").payload_bytes == masks + norm + gain
    assert make_format(head="shared+bias", **plain).payload_bytes == masks + 4 * 3
    assert make_format(head="binary", **plain).payload_bytes == masks + 2 * (WIDTH // 8 + 4 + 4)
    assert make_format("soft32", head="none", **plain).payload_bytes == 4 * 2 * LAYERS * N
    assert make_format(head="none", sides="tied", **plain).payload_bytes == masks // 2
    assert large_format().payload_bytes == 312


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"name": "x"}}, "encoder: found name, expected the keys"),
        ({"bank": None}, "bank: found None, expected the keys"),
        ({"n": N + 1}, r"bank.n: found 20, expected n = 21"),
        ({"layers": 0}, "layers: found 0, expected an integer from 1"),
        ({"layers": True}, "layers: found True"),
        ({"labels": ("a", "a")}, "labels: found a, a, expected each name once"),
        ({"labels": "ab"}, "labels: found 'ab', expected a tuple"),
        ({"head": "mine"}, "head: found 'mine', expected one of private"),
        ({"head": "binary", "width": WIDTH + 1}, "width: found 17, expected an even one"),
        ({"codec": "soft32"}, "k: found 5, expected none: soft32"),
        ({"codec": "bits", "method": {"mask": "soft"}}, "codec: found bits for soft masks"),
        ({"codec": "zip"}, "codec: found 'zip'"),
        ({"method": {"method": "head_only"}}, "method: found head_only with mask None"),
        ({"method": {"mask": "hard"}}, "method.k: found None, expected 1 to N = 20"),
        ({"method": {"mask": "hard", "k": 21}}, "method.k: found 21"),
        ({"method": {"mask": "hard", "k": 5, "speed": 1}}, "method.speed: unknown setting"),
        ({"method": {"mask": "hard", "k": "5"}}, "method.k: found '5', expected int"),
    ],
)
def test_formats_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        replace(make_format(), **change)


@pytest.mark.parametrize("part", ["encoder", "bank"])
def test_digests_are_digests(part: str) -> None:
    value = {**getattr(make_format(), part), "sha256": "abc"}
    with pytest.raises(StoreError, match=rf"{part}.sha256: found 'abc', expected 64 hex digits"):
        replace(make_format(), **{part: value})
    value = {**value, "sha256": 3}
    with pytest.raises(StoreError, match=rf"{part}.sha256: found 3, expected str"):
        replace(make_format(), **{part: value})


def test_fields_are_all_there_and_no_others() -> None:
    whole = make_format().to_dict()
    for wrong in ({**whole, "speed": 1}, {k: v for k, v in whole.items() if k != "n"}, [], None):
        with pytest.raises(StoreError, match="missing or unknown fields"):
            ProfileFormat.from_dict(wrong)


# --------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("sides", ["separate", "tied", "down", "up"])
@pytest.mark.parametrize("codec", ["bits", "enumerative", "soft32", "soft16"])
def test_bytes_come_back(codec: Any, sides: str, head: Any) -> None:
    form = make_format(codec, head, sides=sides)
    profiles = make_profiles(form, 7)
    data = form.encode(profiles)
    assert data.shape == (7, form.payload_bytes)
    assert same(form.decode(profiles.ids, data), profiles)
    empty = profiles.take([])
    assert same(form.decode(empty.ids, form.encode(empty)), empty)


@pytest.mark.parametrize(
    ("head", "floats"),
    [
        ("private", ("norm_weight", "norm_bias", "gain", "head_weight", "head_bias")),
        ("binary", ("norm_weight", "norm_bias", "gain", "head_scale", "head_bias")),
    ],
)
def test_the_layout_of_the_bytes(head: Any, floats: tuple[str, ...]) -> None:
    form = make_format(head=head)
    profiles = make_profiles(form, 2)
    assert profiles.down is not None and profiles.up is not None
    data = form.encode(profiles)[1].tobytes()
    parts = [form.mask_format.encode(profiles.down[1], profiles.up[1])]
    if head == "binary":
        assert profiles.head_signs is not None and profiles.head_signs.shape == (2, 2, WIDTH)
        parts.append(np.packbits(profiles.head_signs[1], axis=1, bitorder="little").tobytes())
    for name in floats:
        parts.append(getattr(profiles, name)[1].astype("<f4").tobytes())
    assert data == b"".join(parts)


def test_one_flipped_sign_is_found() -> None:
    form = make_format(head="binary")
    profiles = make_profiles(form, 3)
    data = form.encode(profiles)
    data[1, form.mask_format.nbytes + 2] ^= 4
    with pytest.raises(StoreError, match=r"head_signs of profile .*, row 1: found [79] plus signs"):
        form.decode(profiles.ids, data)
    assert profiles.head_signs is not None
    with pytest.raises(StoreError, match="row 0: found 16 plus signs, expected half of 16"):
        form.encode(replace(profiles, head_signs=np.ones_like(profiles.head_signs)))


def test_signs_of_zero_and_the_smallest_numbers_come_back() -> None:
    form = make_format("soft32")
    profiles = make_profiles(form, 1)
    assert profiles.down is not None and profiles.gain is not None
    profiles.down[0, 0, :3] = -0.0, 1e-45, 3.4e38
    profiles.gain[0, 0] = -0.0, 1e-45
    assert same(form.decode(profiles.ids, form.encode(profiles)), profiles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": None}, "gain: found none, expected values"),
        ({"head_bias": None}, "head_bias: found none, expected values"),
        ({"norm_weight": np.zeros((3, 2, 5), np.float32)}, r"norm_weight: found shape \[2, 5\]"),
        ({"gain": np.full((3, 2, 2), np.nan, np.float32)}, "gain of profile .*: found NaN"),
    ],
)
def test_parts_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    form = make_format()
    with pytest.raises(StoreError, match=message):
        form.encode(replace(make_profiles(form, 3), **change))


def test_no_part_of_a_binary_head_is_left_where_there_is_no_head() -> None:
    from tiny import tiny_encoder

    from xpeft.bank import random_bank
    from xpeft.heads import init_binary_head
    from xpeft.job import MethodSpec
    from xpeft.methods import BankMasks

    encoder = tiny_encoder()
    masks = BankMasks(encoder, random_bank(2, 6, 16, 4), MethodSpec(mask="hard", k=2))
    parameters = {**masks.init([0]), **init_binary_head([0], 3, encoder)}
    kept = {
        head: set(Profiles.from_parameters([1], parameters, masks, head=head).arrays())
        for head in ("binary", "none", "shared")
    }
    assert kept["none"] == kept["shared"] == {"down", "up"}
    assert kept["binary"] == {"down", "up", "head_signs", "head_scale", "head_bias"}


def test_superfluous_parts_are_refused() -> None:
    private = make_profiles(make_format(), 3)
    with pytest.raises(StoreError, match="head_weight: found values, expected none"):
        make_format(head="shared").encode(private)
    with pytest.raises(StoreError, match="norm_weight: found values, expected none"):
        make_format(norm="fixed").encode(private)


def test_masks_that_do_not_fit() -> None:
    form, profiles = make_format(), make_profiles(make_format(), 3)
    assert profiles.down is not None
    with pytest.raises(CodecError, match=f"expected k = {K}"):
        form.encode(replace(profiles, down=~profiles.down))
    with pytest.raises(CodecError, match="M_B: found none"):
        form.encode(replace(profiles, up=None))


def test_bytes_that_are_none_of_the_format() -> None:
    form, ids = make_format(), make_ids(1)
    data = form.encode(make_profiles(form, 1))
    with pytest.raises(StoreError, match="bytes, expected"):
        form.decode(ids, data[:, 1:])
    damaged = data.copy()
    damaged[0, 0] ^= 1
    with pytest.raises(CodecError, match="selected adapters"):
        form.decode(ids, damaged)
    damaged = data.copy()
    damaged[0, -4:] = np.array([np.inf], "<f4").view(np.uint8)
    with pytest.raises(StoreError, match=f"head_bias of profile {id_text(int(ids[0]))}"):
        form.decode(ids, damaged)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": np.arange(2)}, r"ids: found int64 \[2\], expected uint64"),
        ({"ids": np.zeros((2, 1), np.uint64)}, r"ids: found uint64 \[2, 1\]"),
        ({"down": np.zeros((2, 2, 20), np.int64)}, "down: found int64 .*, expected bool or float"),
        (
            {"head_signs": np.zeros((2, 1, 16), np.float32)},
            "head_signs: found .* bool of",
        ),
        ({"gain": np.zeros((2, 2, 2))}, "gain: found float64 .*, expected float32"),
        ({"gain": np.zeros((3, 2, 2), np.float32)}, "expected float32 of 2 profiles"),
    ],
)
def test_arrays_that_are_no_profiles(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Profiles(**{"ids": np.arange(2, dtype=np.uint64), **fields})


# ---------------------------------------------------------------------------------- file


@pytest.mark.parametrize(
    ("codec", "head"), [("bits", "private"), ("bits", "binary"), ("soft32", "private")]
)
def test_a_file_of_profiles_comes_back(codec: Any, head: Any, tmp_path: Path) -> None:
    form = make_format(codec, head)
    profiles = make_profiles(form, 5)
    write_profiles(tmp_path / "p.safetensors", profiles, form)
    again, found = read_profiles(tmp_path / "p.safetensors")
    assert same(again, profiles)
    assert found == form


def test_files_of_others_are_read_too(tmp_path: Path) -> None:
    """As torch's users write them: signed ids, bytes for bits, `format: pt` in the metadata."""
    from safetensors.numpy import save_file

    profiles = make_profiles(make_format(head="none"), 5)
    assert profiles.down is not None
    tensors = {"ids": profiles.ids.view(np.int64), **profiles.arrays()}
    tensors["down"] = profiles.down.astype(np.uint8)
    save_file(tensors, tmp_path / "p.safetensors", {"format": "pt"})
    again, found = read_profiles(tmp_path / "p.safetensors")
    assert same(again, profiles)
    assert found is None


def test_files_that_are_no_profiles(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path, ids = tmp_path / "p.safetensors", make_ids(2)
    with pytest.raises(StoreError, match="no such file"):
        read_profiles(path)
    for tensors, message in (
        ({"down": np.zeros(1)}, "found no ids"),
        ({"ids": ids, "speed": np.zeros(2)}, "found the tensor speed"),
        ({"ids": ids.astype(np.int32)}, "ids: found int32"),
        ({"ids": ids, "down": np.full((2, 1, 1), 2, np.uint8)}, "found 2, expected 0 or 1"),
    ):
        save_file(tensors, path)
        with pytest.raises(StoreError, match=message):
            read_profiles(path)
    save_file({"ids": ids}, path, {"xpeft_format": "{}"})
    with pytest.raises(StoreError, match="missing or unknown fields"):
        read_profiles(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match="cannot be read as profiles"):
        read_profiles(path)


# ------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    ("method", "codec"),
    [
        ({"mask": "hard", "k": 3}, "bits"),
        ({"mask": "hard", "k": 3, "norm": "none", "learned_gain": True}, "enumerative"),
        ({"mask": "hard", "k": 3, "sides": "tied", "norm": "affine"}, "bits"),
        ({"mask": "hard", "k": 5, "center": True, "estimator": "sigmoid"}, "bits"),
        ({"mask": "soft", "norm": "affine", "learned_gain": True}, "soft32"),
        ({"mask": "soft", "activation": "softmax", "sides": "down"}, "soft32"),
        ({"mask": "soft", "sides": "up"}, "soft32"),
    ],
)
def test_what_was_trained_and_stored_predicts_the_same(
    method: dict[str, Any], codec: Any, tmp_path: Path
) -> None:
    import torch
    from tiny import tiny_encoder, tiny_tokens

    from xpeft.bank import random_bank
    from xpeft.fitting import EncodedFeatures
    from xpeft.heads import init_head, linear_heads
    from xpeft.job import MethodSpec
    from xpeft.methods import BankMasks
    from xpeft.store import ProfileStore

    encoder = tiny_encoder(torch.float32)
    spec = MethodSpec(**method)
    bank = random_bank(encoder.layers, 10, encoder.width, 4, down_std=0.3, up_std=0.3)
    masks = BankMasks(encoder, bank, spec)
    trained = {**masks.init([0, 1, 2]), **init_head([0, 1, 2], 3, encoder)}
    noise = torch.Generator().manual_seed(0)
    trained = {
        name: value + torch.randn(value.shape, generator=noise) for name, value in trained.items()
    }
    form = ProfileFormat.of(encoder, bank, spec, LABELS, codec=codec)
    ids = make_ids(3)
    with ProfileStore.create(tmp_path / "s.xps", form) as store:
        store.put_many(Profiles.from_parameters(ids, trained, masks))
    with ProfileStore.open(
        tmp_path / "s.xps", encoder_sha256=encoder.digest, bank_sha256=bank.digest
    ) as store:
        stored = store.get_many(ids).to_parameters()
    assert set(stored) == set(trained)
    for before, after in zip(masks.masks(trained), masks.masks(stored), strict=True):
        assert torch.equal(before, after)

    tokens, owners = tiny_tokens(9), torch.arange(9) % 3

    @torch.no_grad()
    def logits(parameters: Any) -> Any:
        vectors = EncodedFeatures(encoder, masks)(tokens, np.arange(9), owners, parameters)
        return linear_heads(vectors, parameters["head.weight"], parameters["head.bias"], owners)

    assert torch.equal(logits(stored), logits(trained))
    assert not torch.equal(
        logits(stored), logits({**stored, "head.bias": trained["head.bias"] + 1})
    )


def test_parameters_in_and_out() -> None:
    import torch
    from tiny import tiny_encoder

    from xpeft.bank import random_bank
    from xpeft.heads import init_head
    from xpeft.job import MethodSpec
    from xpeft.methods import BankMasks

    encoder = tiny_encoder(torch.float32)
    masks = BankMasks(encoder, random_bank(2, 6, 16, 4), MethodSpec(mask="hard", k=2))
    parameters = {**masks.init([0, 1]), **init_head([0, 1], 3, encoder)}
    made = {
        head: Profiles.from_parameters([1, 2], parameters, masks, head=head)  # type: ignore[arg-type]
        for head in HEADS
        if head != "binary"
    }
    assert {head: sorted(set(p.arrays()) - {"down", "up"}) for head, p in made.items()} == {
        "private": ["head_bias", "head_weight"],
        "shared": [],
        "shared+bias": ["head_bias"],
        "none": [],
    }
    before = made["private"].head_bias
    assert before is not None
    parameters["head.bias"].add_(1)  # what was taken is a copy
    assert not before.any()
    with pytest.raises(StoreError, match="found scale, expected only mask_a"):
        Profiles.from_parameters([1, 2], {**parameters, "scale": torch.ones(2)}, masks)
    with pytest.raises(StoreError, match="expected bool or float32 of 1 profiles"):
        Profiles.from_parameters([1], parameters, masks)


def test_formats_of_real_parts() -> None:
    import torch
    from tiny import tiny_encoder

    from xpeft.bank import random_bank
    from xpeft.job import MethodSpec

    encoder, bank = tiny_encoder(torch.float32), random_bank(2, 6, 16, 4, seed=3)
    form = ProfileFormat.of(encoder, bank, MethodSpec(mask="hard", k=2), ["a", "b"])
    assert (form.codec, form.encoder["dtype"], form.bank["sha256"]) == (
        "bits",
        "float32",
        bank.digest,
    )
    assert ProfileFormat.from_dict(form.to_dict()) == form
    soft = ProfileFormat.of(encoder, bank, MethodSpec(mask="soft"), (), head="shared+bias")
    assert (soft.codec, soft.outputs) == ("soft32", 1)
    assert soft.spec == MethodSpec(mask="soft")
    assert sha("encoder") != form.encoder["sha256"] == encoder.digest
