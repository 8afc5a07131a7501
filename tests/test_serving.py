"""Serving: what was trained is what is served, in any company, whatever the cache does."""

from __future__ import annotations

import dataclasses
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from localencoder import save_encoder

import xpeft
from xpeft.bank import Bank, random_bank, save_bank
from xpeft.encoder import Encoder, load_encoder
from xpeft.errors import BankError, ConfigError, EncoderError, StoreError
from xpeft.fitting import EncodedFeatures, ProfileData, fit, predict
from xpeft.heads import own_head, reference_row
from xpeft.ids import id_text
from xpeft.job import BankSpec, EncoderSpec, MethodSpec
from xpeft.layers import BlockAdapters
from xpeft.methods import BankMasks
from xpeft.optimizer import Schedule
from xpeft.profiles import ProfileFormat, Profiles
from xpeft.serving import XPeft
from xpeft.store import ProfileStore

LAYERS, N, WIDTH, BOTTLENECK = 2, 12, 16, 4
LABELS = ("no", "perhaps", "yes")
IDS = [7, 2**64 - 1, 0, 2**63]
UNKNOWN = 99
SPECS = {
    "dense": MethodSpec(mask="hard", k=5, norm="fixed"),
    "few": MethodSpec(mask="hard", k=3, norm="affine", learned_gain=True),
    "tied": MethodSpec(mask="hard", k=2, norm="none", sides="tied"),
    "up": MethodSpec(mask="hard", k=6, center=True, sides="up"),
    "soft": MethodSpec(mask="soft", norm="affine", learned_gain=True),
}
WORDS = "the food service music was not but although".split()
TEXTS = [
    " ".join(WORDS[(i * 5 + j * (i % 3 + 1)) % len(WORDS)] for j in range(1 + i * 7 % 13))
    for i in range(37)
]
OWNERS = [IDS[i * i % len(IDS)] for i in range(len(TEXTS))]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A sum over rows may be cut differently for other numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def spec(folder: Path) -> EncoderSpec:
    return EncoderSpec("tiny", "local", path=str(folder), dtype="float32", max_length=32)


@pytest.fixture(scope="module")
def encoder(spec: EncoderSpec) -> Encoder:
    return load_encoder(spec)


def make_bank(seed: int = 0, **changes: Any) -> Bank:
    return random_bank(LAYERS, N, WIDTH, BOTTLENECK, seed=seed, down_std=0.3, up_std=0.3, **changes)


BANK = make_bank()


@dataclass(frozen=True)
class Trained:
    """Profiles as they came out of training, and the store that they were put into."""

    encoder: Encoder
    method: BankMasks
    parameters: dict[str, torch.Tensor]
    path: Path

    def expected(self, place: int, batch_size: int = 8) -> np.ndarray:
        """What the trainer predicts for all texts with one of the profiles."""
        features = EncodedFeatures(self.encoder, self.method)
        tokens = self.encoder.tokenize(TEXTS)
        shared = reference_row(len(LABELS), self.encoder)
        outputs = predict(
            features, self.parameters, place, tokens, shared=shared, batch_size=batch_size
        )
        return outputs.numpy()

    def load(self, **options: Any) -> XPeft:
        return XPeft.load(self.encoder, BANK, self.path, **options)


def trained(
    encoder: Encoder, path: Path, name: str = "few", bank: Bank = BANK, head: Any = "private"
) -> Trained:
    """Train a profile for each of IDS and store them."""
    method = BankMasks(encoder, bank, SPECS[name])
    tokens = encoder.tokenize(TEXTS)
    labels = np.arange(len(TEXTS)) % len(LABELS)
    profiles = [ProfileData(np.arange(p, len(TEXTS)), np.roll(labels, p)[p:], p) for p in range(4)]
    kind = "binary" if head == "binary" else "private"
    parameters = {**method.init(range(4)), **own_head(kind, range(4), len(LABELS), encoder)}
    common = reference_row(len(LABELS), encoder)
    schedules = [Schedule(steps=4, lr=0.3, head_lr=0.1)] * 4
    features = EncodedFeatures(encoder, method)
    fitted = fit(
        features, parameters, tokens, profiles, schedules, shared=common, batch_size=16
    ).parameters
    shared = None
    if head in ("shared", "shared+bias"):  # that of the first profile, for all
        names = ("head.weight", "head.bias")[: 2 if head == "shared" else 1]
        for part in names:
            fitted[part] = fitted[part][:1].expand_as(fitted[part]).clone()
        shared = (fitted["head.weight"][0].numpy(), fitted["head.bias"][0].numpy())
    form = ProfileFormat.of(encoder, bank, method.spec, LABELS, head=head)
    with ProfileStore.create(path, form, shared) as store:
        store.put_many(Profiles.from_parameters(IDS, fitted, method, head=head))
    return Trained(encoder, method, fitted, path)


@pytest.fixture(scope="module")
def kept(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A store that no test changes."""
    return trained(encoder, tmp_path_factory.mktemp("kept") / "profiles.xps")


# What was trained is what is served


@pytest.mark.parametrize("name", SPECS)
def test_trained_stored_and_loaded_predicts_the_same_bits(
    name: str, encoder: Encoder, tmp_path: Path
) -> None:
    made = trained(encoder, tmp_path / "profiles.xps", name)
    with made.load() as served:
        seen = []
        for place, identity in enumerate(IDS):
            expected = made.expected(place)
            found = served.logits(TEXTS, identity, batch_size=8)
            assert found.dtype == np.float32 and np.array_equal(found, expected)
            seen.append(expected)
        assert not np.array_equal(seen[0], seen[1])


def test_a_binary_head(encoder: Encoder, tmp_path: Path) -> None:
    made = trained(encoder, tmp_path / "profiles.xps", "dense", head="binary")
    with made.load() as served:
        mixed = served.logits(TEXTS, OWNERS)
        assert not mixed[:, 0].any() and mixed[:, 1:].all()  # the first class is the reference
        for place, identity in enumerate(IDS):
            alone = served.logits(TEXTS, identity, batch_size=8)
            assert np.array_equal(alone, made.expected(place))
        blocks = LAYERS * 2 * WIDTH * BOTTLENECK * 4
        head = len(LABELS) * (WIDTH + 1) * 4
        assert served.cache_info().bytes == len(IDS) * (blocks + head)


@pytest.mark.parametrize("head", ["shared", "shared+bias"])
def test_a_shared_head(head: str, encoder: Encoder, tmp_path: Path) -> None:
    made = trained(encoder, tmp_path / "profiles.xps", "dense", head=head)
    with made.load() as served:
        for place, identity in enumerate(IDS):
            assert np.array_equal(
                served.logits(TEXTS, identity, batch_size=8), made.expected(place)
            )
        blocks = LAYERS * 2 * WIDTH * BOTTLENECK * 4
        own = {"shared": 0, "shared+bias": len(LABELS) * 4}[head]
        assert served.cache_info().bytes == len(IDS) * (blocks + own)


def test_a_bank_with_biases_and_a_stored_bank(encoder: Encoder, tmp_path: Path) -> None:
    bank = dataclasses.replace(
        BANK, down_bias=make_bank(1).down[:, :, 0], up_bias=make_bank(2).up[:, :, 0], kind="trained"
    )
    save_bank(bank, tmp_path / "bank")
    made = trained(encoder, tmp_path / "profiles.xps", bank=bank)
    with XPeft.load(encoder, tmp_path / "bank", made.path) as served:
        for place, identity in enumerate(IDS):
            assert np.array_equal(
                served.logits(TEXTS, identity, batch_size=8), made.expected(place)
            )
    with pytest.raises(BankError, match="found none, expected the trained bank of digest"):
        XPeft.load(encoder, None, made.path)


def test_a_row_of_a_mixed_batch_is_that_of_a_batch_of_its_profile(kept: Trained) -> None:
    with kept.load() as served:
        alone = {identity: served.logits(TEXTS, identity) for identity in IDS}
        mixed = served.logits(TEXTS, OWNERS)
        for row, identity in enumerate(OWNERS):
            assert np.array_equal(mixed[row], alone[identity][row])
        assert len({tuple(alone[identity][3]) for identity in IDS}) == len(IDS)


def test_results_come_in_the_order_of_the_texts(kept: Trained) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    with kept.load() as served:
        plain = served.logits(TEXTS, OWNERS, batch_size=5)
        turned = served.logits([TEXTS[i] for i in order], [OWNERS[i] for i in order], batch_size=5)
        np.testing.assert_allclose(turned, plain[order], rtol=1e-4, atol=1e-5)


def test_codes_names_and_vectors(kept: Trained) -> None:
    with kept.load() as served:
        logits = served.logits(TEXTS, OWNERS)
        codes = served.predict(TEXTS, OWNERS)
        assert codes.dtype == np.int64 and np.array_equal(codes, logits.argmax(axis=1))
        assert len(set(codes.tolist())) > 1
        assert served.labels(TEXTS, OWNERS) == [LABELS[code] for code in codes]
        vectors = served.vectors(TEXTS, OWNERS)
        places = [IDS.index(identity) for identity in OWNERS]
        weight, bias = (kept.parameters[f"head.{part}"].numpy() for part in ("weight", "bias"))
        by_hand = np.einsum("rcd,rd->rc", weight[places], vectors) + bias[places]
        np.testing.assert_allclose(by_hand, logits, rtol=1e-4, atol=1e-5)


def test_pairs(kept: Trained) -> None:
    with kept.load() as served:
        texts, pairs = TEXTS[:20], TEXTS[17:]
        first, second = served.logits(texts, IDS[0], pairs), served.logits(texts, IDS[0])
        assert first.shape == second.shape and not np.allclose(first, second)
        tokens = served.encoder.tokenize(texts, pairs)
        features = EncodedFeatures(kept.encoder, kept.method)
        assert np.array_equal(first, predict(features, kept.parameters, 0, tokens).numpy())


def test_ids_as_hex_digits_and_arrays_and_no_texts_at_all(kept: Trained) -> None:
    with kept.load() as served:
        expected = served.predict(TEXTS, OWNERS)
        assert np.array_equal(served.predict(TEXTS, [id_text(i) for i in OWNERS]), expected)
        assert np.array_equal(served.predict(TEXTS, np.array(OWNERS, dtype=np.uint64)), expected)
        assert served.predict([], []).shape == (0,)
        assert served.logits([], IDS[0]).shape == (0, len(LABELS))
        assert served.vectors([], IDS[0]).shape == (0, WIDTH)


@pytest.mark.parametrize("head", ["private", "binary"])
def test_numbers_of_a_regression(head: Any, encoder: Encoder, tmp_path: Path) -> None:
    method = BankMasks(encoder, BANK, SPECS["dense"])
    parameters = {**method.init([0]), **own_head(head, [0], 1, encoder)}
    form = ProfileFormat.of(encoder, BANK, method.spec, (), head=head)
    with ProfileStore.create(tmp_path / "profiles.xps", form) as store:
        store.put(Profiles.from_parameters([1], parameters, method))
        served = XPeft.load(encoder, BANK, store)
        numbers = served.predict(TEXTS, 1)
        assert numbers.dtype == np.float64
        assert np.array_equal(numbers.astype(np.float32), served.logits(TEXTS, 1)[:, 0])
        with pytest.raises(ConfigError, match="give numbers, not classes; use predict"):
            served.labels(TEXTS, 1)
        served.close()
        assert 1 in store  # a store that was given open is left open


def test_a_store_without_heads_gives_vectors(encoder: Encoder, tmp_path: Path) -> None:
    method = BankMasks(encoder, BANK, SPECS["few"])
    form = ProfileFormat.of(encoder, BANK, method.spec, LABELS, head="none")
    with ProfileStore.create(tmp_path / "profiles.xps", form) as store:
        store.put(Profiles.from_parameters([1], method.init([0]), method))
    with XPeft.load(encoder, BANK, tmp_path / "profiles.xps") as served:
        assert served.vectors(TEXTS, 1).shape == (len(TEXTS), WIDTH)
        with pytest.raises(StoreError, match="found a store without heads"):
            served.predict(TEXTS, 1)


# Nothing is served that was not asked for


@pytest.fixture
def never_encodes(kept: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was used")

    monkeypatch.setattr(kept.encoder.model, "forward", forbidden)


@pytest.mark.usefixtures("never_encodes")
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"profile_ids": [*IDS[:2], UNKNOWN]}, StoreError, f"no profile {id_text(UNKNOWN)}"),
        ({"profile_ids": UNKNOWN}, StoreError, f"no profile {id_text(UNKNOWN)}"),
        ({"profile_ids": [*IDS[:2], -1]}, StoreError, "found -1, expected 0 to"),
        ({"profile_ids": [*IDS[:2], 2**64]}, StoreError, "expected 0 to"),
        ({"profile_ids": [*IDS[:2], 1.0]}, StoreError, "found 1.0, expected an integer or 16 hex"),
        ({"profile_ids": [*IDS[:2], True]}, StoreError, "found True, expected an integer"),
        ({"profile_ids": [*IDS[:2], None]}, StoreError, "found None, expected an integer"),
        ({"profile_ids": "anna"}, StoreError, "found 'anna', expected 16 hex digits"),
        ({"profile_ids": IDS}, ConfigError, "profile_ids: found 4, expected one for each of 3"),
        ({"pairs": ["a"]}, ConfigError, "pairs: found 1, expected one for each of 3 texts"),
        ({"texts": "a text"}, ConfigError, "found one text, expected a sequence of texts"),
        ({"pairs": "abc"}, ConfigError, "found one text, expected a sequence of texts"),
        ({"batch_size": 0}, ConfigError, "batch_size: found 0, expected 1 or more"),
    ],
)
def test_bad_arguments(
    changed: dict[str, Any], error: type[Exception], message: str, kept: Trained
) -> None:
    with kept.load() as served:
        arguments = {"texts": TEXTS[:3], "profile_ids": IDS[:3], "pairs": None, "batch_size": 2}
        with pytest.raises(error, match=message):
            served.predict(**{**arguments, **changed})
        assert served.cache_info().misses == 0


def test_a_damaged_profile_is_named_and_not_served(encoder: Encoder, tmp_path: Path) -> None:
    made = trained(encoder, tmp_path / "profiles.xps")
    with sqlite3.connect(made.path) as connection:
        (data,) = connection.execute("SELECT data FROM profiles WHERE id = 7").fetchone()
        data = bytes([data[0] ^ 1]) + data[1:]
        connection.execute("UPDATE profiles SET data = ? WHERE id = 7", (data,))
    connection.close()
    with made.load() as served:
        for _ in range(2):
            with pytest.raises(StoreError, match=f"profile {id_text(7)}: found a checksum"):
                served.predict(TEXTS, OWNERS)
        assert np.array_equal(served.logits(TEXTS, 0, batch_size=8), made.expected(2))


def test_parts_that_do_not_belong_together_are_refused(
    encoder: Encoder, spec: EncoderSpec, kept: Trained
) -> None:
    with pytest.raises(StoreError, match=r"bank: found digest .* mean nothing with another"):
        XPeft.load(encoder, make_bank(seed=1), kept.path)
    with pytest.raises(StoreError, match="bank: found digest"):
        XPeft.load(encoder, BankSpec(n=N, reduction=4, down_std=0.3, up_std=0.2), kept.path)
    with pytest.raises(EncoderError, match="found pooling cls, expected mean"):
        XPeft.load(dataclasses.replace(spec, pooling="cls"), BANK, kept.path)
    with pytest.raises(EncoderError, match="found max_length 16, expected 32"):
        XPeft.load(dataclasses.replace(spec, max_length=16), BANK, kept.path)
    with pytest.raises(EncoderError, match="found dtype float64, expected float32"):
        XPeft.load(load_encoder(dataclasses.replace(spec, dtype="float64")), BANK, kept.path)
    other = load_encoder(spec)
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    changed = Encoder(_unwrapped(other), other.tokenizer, name="other", max_length=32)
    with pytest.raises(StoreError, match="encoder: found digest"):
        XPeft.load(changed, BANK, kept.path)
    with pytest.raises(ConfigError, match="cache_bytes: found -1"):
        kept.load(cache_bytes=-1)
    with pytest.raises(StoreError, match="no such file"):
        XPeft.load(encoder, BANK, kept.path.with_name("elsewhere.xps"))


def _unwrapped(encoder: Encoder) -> Any:
    """The transformers model as it was before its LayerNorms were wrapped."""
    for block in encoder.model.encoder.layer:
        block.output.LayerNorm = block.output.LayerNorm.norm
    return encoder.model


def test_specs_and_the_store_alone_are_enough(spec: EncoderSpec, kept: Trained) -> None:
    """dtype `auto` is that of the profiles, and a random bank is made from the store's recipe."""
    banks = [None, BankSpec(n=N, reduction=4, down_std=0.3, up_std=0.3)]
    for bank in banks:
        with XPeft.load(dataclasses.replace(spec, dtype="auto"), bank, kept.path) as served:
            assert served.encoder.dtype == torch.float32
            assert np.array_equal(served.logits(TEXTS, 7, batch_size=8), kept.expected(0))
    with XPeft.load(dataclasses.replace(spec, dtype="float64"), None, kept.path) as served:
        wider = served.logits(TEXTS, 7, batch_size=8)  # another dtype, because it was asked for
        assert wider.dtype == np.float64
        np.testing.assert_allclose(wider, kept.expected(0), rtol=1e-3, atol=1e-4)


# The cache


PROFILE_BYTES = 4 * (LAYERS * (2 * WIDTH * BOTTLENECK + 2 * BOTTLENECK) + len(LABELS) * (WIDTH + 1))


def test_adapters_are_made_once_and_counted(kept: Trained) -> None:
    with kept.load() as served:
        assert served.cache_info().profiles == served.cache_info().bytes == 0
        first = served.logits(TEXTS, OWNERS)
        info = served.cache_info()
        seen = len(set(OWNERS))
        assert (info.profiles, info.misses, info.hits, info.evicted) == (seen, seen, 0, 0)
        assert info.bytes == seen * PROFILE_BYTES
        assert np.array_equal(served.logits(TEXTS, OWNERS), first)
        assert (served.cache_info().misses, served.cache_info().hits) == (seen, seen)
        for ready in served._cache._kept.values():  # copies, not views that keep a batch alive
            for block in ready.blocks:
                assert block.down.untyped_storage().nbytes() == block.down.nbytes
                assert block.up.untyped_storage().nbytes() == block.up.nbytes


def test_the_least_recently_used_goes_first(kept: Trained) -> None:
    with kept.load(cache_bytes=2 * PROFILE_BYTES) as served:
        for identity in (IDS[0], IDS[1], IDS[0], IDS[2]):
            served.predict(TEXTS[:2], identity)
        assert list(served._cache._kept) == [IDS[0], IDS[2]]
        info = served.cache_info()
        assert (info.profiles, info.bytes, info.evicted) == (2, 2 * PROFILE_BYTES, 1)
        assert (info.hits, info.misses) == (1, 3)


@pytest.mark.parametrize("limit", [0, PROFILE_BYTES - 1, PROFILE_BYTES, 10**9])
def test_results_do_not_depend_on_the_cache(limit: int, kept: Trained) -> None:
    with kept.load() as served:
        expected = served.logits(TEXTS, OWNERS, batch_size=8)
    with kept.load(cache_bytes=limit) as served:
        for _ in range(2):
            assert np.array_equal(served.logits(TEXTS, OWNERS, batch_size=8), expected)
            assert served.cache_info().bytes <= limit


def test_a_profile_that_is_replaced_or_removed_is_noticed(encoder: Encoder, tmp_path: Path) -> None:
    made = trained(encoder, tmp_path / "profiles.xps")
    others = {**made.parameters, "mask_a": -made.parameters["mask_a"]}
    with made.load() as served, ProfileStore.open(made.path, read_only=False) as writer:
        before = [served.logits(TEXTS, identity, batch_size=8) for identity in IDS]
        replaced = Profiles.from_parameters(IDS, others, made.method).take([0])
        writer.put_many(replaced, replace=True)
        after = [served.logits(TEXTS, identity, batch_size=8) for identity in IDS]
        assert not np.array_equal(after[0], before[0])
        expected = dataclasses.replace(made, parameters=others).expected(0)
        assert np.array_equal(after[0], expected)
        for place in (1, 2, 3):
            assert np.array_equal(after[place], before[place])
        assert served.cache_info().misses == len(IDS) + 1  # the others were not made again
        assert served.cache_info().profiles == len(IDS)
        writer.remove([IDS[1]])
        with pytest.raises(StoreError, match=f"no profile {id_text(IDS[1])}"):
            served.predict(TEXTS[:4], IDS)
        with pytest.raises(StoreError, match=f"no profile {id_text(IDS[1])}"):
            served.predict(TEXTS, IDS[1])
        assert np.array_equal(served.logits(TEXTS, IDS[2], batch_size=8), before[2])


def test_threads_take_turns(kept: Trained) -> None:
    """Two servers over one encoder, used by many threads, with a cache too small for all."""
    with (
        kept.load(cache_bytes=2 * PROFILE_BYTES) as first,
        kept.load() as second,
        ThreadPoolExecutor(8) as pool,
    ):
        expected = {identity: first.logits(TEXTS, identity, batch_size=4) for identity in IDS}
        asked = IDS * 6
        found = pool.map(
            lambda job: (first, second)[job[0] % 2].logits(TEXTS, job[1], batch_size=4),
            enumerate(asked),
        )
        for identity, logits in zip(asked, found, strict=True):
            assert np.array_equal(logits, expected[identity])


# Reading the selected adapters alone


def scores(profiles: int, name: str) -> tuple[BankMasks, dict[str, torch.Tensor]]:
    class Shape:
        layers, width, name = LAYERS, WIDTH, "shape"
        dtype, device = torch.float32, torch.device("cpu")

    bank = dataclasses.replace(
        make_bank(), down_bias=make_bank(1).down[:, :, 0], up_bias=make_bank(2).up[:, :, 0]
    )
    method = BankMasks(Shape(), bank, SPECS[name])  # type: ignore[arg-type]
    return method, method.init(range(profiles))


def parts(blocks: list[BlockAdapters]) -> list[torch.Tensor]:
    return [
        value
        for block in blocks
        for value in (block.down, block.up, block.down_bias, block.up_bias)
        if value is not None
    ]


@pytest.mark.parametrize("name", ["few", "tied"])
def test_few_ones_read_nothing_else_and_give_the_same_sum(name: str) -> None:
    method, parameters = scores(3, name)
    dense = parts(method.aggregate(parameters))
    assert len(dense) == 4 * LAYERS
    with torch.no_grad():
        few = parts(method.aggregate(parameters))
    for one, other in zip(few, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    one = {key: value[:1] for key, value in parameters.items()}
    for mask, entries in zip(method.masks(one), ("down", "up"), strict=True):
        unused = mask[0] == 0  # poisoned
        for bank in (getattr(method.bank, entries), getattr(method.bank, f"{entries}_bias")):
            bank[unused] = torch.nan
    with torch.no_grad():
        again = parts(method.aggregate(one))
    assert all(torch.equal(a, b[:1]) for a, b in zip(again, few, strict=True))
    assert not any(value.isfinite().all() for value in parts(method.aggregate(one)))


@pytest.mark.parametrize("name", ["few", "tied", "dense", "soft"])
def test_an_aggregate_has_the_same_bits_in_any_company(name: str) -> None:
    method, parameters = scores(9, name)
    with torch.no_grad():
        together = parts(method.aggregate(parameters))
        for place in range(9):
            alone = {key: value[place : place + 1] for key, value in parameters.items()}
            for one, many in zip(parts(method.aggregate(alone)), together, strict=True):
                assert torch.equal(one[0], many[place])


def test_an_export_is_what_is_served() -> None:
    method, parameters = scores(2, "tied")
    with torch.no_grad():
        blocks = method.aggregate(parameters)
    adapter = method.export(parameters, 1)
    for layer, block in enumerate(blocks):
        assert torch.equal(adapter.down[layer], block.down[1])
        assert torch.equal(adapter.up[layer], block.up[1])


def test_adapters_that_are_joined_act_as_those_that_are_looked_up() -> None:
    method, parameters = scores(3, "few")
    blocks = method.aggregate(parameters)
    hidden = torch.randn(5, 7, WIDTH, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([2, 0, 0, 1, 2])
    for block in blocks:
        own = [block.of_profile(place, torch.float32) for place in range(3)]
        joined = BlockAdapters.join([own[row] for row in rows.tolist()])
        assert torch.equal(joined.delta(hidden, None), block.delta(hidden, rows))
        assert sum(one.nbytes for one in own) == block.nbytes


# The package


def test_the_example_runs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "serve.py"))
    example["run"](tmp_path, str(folder), epochs=1.0)
    said = capsys.readouterr().out
    assert "2 profiles of 188 bytes in authors.xps" in said  # 4 rows of 13 bytes, a head of 34
    assert "with their own profiles" in said and "misses=2" in said
    with ProfileStore.open(tmp_path / "authors.xps") as store:
        assert store.verify().ok and len(store) == 2


def test_importing_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, xpeft\n"
        "assert set(xpeft.__all__) <= set(dir(xpeft))\n"
        "xpeft.ProfileStore\n"
        "assert 'torch' not in sys.modules and 'xpeft.serving' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_of_the_package() -> None:
    for name in xpeft.__all__:
        assert getattr(xpeft, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        xpeft.nothing  # noqa: B018
