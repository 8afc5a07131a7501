"""`xpeft stage`: fetch encoder and data once, where there is a network.

What comes from the hub is loaded just as a run loads it, so that the cache (HF_HOME, which must lie
where the compute nodes see it) holds all that a run will ask for. Jobs then work with
HF_HUB_OFFLINE=1 and need no network and no token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xpeft.config import Config
from xpeft.data.cohort_readers import cohort_files
from xpeft.data.cohort_specs import get_cohort
from xpeft.data.sources import HubSource, LocalSource
from xpeft.data.specs import get_task
from xpeft.encoder import load_encoder
from xpeft.errors import DataError
from xpeft.job import EncoderSpec, build


def stage(config: Config) -> Iterator[str]:
    """Fetch or check all inputs of a config; a line a thing, as soon as it is there.

    Raises:
        EncoderError, DataError: one of them cannot be had; what was fetched before stays.
    """
    spec = build(EncoderSpec, config["encoder"], "encoder")
    encoder = load_encoder(spec, "cpu")
    at = f" at {spec.revision}" if spec.revision else ""
    yield f"encoder {spec.name}{at}: {_origin(spec.source)}, sha256 {encoder.digest}"
    data = config["data"]
    pool = [] if config["pool"] is None else config["pool"]["tasks"]
    for name in dict.fromkeys([*config["tasks"], *pool]):
        task = get_task(*name.split("/"))
        if data["source"] == "embedded":
            yield f"{name}: generated, nothing to fetch"
            continue
        source = HubSource() if data["source"] == "hub" else LocalSource(data["path"])
        splits = (task.train_split, task.validation_split)
        rows = [len(source.read(task, split).labels) for split in splits]
        yield f"{name}: {_origin(data['source'])}, {rows[0]:,} + {rows[1]:,} rows"
    for name in [] if config["cohorts"] is None else config["cohorts"]["sets"]:
        if data["source"] == "embedded":
            yield f"{name}: generated, nothing to fetch"
            continue
        files = cohort_files(get_cohort(name.partition("/")[2]), Path(data["path"]))
        for path in files:
            if not path.is_file():
                raise DataError(f"{path}: no such file; {name} is made of it")
        yield f"{name}: {_origin('local')}, its files are there: {len(files)}"
    if "hub" in (spec.source, data["source"]):
        home = os.environ.get("HF_HOME", "~/.cache/huggingface")
        yield f"the cache is {home}; jobs need HF_HOME={home} and HF_HUB_OFFLINE=1, and no network"


def _origin(source: str) -> str:
    return {"hub": "in the cache", "local": "in its folder", "package": "in its package"}[source]
