"""What `xpeft stage` finds without a network: an encoder and people in local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from localencoder import save_encoder

from xpeft.config import resolve_config
from xpeft.errors import DataError
from xpeft.stage import stage


def config(tmp_path: Path) -> Any:
    encoder = {"name": "tiny", "source": "local", "path": str(save_encoder(tmp_path / "encoder"))}
    return resolve_config(
        {
            "tier": "test",
            "encoder": encoder,
            "data": {"source": "local", "path": str(tmp_path / "data")},
            "cohorts": {
                "sets": ["profiles/lamp_news_user"],
                "arms": {"head": {"method": "head_only"}},
            },
        }
    )


def test_people_are_looked_for_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data/profiles/lamp_news_user"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"{split}_questions.json").write_text("[]")
    with pytest.raises(DataError, match=r"train_outputs\.json: no such file; profiles/lamp_news"):
        list(stage(config(tmp_path)))
    for split in ("train", "dev"):
        (folder / f"{split}_outputs.json").write_text("{}")
    *_, people = stage(config(tmp_path))
    assert people == "profiles/lamp_news_user: in its folder, its files are there: 4"
