"""`xpeft.metrics.compute` behind the interface of `evaluate`; the config name is suite/task."""

# evaluate reads the imports of this file line by line: one import a line, none in brackets.
from typing import Any

import datasets
import evaluate

from xpeft.data.specs import TASKS
from xpeft.data.specs import get_task
from xpeft.errors import ConfigError
from xpeft.metrics import compute


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
        return evaluate.MetricInfo(
            description=f"Metrics of {self.spec.name}: {', '.join(self.spec.metrics)}.",
            citation=self.spec.note,
            inputs_description="predictions, references: one class code or number a row.",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return compute(
            self.spec.metrics,
            predictions,
            references,
            num_labels=len(self.spec.labels) or None,
        )
