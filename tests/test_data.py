"""Specs, sources, preparation and the embedded generator."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xpeft
from xpeft.data.embedded import BAD, GOOD, KINDS, VERBS, generate
from xpeft.data.prepare import prepare, rows_sha256
from xpeft.data.prepared import Prepared, Split, holdout, load_prepared
from xpeft.data.sources import EmbeddedSource, HubSource, LocalSource, make_source
from xpeft.data.specs import TASKS, get_task
from xpeft.errors import ConfigError, DataError
from xpeft.hashing import mix64
from xpeft.io import sha256_bytes, sha256_file
from xpeft.metrics import KNOWN

SST2 = get_task("glue", "sst2")
STSB = get_task("glue", "stsb")
RTE = get_task("glue", "rte")

Rows = list[dict[str, Any]]


def sst2_rows(word: str, count: int) -> Rows:
    return [{"sentence": f"{word} {i} ", "label": i % 2, "idx": i} for i in range(count)]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def folder(root: Path, files: dict[str, bytes], task: str = "sst2") -> Path:
    """A local data folder with `files` for a GLUE task, completed by a sound other split."""
    place = root / "glue" / task
    place.mkdir(parents=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    return root


def prepare_sst2(root: Path, train: Rows, validation: Rows, **options: Any) -> Prepared:
    files = {"train.jsonl": jsonl(train), "validation.jsonl": jsonl(validation)}
    source = LocalSource(folder(root / "data", files))
    return load_prepared(prepare(SST2, source, root / "out", **options))


# ---------------------------------------------------------------------------------- specs


def test_all_tasks_of_both_suites_and_the_embedded_ones_are_declared() -> None:
    by_suite: dict[str, set[str]] = {}
    for (suite, task), spec in TASKS.items():
        assert (spec.suite, spec.task) == (suite, task)
        by_suite.setdefault(suite, set()).add(task)
    assert by_suite["glue"] == set("cola sst2 mrpc qqp stsb mnli qnli rte wnli".split())
    assert by_suite["superglue"] == set("boolq cb copa multirc record rte wic wsc".split())
    assert by_suite["embedded"] == {"sentiment", "entailment"}


@pytest.mark.parametrize("spec", TASKS.values(), ids=lambda spec: spec.name)
def test_specs_are_complete(spec: Any) -> None:
    assert spec.metrics and set(spec.metrics) <= set(KNOWN)
    assert spec.licence and spec.note
    assert spec.regression == (spec.label_range is not None)
    if spec.suite == "glue":
        assert spec.hub_id == "nyu-mll/glue"
    if spec.suite == "embedded":
        assert spec.hub_id is None
    else:
        assert spec.hub_config == spec.task
        assert re.fullmatch(r"[0-9a-f]{40}", spec.revision)


def test_primary_metrics_are_the_official_ones() -> None:
    primary = {name: spec.metrics[0] for name, spec in TASKS.items() if name[0] != "embedded"}
    glue = {"cola": "matthews", "mrpc": "f1", "qqp": "f1", "stsb": "pearson"}
    superglue = {"cb": "macro_f1", "multirc": "f1a", "record": "answer_f1"}
    assert primary == (
        dict.fromkeys(primary, "accuracy")
        | {("glue", task): metric for task, metric in glue.items()}
        | {("superglue", task): metric for task, metric in superglue.items()}
    )


@pytest.mark.parametrize(
    ("suite", "task", "known"),
    [("glue", "sst3", "sst2"), ("blue", "sst2", "embedded, glue, superglue")],
)
def test_unknown_task_names_the_known_ones(suite: str, task: str, known: str) -> None:
    with pytest.raises(DataError, match=rf"{suite}/{task}: unknown .*{known}"):
        get_task(suite, task)


# ---------------------------------------------------------------------------------- sources


def test_make_source() -> None:
    assert isinstance(make_source("hub"), HubSource)
    assert isinstance(make_source("embedded"), EmbeddedSource)
    assert make_source("local", "somewhere") == LocalSource("somewhere")


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("web", None, "found 'web', expected one of hub, local, embedded"),
        ("local", None, "expected the data folder"),
        ("embedded", "x", "expected none"),
    ],
)
def test_make_source_refuses(kind: str, path: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_source(kind, path)


def to_parquet(rows: Rows, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def to_csv(rows: Rows, path: Path) -> None:
    def cell(value: Any) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    lines = [",".join(rows[0]), *(",".join(cell(v) for v in row.values()) for row in rows)]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")


WRITERS: dict[str, Callable[[Rows, Path], Any]] = {
    ".jsonl": lambda rows, path: path.write_bytes(jsonl(rows)),
    ".jsonl.gz": lambda rows, path: path.write_bytes(gzip.compress(jsonl(rows))),
    ".parquet": to_parquet,
    ".csv": to_csv,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_local_format_gives_the_rows_unchanged(tmp_path: Path, suffix: str) -> None:
    texts = ["trailing blanks  ", "a \u2028 line separator", 'quoted "x", é\nsecond line', ""]
    rows = [{"sentence1": t, "sentence2": t[::-1], "label": i * 1.25} for i, t in enumerate(texts)]
    place = tmp_path / "data" / "glue" / "stsb"
    place.mkdir(parents=True)
    WRITERS[suffix](rows, place / f"train{suffix}")
    WRITERS[suffix](rows[:2], place / f"validation{suffix}")
    prepared = load_prepared(prepare(STSB, LocalSource(tmp_path / "data"), tmp_path / "out"))
    assert prepared.train.texts == texts
    assert prepared.train.pairs == [t[::-1] for t in texts]
    assert prepared.train.labels.dtype == np.float64
    assert prepared.train.labels.tolist() == [0.0, 1.25, 2.5, 3.75]
    assert len(prepared.validation) == 2
    assert prepared.meta.regression and prepared.meta.num_outputs == 1
    digests = {split: sha256_file(place / f"{split}{suffix}") for split in prepared.meta.rows}
    assert prepared.meta.sha256 == digests


def test_mnli_is_scored_on_its_matched_validation_file(tmp_path: Path) -> None:
    rows = [{"premise": f"p {i}", "hypothesis": "h", "label": i % 3} for i in range(6)]
    files = {"train.jsonl": jsonl(rows), "validation_matched.jsonl": jsonl(rows[:3])}
    source = LocalSource(folder(tmp_path / "data", files, "mnli"))
    prepared = load_prepared(prepare(get_task("glue", "mnli"), source, tmp_path / "out"))
    assert prepared.validation.texts == ["p 0", "p 1", "p 2"]
    assert prepared.meta.source.endswith("local glue/mnli/validation_matched.jsonl")
    assert prepared.meta.num_outputs == 3


GOOD_LINE = b'{"sentence": "fine", "label": 1}\n'
PACKED = gzip.compress(GOOD_LINE * 500 + bytes(range(32, 127)), mtime=0)

BAD_INPUT: dict[str, tuple[str, bytes, str]] = {
    "missing column": (
        "train.jsonl",
        GOOD_LINE + b'{"text": "fine", "label": 1}\n',
        r"line 2: found the columns text, label, expected also sentence",
    ),
    "missing column, csv": (
        "train.csv",
        b"sentence,gold\nfine,1\n",
        r"train\.csv: found the columns sentence, gold, expected also label",
    ),
    "missing column, parquet": (
        "train.parquet",
        b"",  # written by the test
        r"train\.parquet: found the columns label, expected also sentence",
    ),
    "label out of range": (
        "train.jsonl",
        GOOD_LINE * 6 + b'{"sentence": "fine", "label": 2}\n',
        r"line 7: column 'label': found 2, expected an integer from 0 to 1 \(0 negative, 1 pos",
    ),
    "hidden test label": (
        "train.jsonl",
        b'{"sentence": "fine", "label": -1}\n',
        r"line 1: column 'label': found -1, expected an integer from 0 to 1",
    ),
    "label is text": (
        "train.jsonl",
        b'{"sentence": "fine", "label": "1"}\n',
        r"line 1: column 'label': found '1', expected an integer",
    ),
    "label is a bool": (
        "train.jsonl",
        b'{"sentence": "fine", "label": true}\n',
        r"line 1: column 'label': found True, expected an integer",
    ),
    "label is a fraction": (
        "train.csv",
        b'sentence,label\n"two\nlines",0\nfine,0.5\n',
        r"line 4: column 'label': found '0\.5', expected an integer",
    ),
    "label is null": (
        "train.jsonl",
        b'{"sentence": "fine", "label": null}\n',
        r"line 1: column 'label': found nothing \(null\), expected an integer",
    ),
    "text is null": (
        "train.jsonl",
        GOOD_LINE + b'{"sentence": null, "label": 1}\n',
        r"line 2: column 'sentence': found nothing \(null\), expected text",
    ),
    "text is a number": (
        "train.jsonl",
        b'{"sentence": 5, "label": 1}\n',
        r"line 1: column 'sentence': found 5, expected text",
    ),
    "text is half a character": (
        "train.jsonl",
        b'{"sentence": "ok \\ud800", "label": 1}\n',
        r"line 1: column 'sentence': found the unpaired surrogate '\\ud800', expected text",
    ),
    "empty file": ("train.jsonl", b"", r"train\.jsonl: found an empty file, expected rows"),
    "empty gzip": (
        "train.jsonl.gz",
        gzip.compress(b""),
        r"train\.jsonl\.gz: found an empty file, expected rows",
    ),
    "zero bytes named gzip": ("train.jsonl.gz", b"", r"found an empty file, expected rows"),
    "header only": ("train.csv", b"sentence,label\n", r"train\.csv: found no rows, expected at"),
    "not gzip": ("train.jsonl.gz", GOOD_LINE, r"train\.jsonl\.gz: expected a whole gzip file"),
    "truncated gzip": ("train.jsonl.gz", PACKED[:-12], r"gz: expected a whole gzip file"),
    "broken gzip": (
        "train.jsonl.gz",
        PACKED[:40] + bytes([PACKED[40] ^ 255]) + PACKED[41:],
        r"gz: expected a whole gzip file",
    ),
    "latin-1": (
        "train.jsonl",
        GOOD_LINE * 2 + '{"sentence": "café", "label": 1}\n'.encode("latin-1"),
        r"train\.jsonl: line 3: found the byte 0xe9, expected UTF-8",
    ),
    "utf-16": (
        "train.csv",
        "sentence,label\nfine,1\n".encode("utf-16"),
        r"train\.csv: line 1: found the byte 0xff, expected UTF-8",
    ),
    "broken JSON": (
        "train.jsonl",
        GOOD_LINE + b'{"sentence": "fine", "label": \n',
        r"line 2: found '\{\"sentence\": \"fine\", \"label\": ', expected a JSON object",
    ),
    "blank line": (
        "train.jsonl",
        GOOD_LINE + b"\n" + GOOD_LINE,
        r"line 2: found '', expected a JSON object",
    ),
    "JSON list": ("train.jsonl", b"[1, 2]\n", r"line 1: found list, expected a JSON object"),
    "short CSV line": (
        "train.csv",
        b"sentence,label\nfine,1\nfine\n",
        r"train\.csv: line 3: found 1 cells, expected 2",
    ),
    "open CSV quote": ("train.csv", b'sentence,label\n"fine,1\n', r"line 2: expected CSV"),
    "not Parquet": ("train.parquet", b"PAR1 no", r"train\.parquet: expected a Parquet file"),
    "missing file": ("other.jsonl", GOOD_LINE, r"sst2/train: no such file, expected one with"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_and_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    name, data, message = BAD_INPUT[case]
    files = {name: data, "validation.jsonl": jsonl(sst2_rows("sound", 2))}
    root = folder(tmp_path / "data", files)
    if case == "missing column, parquet":
        to_parquet([{"label": 1}], root / "glue" / "sst2" / name)
    with pytest.raises(DataError, match=message) as caught:
        prepare(SST2, LocalSource(root), tmp_path / "results" / "sst2")
    assert str(root / "glue" / "sst2") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("label", ["NaN", "Infinity", "5.01", "-0.5", '"3"', "1" + "0" * 400])
def test_regression_labels_are_checked(tmp_path: Path, label: str) -> None:
    line = '{"sentence1": "a", "sentence2": "b", "label": %s}\n'
    files = {
        "train.jsonl": ((line % "5.0") + (line % label)).encode(),
        "validation.jsonl": (line % "0").encode(),
    }
    source = LocalSource(folder(tmp_path / "data", files, "stsb"))
    with pytest.raises(DataError, match=r"line 2: .* expected a number from 0 to 5"):
        prepare(STSB, source, tmp_path / "out")


def test_a_bad_validation_split_and_a_bad_pair_are_found(tmp_path: Path) -> None:
    sound = {"sentence1": "a", "sentence2": "b", "label": 0}
    files = {
        "train.jsonl": jsonl([sound]),
        "validation.jsonl": jsonl([sound, sound | {"sentence2": ["b"]}]),
    }
    source = LocalSource(folder(tmp_path / "data", files, "rte"))
    with pytest.raises(DataError, match=r"validation\.jsonl: line 2: column 'sentence2': found \["):
        prepare(RTE, source, tmp_path / "out")


def test_a_failed_preparation_keeps_the_older_one(tmp_path: Path) -> None:
    prepare_sst2(tmp_path, sst2_rows("a", 4), sst2_rows("b", 2))
    (tmp_path / "data" / "glue" / "sst2" / "train.jsonl").write_bytes(b"broken")
    with pytest.raises(DataError):
        prepare(SST2, LocalSource(tmp_path / "data"), tmp_path / "out")
    assert len(load_prepared(tmp_path / "out").train) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_missing_folder_and_ambiguous_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        LocalSource(tmp_path / "nowhere").read(SST2, "train")
    files = {"train.jsonl": GOOD_LINE, "train.csv": b"sentence,label\nfine,1\n"}
    with pytest.raises(DataError, match=r"found train\.jsonl, train\.csv, expected one"):
        LocalSource(folder(tmp_path / "data", files)).read(SST2, "train")


def test_training_on_the_validation_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found the same 4 texts"):
        prepare_sst2(tmp_path, sst2_rows("a", 4), sst2_rows("a", 4))


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        (EmbeddedSource(), SST2, "glue/sst2: not an embedded task; .*embedded/sentiment"),
        (HubSource(), get_task("embedded", "sentiment"), "sentiment: not on the hub"),
        (
            EmbeddedSource(),
            dataclasses.replace(get_task("embedded", "sentiment"), task="irony"),
            "embedded/irony: unknown task; known: sentiment, entailment",
        ),
    ],
)
def test_a_source_refuses_tasks_it_does_not_have(source: Any, spec: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source.read(spec, "train")


# ---------------------------------------------------------------------------------- prepared


def test_prepared_folder_round_trip(tmp_path: Path) -> None:
    train, validation = sst2_rows("a", 5), sst2_rows("b", 3)
    prepared = prepare_sst2(tmp_path, train, validation)
    assert prepared.train.texts == [row["sentence"] for row in train]
    assert prepared.train.texts[0].endswith(" ")
    assert prepared.train.pairs is None
    assert prepared.train.labels.dtype == np.int64
    assert prepared.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert prepared.validation.rows.tolist() == [0, 1, 2]
    meta = prepared.meta
    assert (meta.suite, meta.task, meta.labels) == ("glue", "sst2", ["negative", "positive"])
    assert meta.metrics == ["accuracy"] and meta.num_outputs == 2 and meta.best is None
    assert meta.rows == meta.rows_available == {"train": 5, "validation": 3}
    assert meta.sha256["train"] == sha256_bytes(jsonl(train))
    assert str(tmp_path) not in (tmp_path / "out" / "meta.json").read_text()
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    assert table.column_names == ["text", "pair", "label", "row"]


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = get_task("embedded", "entailment")
    for name in ("one", "two"):
        prepare(spec, EmbeddedSource(train_rows=50, validation_rows=20), tmp_path / name)
    for file in ("train.parquet", "validation.parquet", "meta.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_max_train_rows_takes_nested_subsets_in_source_order(tmp_path: Path) -> None:
    train, validation = sst2_rows("a", 100), sst2_rows("b", 10)
    chosen = []
    for limit in (10, 40, 100, 1000):
        prepared = prepare_sst2(tmp_path / str(limit), train, validation, max_train_rows=limit)
        rows = prepared.train.rows.tolist()
        assert len(rows) == min(limit, 100) == prepared.meta.rows["train"]
        assert prepared.meta.rows_available == {"train": 100, "validation": 10}
        assert len(prepared.validation) == 10
        assert rows == sorted(rows)
        assert prepared.train.texts == [train[row]["sentence"] for row in rows]
        chosen.append(set(rows))
    assert chosen[0] < chosen[1] < chosen[2] == chosen[3]
    assert max(chosen[0]) > 50  # spread over the file, not its head
    with pytest.raises(ConfigError, match="max_train_rows: found 0"):
        prepare(SST2, LocalSource(tmp_path), tmp_path / "none", max_train_rows=0)


def test_a_damaged_prepared_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no meta\.json"):
        load_prepared(tmp_path / "nothing")
    prepare_sst2(tmp_path, sst2_rows("a", 4), sst2_rows("b", 4))
    out = tmp_path / "out"
    train, meta = out / "train.parquet", out / "meta.json"
    sound = train.read_bytes()
    train.write_bytes((out / "validation.parquet").read_bytes())
    with pytest.raises(DataError, match=r"train\.parquet: found sha256 .* expected"):
        load_prepared(out)
    train.unlink()
    with pytest.raises(DataError, match=r"train\.parquet: no such file"):
        load_prepared(out)
    train.write_bytes(sound)
    value = json.loads(meta.read_text())
    del value["rows"]
    meta.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"meta\.json: missing or unknown fields: rows"):
        load_prepared(out)
    meta.write_text("{")
    with pytest.raises(DataError, match=r"meta\.json: expected JSON"):
        load_prepared(out)


def make_split(labels: list[Any]) -> Split:
    rows = np.arange(len(labels), dtype=np.int64) * 7
    return Split([f"t{i}" for i in rows], None, np.array(labels), rows)


def test_holdout_divides_by_row_number_and_keeps_the_classes() -> None:
    split = make_split([0] * 90 + [1] * 10)
    fit, dev = holdout(split, 0.2, seed=3)
    assert (len(fit), len(dev)) == (80, 20)
    assert np.bincount(split.labels[dev]).tolist() == [18, 2]
    assert sorted([*fit, *dev]) == list(range(100))
    shuffled = split.take(np.argsort(mix64(np.arange(100), 9)))
    dev_rows = set(split.rows[dev])
    assert set(shuffled.rows[holdout(shuffled, 0.2, seed=3)[1]]) == dev_rows
    assert set(split.rows[holdout(split, 0.2, seed=4)[1]]) != dev_rows
    assert len(holdout(make_split([0.5, 1.5, 2.5, 3.5]), 0.25, seed=0)[1]) == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_holdout_refuses_an_empty_part(share: float) -> None:
    with pytest.raises(DataError, match="expected some in both parts"):
        holdout(make_split([0, 1, 1]), share, seed=0)


def test_take_keeps_pairs_with_their_texts() -> None:
    split = Split(["a", "b"], ["A", "B"], np.array([0, 1]), np.array([4, 5]))
    taken = split.take([1, 0, 1])
    assert (taken.texts, taken.pairs) == (["b", "a", "b"], ["B", "A", "B"])
    assert (taken.labels.tolist(), taken.rows.tolist()) == ([1, 0, 1], [5, 4, 5])


def test_mix64_is_splitmix64() -> None:
    def reference(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    assert reference(0) == 0xE220A8397B1DCDAF  # first output of splitmix64 for the seed 0
    for key in (0, 5, -1, 2**70 + 3):
        expected = [
            reference((v * 0x9E3779B97F4A7C15 + reference(key % 2**64)) % 2**64) for v in range(4)
        ]
        assert mix64(np.arange(4), key).tolist() == expected


def test_training_needs_no_heavy_import() -> None:
    code = (
        "import sys, xpeft.data.prepared, xpeft.data.prepare, xpeft.data.specs, xpeft.metrics\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'evaluate', 'sklearn', 'scipy'}\n"
        "print(*(heavy & set(sys.modules)))"
    )
    root = Path(xpeft.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.split() == []


# ---------------------------------------------------------------------------------- embedded


def sentiment_rule(text: str) -> int:
    """The grammar's rule, read from the text alone."""
    clauses = text.lower().removeprefix("although ").removesuffix(".").split(", ")
    first = len(clauses) == 1 or clauses[1].startswith("although ")
    words = clauses[0 if first else 1].split()
    assert (words[-1] in GOOD) != (words[-1] in BAD)
    return int((words[-1] in GOOD) != ("not" in words))


def entailment_rule(premise: str, hypothesis: str) -> int:
    """The grammar's rule, read from the two texts alone."""
    kind_of = {thing: kind for kind, things in KINDS.items() for thing in things}
    past_of = {stem: past for past, stem in VERBS}
    facts = set()
    for clause in premise.removesuffix(".").split(", "):
        name, past, _, thing = clause.split()[-4:]
        facts |= {(name, past, thing), (name, past, kind_of[thing])}
    words = hypothesis.removesuffix(".").split()
    negated = words[1] == "did"
    past = past_of[words[3]] if negated else words[1]
    return int(((words[0], past, words[-1]) in facts) == negated)


def rule(task: str, rows: Any) -> list[int]:
    if task == "sentiment":
        return [sentiment_rule(text) for text in rows.texts]
    return [entailment_rule(*pair) for pair in zip(rows.texts, rows.pairs, strict=True)]


@pytest.mark.parametrize("task", ["sentiment", "entailment"])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.123])
def test_the_rule_scores_exactly_the_stated_best(task: str, noise: float) -> None:
    for name, rows in generate(task, noise=noise, seed=11).items():
        predictions = rule(task, rows)
        assert predictions == rows.truth
        hits = sum(p == label for p, label in zip(predictions, rows.labels, strict=True))
        assert hits / len(rows.labels) == rows.best
        size = {"train": 2000, "validation": 400}[name]
        assert rows.best == 1 - round(noise * size) / size
        assert sum(rows.truth) == size // 2
        assert abs(sum(rows.labels) - size // 2) <= 1


@pytest.mark.parametrize("task", ["sentiment", "entailment"])
def test_no_text_occurs_twice(task: str) -> None:
    texts = [
        text
        for rows in generate(task).values()
        for text in zip(rows.texts, rows.pairs or rows.texts, strict=True)
    ]
    assert len(texts) == len(set(texts)) == 2400


def test_words_alone_do_not_give_the_sentiment() -> None:
    rows = generate("sentiment", noise=0)["train"]
    votes = [
        sum(word in GOOD for word in re.findall(r"\w+", text))
        - sum(word in BAD for word in re.findall(r"\w+", text))
        for text in rows.texts
    ]
    hits = [(vote > 0) == label for vote, label in zip(votes, rows.truth, strict=True) if vote]
    assert 0.5 < np.mean(hits) < 0.75


def test_the_hypothesis_alone_gives_seven_tenths_of_the_entailment() -> None:
    rows = generate("entailment", noise=0)["train"]
    hits = [
        ("did not" in h) == label for h, label in zip(rows.pairs or [], rows.truth, strict=True)
    ]
    assert 0.67 < np.mean(hits) < 0.73


def test_embedded_rows_are_fixed() -> None:
    digests = {}
    for task in ("sentiment", "entailment"):
        rows = generate(task)["validation"]
        split = Split(rows.texts, rows.pairs, np.array(rows.labels), np.arange(len(rows.texts)))
        digests[task] = rows_sha256(split)[:16]
    assert digests == {"sentiment": "242518ff7fa3d11b", "entailment": "240eb4aa8d116411"}


def test_embedded_options() -> None:
    small = generate("sentiment", train_rows=10)
    assert small["validation"] == generate("sentiment")["validation"]
    assert len(small["train"].texts) == 10
    assert generate("sentiment", seed=1)["train"].texts != generate("sentiment")["train"].texts
    with pytest.raises(ConfigError, match=r"found noise 0\.5"):
        generate("sentiment", noise=0.5)
    with pytest.raises(ConfigError, match="found 1 training"):
        generate("sentiment", train_rows=1)
    with pytest.raises(ConfigError, match=r"found 10{13} training .* together at most 1,000,000"):
        generate("sentiment", train_rows=10**13)


def test_embedded_task_is_prepared_with_its_best_score(tmp_path: Path) -> None:
    source = EmbeddedSource(train_rows=100, validation_rows=60, noise=0.1)
    spec = get_task("embedded", "entailment")
    prepared = load_prepared(prepare(spec, source, tmp_path / "out"))
    rows = source.read(spec, "validation")
    assert prepared.meta.best == 0.9
    assert prepared.meta.source == "embedded generator, noise 0.1, seed 0"
    assert prepared.meta.rows == {"train": 100, "validation": 60}
    assert prepared.validation.texts == rows.texts
    assert prepared.validation.pairs == rows.pairs
    assert prepared.meta.sha256["validation"] == rows_sha256(prepared.validation)
