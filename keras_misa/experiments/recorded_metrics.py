"""Whether what a run says of itself is true."""

import dataclasses

import numpy as np

from keras_misa.experiments.paired_predictions import pair_predictions
from keras_misa.experiments.run_groups import read_metrics
from keras_misa.experiments.task_metrics import compute_metrics, is_classification


class MetricsMismatch(ValueError):
    """Metrics that are not those of the predictions beside them."""


def check_recorded_metrics(group):
    """Hold each run's `metrics.json` against its `predictions.csv`.

    Args:
        group: a `RunGroup`.

    Raises:
        MetricsMismatch: If a metric is not that of the predictions.
        ValueError: If a file is damaged.
    """
    for run in group.runs:
        paired = pair_predictions([dataclasses.replace(group, runs=(run,))])
        expected = _compute(paired.config, paired.labels, paired.predictions[0][0])
        for name, value in read_metrics(run).items():
            value = np.nan if value is None else value
            if name in expected and not np.isclose(value, expected[name], rtol=1e-4, atol=1e-5, equal_nan=True):
                raise MetricsMismatch(
                    f"{run / 'metrics.json'} does not belong to predictions.csv beside it: expected {name}="
                    f"{expected[name]:.6g}, as its {len(paired.segment_ids)} rows give it. Received: {name}={value:.6g}"
                )


def _compute(config, labels, predictions):
    if is_classification(config):
        return {"accuracy": np.mean(predictions == labels)}
    return compute_metrics(config, labels.T, predictions.T if predictions.ndim > 1 else predictions[:, None])
