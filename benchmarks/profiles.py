"""Training many profiles at once beside the bare encoder, one by one, and a process each.

    python benchmarks/profiles.py [--profiles 64] [--rows 8] [--tokens 32] [--rounds 6]

Rates are rows a second of forward and backward, without loading; those of the bare encoder and of
the two ways to train in one process are taken in turns, so that a busy machine slows them alike,
and each is that of its fastest turn, to which other load can only have added. A process each is
the time of a few processes, start and end included, scaled to all profiles.

Memory is the growth of a process's peak from 1,000 to 3,000 profiles over the 2,000 that were
added; data, one short text each, count in it. Activations depend on the profiles of one pass alone.

Prints a line a figure (name, value, bound, ok or MISSED); exits 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from xpeft.encoder import Encoder, TokenTable, load_encoder
from xpeft.fitting import EncodedFeatures, ProfileData, fit
from xpeft.heads import init_head
from xpeft.job import BankSpec, EncoderSpec, MethodSpec
from xpeft.methods import BankMasks, make_bank
from xpeft.optimizer import Schedule

SHARE_BOUND = 0.85
MEMORY_BOUND = 24 * 1024
CLASSES = 2
BATCHES = (8, 16, 32, 64)
STEPS = 3
"""Steps of each profile in a turn."""


def make_table(rows: int, tokens: int) -> TokenTable:
    """Random texts of one length."""
    random = np.random.default_rng(0)
    ids = [random.integers(1000, 20000, tokens).astype(np.int32) for _ in range(rows)]
    types = [np.zeros(tokens, dtype=np.int32)] * rows
    return TokenTable(ids, types, np.full(rows, tokens), pad=0)


def make_profiles(count: int, rows: int, steps: int) -> list[ProfileData]:
    """Profiles with `steps` batches of `rows` rows each."""
    each = rows * steps
    return [
        ProfileData(np.arange(p * each, (p + 1) * each), np.arange(each) % CLASSES, seed=p)
        for p in range(count)
    ]


def bare(encoder: Encoder, table: TokenTable, batch: int) -> float:
    """Rows a second of the encoder's own forward and backward pass, with nothing in it."""
    shift = torch.zeros((), dtype=encoder.dtype, device=encoder.device, requires_grad=True)
    deltas = [lambda hidden: shift] + [lambda hidden: 0.0] * (encoder.layers - 1)
    begun = time.perf_counter()
    passes = max(1, 128 // batch)
    for number in range(passes):
        rows = np.arange(number * batch, (number + 1) * batch) % len(table)
        encoder(table.batch(rows), deltas).sum().backward()  # type: ignore
    synchronize(encoder)
    return passes * batch / (time.perf_counter() - begun)


def train(
    encoder: Encoder,
    method: BankMasks,
    table: TokenTable,
    profiles: list[ProfileData],
    rows: int,
    at_once: int,
) -> float:
    """Rows a second of training these profiles together."""
    seeds = [profile.seed for profile in profiles]
    parameters = {**method.init(seeds), **init_head(seeds, CLASSES, encoder)}
    schedules = [Schedule(len(profile.rows) // rows, 0.1, 0.01) for profile in profiles]
    begun = time.perf_counter()
    fit(
        EncodedFeatures(encoder, method), parameters, table, profiles, schedules,
        batch_size=rows, rows_at_once=at_once,
    )  # fmt: skip
    synchronize(encoder)
    return sum(len(profile.rows) for profile in profiles) / (time.perf_counter() - begun)


def synchronize(encoder: Encoder) -> None:
    """Wait for a GPU."""
    if encoder.device.type == "cuda":
        torch.cuda.synchronize()


def rates(options: argparse.Namespace) -> dict[str, float]:
    """Best rows a second: of the bare encoder at its best batch, together, and one by one."""
    encoder = load_encoder(EncoderSpec(dtype=options.dtype), options.device)
    method = BankMasks(encoder, make_bank(encoder, BankSpec()), MethodSpec(mask="hard", k=50))
    profiles = make_profiles(options.profiles, options.rows, STEPS)
    table = make_table(options.profiles * options.rows * STEPS, options.tokens)
    some = profiles[: max(4, options.profiles // 8)]  # one by one: enough to see the rate
    found: dict[str, float] = {}

    def keep(name: str, rate: float) -> None:
        found[name] = max(found.get(name, 0.0), rate)

    for turn in range(options.rounds):
        for batch in BATCHES:
            keep(f"bare {batch}", bare(encoder, table, batch))
        keep("together", train(encoder, method, table, profiles, options.rows, options.at_once))
        taken = sum(
            len(profile.rows) / train(encoder, method, table, [profile], options.rows, 1)
            for profile in some
        )
        keep("one by one", sum(len(profile.rows) for profile in some) / taken)
        print(f"turn {turn + 1} of {options.rounds}", file=sys.stderr)
    return found


def one_process(options: argparse.Namespace) -> None:
    """Train one profile, as a process of its own would."""
    encoder = load_encoder(EncoderSpec(dtype=options.dtype), options.device)
    method = BankMasks(encoder, make_bank(encoder, BankSpec()), MethodSpec(mask="hard", k=50))
    table = make_table(options.rows * STEPS, options.tokens)
    train(encoder, method, table, make_profiles(1, options.rows, STEPS), options.rows, 1)


def peak(count: int, options: argparse.Namespace) -> int:
    """Peak resident bytes of a process that trains so many profiles for one step."""
    encoder = load_encoder(EncoderSpec(dtype="float32"), "cpu")
    method = BankMasks(encoder, make_bank(encoder, BankSpec()), MethodSpec(mask="hard", k=50))
    table = make_table(count, 4)
    train(encoder, method, table, make_profiles(count, 1, 1), 1, 64)
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def again(options: argparse.Namespace, *more: str) -> str:
    """Run this file in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(options.threads)]
    command += ["--rows", str(options.rows), "--tokens", str(options.tokens)]
    command += ["--device", options.device, "--dtype", options.dtype, *more]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Measure, print, and say whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", type=int, default=64)
    parser.add_argument("--rows", type=int, default=8, help="rows of a profile in a step")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=64, help="rows of a pass")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=3, help="processes that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        one_process(options)
        return 0
    if options.peak_of:
        print(peak(options.peak_of, options))
        return 0
    missed = False

    def line(name: str, value: float, text: str, bound: float, above: bool) -> None:
        nonlocal missed
        held = value >= bound if above else value <= bound
        missed |= not held
        print(f"{name}: {text} (bound {bound:g}) {'ok' if held else 'MISSED'}")

    found = rates(options)
    best = max(BATCHES, key=lambda batch: found[f"bare {batch}"])
    encoder = found[f"bare {best}"]
    print(f"bare encoder at its best batch of {best}: {encoder:.0f} rows a second")
    share = found["together"] / encoder
    name = f"{options.profiles} profiles x {options.rows} rows together"
    line(f"{name} / bare encoder", share, f"{share:.2f}", SHARE_BOUND, True)
    gain = found["together"] / found["one by one"]
    least = 10.0 if options.device == "cuda" else 1.0
    line(f"{name} / one after another", gain, f"{gain:.2f} times", least, True)
    begun = time.perf_counter()
    for _ in range(options.processes):
        again(options, "--alone")
    each = (time.perf_counter() - begun) / options.processes
    whole = options.profiles * options.rows * STEPS / found["together"]
    gain = options.profiles * each / whole
    line(f"{name} / a process each", gain, f"{gain:.1f} times", least, True)
    few, many = (int(again(options, "--peak-of", str(count))) for count in (1000, 3000))
    head = 16 * CLASSES * (384 + 1)
    bytes_each = (many - few) / 2000 - head
    line(
        "memory of a further profile beyond 16 bytes a parameter of its head",
        bytes_each,
        f"{bytes_each:.0f} bytes",
        MEMORY_BOUND,
        False,
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
