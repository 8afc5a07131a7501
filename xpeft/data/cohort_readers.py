"""From the files of a cohort to its judgements: who gave which text which label.

A reader opens, decodes and checks every row, and names the row that is not what it should be; who
is a target, and which rows are held out, is decided in `xpeft.data.cohort_prepare`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from xpeft.data.cohort_specs import CohortSpec
from xpeft.data.sources import find_table, read_table
from xpeft.errors import DataError, show
from xpeft.io import sha256_file


@dataclass(frozen=True)
class Judgement:
    """A label that a profile gave a text.

    Attributes:
        name: what the source calls the profile.
        text: the text.
        label: label code.
        day: ISO date of the text, where it has one.
        test: whether it is a test row, where the source says it.
    """

    name: str
    text: str
    label: int
    day: str = ""
    test: bool | None = None


@dataclass(frozen=True)
class Reading:
    """All that a reader found.

    Attributes:
        judgements: one a row, in any order.
        source: description for the record, without machine paths.
        sha256: hash of each file, by its path from the data folder.
        left_out: number of rows that are not judgements of this cohort, by the reason.
        folds: fold of each name, where the source says it.
        groups: names that belong into one fold have the same group.
        best: best possible accuracy over all profiles, {"shared", "personal"}, if it is known.
    """

    judgements: list[Judgement]
    source: str
    sha256: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)
    folds: dict[str, int] | None = None
    groups: dict[str, str] | None = None
    best: dict[str, float] | None = None


@dataclass(frozen=True)
class Columns:
    """The columns that a reader wants of a file, and which of them holds integers."""

    columns: tuple[str, ...]
    label: str = ""
    regression: bool = False


Row = tuple[str, dict[str, Any]]
"""Where a row is, for an error message, and its cells by column."""


def read_annotators(spec: CohortSpec, root: Path) -> Reading:
    """Read an annotator pool: columns profile, text, label, item; a row is a judgement.

    Raises:
        DataError: a file is missing or unreadable, or a row is not what its columns say.
    """
    judgements: list[Judgement] = []
    texts: dict[str, tuple[str, str]] = {}  # item -> its text, and where it was first
    labels = {spec.first_label + code: code for code in range(len(spec.labels))}
    expected = ", ".join(f"{value} {spec.labels[code]}" for value, code in labels.items())
    files: dict[str, str] = {}
    for where, row in _rows(
        spec, root, Columns(("profile", "text", "label", "item"), "label"), files
    ):
        name, item = (_name(where, column, row[column]) for column in ("profile", "item"))
        text = _filled(where, check_text(where, "text", row["text"]))
        label = row["label"]
        if isinstance(label, bool) or not isinstance(label, int) or label not in labels:
            raise DataError(
                f"{where}: column 'label': found {show(label)}, expected one of {expected}; "
                "correct the row"
            )
        first, place = texts.setdefault(item, (text, where))
        if text != first:
            raise DataError(
                f"{where}: column 'text': found another text for item {show(item)} than in "
                f"{place}, expected the same; correct one of them"
            )
        judgements.append(Judgement(name, text, labels[label]))
    return Reading(judgements, f"local {', '.join(files)}", files)


SECTIONS: dict[str, str | None] = {
    "ARTS": "culture & arts",
    "ARTS & CULTURE": "culture & arts",
    "BLACK VOICES": None,
    "BUSINESS": "business",
    "COLLEGE": "education",
    "COMEDY": None,
    "CRIME": "crime",
    "CULTURE & ARTS": "culture & arts",
    "DIVORCE": None,
    "EDUCATION": "education",
    "ENTERTAINMENT": "entertainment",
    "ENVIRONMENT": None,
    "FIFTY": None,
    "FOOD & DRINK": "food & drink",
    "GOOD NEWS": None,
    "GREEN": None,
    "HEALTHY LIVING": "healthy living",
    "HOME & LIVING": None,
    "IMPACT": None,
    "LATINO VOICES": None,
    "MEDIA": None,
    "MONEY": "business",
    "PARENTING": "parents",
    "PARENTS": "parents",
    "POLITICS": "politics",
    "QUEER VOICES": None,
    "RELIGION": "religion",
    "SCIENCE": "science & technology",
    "SPORTS": "sports",
    "STYLE": "style & beauty",
    "STYLE & BEAUTY": "style & beauty",
    "TASTE": "food & drink",
    "TECH": "science & technology",
    "THE WORLDPOST": None,
    "TRAVEL": "travel",
    "U.S. NEWS": None,
    "WEDDINGS": None,
    "WEIRD NEWS": None,
    "WELLNESS": "healthy living",
    "WOMEN": "women",
    "WORLD NEWS": None,
    "WORLDPOST": None,
}
"""LaMP's label of each of HuffPost's 42 sections. ours: a section belongs to a label if they have
the same name (also in its older form, as PARENTS and PARENTING) or the label joins their topics
(SCIENCE and TECH; MONEY is business, COLLEGE education, TASTE food, WELLNESS healthy living). The
18 others have no label and their texts are left out: they name who writes or reads (BLACK VOICES,
FIFTY), a place (WORLD NEWS) or a form (COMEDY), and would have to be guessed."""


def read_bylines(spec: CohortSpec, root: Path) -> Reading:
    """Read news texts with their authors: the author string is the profile.

    Columns author, headline, short_description, category, date, part. The text is headline and
    short description, on a line each. A joint by-line is a profile of its own. Rows of the part
    "sample" are left out: they are some of the texts of their years, drawn in a way that is not
    known, so "the last fifth" of an author would be counted over gaps.

    Raises:
        DataError: a file is missing or unreadable, or a row is not what its columns say.
    """
    codes = {label: code for code, label in enumerate(spec.labels)}
    judgements: list[Judgement] = []
    left_out = {"older sample": 0, "section without a label": 0}
    files: dict[str, str] = {}
    names = ("author", "headline", "short_description", "category", "date", "part")
    for where, row in _rows(spec, root, Columns(names), files):
        name = _name(where, "author", row["author"])
        headline, description = (check_text(where, column, row[column]) for column in names[1:3])
        section, part = row["category"], row["part"]
        if not isinstance(section, str) or section not in SECTIONS:
            raise DataError(
                f"{where}: column 'category': found {show(section)}, expected one of the "
                f"{len(SECTIONS)} sections of the News Category Dataset, as POLITICS; correct the "
                "row"
            )
        if part not in ("window", "sample"):
            raise DataError(
                f"{where}: column 'part': found {show(part)}, expected window or sample; "
                "correct the row"
            )
        day = _day(where, row["date"])
        label = SECTIONS[section]
        if part == "sample":
            left_out["older sample"] += 1
        elif label is None:
            left_out["section without a label"] += 1
        else:
            text = _filled(where, "\n".join(line for line in (headline, description) if line))
            judgements.append(Judgement(name, text, codes[label], day))
    return Reading(judgements, f"local {', '.join(files)}", files, left_out)


def cohort_files(spec: CohortSpec, root: Path) -> list[Path]:
    """The files that a cohort is read from; none for the embedded one.

    Raises:
        DataError: a file is missing, or there is more than one of a name.
    """
    return [
        root / name if name.endswith(".json") else find_table(root / name) for name in spec.files
    ]


def check_text(where: str, column: str, value: Any) -> str:
    """The value, if it is a text that UTF-8 can hold; else a DataError."""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r}: found {show(value)}, expected text; correct the row"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: column {column!r}: found the unpaired surrogate {value[error.start]!r}, "
            "expected text that UTF-8 can hold; correct the row"
        ) from None
    return value


def _rows(spec: CohortSpec, root: Path, columns: Columns, files: dict[str, str]) -> Iterator[Row]:
    """The rows of all files of a cohort; fills `files` with the hash of each."""
    for path in cohort_files(spec, root):
        table, numbers, unit = read_table(path, columns)
        files[path.relative_to(root).as_posix()] = sha256_file(path)
        for index, number in enumerate(numbers):
            cells = {name: table[name][index] for name in columns.columns}
            yield f"{path}: {unit} {number}", cells


def _name(where: str, column: str, value: Any) -> str:
    """What the source calls a profile or an item: a text, or a number that stands for one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    name = check_text(where, column, value).strip()
    if not name:
        raise DataError(
            f"{where}: column {column!r}: found an empty text, expected a name; give one or "
            "remove the row"
        )
    return name


def _filled(where: str, text: str) -> str:
    if not text.strip():
        raise DataError(f"{where}: found an empty text, expected words; remove the row")
    return text


def _day(where: str, value: Any) -> str:
    """An ISO date; times are refused, and so are other ways to write a date."""
    if type(value) is date:  # as Parquet may hold it
        return value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            pass
    raise DataError(
        f"{where}: column 'date': found {show(value)}, expected a day as 2018-03-01; "
        "correct the row"
    )
