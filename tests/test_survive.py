"""A run that is killed, with `kill -9` and all its children, ends as if nothing had happened.

What follows each kill is what `make report` does: remove the stale lock, run again. The `result`
part of every record must then equal that of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from localencoder import save_encoder

from xpeft.records import read_records, result_bytes

ROOT = Path(__file__).parents[1]

CONFIG = """
tier: test
evidence: null
encoder: {name: tiny, source: local, path: encoder, dtype: float32}
data: {embedded: {train_rows: 160, validation_rows: 20}}
tasks: [embedded/sentiment]
seeds: [0, 1]
device: cpu
training: {epochs: 12, batch_size: 8, checkpoint_seconds: 0.000001}
tuning: {epochs: 2, max_rows: 40}
arms:
  single_adapter: {method: single_adapter, settings: {reduction: 4}, trials: [{lr: 0.01}]}
  x_peft-hard-n4-k2:
    method: x_peft
    mask: hard
    k: 2
    bank: {n: 4, reduction: 4}
    trials: [{lr: 1.0}]
"""


def command(folder: Path) -> list[str]:
    snakemake = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
    snakemake += ["--directory", str(folder), "--cores", "2", "--configfile", "c.yaml"]
    return [*snakemake, "--rerun-incomplete"]


def environment() -> dict[str, str]:
    return {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}


def run_again(folder: Path) -> None:
    unlock = [sys.executable, str(ROOT / "tools/unlock.py"), str(folder)]
    subprocess.run(unlock, check=True, capture_output=True)
    done = subprocess.run(
        command(folder), cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def prepare(folder: Path) -> Path:
    save_encoder(folder / "encoder")
    (folder / "c.yaml").write_text(CONFIG)
    return folder


def results(folder: Path) -> dict[str, bytes]:
    found = {
        name: result_bytes(r) for name, r in read_records(folder / "results/test/records").items()
    }
    assert len(found) == 4
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    run_again(folder)
    return results(folder)


def kill_when(folder: Path, moment: Callable[[Path, psutil.Process], bool]) -> None:
    """Start a run and kill it, with all its children, at the first sight of `moment`."""
    driver = psutil.Popen(
        command(folder),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not moment(folder, driver):
        assert driver.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < deadline, "the moment did not come"
    family = [*driver.children(recursive=True), driver]
    for process in family:
        process.suspend()  # first, so that nothing goes on while the others are killed
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def half_written(folder: Path) -> list[Path]:
    return list(folder.glob("results/test/work/**/.train-*.tmp"))


def in_training(folder: Path, driver: psutil.Process) -> bool:
    return any(folder.glob("results/test/work/**/train-0.safetensors"))


def in_a_checkpoint_write(folder: Path, driver: psutil.Process) -> bool:
    return bool(half_written(folder))


def in_aggregation(folder: Path, driver: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("summary" in child.cmdline() for child in driver.children(recursive=True))
    return False


@pytest.mark.parametrize("moment", [in_training, in_a_checkpoint_write, in_aggregation])
def test_killed_and_run_again_equals_undisturbed(
    moment: Callable[[Path, psutil.Process], bool],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    folder = prepare(tmp_path)
    for _ in range(20):
        kill_when(folder, moment)
        if moment is not in_a_checkpoint_write or half_written(folder):
            break  # a write may end between its sight and the kill; then once more
        subprocess.run([sys.executable, str(ROOT / "tools/unlock.py"), str(folder)], check=True)
    else:
        pytest.fail("no kill fell into a checkpoint write")
    records = list(folder.glob("results/test/records/**/seed*.json"))
    assert len(records) < 4 or moment is in_aggregation
    assert not (folder / "report/index.html").exists()
    run_again(folder)
    assert results(folder) == undisturbed
    assert (folder / "report/index.html").is_file()
    left = [path for path in folder.glob("results/test/work/**/*") if path.is_file()]
    assert not left
