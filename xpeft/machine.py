"""What a run ran on, and the switches that make it repeatable there."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import resource
import sys
from pathlib import Path

import torch

from xpeft.errors import ConfigError


def set_determinism(device: str, threads: int) -> None:
    """Fix the number of CPU threads and choose deterministic kernels on a GPU.

    On a CPU, torch gives the same bits for the same number of threads; on a GPU only with these
    flags, of which the first must be set before the first product.

    Raises:
        ConfigError: the device is a GPU and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: found cuda, but torch sees no GPU; use --device cpu")
    torch.set_num_threads(threads)
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False


def processor_name(device: str) -> str:
    """The model of the GPU, or of the CPU with its family, model and stepping."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        first = cpuinfo.read_text().split("\n\n")[0]
        found = dict(re.findall(r"^([a-zA-Z ]+?)\s*: (.*)$", first, re.MULTILINE))
        numbers = [found.get(key, "?") for key in ("cpu family", "model", "stepping")]
        if "model name" in found:  # often a brand only: "AMD EPYC" is many processors
            return f"{found['model name']} (family {'/'.join(numbers)})"
    return platform.processor() or platform.machine()


def reset_peak_memory(device: str) -> None:
    """Start counting a GPU's peak anew; a process's own peak cannot be reset."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Most bytes held so far: of the GPU's memory, or resident in the process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn"):
        found[name] = importlib.metadata.version(name)
    return found
