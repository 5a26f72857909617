"""Whether two models differ on the same utterances by more than chance."""

import math

import numpy as np

# From this many discordant pairs on chi-square is close enough to the binomial distribution: the customary bound, as in
# Raschka, "Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning", 2018, and in his mlxtend.
MIN_DISCORDANT_FOR_CHI_SQUARE = 25
ELEMENTS_AT_A_TIME = 1 << 21  # of resampled rows: 16 MiB an array


def mcnemar(first_correct, second_correct):
    r"""McNemar's test of two models' right and wrong decisions on the same rows.

    Rows on which both are right, or both wrong, say nothing. Of the others, b on which only the first is right and c on
    which only the second is, either is as likely under the null hypothesis that both err equally often:

    * exact, for fewer than 25 of them: $p = \min(1, 2 \sum_{i=0}^{\min(b, c)} \binom{b+c}{i} / 2^{b+c})$;
    * else chi-square with one degree of freedom and continuity correction: $\max(0, |b - c| - 1)^2 / (b + c)$.

    It is a test of two trained models, not of two ways of training (Dietterich 1998), and takes rows as independent.

    Args:
        first_correct: `(rows,)` booleans, whether the first model is right.
        second_correct: `(rows,)` booleans of the second.

    Returns:
        Dict: counts `both`, `first_only`, `second_only` and `neither`; `method`, `"exact"` or `"chi-square"`;
        `statistic`, $\min(b, c)$ or chi-square; and `p`, two-sided.

    Raises:
        ValueError: If the arrays are not `(rows,)` booleans of equal length.

    Reference:
        McNemar, Psychometrika 12, 1947; Edwards, Psychometrika 13, 1948 (the correction); Dietterich, Neural
        Computation 10, 1998.

    Example:
        >>> mcnemar([True] * 9 + [False], [True] * 4 + [False] * 5 + [True])["p"]  # 5 against 1: 2 (1 + 6) / 64
        0.21875
    """
    first, second = _decisions(first_correct, "first_correct"), _decisions(second_correct, "second_correct")
    if first.shape != second.shape:
        raise ValueError(
            "Both models decide on the same rows. "
            f"Received: first_correct of shape {first.shape}, second_correct of shape {second.shape}"
        )
    counts = {
        "both": int(np.sum(first & second)),
        "first_only": int(np.sum(first & ~second)),
        "second_only": int(np.sum(~first & second)),
        "neither": int(np.sum(~first & ~second)),
    }
    b, c = counts["first_only"], counts["second_only"]
    if b + c < MIN_DISCORDANT_FOR_CHI_SQUARE:
        method, statistic = "exact", min(b, c)
        p = min(1.0, 2 * sum(math.comb(b + c, i) for i in range(statistic + 1)) / 2 ** (b + c))
    else:
        method, statistic = "chi-square", max(0, abs(b - c) - 1) ** 2 / (b + c)
        p = math.erfc(math.sqrt(statistic / 2))  # a chi-square of one degree is a squared normal variable
    return {**counts, "method": method, "statistic": statistic, "p": p}


def _decisions(correct, name):
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim != 1:
        raise ValueError(f"`{name}` must be (rows,) booleans. Received: {correct.dtype} of shape {correct.shape}")
    return correct


def paired_bootstrap(labels, first, second, metric="mae", groups=None, samples=10000, confidence=0.95, seed=0):
    r"""How far the difference of two models' metric may be chance, by resampling the rows that both predict.

    A resample draws as many rows as there are, with replacement, for both models alike. The interval is that of the
    percentiles of the resampled differences $d^*$; $p = \min(1, 2 (1 + \min(\#\{d^* \le 0\}, \#\{d^* \ge 0\})) /
    (1 + n))$ goes with it: small where a wide interval leaves 0 out.

    Rows of one video are alike, so that resampling rows takes the data for more than it is. With `groups`, such as the
    videos, whole groups are drawn. Their number, then, is what should not be small.

    Args:
        labels: `(rows,)`, or `(scores, rows)` for several scores.
        first: `(rows,)`, predictions of the first model; with axes before the last one, such as `(runs, rows)` or
            `(runs, scores, rows)`, the mean of their metrics counts.
        second: those of the second model, of as many rows; other axes may differ.
        metric: `"mae"`, or `"corr"`, Pearson's.
        groups: `(rows,)`, what is drawn as a whole; `None` draws rows.
        samples: number of resamples.
        confidence: of the interval.
        seed: of the resampling. The same seed draws the same rows, whatever the models.

    Returns:
        Dict: the metric of `first` and `second` and their `difference`, first less second; `low` and `high`, the
        interval; `p`, two-sided; `undefined`, the number of resamples in which a correlation has no value. These are
        left out, and where the difference has none, neither have the interval and p: all are NaN.

    Raises:
        ValueError: If shapes do not fit, there is no row, or another argument is out of its range.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 15; Davison and Hinkley, Bootstrap
        Methods and their Application, 1997, section 4.2 (the 1 in p).

    Example:
        >>> labels = np.arange(40.0)
        >>> test = paired_bootstrap(labels, labels + 0.1, labels + np.tile([0.3, -0.5], 20), samples=1000)
        >>> print(f"{test['difference']:.2f} [{test['low']:.2f}, {test['high']:.2f}]")
        -0.30 [-0.33, -0.27]
    """
    labels, first, second = (np.asarray(array, "float64") for array in (labels, first, second))
    _check_bootstrap(labels, first, second, metric, samples, confidence)
    drawn = resample_metrics(labels, [first, second], [metric], groups, samples, seed)[metric]
    (one, other), (ones, others) = drawn
    return {"first": float(one), "second": float(other), **difference_interval(one, other, ones - others, confidence)}


def resample_metrics(labels, models, metrics, groups=None, samples=10000, seed=0):
    """Metrics of several models in the same resamples, which are drawn once.

    Args:
        labels: as for `paired_bootstrap`, arrays of float64.
        models: list of the models' predictions.
        metrics: names.
        groups: as for `paired_bootstrap`.
        samples: likewise.
        seed: likewise.

    Returns:
        Dict, name → pair: for each model the metric, `(models,)`, and that of each resample, `(models, samples)`.
    """
    rows = labels.shape[-1]
    members = np.arange(rows)
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (rows,):
            raise ValueError(f"`groups` must be ({rows},), one a row. Received: groups of shape {groups.shape}")
        members = np.unique(groups, return_inverse=True)[1].reshape(-1)
    number = members.max() + 1
    moments = {name: [_MOMENTS[name](labels, predictions) for predictions in models] for name in metrics}
    values = {name: _values(name, moments[name], np.ones((1, rows)))[:, 0] for name in metrics}
    resampled = {name: [] for name in metrics}
    block = max(1, ELEMENTS_AT_A_TIME // max(number, rows))
    rng = np.random.default_rng(seed)
    for start in range(0, samples, block):
        drawn = rng.integers(number, size=(min(block, samples - start), number))
        offsets = np.arange(len(drawn))[:, None] * number
        weights = np.bincount((drawn + offsets).ravel(), minlength=drawn.size).reshape(drawn.shape)
        weights = weights[:, members].astype("float64")
        for name in metrics:
            resampled[name].append(_values(name, moments[name], weights))
    return {name: (values[name], np.concatenate(resampled[name], axis=1)) for name in metrics}


def difference_interval(one, other, resampled, confidence=0.95):
    """What `paired_bootstrap` says of a difference.

    Args:
        one: metric of the first model.
        other: of the second.
        resampled: `(samples,)`, differences in the resamples.
        confidence: of the interval.
    """
    difference = float(one - other)
    defined = resampled[~np.isnan(resampled)]
    summary = {"difference": difference, "low": math.nan, "high": math.nan, "p": math.nan}
    if not math.isnan(difference) and len(defined):
        low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
        rounding = 1e-12 * (abs(one) + abs(other))  # what is left of no difference
        beyond = min(np.sum(defined <= rounding), np.sum(defined >= -rounding))
        p = min(1.0, 2 * (1 + int(beyond)) / (1 + len(defined)))
        summary.update(low=float(low), high=float(high), p=p)
    return {**summary, "undefined": len(resampled) - len(defined)}


def _check_bootstrap(labels, first, second, metric, samples, confidence):
    if metric not in _MOMENTS:
        raise ValueError(f"`metric` must be one of {list(_MOMENTS)}. Received: metric={metric!r}")
    if labels.ndim == 0 or labels.shape[-1] == 0:
        raise ValueError(f"`labels` must be of one row or more. Received: labels of shape {labels.shape}")
    for name, predictions in (("first", first), ("second", second)):
        if predictions.shape[-labels.ndim :] != labels.shape:
            raise ValueError(
                f"`{name}` must be predictions of the labels, (…, {', '.join(map(str, labels.shape))}). "
                f"Received: {name} of shape {predictions.shape}"
            )
    if samples < 1:
        raise ValueError(f"`samples` must be 1 or more. Received: samples={samples}")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be between 0 and 1. Received: confidence={confidence}")


# A metric is a function of sums over rows, so that resamples are weights of rows and a matrix product does them all.


def _values(metric, moments, weights):
    """Of each model, `(models, resamples)`."""
    rows = weights.shape[1]
    total = weights.sum(1)
    return np.stack([_FROM_MOMENTS[metric](weights @ m.reshape(-1, rows).T, total, len(m)) for m in moments])


def _mae_moments(labels, predictions):
    return np.abs(labels - predictions)[None]


def _corr_moments(labels, predictions):
    # Far from zero, and in other units, sums of squares would lose their digits.
    y, p = (_standardised(array) for array in np.broadcast_arrays(labels, predictions))
    return np.stack([y, p, y * y, p * p, y * p])


def _standardised(array):
    centred = array - array.mean(-1, keepdims=True)
    scale = np.abs(centred).max(-1, keepdims=True)
    constant = scale <= 1e-12 * np.abs(array).max(-1, keepdims=True)  # what rounding leaves of one
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, scale))


def _mae(sums, total, number):
    return sums.mean(1) / total


def _corr(sums, total, number):
    y, p, yy, pp, yp = np.moveaxis(sums.reshape(len(sums), number, -1), 1, 0) / total[:, None]
    variances = yy - y * y, pp - p * p
    undefined = (variances[0] <= 1e-12 * yy) | (variances[1] <= 1e-12 * pp)
    r = (yp - y * p) / np.sqrt(np.where(undefined, 1.0, variances[0] * variances[1]))
    return np.where(undefined, math.nan, np.clip(r, -1.0, 1.0)).mean(1)


_MOMENTS = {"mae": _mae_moments, "corr": _corr_moments}
_FROM_MOMENTS = {"mae": _mae, "corr": _corr}


def holm(p_values):
    r"""Holm's correction of p-values that are read together.

    Of $m$ p-values in ascending order, the $i$-th becomes $\max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})$. Whatever
    depends on what: the chance of any false finding below a level is at most that level.

    Args:
        p_values: numbers in [0, 1]. NaN, a test that could not be made, stays NaN and is not counted.

    Returns:
        Array of the corrected p-values, in the order of `p_values`.

    Raises:
        ValueError: If one is out of [0, 1].

    Reference:
        Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> [round(float(p), 3) for p in holm([0.04, 0.01, 0.03])]
        [0.06, 0.03, 0.06]
    """
    p = np.asarray(p_values, "float64")
    if p.ndim != 1 or np.any((p < 0) | (p > 1)):
        raise ValueError(f"`p_values` must be a list of numbers in [0, 1]. Received: p_values={p.tolist()}")
    corrected = p.copy()
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, factors * p[order]))
    return corrected


def majority_p(p_values):
    r"""One p-value of several tests of the same question, which may depend on each other in any way.

    $\min(1, m / k \cdot p_{(k)})$, where $k = \lfloor m / 2 \rfloor + 1$ is the smallest majority of the $m$ p-values:
    it is small only if most of them are. One alone stays what it is.

    Args:
        p_values: numbers in [0, 1], at least one.

    Reference:
        Rüger, Metrika 25, 1978: under the null hypothesis of all tests, whatever their dependence,
        $P(p_{(k)} \le \alpha k / m) \le \alpha$.

    Example:
        >>> majority_p([0.001, 0.02, 0.6])  # 3/2 times the second
        0.03
    """
    ordered = sorted(p_values)
    majority = len(ordered) // 2 + 1
    return min(1.0, len(ordered) / majority * ordered[majority - 1])
