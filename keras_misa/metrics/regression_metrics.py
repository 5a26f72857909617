"""The paper's table of metrics for sentiment."""

import keras

from keras_misa.metrics.binary_sentiment_accuracy import BinarySentimentAccuracy
from keras_misa.metrics.binary_sentiment_f1 import BinarySentimentF1
from keras_misa.metrics.pearson_correlation import PearsonCorrelation
from keras_misa.metrics.sentiment_class_accuracy import SentimentClassAccuracy


def regression_metrics(acc7_rounding="half_to_even"):
    """New metric objects, in the order of the paper's tables.

    Args:
        acc7_rounding: of Acc-7 alone, see `SentimentClassAccuracy`; `"away_from_zero"` is the CMU SDK's.

    Returns:
        List of `keras.metrics.Metric`: `mae`, `corr`, `acc7`, `acc5`, `acc2_nonneg`, `f1_nonneg` (negative against
        non-negative, all rows), `acc2_pos` and `f1_pos` (negative against positive, rows whose truth is not 0).

    Raises:
        ValueError: If the rounding is unknown.

    Example:
        >>> [metric.name for metric in regression_metrics()][:4]
        ['mae', 'corr', 'acc7', 'acc5']
    """
    return [
        keras.metrics.MeanAbsoluteError(name="mae"),
        PearsonCorrelation(name="corr"),
        SentimentClassAccuracy(num_classes=7, rounding=acc7_rounding, name="acc7"),
        SentimentClassAccuracy(num_classes=5, name="acc5"),
        BinarySentimentAccuracy(boundary="nonnegative", name="acc2_nonneg"),
        BinarySentimentF1(boundary="nonnegative", name="f1_nonneg"),
        BinarySentimentAccuracy(boundary="positive", name="acc2_pos"),
        BinarySentimentF1(boundary="positive", name="f1_pos"),
    ]
