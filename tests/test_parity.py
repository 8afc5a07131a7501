"""Our placement against AdapterHub's own library (fixtures made by oracle/make_fixtures.py)."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from xpeft.adapterhub import export_adapter, import_adapter, import_bank
from xpeft.bank import Adapter, Bank, load_bank, save_bank
from xpeft.encoder import Encoder, Tokens
from xpeft.errors import BankError
from xpeft.io import sha256_file
from xpeft.job import MethodSpec
from xpeft.methods import BankMasks, Method, SingleAdapter

FIXTURES = Path(__file__).parent / "fixtures" / "adapterhub"
META = json.loads((FIXTURES / "meta.json").read_text())
REFUSED = json.loads((FIXTURES / "refused.json").read_text())
FAMILIES = ("bert", "roberta", "distilbert", "electra")
WEIGHTS: dict[str, float] = META["weights"]
NAMES = list(WEIGHTS)
TOLERANCE = 1e-5
SUM = MethodSpec(mask="soft", activation="linear", norm="none", scale="sum")
ONE_HOT = MethodSpec(mask="hard", k=1, norm="none", scale="sum")


@functools.cache
def encoder_of(family: str, pooling: str = "cls") -> Encoder:
    model = AutoModel.from_pretrained(FIXTURES / family / "encoder", dtype=torch.float32)
    return Encoder(model, name=family, pooling=pooling)


@functools.cache
def outputs_of(family: str) -> dict[str, Tensor]:
    return dict(load_file(FIXTURES / family / "outputs.safetensors"))


def folder_of(family: str, name: str) -> Path:
    return FIXTURES / family / "adapters" / name


def bank_of(family: str) -> Bank:
    return import_bank([folder_of(family, name) for name in NAMES])


def tokens_of(family: str) -> Tokens:
    outputs = outputs_of(family)
    return Tokens(
        outputs["input_ids"], outputs["attention_mask"].bool(), outputs.get("token_type_ids")
    )


def single(adapters: list[Adapter]) -> dict[str, Tensor]:
    """Parameters of `single_adapter`, one profile an adapter."""
    names = ("down", "up", "down_bias", "up_bias")
    return {name: torch.stack([getattr(one, name) for one in adapters]) for name in names}


def masks(rows: list[list[float]], layers: int) -> dict[str, Tensor]:
    """The same scores [P, N] for M_A and M_B of all blocks."""
    scores = torch.tensor(rows).unsqueeze(1).repeat(1, layers, 1)
    return {"mask_a": scores, "mask_b": scores}


def assert_equals_adapterhub(
    family: str, names: list[str], method: Method | None, parameters: dict[str, Tensor]
) -> None:
    """Row r of the batch, with profile r % P, gives what AdapterHub's library gives for its name.

    Compared are hidden states of all tokens and the logits of both poolings.
    """
    outputs, tokens = outputs_of(family), tokens_of(family)
    rows = torch.arange(len(tokens.ids)) % len(names)
    for pooling in ("cls", "mean"):
        encoder = encoder_of(family, pooling)
        deltas = None if method is None else method.deltas(parameters, rows)
        with torch.no_grad():
            states = encoder.states(tokens, deltas)
            pooled = encoder(tokens, deltas)
        logits = functional.linear(pooled, outputs["head.weight"], outputs["head.bias"])
        assert logits.dtype == torch.float32
        for row, profile in enumerate(rows.tolist()):
            expected = outputs[f"logits.{pooling}.{names[profile]}"][row]
            assert (logits[row] - expected).abs().max() <= TOLERANCE
            difference = states[row] - outputs[f"states.{names[profile]}"][row]
            assert difference[tokens.mask[row]].abs().max() <= TOLERANCE


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a fixture adapter, to damage."""

    def copy(name: str = "second", family: str = "bert") -> Path:
        return Path(shutil.copytree(folder_of(family, name), tmp_path / f"{family}-{name}"))

    return copy


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    weights = load_file(folder / "adapter.safetensors")
    change(weights)
    save_file(weights, folder / "adapter.safetensors")
    return folder


# Parity


def test_the_fixtures_can_tell_adapters_apart() -> None:
    assert META["versions"]["adapters"] == "1.3.0"
    assert set(META["families"]) == set(FAMILIES)
    for family in FAMILIES:
        assert set(META["families"][family]["spread"]) == {*NAMES, "average"}
        assert min(META["families"][family]["spread"].values()) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_without_adapter(family: str) -> None:
    assert_equals_adapterhub(family, ["None"], None, {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_same_adapter_same_logits(family: str, name: str) -> None:
    adapter = import_adapter(folder_of(family, name))
    method = SingleAdapter(encoder_of(family), 8)
    assert_equals_adapterhub(family, [name], method, single([adapter]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_different_adapters(family: str) -> None:
    adapters = [import_adapter(folder_of(family, name)) for name in NAMES]
    method = SingleAdapter(encoder_of(family), 8)
    assert_equals_adapterhub(family, NAMES, method, single(adapters))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_one_hot_masks_equal_the_adapter(family: str, kind: str) -> None:
    encoder, bank = encoder_of(family), bank_of(family)
    method = BankMasks(encoder, bank, SUM if kind == "soft" else ONE_HOT)
    parameters = masks([[1, 0, 0], [0, 1, 0], [0, 0, 1]], bank.layers)
    for profile, name in enumerate(NAMES):
        ours, theirs = method.export(parameters, profile), import_adapter(folder_of(family, name))
        for part in ("down", "up", "down_bias", "up_bias"):
            assert torch.equal(getattr(ours, part), getattr(theirs, part))
    assert_equals_adapterhub(family, NAMES, method, parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_masks_equal_average_adapter(family: str) -> None:
    bank = bank_of(family)
    method = BankMasks(encoder_of(family), bank, SUM)
    parameters = masks([list(WEIGHTS.values())], bank.layers)
    assert_equals_adapterhub(family, ["average"], method, parameters)


def test_the_bias_goes_with_its_side() -> None:
    """M_A carries the down-biases and M_B the up-biases: two banks, one for each side."""
    family, (first, second) = "bert", NAMES[:2]
    bank = bank_of(family)
    method = BankMasks(encoder_of(family), bank, ONE_HOT)
    parameters = masks([[1, 0, 0]], bank.layers)
    parameters["mask_b"] = masks([[0, 1, 0]], bank.layers)["mask_b"]
    made = method.export(parameters, 0)
    of_a, of_b = (import_adapter(folder_of(family, name)) for name in (first, second))
    assert torch.equal(made.down_bias, of_a.down_bias)
    assert torch.equal(made.up_bias, of_b.up_bias)


# Export


def export(adapter: Adapter, folder: Path, family: str, name: str) -> None:
    export_adapter(
        adapter,
        folder,
        name=name,
        model_name=f"xpeft-tests/tiny-{family}",
        model_type=family,
        hidden_size=32,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_exports_are_those_that_adapterhub_loaded(family: str, tmp_path: Path) -> None:
    meta = META["families"][family]
    assert set(meta["round_trip"]) == {
        f"{name}.{kind}" for name in (*NAMES, "average") for kind in ("heads", "plain")
    }
    assert max(meta["round_trip"].values()) <= TOLERANCE
    for name in NAMES:
        adapter = import_adapter(folder_of(family, name))
        export(adapter, tmp_path / name, family, name)
        files = {path.name: sha256_file(path) for path in (tmp_path / name).iterdir()}
        assert files == meta["exported_sha256"][name]
        again = import_adapter(tmp_path / name)
        for part in ("down", "up", "down_bias", "up_bias"):
            assert torch.equal(getattr(again, part), getattr(adapter, part))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_aggregate_comes_back(family: str, tmp_path: Path) -> None:
    bank = bank_of(family)
    method = BankMasks(encoder_of(family), bank, SUM)
    made = method.export(masks([list(WEIGHTS.values())], bank.layers), 0)
    export(made, tmp_path / "profile", family, "average")
    again = import_adapter(tmp_path / "profile")
    assert_equals_adapterhub(
        family, ["average"], SingleAdapter(encoder_of(family), 8), single([again])
    )


@pytest.mark.parametrize(("width", "bottleneck"), [(32, 5), (768, 48), (770, 49), (384, 100)])
def test_the_exported_reduction_factor_gives_the_bottleneck(
    width: int, bottleneck: int, tmp_path: Path
) -> None:
    adapter = Adapter(
        torch.ones(1, width, bottleneck),
        torch.ones(1, bottleneck, width),
        torch.zeros(1, bottleneck),
        torch.zeros(1, width),
    )
    export_adapter(
        adapter, tmp_path / "a", name="a", model_name="m", model_type="bert", hidden_size=width
    )
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["config"]
    assert int(width // config["reduction_factor"]) == bottleneck  # as AdapterHub computes it
    assert import_adapter(tmp_path / "a").down.shape == (1, width, bottleneck)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "'gpt2', expected one of bert, distilbert, electra, roberta"),
        ({"hidden_size": 768}, "width 32, expected the encoder's hidden_size 768"),
        ({"name": "v1.2"}, "without dots"),
        ({"name": ""}, "without dots"),
    ],
)
def test_export_refuses(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    adapter = import_adapter(folder_of("bert", "first"))
    options = {"name": "a", "model_name": "m", "model_type": "bert", "hidden_size": 32} | changes
    with pytest.raises(BankError, match=message):
        export_adapter(adapter, tmp_path / "a", **options)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_nan(tmp_path: Path) -> None:
    adapter = import_adapter(folder_of("bert", "first"))
    adapter.up[1, 2, 3] = float("nan")
    with pytest.raises(BankError, match="NaN or infinity in up of block 1"):
        export(adapter, tmp_path / "a", "bert", "a")
    assert list(tmp_path.iterdir()) == []


# Import


def test_an_imported_bank_knows_its_sources_and_is_stored(tmp_path: Path) -> None:
    bank = bank_of("electra")
    assert (bank.kind, bank.layers, bank.n, bank.width, bank.bottleneck) == (
        "imported",
        2,
        3,
        32,
        4,
    )
    sources = bank.recipe["adapters"]
    assert [source["name"] for source in sources] == NAMES
    assert {source["model_name"] for source in sources} == {"xpeft-tests/tiny-electra"}
    file = folder_of("electra", "first") / "pytorch_adapter.bin"
    assert sources[0]["sha256"] == sha256_file(file)
    save_bank(bank, tmp_path / "bank")
    again = load_bank(tmp_path / "bank")
    assert again.digest == bank.digest and again.recipe == bank.recipe


def test_files_of_early_versions(copied: Callable[..., Path]) -> None:
    """Before version 2 modules had other names, and a task adapter's config an unused part."""
    folder = copied("second")

    def old_names(weights: dict[str, Tensor]) -> None:
        for key in list(weights):
            weights[key.replace(".adapters.", ".layer_text_task_adapters.")] = weights.pop(key)

    def old_config(config: dict[str, Any]) -> None:
        del config["version"]
        config["type"] = "text_task"
        config["config"] = {
            "LN_after": False,
            "LN_before": False,
            "MH_Adapter": False,
            "Output_Adapter": True,
            "adapter_residual_before_ln": False,
            "attention_type": "sent-lvl-dynamic",
            "invertible_adapter": {"block_type": "nice", "reduction_factor": 2},
            "new_attention_norm": False,
            "non_linearity": "relu",
            "original_ln_after": True,
            "original_ln_before": True,
            "reduction_factor": 8,
            "residual_before_ln": True,
        }

    change_config(change_weights(folder, old_names), old_config)
    expected = import_adapter(folder_of("bert", "second"))
    assert torch.equal(import_adapter(folder).down, expected.down)
    change_config(folder, lambda config: config.update(type="text_lang"))
    with pytest.raises(BankError, match="invertible part"):
        import_adapter(folder)


@pytest.mark.parametrize("config", REFUSED)
def test_other_kinds_of_adapters_are_refused(config: str, copied: Callable[..., Path]) -> None:
    """Configs as the library writes them, beside weights that would load."""
    folder = copied("first")
    (folder / "adapter_config.json").write_text(json.dumps(REFUSED[config]))
    with pytest.raises(BankError, match=r"config\.\w+: found .*, expected .*: choose") as caught:
        import_adapter(folder)
    assert str(folder / "adapter_config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mh_adapter", True),
        ("output_adapter", False),
        ("original_ln_before", False),
        ("original_ln_after", False),
        ("residual_before_ln", False),
        ("residual_before_ln", "post_add"),
        ("ln_before", True),
        ("ln_after", True),
        ("is_parallel", True),
        ("scaling", 4.0),
        ("scaling", "channel"),
        ("use_gating", True),
        ("phm_layer", True),
        ("new_attention_norm", True),
        ("leave_out", [0]),
        ("inv_adapter", "glow"),
        ("architecture", "union"),
        ("non_linearity", "leakyrelu"),
        ("non_linearity", None),
        ("a_switch_of_tomorrow", True),
        ("reduction_factor", 16),
        ("reduction_factor", "many"),
        ("reduction_factor", 0),
    ],
)
def test_each_setting_of_the_placement_is_checked(
    key: str, value: object, copied: Callable[..., Path]
) -> None:
    folder = change_config(copied(), lambda config: config["config"].update({key: value}))
    with pytest.raises(BankError, match=rf"config\.{key}: found"):
        import_adapter(folder)


@pytest.mark.parametrize("key", ["mh_adapter", "non_linearity", "original_ln_before"])
def test_a_missing_setting_means_what_it_means_to_adapterhub(
    key: str, copied: Callable[..., Path]
) -> None:
    folder = change_config(copied(), lambda config: config["config"].pop(key))
    with pytest.raises(BankError, match=rf"config\.{key}: found"):
        import_adapter(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapter_residual_before_ln", True),
        ("dropout", 0.1),
        ("init_weights", "mam_adapter"),
        ("reduction_factor", {"0": 8, "default": 8}),
        ("non_linearity", "ReLU"),
        ("a_switch_of_tomorrow", False),
    ],
)
def test_settings_without_effect_are_let_through(
    key: str, value: object, copied: Callable[..., Path]
) -> None:
    folder = change_config(copied(), lambda config: config["config"].update({key: value}))
    assert torch.equal(import_adapter(folder).up, import_adapter(folder_of("bert", "second")).up)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="gpt2"), "model type 'gpt2', expected one of bert"),
        (lambda c: c.update(model_type="distilbert"), "found the weight"),
        (lambda c: c.update(name="other"), "found the weight .* of the adapter 'other'"),
        (lambda c: c.update(hidden_size=64), r"shape \[4, 32\], expected \[4, 64\]"),
        (lambda c: c.pop("name"), "name: found None, expected str"),
        (lambda c: c.update(hidden_size=None), "hidden_size: found None, expected int"),
        (lambda c: c.pop("config"), "no adapter config"),
        (lambda c: c.update(config="houlsby"), "'houlsby', expected 'seq_bn'"),
        (lambda c: c.update(config="pfeiffer"), "reduction_factor: found 16"),
        (lambda c: c.update(peft_type="LORA"), r"of the peft library \(LORA\)"),
    ],
)
def test_damaged_configs(
    change: Callable[[dict[str, Any]], object], message: str, copied: Callable[..., Path]
) -> None:
    with pytest.raises(BankError, match=message):
        import_adapter(change_config(copied(), change))


PREFIX = "bert.encoder.layer.{}.output.adapters.second."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(PREFIX.format(1) + "adapter_up.bias"), "block 1, adapter_up.bias: found"),
        (
            lambda w: [w.pop(key) for key in list(w) if ".layer.0." in key],
            "block 0, adapter_down.0.weight: found",
        ),
        (lambda w: w.clear(), "found no weights"),
        (
            lambda w: w.update({PREFIX.format(0) + "adapter_up.weight": torch.zeros(32, 5)}),
            r"\[32, 5\], expected \[32, 4\]",
        ),
        (
            lambda w: w[PREFIX.format(1) + "adapter_down.0.bias"].fill_(float("inf")),
            "block 1, adapter_down.0.bias: .*non-finite",
        ),
        (
            lambda w: w.update({"bert.invertible_adapters.second.F.0.weight": torch.zeros(2)}),
            "found the weight 'bert.invertible_adapters",
        ),
        (
            lambda w: w.update(
                {"bert.encoder.layer.0.attention.output.adapters.second.x": torch.ones(1)}
            ),
            "found the weight 'bert.encoder.layer.0.attention",
        ),
    ],
)
def test_damaged_weights(
    change: Callable[[dict[str, Tensor]], object], message: str, copied: Callable[..., Path]
) -> None:
    with pytest.raises(BankError, match=message):
        import_adapter(change_weights(copied(), change))


def test_missing_and_broken_files(copied: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no such file; expected an AdapterHub folder"):
        import_adapter(tmp_path / "nowhere")
    folder = copied("second")
    file = folder / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BankError, match=r"adapter\.safetensors: .* cannot be read"):
        import_adapter(folder)
    file.unlink()
    with pytest.raises(BankError, match=r"found neither adapter\.safetensors nor pytorch_adapter"):
        import_adapter(folder)
    folder = copied("first")
    file = folder / "pytorch_adapter.bin"
    for content in (file.read_bytes()[:1000], b"", b"not a checkpoint"):
        file.write_bytes(content)
        with pytest.raises(BankError, match=r"pytorch_adapter\.bin: .* cannot be read"):
            import_adapter(folder)
    torch.save({"weights": [1, 2]}, file)
    with pytest.raises(BankError, match="other things than tensors"):
        import_adapter(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(BankError, match="expected JSON"):
        import_adapter(folder)


class Attack:
    """Unpickled, it would leave a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_pickle_never_runs(copied: Callable[..., Path], tmp_path: Path) -> None:
    folder, trace = copied("first"), tmp_path / "trace"
    torch.save({"x": Attack(str(trace))}, folder / "pytorch_adapter.bin")
    torch.load(folder / "pytorch_adapter.bin", weights_only=False)
    assert trace.exists()  # it is a real attack
    trace.unlink()
    with pytest.raises(BankError, match="cannot be read as plain tensors"):
        import_adapter(folder)
    assert not trace.exists()


def test_adapters_of_one_bank_fit_together(copied: Callable[..., Path]) -> None:
    with pytest.raises(BankError, match="found model_type roberta, expected bert as in"):
        import_bank([folder_of("bert", "first"), folder_of("roberta", "first")])
    folder = copied("second")

    def cut(weights: dict[str, Tensor]) -> None:
        for key in list(weights):
            if ".layer.1." in key:
                del weights[key]

    change_weights(folder, cut)
    with pytest.raises(BankError, match=r"shape of down .* \[1, 32, 4\], expected \[2, 32, 4\]"):
        import_bank([folder_of("bert", "first"), folder])
    with pytest.raises(BankError, match="no adapters"):
        import_bank([])
