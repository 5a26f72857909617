"""The paper's metrics, each over the whole split and exact however the batches fall."""

from keras_misa.metrics.binary_sentiment_accuracy import BinarySentimentAccuracy
from keras_misa.metrics.binary_sentiment_f1 import BinarySentimentF1
from keras_misa.metrics.pearson_correlation import PearsonCorrelation
from keras_misa.metrics.regression_metrics import regression_metrics
from keras_misa.metrics.sentiment_class_accuracy import SentimentClassAccuracy

__all__ = [
    "BinarySentimentAccuracy",
    "BinarySentimentF1",
    "PearsonCorrelation",
    "SentimentClassAccuracy",
    "regression_metrics",
]
