"""AdapterHub folders: published adapters into a bank, and an adapter of ours out to AdapterHub.

A folder is what `model.save_adapter` of the `adapters` library writes: `adapter_config.json`
beside `pytorch_adapter.bin` or `adapter.safetensors`. Its linear layers are [out, in]; ours are
transposed. One placement is understood, that of `seq_bn` (Pfeiffer) with ReLU, for it is the one
that our layer computes exactly; whatever else a config asks for is refused, never approximated.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xpeft.bank import Adapter, Bank
from xpeft.errors import BankError, XpeftError
from xpeft.io import atomic_directory, read_json, sha256_file, write_json

CONFIG_FILE = "adapter_config.json"
SAFE_FILE = "adapter.safetensors"
PICKLE_FILE = "pytorch_adapter.bin"
FORMAT_VERSION = "adapters.1.3.0"  # the library version whose format is written

# What the config must say, and what AdapterHub takes a missing key to mean (None: no default).
# `residual_before_ln` may also be "post_add", which is another placement.
_PLACEMENT: dict[str, tuple[Any, Any]] = {
    "mh_adapter": (False, None),
    "output_adapter": (True, None),
    "non_linearity": ("relu", None),
    "original_ln_before": (True, False),
    "original_ln_after": (True, True),
    "residual_before_ln": (True, True),
    "ln_before": (False, False),
    "ln_after": (False, False),
    "is_parallel": (False, False),
    "scaling": (1.0, 1.0),
    "use_gating": (False, False),
    "phm_layer": (False, False),
    "new_attention_norm": (False, False),
    "leave_out": ([], []),
}
# Keys without any effect on a seq_bn adapter in evaluation mode: dropout and its like act in
# training only, `phm_*` need `phm_layer`, `adapter_residual_before_ln` needs `ln_after`,
# `cross_adapter` needs a decoder, `attention_type` belongs to fusion; the reduction factor and
# the invertible adapter are checked against the weights.
_INERT = frozenset(
    "adapter_residual_before_ln attention_type cross_adapter dropout factorized_phm_rule "
    "factorized_phm_w hypercomplex_nonlinearity init_weights init_weights_seed inv_adapter "
    "inv_adapter_reduction_factor invertible_adapter learn_phm phm_bias phm_c_init phm_dim "
    "phm_init_range phm_rank reduction_factor shared_phm_rule shared_w_phm stochastic_depth "
    "architecture".split()
)
# model type -> (prefix of a model with heads, place of block {layer}'s adapters)
_PLACES = {
    "bert": ("bert.", "encoder.layer.{layer}.output."),
    "roberta": ("roberta.", "encoder.layer.{layer}.output."),
    "electra": ("electra.", "encoder.layer.{layer}.output."),
    "distilbert": ("distilbert.", "transformer.layer.{layer}.output_adapters."),
}
# our name -> AdapterHub's
_PARTS = {
    "down": "adapter_down.0.weight",
    "down_bias": "adapter_down.0.bias",
    "up": "adapter_up.weight",
    "up_bias": "adapter_up.bias",
}


@dataclass(frozen=True)
class _Source:
    """One folder read: the adapter, and where it came from."""

    adapter: Adapter
    model_type: str
    origin: dict[str, str]


def import_adapter(folder: str | os.PathLike[str]) -> Adapter:
    """Read one AdapterHub folder.

    Weights are read from `adapter.safetensors`, else from `pytorch_adapter.bin` without running
    anything that the pickle may hold.

    Returns:
        The adapter in float32: down [L, d, b], up [L, b, d], down_bias [L, b], up_bias [L, d].

    Raises:
        BankError: a file is missing or damaged, the config is not a seq_bn adapter with ReLU on
            a supported encoder, or the weights are not what the config says.
    """
    return _read(Path(folder)).adapter


def import_bank(folders: Sequence[str | os.PathLike[str]]) -> Bank:
    """Read AdapterHub folders into one bank; adapter i is `folders[i]`.

    The recipe names each adapter, the model it was trained on, and the sha256 of its weights.

    Raises:
        BankError: as `import_adapter`; or the folders do not share model type and shapes.
    """
    sources = [_read(Path(folder)) for folder in folders]
    for folder, source in zip(folders, sources, strict=True):
        for what, found, expected in (
            ("model_type", source.model_type, sources[0].model_type),
            (
                "shape of down [L, d, b]",
                *(list(s.adapter.down.shape) for s in (source, sources[0])),
            ),
        ):
            if found != expected:
                raise BankError(
                    f"{folder}: found {what} {found}, expected {expected} as in {folders[0]}; the "
                    "adapters of one bank share encoder and reduction: import this one apart"
                )
    recipe = {"source": "adapterhub", "adapters": [source.origin for source in sources]}
    return Bank.stack([source.adapter for source in sources], kind="imported", recipe=recipe)


def export_adapter(
    adapter: Adapter,
    folder: str | os.PathLike[str],
    *,
    name: str,
    model_name: str,
    model_type: str,
    hidden_size: int,
) -> None:
    """Write an adapter, or a profile's aggregate, as a folder that AdapterHub's library loads.

    `model.load_adapter(folder, use_safetensors=True)` reads it and gives the same logits. An
    aggregate can be exported only where nothing but the two projections acts on the block: norm
    `none`, with scale and gains multiplied into the adapter.

    Args:
        adapter: what to write; stored as float32.
        name: the adapter's name in AdapterHub; no dots.
        model_name: the encoder's hub id or path, for the reader's information.
        model_type: bert, roberta, distilbert or electra.
        hidden_size: the encoder's width d, checked against the adapter.

    Raises:
        BankError: the model type is not supported, the name is not usable, or a size differs.
    """
    layers, width, bottleneck = adapter.down.shape
    prefix, place = _place(model_type, "export")
    if not name or "." in name:
        raise BankError(
            f"export: found the adapter name {name!r}, expected one without dots; rename it"
        )
    if width != hidden_size:
        raise BankError(
            f"export: found an adapter of width {width}, expected the encoder's hidden_size "
            f"{hidden_size}; export with the encoder that the adapter was trained on"
        )
    tensors = {}
    for layer in range(layers):
        for ours, theirs in _PARTS.items():
            value = getattr(adapter, ours)[layer].detach().to("cpu", torch.float32)
            if not bool(torch.isfinite(value).all()):
                raise BankError(
                    f"export: found NaN or infinity in {ours} of block {layer}, expected finite "
                    "numbers; train the adapter again"
                )
            key = f"{prefix}{place.format(layer=layer)}adapters.{name}.{theirs}"
            tensors[key] = (value.T if value.ndim == 2 else value).contiguous().clone()
    config = {
        "config": {
            **{key: expected for key, (expected, _) in _PLACEMENT.items()},
            "adapter_residual_before_ln": False,
            "cross_adapter": False,
            "dropout": 0.0,
            "init_weights": "bert",
            "inv_adapter": None,
            "inv_adapter_reduction_factor": None,
            "reduction_factor": _reduction_factor(width, bottleneck),
        },
        "hidden_size": hidden_size,
        "model_name": model_name,
        "model_type": model_type,
        "name": name,
        "version": FORMAT_VERSION,
    }
    del config["config"]["new_attention_norm"]  # type: ignore[attr-defined]  # of old versions
    with atomic_directory(folder, CONFIG_FILE) as temporary:
        (temporary / SAFE_FILE).write_bytes(save(tensors))
        write_json(temporary / CONFIG_FILE, config)


def _read(folder: Path) -> _Source:
    config = _read_config(folder)
    path, weights = _read_weights(folder)
    name, model_type, width = (config[key] for key in ("name", "model_type", "hidden_size"))
    prefix, place = _place(model_type, f"{folder / CONFIG_FILE}: model_type")
    parts = _sort_out(path, weights, _key_pattern(prefix, place, name), config)
    layers = max(layer for layer, _ in parts) + 1
    first = parts.get((0, "adapter_down.0.bias"))
    bottleneck = 0 if first is None else first.shape[0]
    shapes = {
        "adapter_down.0.weight": (bottleneck, width),
        "adapter_down.0.bias": (bottleneck,),
        "adapter_up.weight": (width, bottleneck),
        "adapter_up.bias": (width,),
    }
    for layer in range(layers):
        for theirs, shape in shapes.items():
            value = parts.get((layer, theirs))
            where = f"{path}: block {layer}, {theirs}"
            if value is None:
                raise BankError(
                    f"{where}: found none, expected one in each of {layers} blocks; the file is "
                    "incomplete, save or copy the adapter again"
                )
            if tuple(value.shape) != shape:
                raise BankError(
                    f"{where}: found the shape {list(value.shape)}, expected {list(shape)} "
                    f"(hidden_size {width}, bottleneck {bottleneck}); every block needs the same "
                    "reduction factor, and the weights must belong to this config"
                )
            if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
                raise BankError(
                    f"{where}: found {value.dtype} with non-finite or non-float values, expected "
                    "finite floating-point numbers; save or copy the adapter again"
                )
    _check_reduction(folder / CONFIG_FILE, config, bottleneck)
    stacked = {
        ours: torch.stack([parts[layer, theirs].float() for layer in range(layers)])
        for ours, theirs in _PARTS.items()
    }
    for side in ("down", "up"):
        stacked[side] = stacked[side].transpose(1, 2).contiguous()
    origin = {
        "name": str(name),
        "model_name": str(config.get("model_name")),
        "model_type": model_type,
        "sha256": sha256_file(path),
    }
    return _Source(Adapter(**stacked), model_type, origin)


def _read_config(folder: Path) -> dict[str, Any]:
    """The whole adapter_config.json, checked, with its inner config as a dictionary."""
    path = folder / CONFIG_FILE
    try:
        config = read_json(path)
    except XpeftError as error:
        raise BankError(
            f"{error}; expected an AdapterHub folder, as model.save_adapter writes it"
        ) from None
    if isinstance(config, dict) and "peft_type" in config:
        raise BankError(
            f"{path}: found an adapter of the peft library ({config['peft_type']}), expected "
            "one of AdapterHub; only bottleneck adapters can join a bank"
        )
    if not isinstance(config, dict) or not isinstance(config.get("config"), (dict, str)):
        raise BankError(
            f"{path}: found no adapter config under the key 'config', expected what "
            "model.save_adapter writes; save the adapter again"
        )
    for key, kind in (("name", str), ("model_type", str), ("hidden_size", int)):
        if not isinstance(config.get(key), kind):
            raise BankError(
                f"{path}: {key}: found {config.get(key)!r}, expected {kind.__name__}; save the "
                "adapter again with model.save_adapter"
            )
    inner = config["config"]
    if inner in ("seq_bn", "pfeiffer"):  # old files may name a config instead of writing it out
        inner = {key: expected for key, (expected, _) in _PLACEMENT.items()}
        inner["reduction_factor"] = 16
    elif isinstance(inner, str):
        raise BankError(
            f"{path}: config: found {inner!r}, expected 'seq_bn' (Pfeiffer); choose an adapter "
            "that was trained with it"
        )
    inner = {key.lower(): value for key, value in inner.items()}
    _check_placement(path, inner)
    return {**config, "config": inner}


def _check_placement(path: Path, inner: dict[str, Any]) -> None:
    """Refuse every setting under which AdapterHub would compute something else than we do."""
    advice = (
        "only sequential Pfeiffer adapters with ReLU (AdapterHub's seq_bn) can join a bank: "
        "choose or train one"
    )
    if inner.get("architecture") is not None:
        raise BankError(
            f"{path}: config.architecture: found {inner['architecture']!r}, expected none (a "
            f"bottleneck adapter); {advice}"
        )
    for key, (expected, default) in _PLACEMENT.items():
        found = inner.get(key, default)
        if isinstance(found, str):
            found = found.lower()
        if key == "leave_out" and found is None:
            found = []
        if found != expected:
            shown = "nothing" if found is None else repr(inner.get(key, default))
            raise BankError(f"{path}: config.{key}: found {shown}, expected {expected!r}; {advice}")
    for key in sorted(set(inner) - set(_PLACEMENT) - _INERT):
        if inner[key]:  # a switch that is off changes nothing, whatever it means
            raise BankError(
                f"{path}: config.{key}: found {inner[key]!r}, a setting that xpeft does not "
                f"know and that may change what the adapter computes, expected none; {advice}"
            )


def _check_reduction(path: Path, config: dict[str, Any], bottleneck: int) -> None:
    factor = config["config"].get("reduction_factor")
    if isinstance(factor, dict):  # one factor a block: the weights were checked to agree
        return
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor <= 0:
        raise BankError(
            f"{path}: config.reduction_factor: found {factor!r}, expected a positive number; save "
            "the adapter again"
        )
    expected = max(1, int(config["hidden_size"] // factor))
    if bottleneck != expected:
        raise BankError(
            f"{path}: config.reduction_factor: found {factor}, which means a bottleneck of "
            f"{expected}, expected {bottleneck} as in the weights; config and weights belong to "
            "different adapters, copy them again"
        )


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    path = folder / SAFE_FILE
    try:
        if path.exists():
            return path, load_file(path)
        path = folder / PICKLE_FILE
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BankError(
            f"{folder}: found neither {SAFE_FILE} nor {PICKLE_FILE}, expected one of them; copy "
            "the whole folder"
        ) from None
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).split("\n", 1)[0]
        raise BankError(
            f"{path}: found a file that cannot be read as plain tensors ({reason}), expected the "
            "weights of an adapter; copy it again, or save it with use_safetensors=True"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise BankError(
            f"{path}: found {type(weights).__name__} with other things than tensors, expected the "
            "state dict of an adapter; save it again with model.save_adapter"
        )
    return path, weights


def _sort_out(
    path: Path, weights: dict[str, Tensor], pattern: re.Pattern[str], config: dict[str, Any]
) -> dict[tuple[int, str], Tensor]:
    """The weights by (block, AdapterHub's part); any weight of another kind is refused."""
    parts = {}
    for key, value in weights.items():
        match = pattern.fullmatch(key)
        if match is None:
            raise BankError(
                f"{path}: found the weight {key!r}, expected only bottleneck weights of the "
                f"adapter {config['name']!r} after each block's feed-forward part; invertible, "
                "attention or head weights cannot join a bank"
            )
        parts[int(match["layer"]), match["part"]] = value
    if not parts:
        raise BankError(f"{path}: found no weights, expected an adapter; save it again")
    inner = config["config"]
    invertible = inner.get("inv_adapter") or inner.get("invertible_adapter")
    # Old files of task adapters name an invertible adapter that only language adapters have.
    if invertible and config.get("type") != "text_task":
        raise BankError(
            f"{path.parent / CONFIG_FILE}: config.inv_adapter: found {invertible!r}, expected "
            "none; adapters with an invertible part cannot join a bank: choose a task adapter"
        )
    return parts


def _key_pattern(prefix: str, place: str, name: str) -> re.Pattern[str]:
    before, after = (re.escape(part) for part in place.split("{layer}"))
    parts = "|".join(map(re.escape, _PARTS.values()))
    legacy = "layer_text_task_adapters|layer_text_lang_adapters"  # before version 2
    return re.compile(
        rf"(?:{re.escape(prefix)})?{before}(?P<layer>\d+){after}(?:adapters|{legacy})\."
        rf"{re.escape(name)}\.(?P<part>{parts})"
    )


def _place(model_type: str, where: str) -> tuple[str, str]:
    if model_type not in _PLACES:
        raise BankError(
            f"{where}: found the model type {model_type!r}, expected one of "
            f"{', '.join(sorted(_PLACES))}; use an adapter of a supported encoder"
        )
    return _PLACES[model_type]


def _reduction_factor(width: int, bottleneck: int) -> int | float:
    """The factor from which AdapterHub's `int(width // factor)` finds the bottleneck again."""
    if width % bottleneck == 0:
        return width // bottleneck
    factor = width / bottleneck
    return factor if int(width // factor) == bottleneck else width / (bottleneck + 0.5)
