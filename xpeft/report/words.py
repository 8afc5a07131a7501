"""How things are called and how numbers are written, the same in figures, tables and the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xpeft.job import CHEAP_HEADS

TASK_TITLES = {
    "glue/cola": "CoLA",
    "glue/sst2": "SST-2",
    "glue/mrpc": "MRPC",
    "glue/qqp": "QQP",
    "glue/stsb": "STS-B",
    "glue/mnli": "MNLI",
    "glue/qnli": "QNLI",
    "glue/rte": "RTE",
    "glue/wnli": "WNLI",
    "superglue/boolq": "BoolQ",
    "superglue/cb": "CB",
    "superglue/copa": "COPA",
    "superglue/multirc": "MultiRC",
    "superglue/record": "ReCoRD",
    "superglue/rte": "RTE (SuperGLUE)",
    "superglue/wic": "WiC",
    "superglue/wsc": "WSC",
    "embedded/sentiment": "sentiment",
    "embedded/entailment": "entailment",
    "profiles/md_agreement": "MD-Agreement",
    "profiles/popquorn_offensiveness": "POPQUORN offensiveness",
    "profiles/huffpost": "HuffPost by-lines (LaMP-style, rebuilt)",
    "profiles/lamp_news_user": "LaMP news, split by user",
    "profiles/lamp_news_time": "LaMP news, split by time",
    "profiles/embedded_authors": "generated authors",
}

METRIC_TITLES = {
    "accuracy": "accuracy",
    "profile_accuracy": "accuracy, mean over profiles",
    "f1": "F1",
    "macro_f1": "macro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "f1a": "F1 over all answers (F1a)",
    "exact_match": "exact match of questions",
    "answer_f1": "F1 of the chosen answer",
    "answer_match": "exact match of the chosen answer",
}

TIER_TITLES = {
    "quick": "Quick tier: generated English sentences",
    "small": "Small tier: real tasks and people, a small real encoder",
    "paper": "Paper tier: real tasks, the paper's encoder",
    "people": "People tier: authors and annotators, the paper's encoder",
}

TIER_NOTES = {
    "quick": "Sentences made by a grammar that ships with the code, with a known best possible "
    "accuracy. It runs in minutes and shows that the machinery works; it says nothing about "
    "natural language.",
    "small": "Real tasks and people with a sentence encoder of six blocks, not the paper's BERT, "
    "and a few passes over the rows, at the better of a few rates. Validation sets are whole; of "
    "large tasks, and of each person, a part of the training rows is taken, as ARTIFACT.md says. "
    "Evidence about the method, at a smaller scale than the paper's.",
    "paper": "The scale that the paper describes.",
    "people": "LaMP's authors and other people, at the scale that the paper describes.",
}


METHOD_TITLES = {
    "head_only": "head only",
    "single_adapter": "adapter",
    "full": "full fine-tuning",
    "bitfit": "BitFit",
    "lora": "LoRA",
    "ia3": "(IA)\N{SUPERSCRIPT THREE}",
    "vera": "VeRA",
    "vblora": "VB-LoRA",
    "unilora": "UniLoRA (256)",
    "prompt_tuning": "prompt tuning",
}


def over_tasks(tasks: Sequence[str]) -> str:
    """What a mean is over: the tasks by name, or how many where they are more than three."""
    if len(tasks) > 3:
        return f"mean of {len(tasks)} tasks"
    return ", ".join(map(task_title, tasks))


def task_title(task: str) -> str:
    """A task as its authors write it."""
    return TASK_TITLES.get(task, task.split("/")[-1])


def metric_title(metric: str) -> str:
    """A metric in words."""
    return METRIC_TITLES.get(metric, metric.replace("_", " "))


def tier_title(tier: str) -> str:
    """A tier in words, saying what its data are."""
    return TIER_TITLES.get(tier, f"Tier {tier}")


def arm_title(arm: Mapping[str, Any]) -> str:
    """What an arm is, in few words: `hard masks, N=100, k=50`."""
    method = arm["method"]
    if arm.get("scope") == "cohort":
        words = [_model_of_all(arm)]
    elif method == "head_only" and arm.get("base") in ("head", "adapter"):
        words = [_head_on_base(arm)]
    elif method == "x_peft":
        words = [f"{arm['mask']} masks"]
        words += [f"{key}={arm[value]}" for key, value in (("N", "n"), ("k", "k")) if arm[value]]
        if arm["bank"] not in (None, "random"):
            words.append(f"{arm['bank']} bank")
        words += _base_head(arm)
    else:
        words = [METHOD_TITLES.get(method, method.replace("_", " "))]
        if method == "single_adapter" and arm.get("base") == "adapter":
            words = ["adapter from the donors'"]
        words += _base_head(arm)
    if arm["variant"]:
        words.append(arm["variant"])
    return ", ".join(words)


def short_title(arm: Mapping[str, Any]) -> str:
    """An arm of tasks as a label in a figure: `hard N=100`."""
    if arm["method"] != "x_peft":
        return arm_title(arm)
    words = [arm["mask"], f"N={arm['n']}"]
    if arm["bank"] not in (None, "random"):
        words.append(arm["bank"])
    return " ".join([*words, *_base_head(arm)])


def _model_of_all(arm: Mapping[str, Any]) -> str:
    """One model on the training rows of everybody."""
    if arm["method"] == "x_peft":
        return f"{arm['mask']} masks for all, N={arm['n']}"
    return {"head_only": "one head for all", "single_adapter": "one adapter for all"}[arm["method"]]


def _head_on_base(arm: Mapping[str, Any]) -> str:
    """A head, or its bias alone, on what donors leave."""
    if arm["head"] == "shared":
        return f"the donors' {arm['base']} as it is"
    own = "own bias" if arm["head"] == "shared+bias" else "own head"
    return f"{own} on the donors' {arm['base']}"


def _base_head(arm: Mapping[str, Any]) -> list[str]:
    """Where an arm on a base has its head from, or what kind of a cheap one it has."""
    if arm.get("head") in CHEAP_HEADS:
        return [f"{arm['head']} head"]
    if arm.get("base") not in ("head", "adapter"):
        return []
    words = {"shared": ["shared head"], "shared+bias": ["shared head, own bias"]}
    return words.get(arm["head"], ["own head from the donors'"])


def score(value: float | None) -> str:
    """A score in points (hundredths), one decimal: 82.9."""
    return "\N{EN DASH}" if value is None else minus(f"{100 * value:.1f}")


def loss_text(value: float | None) -> str:
    """A loss with three decimals; a dash for a trial that diverged."""
    return "\N{EN DASH}" if value is None else minus(f"{value:.3f}")


def signed(points: float) -> str:
    """A difference that is in points already, with its sign."""
    text = f"{points:+.1f}"
    return "0.0" if text[1:] == "0.0" else minus(text)


def points(value: float) -> str:
    """A margin in points: `1 point`, `0.5 points`."""
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def interval(low: float | None, high: float | None) -> str:
    """Ends of an interval of scores, in points; words where there is none."""
    if low is None or high is None:
        return "no interval"
    return f"{score(low)} to {score(high)}"


def ends(low: float | None, high: float | None) -> str:
    """Ends of an interval of a difference of scores (fractions), in points; words for none."""
    if low is None or high is None:
        return "no interval"
    return signed_ends(100 * low, 100 * high)


def signed_ends(low: float | None, high: float | None) -> str:
    """Ends of an interval of a difference that is in points already; words for none."""
    if low is None or high is None:
        return "no interval"
    return f"{signed(low)} to {signed(high)}"


def distinct(values: Iterable[Any]) -> str:
    """The different values, each once, in the order in which they come first."""
    return "; ".join(dict.fromkeys(map(str, values)))


def times(ratio: float) -> str:
    """A ratio; from 100 on without digits that say nothing: 11,468x, 77.0x."""
    sign = "\N{MULTIPLICATION SIGN}"
    return f"{ratio:,.0f}{sign}" if ratio >= 100 else f"{ratio:,.1f}{sign}"


def byte_count(value: int) -> str:
    """Bytes, exact: 3,578,112 B."""
    return f"{value:,} B"


def counted(number: int, what: str) -> str:
    """`1 task`, `6 tasks`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def duration(seconds: float) -> str:
    """A time as it is read: 41 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def p_value(value: float | None) -> str:
    """A p-value as it is printed: 0.03, < 0.001."""
    if value is None:
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def minus(text: str) -> str:
    """With a real minus sign, as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")
