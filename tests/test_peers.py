"""The peers: peft's methods train, resume and are weighed as all others, on the same encoder."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from localencoder import save_encoder
from needs import peft as need_peft
from safetensors.torch import load_file
from tiny import LAYERS, WIDTH, tiny_encoder, tiny_profile, tiny_tokens, train

from xpeft.data.prepare import prepare
from xpeft.data.sources import EmbeddedSource
from xpeft.data.specs import get_task
from xpeft.encoder import Encoder, weights_digest
from xpeft.errors import ConfigError
from xpeft.fitting import Interrupted
from xpeft.job import PEER_METHODS, BankSpec, EncoderSpec, Job, MethodSpec, TrainingSpec
from xpeft.methods import make_method
from xpeft.optimizer import Schedule
from xpeft.peers import KINDS, PREFIX, Peer
from xpeft.peersizes import peer_sizes, vblora_length
from xpeft.records import read_record, result_bytes
from xpeft.shapes import EncoderShape
from xpeft.trainer import train_job

TOKENS = tiny_tokens(40, longest=4)
SHAPE = EncoderShape("tiny", LAYERS, WIDTH, family="bert", intermediate=32, vocab=40)
SHORT = [Schedule(steps=6, lr=0.03, head_lr=0.03)]


def make(method: str, dtype: torch.dtype = torch.float64) -> tuple[Encoder, Peer]:
    need_peft()
    encoder = tiny_encoder(dtype)
    made = make_method(encoder, MethodSpec(method=method))  # type: ignore[arg-type]
    assert isinstance(made, Peer)
    return encoder, made


def test_every_peer_of_the_config_has_a_kind_and_a_size() -> None:
    assert set(KINDS) == set(PEER_METHODS)
    assert set(PEER_METHODS) < set(peer_sizes(SHAPE))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", PEER_METHODS)
def test_a_peer_learns_and_leaves_the_encoder_as_it_was(method: str, dtype: torch.dtype) -> None:
    encoder, peer = make(method, dtype)
    before, batch = weights_digest(encoder.model), TOKENS.batch(np.arange(8))
    plain = encoder(batch)
    schedule = Schedule(steps=60, lr=0.05, head_lr=0.1)
    fitted = train(encoder, peer, TOKENS, [tiny_profile(TOKENS, range(40), 1)], [schedule])
    losses = fitted.losses[0]
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()
    own = peer.init([1])
    assert all(not torch.equal(value, fitted.parameters[name]) for name, value in own.items())
    assert all(value.dtype == torch.promote_types(dtype, torch.float32) for value in own.values())
    assert weights_digest(encoder.model) == before
    assert torch.equal(encoder(batch), plain)


@pytest.mark.parametrize("method", PEER_METHODS)
def test_an_untrained_peer_is_the_encoder_unless_it_adds_what_is_not_zero(method: str) -> None:
    encoder, peer = make(method)
    batch = TOKENS.batch(np.arange(8))
    adapted = encoder(batch, run=peer.run(peer.init([3])))
    same = method in ("lora", "ia3", "vera")  # the others start from random vectors
    assert torch.allclose(adapted, encoder(batch), rtol=0, atol=1e-12) == same


@pytest.mark.parametrize("method", PEER_METHODS)
def test_interrupted_and_resumed_equals_undisturbed(method: str, tmp_path: Path) -> None:
    encoder, peer = make(method)
    profiles = [tiny_profile(TOKENS, range(40), 1)]
    whole = train(encoder, peer, TOKENS, profiles, SHORT)
    options: dict[str, Any] = {"checkpoint": tmp_path / "c", "identity": {"job": method}}
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        train(
            encoder, peer, TOKENS, profiles, SHORT, stop=lambda: next(calls) >= 3, **options
        )  # fmt: skip
    encoder, peer = make(method)  # as another process would
    resumed = train(encoder, peer, TOKENS, profiles, SHORT, **options)
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name]), name


@pytest.mark.parametrize("method", PEER_METHODS)
def test_a_peer_starts_from_its_seed_alone(method: str) -> None:
    _, peer = make(method)
    state = torch.random.get_rng_state()
    first = peer.init([1, 2])
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    _, other = make(method)
    again = other.init([2])
    torch.random.set_rng_state(state)
    for name, value in first.items():
        assert torch.equal(value[1:], again[name]), name
    drawn = [name for name, value in first.items() if not torch.equal(value[0], value[1])]
    constant = method in ("ia3", "vera")  # ones, and zeros and 0.1: their papers draw nothing
    assert bool(drawn) != constant


@pytest.mark.parametrize("method", PEER_METHODS)
def test_what_peft_saves_is_what_was_trained_and_weighs_what_is_counted(
    method: str, tmp_path: Path
) -> None:
    encoder, peer = make(method, torch.float32)
    fitted = train(encoder, peer, TOKENS, [tiny_profile(TOKENS, range(40), 1)], SHORT)
    one = {name: value[0] for name, value in fitted.parameters.items()}
    file = peer.save(one, tmp_path)
    tensors = load_file(file)
    payload = sum(value.nbytes for value in tensors.values())
    size = peer_sizes(SHAPE)[method]
    assert payload == size.bytes
    assert payload < file.stat().st_size == peer.saved_bytes(one) < payload + 200 * len(tensors)
    trained = [value for name, value in one.items() if name.startswith(PREFIX)]
    assert sum(value.numel() for value in trained) == size.parameters

    fresh = tiny_encoder(torch.float32)  # and peft alone gives the same states from that file
    loaded = need_peft().PeftModel.from_pretrained(fresh.model, tmp_path).eval()
    batch = TOKENS.batch(np.arange(8))
    expected = encoder.states(batch, run=peer.run(fitted.parameters))
    if method != "prompt_tuning":
        found = fresh.states(batch, run=lambda arguments: loaded(**arguments).last_hidden_state)
    else:  # peft takes a mask [B, T], and drops segments
        output = loaded(input_ids=batch.ids, attention_mask=batch.mask.long())
        found = output.last_hidden_state[:, -batch.ids.shape[1] :]
    kept = batch.mask.unsqueeze(2)
    torch.testing.assert_close(found * kept, expected * kept, rtol=0, atol=1e-5)
    assert (found * kept - tiny_encoder(torch.float32).states(batch) * kept).abs().max() > 1e-4


def test_vectors_of_vblora_divide_the_width() -> None:
    assert [vblora_length(width) for width in (768, 1024, 384, 256, 16)] == [256, 256, 192, 256, 16]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    save_encoder(folder / "encoder")
    prepare(get_task("embedded", "sentiment"), EmbeddedSource(60, 20), folder / "data")
    return folder


def run(place: Path, out: Path, method: str, head: Any = "private") -> list[Any]:
    work = Job(
        tier="test",
        suite="embedded",
        task="sentiment",
        arm=method,
        seeds=(0, 1),
        encoder=EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="float32"),
        method=MethodSpec(method=method),  # type: ignore[arg-type]
        training=TrainingSpec(epochs=1, batch_size=8, lr=0.01),
        head=head,
    )
    train_job(work, place / "data", out / "records", out / "tuning.json", out / "work")
    return [read_record(out / "records" / f"seed{seed}.json") for seed in work.seeds]


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_a_job_of_a_peer_leaves_records_like_any_other(
    method: str, place: Path, tmp_path: Path
) -> None:
    need_peft()
    records = run(place, tmp_path / "a", method)
    again = run(place, tmp_path / "b", method)
    assert [result_bytes(r) for r in records] == [result_bytes(r) for r in again]
    first, second = (record["result"] for record in records)
    assert first["state_sha256"] != second["state_sha256"]
    stored, count = first["bytes"], first["parameters"]
    assert stored["head"] == 4 * count["head"] == 4 * (2 * WIDTH + 2)
    assert 4 * count["adapter"] < stored["adapter"] < 4 * count["adapter"] + 2_000
    assert stored["total"] == stored["head"] + stored["adapter"]
    assert records[0]["cell"]["method"] == method


def test_a_binary_head_of_a_peer_is_counted_as_bits(place: Path, tmp_path: Path) -> None:
    need_peft()
    for record in run(place, tmp_path, "lora", "binary"):
        assert record["result"]["bytes"]["head"] == WIDTH // 8 + 4 + 4


def test_without_peft_a_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"no library peft .* pip install 'xpeft\[peers\]'"):
        make_method(tiny_encoder(), MethodSpec(method="lora"))


def test_training_of_other_methods_does_not_import_peft() -> None:
    code = "import sys, xpeft.trainer, xpeft.ledger, xpeft.sizes; assert 'peft' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import sys, xpeft.ledger, xpeft.sizes; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_the_hash_of_a_job_of_another_method_is_what_it_was() -> None:
    """Committed records carry it: methods come and go without a trace in the jobs of others."""
    method = MethodSpec(mask="hard", k=50)
    job = Job("small", "glue", "rte", "hard", (0,), EncoderSpec(), method, TrainingSpec())
    expected = "b94ca030af30e508ba77885112c31278ae52f5e4a20446591370ed0189cf299f"
    assert job.config_hash() == expected
    job = dataclasses.replace(job, bank=BankSpec())
    expected = "768b6cf9e8c2af455db72e1748ba4ce8007d786b8b680335e07d3e87e3343ccf"
    assert job.config_hash() == expected  # a setting that came later counts where it is used
    mixed = dataclasses.replace(job, bank=BankSpec(random_share=0.5))
    assert mixed.config_hash() != expected
    peer = dataclasses.replace(job, method=MethodSpec(method="lora"))
    assert peer.config_hash() != expected
    assert Job.from_dict(peer.to_dict()) == peer
