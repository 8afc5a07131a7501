"""What a cohort is: its files, labels, split and thresholds, declared and nothing else.

A new annotator pool is one more `CohortSpec` in `COHORTS`; a data set of another form also needs a
reader (`xpeft.data.cohort_readers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xpeft.errors import DataError

NEWS_LABELS = (
    "food & drink",
    "sports",
    "education",
    "parents",
    "religion",
    "travel",
    "business",
    "crime",
    "science & technology",
    "culture & arts",
    "entertainment",
    "politics",
    "women",
    "style & beauty",
    "healthy living",
)
"""The 15 labels of LaMP news categorisation, in its order."""


@dataclass(frozen=True)
class CohortSize:
    """How large a cohort is, to plan with; measured on the prepared data.

    Attributes:
        profiles: targets of all folds.
        train, test: mean rows of a target on each side.
        texts: different ones.
        tokens: mean WordPiece tokens of a text, the special ones included.
    """

    profiles: int
    train: int
    test: int
    texts: int
    tokens: float


@dataclass(frozen=True)
class CohortSpec:
    """A set of profiles that share a task.

    Attributes:
        task: name of the cohort; the suite is "profiles".
        labels: name of each label code, in code order.
        metrics: names that `xpeft.metrics.compute` knows; the first is the primary one.
        reader: form of the source: "annotators", "bylines", "lamp", or "embedded", which is
            generated.
        split: what divides a profile's rows into training and test rows. "item": a hash of the
            text, so that a held-out text is held out for everyone. "time": the last of an
            author's texts are test rows. "given": the data set says it.
        licence: terms of the texts as far as they are stated.
        note: where the data come from.
        files: files in the local layout, from the data folder: without suffix where it may be
            any of .jsonl.gz, .jsonl, .parquet and .csv.
        first_label: the label in the files that becomes code 0.
        test_share: share of the texts (item) or of each author's texts (time) that are test rows.
        target_min_train, target_min_test: rows of each side that a target has at least.
        donor_min_train: training rows that a donor has at least.
        target_folds: folds that have targets where the data set fixes them; None for all.
        size: None where it is not known, or is a setting.
    """

    task: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    reader: str
    split: str
    licence: str
    note: str
    files: tuple[str, ...] = ()
    first_label: int = 0
    test_share: float = 0.2
    target_min_train: int = 10
    target_min_test: int = 5
    donor_min_train: int = 10
    target_folds: int | None = None
    size: CohortSize | None = None

    @property
    def name(self) -> str:
        """`profiles/task`, as it is written in configs, records and paths."""
        return f"profiles/{self.task}"


def _lamp(task: str, note: str, target_folds: int | None = None) -> CohortSpec:
    return CohortSpec(
        task=task,
        labels=NEWS_LABELS,
        metrics=("accuracy", "macro_f1"),
        reader="lamp",
        split="given",
        licence="CC BY-NC-SA 4.0 (LaMP); News Category Dataset CC BY 4.0",
        note=f"LaMP news categorisation, {note}: Salemi et al., ACL 2024, arXiv 2304.11406",
        files=tuple(
            f"profiles/{task}/{split}_{part}.json"
            for split in ("train", "dev")
            for part in ("questions", "outputs")
        ),
        # Published scores are over all questions, so every author of a dev question is a target.
        target_min_train=1,
        target_min_test=1,
        target_folds=target_folds,
    )


_SPECS = (
    CohortSpec(
        task="md_agreement",
        labels=("not_offensive", "offensive"),
        metrics=("accuracy", "macro_f1"),
        reader="annotators",
        split="item",
        licence="none stated; research use",
        note="MD-Agreement: Leonardelli et al., EMNLP 2021, arXiv 2109.13563; as in SemEval-2023 "
        "task 11, its three splits pooled: they hold nearly disjoint annotators",
        files=tuple(f"profiles/md_agreement/{part}" for part in ("train", "validation", "test")),
        size=CohortSize(profiles=357, train=108, test=28, texts=10753, tokens=36.8),
    ),
    CohortSpec(
        task="popquorn_offensiveness",
        labels=("1", "2", "3", "4", "5"),
        metrics=("accuracy", "macro_f1"),
        reader="annotators",
        split="item",
        licence="none stated",
        note="POPQUORN offensiveness: Pei and Jurgens, LAW 2023, arXiv 2306.06826",
        files=("profiles/popquorn_offensiveness/all",),
        first_label=1,
        size=CohortSize(profiles=258, train=40, test=10, texts=1500, tokens=41.4),
    ),
    CohortSpec(
        task="huffpost",
        labels=NEWS_LABELS,
        metrics=("accuracy", "macro_f1"),
        reader="bylines",
        split="time",
        licence="CC BY 4.0",
        note="News Category Dataset v3: Misra, arXiv 2209.11429; the by-lines of 2018-03-01 to "
        "2022-09-23 are the profiles",
        files=("news/huffpost",),
        # An author of 20 texts is a target, one of 10 a donor.
        target_min_train=16,
        target_min_test=4,
        donor_min_train=8,
        size=CohortSize(profiles=74, train=72, test=18, texts=8460, tokens=39.4),
    ),
    _lamp("lamp_news_user", "split by user", target_folds=1),
    _lamp("lamp_news_time", "split by time"),
    CohortSpec(
        task="embedded_authors",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        reader="embedded",
        split="given",
        licence="that of xpeft",
        note="generated by xpeft.data.embedded_authors",
        target_min_train=1,
        target_min_test=1,
        donor_min_train=1,
    ),
)

COHORTS: dict[str, CohortSpec] = {spec.task: spec for spec in _SPECS}
"""All cohorts, by name."""


def get_cohort(name: str) -> CohortSpec:
    """The spec of a cohort.

    Raises:
        DataError: the name is unknown; the message names those that are known.
    """
    if name not in COHORTS:
        raise DataError(
            f"task profiles/{name}: unknown cohort {name!r}; known cohorts: {', '.join(COHORTS)}"
        )
    return COHORTS[name]
