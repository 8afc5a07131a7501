"""The embedded cohort: its grammar, and that its stated best accuracies are exact."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xpeft.data.cohort import Cohort, load_cohort
from xpeft.data.cohort_prepare import prepare_cohort
from xpeft.data.cohort_readers import Judgement
from xpeft.data.cohort_specs import get_cohort
from xpeft.data.embedded import BAD, GOOD
from xpeft.data.embedded_authors import (
    TASTES,
    EmbeddedAuthors,
    best,
    read_embedded_authors,
    tastes,
)
from xpeft.errors import ConfigError
from xpeft.hashing import derive_key
from xpeft.ids import profile_id

SPEC = get_cohort("embedded_authors")
SMALL = EmbeddedAuthors(authors=40)
TASTE_OF = {word: taste for taste, words in enumerate(TASTES) for word in words}


def read(text: str) -> tuple[str, bool]:
    """Word and "not" of a sentence."""
    words = text.removesuffix(".").split()
    return words[-1], "not" in words


def personal(text: str, likes: tuple[bool, ...]) -> int:
    """The grammar's rule, from the text and the author's tastes."""
    word, negated = read(text)
    liked = word in GOOD if word in GOOD + BAD else likes[TASTE_OF[word]]
    return int(liked != negated)


def author_of(row: Judgement) -> int:
    return int(row.name.removeprefix("author "))


def prepared(settings: EmbeddedAuthors, out: Path, folds: int = 2) -> Cohort:
    return load_cohort(prepare_cohort(SPEC, settings, out, folds=folds))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return prepared(SMALL, tmp_path_factory.mktemp("authors") / "out", folds=3)


# --------------------------------------------------------------------------- the two bests


def test_the_default_bests() -> None:
    assert best(EmbeddedAuthors()) == {"shared": 0.7, "personal": 0.9}


def test_every_authors_rule_scores_the_personal_best(cohort: Cohort) -> None:
    authors = {profile_id(SPEC.task, f"author {author}"): author for author in range(40)}
    assert set(authors) == {row.profile for row in cohort.sheet}
    for place, row in enumerate(cohort.sheet):
        likes = tastes(SMALL, authors[row.profile])
        hits = [
            personal(cohort.texts[cohort.item[number]], likes) == cohort.label[number]
            for number in cohort.test_rows(place)
        ]
        assert sum(hits) / len(hits) == 0.9
    assert cohort.meta.best == {"shared": 0.7, "personal": 0.9}


@pytest.mark.parametrize(
    "guess",
    [
        lambda text: 1,
        lambda text: int("not" in text.split()),
        lambda text: derive_key("guess", text) % 2,
        lambda text: personal(text, (True, False) * 4),
    ],
    ids=["always", "by not", "by chance", "as one author"],
)
def test_no_guess_at_taste_words_scores_other_than_the_shared_best(
    cohort: Cohort, guess: Callable[[str], int]
) -> None:
    for fold in cohort.folds:
        hits = []
        for place in cohort.targets(fold):
            for number in cohort.test_rows(int(place)):
                text = cohort.texts[cohort.item[number]]
                general = read(text)[0] not in TASTE_OF
                said = personal(text, (True,) * 8) if general else guess(text)
                hits.append(said == cohort.label[number])
        assert np.mean(hits) == pytest.approx(0.7, abs=1e-12)


@pytest.mark.parametrize("taste_share", [0.2, 0.5, 1.0])
def test_without_noise_nothing_that_sees_texts_alone_beats_the_shared_best(
    taste_share: float,
) -> None:
    """The best label for each text, chosen with the test labels in sight, does not."""
    settings = EmbeddedAuthors(authors=20, noise=0, taste_share=taste_share)
    labels = defaultdict(list)
    for row in read_embedded_authors(settings).judgements:
        if row.test:
            labels[row.text].append(row.label)
    hits = sum(max(Counter(said).values()) for said in labels.values())
    assert hits / sum(map(len, labels.values())) == best(settings)["shared"]
    assert best(settings) == {"shared": 1 - taste_share / 2, "personal": 1.0}


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.123, 0.4])
def test_flips_are_an_exact_share_of_both_kinds_for_every_author(noise: float) -> None:
    settings = EmbeddedAuthors(authors=8, train_rows=60, test_rows=30, noise=noise, taste_share=0.6)
    wrong: Counter[tuple[int, bool | None, bool]] = Counter()
    for row in read_embedded_authors(settings).judgements:
        likes = tastes(settings, author_of(row))
        taste = read(row.text)[0] in TASTE_OF
        wrong[author_of(row), row.test, taste] += personal(row.text, likes) != row.label
    for author in range(8):
        for test, rows in ((True, 30), (False, 60)):
            for taste, share in ((True, 0.6), (False, 0.4)):
                assert wrong[author, test, taste] == round(noise * round(share * rows))
    flipped = round(noise * 18) + round(noise * 12)
    assert best(settings)["personal"] == (30 - flipped) / 30


# ---------------------------------------------------------------------------------- grammar


def test_authors_come_in_pairs_of_opposite_tastes_and_the_same_sentences(cohort: Cohort) -> None:
    texts: dict[int, list[tuple[str, bool | None]]] = defaultdict(list)
    for row in read_embedded_authors(SMALL).judgements:
        texts[author_of(row)].append((row.text, row.test))
    fold = {row.profile: row.fold for row in cohort.sheet}
    for author in range(0, 40, 2):
        one, two = tastes(SMALL, author), tastes(SMALL, author + 1)
        assert sum(one) == sum(two) == 4
        assert all(a != b for a, b in zip(one, two, strict=True))
        assert texts[author] == texts[author + 1]
        ids = (profile_id(SPEC.task, f"author {who}") for who in (author, author + 1))
        assert len({fold[profile] for profile in ids}) == 1
    assert len({tastes(SMALL, author) for author in range(40)}) > 20
    sizes = Counter(fold.values())
    assert max(sizes.values()) - min(sizes.values()) <= 2


def test_no_sentence_is_of_two_pairs_or_on_two_sides() -> None:
    places = defaultdict(set)
    for row in read_embedded_authors(SMALL).judgements:
        places[row.text].add((author_of(row) // 2, row.test))
    assert len(places) == 20 * 60
    assert {len(place) for place in places.values()} == {1}


def test_labels_are_even_in_both_kinds_of_words_of_every_author() -> None:
    settings = EmbeddedAuthors(authors=8, noise=0)
    positive: Counter[tuple[int, bool | None, bool]] = Counter()
    for row in read_embedded_authors(settings).judgements:
        positive[author_of(row), row.test, read(row.text)[0] in TASTE_OF] += row.label
    assert {count for (_, test, _), count in positive.items() if test} == {5}
    assert {count for (_, test, _), count in positive.items() if not test} == {10}


def test_sentences_follow_the_grammar() -> None:
    pattern = re.compile(r"On \w+day the \w+ at the \w+ was (not )?((really|very|quite|so) )?\w+\.")
    rows = read_embedded_authors(EmbeddedAuthors()).judgements
    assert all(pattern.fullmatch(row.text) for row in rows)
    words = Counter(read(row.text)[0] for row in rows)
    assert set(words) == set(TASTE_OF) | set(GOOD) | set(BAD)
    assert len(TASTE_OF) == 40 and not set(TASTE_OF) & set(GOOD + BAD)
    assert 0.27 < np.mean([read(row.text)[1] for row in rows]) < 0.33


def test_rows_are_fixed() -> None:
    assert read_embedded_authors(EmbeddedAuthors()).sha256["rows"][:16] == "26c43935870fef05"


def test_test_rows_do_not_depend_on_the_training_rows_nor_pairs_on_later_pairs() -> None:
    def rows(settings: EmbeddedAuthors, test: bool, authors: int = 8) -> list[Judgement]:
        found = read_embedded_authors(settings).judgements
        return [row for row in found if row.test == test and author_of(row) < authors]

    small = EmbeddedAuthors(authors=8)
    assert rows(EmbeddedAuthors(authors=8, train_rows=80), True) == rows(small, True)
    assert rows(EmbeddedAuthors(authors=12), True) == rows(small, True)
    assert rows(EmbeddedAuthors(authors=8, seed=1), True) != rows(small, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"authors": 5}, "authors: found 5, expected an even number, at least 4"),
        ({"authors": 2}, "authors: found 2"),
        ({"train_rows": 2}, "train_rows: found 2, expected an even number, at least 4"),
        ({"test_rows": 7}, "test_rows: found 7"),
        ({"authors": 20_000}, "found 20000 authors of 60 rows, expected at most 600,000 rows"),
        ({"noise": 0.5}, r"noise: found 0\.5, expected 0 <= noise < 0\.5"),
        ({"noise": -0.1}, r"noise: found -0\.1"),
        ({"noise": float("nan")}, "noise: found nan"),
        ({"taste_share": 0}, "taste_share: found 0, expected 0 < taste_share <= 1"),
    ],
)
def test_settings_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"embedded_authors: {message}"):
        EmbeddedAuthors(**options)  # type: ignore[arg-type]
