"""Tests of significance against brute force, SciPy, plain loops and simulated data of known truth."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from keras_misa.experiments import holm, mcnemar, paired_bootstrap
from keras_misa.experiments.significance import majority_p

# === McNemar ===


def decisions(both, first_only, second_only, neither):
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    order = np.random.default_rng(0).permutation(len(first))
    return np.array(first, bool)[order], np.array(second, bool)[order]


@pytest.mark.parametrize("n", range(12))
def test_exact_against_every_way_to_throw_coins(n):
    """How many of the 2^n ways to deal out the discordant rows are at least as lopsided."""
    throws = [sum(throw) for throw in itertools.product((0, 1), repeat=n)]
    for b in range(n + 1):
        test = mcnemar(*decisions(3, b, n - b, 2))
        lopsided = np.mean([abs(heads - n / 2) >= abs(b - n / 2) for heads in throws])
        assert test["p"] == pytest.approx(lopsided)
        assert (test["method"], test["statistic"]) == ("exact", min(b, n - b))


@given(*[st.integers(0, 80)] * 4)
def test_mcnemar_against_scipy(both, first_only, second_only, neither):
    test = mcnemar(*decisions(both, first_only, second_only, neither))
    counts = [test[name] for name in ("both", "first_only", "second_only", "neither")]
    assert counts == [both, first_only, second_only, neither]
    n = first_only + second_only
    if n < 25:
        expected = stats.binomtest(first_only, n, 0.5).pvalue if n else 1.0
        assert test["method"] == "exact"
    else:
        statistic = max(0, abs(first_only - second_only) - 1) ** 2 / n
        expected = stats.chi2.sf(statistic, 1)
        assert (test["method"], test["statistic"]) == ("chi-square", pytest.approx(statistic))
    assert test["p"] == pytest.approx(expected, rel=1e-9)
    other_way = mcnemar(*decisions(both, second_only, first_only, neither))
    assert (other_way["p"], other_way["method"]) == (test["p"], test["method"])
    assert 0 <= test["p"] <= 1


@pytest.mark.parametrize(("b", "c", "method"), [(24, 0, "exact"), (12, 13, "chi-square"), (25, 0, "chi-square")])
def test_the_two_forms_meet_where_one_follows_the_other(b, c, method):
    test = mcnemar(*decisions(10, b, c, 10))
    assert test["method"] == method
    exact = stats.binomtest(b, b + c, 0.5).pvalue
    assert test["p"] == pytest.approx(exact, abs=0.01)


def test_models_that_never_differ():
    assert mcnemar([True, False], [True, False])["p"] == 1.0
    assert mcnemar(np.zeros(0, bool), np.zeros(0, bool))["p"] == 1.0
    assert mcnemar(*decisions(0, 30, 30, 0))["p"] == 1.0  # not the 0.9 of a correction beyond zero


def test_mcnemar_holds_its_level():
    """Models that err equally often: p < 0.05 in at most about 5 of 100 data sets, for either form."""
    rng = np.random.default_rng(0)
    for discordant in (20, 60):
        p = [mcnemar(*decisions(5, b, discordant - b, 5))["p"] for b in rng.binomial(discordant, 0.5, size=2000)]
        assert np.mean(np.array(p) < 0.05) <= 0.05


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 0], [True, False], r"`first_correct` must be \(rows,\) booleans\. Received: int64 of shape \(2,\)"),
        ([True], [[True]], r"`second_correct` must be \(rows,\) booleans\. Received: bool of shape \(1, 1\)"),
        ([True], [True, False], r"same rows\. Received: .*\(1,\), second_correct of shape \(2,\)"),
    ],
)
def test_mcnemar_errors(first, second, message):
    with pytest.raises(ValueError, match=message):
        mcnemar(first, second)


# === Bootstrap ===

METRICS = {
    "mae": lambda y, p: np.mean(np.abs(y - p)),
    "corr": lambda y, p: np.corrcoef(y, p)[0, 1],
}


def some_predictions(rows=30, seed=0):
    rng = np.random.default_rng(seed)
    y = np.round(rng.normal(0, 1.5, rows), 1)
    return y, y + rng.normal(0, 1.0, rows), 0.5 * y + rng.normal(0, 1.2, rows)


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_against_a_loop_over_the_same_rows(metric):
    y, first, second = some_predictions()
    test = paired_bootstrap(y, first, second, metric, samples=400, confidence=0.9, seed=7)
    of = METRICS[metric]
    drawn = np.random.default_rng(7).integers(30, size=(400, 30))
    differences = np.array([of(y[rows], first[rows]) - of(y[rows], second[rows]) for rows in drawn])
    assert test["first"] == pytest.approx(of(y, first))
    assert test["second"] == pytest.approx(of(y, second))
    assert test["difference"] == pytest.approx(of(y, first) - of(y, second))
    assert [test["low"], test["high"]] == pytest.approx(np.percentile(differences, [5, 95]))
    beyond = min(sum(d <= 0 for d in differences), sum(d >= 0 for d in differences))
    assert test["p"] == pytest.approx(min(1, 2 * (1 + beyond) / 401))
    assert test["undefined"] == 0


@pytest.mark.parametrize("metric", METRICS)
def test_whole_groups_are_drawn(metric):
    y, first, second = some_predictions()
    groups = np.array(list("cabbd") * 6)
    test = paired_bootstrap(y, first, second, metric, groups, samples=200, seed=3)
    members = [np.flatnonzero(groups == name) for name in "abcd"]
    differences = []
    for drawn in np.random.default_rng(3).integers(4, size=(200, 4)):
        rows = np.concatenate([members[g] for g in drawn])
        differences.append(METRICS[metric](y[rows], first[rows]) - METRICS[metric](y[rows], second[rows]))
    assert [test["low"], test["high"]] == pytest.approx(np.percentile(differences, [2.5, 97.5]))


def test_rows_that_repeat_each_other_are_no_evidence():
    """Ten copies of each row: rows make the interval √10 times too narrow, groups leave it what it was."""
    y, first, second = some_predictions(20)

    def width(test):
        return test["high"] - test["low"]

    once = width(paired_bootstrap(y, first, second))
    copies = [np.repeat(array, 10) for array in (y, first, second)]
    assert width(paired_bootstrap(*copies)) == pytest.approx(once / math.sqrt(10), rel=0.05)
    assert width(paired_bootstrap(*copies, groups=np.repeat(np.arange(20), 10))) == pytest.approx(once, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_over_runs_and_scores_counts(metric):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, 12))  # two scores
    first, second = rng.normal(size=(3, 2, 12)), rng.normal(size=(2, 12))  # three runs against one
    test = paired_bootstrap(y, first, second, metric, samples=50, seed=1)
    of = METRICS[metric]

    def mean(predictions, rows):
        return np.mean([of(y[s, rows], run[s, rows]) for run in predictions for s in range(2)])

    drawn = np.random.default_rng(1).integers(12, size=(50, 12))
    differences = [mean(first, rows) - mean(second[None], rows) for rows in drawn]
    assert test["difference"] == pytest.approx(mean(first, slice(None)) - mean(second[None], slice(None)))
    assert [test["low"], test["high"]] == pytest.approx(np.percentile(differences, [2.5, 97.5]))


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    y, first, second = some_predictions()
    whole = paired_bootstrap(y, first, second, "corr", samples=100)
    monkeypatch.setattr("keras_misa.experiments.significance.ELEMENTS_AT_A_TIME", 77)
    assert paired_bootstrap(y, first, second, "corr", samples=100) == pytest.approx(whole)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_the_truth_as_often_as_they_say(metric):
    """Simulated: the truth is that of a million rows; of 300 intervals of 90 % some 270 hold it (three sigma: 254)."""
    rng = np.random.default_rng(0)

    def draw(rows):
        y = rng.normal(size=rows)
        return y, y + rng.normal(0, 0.8, rows), y + rng.normal(0, 1.0, rows)

    y, first, second = draw(1_000_000)
    truth = METRICS[metric](y, first) - METRICS[metric](y, second)
    tests = [paired_bootstrap(*draw(120), metric, samples=300, confidence=0.9, seed=i) for i in range(300)]
    held = sum(test["low"] <= truth <= test["high"] for test in tests)
    assert 250 <= held <= 288


def test_equal_models_are_no_finding():
    rng = np.random.default_rng(0)
    y, noise = rng.normal(size=(300, 60)), rng.normal(size=(300, 2, 60))
    p = [paired_bootstrap(y[i], *(y[i] + noise[i]), samples=300)["p"] for i in range(300)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.09
    same = paired_bootstrap(y[0], noise[0, 0], noise[0, 0], samples=100)
    assert (same["difference"], same["low"], same["high"], same["p"]) == (0, 0, 0, 1)


def test_correlations_without_a_value():
    one_row = paired_bootstrap([1.0], [2.0], [3.0], "corr", samples=10)
    assert np.isnan([one_row[name] for name in ("first", "difference", "low", "high", "p")]).all()
    assert one_row["undefined"] == 10
    assert paired_bootstrap([1.0], [2.0], [3.5], "mae", samples=10)["high"] == pytest.approx(-1.5)
    constant = paired_bootstrap(np.arange(9.0), np.arange(9.0), np.full(9, 0.1), "corr", samples=10)
    assert np.isnan(constant["second"])
    assert constant["first"] == pytest.approx(1)
    few = paired_bootstrap([1.0, 2.0, 3.0], [1.0, 2.0, 2.0], [3.0, 1.0, 2.0], "corr", samples=300)
    assert 0 < few["undefined"] < 300
    assert np.isfinite(few["low"])
    nan = paired_bootstrap([1.0, 2.0], [np.nan, 2.0], [1.0, 2.0], "mae", samples=10)
    assert np.isnan(nan["difference"])
    assert np.isnan(nan["p"])


@given(st.integers(2, 12), st.integers(0, 99), st.sampled_from([1e-6, 1.0, 1e6]), st.sampled_from([0.0, -1e4]))
@settings(max_examples=15)
def test_order_scale_and_place_do_not_matter(rows, seed, scale, offset):
    y, first, second = some_predictions(rows, seed)
    test = paired_bootstrap(y, first, second, samples=20)
    swapped = paired_bootstrap(y, second, first, samples=20)
    assert (swapped["difference"], swapped["low"]) == pytest.approx((-test["difference"], -test["high"]))
    assert swapped["p"] == test["p"]
    assert test["low"] <= test["high"]
    assert 0 < test["p"] <= 1
    corr = paired_bootstrap(y, first, second, "corr", samples=20)
    moved = paired_bootstrap(y * scale + offset, first, second * scale + offset * scale, "corr", samples=20)
    assert moved == pytest.approx(corr, abs=1e-4, nan_ok=True)  # 1e-6 beside 1e4 keeps some six digits


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metric": "acc7"}, r"`metric` must be one of \['mae', 'corr'\]\. Received: metric='acc7'"),
        ({"labels": []}, r"one row or more\. Received: labels of shape \(0,\)"),
        ({"first": [1.0]}, r"`first` must be predictions of the labels, \(…, 2\)\. Received: first of shape \(1,\)"),
        ({"second": [[1.0], [2.0]]}, r"`second` .*Received: second of shape \(2, 1\)"),
        ({"groups": ["a"]}, r"`groups` must be \(2,\), one a row\. Received: groups of shape \(1,\)"),
        ({"samples": 0}, r"`samples` must be 1 or more\. Received: samples=0"),
        ({"confidence": 95}, r"`confidence` must be between 0 and 1\. Received: confidence=95"),
    ],
)
def test_bootstrap_errors(changed, message):
    arguments = {"labels": [1.0, 2.0], "first": [1.0, 2.0], "second": [0.0, 1.0], **changed}
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(**arguments)


# === Holm, and one p of several ===


def holm_by_steps(p_values):
    """Holm's own words: the smallest is tested at α / m, the next at α / (m − 1) …, until one is not rejected."""
    corrected = {}
    for level in sorted({min(1.0, p * k) for p in p_values for k in range(1, len(p_values) + 1)}):
        remaining = sorted(range(len(p_values)), key=lambda i: (p_values[i], i))
        while remaining and p_values[remaining[0]] * len(remaining) <= level:
            corrected.setdefault(remaining.pop(0), level)
    return [corrected.get(i, 1.0) for i in range(len(p_values))]


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.01, 0.05, 1.0]), st.floats(0, 1)), max_size=7))
def test_holm_against_its_steps(p_values):
    corrected = holm(p_values)
    assert corrected == pytest.approx(holm_by_steps(p_values))
    assert all(corrected >= np.array(p_values))
    bonferroni = [min(1, p * len(p_values)) for p in p_values]
    assert all(corrected <= np.array(bonferroni) + 1e-12)


def test_what_was_not_tested_does_not_count():
    assert holm([0.03, float("nan"), 0.02]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p_values", [[0.1, 1.2], [-0.1], [[0.1]]])
def test_holm_errors(p_values):
    with pytest.raises(ValueError, match=r"`p_values` must be a list of numbers in \[0, 1\]\. Received: p_values="):
        holm(p_values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_majority(p_values):
    p = majority_p(p_values)
    below = [q for q in p_values if q <= p]
    assert 2 * len(below) > len(p_values)
    assert p >= np.median(p_values) or len(p_values) % 2 == 0
    assert p <= min(1, 2 * max(p_values))
    if len(p_values) == 1:
        assert p == p_values[0]


@pytest.mark.parametrize("m", [2, 3, 5, 25])
@pytest.mark.parametrize("dependence", [0.0, 0.6, 0.95, 1.0])
def test_majority_holds_its_level(m, dependence):
    """Equally correlated tests of true null hypotheses."""
    rng = np.random.default_rng(0)
    z = np.sqrt(dependence) * rng.normal(size=(4000, 1)) + np.sqrt(1 - dependence) * rng.normal(size=(4000, m))
    p = 2 * stats.norm.sf(np.abs(z))
    assert np.mean([majority_p(row) < 0.05 for row in p]) <= 0.06
