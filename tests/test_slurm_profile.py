"""What the Slurm profile and its documented variants ask Slurm for; no Slurm is needed.

An `sbatch` of our own notes its arguments and refuses the job. That real Slurm takes them is
shown in tests/slurm.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from localencoder import save_encoder

ROOT = Path(__file__).parents[1]
CONFIG = """
tier: test
evidence: null
encoder: {name: tiny, source: local, path: encoder}
data: {embedded: {train_rows: 20, validation_rows: 10}}
tasks: [embedded/sentiment]
seeds: [0]
device: cuda
threads: 4
arms: {head_only: {method: head_only}}
"""
GPU = r"    # gpu: 1"


def snakemake(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all that precedes training is done."""
    folder = tmp_path_factory.mktemp("profile")
    save_encoder(folder / "encoder")
    (folder / "c.yaml").write_text(CONFIG)
    targets = [
        "results/test/jobs/embedded/sentiment/head_only.json",
        "results/test/data/embedded/sentiment/meta.json",
    ]
    done = snakemake(folder, *targets, "--cores", "1", "--configfile", "c.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "bin").mkdir()
    for name, script in {
        "sbatch": f'printf "%s\\n" "$*" >> {folder}/asked; echo refused >&2; exit 1',
        "squeue": "exit 0",
        "scontrol": 'echo "MinJobAge = 300 sec"',
        "sacct": "exit 1",
        "sacctmgr": "echo chemistry",
        "sshare": "echo chemistry",
        "sinfo": "exit 0",
    }.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    return folder


def asked(folder: Path, *edits: tuple[str, str]) -> dict[str, dict[str, str]]:
    """The options of `sbatch` for each rule, with the profile changed as a user would."""
    text = (ROOT / "slurm/config.yaml").read_text()
    for pattern, new in edits:
        text, count = re.subn(pattern, new, text)
        assert count == 1, f"slurm/config.yaml: {pattern} is there {count} times"
    (folder / "slurm").mkdir(exist_ok=True)
    (folder / "slurm/config.yaml").write_text(text)
    (folder / "asked").unlink(missing_ok=True)
    path = f"{folder}/bin:{os.environ['PATH']}"
    argv = ["--cores", "all", "--profile", "slurm", "--retries", "0", "--configfile", "c.yaml"]
    done = snakemake(folder, *argv, PATH=path)
    assert "refused" in done.stdout + done.stderr
    found = {}
    for line in (folder / "asked").read_text().splitlines():
        words = iter(shlex.split(line.partition("--wrap")[0]))
        options = {}
        for word in words:
            name, _, value = word.partition("=")
            if name.startswith("-"):
                alone = name in ("--parsable", "--requeue")
                options[name] = value if "=" in word or alone else next(words)
        found[options["--comment"].split("_")[1]] = options
    return found


def test_the_profile_as_it_is(prepared: Path) -> None:
    rules = asked(prepared)
    train, ledger = rules["train"], rules["ledger"]
    assert train["--gpus"] == "1" and "--gres" not in train  # for `device: cuda`
    # memory and minutes by formula, for a job this small the least that is asked for
    assert (train["--mem"], train["-t"], train["--cpus-per-task"]) == ("4000", "15", "4")
    assert not {"--gpus", "--gres"} & set(ledger)
    assert (ledger["--mem"], ledger["-t"], ledger["--cpus-per-task"]) == ("4000", "10", "1")
    for options in rules.values():
        assert options["-p"] == "gpu" and "-A" not in options
        assert "--requeue" in options  # after a pre-emption


def test_gres_partitions_and_account(prepared: Path) -> None:
    rules = asked(
        prepared,
        (r"slurm_partition: gpu # EDIT 1", "slurm_partition: cpu # EDIT 1"),
        (r'slurm_account: ""', "slurm_account: chemistry"),
        (GPU, "    gpu: 0\n    gres: gpu:1"),
    )
    assert rules["train"]["-p"] == "gpu" and rules["ledger"]["-p"] == "cpu"
    assert {options["-A"] for options in rules.values()} == {"chemistry"}
    assert rules["train"]["--gres"] == "gpu:1" and "--gpus" not in rules["train"]


def test_a_model_of_gpu_and_more_options(prepared: Path) -> None:
    more = """    slurm_extra: "'--signal=TERM@120'\""""
    train = asked(prepared, (GPU, f"    gpu: 1\n    gpu_model: h200\n{more}"))["train"]
    assert train["--gpus"] == "h200:1" and "--gres" not in train
    assert train["--signal"] == "TERM@120"
