"""Statistics against scipy, against values worked out by hand, and where they degenerate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from xpeft import stats
from xpeft.metrics import compute


def test_interval_over_seeds_by_hand() -> None:
    # mean 0.82, sd 0.02, t(0.975, 2) = 4.302653: half width 4.302653 * 0.02 / sqrt(3)
    spread = stats.over_seeds([0.80, 0.82, 0.84])
    assert spread.mean == pytest.approx(0.82)
    assert spread.sd == pytest.approx(0.02)
    assert spread.high == pytest.approx(0.82 + 0.049683, abs=1e-6)
    assert spread.low == pytest.approx(0.82 - 0.049683, abs=1e-6)
    assert spread.n == 3


def test_interval_over_seeds_is_that_of_scipy() -> None:
    scores = np.random.default_rng(0).normal(0.8, 0.02, 7)
    low, high = scipy_stats.t.interval(0.95, 6, scores.mean(), scipy_stats.sem(scores))
    spread = stats.over_seeds(scores.tolist())
    assert (spread.low, spread.high) == pytest.approx((low, high))


def test_one_seed_has_no_spread_rather_than_none_at_all() -> None:
    spread = stats.over_seeds([0.8])
    assert (spread.mean, spread.sd, spread.low, spread.high) == (0.8, None, None, None)
    with pytest.raises(ValueError, match="at least one score"):
        stats.over_seeds([])
    with pytest.raises(ValueError, match="all finite"):
        stats.over_seeds([0.1, math.nan])


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews"])
def test_metrics_from_a_confusion_matrix_are_those_of_the_rows(metric: str) -> None:
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    confusion = np.array(
        [[((labels == t) & (predictions == p)).sum() for p in (0, 1)] for t in (0, 1)], float
    )
    value = stats._FROM_CONFUSION[metric](confusion[None])[0]
    assert value == pytest.approx(compute([metric], predictions, labels)[metric])


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews"])
def test_constant_predictions_resample_without_a_warning(metric: str) -> None:
    with np.errstate(all="raise"):
        interval = stats.over_examples([[0, 5], [0, 15]], metric)
    assert interval is not None
    assert -1 <= interval[0] <= interval[1] <= 1


def test_bootstrap_over_examples_matches_the_binomial() -> None:
    interval = stats.over_examples([[400, 100], [100, 400]], "accuracy")
    assert interval is not None
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert interval == pytest.approx((0.8 - half, 0.8 + half), abs=0.004)
    assert interval == stats.over_examples([[400, 100], [100, 400]], "accuracy")
    assert stats.over_examples([[1]], "pearson") is None


def test_paired_difference_of_one_task_is_the_paired_t_test() -> None:
    left = [0.81, 0.80, 0.84, 0.79]
    right = [0.80, 0.81, 0.80, 0.77]
    found = stats.paired(
        {"sst2": dict(enumerate(left))}, {"sst2": dict(enumerate(right)), "cola": {0: 0.1}}
    )
    assert found is not None
    expected = scipy_stats.ttest_rel(left, right, alternative="greater")
    interval = scipy_stats.ttest_rel(left, right).confidence_interval()
    test = stats.against(found, 0.0)
    assert test is not None
    assert test.p_above == pytest.approx(expected.pvalue)
    assert test.p_below == pytest.approx(1 - expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.seeds == {"sst2": 4}


def test_paired_difference_over_two_tasks_by_hand() -> None:
    # Task a: differences 1, 2, 3 (mean 2, s^2 / n = 1/3); task b: -1, 1 (mean 0, s^2 / n = 1).
    left = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: -1.0, 1: 1.0}}
    right = {"a": {0: 0.0, 1: 0.0, 2: 0.0}, "b": {0: 0.0, 1: 0.0}}
    found = stats.paired(left, right)
    assert found is not None
    assert found.mean == pytest.approx(1.0)
    assert found.tasks == {"a": pytest.approx(2.0), "b": pytest.approx(0.0)}
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 1) / 2)
    assert found.df == pytest.approx((1 / 3 + 1) ** 2 / ((1 / 3) ** 2 / 2 + 1**2 / 1))


def test_pairing_uses_shared_seeds_only() -> None:
    found = stats.paired({"a": {0: 0.5, 1: 0.6}}, {"a": {1: 0.5, 2: 0.0}})
    assert found is not None
    assert found.seeds == {"a": 1}
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.error) == (None, None)
    assert stats.against(found, 0.0) is None
    assert stats.paired({"a": {0: 0.5}}, {"a": {1: 0.5}}) is None


def test_non_inferiority_needs_the_margin_outside_the_interval() -> None:
    right = {"a": {0: 0.80, 1: 0.81, 2: 0.79, 3: 0.80}}
    near = {"a": {seed: score - 0.002 + 0.001 * (-1) ** seed for seed, score in right["a"].items()}}
    far = {"a": {seed: score - 0.03 + 0.001 * (-1) ** seed for seed, score in right["a"].items()}}
    noisy = {"a": {seed: score + 0.03 * (-1) ** seed for seed, score in right["a"].items()}}

    def tested(left: dict[str, dict[int, float]]) -> stats.Test:
        difference = stats.paired(left, right)
        assert difference is not None
        test = stats.against(difference, -0.01)
        assert test is not None
        return test

    assert tested(near).p_above < stats.ALPHA  # a small loss, known well: not worse by the margin
    assert tested(far).p_below < stats.ALPHA  # a loss beyond the margin
    assert tested(noisy).p_above > stats.ALPHA  # no loss seen, but too little known: no conclusion
    assert tested(noisy).p_below > stats.ALPHA


def test_equivalence_is_two_one_sided_tests() -> None:
    difference = stats.paired(
        {"a": {0: 0.001, 1: -0.001, 2: 0.002}}, {"a": dict.fromkeys(range(3), 0.0)}
    )
    assert difference is not None
    lower = scipy_stats.ttest_1samp([0.001, -0.001, 0.002], -0.01, alternative="greater").pvalue
    upper = scipy_stats.ttest_1samp([0.001, -0.001, 0.002], 0.01, alternative="less").pvalue
    assert stats.equivalent(difference, 0.01) == pytest.approx(max(lower, upper))


def test_differences_that_never_vary_decide_nothing() -> None:
    """Three equal differences are no proof that the next seed gives the same one."""
    for left in (0.5, 0.9):
        difference = stats.paired({"a": {0: left, 1: left}}, {"a": {0: 0.5, 1: 0.5}})
        assert difference is not None
        assert difference.mean == pytest.approx(left - 0.5)
        assert (difference.low, difference.high, difference.error) == (None, None, None)
        assert stats.against(difference, 0.0) is None
        assert stats.equivalent(difference, 0.01) is None


def test_holm_by_hand() -> None:
    assert stats.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": pytest.approx(0.06),
    }
    assert stats.holm({}) == {}


def test_profiles_and_seeds_both_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(0.03, 0.1, size=60)
    runs = rng.normal(0.0, 0.02, size=5)
    left = 0.7 + people[None, :] + runs[:, None]
    right = np.full((5, 60), 0.7)
    found = stats.paired_profiles({"c": left}, {"c": right})
    assert found is not None and found.error is not None
    expected = math.sqrt(people.var(ddof=1) / 60 + runs.var(ddof=1) / 5)
    assert found.error == pytest.approx(expected)
    assert found.mean == pytest.approx(people.mean() + runs.mean())
    assert found.low is not None and found.low < found.mean
    one = stats.paired_profiles({"c": left[:1]}, {"c": right[:1]})
    assert one is not None and one.error == pytest.approx(people.std(ddof=1) / math.sqrt(60))
    assert one.df == pytest.approx(59)


def test_profile_differences_without_spread_or_company() -> None:
    same = {"c": np.full((3, 4), 0.5)}
    found = stats.paired_profiles(same, same)
    assert found is not None and (found.mean, found.low, found.error) == (0.0, None, None)
    assert stats.paired_profiles(same, {"d": np.zeros((3, 4))}) is None


def test_a_spread_over_profiles_counts_wins_and_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    left = rng.random((5, 40))
    right = left - 0.05
    right[:, :10] = left[:, :10]
    right[:, 10:15] += 0.2
    found = stats.over_profiles(left, right)
    assert (found.wins, found.ties, found.losses) == (25, 10, 5)
    assert found.mean == pytest.approx((25 * 0.05 - 5 * 0.15) / 40)
    assert found.low is not None and found.high is not None
    assert found.low < found.mean < found.high
    from scipy.stats import wilcoxon

    gaps = np.repeat([0.05, 0.0, -0.15], [25, 10, 5])
    assert found.p_value == pytest.approx(wilcoxon(gaps).pvalue)
    nothing = stats.over_profiles(left, left)
    assert (nothing.low, nothing.p_value, nothing.ties) == (None, None, 40)


def _rejections(effects: dict[str, float], sds: dict[str, float], n: int, margin: float) -> float:
    """Share of 4,000 simulated comparisons found not worse by `margin`, with n seeds a task."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(4000):
        left = {
            task: dict(enumerate(rng.normal(effect, sds[task], n)))
            for task, effect in effects.items()
        }
        right = {task: dict.fromkeys(range(n), 0.0) for task in effects}
        difference = stats.paired(left, right)
        assert difference is not None
        test = stats.against(difference, -margin)
        assert test is not None
        found += test.p_above < stats.ALPHA
    return found / 4000


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    error = 0.01 / math.sqrt(5)
    seen = stats.Difference(0.0, -1.0, 1.0, error, 4.0, {"a": 0.0}, {"a": 5})
    effect = stats.detectable(seen)
    assert effect is not None
    assert _rejections({"a": effect}, {"a": 0.01}, 5, 0.0) == pytest.approx(0.8, abs=0.02)
    unknown = stats.Difference(0.0, None, None, None, 0.0, {}, {})
    assert stats.detectable(unknown) is None


def test_seeds_needed_are_enough_and_no_more_than_that() -> None:
    sds = {"a": 0.006, "b": 0.012}
    n = stats.seeds_needed(sds, 0.01)
    assert n is not None
    assert n > 2
    equal = dict.fromkeys(sds, 0.0)
    assert _rejections(equal, sds, n, 0.01) > 0.78
    assert _rejections(equal, sds, n - 1, 0.01) < 0.8
    assert stats.seeds_needed(sds, 1e-6, most=50) is None
    assert stats.seeds_needed({"a": 0.0}, 0.01) is None


def test_interquartile_mean_is_that_of_scipy_over_all_runs() -> None:
    gaps = {"a": [-0.30, 0.01, 0.02, 0.04], "b": [0.00, -0.01, 0.03, 0.05]}
    found = stats.iqm(gaps)
    assert found is not None
    runs = [*gaps["a"], *gaps["b"]]
    assert found.value == pytest.approx(scipy_stats.trim_mean(runs, 0.25))
    assert found.low <= found.value <= found.high
    assert found == stats.iqm(gaps)
    assert stats.iqm({"a": [0.1], "b": [0.2]}) is None
    assert stats.iqm({}) is None


def test_a_task_with_more_seeds_weighs_no_more_in_the_interquartile_mean() -> None:
    few = stats.iqm({"a": [-0.3, 0.01, 0.02], "b": [0.0, -0.01, 0.03], "c": [0.1, 0.2, 0.1]})
    many = stats.iqm({"a": [-0.3, 0.01, 0.02], "b": [0.0, -0.01, 0.03] * 4, "c": [0.1, 0.2, 0.1]})
    assert few is not None and many is not None
    assert many.value == pytest.approx(few.value)
    by_hand = stats.iqm({"a": [0.0], "b": [0.1, 0.3]})  # of mass 1/2 and twice 1/4
    assert by_hand is not None and by_hand.value == pytest.approx((0.0 * 0.25 + 0.1 * 0.25) / 0.5)


def test_the_bootstrap_over_seeds_keeps_to_its_task() -> None:
    found = stats.iqm({"low": [0.0] * 3, "high": [1.0] * 3})
    assert found is not None
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)  # as no task has a spread


def test_performance_profile_by_hand() -> None:
    gaps = {"a": [-0.02, 0.0], "b": [-0.01, -0.01, -0.01, 0.01]}
    found = stats.performance_profile(gaps, [-0.02, -0.01, 0.0, 0.02])
    assert [share.value for share in found] == pytest.approx([1.0, 0.75, 0.375, 0.0])
    assert all(share.low <= share.value <= share.high for share in found)
    assert stats.performance_profile({}, [0.0]) == []


def test_the_bootstrap_of_few_seeds_is_as_narrow_as_the_report_says() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([0.0, -0.05, -0.1, -0.2])

    def coverage(seeds: int) -> float:
        held = []
        for _ in range(300):
            runs = centres[:, None] + rng.normal(0, 0.01, (4, seeds))
            found = stats.iqm({f"{i}": row for i, row in enumerate(runs.tolist())}, draws=300)
            assert found is not None
            held.append(found.low <= -0.075 <= found.high)  # the mean of the middle two
        return float(np.mean(held))

    assert 0.72 < coverage(3) < 0.88
    assert 0.80 < coverage(5) < 0.93


def test_components_are_found_again() -> None:
    rng = np.random.default_rng(0)
    draws, seeds, between, within = 400, 3, 0.03, 0.01
    scores = rng.normal(0, between, (draws, 1)) + rng.normal(0, within, (draws, seeds))
    found = stats.components(scores.tolist())
    assert found is not None
    assert found.between == pytest.approx(between, rel=0.1)
    assert found.within == pytest.approx(within, rel=0.1)
    assert found.p_value < 1e-6


def test_components_by_hand() -> None:
    found = stats.components([[0.1, 0.3], [0.5, 0.7]])  # F = 0.16 / 0.02 with 1 and 2 degrees
    assert found is not None
    assert found.means == pytest.approx([0.2, 0.6])
    assert found.within == pytest.approx(0.02**0.5)
    assert found.between == pytest.approx((0.08 - 0.01) ** 0.5)
    assert found.p_value == pytest.approx(0.1056, abs=1e-4)
    alike = stats.components([[0.1, 0.3], [0.3, 0.1]])
    assert alike is not None
    assert alike.between == 0


def test_components_need_groups_with_a_spread() -> None:
    assert stats.components([[0.1, 0.2]]) is None
    assert stats.components([[0.1], [0.2]]) is None
    assert stats.components([[0.1, 0.1], [0.2, 0.2]]) is None
