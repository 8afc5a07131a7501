"""Forms: how a source row becomes the rows that are classified, with their question and label.

A form takes a row as it was published, nested (the official SuperGLUE files) or flattened (the
hub's columns), and yields its rows. `unfold` does it for a whole split and puts the texts of each
row together from the spec's templates. What a row lacks is said with the row's place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpeft.data.answertext import matches, words_f1
from xpeft.data.taskspec import TaskSpec
from xpeft.errors import DataError, show

SourceRow = Mapping[str, Any]


@dataclass(frozen=True)
class Unfolded:
    """One row to classify.

    Attributes:
        values: what the spec's templates may name.
        label: as published, or whether the row is a right answer.
        question: of a candidate answer, which question of its source row it belongs to.
        credit: of a candidate answer, the partial score of taking it, in [0, 1]; None where there
            is nothing between right and wrong.
    """

    values: Mapping[str, Any]
    label: Any
    question: Hashable = None
    credit: float | None = None


@dataclass(frozen=True)
class Form:
    """A form.

    Attributes:
        rows: a source row to its rows.
        whole_numbers: columns that hold integers, which a .csv file spells.
        labels: names of the source's label codes where they are not the spec's; () where the
            source has no label column.
        apart: whether questions with one key in different source rows are different ones.
    """

    rows: Callable[[SourceRow], Iterator[Unfolded]]
    whole_numbers: tuple[str, ...] = ("label",)
    labels: tuple[str, ...] | None = None
    apart: bool = True


@dataclass
class Columns:
    """Unfolded rows of a split, by column; `source` is the place of each one's source row."""

    texts: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    questions: list[Hashable] = field(default_factory=list)
    credits: list[float | None] = field(default_factory=list)
    source: list[int] = field(default_factory=list)

    @property
    def has_credit(self) -> bool:
        """Whether taking a row has a partial score; it is so for all rows of a form or none."""
        return bool(self.credits) and self.credits[0] is not None


def unfold(spec: TaskSpec, rows: Sequence[SourceRow], place: Callable[[int], str]) -> Columns:
    """All rows that a split's source rows hold, in their order.

    Args:
        spec: a task with a form and a pair.
        rows: the source rows.
        place: where source row i is, for errors.

    Raises:
        DataError: a row is not of the form.
    """
    form, out = FORMS[spec.form or ""], Columns()
    for index, row in enumerate(rows):
        try:
            for item in form.rows(row):
                values = {name: _text(item.values, name) for name in spec.fields}
                out.texts.append(spec.text.format_map(values))
                out.pairs.append((spec.pair or "").format_map(values))
                out.labels.append(_code(item.label, spec.labels))
                out.questions.append((index, item.question) if form.apart else item.question)
                out.credits.append(item.credit)
                out.source.append(index)
        except _FormError as error:
            raise DataError(f"{place(index)}: {error}; correct the row") from None
    return out


class _FormError(Exception):
    """What is wrong with a row, without its place."""


def _row(row: SourceRow) -> Iterator[Unfolded]:
    """A source row is a row."""
    yield Unfolded(row, _get(row, "label"))


def _words(row: SourceRow) -> Iterator[Unfolded]:
    """WiC: a word in two sentences, marked at the characters that are given: `He *runs* it.`"""
    marked = {}
    for number in ("1", "2"):
        sentence = _text(row, f"sentence{number}")
        start, end = _whole(row, f"start{number}"), _whole(row, f"end{number}")
        if not 0 <= start < end <= len(sentence):
            raise _FormError(
                f"columns 'start{number}' and 'end{number}': found {start} and {end}, expected "
                f"the ends of a word within the {len(sentence)} characters of the sentence"
            )
        marked[f"sentence{number}"] = _mark(sentence, [(start, end, "*")])
    yield Unfolded({**row, **marked}, _get(row, "label"))


def _spans(row: SourceRow) -> Iterator[Unfolded]:
    """WSC: a name and a pronoun in a text, marked as `*Mark*` and `#he#`.

    The spans' indices count the blank-separated words of the text.
    """
    spans = {**row, **_mapping(row, "target")} if "target" in row else row
    text = _text(row, "text")
    marks = []
    for number, sign in (("1", "*"), ("2", "#")):
        span = _text(spans, f"span{number}_text")
        marks.append((*_find_span(text, span, _whole(spans, f"span{number}_index")), sign))
    yield Unfolded({**spans, "text": _mark(text, marks)}, _get(row, "label"))


def _answers(row: SourceRow) -> Iterator[Unfolded]:
    """MultiRC: candidate answers of questions on a paragraph; any number of them is right."""
    if "passage" not in row:  # flattened: a row is an answer
        at = _mapping(row, "idx")
        yield Unfolded(row, _get(row, "label"), (_whole(at, "paragraph"), _whole(at, "question")))
        return
    passage, paragraph = _mapping(row, "passage"), _whole(row, "idx")
    for question in _list(passage, "questions"):
        key = (paragraph, _whole(question, "idx"))
        for answer in _list(question, "answers"):
            values = {
                "paragraph": _text(passage, "text"),
                "question": _text(question, "question"),
                "answer": _text(answer, "text"),
            }
            yield Unfolded(values, _get(answer, "label"), key)


def _choices(row: SourceRow) -> Iterator[Unfolded]:
    """COPA: two alternatives, of which the label (0 or 1) names the right one."""
    label = _get(row, "label")
    if isinstance(label, bool) or label not in (0, 1):
        raise _FormError(
            f"column 'label': found {show(label)}, expected an integer from 0 to 1 "
            "(0 choice1, 1 choice2)"
        )
    for place in (0, 1):
        values = {**row, "choice": _text(row, f"choice{place + 1}")}
        yield Unfolded(values, int(label == place))


def _entities(row: SourceRow) -> Iterator[Unfolded]:
    """ReCoRD: the entities of a passage, each in the place of `@placeholder` in the query.

    An entity is right if it matches a gold answer, and its credit is the F1 of its words.
    """
    if isinstance(_get(row, "passage"), str):  # flattened: a row is a query
        yield from _candidates(row, row["passage"], _names(row, "entities"), _names(row, "answers"))
        return
    passage = _mapping(row, "passage")
    text = _text(passage, "text")
    entities = []
    for entity in _list(passage, "entities"):
        start, end = _whole(entity, "start"), _whole(entity, "end")  # both inclusive
        if not 0 <= start <= end < len(text):
            raise _FormError(
                f"column 'entities': found {start} to {end}, expected a place within the "
                f"{len(text)} characters of the passage"
            )
        entities.append(text[start : end + 1])
    for number, query in enumerate(_list(row, "qas")):
        gold = [_text(answer, "text") for answer in _list(query, "answers")]
        yield from _candidates(query, text, entities, gold, number)


def _candidates(
    query: SourceRow, passage: str, entities: list[str], gold: list[str], number: int = 0
) -> Iterator[Unfolded]:
    statement = _text(query, "query")
    if "@placeholder" not in statement:
        raise _FormError(f"column 'query': found {show(statement)}, expected @placeholder in it")
    for name, found in (("entities", entities), ("answers", gold)):
        if not found:
            raise _FormError(f"column {name!r}: found none, expected at least one")
    for entity in dict.fromkeys(entities):  # an entity may occur at several places
        values = {"passage": passage, "statement": statement.replace("@placeholder", entity)}
        yield Unfolded(values, int(matches(entity, gold)), number, words_f1(entity, gold))


FORMS: dict[str, Form] = {
    "row": Form(_row),
    "words": Form(_words, ("label", "start1", "end1", "start2", "end2")),
    "spans": Form(_spans, ("label", "span1_index", "span2_index")),
    "answers": Form(_answers, apart=False),
    "choices": Form(_choices, labels=("choice1", "choice2")),
    "entities": Form(_entities, labels=()),
}
"""All forms, by name."""


def _find_span(text: str, span: str, index: int) -> tuple[int, int]:
    """Ends, in characters, of the words of a span.

    Where they do not stand at the word that `index` names (one validation row of the distributed
    files is one off, and two training rows hold a line break), the nearest place at which they do
    is taken.
    """
    words = [match.span() for match in re.finditer(r"\S+", text)]
    wanted = span.lower().split()
    lower = text.lower() if len(text.lower()) == len(text) else text

    def at(place: int) -> bool:
        found = [lower[a:b] for a, b in words[place : place + len(wanted)]]
        return found[:-1] == wanted[:-1] and found[-1].startswith(wanted[-1])

    places = [place for place in range(len(words) - len(wanted) + 1) if wanted and at(place)]
    if not places:
        raise _FormError(f"found the span {show(span)}, expected words of the text")
    place = min(places, key=lambda found: abs(found - index))
    last = words[place + len(wanted) - 1][0]
    return words[place][0], last + len(wanted[-1])


def _mark(text: str, marks: list[tuple[int, int, str]]) -> str:
    """The text with a sign before and behind each of the places (start, end, sign)."""
    signs = [(at, sign) for start, end, sign in marks for at in (start, end)]
    for at, sign in sorted(signs, key=lambda item: item[0], reverse=True):
        text = f"{text[:at]}{sign}{text[at:]}"
    return text


def _code(label: Any, names: tuple[str, ...]) -> Any:
    """A label's code where it is a word or a truth value; else as it is, for `check` to judge."""
    if isinstance(label, bool) and names == ("False", "True"):
        return int(label)
    return names.index(label) if isinstance(label, str) and label in names else label


def _get(row: Any, name: str) -> Any:
    if not isinstance(row, Mapping):
        raise _FormError(f"found {show(row)}, expected an object with {name!r}")
    if name not in row:
        raise _FormError(f"found the columns {', '.join(row) or '(none)'}, expected also {name}")
    return row[name]


def _text(row: Any, name: str) -> str:
    value = _get(row, name)
    if not isinstance(value, str):
        raise _FormError(f"column {name!r}: found {show(value)}, expected text")
    return value


def _whole(row: Any, name: str) -> int:
    value = _get(row, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _FormError(f"column {name!r}: found {show(value)}, expected a whole number")
    return value


def _mapping(row: Any, name: str) -> SourceRow:
    value = _get(row, name)
    if not isinstance(value, Mapping):
        raise _FormError(f"column {name!r}: found {show(value)}, expected an object")
    return value


def _list(row: Any, name: str) -> list[Any]:
    value = _get(row, name)
    if not isinstance(value, list):
        raise _FormError(f"column {name!r}: found {show(value)}, expected a list")
    return value


def _names(row: Any, name: str) -> list[str]:
    values = _list(row, name)
    for value in values:
        if not isinstance(value, str):
            raise _FormError(f"column {name!r}: found {show(value)} in it, expected texts")
    return values
