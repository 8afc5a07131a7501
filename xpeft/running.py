"""What every long run needs: where it came from, a bar, an ear for SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from xpeft.encoder import Encoder
from xpeft.io import canonical_json
from xpeft.machine import peak_memory, processor_name, reset_peak_memory, versions
from xpeft.version import git_state

log = logging.getLogger(__name__)


class Provenance:
    """The clock and the identity of a process: the part `run` of the records that it writes."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.threads = threads
        self._begun = time.monotonic()
        self._git = git_state()  # of the code that runs, whatever is committed meanwhile
        reset_peak_memory(device)

    def identity(
        self,
        encoder: Encoder,
        phase: str,
        *,
        config_sha256: str,
        files: Mapping[str, str],
        **more: str,
    ) -> dict[str, str]:
        """What a checkpoint must be of, to be gone on from: all that decides the result.

        `files` are the hashes of the prepared data; `more` is what else decides.
        """
        return {
            "phase": phase,
            "config": config_sha256,
            "data": canonical_json(files),
            "encoder": f"{encoder.digest} {encoder.dtype}",
            "machine": f"{processor_name(self.device)}, {self.threads} threads",
            "versions": canonical_json(versions()),
            **more,
        }

    def to_dict(
        self,
        encoder: Encoder,
        *,
        config_sha256: str,
        data_sha256: dict[str, str],
        bank_sha256: str | None,
        rows_per_second: float = 0.0,
        encoder_share: float | None = None,
    ) -> dict[str, Any]:
        """See `xpeft.records.Run`."""
        return {
            "wall_seconds": round(time.monotonic() - self._begun, 3),
            "rows_per_second": round(rows_per_second, 2),
            "encoder_share": None if encoder_share is None else round(encoder_share, 4),
            "peak_memory_bytes": peak_memory(self.device),
            "device": self.device,
            "processor": processor_name(self.device),
            "threads": self.threads,
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "versions": versions(),
            "git": self._git,
            "config_sha256": config_sha256,
            "data_sha256": data_sha256,
            "encoder": {"name": encoder.name, "sha256": encoder.digest},
            "bank_sha256": bank_sha256,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


@contextlib.contextmanager
def sigterm_flag() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that training ends with a checkpoint."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Any]:
    """A bar on a terminal; elsewhere a line every ten per cent or half a minute."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=name, unit="step", leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield show
        return
    begun = last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 30 or done == total:
            log.info("%s: step %d of %d, %.0f s", name, done, total, now - begun)
            last = now

    yield line
