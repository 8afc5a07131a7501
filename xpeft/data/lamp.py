"""LaMP news categorisation as it is distributed: questions, each with its author's history.

    {train,dev}_questions.json   [{"id", "input", "profile": [{"title", "text", "category"}, ...]}]
    {train,dev}_outputs.json     {"task": "LaMP_2" or "LaMP_2N", "golds": [{"id", "output"}]}

`input` is an instruction, then "article: " and a text; `profile` holds other articles of its
author. LaMP scores the dev questions: they are the test rows. All else that is labelled is a
training row: histories, and the train questions. The text is what a question shows of an article,
its `text` without its title, so that training rows look like test rows.

LaMP names no authors. Questions whose histories share an article are of one author, and so on from
question to question. An article is its title and text, not its id: ids made of the question's id
and a number can be equal for different articles.

Authors of dev questions are in fold 0 and all others in fold 1 where the two files share no
authors (the split by user): targets are then the dev authors, donors the train authors. Where they
share them (the split by time), folds are made by hash.

LaMP has a second task of the number 2, movie tagging; its labels tell the two apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpeft.data.cohort_readers import Judgement, Reading, check_text
from xpeft.data.cohort_specs import CohortSpec
from xpeft.data.sources import read_text
from xpeft.errors import DataError, show
from xpeft.io import sha256_file

TASK_NAMES = ("LaMP_2", "LaMP_2N")
MARK = "article: "
MOVIE_TAGS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)
"""The labels of LaMP movie tagging."""

Article = tuple[str, str, int]  # title, text, label code


@dataclass(frozen=True)
class Question:
    """A question: what it asks, its answer, and its author's history."""

    part: str  # train or dev
    id: str
    text: str
    label: int
    history: list[Article]


def read_lamp(spec: CohortSpec, root: Path) -> Reading:
    """Read the four files of a split.

    Raises:
        DataError: a file is missing, unreadable or of another task; a question or an article
            lacks a field; a label is not one of the 15; questions and answers do not match.
    """
    files: dict[str, str] = {}
    questions: list[Question] = []
    left_out = {"article without a text": 0}
    for place in range(0, len(spec.files), 2):
        asked, answered = (root / name for name in spec.files[place : place + 2])
        golds = _golds(answered, spec)
        questions += _questions(asked, answered, golds, spec)
        files |= {
            path.relative_to(root).as_posix(): sha256_file(path) for path in (asked, answered)
        }
    judgements: dict[Judgement, None] = {}  # a set that keeps its order
    authors = _authors(questions)
    asked_in: dict[str, set[str]] = {"train": set(), "dev": set()}
    for question, name in zip(questions, authors, strict=True):
        asked_in[question.part].add(name)
        test = question.part == "dev"
        judgements[Judgement(name, question.text, question.label, test=test)] = None
        for _, text, label in question.history:
            if text.strip():
                judgements[Judgement(name, text, label, test=False)] = None
            else:
                left_out["article without a text"] += 1
    dev = asked_in["dev"]
    return Reading(
        list(judgements),
        f"local {', '.join(files)}",
        files,
        left_out,
        folds=None if asked_in["train"] & dev else {name: int(name not in dev) for name in authors},
    )


def _authors(questions: list[Question]) -> list[str]:
    """The author of each question: named by the first of its questions, as "dev 210"."""
    parent = list(range(len(questions)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[tuple[str, str], int] = {}
    for place, question in enumerate(questions):
        for title, text, _ in question.history:
            if not text.strip():  # "" says nothing of who wrote it
                continue
            other = root(first.setdefault((title, text), place))
            own = root(place)
            parent[max(own, other)] = min(own, other)
    names: dict[int, str] = {}
    for place, question in enumerate(questions):
        name = f"{question.part} {question.id}"
        names[root(place)] = min(name, names.get(root(place), name))
    return [names[root(place)] for place in range(len(questions))]


def _questions(
    path: Path, answers: Path, golds: dict[str, int], spec: CohortSpec
) -> Iterator[Question]:
    part = path.name.partition("_")[0]
    seen: set[str] = set()
    for number, item in enumerate(_list(str(path), _json(path)), start=1):
        where = f"{path}: question {number}"
        fields = _fields(where, item, ("id", "input", "profile"))
        name = str(fields["id"])
        if name in seen:
            raise DataError(f"{where}: found id {name} again, expected each id once")
        seen.add(name)
        if name not in golds:
            raise DataError(f"{where}: found id {name}, expected its answer in {answers}")
        asked = check_text(where, "input", fields["input"])
        _, mark, text = asked.partition(MARK)
        if not mark:
            raise DataError(
                f"{where}: column 'input': found {show(asked)}, expected an instruction, then "
                f"{MARK!r} and the text; is it LaMP news categorisation?"
            )
        history = [
            _article(f"{where}, article {index}", entry, spec)
            for index, entry in enumerate(_list(where, fields["profile"]), start=1)
        ]
        yield Question(part, name, text, golds[name], history)
    if missing := [name for name in golds if name not in seen]:
        raise DataError(f"{answers}: found an answer to id {missing[0]}, expected it in {path} too")
    if not seen:
        raise DataError(f"{path}: found no questions, expected at least one")


def _article(where: str, entry: Any, spec: CohortSpec) -> Article:
    if isinstance(entry, dict) and "tag" in entry and "category" not in entry:
        raise DataError(f"{where}: found a tag, expected a category; {_OTHER_TASK}")
    fields = _fields(where, entry, ("title", "text", "category"))
    title, text = (check_text(where, column, fields[column]) for column in ("title", "text"))
    return title, text, _label(where, "category", fields["category"], spec)


def _golds(path: Path, spec: CohortSpec) -> dict[str, int]:
    fields = _fields(str(path), _json(path), ("task", "golds"))
    if fields["task"] not in TASK_NAMES:
        raise DataError(
            f"{path}: task: found {show(fields['task'])}, expected {' or '.join(TASK_NAMES)}; "
            "fetch LaMP news categorisation"
        )
    golds: dict[str, int] = {}
    for number, item in enumerate(_list(str(path), fields["golds"]), start=1):
        where = f"{path}: answer {number}"
        answer = _fields(where, item, ("id", "output"))
        name = str(answer["id"])
        if name in golds:
            raise DataError(f"{where}: found id {name} again, expected each id once")
        golds[name] = _label(where, "output", answer["output"], spec)
    return golds


_OTHER_TASK = "this is LaMP movie tagging, fetch LaMP news categorisation (LaMP_2N)"


def _label(where: str, column: str, value: Any, spec: CohortSpec) -> int:
    if isinstance(value, str) and value in spec.labels:
        return spec.labels.index(value)
    hint = _OTHER_TASK if value in MOVIE_TAGS else "correct it"
    raise DataError(
        f"{where}: column {column!r}: found {show(value)}, expected one of "
        f"{', '.join(spec.labels)}; {hint}"
    )


def _json(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected a file of LaMP")
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON: {error}; fetch it again") from None


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: found {type(value).__name__}, expected a JSON list")
    return value


def _fields(where: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: found {type(value).__name__}, expected a JSON object")
    missing = [name for name in names if name not in value]
    if missing:
        raise DataError(
            f"{where}: found the fields {', '.join(value) or '(none)'}, "
            f"expected also {', '.join(missing)}"
        )
    return value
