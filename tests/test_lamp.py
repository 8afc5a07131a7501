"""LaMP news categorisation as it is distributed: authors, sides, folds, and every fault."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpeft.data.cohort import Cohort, load_cohort
from xpeft.data.cohort_prepare import prepare_cohort
from xpeft.data.cohort_specs import NEWS_LABELS, get_cohort
from xpeft.data.lamp import MOVIE_TAGS
from xpeft.errors import ConfigError, DataError
from xpeft.ids import profile_id
from xpeft.metrics import compute

USER, TIME = get_cohort("lamp_news_user"), get_cohort("lamp_news_time")
ASK = "Which category does this article relate to among the following categories? Just answer "
Files = dict[str, Any]


def article(author: str, number: int, label: str | None = None) -> dict[str, str]:
    return {
        "title": f"Title {number} of {author}",
        "text": f"Text {number} of {author}",
        "category": label or NEWS_LABELS[number % 3],
        "id": f"{number}",  # the same for all authors: ids say nothing
        "date": "2020-01-01",
    }


def question_id(author: str, number: int) -> str:
    return f"{int.from_bytes(author.encode())}{number}"


def question(author: str, number: int, history: range) -> dict[str, Any]:
    """A question of an author, its own text being article `number`."""
    return {
        "id": question_id(author, number),
        "input": f"{ASK}categories: [women, religion] article: Text {number} of {author}",
        "profile": [article(author, place) for place in history],
    }


def files(train: list[dict[str, Any]], dev: list[dict[str, Any]]) -> Files:
    def golds(asked: list[dict[str, Any]]) -> dict[str, Any]:
        label = [NEWS_LABELS[int(item["input"].split()[-3]) % 3] for item in asked]
        rows = [{"id": q["id"], "output": name} for q, name in zip(asked, label, strict=True)]
        return {"task": "LaMP_2", "golds": rows}

    return {
        "train_questions": train,
        "train_outputs": golds(train),
        "dev_questions": dev,
        "dev_outputs": golds(dev),
    }


def by_user() -> Files:
    """Two authors to train on, two to score: one of each with several questions."""
    ann = [question("ann", 90, range(12)), question("ann", 91, range(11, 20))]
    cat = [question("cat", 90, range(3)), question("cat", 91, range(2, 6))]
    return files(
        [*ann, question("bob", 90, range(14))],
        [*cat, question("dan", 90, range(4))],
    )


def by_time() -> Files:
    """Authors whose earlier questions are in train, the later ones in dev."""
    names = ("ann", "bob", "cat", "dan")
    return files(
        [question(name, 10, range(10)) for name in names],
        [question(name, 20, range(9, 20)) for name in names],
    )


def put(root: Path, task: str, content: Files) -> Path:
    folder = root / "data" / "profiles" / task
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / f"{name}.json").write_text(text)
    return root / "data"


def prepared(root: Path, content: Files, task: str = "lamp_news_user") -> Cohort:
    spec = get_cohort(task)
    return load_cohort(prepare_cohort(spec, put(root, task, content), root / "out"))


def rows_of(cohort: Cohort, author: str) -> dict[int, bool]:
    """The articles of an author in the cohort: number -> whether it is a test row."""
    return {
        int(text.split()[1]): bool(test)
        for text, test in (
            (cohort.texts[i], t) for i, t in zip(cohort.item, cohort.test, strict=True)
        )
        if text.endswith(author)
    }


def test_the_split_by_user(tmp_path: Path) -> None:
    cohort = prepared(tmp_path, by_user())
    assert cohort.meta.profiles == 4 and cohort.meta.split == "given"
    assert cohort.meta.labels == list(NEWS_LABELS)
    assert len(cohort.meta.sha256) == 4
    # Targets are the authors of dev questions, donors those of train questions.
    assert cohort.folds == [0]
    parts = {"ann": "train", "bob": "train", "cat": "dev", "dan": "dev"}
    ids = {
        profile_id(USER.task, f"{part} {question_id(name, 90)}"): name
        for name, part in parts.items()
    }
    of = [ids[row.profile] for row in cohort.sheet]
    assert {of[place] for place in cohort.targets(0)} == {"cat", "dan"}
    assert {of[place] for place in cohort.donors(0)} == {"ann", "bob"}
    # A dev question is a test row, all else is training; a text that a question shows once only.
    assert rows_of(cohort, "cat") == dict.fromkeys(range(6), False) | {90: True, 91: True}
    assert rows_of(cohort, "ann") == dict.fromkeys([*range(20), 90, 91], False)
    assert cohort.meta.rows == {"train": 22 + 15 + 6 + 4, "test": 3}
    assert not any("Title" in text or "article:" in text for text in cohort.texts)
    for row, text in zip(cohort.label, (cohort.texts[i] for i in cohort.item), strict=True):
        assert row == int(text.split()[1]) % 3


def test_the_split_by_time_has_folds_by_hash(tmp_path: Path) -> None:
    cohort = prepared(tmp_path, by_time(), "lamp_news_time")
    assert cohort.meta.profiles == 4
    assert cohort.folds == [0, 1]
    targets = [set(cohort.targets(fold).tolist()) for fold in (0, 1)]
    assert len(targets[0]) == len(targets[1]) == 2 and targets[0] | targets[1] == {0, 1, 2, 3}
    assert [set(cohort.donors(fold).tolist()) for fold in (0, 1)] == targets[::-1]
    # The train question (10) is in the history of the dev question too: one training row.
    assert rows_of(cohort, "bob") == dict.fromkeys(range(20), False) | {20: True}


def test_folds_of_the_split_by_user_are_not_to_choose(tmp_path: Path) -> None:
    data = put(tmp_path, USER.task, by_user())
    prepare_cohort(USER, data, tmp_path / "out", folds=2)  # it has two
    with pytest.raises(
        ConfigError, match=r"folds: found 3, expected none or 2: .* says itself who"
    ):
        prepare_cohort(USER, data, tmp_path / "other", folds=3)


def test_authors_are_found_from_question_to_question(tmp_path: Path) -> None:
    """No two of these share all articles; the last joins them."""
    chain = [question("eve", 80 + place, range(3 * place, 3 * place + 3)) for place in range(4)]
    apart = prepared(tmp_path / "a", files(by_user()["train_questions"], chain))
    assert len(apart.targets(0)) == 4
    joined = [*chain, question("eve", 99, range(12))]
    cohort = prepared(tmp_path / "b", files(by_user()["train_questions"], joined))
    assert len(cohort.targets(0)) == 1
    assert cohort.meta.rows["test"] == 5


def test_equal_ids_or_empty_texts_do_not_join_authors(tmp_path: Path) -> None:
    content = by_user()
    for part in ("train_questions", "dev_questions"):
        for item in content[part]:
            item["profile"].append({"id": "1", "title": "", "text": " ", "category": "women"})
    cohort = prepared(tmp_path, content)
    assert cohort.meta.profiles == 4
    assert cohort.meta.left_out["article without a text"] == 6


def test_the_answer_to_a_question_is_in_no_history(tmp_path: Path) -> None:
    """Neither in that of the author's other questions, nor in a donor's."""
    content = by_user()
    content["dev_questions"][1]["profile"].append(article("cat", 90))
    content["train_questions"][2]["profile"].append(article("dan", 90) | {"title": "Bob's copy"})
    cohort = prepared(tmp_path, content)
    assert cohort.meta.left_out == {"training row with a test text": 2}
    assert rows_of(cohort, "cat")[90] and rows_of(cohort, "dan")[90]
    held = {cohort.texts[i] for i in cohort.item[cohort.test]}
    assert not held & {cohort.texts[i] for i in cohort.item[~cohort.test]}


def test_a_text_that_an_author_gave_two_labels_is_left_out(tmp_path: Path) -> None:
    content = by_user()
    content["dev_questions"][1]["profile"][0] = article("cat", 2, "women")
    content["dev_questions"][1]["profile"].append(article("cat", 5, "crime"))
    cohort = prepared(tmp_path, content)
    assert cohort.meta.left_out == {"text with two labels of one profile": 4}
    assert 2 not in rows_of(cohort, "cat") and 5 not in rows_of(cohort, "cat")


def test_files_in_another_order_give_the_same_rows(tmp_path: Path) -> None:
    content = by_user()
    prepared(tmp_path / "a", content)
    content["dev_questions"].reverse()
    content["train_questions"].reverse()
    prepared(tmp_path / "b", content)
    for name in ("items.parquet", "rows.parquet", "sheet.tsv"):
        a, b = (tmp_path / folder / "out" / name for folder in ("a", "b"))
        assert a.read_bytes() == b.read_bytes()


def spoil(name: str, change: Callable[[Any], Any]) -> Callable[[Files], Files]:
    def spoiled(content: Files) -> Files:
        content = copy.deepcopy(content)
        value = change(content[name])
        return content if value is None else content | {name: value}

    return spoiled


BAD: dict[str, tuple[Callable[[Files], Files], str]] = {
    "missing file": (
        lambda content: {name: content[name] for name in content if name != "dev_outputs"},
        r"dev_outputs\.json: no such file, expected a file of LaMP",
    ),
    "no JSON": (spoil("train_questions", lambda v: "[{"), r"train_questions\.json: expected JSON"),
    "empty file": (spoil("train_questions", lambda v: ""), r"json: found an empty file"),
    "no list": (spoil("dev_questions", lambda v: {}), r"found dict, expected a JSON list"),
    "no questions": (
        lambda content: files(content["train_questions"], []),
        r"dev_questions\.json: found no questions",
    ),
    "question without input": (
        spoil("dev_questions", lambda v: v[1].pop("input") and None),
        r"dev_questions\.json: question 2: found the fields id, profile, expected also input",
    ),
    "input without article": (
        spoil("dev_questions", lambda v: v[0].update(input="Which?")),
        r"question 1: column 'input': found 'Which\?', expected an instruction, then 'article: '",
    ),
    "id twice": (
        spoil("train_questions", lambda v: v[1].update(id=v[0]["id"])),
        r"train_questions\.json: question 2: found id \d+ again",
    ),
    "no answer": (
        spoil("dev_outputs", lambda v: v["golds"].pop() and None),
        r"dev_questions\.json: question 3: found id \d+, expected its answer in .*dev_outputs",
    ),
    "answer to nothing": (
        spoil("dev_outputs", lambda v: v["golds"].append({"id": "7", "output": "women"})),
        r"dev_outputs\.json: found an answer to id 7, expected it in .*dev_questions\.json too",
    ),
    "answer twice": (
        spoil("dev_outputs", lambda v: v["golds"].append(v["golds"][0])),
        r"dev_outputs\.json: answer 4: found id \d+ again",
    ),
    "unknown label": (
        spoil("dev_outputs", lambda v: v["golds"][1].update(output="Politics")),
        r"answer 2: column 'output': found 'Politics', expected one of .*; correct it",
    ),
    "label of a history": (
        spoil("train_questions", lambda v: v[0]["profile"][4].update(category=None)),
        r"question 1, article 5: column 'category': found nothing \(null\), expected one of food",
    ),
    "article without a text": (
        spoil("train_questions", lambda v: v[0]["profile"][4].pop("text") and None),
        r"question 1, article 5: found the fields title, .* expected also text",
    ),
    "article is text": (
        spoil("train_questions", lambda v: v[0].update(profile=["x"])),
        r"question 1, article 1: found str, expected a JSON object",
    ),
    "history is missing": (
        spoil("train_questions", lambda v: v[0].update(profile=None)),
        r"question 1: found NoneType, expected a JSON list",
    ),
    "another LaMP task": (
        spoil("train_outputs", lambda v: v.update(task="LaMP_3")),
        r"train_outputs\.json: task: found 'LaMP_3', expected LaMP_2 or LaMP_2N",
    ),
    "movie tags as answers": (
        spoil("train_outputs", lambda v: v["golds"][2].update(output="sci-fi")),
        r"answer 3: .* found 'sci-fi', expected one of .* this is LaMP movie tagging",
    ),
    "movie tags in a history": (
        spoil("train_questions", lambda v: v[0].update(profile=[{"tag": "x", "description": "y"}])),
        r"question 1, article 1: found a tag, expected a category; this is LaMP movie tagging",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    change, message = BAD[case]
    data = put(tmp_path, USER.task, change(by_user()))
    with pytest.raises(DataError, match=message) as caught:
        prepare_cohort(USER, data, tmp_path / "results" / "out")
    assert str(data / "profiles" / USER.task) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_news_and_movie_labels_have_none_in_common() -> None:
    assert len(NEWS_LABELS) == len(MOVIE_TAGS) == 15
    assert not set(NEWS_LABELS) & set(MOVIE_TAGS)


def test_the_metrics_are_those_of_lamp() -> None:
    """Accuracy, and F1 averaged over all 15 labels; absent ones count 0, others are wrong."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 9, 60)  # six labels do not occur
    said = np.where(rng.random(60) < 0.6, true, rng.integers(-1, 12, 60))  # -1: no label at all
    assert (said == -1).any()
    scores = []
    for code in range(15):
        hits = int(((said == code) & (true == code)).sum())
        both = int((said == code).sum() + (true == code).sum())
        scores.append(2 * hits / both if both else 0.0)
    found = compute(TIME.metrics, said, true, num_labels=len(TIME.labels))
    assert found["macro_f1"] == pytest.approx(sum(scores) / 15, abs=1e-12)
    assert found["accuracy"] == np.mean(said == true)
