"""The eight tasks of SuperGLUE, declared over the forms of `xpeft.data.forms`.

Each is read in three forms without a change: the official JSON Lines files (`BoolQ/train.jsonl`,
`BoolQ/val.jsonl`, ...), the flattened columns of the hub's data set, and local files with those
columns. How the texts of a row are put together is `ours`: the benchmark fixes rows and metrics,
not the input of an encoder.
"""

from __future__ import annotations

from xpeft.data.taskspec import Size, Suite

SUITE = Suite(
    "superglue",
    hub_id="aps/super_glue",
    revision="3de24cf8022e94f4ee4b9d55a6f539891524d646",
    paper="SuperGLUE (Wang et al., NeurIPS 2019, arXiv 1905.00537)",
    form="row",
)

TRUTH = ("False", "True")
"""The labels of a row that is a statement or a candidate answer."""


SUPERGLUE = (
    SUITE.task(
        "boolq",
        official="BoolQ",
        text="{question}",
        pair="{passage}",
        labels=TRUTH,
        metrics=("accuracy",),
        licence="CC BY-SA 3.0",
        note="BoolQ: Clark et al., NAACL 2019, arXiv 1905.10044",
        size=Size(9427, 3270, 139.6),
    ),
    SUITE.task(
        "cb",
        official="CB",
        text="{premise}",
        pair="{hypothesis}",
        labels=("entailment", "contradiction", "neutral"),
        metrics=("macro_f1", "accuracy"),
        licence="none stated",
        note="CommitmentBank: de Marneffe, Simons, Tonhauser, Sinn und Bedeutung 2019",
        size=Size(250, 56, 83.3),
    ),
    SUITE.task(
        "copa",
        official="COPA",
        text="{premise} What was the {question} of this?",
        pair="{choice}",
        labels=TRUTH,
        metrics=("accuracy",),
        licence="BSD 2-Clause",
        note="COPA: Roemmele, Bejan, Gordon, AAAI Spring Symposium 2011",
        size=Size(800, 200, 24.2),
        form="choices",
        answers="one",
    ),
    SUITE.task(
        "multirc",
        official="MultiRC",
        text="{paragraph}",
        pair="{question} {answer}",
        labels=TRUTH,
        metrics=("f1a", "exact_match"),
        licence="research use, terms of the authors",
        note="MultiRC: Khashabi et al., NAACL 2018",
        size=Size(27243, 4848, 354.6),
        form="answers",
        answers="many",
    ),
    SUITE.task(
        "record",
        official="ReCoRD",
        text="{passage}",
        pair="{statement}",
        labels=TRUTH,
        metrics=("answer_f1", "answer_match"),
        licence="none stated; news texts of CNN and Daily Mail",
        note="ReCoRD: Zhang et al., 2018, arXiv 1810.12885",
        # 100,730 and 10,000 questions, of some 11.5 entities each; tokens are an estimate
        size=Size(1_160_000, 115_000, 280.0),
        form="entities",
        answers="one",
    ),
    SUITE.task(
        "rte",
        official="RTE",
        text="{premise}",
        pair="{hypothesis}",
        labels=("entailment", "not_entailment"),
        metrics=("accuracy",),
        licence="none stated",
        note="RTE: Dagan et al. 2005; Bar-Haim et al. 2006; Giampiccolo et al. 2007; "
        "Bentivogli et al. 2009",
        size=Size(2490, 277, 70.1),
    ),
    SUITE.task(
        "wic",
        official="WiC",
        text="{word}: {sentence1}",
        pair="{sentence2}",
        labels=TRUTH,
        metrics=("accuracy",),
        licence="CC BY-NC 4.0",
        note="WiC: Pilehvar and Camacho-Collados, NAACL 2019, arXiv 1808.09121",
        size=Size(5428, 638, 32.0),  # tokens are an estimate
        form="words",
    ),
    SUITE.task(
        "wsc",
        official="WSC",
        text="{text}",
        pair="{span2_text} refers to {span1_text}.",
        labels=TRUTH,
        metrics=("accuracy",),
        licence="CC BY 4.0",
        note="WSC: Levesque, Davis, Morgenstern, KR 2012",
        size=Size(554, 104, 39.7),
        form="spans",
    ),
)
"""The specs, in the benchmark's order."""
