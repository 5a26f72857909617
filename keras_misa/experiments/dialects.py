"""The same metrics of sentiment as others write them.

`"paper"`: the published code's, shares in [0, 1]; the spread over seeds is the sample standard deviation.
`"sdk"`: the same, but Acc-7 rounds away from zero, as the CMU SDK's page on MOSEI does.
`"mmsa"`: the numbers of `"paper"` under the names of MMSA 2.2 (`MetricsTop`, regression), rounded to four digits, times
100, MAE and correlation too; the spread is the population's standard deviation.
"""

import numpy as np

DIALECTS = ("paper", "sdk", "mmsa")
MMSA_NAMES = {
    "acc2_nonneg": "Has0_acc_2",
    "f1_nonneg": "Has0_F1_score",
    "acc2_pos": "Non0_acc_2",
    "f1_pos": "Non0_F1_score",
    "acc5": "Mult_acc_5",
    "acc7": "Mult_acc_7",
    "mae": "MAE",
    "corr": "Corr",
}


def check_dialect(config, dialect):
    """Refuse a dialect that is unknown, or that a task does not have.

    Args:
        config: dict of `make_config`, settled.
        dialect: one of `DIALECTS`.

    Raises:
        ValueError: If so.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"`dialect` must be one of {DIALECTS}. Received: dialect={dialect!r}")
    if dialect != "paper" and config["metrics"] != "sentiment":
        raise ValueError(
            f"The dialects are of sentiment, scores in [-3, 3], and {config['dataset']} has another label, "
            f"{config['label']!r}. Received: dialect={dialect!r}"
        )


def acc7_rounding(dialect):
    """What `SentimentClassAccuracy` takes for Acc-7."""
    return "away_from_zero" if dialect == "sdk" else "half_to_even"


def to_dialect(metrics, dialect):
    """Names and units of a dialect.

    Args:
        metrics: dict, name → number, of `compute_metrics` with the rounding of the dialect.
        dialect: one of `DIALECTS`.

    Example:
        >>> to_dialect({"mae": 0.78304, "corr": 0.761, "acc2_nonneg": 0.818}, "mmsa")
        {'Has0_acc_2': 81.8, 'MAE': 78.3, 'Corr': 76.1}
    """
    if dialect != "mmsa":
        return metrics
    return {new: round(100 * round(metrics[old], 4), 2) for old, new in MMSA_NAMES.items() if old in metrics}


def spread(values, dialect):
    """The standard deviation over runs as a dialect has it; NaN for the sample one of a single run."""
    if dialect == "mmsa":
        return float(np.std(values))
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
