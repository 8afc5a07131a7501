"""The eight tasks of SuperGLUE, declared over the forms of `xpeft.data.forms`.

Each is read in three forms without a change: the official JSON Lines files (`BoolQ/train.jsonl`,
`BoolQ/val.jsonl`, ...), the flattened columns of the hub's data set, and local files with those
columns. How the texts of a row are put together is `ours`: the benchmark fixes rows and metrics,
not the input of an encoder.
"""

from __future__ import annotations

from typing import Literal

from xpeft.data.taskspec import Size, TaskSpec

SUPERGLUE_ID = "aps/super_glue"
SUPERGLUE_REVISION = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
"""The commit of `aps/super_glue` that holds Parquet files and no loading script."""

TRUTH = ("False", "True")
"""The labels of a row that is a statement or a candidate answer."""


def _task(
    task: str,
    official: str,
    text: str,
    pair: str,
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    licence: str,
    note: str,
    size: Size,
    *,
    form: str = "row",
    answers: Literal["many", "one"] | None = None,
) -> TaskSpec:
    return TaskSpec(
        suite="superglue",
        task=task,
        text=text,
        pair=pair,
        label="label",
        labels=labels,
        metrics=metrics,
        licence=licence,
        note=f"{note}; in SuperGLUE (Wang et al., NeurIPS 2019, arXiv 1905.00537)",
        hub_id=SUPERGLUE_ID,
        hub_config=task,
        revision=SUPERGLUE_REVISION,
        size=size,
        form=form,
        answers=answers,
        official=official,
    )


SUPERGLUE = (
    _task(
        "boolq",
        "BoolQ",
        "{question}",
        "{passage}",
        TRUTH,
        ("accuracy",),
        "CC BY-SA 3.0",
        "BoolQ: Clark et al., NAACL 2019, arXiv 1905.10044",
        Size(9427, 3270, 139.6),
    ),
    _task(
        "cb",
        "CB",
        "{premise}",
        "{hypothesis}",
        ("entailment", "contradiction", "neutral"),
        ("macro_f1", "accuracy"),
        "none stated",
        "CommitmentBank: de Marneffe, Simons, Tonhauser, Sinn und Bedeutung 2019",
        Size(250, 56, 83.3),
    ),
    _task(
        "copa",
        "COPA",
        "{premise} What was the {question} of this?",
        "{choice}",
        TRUTH,
        ("accuracy",),
        "BSD 2-Clause",
        "COPA: Roemmele, Bejan, Gordon, AAAI Spring Symposium 2011",
        Size(800, 200, 24.2),
        form="choices",
        answers="one",
    ),
    _task(
        "multirc",
        "MultiRC",
        "{paragraph}",
        "{question} {answer}",
        TRUTH,
        ("f1a", "exact_match"),
        "research use, terms of the authors",
        "MultiRC: Khashabi et al., NAACL 2018",
        Size(27243, 4848, 354.6),
        form="answers",
        answers="many",
    ),
    _task(
        "record",
        "ReCoRD",
        "{passage}",
        "{statement}",
        TRUTH,
        ("answer_f1", "answer_match"),
        "none stated; news texts of CNN and Daily Mail",
        "ReCoRD: Zhang et al., 2018, arXiv 1810.12885",
        # 100,730 and 10,000 questions, of some 11.5 entities each; tokens are an estimate
        Size(1_160_000, 115_000, 280.0),
        form="entities",
        answers="one",
    ),
    _task(
        "rte",
        "RTE",
        "{premise}",
        "{hypothesis}",
        ("entailment", "not_entailment"),
        ("accuracy",),
        "none stated",
        "RTE: Dagan et al. 2005; Bar-Haim et al. 2006; Giampiccolo et al. 2007; "
        "Bentivogli et al. 2009",
        Size(2490, 277, 70.1),
    ),
    _task(
        "wic",
        "WiC",
        "{word}: {sentence1}",
        "{sentence2}",
        TRUTH,
        ("accuracy",),
        "CC BY-NC 4.0",
        "WiC: Pilehvar and Camacho-Collados, NAACL 2019, arXiv 1808.09121",
        Size(5428, 638, 32.0),  # tokens are an estimate
        form="words",
    ),
    _task(
        "wsc",
        "WSC",
        "{text}",
        "{span2_text} refers to {span1_text}.",
        TRUTH,
        ("accuracy",),
        "CC BY 4.0",
        "WSC: Levesque, Davis, Morgenstern, KR 2012",
        Size(554, 104, 39.7),
        form="spans",
    ),
)
"""The specs, in the benchmark's order."""
