"""What the peers are and what they store, by formula: light enough for a ledger or a plan.

The settings stand here once. `xpeft.peers` builds the peers with them, and tests hold its files
against these formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpeft.shapes import EncoderShape

LORA_RANK = 8  # Hu et al., 2106.09685, on GLUE; with alpha = 8 too
VERA_RANK = 256  # peft's default for Kopiczko et al., 2310.11454
VBLORA_RANK = 4  # Li et al., 2405.15179, on GLUE; the next three likewise
VBLORA_VECTORS = 90
VBLORA_LENGTH = 256
VBLORA_TOP = 2
UNILORA_RANK = 4  # peft's default for Li et al., 2506.00799; the next likewise
UNILORA_LENGTH = 256  # of few bytes, as is asked here; its authors train 23,040 numbers on GLUE
PROMPT_TOKENS = 20  # Lester et al., 2104.08691: about where more tokens stop to help


@dataclass(frozen=True)
class PeerSize:
    """A peer's account for one encoder, without its head and without the overhead of a file.

    Attributes:
        name: in words.
        parameters: that are trained.
        bytes: that are stored: float32 parameters, or what the method keeps of them.
        formula: of the bytes or the parameters, with its numbers.
        note: what is not in the count.
    """

    name: str
    parameters: int
    bytes: int
    formula: str
    note: str = ""


def peer_sizes(shape: EncoderShape) -> dict[str, PeerSize]:
    """The peers by key, of methods their names; those that need what is not known are left out.

    Numbers of parameters are those of the library `peft` with its default targets for BERT: query
    and value for LoRA and its kin; key, value and the inputs of both output layers of a block for
    (IA)3. Matrices that a seed makes again are not counted.
    """
    layers, d, f = shape.layers, shape.width, shape.intermediate
    found: dict[str, PeerSize] = {}

    def add(key: str, name: str, count: int, formula: str, note: str = "") -> None:
        found[key] = PeerSize(name, count, 4 * count, formula, note)

    if shape.biases is not None:
        add("bitfit", "BitFit", shape.biases, "all biases of the encoder")
    r = LORA_RANK
    add("lora", f"LoRA, r = {r}, q and v", 2 * layers * r * 2 * d,
        f"2 L r (d + d) = 2 x {layers} x {r} x {2 * d}")  # fmt: skip
    if f is not None:
        add("ia3", "(IA)3", layers * (3 * d + f), f"L (3 d + f) = {layers} x ({3 * d} + {f})")
    r = VERA_RANK
    add("vera", f"VeRA, r = {r}, q and v", 2 * layers * (r + d),
        f"2 L (r + d) = 2 x {layers} x ({r} + {d})",
        "its projections are a seed; a file that keeps them is larger")  # fmt: skip
    found["vblora"] = _vblora(layers, d)
    add("fourierft", "FourierFT, n = 1,000, q and v", 2 * layers * 1000,
        f"2 L n = 2 x {layers} x 1000", "its frequencies are a seed")  # fmt: skip
    n = PROMPT_TOKENS
    add("prompt_tuning", f"prompt tuning, {n} tokens", n * d, f"{n} d = {n} x {d}")
    add("tinylora", "TinyLoRA, u = 64, q and v", 2 * layers * 64, f"2 L u = 2 x {layers} x 64",
        "its frozen factors are made again from the encoder")  # fmt: skip
    n = UNILORA_LENGTH
    add("unilora", "UniLoRA, default", n, f"theta_d = {n} numbers for all blocks",
        "its indices are a seed; its authors train 23,040 numbers on GLUE")  # fmt: skip
    return found


def vblora_length(width: int) -> int:
    """Numbers of a vector of VB-LoRA: 256 where it divides the width, else the largest divisor.

    Derived: the paper's encoders all have such widths; for d = 384 it is 192.
    """
    return max(n for n in range(1, VBLORA_LENGTH + 1) if width % n == 0)


def _vblora(layers: int, d: int) -> PeerSize:
    """Logits over the vectors are trained; k indices and k - 1 weights a sub-vector are kept."""
    h, r, k, b = VBLORA_VECTORS, VBLORA_RANK, VBLORA_TOP, vblora_length(d)
    parts, kept = 2 * layers * 2 * r * (d // b), k + 4 * (k - 1)
    return PeerSize(
        name=f"VB-LoRA, {h} vectors, q and v",
        parameters=h * b + h * parts,
        bytes=4 * h * b + parts * kept,
        formula=f"4 h b + {4 * kept} L r d / b = {4 * h * b:,} + {parts * kept:,}",
        note="its vectors are trained with the profile, so they are its own",
    )
