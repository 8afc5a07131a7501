"""A training step of `x_peft` beside one of `single_adapter`: time and memory, as ratios.

    python benchmarks/step.py [--rows 32] [--tokens 64] [--rounds 16] [--out FILE]

The steps of all methods alternate in one process, so that a busy machine slows them alike; the
ratio is that of the fastest steps, to which other load can only have added. Memory is the peak of
a process of its own per method, less the bank.

Prints a line a figure (name, value, bound, ok or MISSED); exits 1 where a bound is missed. Banks of
more than MOST adapters have no bound. The report shows the file `results/<tier>/step.json`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xpeft.encoder import Encoder, TokenTable, load_encoder
from xpeft.fitting import EncodedFeatures
from xpeft.heads import init_head, linear_heads
from xpeft.io import write_json
from xpeft.job import BankSpec, EncoderSpec, MethodSpec
from xpeft.machine import processor_name, versions
from xpeft.methods import make_bank, make_method
from xpeft.optimizer import ProfileAdamW, Schedule
from xpeft.version import git_state

BOUND = 1.10
MOST = 400
YARD = "single_adapter"
SIZES = (25, 100, 400, 800)
ARMS = {YARD: (MethodSpec(method="single_adapter"), 0)} | {
    f"x_peft-{mask}-n{n}": (
        MethodSpec(mask="hard", k=n // 2) if mask == "hard" else MethodSpec(mask="soft"),
        n,
    )
    for n in SIZES
    for mask in ("hard", "soft")
}


def make_step(arm: str, encoder: Encoder, rows: int, tokens: int) -> tuple[Callable[[], None], int]:
    """A function that takes one training step, and the bytes of the arm's bank."""
    spec, n = ARMS[arm]
    bank = make_bank(encoder, BankSpec(n=n)) if n else None
    method = make_method(encoder, spec, bank)
    random = np.random.default_rng(0)
    ids = [random.integers(1000, 20000, tokens).astype(np.int32) for _ in range(rows)]
    types = [np.zeros(tokens, dtype=np.int32)] * rows
    table = TokenTable(ids, types, np.full(rows, tokens), pad=0)
    labels = torch.arange(rows) % 2
    features = EncodedFeatures(encoder, method)
    parameters = {**method.init([0]), **init_head([0], 2, encoder)}
    optimizer = ProfileAdamW(parameters, [Schedule(10_000, 1e-3, 1e-3)])
    owners = torch.zeros(rows, dtype=torch.int64)

    def step() -> None:
        leaves = optimizer.leaves([0])
        vectors = features(table, np.arange(rows), owners, leaves)
        logits = linear_heads(vectors, leaves["head.weight"], leaves["head.bias"], owners)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step([0], leaves)

    return step, bank.nbytes if bank else 0


def times(rows: int, tokens: int, rounds: int) -> dict[str, float]:
    """Seconds of the fastest step of each arm, steps taken in turn."""
    encoder = load_encoder(EncoderSpec())
    steps = {arm: make_step(arm, encoder, rows, tokens)[0] for arm in ARMS}
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for step in steps.values():
        step()
    for turn in range(rounds):
        order = list(steps) if turn % 2 else list(reversed(steps))
        for arm in order:
            begun = time.perf_counter()
            steps[arm]()
            taken[arm].append(time.perf_counter() - begun)
    return {arm: min(values) for arm, values in taken.items()}


def peak_beyond_bank(arm: str, rows: int, tokens: int) -> int:
    """Peak resident bytes of three steps, less those of the bank; in this process."""
    step, bank = make_step(arm, load_encoder(EncoderSpec()), rows, tokens)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    for _ in range(3):
        step()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return peak * 1024 - bank


def main() -> int:
    """Measure, print, and say whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="a JSON file of all figures")
    parser.add_argument("--peak-of", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_beyond_bank(options.peak_of, options.rows, options.tokens))
        return 0
    seconds = times(options.rows, options.tokens, options.rounds)
    print(f"{YARD} step: {seconds[YARD] * 1000:.0f} ms")
    peaks = {}
    for arm in ARMS:
        command = [sys.executable, __file__, "--peak-of", arm, "--rows", str(options.rows)]
        command += ["--tokens", str(options.tokens), "--threads", str(options.threads)]
        peaks[arm] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{YARD} peak: {peaks[YARD] / 2**20:.0f} MiB")
    missed = False
    for what, values in (("step time", seconds), ("peak memory beyond the bank", peaks)):
        for arm, (_, n) in list(ARMS.items())[1:]:
            ratio = values[arm] / values[YARD]
            text = f"{what}, {arm} / {YARD}: {ratio:.3f}"
            if n > MOST:
                print(f"{text} (no bound)")
                continue
            missed |= ratio > BOUND
            print(f"{text} (bound {BOUND:.2f}) {'ok' if ratio <= BOUND else 'MISSED'}")
    if options.out:
        write_json(options.out, account(options, seconds, peaks))
    return int(missed)


def account(
    options: argparse.Namespace, seconds: dict[str, float], peaks: dict[str, int]
) -> dict[str, Any]:
    """The figures as `xpeft.report.bank_sizes` reads them."""
    shape = {"rows": options.rows, "tokens": options.tokens, "rounds": options.rounds}
    return {
        "schema": 1,
        **shape,
        "encoder": EncoderSpec().name,
        "device": "cpu",
        "processor": processor_name("cpu"),
        "threads": options.threads,
        "versions": versions(),
        "git": git_state(),
        "adapter": {"seconds": seconds[YARD], "peak_bytes": peaks[YARD]},
        "steps": [
            {
                "mask": spec.mask,
                "n": n,
                "seconds": seconds[arm],
                "peak_bytes_beyond_bank": peaks[arm],
                "time_ratio": seconds[arm] / seconds[YARD],
                "memory_ratio": peaks[arm] / peaks[YARD],
            }
            for arm, (spec, n) in ARMS.items()
            if arm != YARD
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
