"""Statistics of scores, each named by what it varies.

Two kinds of spread are kept apart and never mixed:

    over seeds      train again with another seed, score on the same rows (t interval)
    over examples   keep the trained model, draw the validation rows again (bootstrap)

The first answers "would I get this number again?", the second "would other sentences give it?".
A method is compared with another on the same tasks and seeds, by the differences (`paired`).
"Not significantly different" is never concluded: a method is *not worse* only where a test of
non-inferiority, with a margin stated before, says so.

Scores here are fractions and correlations as in records; the report multiplies by 100 ("points").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
"""Confidence of every two-sided interval."""

ALPHA = (1 - LEVEL) / 2
"""Level of every one-sided test: it rejects just where the interval at LEVEL excludes the bound."""

_TINY = 1e-12  # differences of equal scores, in float64

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean of repeated measurements and what is known about it.

    Attributes:
        mean: arithmetic mean.
        sd: standard deviation with n - 1; None for one measurement.
        low, high: two-sided t interval of the mean at LEVEL; None for one measurement.
        n: number of measurements.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


def over_seeds(scores: Sequence[float]) -> Spread:
    """Mean and 95 % t interval over seeds: mean -+ t(0.975, n - 1) sd / sqrt(n).

    With one seed the spread is unknown, not zero: sd, low and high are None.
    """
    values = _values(scores)
    mean, n = math.fsum(values) / len(values), len(values)
    if n == 1:
        return Spread(mean, None, None, None, 1)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _t_quantile(0.5 + LEVEL / 2, n - 1) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


def over_examples(
    confusion: Sequence[Sequence[int]], metric: str, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of one model's score over its validation examples.

    A classification metric depends on the rows only through the confusion matrix, so drawing
    rows with replacement is one multinomial draw of the matrix. Regression has no matrix, and
    the record holds no labels: no interval.

    Args:
        confusion: [true][predicted] counts.
        metric: accuracy, f1, macro_f1 or matthews.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        (low, high), or None for a metric that a confusion matrix does not give.
    """
    function = _FROM_CONFUSION.get(metric)
    counts = np.asarray(confusion, dtype=np.float64)
    rows = counts.sum()
    if function is None or not rows:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(int(rows), (counts / rows).ravel(), size=draws)
    scores = function(drawn.reshape(draws, *counts.shape).astype(np.float64))
    return percentiles(scores)


def over_questions(
    above: Sequence[float], below: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The same where rows are answers of questions: whole questions are drawn.

    Args:
        above, below: what each question adds to the two sums whose ratio is the score.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        (low, high) of the 95 % percentile interval.
    """
    sums = np.array([above, below], dtype=np.float64)
    count = sums.shape[1]
    rng = np.random.default_rng(seed)
    drawn = np.array([sums[:, rng.integers(count, size=count)].sum(axis=1) for _ in range(draws)])
    return percentiles(ratio(drawn[:, 0], drawn[:, 1]))


def percentiles(drawn: Array) -> tuple[float, float]:
    """(low, high): the middle LEVEL of the statistics [draws] of a bootstrap."""
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def from_confusion(confusion: Sequence[Sequence[int]]) -> dict[str, float]:
    """The scores that a confusion matrix gives by itself: accuracy, f1, macro_f1, matthews.

    Args:
        confusion: [true][predicted] counts; f1, of class 1, is there for two classes alone.
    """
    counts = np.asarray(confusion, dtype=np.float64)[None]
    names = [name for name in _FROM_CONFUSION if name != "f1" or counts.shape[1] == 2]
    return {name: float(_FROM_CONFUSION[name](counts)[0]) for name in names}


@dataclass(frozen=True)
class Difference:
    """Mean difference left - right over tasks and seeds that both have.

    Tasks count equally and are taken as given; the uncertainty is that of training again with
    other seeds on these tasks. Task means have variance s_t^2 / n_t; their mean over T tasks has
    standard error sqrt(sum s_t^2 / n_t) / T with Welch-Satterthwaite degrees of freedom. For one
    task this is the paired t test.

    Attributes:
        mean: of the task means.
        low, high: two-sided interval at LEVEL; None where a task has one seed only, or where no
            task shows any spread.
        error: standard error; None likewise.
        df: degrees of freedom; 0 where the error is unknown.
        tasks: mean difference of each task.
        seeds: how many seeds each task has.
        sds: standard deviation over seeds of each task's differences, where it is known; empty
            for profiles.
    """

    mean: float
    low: float | None
    high: float | None
    error: float | None
    df: float
    tasks: dict[str, float]
    seeds: dict[str, int]
    sds: dict[str, float] = field(default_factory=dict)

    @property
    def in_points(self) -> tuple[float, float | None, float | None]:
        """`mean`, `low` and `high` of scores in points, hundredths."""
        low, high = (None if end is None else 100 * end for end in (self.low, self.high))
        return 100 * self.mean, low, high


def paired(
    left: Mapping[str, Mapping[int, float]], right: Mapping[str, Mapping[int, float]]
) -> Difference | None:
    """Compare two methods on their shared tasks, paired by seed.

    Args:
        left, right: score by task and seed. Tasks and seeds that only one side has are left out.

    Returns:
        The difference, or None if nothing is shared.
    """
    means: dict[str, float] = {}
    seeds: dict[str, int] = {}
    sds: dict[str, float] = {}
    parts: list[tuple[float, int]] = []  # variance of a task's mean, its degrees of freedom
    for task in left:
        shared = sorted(set(left[task]) & set(right.get(task, {})))
        if not shared:
            continue
        spread = over_seeds([left[task][seed] - right[task][seed] for seed in shared])
        means[task], seeds[task] = spread.mean, spread.n
        if spread.sd is not None:
            sds[task] = spread.sd
            parts.append((spread.sd**2 / spread.n, spread.n - 1))
    if not means:
        return None
    mean = math.fsum(means.values()) / len(means)
    if len(parts) < len(means):
        return Difference(mean, None, None, None, 0.0, means, seeds, sds)
    total = math.fsum(variance for variance, _ in parts)
    error = math.sqrt(total) / len(means)
    if error < _TINY:  # the same difference with every seed is no proof that it has no spread
        return Difference(mean, None, None, None, 0.0, means, seeds, sds)
    df = total**2 / math.fsum(variance**2 / free for variance, free in parts)
    half = _t_quantile(0.5 + LEVEL / 2, df) * error
    return Difference(mean, mean - half, mean + half, error, df, means, seeds, sds)


def paired_profiles(left: Mapping[str, Array], right: Mapping[str, Array]) -> Difference | None:
    """Compare two methods on the profiles of their shared cohorts, paired by profile and seed.

    Both spreads count: other people of the same population, and training again. A cohort's mean
    has variance v_P / P + v_S / S, with v_P that of its P profiles (means over seeds) and v_S that
    of its S seeds (means over profiles); what a profile and a seed do to each other counts in both,
    which makes the interval wider. Profiles are taken as independent: that those of a fold share
    their donors, and may share texts, is not counted, which makes it narrower. With one seed only
    profiles count.

    Args:
        left, right: [S, P] scores by cohort; the same seeds and profiles in the same order.

    Returns:
        The difference, or None if no cohort is shared.
    """
    means: dict[str, float] = {}
    seeds: dict[str, int] = {}
    parts: list[tuple[float, int]] = []
    for cohort in left:
        if cohort not in right:
            continue
        gaps = np.asarray(left[cohort], dtype=np.float64) - np.asarray(right[cohort])
        means[cohort], seeds[cohort] = float(gaps.mean()), len(gaps)
        for axis, count in ((0, gaps.shape[1]), (1, gaps.shape[0])):
            if count > 1:
                variance = float(gaps.mean(axis=axis).var(ddof=1))
                parts.append((variance / count, count - 1))
    if not means:
        return None
    mean = math.fsum(means.values()) / len(means)
    total = math.fsum(variance for variance, _ in parts)
    error = math.sqrt(total) / len(means)
    if error < _TINY:
        return Difference(mean, None, None, None, 0.0, means, seeds)
    df = total**2 / math.fsum(variance**2 / free for variance, free in parts)
    half = _t_quantile(0.5 + LEVEL / 2, df) * error
    return Difference(mean, mean - half, mean + half, error, df, means, seeds)


@dataclass(frozen=True)
class ProfileSpread:
    """How a difference is spread over profiles, each one's mean over seeds.

    Attributes:
        mean: over profiles.
        low, high: bootstrap interval (BCa) over profiles at LEVEL; None where all are alike.
        wins, ties, losses: profiles with a positive, no, or a negative difference.
        p_value: Wilcoxon's signed-rank test of no difference, two-sided; None without any.
    """

    mean: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    p_value: float | None


def over_profiles(left: Array, right: Array, *, draws: int = 2000, seed: int = 0) -> ProfileSpread:
    """Left minus right of P profiles, [S, P] scores each, means over seeds."""
    from scipy.stats import bootstrap, wilcoxon

    # rounded, so that equal differences of shares are ties and not an accident of the last bit
    gaps = np.round((np.asarray(left, dtype=np.float64) - np.asarray(right)).mean(axis=0), 12)
    low = high = p_value = None
    if len(gaps) > 1 and np.ptp(gaps) > 0:
        found = bootstrap(
            (gaps,),
            np.mean,
            n_resamples=draws,
            confidence_level=LEVEL,
            rng=np.random.default_rng(seed),
        )
        low, high = (float(end) for end in found.confidence_interval)
    if gaps.any():
        p_value = float(wilcoxon(gaps).pvalue)
    return ProfileSpread(
        mean=float(gaps.mean()),
        low=low,
        high=high,
        wins=int((gaps > 0).sum()),
        ties=int((gaps == 0).sum()),
        losses=int((gaps < 0).sum()),
        p_value=p_value,
    )


@dataclass(frozen=True)
class Test:
    """A one-sided test of a difference against a bound, both ways.

    Attributes:
        p_above: p-value of "the difference is at most the bound"; small speaks for above.
        p_below: p-value of "the difference is at least the bound"; small speaks for below.
    """

    p_above: float
    p_below: float


def against(difference: Difference, bound: float) -> Test | None:
    """Test a difference against a bound with a t test; None where the error is unknown."""
    if difference.error is None:
        return None
    gap = difference.mean - bound
    from scipy.stats import t

    value = gap / difference.error
    return Test(float(t.sf(value, difference.df)), float(t.cdf(value, difference.df)))


def equivalent(difference: Difference, margin: float) -> float | None:
    """Two one-sided tests (TOST): p-value of "they differ by at least `margin`"."""
    lower, upper = against(difference, -abs(margin)), against(difference, abs(margin))
    if lower is None or upper is None:
        return None
    return max(lower.p_above, upper.p_below)


POWER = 0.8
"""Probability with which a design should find what is there."""


def detectable(difference: Difference) -> float | None:
    """The smallest true difference that this test finds with a probability of POWER.

    By the noncentral t distribution, with the error and degrees of freedom that were seen: what a
    one-sided test at ALPHA could have told from its bound. So it is also the smallest margin for
    which equal methods would have been found not worse. None where the error is unknown.
    """
    if difference.error is None:
        return None
    from scipy.optimize import brentq
    from scipy.stats import nct

    error, df = difference.error, difference.df
    critical = _t_quantile(1 - ALPHA, df)

    def missed(ratio: float) -> float:
        return float(nct.sf(critical, df, ratio)) - POWER

    return error * float(brentq(missed, 0.0, 100.0 + 2 * critical))


def seeds_needed(sds: Mapping[str, float], margin: float, *, most: int = 1000) -> int | None:
    """Seeds a task with which two equal methods would be found not worse by `margin`.

    Planned as `paired` tests, with POWER, from standard deviations of a task's paired differences;
    with three seeds these are known to a factor of two at best.

    Args:
        sds: standard deviation of each task.
        margin: in the unit of the scores, positive.
        most: the largest number looked at.

    Returns:
        The number, at least 2, or None for more than `most` or without any spread.
    """
    squares = [sd**2 for sd in sds.values()]
    total = math.fsum(squares)
    if not total:
        return None
    from scipy.stats import nct

    for n in range(2, most + 1):
        error = math.sqrt(total / n) / len(squares)
        df = total**2 * (n - 1) / math.fsum(square**2 for square in squares)
        if nct.sf(_t_quantile(1 - ALPHA, df), df, margin / error) >= POWER:
            return n
    return None


@dataclass(frozen=True)
class Components:
    """Two spreads of one score: within groups (training seeds) and between them (draws of a bank).

    Attributes:
        means: of each group.
        within: pooled standard deviation within a group.
        between: standard deviation of the groups' true means: what their means vary by beyond what
            `within` makes them vary; 0 where that is nothing.
        p_value: that all groups have one mean (one-way analysis of variance).
    """

    means: list[float]
    within: float
    between: float
    p_value: float


def components(groups: Sequence[Sequence[float]]) -> Components | None:
    """Take a spread apart, by a one-way layout of random effects (method of moments).

    Args:
        groups: scores of each group, equally many.

    Returns:
        The two spreads, or None of fewer than two groups or scores a group, or where no score
        varies within its group.
    """
    from scipy.stats import f_oneway

    scores = np.array([_values(group) for group in groups])
    if len(scores) < 2 or scores.shape[1] < 2:
        return None
    means = scores.mean(axis=1)
    within = float(scores.var(axis=1, ddof=1).mean())
    if math.sqrt(within) < _TINY:
        return None
    between = float(means.var(ddof=1)) - within / scores.shape[1]
    return Components(
        means.tolist(),
        math.sqrt(within),
        math.sqrt(max(between, 0.0)),
        float(f_oneway(*scores).pvalue),
    )


@dataclass(frozen=True)
class Interval:
    """A statistic with the ends of its interval at LEVEL."""

    value: float
    low: float
    high: float


def iqm(
    gaps: Mapping[str, Sequence[float]], *, draws: int = 2000, seed: int = 0
) -> Interval | None:
    """Interquartile mean over all runs of all tasks, with a bootstrap stratified by task.

    The mean of the middle half of the runs (task x seed): less swayed by one odd task than the
    mean, less wasteful than the median (Agarwal et al., NeurIPS 2021, arXiv 2108.13264). Tasks
    count the same, whatever their numbers of seeds (ours). The interval draws the seeds of each
    task again, with replacement; the tasks are taken as given, and so is the yardstick. With few
    seeds it is too narrow: of three a task it holds the true value some four times in five.

    Args:
        gaps: [S] values of each task, on one scale, as differences to a yardstick are.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        None without runs, or where no task has a second seed.
    """
    columns = [np.asarray(values, dtype=np.float64) for values in gaps.values() if len(values)]
    if not columns or max(map(len, columns)) < 2:
        return None
    weights = np.concatenate([np.full(len(c), 1 / len(c) / len(columns)) for c in columns])
    means = _middle(np.concatenate(_redrawn(columns, draws, seed), axis=1), weights)
    value = _middle(np.concatenate(columns)[None], weights)
    return Interval(float(value[0]), *percentiles(means))


def _middle(values: Array, weights: Array) -> Array:
    """Mean of the middle half of the mass: values [draws, R] with weights [R] of sum 1; [draws]."""
    order = np.argsort(values, axis=1)
    above = np.cumsum(weights[order], axis=1)
    below = above - weights[order]
    inside = np.clip(np.minimum(above, 0.75) - np.maximum(below, 0.25), 0, None)
    found: Array = (np.take_along_axis(values, order, axis=1) * inside).sum(axis=1) / 0.5
    return found


def performance_profile(
    gaps: Mapping[str, Sequence[float]], at: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> list[Interval]:
    """Share of the runs (task x seed) that reach each value of `at`, tasks counting the same.

    With the same bootstrap as `iqm`: an interval at each value, not for the curve as a whole.
    """
    points = np.asarray(at, dtype=np.float64)
    columns = [np.asarray(values, dtype=np.float64) for values in gaps.values() if len(values)]
    if not columns:
        return []

    def shares(values: Array) -> Array:
        found: Array = (values[..., None] >= points).mean(axis=-2)
        return found

    drawn = np.mean([shares(values) for values in _redrawn(columns, draws, seed)], axis=0)
    value = np.mean([shares(values) for values in columns], axis=0)
    return [
        Interval(float(share), *percentiles(of)) for share, of in zip(value, drawn.T, strict=True)
    ]


def _redrawn(columns: Sequence[Array], draws: int, seed: int) -> list[Array]:
    """Each task's S runs drawn again with replacement, [draws, S]."""
    rng = np.random.default_rng(seed)
    return [values[rng.integers(len(values), size=(draws, len(values)))] for values in columns]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values: each may be compared with ALPHA, jointly."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _values(scores: Sequence[float]) -> list[float]:
    values = [float(score) for score in scores]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"found {values}, expected at least one score, all finite")
    return values


def _t_quantile(probability: float, df: float) -> float:
    from scipy.stats import t

    return float(t.ppf(probability, df))


def confusion_scores(counts: Array, metric: str) -> Array:
    """The scores of many confusion matrices [draws, true, predicted] at once, [draws].

    Raises:
        ValueError: a confusion matrix does not give this metric.
    """
    if metric not in _FROM_CONFUSION:
        raise ValueError(f"found metric {metric!r}, expected one of {', '.join(_FROM_CONFUSION)}")
    found: Array = _FROM_CONFUSION[metric](counts)
    return found


def _accuracy(counts: Array) -> Array:
    """[draws, classes, classes] -> [draws], as the others below."""
    found: Array = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    return found


def _f1(counts: Array) -> Array:
    return _class_f1(counts)[:, 1]


def _macro_f1(counts: Array) -> Array:
    found: Array = _class_f1(counts).mean(axis=1)
    return found


def _class_f1(counts: Array) -> Array:
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2))


def _matthews(counts: Array) -> Array:
    rows = counts.sum(axis=(1, 2))
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    hits = np.trace(counts, axis1=1, axis2=2)
    covariance = hits * rows - (true * predicted).sum(axis=1)
    spread = (rows**2 - (true**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1))
    return ratio(covariance, np.sqrt(spread))


def ratio(above: Array, below: Array) -> Array:
    """above / below, 0 where below is 0: a prediction that says nothing."""
    found: Array = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found


_FROM_CONFUSION: dict[str, Any] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
}
