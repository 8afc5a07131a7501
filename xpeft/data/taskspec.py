"""What a task is: its columns, labels, metrics, origin and licence, declared and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal


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
        text: column of the (first) text. Where the task has a `form`, a template over what the
            form gives, as in `{question} {answer}`.
        pair: the same of the second text; None for single-sentence tasks.
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
        form: name in `xpeft.data.forms.FORMS` of how a source row becomes the rows that are
            classified; None where a source row is such a row.
        answers: of a task whose rows are the candidate answers of questions, how many of a
            question are taken: `many`, each row by its own class, or `one`, the row with the
            highest score. None where a row is a question.
        official: folder of the task in the official distribution of the suite, whose files are
            read too; None where that has another form.
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
    form: str | None = None
    answers: Literal["many", "one"] | None = None
    official: str | None = None

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
        """The columns that are read of a task without a form: text, pair, label."""
        return tuple(name for name in (self.text, self.pair, self.label) if name is not None)

    @property
    def fields(self) -> tuple[str, ...]:
        """What the templates of a task with a form name, in their order."""
        parts = Formatter().parse(f"{self.text} {self.pair or ''}")
        return tuple(dict.fromkeys(name for _, name, _, _ in parts if name))


@dataclass(frozen=True)
class Suite:
    """Tasks of one origin: what all of its specs share.

    Attributes:
        name: of the suite, a folder name in the local layout and in results.
        hub_id: its data set on the hub, with a configuration for each task.
        revision: pinned commit of it, one that holds Parquet files and no loading script.
        paper: the benchmark's own, for the note of each task.
        form: of its tasks, where they do not have another.
    """

    name: str
    hub_id: str
    revision: str
    paper: str
    form: str | None = None

    def task(self, task: str, *, note: str, **fields: Any) -> TaskSpec:
        """A spec of the suite; `fields` are further ones of `TaskSpec`."""
        shared = {"label": "label", "form": self.form, "hub_config": task}
        return TaskSpec(
            suite=self.name,
            task=task,
            note=f"{note}; in {self.paper}",
            hub_id=self.hub_id,
            revision=self.revision,
            **(shared | fields),
        )
