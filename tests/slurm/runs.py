"""Runs of the workflow on the lab: a folder as a clone is, with a small config and the profile."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from lab import Lab, wait_for
from localencoder import save_encoder

from xpeft.records import read_records, result_bytes

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SHARED = ("Snakefile", "Makefile", "workflow", "tools", "environment.yml", "requirements.lock")

# Two jobs of three cells each; `long` is where the faults fall.
CONFIG = """
tier: test
evidence: null
encoder: {{name: tiny, source: local, path: encoder, dtype: float32}}
data: {{embedded: {{train_rows: 80, validation_rows: 20}}}}
tasks: [embedded/sentiment]
seeds: [0, 1, 2]
device: cpu
training: {{epochs: 1, batch_size: 8, checkpoint_seconds: 0.1}}
arms:
  single_adapter: {{method: single_adapter, settings: {{reduction: 4}}}}
  long:
    method: x_peft
    mask: hard
    k: 2
    bank: {{n: 4, reduction: 4}}
    training: {{epochs: {epochs}}}
"""
LONG = "embedded/sentiment/long"

# What a user would edit, and less patience than a cluster asks for.
EDITS = (
    (r"slurm-init-seconds-before-status-checks: \d+", "slurm-init-seconds-before-status-checks: 1"),
    (r"    # gpu: 1", "    gpu: 1"),
    (r"mem_mb: 4000 \* attempt", "mem_mb: 1000"),
    (r"    cpus_per_task: 4", "    mem_mb: 2000\n    cpus_per_task: 4"),
    (r"latency-wait: 60", "latency-wait: 10"),
)


@dataclass
class Run:
    """A run folder.

    Attributes:
        folder: where Snakemake is started, as in a clone.
        epochs: of the long job.
    """

    folder: Path
    epochs: int = 50
    drivers: list[psutil.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / ".venv").symlink_to(Path(sys.prefix))
        save_encoder(self.folder / "encoder")
        (self.folder / "config").mkdir()
        (self.folder / "config/test.yaml").write_text(CONFIG.format(epochs=self.epochs))
        self.edit_profile()
        self._write_witness()

    def edit_profile(self, *edits: tuple[str, str]) -> None:
        """Write the project's profile with some lines changed: (pattern, new text) each."""
        text = (ROOT / "slurm/config.yaml").read_text()
        for pattern, new in (*EDITS, *edits):
            text, count = re.subn(pattern, new, text)
            assert count, f"slurm/config.yaml has no {pattern}"
        (self.folder / "slurm").mkdir(exist_ok=True)
        (self.folder / "slurm/config.yaml").write_text(text)

    def _write_witness(self) -> None:
        """An `xpeft` before the real one, that notes which GPUs each step sees."""
        (self.folder / "bin").mkdir()
        witness = self.folder / "bin/xpeft"
        witness.write_text(
            "#!/bin/sh\n"
            f'echo "$1 ${{SLURM_JOB_ID:-local}} ${{CUDA_VISIBLE_DEVICES:-none}}" '
            f">> {self.folder}/seen\n"
            f'exec {sys.executable} -m xpeft "$@"\n'
        )
        witness.chmod(0o755)

    # --------------------------------------------------------------------- commands

    @property
    def environment(self) -> dict[str, str]:
        """Of the driver; Slurm hands it on to the jobs."""
        path = f"{self.folder}/bin:{BIN}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}

    def literal(self, *targets: str) -> list[str]:
        """The command of the README, for the small config."""
        words = "--cores all --profile slurm --configfile config/test.yaml"
        return ["snakemake", *targets, *words.split()]

    def resume(self, *more: str) -> list[str]:
        """The documented way back; without `setup`, as the environment is another folder's."""
        return [*"make --old-file=setup resume TIER=test PROFILE=slurm".split(), *more]

    def start(self, command: list[str]) -> psutil.Popen:
        """Start a command in the folder; its output goes to the file `out`."""
        with (self.folder / "out").open("ab") as out:
            driver = psutil.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )
        self.drivers.append(driver)
        return driver

    def finish(self, driver: psutil.Popen, seconds: float = 900) -> int:
        """Wait for a command that was started: its exit status."""
        try:
            return int(driver.wait(timeout=seconds))
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            raise AssertionError(f"no end after {seconds:g} s\n{self.output()}") from None

    def do(self, command: list[str], seconds: float = 900) -> str:
        """Run a command to its end, which must be a good one: its output."""
        before = len(self.output())
        assert self.finish(self.start(command), seconds) == 0, self.output()
        return self.output()[before:]

    def kill(self, driver: psutil.Popen) -> None:
        """`kill -9` of a driver alone."""
        driver.kill()
        driver.wait()

    def stop(self) -> None:
        """End what is still running here."""
        for driver in self.drivers:
            if driver.poll() is None:
                self.kill(driver)

    # ----------------------------------------------------------------------- sights

    def output(self) -> str:
        """All that the commands printed."""
        path = self.folder / "out"
        return path.read_text(errors="replace") if path.exists() else ""

    def log(self, job: str = LONG) -> str:
        """What training of a job printed, the last time it ran."""
        path = self.folder / f"results/test/logs/train/{job}.log"
        return path.read_text() if path.exists() else ""

    def results(self) -> dict[str, bytes]:
        """The `result` part of every record."""
        records = read_records(self.folder / "results/test/records")
        return {name: result_bytes(record) for name, record in records.items()}

    def checkpoint(self, job: str = LONG) -> Path:
        """Where training of a job stands."""
        return self.folder / f"results/test/work/{job}/train-0.safetensors"

    def wait_for_training(self, lab: Lab, job: str = LONG) -> str:
        """Wait until a job is in the middle of its training: the Slurm job that does it."""
        wait_for(self.checkpoint(job).exists, f"a checkpoint of {job}:\n{self.output()}", 600)
        rule = f"train_wildcards_{job.replace('/', '_')}"
        (number,) = lab.live_jobs(rule, self.folder)
        return number

    def trainer(self) -> psutil.Process:
        """The process that trains the long job."""
        job = f"results/test/jobs/{LONG}.json"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = words[1:4] == ["-m", "xpeft", "train"] and job in words
                if ours and Path(process.cwd()) == self.folder:
                    return process
        raise AssertionError("no such process")

    def seen(self) -> list[tuple[str, str, str]]:
        """What each step saw: its verb, its Slurm job, its GPUs."""
        lines = (self.folder / "seen").read_text().splitlines()
        return [(words[0], words[1], words[2]) for words in map(str.split, lines)]
