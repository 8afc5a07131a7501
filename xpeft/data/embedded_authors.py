"""The embedded cohort: authors whose tastes differ, with known best accuracies.

Hundreds of profiles without a download, for the quick tier and the tests. Every author says of
what it met whether it was to its liking; labels 0 negative, 1 positive. `[A]` may be absent.

    sentence -> On DAY the ASPECT at the PLACE was [not] [DEGREE] WORD.
    WORD     -> GOOD | BAD                                    of a general ASPECT
              | HOT | SWEET | RICH | SOUR                     of a dish
              | LOUD | QUIET | MODERN | OLD                   of a room

GOOD and BAD words mean the same to everyone. The eight others are matters of taste: each author
likes four of them and dislikes four, whatever the word of that taste. "not" (3 in 10) turns a
sentence over. So what is good is common knowledge, and what "not very spicy" is worth has to be
learnt from the author: the taste from each word, "not" from all.

Authors come in pairs of opposite tastes (0 and 1, 2 and 3, ...), and the two of a pair judge the
same sentences, which no other pair has. Of each author's rows an exact share is of taste words.
An exact share of the labels is flipped ("noise"), equal in both kinds of words, and for both
authors of a pair in the same sentences. So on the test rows of all authors, of T rows each with
t of taste words, f flipped of the others and g of those:

    personal  (T - f - g) / T        the grammar's rule with the author's tastes
    shared    (T - t - f + t / 2) / T    the rule, with any guess at taste words: whatever is said
                                     of a sentence is right for one of the pair, wrong for the other

Nothing that has not seen the test labels can expect more, and nothing that does not know the author
more than the second. Both are means over all targets; a pair has its two authors in one fold, so
they hold for each fold too. Half the labels of each author are positive before the flips, in both
kinds of words, so that the share of a label tells nothing.

All draws are 64-bit hashes of (version, seed, pair, side, sentence, slot), as those of
`xpeft.data.embedded`: the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from xpeft.data.cohort_readers import Judgement, Reading
from xpeft.data.embedded import BAD, DEGREES, GOOD
from xpeft.errors import ConfigError
from xpeft.hashing import derive_key, mix64, permutation
from xpeft.io import canonical_json

VERSION = 1
"""Of the grammar: raised whenever the same seed gives other rows."""

GENERAL = "service staff music film lesson guide tour museum concert menu view design".split()
DISHES = "soup sauce curry stew salad dessert cake drink tea bread".split()
ROOMS = "hall lobby bar cafe terrace library gallery studio lounge kitchen".split()

TASTES: tuple[tuple[str, ...], ...] = (
    ("spicy", "hot", "peppery", "fiery", "pungent"),
    ("sweet", "sugary", "syrupy", "honeyed", "candied"),
    ("rich", "creamy", "buttery", "heavy", "fatty"),
    ("sour", "tart", "acidic", "tangy", "vinegary"),
    ("loud", "noisy", "lively", "crowded", "busy"),
    ("quiet", "silent", "calm", "hushed", "empty"),
    ("modern", "futuristic", "minimalist", "sleek", "digital"),
    ("old", "antique", "traditional", "rustic", "historic"),
)
"""The words of each taste: the first four are said of dishes, the others of rooms."""

_DISH_TASTES = 4
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PLACES = (
    "harbour station market castle theatre hotel school airport park river bridge church beach "
    "tower college mill square farm garden mall"
).split()

MOST_ROWS = 600_000
"""Of all authors: there are enough different sentences for these, as two authors share theirs."""

_SLOTS = 8  # draws a sentence may use
_CHUNK = 64  # sentences hashed at once


@dataclass(frozen=True)
class EmbeddedAuthors:
    """Settings of the embedded cohort.

    Attributes:
        authors: number of authors, even, at least 4: two pairs, one for each of two folds.
        train_rows, test_rows: rows of each author, at least 4, even; of all authors at most
            MOST_ROWS.
        taste_share: share of the rows that are of taste words, in (0, 1].
        noise: share of the labels that is flipped, in [0, 0.5).
        seed: of all draws.
    """

    authors: int = 200
    train_rows: int = 40
    test_rows: int = 20
    taste_share: float = 0.5
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("authors", 4), ("train_rows", 4), ("test_rows", 4)):
            value = getattr(self, name)
            if value < least or value % 2:
                raise ConfigError(
                    f"embedded_authors: {name}: found {value}, expected an even number, "
                    f"at least {least}"
                )
        each = self.train_rows + self.test_rows
        if self.authors * each > MOST_ROWS:
            raise ConfigError(
                f"embedded_authors: found {self.authors} authors of {each} rows, expected at most "
                f"{MOST_ROWS:,} rows of all authors"
            )
        if not 0 < self.taste_share <= 1:
            raise ConfigError(
                f"embedded_authors: taste_share: found {self.taste_share}, "
                "expected 0 < taste_share <= 1"
            )
        if not 0 <= self.noise < 0.5:
            raise ConfigError(
                f"embedded_authors: noise: found {self.noise}, expected 0 <= noise < 0.5"
            )


def read_embedded_authors(settings: EmbeddedAuthors) -> Reading:
    """Generate the cohort; its test rows do not depend on `train_rows`."""
    pairs = range(settings.authors // 2)
    seen: set[str] = set()  # no sentence twice, in whatever pair or side
    judgements = [
        judgement
        for test in (True, False)
        for pair in pairs
        for judgement in _pair(settings, pair, test, seen)
    ]
    digest = hashlib.sha256()
    for row in judgements:
        line = [row.name, row.text, row.label, row.test]
        digest.update(canonical_json(line).encode() + b"\n")
    return Reading(
        judgements,
        f"embedded authors, noise {settings.noise:g}, taste share {settings.taste_share:g}, "
        f"seed {settings.seed}",
        {"rows": digest.hexdigest()},
        groups={_name(author): f"pair {author // 2}" for author in range(settings.authors)},
        best=best(settings),
    )


def best(settings: EmbeddedAuthors) -> dict[str, float]:
    """The best possible accuracy on the test rows of all authors, {"shared", "personal"}."""
    rows = settings.test_rows
    taste = _taste_rows(settings, rows)
    wrong, taste_wrong = (_flips(settings, number) for number in (rows - taste, taste))
    return {
        "shared": (2 * (rows - taste - wrong) + taste) / (2 * rows),
        "personal": (rows - wrong - taste_wrong) / rows,
    }


def tastes(settings: EmbeddedAuthors, author: int) -> tuple[bool, ...]:
    """Which of TASTES an author likes: half of them."""
    order = permutation(len(TASTES), derive_key(*_key(settings), "tastes", author // 2))
    liked = {int(taste) for taste in order[: len(TASTES) // 2]}
    return tuple((taste in liked) != bool(author % 2) for taste in range(len(TASTES)))


def _pair(settings: EmbeddedAuthors, pair: int, test: bool, seen: set[str]) -> Iterator[Judgement]:
    """The rows of one side of both authors of a pair, in pairs."""
    key = derive_key(*_key(settings), pair, "test" if test else "train")
    likes = tastes(settings, 2 * pair)
    rows = settings.test_rows if test else settings.train_rows
    taste_rows = _taste_rows(settings, rows)
    draws = _draws(key)
    made: list[tuple[str, bool, int]] = []  # text, of a taste word, label of the first author
    while len(made) < rows:
        label, of_taste = len(made) % 2, len(made) < taste_rows
        text = _sentence(next(draws), label, likes if of_taste else None)
        if text not in seen:
            seen.add(text)
            made.append((text, of_taste, label))
    flipped = {
        int(start + place)
        for start, number in ((0, taste_rows), (taste_rows, rows - taste_rows))
        for place in permutation(number, key + 1 + start)[: _flips(settings, number)]
    }
    for index in permutation(rows, key).tolist():
        text, of_taste, label = made[index]
        for author in (0, 1):
            truth = label != (of_taste and author == 1)
            yield Judgement(
                _name(2 * pair + author), text, int(truth != (index in flipped)), test=test
            )


def _sentence(numbers: list[int], label: int, likes: tuple[bool, ...] | None) -> str:
    """A sentence with that label: of a GOOD or BAD word, or of a taste word if `likes` is there."""
    draw = iter(numbers)

    def pick(words: list[str] | tuple[str, ...]) -> str:
        return words[next(draw) % len(words)]

    negated = next(draw) % 10 < 3
    positive = (label == 1) != negated
    if likes is None:
        aspect, word = pick(GENERAL), pick(GOOD if positive else BAD)
    else:
        fitting = [taste for taste, liked in enumerate(likes) if liked == positive]
        taste = fitting[next(draw) % len(fitting)]
        aspect, word = pick(DISHES if taste < _DISH_TASTES else ROOMS), pick(TASTES[taste])
    day, place, degree = pick(DAYS), pick(PLACES), pick(DEGREES)
    return f"On {day} the {aspect} at the {place} was {'not ' if negated else ''}{degree}{word}."


def _taste_rows(settings: EmbeddedAuthors, rows: int) -> int:
    """Rows of taste words: even, so that half of them are positive."""
    return 2 * round(settings.taste_share * rows / 2)


def _flips(settings: EmbeddedAuthors, rows: int) -> int:
    return round(settings.noise * rows)


def _name(author: int) -> str:
    return f"author {author}"


def _key(settings: EmbeddedAuthors) -> tuple[str, int, int]:
    return "xpeft embedded authors", VERSION, settings.seed


def _draws(key: int) -> Iterator[list[int]]:
    """The numbers of one sentence after the other."""
    for chunk in count():
        size = _CHUNK * _SLOTS
        numbers = mix64(np.arange(chunk * size, (chunk + 1) * size), key)
        yield from numbers.reshape(_CHUNK, _SLOTS).tolist()
