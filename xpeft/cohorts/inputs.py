"""What every step on a cohort reads: the encoder, the rows, and the texts as tokens."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xpeft.data.cohort import Cohort, load_cohort
from xpeft.encoder import Encoder, TokenTable, load_encoder
from xpeft.errors import ConfigError
from xpeft.fitting import ProfileData
from xpeft.hashing import derive_key, sample
from xpeft.ids import id_text
from xpeft.job import EncoderSpec
from xpeft.machine import set_determinism
from xpeft.running import Provenance


@dataclass(frozen=True)
class Inputs:
    """A cohort, its encoder, and one row of tokens for each of its texts."""

    encoder: Encoder
    cohort: Cohort
    tokens: TokenTable
    provenance: Provenance

    @property
    def outputs(self) -> int:
        """C, classes."""
        return len(self.cohort.meta.labels)

    def name(self, profile: int) -> str:
        """The id of a profile, 16 hexadecimal digits."""
        return id_text(self.cohort.sheet[profile].profile)

    def training(self, profile: int, limit: int | None, seed: int) -> ProfileData:
        """The training rows of one profile, at most `limit` of them, chosen by hash."""
        return self.data(capped(self.cohort.train_rows(profile), limit), seed)

    def identity(self, phase: str, config: str, **more: str) -> dict[str, str]:
        """See `Provenance.identity`."""
        files = self.cohort.meta.files
        return self.provenance.identity(
            self.encoder, phase, config_sha256=config, files=files, **more
        )

    def data(self, rows: npt.NDArray[np.int64], seed: int) -> ProfileData:
        """Some rows of the cohort as training data."""
        cohort = self.cohort
        return ProfileData(cohort.item[rows], cohort.label[rows], seed)


def load_inputs(
    spec: EncoderSpec, data_dir: str | os.PathLike[str], cohort: str, device: str, threads: int
) -> Inputs:
    """Load what a step needs, and make the process deterministic.

    Raises:
        ConfigError: no such device, or the folder holds another cohort.
        DataError, EncoderError: an input is missing or damaged.
    """
    set_determinism(device, threads)
    provenance = Provenance(device, threads)
    found = load_cohort(data_dir)
    if found.meta.task != cohort:
        raise ConfigError(
            f"{data_dir}: found the cohort {found.meta.task}, expected {cohort} from the job"
        )
    encoder = load_encoder(spec, device)
    return Inputs(encoder, found, encoder.tokenize(found.texts), provenance)


def capped(rows: npt.NDArray[np.int64], limit: int | None) -> npt.NDArray[np.int64]:
    """At most `limit` of the rows, ascending; which ones depends on their numbers alone."""
    if limit is None or len(rows) <= limit:
        return rows
    return np.sort(rows[sample(rows, limit, derive_key("cap"))])


def profile_seed(seed: int, profile: str) -> int:
    """The seed of one profile in the run `seed`: its own, whoever else is trained."""
    return derive_key("profile", seed, profile)
