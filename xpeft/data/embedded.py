"""The embedded suite: English sentences made from a grammar, with a known best accuracy.

The quick tier and the tests need data that is there without a download, that a frozen encoder
with a trained head does not already solve, and whose best possible score is known, so that
learning can be told from luck. Two tasks. `A | B` is a choice, `[A]` may be absent; each clause
has words of its own.

**sentiment**: one sentence; labels 0 negative, 1 positive.

    sentence -> Clause.                         1 in 4
              | Clause, but clause.             1 in 4, the second decides
              | Although clause, clause.        1 in 4, the second decides
              | Clause, although clause.        1 in 4, the first decides
    clause   -> the ASPECT was [not] [DEGREE] QUALITY
    QUALITY  -> GOOD | BAD

The label is the polarity of the clause that decides; "not" (3 in 10) turns the polarity of its
clause over. Two clauses of a sentence have opposite polarity, so the words alone do not give the
label: their place does.

**entailment**: two sentences; labels 0 entailment, 1 not_entailment.

    premise    -> NAME VERB the OBJECT, CONNECTIVE NAME VERB the OBJECT.
    hypothesis -> NAME VERB the THING. | NAME did not VERB the THING.
    THING      -> OBJECT (6 in 10) | KIND of an object, as "fruit" of "apple" (4 in 10)

Name and verb of the hypothesis are those of one clause. Its thing is that clause's object or
kind, or one of a kind that the premise does not name. The premise tells all that happened
(closed world): a hypothesis without "did not" follows in the first case, one with it in the
second. "did not" stands in 7 of 10 hypotheses that do not follow and in 3 of 10 that do, an
artefact like those of real collections, and the part that a head alone can learn.

In both tasks the two labels have equally many rows (give or take one), no text occurs twice
within or across the splits, and an exact share of the labels, equal in both labels, is then
flipped ("noise"). So the rule above scores exactly 1 - flipped / rows on the validation split,
and nothing that has not seen the validation labels can expect more.

All draws are 64-bit hashes of (version, seed, task, sentence, slot): integer arithmetic of our
own, so that the same numbers give the same text with every version of every library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from xpeft.errors import ConfigError, DataError
from xpeft.hashing import mix64

VERSION = 1
"""Of the grammar: raised whenever the same seed gives other rows."""

ASPECTS = (
    "food service music film story acting hotel room staff view garden design coffee soup bread "
    "wine lesson teacher guide tour museum concert band menu"
).split()
GOOD = (
    "good great excellent lovely superb pleasant delightful brilliant charming wonderful fine "
    "perfect impressive enjoyable"
).split()
BAD = (
    "bad awful terrible poor horrible dreadful boring disappointing dull miserable mediocre weak "
    "tedious annoying"
).split()
DEGREES = ("", "really ", "very ", "quite ", "so ")

NAMES = (
    "Anna Ben Clara David Emma Felix Grace Henry Iris Jack Karen Leo Maria Nora Oscar Paul Rosa "
    "Simon Tina Victor"
).split()
KINDS = {
    "fruit": "apple banana pear cherry peach".split(),
    "instrument": "guitar violin piano flute trumpet".split(),
    "vehicle": "car bus truck bicycle van".split(),
    "animal": "dog cat horse rabbit goat".split(),
    "tool": "hammer saw drill shovel wrench".split(),
    "garment": "shirt coat jacket dress sweater".split(),
}
VERBS = (
    ("bought", "buy"),
    ("sold", "sell"),
    ("found", "find"),
    ("lost", "lose"),
    ("drew", "draw"),
    ("cleaned", "clean"),
)
CONNECTIVES = ("and", "but", "while")

MOST_ROWS = 1_000_000
"""Of both splits: far below the number of different sentences, so that new ones keep coming."""

_SLOTS = 16  # draws a sentence may use
_CHUNK = 1024  # sentences hashed at once


@dataclass(frozen=True)
class EmbeddedRows:
    """Rows of one split.

    Attributes:
        texts, pairs, labels: one value a row; pairs is None for sentiment.
        truth: labels before the flips, what the grammar's rule gives.
        best: score of the rule on `labels`, the best possible accuracy.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[int]
    truth: list[int]
    best: float


class _Draws:
    """The random numbers of one sentence, used up from the first slot on."""

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = iter(numbers)

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        return next(self._numbers) % n

    def chance(self, tenths: int) -> bool:
        """True in `tenths` of 10 cases."""
        return self.below(10) < tenths

    def other(self, n: int, taken: int) -> int:
        """An integer in [0, n) that is not `taken`."""
        return (taken + 1 + self.below(n - 1)) % n


def generate(
    task: str,
    *,
    train_rows: int = 2000,
    validation_rows: int = 400,
    noise: float = 0.05,
    seed: int = 0,
) -> dict[str, EmbeddedRows]:
    """Both splits of an embedded task, by split name ("train", "validation").

    The validation split does not depend on `train_rows`.

    Args:
        task: "sentiment" or "entailment".
        train_rows, validation_rows: rows of each split, at least 2; together at most MOST_ROWS.
        noise: share of the labels that is flipped in each split, in [0, 0.5).
        seed: of all draws.

    Raises:
        ConfigError: a number is out of range.
        DataError: the task is unknown.
    """
    if task not in _GRAMMARS:
        raise DataError(f"embedded/{task}: unknown task; known: {', '.join(_GRAMMARS)}")
    if min(train_rows, validation_rows) < 2 or train_rows + validation_rows > MOST_ROWS:
        raise ConfigError(
            f"embedded/{task}: found {train_rows} training and {validation_rows} validation rows, "
            f"expected at least 2 each, together at most {MOST_ROWS:,}"
        )
    if not 0 <= noise < 0.5:
        raise ConfigError(f"embedded/{task}: found noise {noise}, expected 0 <= noise < 0.5")
    sentence = _GRAMMARS[task]
    key = _key(seed, task)
    made: dict[tuple[str, str | None], int] = {}  # text and pair -> label, in order of making
    for draws in _draws(key):
        if len(made) == train_rows + validation_rows:
            break
        label = len(made) % 2
        made.setdefault(sentence(draws, label), label)
    rows = [(text, pair, label) for (text, pair), label in made.items()]
    return {
        "train": _finish(rows[validation_rows:], noise, key + 1),
        "validation": _finish(rows[:validation_rows], noise, key + 2),
    }


def _sentiment(draws: _Draws, label: int) -> tuple[str, None]:
    form = draws.below(4)
    aspect = draws.below(len(ASPECTS))
    deciding = _clause(draws, ASPECTS[aspect], label)
    if form == 0:
        return _sentence(deciding), None
    other = _clause(draws, ASPECTS[draws.other(len(ASPECTS), aspect)], 1 - label)
    text = (
        f"{other}, but {deciding}",
        f"although {other}, {deciding}",
        f"{deciding}, although {other}",
    )[form - 1]
    return _sentence(text), None


def _clause(draws: _Draws, aspect: str, polarity: int) -> str:
    negated = draws.chance(3)
    degree = DEGREES[draws.below(len(DEGREES))]
    qualities = GOOD if (polarity == 1) != negated else BAD
    quality = qualities[draws.below(len(qualities))]
    return f"the {aspect} was {'not ' if negated else ''}{degree}{quality}"


def _entailment(draws: _Draws, label: int) -> tuple[str, str]:
    kinds = list(KINDS)
    name_1 = draws.below(len(NAMES))
    verb_1 = draws.below(len(VERBS))
    kind_1 = draws.below(len(kinds))
    name_2 = draws.other(len(NAMES), name_1)
    verb_2 = draws.other(len(VERBS), verb_1)
    kind_2 = draws.other(len(kinds), kind_1)
    rest = [kind for kind in range(len(kinds)) if kind not in (kind_1, kind_2)]
    named = [kinds[kind] for kind in (kind_1, kind_2, rest[draws.below(len(rest))])]
    objects = [KINDS[kind][draws.below(len(KINDS[kind]))] for kind in named]
    connective = CONNECTIVES[draws.below(len(CONNECTIVES))]
    premise = (
        f"{NAMES[name_1]} {VERBS[verb_1][0]} the {objects[0]}, {connective} "
        f"{NAMES[name_2]} {VERBS[verb_2][0]} the {objects[1]}."
    )
    clause = draws.below(2)
    name, verb = ((name_1, verb_1), (name_2, verb_2))[clause]
    negated = draws.chance(7 if label == 1 else 3)
    happened = (label == 0) != negated
    place = clause if happened else 2  # the third kind is the one that the premise does not name
    thing = (named if draws.chance(4) else objects)[place]
    past, stem = VERBS[verb]
    action = f"did not {stem}" if negated else past
    return premise, f"{NAMES[name]} {action} the {thing}."


_GRAMMARS: dict[str, Callable[[_Draws, int], tuple[str, str | None]]] = {
    "sentiment": _sentiment,
    "entailment": _entailment,
}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _key(seed: int, task: str) -> int:
    name = f"xpeft embedded {VERSION} {seed} {task}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _draws(key: int) -> Iterator[_Draws]:
    for chunk in count():
        size = _CHUNK * _SLOTS
        numbers = mix64(np.arange(chunk * size, (chunk + 1) * size), key)
        for row in numbers.reshape(_CHUNK, _SLOTS).tolist():
            yield _Draws(row)


def _finish(rows: list[tuple[str, str | None, int]], noise: float, key: int) -> EmbeddedRows:
    """Shuffle the rows, then flip an exact share of the labels, equal in both labels."""
    order = np.argsort(mix64(np.arange(len(rows)), key), kind="stable")
    rows = [rows[index] for index in order]
    flips = round(noise * len(rows))
    truth = [label for _, _, label in rows]
    labels = list(truth)
    ranks = mix64(np.arange(len(rows)), key + 3)
    for code, share in ((0, flips // 2), (1, flips - flips // 2)):
        members = np.flatnonzero(np.array(truth) == code)
        for index in members[np.argsort(ranks[members], kind="stable")[:share]].tolist():
            labels[index] = 1 - code
    pairs = [pair for _, pair, _ in rows if pair is not None]
    return EmbeddedRows(
        texts=[text for text, _, _ in rows],
        pairs=pairs or None,
        labels=labels,
        truth=truth,
        best=(len(rows) - flips) / len(rows),
    )
