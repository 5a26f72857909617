"""Weighted F1 of the sign of a score."""

import keras
from keras import ops

from keras_misa.metrics.binary_sentiment_accuracy import binarise


@keras.saving.register_keras_serializable("keras_misa")
class BinarySentimentF1(keras.metrics.Metric):
    r"""Support-weighted F1 of the two classes, over everything seen since the last reset.

    With $n_c$ the number of rows whose truth is class c:
    $F1 = \sum_c n_c \frac{2 TP_c}{2 TP_c + FP_c + FN_c} / \sum_c n_c$. Empty: 0.

    Args:
        boundary: which rows, which classes; see `BinarySentimentAccuracy`.
        name: name in the logs.
        dtype: of the state.

    Call arguments:
        y_true: tensor of scores, any shape.
        y_pred: tensor of predictions, as many values.
        sample_weight: optional, as many values.

    Raises:
        ValueError: If `boundary` is unknown.

    Example:
        >>> metric = BinarySentimentF1(boundary="nonnegative")
        >>> metric.update_state([1.0, 0.0, -1.0, -2.0], [0.3, -0.3, -0.3, -0.3])
        >>> print(f"{float(metric.result()):.4f}")  # (2 · 2/3 + 2 · 4/5) / 4
        0.7333
    """

    def __init__(self, boundary="nonnegative", name=None, dtype=None, **kwargs):
        super().__init__(name=name or f"f1_{boundary}", dtype=dtype, **kwargs)
        self.boundary = boundary
        binarise(boundary, [0.0], [0.0], None)
        self._confusion = self.add_variable((2, 2), initializer="zeros", name="confusion")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        truth, prediction, weight = binarise(self.boundary, y_true, y_pred, sample_weight)
        classes = [~truth, truth], [~prediction, prediction]
        counts = [[ops.sum(ops.where(ops.logical_and(t, p), weight, 0.0)) for p in classes[1]] for t in classes[0]]
        self._confusion.assign_add(ops.cast(ops.stack([ops.stack(row) for row in counts]), self.dtype))

    def result(self):
        """The F1 score, a scalar in [0, 1]."""
        confusion = ops.convert_to_tensor(self._confusion)
        support, predicted = ops.sum(confusion, axis=1), ops.sum(confusion, axis=0)
        f1 = ops.divide_no_nan(2.0 * ops.diagonal(confusion), support + predicted)
        return ops.divide_no_nan(ops.sum(support * f1), ops.sum(support))

    def get_config(self):
        return {**super().get_config(), "boundary": self.boundary}
