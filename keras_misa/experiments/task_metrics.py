"""What is measured, by what is predicted."""

import keras
import numpy as np

from keras_misa.experiments.dialects import acc7_rounding, check_dialect, to_dialect
from keras_misa.metrics import PearsonCorrelation, regression_metrics


def settle_task(config, builder, labels):
    """Writes down what the dataset's label makes of the task.

    Args:
        config: dict of `make_config`; gets `num_outputs`, `class_names`, `score_names` and `metrics`.
        builder: the dataset's `tfds.core.DatasetBuilder`.
        labels: of the training split, or of all that was dealt out, `(rows,)` or `(rows, scores)`.
    """
    from keras_misa.data import label_outputs

    kind, names = label_outputs(builder, config["label"])
    if kind == "classes":
        config.update(num_outputs=len(names), class_names=list(names), metrics=None)
    elif names:
        config.update(num_outputs=len(names), score_names=list(names), metrics="scores")
    elif config["num_outputs"] == 1 and config["metrics"] is None:
        is_sentiment = labels.min() < 0 and np.abs(labels).max() <= 3
        config.update(metrics="sentiment" if is_sentiment else "scores")


def is_classification(config):
    """Whether the outputs are classes."""
    return config["num_outputs"] > 1 and config["score_names"] is None


def task_metrics(config, dialect="paper"):
    """New metric objects to compile a model with."""
    if is_classification(config):
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if config["metrics"] == "scores":
        mae = keras.metrics.MeanAbsoluteError(name="mae")
        return [mae] if config["score_names"] else [mae, PearsonCorrelation(name="corr")]
    return regression_metrics(acc7_rounding(dialect))


def compute_metrics(config, labels, predictions, dialect="paper"):
    """The task's metrics over a whole split.

    Args:
        config: dict of `make_config`, settled.
        labels: `(rows,)` or `(rows, scores)`.
        predictions: `(rows, outputs)`.
        dialect: how metrics of sentiment are rounded and named, see `dialects`.

    Returns:
        Dict, name → number. Of several scores: `mae` and `corr`, their means, then `mae_<name>` and `corr_<name>`.

    Raises:
        ValueError: If the dialect is unknown, or the task is not sentiment and has no dialects.
    """
    check_dialect(config, dialect)
    if config["score_names"]:
        single = {**config, "score_names": None, "num_outputs": 1}
        columns = [compute_metrics(single, y, p[:, None]) for y, p in zip(labels.T, predictions.T, strict=True)]
        means = {name: float(np.mean([column[name] for column in columns])) for name in columns[0]}
        named = zip(config["score_names"], columns, strict=True)
        return means | {f"{metric}_{name}": value for name, column in named for metric, value in column.items()}
    metrics = {}
    for metric in task_metrics(config, dialect):
        metric.update_state(labels, predictions)
        metrics[metric.name] = float(metric.result())
    return to_dialect(metrics, dialect)
