"""Remove the lock that a killed Snakemake left in a folder, never that of a live run.

    .venv/bin/python tools/unlock.py [--stop] [--wait] [FOLDER]

With --wait the steps of the killed run that still work are waited for: the next run would do the
same beside them. With --stop a Snakemake that is alive in the folder is killed first, as one must
be that waits for jobs it has lost; its Slurm jobs live on.

Snakemake's lock names no process, so a `kill -9` leaves a lock that looks like a live one. It is
stale if it is ours, no Snakemake of this machine works in the folder, and no other machine has
written to Snakemake's logs there since the lock was made (on a shared disk the run may be there).
A lock that is not known to be stale stays: a line says why, and Snakemake itself then refuses to
run where the two would collide.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def main(folder: Path, wait: bool = False) -> None:
    """Unlock `folder` if its lock is stale; say what was done, nothing where there is no lock."""
    locks = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if not locks:
        return
    if reason := why_live(folder, locks):
        print(f"{folder}: the lock stays: {reason}", file=sys.stderr)
        return
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)
    print(f"{folder}: removed the lock of a Snakemake run that was killed", file=sys.stderr)
    working = list(processes(folder, "xpeft"))
    for process in working:
        print(
            f"{folder}: process {process.pid} of that run still works"
            + (f"; waiting for it (`kill {process.pid}`: it keeps a checkpoint)" if wait else ""),
            file=sys.stderr,
            flush=True,
        )
    left = {process.pid for process in working} if wait else set()
    while left & {process.pid for process in processes(folder, "xpeft")}:  # without zombies
        time.sleep(0.5)


def stop(folder: Path) -> None:
    """Kill the live runs of Snakemake in `folder`, and wait until they are gone."""
    for process in drivers(folder):
        print(f"{folder}: killing Snakemake, process {process.pid}", file=sys.stderr)
        process.kill()
    for _ in range(100):  # ten seconds; a zombie counts as gone
        if not any(drivers(folder)):
            return
        time.sleep(0.1)


def why_live(folder: Path, locks: list[Path]) -> str | None:
    """Why the lock may be that of a live run; None where it is stale."""
    for process in drivers(folder):
        pid = process.pid
        return f"Snakemake runs here as process {pid}; wait for it, or end it (make resume STOP=1)"
    made = min((path.stat().st_mtime for path in locks), default=math.inf)
    if any(path.stat().st_uid != os.getuid() for path in locks):
        return "it is another user's; ask them, or run `snakemake --unlock`"
    for log in sorted((folder / ".snakemake" / "log").glob("*.snakemake.log")):
        host = host_of(log) if log.stat().st_mtime >= made else None
        if host not in (None, platform.node()):
            return f"a run on {host} may be live; if none is, run `snakemake --unlock`"
    return None


def drivers(folder: Path) -> Iterator[psutil.Process]:
    """The live runs of Snakemake in `folder`, without the helpers that do one job of a run.

    On a machine that is login and compute node at once, a helper in a Slurm job outlives its run.
    """
    for process in processes(folder, "snakemake"):
        try:
            if "--target-jobs" not in process.cmdline():
                yield process
        except psutil.Error:
            continue  # gone


def processes(folder: Path, program: str) -> Iterator[psutil.Process]:
    """The live processes of this machine that run `program` in `folder`."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:4]  # python, its flags, the program
            runs = any(Path(word).name == program for word in words)
            by_python = bool(words) and Path(words[0]).name.startswith(("python", program))
            if runs and by_python and Path(process.cwd()).samefile(folder):
                yield process
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's


def host_of(log: Path) -> str | None:
    """The machine that a Snakemake log names in its head, None where it names none."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for _, line in zip(range(50), lines, strict=False):
            key, _, value = line.partition(":")
            if key.strip() == "Host":
                return value.strip()
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--stop", action="store_true", help="kill a live Snakemake first")
    parser.add_argument("--wait", action="store_true", help="for steps that outlived a killed run")
    args = parser.parse_args()
    if args.stop:
        stop(args.folder.resolve())
    main(args.folder.resolve(), args.wait)
