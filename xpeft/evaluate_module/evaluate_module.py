"""`xpeft.metrics.compute` behind the interface of `evaluate`; the config name is suite/task."""

# evaluate reads the imports of this file line by line: one import a line, none in brackets.
from typing import Any

import datasets
import evaluate

from xpeft.data.specs import TASKS
from xpeft.data.specs import get_task
from xpeft.errors import ConfigError
from xpeft.metrics import compute

INPUTS = """predictions, references: one class code or number a row; where rows are answers of
questions, also questions: the number of each row's, and for answer_f1 credit: what it scores."""


class TaskMetrics(evaluate.Metric):  # type: ignore[misc]
    """The metrics of one task, the primary one first."""

    def _info(self) -> evaluate.MetricInfo:
        suite, separator, task = self.config_name.partition("/")
        if not separator:
            names = ", ".join(spec.name for spec in TASKS.values())
            raise ConfigError(
                f"evaluate module: found config name {self.config_name!r}, expected one of {names}"
            )
        self.spec = get_task(suite, task)
        value = datasets.Value("float64" if self.spec.regression else "int64")
        more = {}
        if self.spec.answers is not None:
            more["questions"] = datasets.Value("int64")
        if "answer_f1" in self.spec.metrics:
            more["credit"] = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=f"Metrics of {self.spec.name}: {', '.join(self.spec.metrics)}.",
            citation=self.spec.note,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": value, "references": value, **more}),
        )

    def _compute(
        self, predictions: Any, references: Any, questions: Any = None, credit: Any = None
    ) -> dict[str, float]:
        return compute(
            self.spec.metrics,
            predictions,
            references,
            num_labels=len(self.spec.labels) or None,
            questions=questions,
            credit=credit,
        )
