"""What a task is: its columns, labels, metrics, origin and licence, declared and nothing else.

Columns, label order and split names are those of the data set on the hub, and local files
follow them. A new task is one more `TaskSpec` in `TASKS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpeft.errors import DataError

GLUE_ID = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
"""The commit of `nyu-mll/glue` that holds Parquet files and no loading script."""


@dataclass(frozen=True)
class Size:
    """How large a task is, to plan with; what a run really takes stands in its records.

    Attributes:
        train, validation: rows of the official splits.
        tokens: mean WordPiece tokens of a row, the special ones included.
    """

    train: int
    validation: int
    tokens: float


@dataclass(frozen=True)
class TaskSpec:
    """A classification task, or a regression task where `labels` is empty.

    Attributes:
        suite: group of tasks, a folder name in the local layout and in results.
        task: name within the suite.
        text: column of the (first) text.
        pair: column of the second text; None for single-sentence tasks.
        label: column of the label: an integer code, or a number for regression.
        labels: name of each integer code, in code order; empty for regression.
        metrics: names that `xpeft.metrics.compute` knows; the first is the primary one.
        licence: terms of the texts as far as they are stated.
        note: where the data come from.
        hub_id: data set on the hub; None if the hub does not have it.
        hub_config: its configuration.
        revision: pinned commit of the data set.
        train_split: split (and local file) to train on.
        validation_split: split (and local file) to score on.
        label_range: smallest and largest label of a regression task, both allowed.
        near_duplicates: other tasks with (nearly) the same rows, as `suite/task`; banks tuned on
            them are not for this one. Stated on one side, it holds on both.
        size: rows and tokens; None for a task that is generated to measure.
    """

    suite: str
    task: str
    text: str
    pair: str | None
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    licence: str
    note: str
    hub_id: str | None = None
    hub_config: str | None = None
    revision: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    label_range: tuple[float, float] | None = None
    near_duplicates: tuple[str, ...] = ()
    size: Size | None = None

    @property
    def name(self) -> str:
        """`suite/task`, as it is written in configs, records and paths."""
        return f"{self.suite}/{self.task}"

    @property
    def regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read: text, pair where there is one, label."""
        return tuple(name for name in (self.text, self.pair, self.label) if name is not None)


def _glue(
    task: str,
    text: str,
    pair: str | None,
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    licence: str,
    note: str,
    size: Size,
    *,
    validation_split: str = "validation",
    label_range: tuple[float, float] | None = None,
    near_duplicates: tuple[str, ...] = (),
) -> TaskSpec:
    return TaskSpec(
        suite="glue",
        task=task,
        text=text,
        pair=pair,
        label="label",
        labels=labels,
        metrics=metrics,
        licence=licence,
        note=f"{note}; in GLUE (Wang et al., ICLR 2019, arXiv 1804.07461)",
        hub_id=GLUE_ID,
        hub_config=task,
        revision=GLUE_REVISION,
        validation_split=validation_split,
        label_range=label_range,
        near_duplicates=near_duplicates,
        size=size,
    )


_ENTAILMENT = ("entailment", "not_entailment")

_SPECS = (
    _glue(
        "cola",
        "sentence",
        None,
        ("unacceptable", "acceptable"),
        ("matthews", "accuracy"),
        "none stated; sentences quoted from published linguistics literature",
        "CoLA: Warstadt, Singh, Bowman, TACL 2019, arXiv 1805.12471",
        Size(8551, 1043, 11.3),
    ),
    _glue(
        "sst2",
        "sentence",
        None,
        ("negative", "positive"),
        ("accuracy",),
        "none stated",
        "SST-2: Socher et al., EMNLP 2013",
        Size(67349, 872, 13.3),
    ),
    _glue(
        "mrpc",
        "sentence1",
        "sentence2",
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
        "Microsoft Research licence",
        "MRPC: Dolan and Brockett, IWP 2005",
        Size(3668, 408, 53.3),
    ),
    _glue(
        "qqp",
        "question1",
        "question2",
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        "Quora terms, non-commercial use",
        "QQP: Quora Question Pairs, 2017",
        Size(363846, 40430, 31.0),
    ),
    _glue(
        "stsb",
        "sentence1",
        "sentence2",
        (),
        ("pearson", "spearman"),
        "scores CC BY-SA 4.0, each text source its own terms",
        "STS-B: Cer et al., SemEval 2017, arXiv 1708.00055",
        Size(5749, 1500, 27.8),
        label_range=(0.0, 5.0),
    ),
    _glue(
        "mnli",
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        "OANC, CC BY 3.0 and CC BY-SA 3.0, by text source",
        "MultiNLI, matched validation: Williams, Nangia, Bowman, NAACL 2018, arXiv 1704.05426",
        Size(392702, 9815, 40.0),
        validation_split="validation_matched",
    ),
    _glue(
        "qnli",
        "question",
        "sentence",
        _ENTAILMENT,
        ("accuracy",),
        "CC BY-SA 4.0",
        "QNLI: Rajpurkar et al., EMNLP 2016, arXiv 1606.05250, recast by GLUE",
        Size(104743, 5463, 50.0),
    ),
    _glue(
        "rte",
        "sentence1",
        "sentence2",
        _ENTAILMENT,
        ("accuracy",),
        "none stated",
        "RTE: Dagan et al. 2005; Bar-Haim et al. 2006; Giampiccolo et al. 2007; "
        "Bentivogli et al. 2009",
        Size(2490, 277, 65.8),
        near_duplicates=("superglue/rte",),
    ),
    _glue(
        "wnli",
        "sentence1",
        "sentence2",
        ("not_entailment", "entailment"),
        ("accuracy",),
        "CC BY 4.0 (Winograd schemas)",
        "WNLI: Levesque, Davis, Morgenstern, KR 2012, recast by GLUE",
        Size(635, 71, 37.1),
        near_duplicates=("superglue/wsc",),
    ),
    TaskSpec(
        suite="embedded",
        task="sentiment",
        text="text",
        pair=None,
        label="label",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        licence="that of xpeft",
        note="generated by xpeft.data.embedded",
    ),
    TaskSpec(
        suite="embedded",
        task="entailment",
        text="premise",
        pair="hypothesis",
        label="label",
        labels=_ENTAILMENT,
        metrics=("accuracy",),
        licence="that of xpeft",
        note="generated by xpeft.data.embedded",
    ),
)

TASKS: dict[tuple[str, str], TaskSpec] = {(spec.suite, spec.task): spec for spec in _SPECS}
"""All tasks, by (suite, task)."""


def get_task(suite: str, task: str) -> TaskSpec:
    """The spec of a task.

    Raises:
        DataError: suite or task is unknown; the message names those that are known.
    """
    if (suite, task) in TASKS:
        return TASKS[suite, task]
    known = [spec.task for spec in _SPECS if spec.suite == suite]
    if not known:
        suites = ", ".join(sorted({spec.suite for spec in _SPECS}))
        raise DataError(f"task {suite}/{task}: unknown suite {suite!r}; known suites: {suites}")
    raise DataError(
        f"task {suite}/{task}: unknown task {task!r}; known tasks of {suite}: {', '.join(known)}"
    )


def near_duplicates(name: str) -> tuple[str, ...]:
    """The tasks, as `suite/task`, that are near-duplicates of this one."""
    own = {other for spec in _SPECS if spec.name == name for other in spec.near_duplicates}
    return tuple(sorted(own | {spec.name for spec in _SPECS if name in spec.near_duplicates}))
