"""Data and encoders loaded over HTTP from a small hub on loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hubserver import HubServer

import xpeft
from xpeft.data.prepare import rows_sha256
from xpeft.data.prepared import load_prepared

CARD = """---
configs:
- config_name: rte
  data_files:
  - split: train
    path: rte/train-*
  - split: validation
    path: rte/validation-*
dataset_info:
- config_name: rte
  features:
  - name: sentence1
    dtype: string
  - name: sentence2
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': {names[0]}
          '1': {names[1]}
  - name: idx
    dtype: int32
---
"""

FORMS_CARD = """---
configs:
- config_name: copa
  data_files:
  - split: train
    path: copa/train-*
  - split: validation
    path: copa/validation-*
- config_name: multirc
  data_files:
  - split: train
    path: multirc/train-*
  - split: validation
    path: multirc/validation-*
dataset_info:
- config_name: copa
  features:
  - name: premise
    dtype: string
  - name: choice1
    dtype: string
  - name: choice2
    dtype: string
  - name: question
    dtype: string
  - name: idx
    dtype: int32
  - name: label
    dtype:
      class_label:
        names:
          '0': choice1
          '1': choice2
---
"""

PREPARE = """
import dataclasses, json, sys
from xpeft.data.prepare import prepare
from xpeft.data.sources import make_source
from xpeft.data.specs import get_task
from xpeft.errors import DataError

messages = {}
for out, changes in json.load(sys.stdin).items():
    task = changes.pop("of", "glue/rte")
    spec = dataclasses.replace(get_task(*task.split("/")), **changes)
    try:
        prepare(spec, make_source("hub"), out)
    except DataError as error:
        messages[out] = str(error)
json.dump(messages, sys.stdout)
"""

STAGE = """
import dataclasses, sys
from xpeft import cli
from xpeft.data import specs

config, commit = sys.argv[1:]
specs.TASKS["glue", "rte"] = dataclasses.replace(specs.TASKS["glue", "rte"], revision=commit)
sys.exit(cli.main(["stage", config]))
"""

ENCODE = """
import sys
from safetensors.torch import save_file
import torch
from transformers import AutoModel, AutoTokenizer

name, revision, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
model = AutoModel.from_pretrained(name, revision=revision).eval()
with torch.no_grad():
    state = model(**tokenizer("the cat sat", return_tensors="pt")).last_hidden_state
save_file({"state": state}, out)
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def rte_rows(word: str, count: int) -> list[dict[str, Any]]:
    return [
        {"sentence1": f"{word} {i} ", "sentence2": f"{i} é", "label": i % 2, "idx": i}
        for i in range(count)
    ]


def rte_files(names: tuple[str, str], validation: list[dict[str, Any]]) -> dict[str, bytes]:
    return {
        "README.md": CARD.format(names=names).encode(),
        "rte/train-00000-of-00001.parquet": parquet(rte_rows("train", 6)),
        "rte/validation-00000-of-00001.parquet": parquet(validation),
    }


def run(
    script: str, home: Path, hub: HubServer, *arguments: str, stdin: str = "", **extra: str
) -> str:
    """What a script prints, which must end well; see `finished`."""
    done = finished(script, home, hub, *arguments, stdin=stdin, **extra)
    assert done.returncode == 0, done.stderr
    return done.stdout


def finished(
    script: str, home: Path, hub: HubServer, *arguments: str, stdin: str = "", **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: the endpoint is read when the libraries load."""
    environment = {
        **os.environ,
        **hub.environment(home),
        "PYTHONPATH": str(Path(xpeft.__file__).parents[1]),
        **extra,
    }
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_data_is_read_from_the_pinned_commit_and_then_from_the_cache(tmp_path: Path) -> None:
    labels = ("entailment", "not_entailment")
    with HubServer() as hub:
        commit = hub.add("datasets", "nyu-mll/glue", rte_files(labels, rte_rows("dev", 4)))
        hub.add("datasets", "other/swapped", rte_files(labels[::-1], rte_rows("dev", 4)))
        hidden = [row | {"label": -1} for row in rte_rows("dev", 4)]
        hub.add("datasets", "other/hidden", rte_files(labels, hidden))
        jobs: dict[str, dict[str, str | None]] = {
            "good": {"revision": commit},
            "revision": {"revision": "0" * 40},
            "absent": {"hub_id": "other/absent", "revision": None},
            "config": {"hub_config": "wnli", "revision": commit},
            "split": {"validation_split": "dev", "revision": commit},
            "column": {"pair": "hypothesis", "revision": commit},
            "swapped": {"hub_id": "other/swapped", "revision": None},
            "hidden": {"hub_id": "other/hidden", "revision": None},
        }
        paths = {str(tmp_path / "out" / name): changes for name, changes in jobs.items()}
        answer = json.loads(run(PREPARE, tmp_path / "home", hub, stdin=json.dumps(paths)))
        messages = {Path(out).name: message for out, message in answer.items()}
        asked = set(hub.requests)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]
    prepared = load_prepared(tmp_path / "out" / "good")
    assert prepared.train.texts == [f"train {i} " for i in range(6)]
    assert prepared.validation.pairs == [f"{i} é" for i in range(4)]
    assert prepared.validation.labels.tolist() == [0, 1, 0, 1]
    assert prepared.meta.source == f"hub nyu-mll/glue@{commit} (rte)"
    assert prepared.meta.sha256["train"] == rows_sha256(prepared.train)
    assert f"GET /datasets/nyu-mll/glue/resolve/{commit}/rte/train-00000-of-00001.parquet" in asked

    expected = {
        "revision": f"hub data set nyu-mll/glue@{'0' * 40} (rte), split train: cannot be loaded",
        "absent": "hub data set other/absent@main (rte), split train: cannot be loaded",
        "config": "(wnli), split train: cannot be loaded",
        "split": "(rte), split dev: cannot be loaded",
        "column": "expected also hypothesis",
        "swapped": "found the labels not_entailment, entailment, expected entailment, not_entail",
        "hidden": "split validation: row 1: column 'label': found -1, expected an integer from 0",
    }
    assert set(messages) == set(expected)
    for name, part in expected.items():
        assert part in messages[name], name
        assert "\n" not in messages[name]

    # The server is gone: the cache alone must do.
    again = {str(tmp_path / "again"): {"revision": commit}}
    answer = run(PREPARE, tmp_path / "home", hub, stdin=json.dumps(again), HF_HUB_OFFLINE="1")
    assert json.loads(answer) == {}
    for file in ("train.parquet", "validation.parquet", "meta.json"):
        first, second = tmp_path / "out" / "good" / file, tmp_path / "again" / file
        assert first.read_bytes() == second.read_bytes()


def test_rows_that_hold_several_are_unfolded(tmp_path: Path) -> None:
    def copa(word: str) -> bytes:
        texts = {"premise": word, "choice1": "a", "choice2": "b", "question": "cause"}
        return parquet([{**texts, "idx": i, "label": i} for i in (0, 1)])

    def multirc(word: str) -> bytes:
        rows = []
        for question, answer in ((0, 0), (0, 1), (1, 2)):
            idx = {"paragraph": 4, "question": question, "answer": answer}
            texts = {"paragraph": word, "question": f"q{question}", "answer": f"a{answer}"}
            rows.append({**texts, "idx": idx, "label": answer % 2})
        return parquet(rows)

    files = {"README.md": FORMS_CARD.encode()}
    for task, make in (("copa", copa), ("multirc", multirc)):
        for split in ("train", "validation"):
            files[f"{task}/{split}-00000-of-00001.parquet"] = make(split)
    with HubServer() as hub:
        commit = hub.add("datasets", "aps/super_glue", files)
        jobs = {
            str(tmp_path / task): {"of": f"superglue/{task}", "revision": commit}
            for task in ("copa", "multirc")
        }
        answer = run(PREPARE, tmp_path / "home", hub, stdin=json.dumps(jobs))
    assert json.loads(answer) == {}
    choices = load_prepared(tmp_path / "copa").validation
    assert choices.pairs == ["a", "b", "a", "b"]
    assert choices.labels.tolist() == [1, 0, 0, 1]
    assert choices.questions is not None and choices.questions.tolist() == [0, 0, 1, 1]
    answers = load_prepared(tmp_path / "multirc")
    assert answers.train.texts == ["train"] * 3
    assert answers.train.pairs == ["q0 a0", "q0 a1", "q1 a2"]
    assert answers.train.questions is not None
    assert answers.train.questions.tolist() == [0, 0, 1]
    assert answers.meta.source == f"hub aps/super_glue@{commit} (multirc)"


def test_an_unreachable_hub_is_a_data_error(tmp_path: Path) -> None:
    with HubServer() as hub:
        pass
    stdin = json.dumps({str(tmp_path / "out"): {}})
    (message,) = json.loads(run(PREPARE, tmp_path / "home", hub, stdin=stdin)).values()
    assert "split train: cannot be loaded" in message and "HF_ENDPOINT" in message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    """A folder with a random BERT (2 blocks, width 16) and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path / "tiny-bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat"]
    vocabulary = {word: index for index, word in enumerate(words)}
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    return folder


def test_a_model_and_its_tokenizer_load_from_the_hub(tmp_path: Path, tiny_bert: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    with HubServer() as hub:
        commit = hub.add_folder("models", "tiny/bert", tiny_bert)
        out = tmp_path / "state.safetensors"
        run(ENCODE, tmp_path / "home", hub, "tiny/bert", commit, str(out))
        asked = hub.requests
    assert f"GET /tiny/bert/resolve/{commit}/model.safetensors" in asked
    inputs = AutoTokenizer.from_pretrained(tiny_bert)("the cat sat", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[2, 5, 6, 7, 3]]
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tiny_bert).eval()(**inputs).last_hidden_state
    assert torch.equal(load_file(out)["state"], expected)


def test_what_is_staged_needs_no_network_and_no_token(tmp_path: Path, tiny_bert: Path) -> None:
    home, token = tmp_path / "home", "hf_canaryThatMustNotAppear"
    config = tmp_path / "c.yaml"

    def write(model: str, commit: str) -> None:
        config.write_text(
            f'tier: test\nencoder: {{name: {model}, source: hub, revision: "{commit}", '
            "max_length: 32}\n"
            "data: {source: hub}\ntasks: [glue/rte]\narms: {head_only: {method: head_only}}\n"
        )

    labels = ("entailment", "not_entailment")
    with HubServer() as hub:
        model = hub.add_folder("models", "tiny/bert", tiny_bert)
        data = hub.add("datasets", "nyu-mll/glue", rte_files(labels, rte_rows("dev", 4)))
        write("tiny/absent", "0" * 40)
        absent = finished(STAGE, home, hub, str(config), data, HF_TOKEN=token)
        assert absent.returncode == 2
        assert absent.stderr.startswith("xpeft: error: encoder tiny/absent at revision 000")
        write("tiny/bert", model)
        staged = finished(STAGE, home, hub, str(config), data, HF_TOKEN=token)
    assert staged.returncode == 0, staged.stderr
    lines = staged.stdout.splitlines()
    assert lines[0].startswith(f"encoder tiny/bert at {model}: in the cache, sha256 ")
    assert lines[1] == "glue/rte: in the cache, 6 + 4 rows"
    assert lines[2] == (
        f"the cache is {home}; jobs need HF_HOME={home} and HF_HUB_OFFLINE=1, and no network"
    )
    # The server is gone: what a job asks for is there.
    again = finished(STAGE, home, hub, str(config), data, HF_HUB_OFFLINE="1")
    assert again.stdout == staged.stdout, again.stderr
    for done in (absent, staged, again):
        assert token not in done.stdout + done.stderr
