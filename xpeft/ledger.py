"""The ledger: every byte of a profile, by formula and from files.

Letters: L blocks, d width, b bottleneck, f feed-forward width, N adapters in the bank, k selected
ones, C classes, P profiles. A ratio is always "bytes of an adapter / bytes of what is stored
instead"; a fair one for a private head sets the same head beside the adapter too. Weights are
float32, 4 bytes each. All sizes depend on shapes alone, so no encoder is loaded and equal
arguments give equal ledgers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpeft.codec import Codec, MaskFormat, bits_bytes, code_bytes, information_limit_bits
from xpeft.errors import ConfigError
from xpeft.io import read_made, write_bytes, write_json
from xpeft.job import OWN_WEIGHTS, PEER_METHODS, MaskKind, Method, Norm, Sides
from xpeft.peersizes import PeerSize, peer_sizes
from xpeft.shapes import EncoderShape
from xpeft.store import profile_file_bytes

SCHEMA = 1
GOAL = 10_000
"""The ratio that the paper claims, and that we want for everything a profile stores (ours)."""

REDUCTION = 16
"""d / b of the adapters (paper)."""

PROFILES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
CODES = ((100, 50), (100, 10), (150, 75), (200, 100), (400, 200), (400, 50), (400, 10))
"""Pairs (N, k) whose codes are always listed, beside those asked for."""

Json = dict[str, Any]


def adapter_parameters(layers: int, width: int, bottleneck: int) -> int:
    """Parameters of one Pfeiffer adapter: 2 d b L weights and (b + d) L biases."""
    return layers * (2 * width * bottleneck + bottleneck + width)


def norm_parameters(layers: int, bottleneck: int) -> int:
    """Parameters of an affine LayerNorm over the bottleneck of each block: 2 b L."""
    return 2 * bottleneck * layers


def head_parameters(width: int, classes: int) -> int:
    """Parameters of a linear head: (d + 1) C."""
    return (width + 1) * classes


def binary_head_bytes(width: int, rows: int) -> int:
    """Bytes of a binary head: of each row a bit for each weight, a scale and a bias (ours)."""
    return bits_bytes(rows, width) + 8 * rows


def profile_bytes(
    *,
    method: Method,
    layers: int,
    width: int,
    bottleneck: int,
    classes: int,
    mask: MaskKind | None = None,
    codec: Codec | None = None,
    n: int = 0,
    k: int | None = None,
    sides: Sides = "separate",
    norm: Norm = "none",
    gains: int = 0,
    encoder_parameters: int = 0,
    peer_bytes: int = 0,
) -> dict[str, int]:
    """The bytes a profile of some method stores, its private head included.

    Args:
        method: parts that it does not have are 0, whatever the other arguments say.
        layers, width, bottleneck, classes: L, d, b, and the width of the head.
        mask: of `x_peft`: `soft` or `hard`.
        codec: how masks are stored; by default `soft32` for soft masks and `bits` for hard ones.
        n, k, sides: of `x_peft`: N, ones in a row of a hard mask, matrices that are stored.
        norm: only `affine` stores parameters.
        gains: trained factors of the aggregate, as numbers (2 L for one a block and side).
        encoder_parameters: of `full` and `bitfit`: parameters of the encoder that it stores.
        peer_bytes: of a peer: what its library writes, or `xpeft.peersizes` without the overhead.

    Returns:
        masks, norm, head, adapter, gain, encoder, and their total.
    """
    parts = dict.fromkeys(("masks", "norm", "head", "adapter", "gain", "encoder"), 0)
    parts["head"] = 4 * head_parameters(width, classes)
    if method == "single_adapter":
        parts["adapter"] = 4 * adapter_parameters(layers, width, bottleneck)
    elif method in PEER_METHODS:
        parts["adapter"] = peer_bytes
    elif method in OWN_WEIGHTS:
        parts["encoder"] = 4 * encoder_parameters
    elif method == "x_peft":
        if mask not in ("soft", "hard"):
            raise ConfigError(f"mask: found {mask!r}, expected soft or hard for x_peft")
        chosen: Codec = codec or ("soft32" if mask == "soft" else "bits")
        if (chosen in ("soft32", "soft16")) != (mask == "soft"):
            raise ConfigError(f"codec: found {chosen} with {mask} masks, expected one for them")
        parts["masks"] = code_bytes(chosen, layers, n, None if mask == "soft" else k, sides)
        parts["norm"] = 4 * norm_parameters(layers, bottleneck) if norm == "affine" else 0
        parts["gain"] = 4 * gains
    elif method != "head_only":
        raise ConfigError(f"method: found {method!r}, expected one of the methods")
    return {**parts, "total": sum(parts.values())}


def read_ledger(path: str | os.PathLike[str]) -> Json:
    """Read what `xpeft ledger --out` wrote.

    Raises:
        XpeftError: it is missing or something else.
    """
    return read_made(path, "ledger", "encoder", "adapters", "masks", "combinations")


def ledger(
    shape: EncoderShape,
    adapters: int = 100,
    reduction: int = REDUCTION,
    k: int | None = None,
    classes: int = 15,
    profiles: Sequence[int] = PROFILES,
) -> Json:
    """The whole account for one encoder, as plain JSON.

    Args:
        shape: of the encoder, from `xpeft.shapes.encoder_shape`.
        adapters: N.
        reduction: d / b.
        k: selected adapters a row of a hard mask; None means N // 2 (ours).
        classes: C, of the private head: 15 are the categories of LaMP news.
        profiles: the P to share a bank over.

    Raises:
        ConfigError: a number is out of range, or the reduction does not divide the width.
    """
    k = max(1, adapters // 2) if k is None else k
    for name, value, least in (
        ("adapters", adapters, 1),
        ("reduction", reduction, 1),
        ("k", k, 1),
        ("classes", classes, 1),
        *(("profiles", p, 1) for p in profiles),
    ):
        if value < least:
            raise ConfigError(f"{name}: found {value}, expected at least {least}")
    if k > adapters:
        raise ConfigError(f"k: found {k}, expected at most the {adapters} adapters of the bank")
    if shape.width % reduction:
        raise ConfigError(
            f"reduction: found {reduction}, expected a divisor of the encoder's width {shape.width}"
        )
    layers, d, b = shape.layers, shape.width, shape.width // reduction
    adapter, masks = _adapter(layers, d, b), _masks(layers, adapters, k)
    size = adapter["bytes"]
    for entry in masks.values():
        entry["ratio"] = _ratio(size, entry["bytes"])
    norm = {
        "kind": "affine",
        "parameters": norm_parameters(layers, b),
        "bytes": 4 * norm_parameters(layers, b),
        "formula": f"2 b L x 4 = 2 x {b} x {layers} x 4",
    }
    head = {
        "classes": classes,
        "parameters": head_parameters(d, classes),
        "bytes": 4 * head_parameters(d, classes),
        "formula": f"(d + 1) C x 4 = {d + 1} x {classes} x 4",
    }
    gain = {
        "parameters": 2 * layers,
        "bytes": 8 * layers,
        "formula": f"2 L x 4 = 2 x {layers} x 4",
    }
    hard = masks["hard_bits"]["bytes"]
    banks = _banks(shape, b, adapters, size, hard)
    measured = measure(shape, adapters, reduction, k, classes)
    adapter["file_bytes"] = measured["adapter_file_bytes"]
    return {
        "schema": SCHEMA,
        "encoder": {
            "name": shape.name,
            "family": shape.family,
            "layers": layers,
            "width": d,
            "bottleneck": b,
            "reduction": reduction,
            "parameters": shape.parameters,
        },
        "adapters": adapters,
        "k": k,
        "classes": classes,
        "adapter": adapter,
        "masks": masks,
        "norm": norm,
        "head": head,
        "gain": gain,
        "goal": {"ratio": GOAL, "bytes": size // GOAL},
        "combinations": _combinations(masks, norm, head, gain, size),
        "store": [
            *_stored(masks, classes, size),
            _stored_with_binary_head(layers, adapters, d, size),
        ],
        "codes": _codes(layers, adapters, k, size),
        "bank": banks,
        "profiles": [_share(p, size, hard, banks) for p in profiles],
        "peers": _peers(shape, b, masks, size),
        "trainable_parameters": {
            "adapter": adapter["parameters"],
            "adapter_weights": adapter["weights"],
            "soft_masks": 2 * layers * adapters,  # hard ones train as many scores
            "ratio": _ratio(adapter["parameters"], 2 * layers * adapters),
            "adapter_and_head": adapter["parameters"] + head_parameters(d, 2),
            "soft_masks_and_head": 2 * layers * adapters + head_parameters(d, 2),
        },
        "measured": measured,
    }


def measure(shape: EncoderShape, adapters: int, reduction: int, k: int, classes: int) -> Json:
    """Build the files of an adapter and of profiles in a temporary folder, and weigh them.

    The adapter is stored as compactly as safetensors allows, four stacked tensors (a file with a
    tensor for each block is larger), so that no ratio profits from its overhead. Masks are
    weighed twice: as the bare code, and in a safetensors file that says what it holds.
    """
    from safetensors.numpy import save

    layers, d, b = shape.layers, shape.width, shape.width // reduction
    order = np.random.default_rng(0).random((2, layers, adapters)).argsort(axis=2)
    hard = order.argsort(axis=2) < k
    zeros = np.zeros((2, layers, adapters), dtype=np.float32)
    codes = {
        "soft_fp32": MaskFormat("soft32", layers, adapters).encode(*zeros),
        "soft_fp16": MaskFormat("soft16", layers, adapters).encode(*zeros),
        "hard_bits": MaskFormat("bits", layers, adapters, k).encode(*hard),
        "hard_enumerative": MaskFormat("enumerative", layers, adapters, k).encode(*hard),
    }
    masks = {"masks": np.frombuffer(codes["hard_bits"], np.uint8)}
    norm = _floats({"norm.weight": (layers, b), "norm.bias": (layers, b)})
    head = _floats({"head.weight": (classes, d), "head.bias": (classes,)})
    adapter = _floats(
        {
            "down": (layers, d, b),
            "up": (layers, b, d),
            "down_bias": (layers, b),
            "up_bias": (layers, d),
        }
    )
    contents: dict[str, tuple[str, bytes, int]] = {
        "adapter": ("adapter.safetensors", save(adapter), _payload(adapter))
    }
    for name, code in codes.items():
        contents[name] = (f"{name}.mask", code, len(code))
    for name, tensors in (
        ("norm", norm),
        ("head", head),
        ("profile", masks),
        ("profile+norm", masks | norm),
        ("profile+head", masks | head),
        ("profile+norm+head", masks | norm | head),
    ):
        contents[name] = (f"{name}.safetensors", save(tensors), _payload(tensors))
    manifest = _manifest(shape, b, adapters)
    contents["random_bank"] = ("manifest.json", b"", len(_json_text(manifest)))

    files: list[Json] = []
    with tempfile.TemporaryDirectory() as folder:
        for part, (file, content, payload) in contents.items():
            path = Path(folder) / file
            if part == "random_bank":
                write_json(path, manifest)
            else:
                write_bytes(path, content)
            size = path.stat().st_size
            files.append(
                {
                    "part": part,
                    "file": file,
                    "payload_bytes": payload,
                    "file_bytes": size,
                    "overhead_bytes": size - payload,
                }
            )
    total = files[0]["file_bytes"]
    for entry in files:
        if entry["part"] not in ("adapter", "random_bank", "norm", "head"):
            entry["ratio"] = _ratio(total, entry["file_bytes"])
    return {"adapter_file_bytes": total, "files": files}


def _adapter(layers: int, d: int, b: int) -> Json:
    weights, parameters = 2 * d * b * layers, adapter_parameters(layers, d, b)
    return {
        "weights": weights,
        "biases": parameters - weights,
        "parameters": parameters,
        "bytes": 4 * parameters,
        "formula": {
            "weights": f"2 d b L = 2 x {d} x {b} x {layers}",
            "biases": f"(b + d) L = ({b} + {d}) x {layers}",
            "bytes": f"4 x {parameters:,}",
        },
    }


def _masks(layers: int, n: int, k: int) -> dict[str, Json]:
    """Each way to store M_A and M_B: its bytes, and how they come about."""
    bits = information_limit_bits(layers, n, k)
    rows = f"2 x {layers}"
    return {
        "soft_fp32": {
            "bytes": code_bytes("soft32", layers, n),
            "formula": f"2 L N x 4 = {rows} x {n} x 4",
        },
        "soft_fp16": {
            "bytes": code_bytes("soft16", layers, n),
            "formula": f"2 L N x 2 = {rows} x {n} x 2",
        },
        "hard_bits": {
            "bytes": code_bytes("bits", layers, n),
            "formula": f"2 L ceil(N / 8) = {rows} x {-(-n // 8)}",
        },
        "hard_enumerative": {
            "bytes": code_bytes("enumerative", layers, n, k),
            "formula": f"ceil(2 L log2 C({n}, {k}) / 8) = ceil({bits:,} / 8)",
        },
        "information_limit": {
            "bits": bits,
            "bytes": -(-bits // 8),
            "formula": f"ceil(2 L log2 C({n}, {k})) = {bits:,} bits",
        },
    }


def _combinations(
    masks: dict[str, Json], norm: Json, head: Json, gain: Json, adapter: int
) -> list[Json]:
    """What profiles of different privacy store.

    `ratio` is against the adapter alone; `ratio_same_head` gives the adapter the private head
    too, as its profile also needs one.
    """
    hard, soft = "hard masks", "soft masks fp32"
    rows: list[tuple[str, str, dict[str, int]]] = []
    for key, name, source in (("hard", hard, "hard_bits"), ("soft", soft, "soft_fp32")):
        size = masks[source]["bytes"]
        for suffix, words, extra in (
            ("", " alone (norm fixed, head shared)", {}),
            ("+gain", " + a gain a block and side", {"gain": gain["bytes"]}),
            ("+norm", " + private affine norm", {"norm": norm["bytes"]}),
            ("+head", f" + private {head['classes']}-class head", {"head": head["bytes"]}),
            (
                "+norm+head",
                " + private norm and head",
                {"norm": norm["bytes"], "head": head["bytes"]},
            ),
        ):
            rows.append((key + suffix, name + words, {"masks": size, **extra}))
    coded = masks["hard_enumerative"]["bytes"]
    rows.insert(1, ("enumerative", f"{hard} alone, enumerative code", {"masks": coded}))
    result = []
    for key, name, parts in rows:
        size, other = sum(parts.values()), adapter + parts.get("head", 0)
        result.append(
            {
                "key": key,
                "name": name,
                "parts": parts,
                "bytes": size,
                "ratio": _ratio(adapter, size),
                "ratio_same_head": _ratio(other, size),
                "reaches_goal": adapter >= GOAL * size,
            }
        )
    return result


def _stored(masks: dict[str, Json], classes: int, adapter: int) -> list[Json]:
    """What a profile takes of a store's file, all-in: data, checksum, id, index, page.

    Its head is shared or drawn from a seed; of it a profile may keep a bias of its own.
    """
    result = []
    for code, name in (("hard_bits", "bit sets"), ("hard_enumerative", "enumerative code")):
        for bias in sorted({0, 2, classes}):
            key = code.removeprefix("hard_") + (f"+bias{bias}" if bias else "")
            more = f" + a bias for each of {bias} classes" if bias else ""
            payload = masks[code]["bytes"] + 4 * bias
            result.append(_all_in(key, f"hard masks, {name}{more}", payload, adapter))
    return result


def _stored_with_binary_head(layers: int, n: int, width: int, adapter: int) -> Json:
    """The same with a binary head for two classes, and the largest k that still reaches the goal.

    Where none does, k = 1.
    """

    def payload(k: int) -> int:
        return code_bytes("enumerative", layers, n, k) + binary_head_bytes(width, 1)

    rising = range(1, n // 2 + 1)
    fit = bisect_right(rising, adapter // GOAL, key=lambda k: profile_file_bytes(payload(k)))
    k = max(1, fit)
    name = f"hard masks, k = {k}, enumerative code + a binary head for 2 classes"
    return _all_in("enumerative+binary", name, payload(k), adapter) | {"k": k}


def _all_in(key: str, name: str, payload: int, adapter: int) -> Json:
    size = profile_file_bytes(payload)
    return {
        "key": key,
        "name": name,
        "payload_bytes": payload,
        "bytes": size,
        "ratio": _ratio(adapter, size),
        "reaches_goal": adapter >= GOAL * size,
    }


def _codes(layers: int, adapters: int, k: int, adapter: int) -> list[Json]:
    """Bit set, enumerative code and information limit over a grid of N and k."""
    result = []
    for n, ones in sorted({*CODES, (adapters, k)}, key=lambda pair: (pair[0], -pair[1])):
        masks = _masks(layers, n, ones)
        result.append(
            {"n": n, "k": ones}
            | {
                name: {
                    "bytes": masks[name]["bytes"],
                    "ratio": _ratio(adapter, masks[name]["bytes"]),
                }
                for name in ("hard_bits", "hard_enumerative", "information_limit")
            }
        )
    return result


def _banks(shape: EncoderShape, b: int, n: int, adapter: int, masks: int) -> dict[str, Json]:
    """What the bank itself costs, once, and from how many profiles on it pays.

    A trained bank is N adapters with biases. A random one is its manifest, which holds the seed;
    in memory it is as large, but for the biases, which are zero and not kept.
    """
    weights = 4 * 2 * shape.width * b * shape.layers
    manifest = len(_json_text(_manifest(shape, b, n)))
    result = {}
    for kind, size, memory, formula in (
        ("random", manifest, n * weights, "its manifest, which holds the seed"),
        ("trained", n * adapter, n * adapter, f"N adapters = {n} x {adapter:,}"),
    ):
        result[kind] = {
            "kind": kind,
            "bytes": size,
            "memory_bytes": memory,
            "formula": formula,
            "break_even_profiles": _profiles_for(1, size, adapter, masks, strictly=True),
            "profiles_for_ratio": {
                str(ratio): _profiles_for(ratio, size, adapter, masks)
                for ratio in (10, 100, 1_000, GOAL)
            },
        }
    return result


def _profiles_for(
    ratio: int, bank: int, adapter: int, masks: int, *, strictly: bool = False
) -> int | None:
    """The least P with P adapter >= ratio (bank + P masks), or > if `strictly`; None if no P."""
    gain = adapter - ratio * masks
    if gain <= 0:
        return None
    return max(1, ratio * bank // gain + 1 if strictly else -(-ratio * bank // gain))


def _share(profiles: int, adapter: int, masks: int, banks: dict[str, Json]) -> Json:
    """P adapters against a bank and P hard masks (bit sets)."""
    entry: Json = {
        "profiles": profiles,
        "adapter_bytes": profiles * adapter,
        "masks_bytes": profiles * masks,
    }
    for kind, bank in banks.items():
        total = bank["bytes"] + profiles * masks
        entry[kind] = {
            "bytes": total,
            "bytes_per_profile": round(total / profiles, 3),
            "ratio": _ratio(profiles * adapter, total),
        }
    return entry


def _peers(shape: EncoderShape, b: int, masks: dict[str, Json], adapter: int) -> list[Json]:
    """Other methods' bytes a profile, fp32, head excluded, by formula, the largest first.

    Those of `xpeft.peersizes`, beside full fine-tuning and the adapter.
    """
    layers, d = shape.layers, shape.width
    count = adapter_parameters(layers, d, b)
    formula = f"(2 d b + b + d) L = (2 x {d} x {b} + {b} + {d}) x {layers}"
    sizes = {
        "adapter": PeerSize(
            f"Pfeiffer adapter, b = {b}", count, 4 * count, formula, "the measure of all ratios"
        ),
        **peer_sizes(shape),
    }
    if shape.parameters is not None:
        sizes["full"] = PeerSize(
            "full fine-tuning",
            shape.parameters,
            4 * shape.parameters,
            "all parameters of the encoder",
        )
    peers: list[Json] = [
        {"key": key, **dataclasses.asdict(size), "ours": False} for key, size in sizes.items()
    ]
    names = {
        "soft_fp32": "X-PEFT, soft masks fp32",
        "soft_fp16": "X-PEFT, soft masks fp16",
        "hard_bits": "X-PEFT, hard masks, bit set",
        "hard_enumerative": "X-PEFT, hard masks, enumerative",
    }
    trained = masks["soft_fp32"]["bytes"] // 4
    peers += [
        {
            "key": key,
            "name": name,
            "parameters": trained,
            "bytes": masks[key]["bytes"],
            "formula": masks[key]["formula"],
            "note": "the bank is shared; see bank",
            "ours": True,
        }
        for key, name in names.items()
    ]
    for peer in peers:
        peer["ratio"] = _ratio(adapter, peer["bytes"])
        peer["counted"] = "formula"
    return sorted(peers, key=lambda peer: (-peer["bytes"], peer["name"]))


def _manifest(shape: EncoderShape, b: int, n: int) -> Json:
    """The manifest of a random bank as `xpeft.bank.save_bank` writes it, with an empty digest.

    The digest would need the bank's entries; its length does not.
    """
    sizes = {"layers": shape.layers, "n": n, "width": shape.width, "bottleneck": b}
    recipe = {"generator": 1, "seed": 0, "init": "uniform", "down_std": 0.02, "up_std": 0.02}
    return {
        "schema": 1,
        "kind": "random",
        "shape": sizes,
        "recipe": {**recipe, "shape": list(sizes.values())},
        "digest": "0" * 64,
    }


def _json_text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _floats(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}


def _payload(tensors: dict[str, Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _ratio(adapter: int, size: int) -> float | None:
    """adapter / size, to three digits after the point; None where nothing is stored."""
    return round(adapter / size, 3) if size else None
