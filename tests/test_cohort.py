"""Cohorts: their files, how rows are divided, the prepared folder, and the command line."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xpeft.cli import main
from xpeft.data.cohort import Cohort, load_cohort
from xpeft.data.cohort_prepare import READERS, prepare_cohort
from xpeft.data.cohort_readers import SECTIONS, cohort_files
from xpeft.data.cohort_specs import COHORTS, NEWS_LABELS, CohortSpec, get_cohort
from xpeft.data.embedded_authors import EmbeddedAuthors
from xpeft.errors import ConfigError, DataError
from xpeft.ids import profile_id
from xpeft.io import sha256_file
from xpeft.metrics import METRICS

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]

POPQUORN = get_cohort("popquorn_offensiveness")
MD = get_cohort("md_agreement")
NEWS = replace(
    get_cohort("huffpost"), target_min_train=4, target_min_test=1, donor_min_train=2
)  # small files


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def put(root: Path, stem: str, rows: Rows | bytes, suffix: str = ".jsonl") -> Path:
    path = root / f"{stem}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = rows if isinstance(rows, bytes) else jsonl(rows)
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    return path


def pool(annotators: int = 12, items: int = 120, each: int = 50) -> Rows:
    """Annotators 0, 1, ..., each with `each` of the items, and a taste of its own."""
    rng = random.Random(3)
    return [
        {
            "profile": f"annotator {who}",
            "text": f"Comment {item}",
            "label": 1 + (item * who + item) % 5,
            "item": f"{item}",
        }
        for who in range(annotators)
        for item in rng.sample(range(items), each)
    ]


def popquorn(root: Path, rows: Rows) -> Path:
    put(root / "data", POPQUORN.files[0], rows)
    return root / "data"


def prepared(spec: CohortSpec, data: Path, out: Path, **options: Any) -> Cohort:
    return load_cohort(prepare_cohort(spec, data, out, **options))


def as_rows(cohort: Cohort) -> set[tuple[int, str, int, bool]]:
    """The rows as (id, text, label, test)."""
    return {
        (cohort.sheet[profile].profile, cohort.texts[item], label, test)
        for profile, item, label, test in zip(
            cohort.profile.tolist(),
            cohort.item.tolist(),
            cohort.label.tolist(),
            cohort.test.tolist(),
            strict=True,
        )
    }


# ---------------------------------------------------------------------------------- specs


@pytest.mark.parametrize("spec", COHORTS.values(), ids=lambda spec: spec.name)
def test_specs_are_complete(spec: CohortSpec) -> None:
    assert COHORTS[spec.task] is spec and spec.name == f"profiles/{spec.task}"
    assert spec.metrics[0] == "accuracy" and set(spec.metrics) <= set(METRICS)
    assert spec.licence and spec.note and len(set(spec.labels)) == len(spec.labels) > 1
    assert spec.split in ("item", "time", "given")
    assert (spec.reader in READERS) == bool(spec.files)
    assert spec.reader in READERS or spec.reader == "embedded"


def test_an_unknown_cohort_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"profiles/x: unknown cohort 'x'; .*md_agreement.*embedd"):
        get_cohort("x")


def test_profile_ids_are_fixed_and_differ_by_cohort() -> None:
    assert f"{profile_id('md_agreement', 'Ann418'):016x}" == "ed18b9e04c1541b0"
    assert profile_id("md_agreement", "Ann418") != profile_id("huffpost", "Ann418")
    assert profile_id("a", "b\0c") != profile_id("a\0b", "d")
    assert profile_id("x", "é") < 2**64


def test_every_section_of_the_news_has_a_label_of_lamp_or_none() -> None:
    assert len(SECTIONS) == 42
    assert {label for label in SECTIONS.values() if label is not None} == set(NEWS_LABELS)
    assert len(NEWS_LABELS) == 15
    for label in NEWS_LABELS:
        named = SECTIONS.get(label.upper(), label)
        assert named == label  # a section of the label's own name has that label


# ------------------------------------------------------------------------------ item split


def test_an_annotator_pool_becomes_a_cohort(tmp_path: Path) -> None:
    rows = pool()
    data = popquorn(tmp_path, rows)
    cohort = prepared(POPQUORN, data, tmp_path / "out")
    assert {row.profile for row in cohort.sheet} == {
        profile_id("popquorn_offensiveness", row["profile"]) for row in rows
    }
    assert {(who, text, label) for who, text, label, _ in as_rows(cohort)} == {
        (profile_id(POPQUORN.task, row["profile"]), row["text"], row["label"] - 1) for row in rows
    }
    meta = cohort.meta
    assert (meta.suite, meta.task, meta.split) == ("profiles", "popquorn_offensiveness", "item")
    assert meta.labels == ["1", "2", "3", "4", "5"] and meta.num_outputs == 5
    assert meta.profiles == 12 and sum(meta.rows.values()) == len(rows) == 600
    assert meta.left_out == {} and meta.best is None
    name = f"{POPQUORN.files[0]}.jsonl"
    assert meta.sha256 == {name: sha256_file(data / name)}
    assert meta.source == f"local {name}"
    assert meta.thresholds == {
        "target_min_train": 10, "target_min_test": 5, "donor_min_train": 10, "folds": 2, "seed": 0,
    }  # fmt: skip
    assert cohort.texts == sorted(set(cohort.texts))
    assert cohort.test.dtype == np.bool_
    assert {a.dtype for a in (cohort.profile, cohort.item, cohort.label)} == {np.dtype(np.int64)}


def test_rows_of_a_profile_are_found(tmp_path: Path) -> None:
    cohort = prepared(POPQUORN, popquorn(tmp_path, pool()), tmp_path / "out")
    seen = []
    for place, row in enumerate(cohort.sheet):
        train, test = cohort.train_rows(place), cohort.test_rows(place)
        assert (len(train), len(test)) == (row.train, row.test)
        assert not cohort.test[train].any() and cohort.test[test].all()
        assert set(cohort.profile[np.concatenate([train, test])]) == {place}
        codes = np.bincount(cohort.label[train], minlength=5)
        assert row.top_label == cohort.meta.labels[codes.argmax()]
        assert row.top_share == round(codes.max() / len(train), 4)
        seen += [*train, *test]
    assert sorted(seen) == list(range(len(cohort.profile)))
    for fold in cohort.folds:
        assert not set(cohort.targets(fold)) & set(cohort.donors(fold))
    with pytest.raises(DataError, match=r"fold 5: has no targets; folds that have some: 0, 1"):
        cohort.targets(5)
    with pytest.raises(DataError, match="fold -1: has no targets"):
        cohort.donors(-1)
    for place in (-1, len(cohort.sheet)):
        with pytest.raises(IndexError):
            cohort.train_rows(place)


def test_a_held_out_text_is_held_out_for_everyone(tmp_path: Path) -> None:
    rows = pool()
    for row in rows:  # one text in another form is the same item
        if row["item"] == "7" and row["profile"] in ("annotator 1", "annotator 2"):
            row |= {"text": " comment\u00a07", "item": "7 again"}
    cohort = prepared(POPQUORN, popquorn(tmp_path, rows), tmp_path / "out")
    sides = defaultdict(set)
    for _, text, _, test in as_rows(cohort):
        sides[" ".join(text.split()).casefold()].add(test)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.1 < np.mean([True in side for side in sides.values()]) < 0.3


def test_a_side_depends_on_the_text_alone(tmp_path: Path) -> None:
    """Neither other texts, other annotators nor the order of the rows move a text over."""
    rows = pool()
    whole = as_rows(prepared(POPQUORN, popquorn(tmp_path / "a", rows), tmp_path / "a" / "out"))
    part = as_rows(prepared(POPQUORN, popquorn(tmp_path / "b", rows[200:]), tmp_path / "b" / "out"))
    assert part < whole
    random.Random(0).shuffle(rows)
    prepared(POPQUORN, popquorn(tmp_path / "c", rows), tmp_path / "c" / "out")
    for name in ("items.parquet", "rows.parquet", "sheet.tsv"):
        a, c = (tmp_path / folder / "out" / name for folder in ("a", "c"))
        assert a.read_bytes() == c.read_bytes()


def test_all_files_of_a_pool_are_read_and_repeats_count_once(tmp_path: Path) -> None:
    rows = [row | {"label": row["label"] % 2, "domain": "x"} for row in pool()]
    again = next(row for row in rows if row["profile"] == "annotator 0")
    torn = next(row for row in rows if row["profile"] == "annotator 1")
    rows += [again, torn | {"label": 1 - torn["label"]}]
    for place, (stem, suffix) in enumerate(
        zip(MD.files, (".jsonl.gz", ".parquet", ".csv"), strict=True)
    ):
        part = rows[place::3]
        path = put(tmp_path / "data", stem, part, suffix)
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(part), path)
        if suffix == ".csv":
            lines = [
                ",".join(map(str, values)) for values in (part[0], *(r.values() for r in part))
            ]
            path.write_text("\n".join(lines))
    cohort = prepared(MD, tmp_path / "data", tmp_path / "out")
    assert cohort.meta.left_out == {
        "repeated judgement": 1, "text with two labels of one profile": 2,
    }  # fmt: skip
    assert len(cohort.profile) == 600 - 1 == sum(cohort.meta.rows.values())
    assert len(cohort.meta.sha256) == 3
    files = cohort_files(MD, tmp_path / "data")
    assert [path.name for path in files] == ["train.jsonl.gz", "validation.parquet", "test.csv"]


# ------------------------------------------------------------------------------ time split


def news(authors: int = 6, each: int = 10) -> Rows:
    """Authors who each write one text a week, and a second one each third week on the same day."""
    sections = ("POLITICS", "TASTE", "WORLD NEWS", "SCIENCE", "PARENTS")
    rows = []
    for who in range(authors):
        for week in range(each + who):
            for turn in range(1 + (week % 3 == 2)):
                rows.append(
                    {
                        "author": f"Person {who}, Paper",
                        "headline": f"Headline {who}.{week}.{turn}",
                        "short_description": f"Of week {week}" if week % 2 else "",
                        "category": sections[(who + week) % 5],
                        "date": f"2020-{1 + week // 4:02}-{1 + 7 * (week % 4):02}",
                        "link": "",
                        "part": "window",
                    }
                )
    return rows


def huffpost(root: Path, rows: Rows) -> Path:
    put(root / "data", "news/huffpost", rows, ".jsonl.gz")
    return root / "data"


def test_an_authors_test_texts_are_later_than_its_training_texts(tmp_path: Path) -> None:
    rows = news(each=12)
    day = {
        "\n".join(filter(None, (row["headline"], row["short_description"]))): row["date"]
        for row in rows
    }
    random.Random(1).shuffle(rows)
    cohort = prepared(NEWS, huffpost(tmp_path, rows), tmp_path / "out")
    assert cohort.meta.split == "time"
    whole_days = 0
    for place in range(len(cohort.sheet)):
        train, test = (
            [day[cohort.texts[cohort.item[row]]] for row in numbers]
            for numbers in (cohort.train_rows(place), cohort.test_rows(place))
        )
        assert max(train) < min(test)
        assert [*train, *test] == sorted([*train, *test])  # rows are in the order of time
        fifth = round((len(train) + len(test)) / 5)
        assert len(test) in (fifth, fifth + 1)
        whole_days += len(test) == fifth + 1
    assert whole_days  # some boundary fell within a day
    written = {
        (row["headline"].split(".")[0], NEWS_LABELS.index(SECTIONS[row["category"]]))
        for row in rows
        if SECTIONS[row["category"]]
    }
    assert {(text.split(".")[0], label) for _, text, label, _ in as_rows(cohort)} == written


def test_what_is_left_out_of_the_news_is_counted(tmp_path: Path) -> None:
    rows = news()
    unmapped = sum(row["category"] == "WORLD NEWS" for row in rows)
    old = [row | {"part": "sample", "headline": f"Old {row['headline']}"} for row in rows[:9]]
    # The same text by another author, on the last day of the one and the first of the other.
    last = max(row["date"] for row in rows)
    text = {"headline": "Wire", "short_description": "", "category": "CRIME"}
    wire = [
        rows[0] | text | {"author": "Person 0, Paper", "date": last},
        rows[0] | text | {"author": "Person 1, Paper", "date": "2019-01-01"},
    ]
    cohort = prepared(NEWS, huffpost(tmp_path, rows + old + wire + wire[:1]), tmp_path / "out")
    assert cohort.meta.left_out == {
        "older sample": 9,
        "section without a label": unmapped,
        "repeated judgement": 1,
        "training row with a test text": 1,
    }
    assert len(cohort.profile) == len(rows) - unmapped + 1
    assert [test for _, text, _, test in as_rows(cohort) if text == "Wire"] == [True]


def test_an_author_of_one_day_has_no_training_rows(tmp_path: Path) -> None:
    rows = news() + [
        row | {"author": "One Day", "date": "2020-05-05", "headline": f"Day {place}"}
        for place, row in enumerate(news()[:9])
    ]
    cohort = prepared(NEWS, huffpost(tmp_path, rows), tmp_path / "out")
    row = next(r for r in cohort.sheet if r.profile == profile_id("huffpost", "One Day"))
    assert (row.train, row.target, row.donor, row.top_label) == (0, False, False, "-")
    assert row.test > 0


def test_no_name_of_an_author_is_written(tmp_path: Path) -> None:
    prepare_cohort(NEWS, huffpost(tmp_path, news()), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data = json.dumps(pq.read_table(path).to_pydict()).encode()
        assert b"Person" not in data and b"Paper" not in data
        assert str(tmp_path).encode() not in data


# ---------------------------------------------------------------------------------- faults

SOUND = {"profile": "a", "text": "fine", "label": 1, "item": "1"}
ARTICLE = news()[0]
PACKED = gzip.compress(jsonl([SOUND] * 500) + bytes(range(32, 127)), mtime=0)


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


BAD: dict[str, tuple[CohortSpec, str, Rows | bytes, str]] = {
    "missing file": (POPQUORN, ".txt", [SOUND], r"/all: no such file, expected one with \.jsonl"),
    "missing column": (
        POPQUORN, ".jsonl", [SOUND, without(SOUND, "item")],
        r"all\.jsonl: line 2: found the columns profile, text, label, expected also item",
    ),
    "label out of range": (
        POPQUORN, ".jsonl", [SOUND, SOUND | {"label": 0}],
        r"line 2: column 'label': found 0, expected one of 1 1, 2 2, 3 3, 4 4, 5 5",
    ),
    "label is text": (
        POPQUORN, ".jsonl", [SOUND | {"label": "1"}], r"line 1: column 'label': found '1'",
    ),
    "label is a bool": (
        POPQUORN, ".jsonl", [SOUND | {"label": True}], r"line 1: column 'label': found True",
    ),
    "label is a fraction": (
        POPQUORN, ".jsonl", [SOUND | {"label": 1.0}], r"line 1: column 'label': found 1\.0",
    ),
    "label is null": (
        POPQUORN, ".jsonl", [SOUND | {"label": None}], r"column 'label': found nothing \(null\)",
    ),
    "empty annotator": (
        POPQUORN, ".jsonl", [SOUND, SOUND | {"profile": " "}],
        r"line 2: column 'profile': found an empty text, expected a name",
    ),
    "annotator is null": (
        POPQUORN, ".jsonl", [SOUND | {"profile": None}], r"column 'profile': found nothing ",
    ),
    "empty text": (
        POPQUORN, ".jsonl", [SOUND, SOUND | {"text": "\n"}], r"line 2: found an empty text",
    ),
    "half a character": (
        POPQUORN, ".jsonl", b'{"profile": "a", "text": "\\ud800", "label": 1, "item": "1"}\n',
        r"line 1: column 'text': found the unpaired surrogate '\\ud800'",
    ),
    "two texts of an item": (
        POPQUORN, ".jsonl", [SOUND, SOUND | {"profile": "b", "text": "other"}],
        r"line 2: column 'text': found another text for item '1' than in .*all\.jsonl: line 1",
    ),
    "broken gzip": (
        POPQUORN, ".jsonl.gz ", PACKED[:40] + bytes([PACKED[40] ^ 255]) + PACKED[41:],
        r"all\.jsonl\.gz: expected a whole gzip file",
    ),
    "truncated gzip": (POPQUORN, ".jsonl.gz ", PACKED[:-12], r"gz: expected a whole gzip file"),
    "empty file": (POPQUORN, ".jsonl", b"", r"all\.jsonl: found an empty file, expected rows"),
    "broken JSON": (POPQUORN, ".jsonl", jsonl([SOUND]) + b"{\n", r"line 2: found '\{', expected"),
    "too few rows for a target": (
        POPQUORN, ".jsonl", [SOUND], r"sheet of 1 profiles .*at least 10 .* found no target",
    ),
    "empty author": (
        NEWS, ".jsonl", [ARTICLE, ARTICLE | {"author": ""}],
        r"huffpost\.jsonl: line 2: column 'author': found an empty text, expected a name",
    ),
    "unknown section": (
        NEWS, ".jsonl", [ARTICLE | {"category": "Politics"}],
        r"line 1: column 'category': found 'Politics', expected one of the 42 sections",
    ),
    "unknown part": (
        NEWS, ".jsonl", [ARTICLE | {"part": "all"}],
        r"line 1: column 'part': found 'all', expected window or sample",
    ),
    "headline is null": (
        NEWS, ".jsonl", [ARTICLE | {"headline": None}], r"'headline': found nothing \(null\)",
    ),
    "no words": (
        NEWS, ".jsonl", [ARTICLE | {"headline": "", "short_description": " "}],
        r"line 1: found an empty text, expected words",
    ),
    "news without dates": (
        NEWS, ".jsonl", [without(ARTICLE, "date")], r"line 1: found .* expected also date",
    ),
}  # fmt: skip

for _name, _date in {
    "another form": "01.03.2018",
    "no such day": "2018-02-30",
    "a time": "2018-03-01 10:00",
    "basic form": "20180301",
    "week": "2018-W09-4",
    "number": 20180301,
    "null": None,
    "other digits": "\uff12\uff10\uff11\uff18-03-01",
}.items():
    BAD[f"wrong date, {_name}"] = (
        NEWS,
        ".jsonl",
        [ARTICLE, ARTICLE | {"date": _date}],
        r"huffpost\.jsonl: line 2: column 'date': found .*, expected a day as 2018-03-01",
    )


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    spec, suffix, rows, message = BAD[case]
    path = tmp_path / "data" / f"{spec.files[0]}{suffix.strip()}"
    path.parent.mkdir(parents=True)
    path.write_bytes(rows if isinstance(rows, bytes) else jsonl(rows))
    with pytest.raises(DataError, match=message) as caught:
        prepare_cohort(spec, tmp_path / "data", tmp_path / "results" / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_failed_preparation_keeps_the_older_one(tmp_path: Path) -> None:
    data = popquorn(tmp_path, pool())
    before = prepared(POPQUORN, data, tmp_path / "out")
    put(data, POPQUORN.files[0], b"broken")
    with pytest.raises(DataError):
        prepare_cohort(POPQUORN, data, tmp_path / "out")
    assert as_rows(load_cohort(tmp_path / "out")) == as_rows(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize(
    ("spec", "source", "options", "message"),
    [
        (MD, "nowhere", {}, r"nowhere: no such folder, expected the data folder with profiles/md_"),
        (MD, EmbeddedAuthors(), {}, "md_agreement: not an embedded cohort; use the source local"),
        (get_cohort("embedded_authors"), ".", {}, "embedded_authors: generated, not read"),
        (MD, ".", {"sheet": "x", "folds": 2}, "sheet: found a number of folds or a seed too"),
        (MD, ".", {"sheet": "x", "seed": 0}, "expected the sheet alone"),
        (get_cohort("embedded_authors"), EmbeddedAuthors(4), {"folds": 1}, "folds: found 1"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, spec: CohortSpec, source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        prepare_cohort(spec, source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------- own sheets


def test_a_sheet_made_by_hand(tmp_path: Path) -> None:
    data = popquorn(tmp_path, pool())
    made = prepared(POPQUORN, data, tmp_path / "made")
    # A subset, with the flags turned: the first half are donors only.
    lines = (tmp_path / "made" / "sheet.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in lines[1:9]]
    for place, cell in enumerate(cells):
        cell[1:4] = ["3", "1", "0"] if place < 4 else ["5", "0", "1"]
    own = tmp_path / "own.tsv"
    own.write_text("\n".join([lines[0], *("\t".join(cell) for cell in reversed(cells))]) + "\n")
    cohort = prepared(POPQUORN, data, tmp_path / "out", sheet=own)
    assert cohort.folds == [5]
    assert cohort.targets(5).tolist() == [4, 5, 6, 7]
    assert cohort.donors(5).tolist() == [0, 1, 2, 3]
    assert [row.tally for row in cohort.sheet] == [row.tally for row in made.sheet[:8]]
    kept = {row.profile for row in cohort.sheet}
    assert as_rows(cohort) == {row for row in as_rows(made) if row[0] in kept}
    assert cohort.meta.thresholds is None and cohort.meta.profiles == 8
    assert cohort.meta.left_out == {"profile not in the sheet": 200}
    assert set(cohort.item) == set(range(len(cohort.texts)))


def test_a_bad_sheet_leaves_nothing_behind(tmp_path: Path) -> None:
    data = popquorn(tmp_path, pool())
    prepare_cohort(POPQUORN, data, tmp_path / "made")
    own = tmp_path / "own.tsv"
    own.write_text((tmp_path / "made" / "sheet.tsv").read_text())
    rows = pool()
    put(data, POPQUORN.files[0], rows[1:])  # the sheet is now of other data
    with pytest.raises(
        DataError, match=r"own\.tsv: line \d+: column '\w+': found .* of other data"
    ):
        prepare_cohort(POPQUORN, data, tmp_path / "out", sheet=own)
    with pytest.raises(DataError, match=r"none\.tsv: no such file"):
        prepare_cohort(POPQUORN, data, tmp_path / "out", sheet=tmp_path / "none.tsv")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------- prepared folder


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    data = popquorn(tmp_path, pool())
    for name in ("one", "two"):
        prepare_cohort(POPQUORN, data, tmp_path / name)
    names = {"items.parquet", "rows.parquet", "sheet.tsv", "meta.json"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    table = pq.read_table(tmp_path / "one" / "rows.parquet")
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "profile": "int32", "item": "int64", "label": "int64", "test": "bool",
    }  # fmt: skip


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a prepared cohort, found no meta\.json"):
        load_cohort(tmp_path / "nothing")
    out = prepare_cohort(POPQUORN, popquorn(tmp_path, pool()), tmp_path / "out")
    for name in ("items.parquet", "rows.parquet", "sheet.tsv"):
        sound = (out / name).read_bytes()
        (out / name).write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        with pytest.raises(
            DataError, match=rf"{name}: found sha256 .* expected .* from meta\.json"
        ):
            load_cohort(out)
        (out / name).unlink()
        with pytest.raises(DataError, match=rf"{name}: no such file, expected by meta\.json"):
            load_cohort(out)
        (out / name).write_bytes(sound)
    meta = json.loads((out / "meta.json").read_text())
    (out / "meta.json").write_text(json.dumps({**meta, "extra": 1}))
    with pytest.raises(DataError, match=r"meta\.json: missing or unknown fields: extra"):
        load_cohort(out)
    (out / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json: expected JSON"):
        load_cohort(out)


def test_a_sheet_edited_with_its_hash_must_still_fit_the_rows(tmp_path: Path) -> None:
    out = prepare_cohort(POPQUORN, popquorn(tmp_path, pool()), tmp_path / "out")
    text = (out / "sheet.tsv").read_text().splitlines()
    cells = text[1].split("\t")
    cells[4] = str(int(cells[4]) + 1)
    (out / "sheet.tsv").write_text("\n".join([text[0], "\t".join(cells), *text[2:]]) + "\n")
    meta = json.loads((out / "meta.json").read_text())
    meta["files"]["sheet.tsv"] = sha256_file(out / "sheet.tsv")
    (out / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"sheet\.tsv: line 2: column 'train': found \d+, expected"):
        load_cohort(out)


def test_training_needs_no_heavy_import() -> None:
    code = (
        "import sys, xpeft.data.cohort, xpeft.data.cohort_prepare\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'evaluate', 'sklearn', 'scipy'}\n"
        "print(*(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


# ---------------------------------------------------------------------------- command line


def run(*argv: object) -> int:
    return main([str(word) for word in ("data", *argv)])


def test_the_verb_prepares_a_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = popquorn(tmp_path, pool()), tmp_path / "out"
    task = ("--task", POPQUORN.name, "--source", "local", "--path", data)
    assert run(*task, "--folds", 3, "--out", out) == 0
    assert capsys.readouterr().out == (
        "profiles/popquorn_offensiveness: 12 profiles, 12 of them targets in 3 folds, "
        f"{load_cohort(out).meta.rows['train']} training rows, "
        f"{load_cohort(out).meta.rows['test']} test rows, from local {POPQUORN.files[0]}.jsonl\n"
    )
    rows = pool()
    put(data, POPQUORN.files[0], [*rows, rows[0]])
    assert run(*task, "--sheet", out / "sheet.tsv", "--out", tmp_path / "again") == 0
    assert capsys.readouterr().out.endswith("left out: 1 x repeated judgement\n")
    assert (tmp_path / "again" / "sheet.tsv").read_bytes() == (out / "sheet.tsv").read_bytes()


def test_the_verb_prepares_the_embedded_cohort(tmp_path: Path) -> None:
    rows = ("--train-rows", 10, "--validation-rows", 6, "--noise", 0, "--seed", 4)
    task = ("--task", "profiles/embedded_authors", "--source", "embedded")
    assert run(*task, "--authors", 8, *rows, "--out", tmp_path / "out") == 0
    cohort = load_cohort(tmp_path / "out")
    assert [(row.train, row.test) for row in cohort.sheet] == [(10, 6)] * 8
    settings = EmbeddedAuthors(authors=8, train_rows=10, test_rows=6, noise=0, seed=4)
    prepare_cohort(get_cohort("embedded_authors"), settings, tmp_path / "same")
    for name in ("rows.parquet", "items.parquet", "meta.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


EMBEDDED = "--task profiles/embedded_authors --source embedded"
LOCAL = "--task profiles/md_agreement --source local --path nowhere"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "--task profiles/nope --source local --path .",
            "task profiles/nope: unknown cohort 'nope'",
        ),
        ("--task profiles/ --source local --path .", "task profiles/: unknown cohort ''"),
        (LOCAL, "nowhere: no such folder"),
        (f"{LOCAL} --authors 4", "--authors: only source embedded has it; drop it"),
        (f"{LOCAL} --noise 0", "--noise: only source embedded has it; drop it"),
        (f"{LOCAL} --max-train-rows 9", "--max-train-rows: suite profiles does not have it"),
        ("--task profiles/md_agreement --source local", "--path: found nothing, expected the data"),
        ("--task profiles/md_agreement --source hub", "--source: found hub, expected local or emb"),
        ("--task profiles/md_agreement --source embedded", "md_agreement: not an embedded cohort"),
        (f"{EMBEDDED} --path .", "--path: source embedded does not have it"),
        (f"{EMBEDDED} --authors 7", "embedded_authors: authors: found 7, expected an even number"),
        (f"{EMBEDDED} --folds 0", "folds: found 0, expected 2 to 1000"),
        (f"{EMBEDDED} --sheet none.tsv", "none.tsv: no such file, expected a sheet"),
        ("--task glue/rte --source hub --folds 2", "--folds: only suite profiles has it"),
        ("--task glue/rte --source hub --authors 2", "--authors: only suite profiles has it"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: str, message: str
) -> None:
    assert run(*argv.split(), "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("xpeft: error: ") and printed.err.count("\n") == 1
    assert message in printed.err
    assert list(tmp_path.iterdir()) == []
