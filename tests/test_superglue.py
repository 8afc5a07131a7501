"""SuperGLUE: every official form is read, questions stay whole, scores are the official ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from localencoder import save_encoder
from sklearn.metrics import f1_score

from xpeft import stats
from xpeft.data.answertext import matches, words_f1
from xpeft.data.forms import FORMS
from xpeft.data.prepare import prepare
from xpeft.data.prepared import Prepared, Split, holdout, load_prepared
from xpeft.data.sources import LocalSource
from xpeft.data.specs import TASKS, get_task
from xpeft.errors import DataError, RecordError
from xpeft.job import BankSpec, EncoderSpec, Job, MethodSpec, TrainingSpec, TuningSpec
from xpeft.metrics import compute
from xpeft.questions import PARTS, parts, places, take_best, usual_place
from xpeft.records import read_record, validate, write_record
from xpeft.report.summary import make_summary
from xpeft.trainer import train_job

Rows = list[dict[str, Any]]

SPECS = [spec for spec in TASKS.values() if spec.suite == "superglue"]

PASSAGE = "Ada met Bob Hall in Rome.\n@highlight\nAda left Rome"
ENTITIES = [(0, 2), (8, 15), (20, 23), (37, 39), (46, 49)]  # Ada, Bob Hall, Rome, Ada, Rome

OFFICIAL: dict[str, Rows] = {
    # one source row as the official files have it, test-only columns left out
    "boolq": [{"question": "is it", "passage": "It is.", "idx": 0, "label": True}],
    "cb": [{"premise": "He ran.", "hypothesis": "he ran", "label": "neutral", "idx": 0}],
    "copa": [
        {"premise": "It fell.", "choice1": "It was wet.", "choice2": "It broke.",
         "question": "effect", "label": 1, "idx": 0},
    ],
    "multirc": [
        {"idx": 3, "version": 1.1, "passage": {"text": "A cat sat.", "questions": [
            {"idx": 7, "question": "Who?", "answers": [
                {"idx": 0, "text": "A cat", "label": 1}, {"idx": 1, "text": "", "label": 0}]},
            {"idx": 8, "question": "Why?", "answers": [{"idx": 2, "text": "Rain", "label": 0}]},
        ]}},
    ],
    "record": [
        {"idx": 5, "source": "News", "passage": {
            "text": PASSAGE, "entities": [{"start": a, "end": b} for a, b in ENTITIES]},
         "qas": [
            {"idx": 9, "query": "@placeholder was met",
             "answers": [{"start": 8, "end": 15, "text": "Bob Hall"}]},
            {"idx": 10, "query": "She went to @placeholder",
             "answers": [{"start": 20, "end": 23, "text": "rome"}]}]},
    ],
    "rte": [{"premise": "A dog.", "hypothesis": "A cat.", "label": "not_entailment", "idx": 0}],
    "wic": [
        {"word": "run", "sentence1": "We run.", "sentence2": "A run of luck", "idx": 0,
         "start1": 3, "end1": 6, "start2": 2, "end2": 5, "version": 1.1, "label": False},
    ],
    "wsc": [
        {"text": "Mark told Pete. He knew.", "idx": 0, "label": True, "target": {
            "span1_index": 2, "span1_text": "Pete", "span2_index": 3, "span2_text": "He"}},
    ],
}  # fmt: skip

FLAT: dict[str, Rows] = {
    # the same rows in the columns of the hub's data set
    "boolq": [{**OFFICIAL["boolq"][0], "label": 1}],
    "cb": [{**OFFICIAL["cb"][0], "label": 2}],
    "copa": OFFICIAL["copa"],
    "multirc": [
        {"paragraph": "A cat sat.", "question": q, "answer": a, "label": label,
         "idx": {"paragraph": 3, "question": number, "answer": i}}
        for i, (q, number, a, label) in enumerate(
            [("Who?", 7, "A cat", 1), ("Who?", 7, "", 0), ("Why?", 8, "Rain", 0)])
    ],
    "record": [
        {"passage": PASSAGE, "query": query, "entities": ["Ada", "Bob Hall", "Rome"],
         "answers": [answer], "idx": {"passage": 5, "query": number}}
        for number, (query, answer) in enumerate(
            [("@placeholder was met", "Bob Hall"), ("She went to @placeholder", "rome")], 9)
    ],
    "rte": [{**OFFICIAL["rte"][0], "label": 1}],
    "wic": [{k: v for k, v in OFFICIAL["wic"][0].items() if k != "version"} | {"label": 0}],
    "wsc": [
        {"text": "Mark told Pete. He knew.", "span1_index": 2, "span1_text": "Pete",
         "span2_index": 3, "span2_text": "He", "idx": 0, "label": 1},
    ],
}  # fmt: skip

PREPARED: dict[str, list[tuple[str, str, int]]] = {
    "boolq": [("is it", "It is.", 1)],
    "cb": [("He ran.", "he ran", 2)],
    "copa": [
        ("It fell. What was the effect of this?", "It was wet.", 0),
        ("It fell. What was the effect of this?", "It broke.", 1),
    ],
    "multirc": [
        ("A cat sat.", "Who? A cat", 1),
        ("A cat sat.", "Who? ", 0),
        ("A cat sat.", "Why? Rain", 0),
    ],
    "record": [
        (PASSAGE, "Ada was met", 0),
        (PASSAGE, "Bob Hall was met", 1),
        (PASSAGE, "Rome was met", 0),
        (PASSAGE, "She went to Ada", 0),
        (PASSAGE, "She went to Bob Hall", 0),
        (PASSAGE, "She went to Rome", 1),
    ],
    "rte": [("A dog.", "A cat.", 1)],
    "wic": [("run: We *run*.", "A *run* of luck", 0)],
    "wsc": [("Mark told *Pete*. #He# knew.", "He refers to Pete.", 1)],
}

NESTED = ("multirc", "record")  # their columns hold objects and lists, which no .csv does

QUESTIONS = {"copa": [0, 0], "multirc": [0, 0, 1], "record": [0, 0, 0, 1, 1, 1]}


def other(rows: Rows) -> Rows:
    """The same rows with another text, for the other split."""
    text = json.dumps(rows)
    for old, new in (("It", "Is"), ("ran", "lay"), ("cat", "cow"), ("luck", "wool"),
                     ("left", "lost"), ("knew", "know")):  # fmt: skip
        text = text.replace(old, new)
    return json.loads(text)  # type: ignore[no-any-return]


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0])]
        lines += [",".join(f'"{value}"' for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def prepared(root: Path, task: str, train: Path, validation: Path, rows: Rows) -> Prepared:
    write(root / train, other(rows))
    write(root / validation, rows)
    return load_prepared(prepare(get_task("superglue", task), LocalSource(root), root / "out"))


# ------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("task", OFFICIAL)
@pytest.mark.parametrize("suite", ["", "superglue"])
def test_the_official_files_are_read_where_they_lie(task: str, suite: str, tmp_path: Path) -> None:
    folder = Path(suite, str(get_task("superglue", task).official))
    found = prepared(
        tmp_path, task, folder / "train.jsonl", folder / "val.jsonl", OFFICIAL[task]
    ).validation
    rows = list(zip(found.texts, found.pairs or [], found.labels.tolist(), strict=True))
    assert rows == PREPARED[task]
    assert found.rows.tolist() == list(range(len(rows)))
    asked = None if found.questions is None else found.questions.tolist()
    assert asked == QUESTIONS.get(task)


@pytest.mark.parametrize(
    ("task", "suffix"),
    [(task, suffix) for task in FLAT for suffix in (".jsonl", ".parquet")]
    + [(task, ".csv") for task in FLAT if task not in NESTED],
)
def test_the_hubs_columns_give_the_same_rows(task: str, suffix: str, tmp_path: Path) -> None:
    folder = Path("superglue", task)
    files = folder / f"train{suffix}", folder / f"validation{suffix}"
    found = prepared(tmp_path, task, *files, FLAT[task])
    split = found.validation
    rows = list(zip(split.texts, split.pairs or [], split.labels.tolist(), strict=True))
    assert rows == PREPARED[task]
    assert (None if split.questions is None else split.questions.tolist()) == QUESTIONS.get(task)
    assert found.meta.answers == get_task("superglue", task).answers
    assert found.meta.source.endswith(f"local superglue/{task}/validation{suffix}")


def test_specs_name_their_forms_and_answers() -> None:
    for spec in SPECS:
        assert spec.form in FORMS and spec.pair and spec.official
        assert (spec.answers is not None) == (spec.task in QUESTIONS)
        assert spec.hub_id == "aps/super_glue" and spec.hub_config == spec.task
    assert [spec.official for spec in SPECS] == ("BoolQ CB COPA MultiRC ReCoRD RTE WiC WSC".split())


def test_a_span_that_is_not_at_its_index_is_marked_at_the_nearest_place(tmp_path: Path) -> None:
    row = FLAT["wsc"][0] | {"text": "It saw IT , and it ran .", "span1_text": "saw\nit"}
    row |= {"span1_index": 0, "span2_text": "it", "span2_index": 4}
    folder = Path("superglue/wsc")
    found = prepared(tmp_path, "wsc", folder / "train.jsonl", folder / "validation.jsonl", [row])
    assert found.validation.texts == ["It *saw IT* , and #it# ran ."]


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no column": ("boolq", {"passage": "x", "label": 1}, "found the columns passage, label, "
                  "expected also question"),
    "null text": ("cb", {"premise": None, "hypothesis": "b", "label": 1},
                  r"column 'premise': found nothing \(null\), expected text"),
    "unknown word": ("rte", {**FLAT["rte"][0], "label": "maybe"},
                     r"column 'label': found 'maybe', expected an integer from 0 to 1 \(0 entail"),
    "test row": ("wic", {**FLAT["wic"][0], "label": -1}, "column 'label': found -1, expected an"),
    "outside": ("wic", {**FLAT["wic"][0], "end2": 99},
                "'start2' and 'end2': found 2 and 99, expected the ends of a word within the 13"),
    "no span": ("wsc", {**FLAT["wsc"][0], "span1_text": "Paul"},
                "found the span 'Paul', expected words of the text"),
    "index": ("wsc", {**FLAT["wsc"][0], "span2_index": "3"},
              "column 'span2_index': found '3', expected a whole number"),
    "choice": ("copa", {**FLAT["copa"][0], "label": 2},
               r"column 'label': found 2, expected an integer from 0 to 1 \(0 choice1, 1 choice2"),
    "idx": ("multirc", {**FLAT["multirc"][0], "idx": 4},
            "column 'idx': found 4, expected an object"),
    "questions": ("multirc", {"idx": 1, "passage": {"text": "a", "questions": "b"}},
                  "column 'questions': found 'b', expected a list"),
    "answer": ("multirc", {"idx": 1, "passage": {"text": "a", "questions": [
        {"idx": 0, "question": "b", "answers": ["c"]}]}}, "found 'c', expected an object with"),
    "no blank": ("record", {**FLAT["record"][0], "query": "who"},
                 "column 'query': found 'who', expected @placeholder in it"),
    "no answer": ("record", {**FLAT["record"][0], "answers": []},
                  "column 'answers': found none, expected at least one"),
    "entity": ("record", {**OFFICIAL["record"][0], "passage": {
        "text": "short", "entities": [{"start": 3, "end": 5}]}},
        "column 'entities': found 3 to 5, expected a place within the 5 characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    task, row, message = BAD[case]
    form = OFFICIAL if "passage" in row and isinstance(row["passage"], dict) else FLAT
    write(tmp_path / f"superglue/{task}/train.jsonl", [form[task][0], row])
    write(tmp_path / f"superglue/{task}/validation.jsonl", other(form[task]))
    with pytest.raises(DataError, match=rf"{task}/train\.jsonl: line 2: .*{message}") as caught:
        prepare(get_task("superglue", task), LocalSource(tmp_path), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------- metrics


def test_answers_are_compared_as_by_the_official_script() -> None:
    assert matches("The U.S.  Army", ["us army", "navy"])
    assert not matches("army", ["the us army"])
    assert words_f1("the US army", ["army corps", "navy"]) == pytest.approx(0.5)
    assert words_f1("a", ["an"]) == 0.0  # nothing is left of either
    assert words_f1("no no", ["no"]) == pytest.approx(2 / 3)  # counted, not only found


PREDICTED = np.array([1, 0, 1, 0, 1, 0, 0])
LABELS = np.array([1, 0, 1, 1, 0, 1, 0])
ASKED = np.array([4, 4, 2, 2, 2, 9, 9])


def test_multirc_by_hand_and_as_the_official_code_counts() -> None:
    scores = compute(["f1a", "exact_match"], PREDICTED, LABELS, questions=ASKED)
    assert scores == {"f1a": pytest.approx(2 * 2 / (3 + 4)), "exact_match": pytest.approx(1 / 3)}
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, labels = rng.integers(0, 2, (2, 60))
        asked = rng.integers(0, 20, 60)
        scores = compute(["f1a", "exact_match"], predicted, labels, questions=asked)
        assert scores["f1a"] == pytest.approx(f1_score(labels, predicted))
        kept: dict[int, list[bool]] = {}
        for number, said, true in zip(asked, predicted, labels, strict=True):
            kept.setdefault(int(number), []).append(bool(said == true))
        assert scores["exact_match"] == np.mean([all(found) for found in kept.values()])


def test_record_by_hand() -> None:
    """Three questions: right, half right, wrong."""
    taken = np.array([0, 1, 1, 0, 1, 0])
    labels = np.array([1, 1, 0, 1, 0, 1])
    credit = np.array([1.0, 1.0, 0.5, 1.0, 0.0, 1.0])
    asked = np.array([0, 0, 1, 1, 2, 2])
    scores = compute(["answer_f1", "answer_match"], taken, labels, questions=asked, credit=credit)
    assert scores == {"answer_f1": pytest.approx(0.5), "answer_match": pytest.approx(1 / 3)}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_of_questions_sum_to_the_score(name: str) -> None:
    above, below = parts(name, PREDICTED, LABELS, ASKED, None)
    assert len(above) == len(below) == 3
    score = compute([name], PREDICTED, LABELS, questions=ASKED)[name]
    assert above.sum() / below.sum() == pytest.approx(score)


def test_metrics_of_questions_need_questions_and_two_classes() -> None:
    with pytest.raises(DataError, match=r"f1a: found questions of shape \[0\]"):
        compute(["f1a"], [0, 1], [0, 1])
    with pytest.raises(DataError, match=r"exact_match: found the classes \[0, 2\]"):
        compute(["exact_match"], [0, 2], [0, 2], questions=[0, 0])


def test_one_row_of_a_question_is_taken_the_first_of_equals() -> None:
    asked = np.array([7, 3, 7, 3, 5])
    assert take_best([0.1, 2.0, 0.2, 2.0, -9.0], asked).tolist() == [0, 1, 1, 0, 1]
    assert places(asked).tolist() == [0, 0, 1, 1, 0]


def test_the_blind_choice_is_the_usual_place() -> None:
    trained = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    labels = np.array([0, 0, 1, 0, 1, 0, 0, 1])  # the second of two and of three, once the third
    asked = np.array([5, 5, 6, 6, 6, 6, 8])
    assert usual_place(labels, trained, asked).tolist() == [0, 1, 0, 1, 0, 0, 1]


def test_whole_questions_are_drawn() -> None:
    """Copies of a question's row say nothing more about other questions."""
    right = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    one = stats.over_questions(right.tolist(), [1.0] * 10)
    many = stats.over_questions((40 * right).tolist(), [40.0] * 10)
    assert one == pytest.approx(many)
    low, high = stats.over_examples([[0, 0], [3 * 40, 7 * 40]], "accuracy") or (0, 1)
    assert high - low < (one[1] - one[0]) / 3
    assert one[0] < 0.7 < one[1]


# ------------------------------------------------------------------------------------ splits


def grouped(counts: list[int]) -> Split:
    questions = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(questions))
    texts = [f"t{row}" for row in rows]
    return Split(texts, texts, rows % 2, rows, questions, rows / len(rows))


def test_samples_are_nested_and_keep_questions_whole() -> None:
    split = grouped([3, 2, 4, 1, 5, 2, 3, 2] * 5)
    chosen = []
    for limit in (5, 30, 70, 1000):
        part = split.take(split.sample(limit, 0))
        assert len(part) <= limit and part.credit is not None and part.questions is not None
        for number in part.questions:
            assert (part.questions == number).sum() == (split.questions == number).sum()
        chosen.append(set(part.rows.tolist()))
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    with pytest.raises(DataError, match="expected room for one in a limit of 2 rows; raise"):
        grouped([3, 3]).sample(2, 0)


def test_whole_questions_are_held_out() -> None:
    split = grouped([3, 2, 4, 1, 5] * 4)
    fit, dev = (split.take(part) for part in holdout(split, 0.25, seed=1))
    assert fit.questions is not None and dev.questions is not None
    assert len(set(dev.questions.tolist())) == 5
    assert not set(fit.questions.tolist()) & set(dev.questions.tolist())
    assert len(fit) + len(dev) == len(split)


# ---------------------------------------------------------------------------------- training


def copa_rows(count: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    words = ["food", "service", "music", "film"]
    rows = []
    for number in range(count):
        label = int(rng.integers(2))
        pair = [f"the {rng.choice(words)} was bad", f"the {rng.choice(words)} was good"]
        first, second = pair if label else pair[::-1]
        rows.append({"premise": f"the film {number} {seed}", "choice1": first, "choice2": second,
                     "question": "cause", "idx": number, "label": label})  # fmt: skip
    return rows


def multirc_rows(count: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return [
        {"paragraph": f"the film {number} {seed}", "question": "what", "answer": word,
         "label": int(word in ("good", "great")),
         "idx": {"paragraph": number, "question": 0, "answer": i}}
        for number in range(count)
        for i, word in enumerate(rng.choice(["good", "bad", "great", "awful"], 3, replace=False))
    ]  # fmt: skip


def record_rows(count: int, seed: int) -> Rows:
    return [
        {"passage": f"the film {number} {seed}", "query": "music @placeholder",
         "entities": ["bad food", "good food", "awful"][: 2 + number % 2],
         "answers": ["good food"], "idx": {"passage": number, "query": number}}
        for number in range(count)
    ]  # fmt: skip


MADE = {"copa": copa_rows, "multirc": multirc_rows, "record": record_rows}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("superglue")
    save_encoder(folder / "encoder")
    for task, make in MADE.items():
        write(folder / f"superglue/{task}/train.jsonl", make(40, 0))
        write(folder / f"superglue/{task}/validation.jsonl", make(12, 1))
        prepare(get_task("superglue", task), LocalSource(folder), folder / "data" / task)
    return folder


def run(place: Path, out: Path, task: str) -> Any:
    job = Job(
        tier="test",
        suite="superglue",
        task=task,
        arm="hard",
        seeds=(0,),
        encoder=EncoderSpec("tiny", "local", path=str(place / "encoder"), dtype="float32"),
        method=MethodSpec(mask="hard", k=2),
        training=TrainingSpec(epochs=2, batch_size=8),
        bank=BankSpec(n=6, reduction=4),
        tuning=TuningSpec(({"lr": 0.01}, {"lr": 0.1}), epochs=1, max_rows=50, holdout=0.25),
    )
    records = out / "records/superglue" / task / "hard"
    train_job(job, place / "data" / task, records, out / "tuning/tuning.json", out / "work")
    return read_record(records / "seed0.json")


@pytest.mark.parametrize("task", MADE)
def test_a_task_of_questions_is_trained_and_scored(task: str, place: Path, tmp_path: Path) -> None:
    record = run(place, tmp_path, task)
    result, split = record["result"], load_prepared(place / "data" / task).validation
    asked = split.questions
    assert asked is not None and len(result["questions"]["above"]) == len(set(asked.tolist())) == 12
    predicted = np.array(result["predictions"]).astype(int)
    spec = get_task("superglue", task)
    assert result["scores"] == compute(
        spec.metrics, predicted, split.labels, questions=asked, credit=split.credit
    )
    if spec.answers == "one":
        taken = np.bincount(asked, weights=predicted)
        assert (taken == 1).all()
    if task == "copa":  # of rows and of questions: the same
        right = split.labels[predicted == 1]
        assert result["score"] == pytest.approx(right.mean())
    if task == "multirc":  # always right, and not the majority class, which would score 0
        share = split.labels.mean()
        assert result["majority"]["f1a"] == pytest.approx(2 * share / (1 + share))
    if task == "record":  # the second entity of three or two
        assert result["majority"]["answer_match"] == 1.0
    summary = make_summary(tmp_path / "records", tmp_path / "no tuning")
    assert summary["arms"][0]["over_examples"] == [stats.over_questions(**result["questions"])]


def test_a_record_without_its_questions_has_no_interval(place: Path, tmp_path: Path) -> None:
    record = run(place, tmp_path, "copa")
    wrong = json.loads(json.dumps(record))
    wrong["result"]["questions"]["above"][0] += 1
    with pytest.raises(RecordError, match=r"result\.questions: found .* expected sums that give"):
        validate(wrong, "made up")
    wrong["result"]["questions"]["above"].pop()
    with pytest.raises(RecordError, match="expected two lists of one value a question"):
        validate(wrong, "made up")
    del record["result"]["questions"]
    record["result"] |= {"constant": False, "majority": {"accuracy": 0.5}}  # of one class
    write_record(tmp_path / "records/superglue/copa/hard/seed0.json", record)
    summary = make_summary(tmp_path / "records", tmp_path / "no tuning")
    assert summary["arms"][0]["over_examples"] is None


def test_prepared_folders_of_before_are_read(place: Path, tmp_path: Path) -> None:
    """A meta.json that knows nothing of answers is that of a task whose rows are questions."""
    folder = tmp_path / "rte"
    write(tmp_path / "superglue/rte/train.jsonl", other(FLAT["rte"] * 2)[:1])
    write(tmp_path / "superglue/rte/validation.jsonl", [FLAT["rte"][0] | {"premise": "New."}])
    prepare(get_task("superglue", "rte"), LocalSource(tmp_path), folder)
    meta = json.loads((folder / "meta.json").read_text())
    del meta["answers"]
    (folder / "meta.json").write_text(json.dumps(meta))
    assert load_prepared(folder).meta.answers is None
