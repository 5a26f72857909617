"""Acc-2: accuracy of the sign of a score."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class BinarySentimentAccuracy(keras.metrics.Mean):
    """Share of scores on the right side of zero. Empty: 0.

    Args:
        boundary: `"nonnegative"`: all rows, negative against non-negative, `y >= 0` compared with `p >= 0`.
            `"positive"`: rows whose truth is not 0, negative against positive, `y > 0` compared with `p > 0`.
        name: name in the logs.
        dtype: of the state.

    Call arguments:
        y_true: tensor of scores, any shape.
        y_pred: tensor of predictions, as many values.
        sample_weight: optional, as many values.

    Raises:
        ValueError: If `boundary` is unknown.

    Example:
        >>> metric = BinarySentimentAccuracy(boundary="positive")
        >>> metric.update_state([1.0, 0.0, -1.0], [0.2, -0.2, 0.1])  # the middle row does not count
        >>> float(metric.result())
        0.5
    """

    def __init__(self, boundary="nonnegative", name=None, dtype=None, **kwargs):
        super().__init__(name=name or f"acc2_{boundary}", dtype=dtype, **kwargs)
        self.boundary = boundary
        binarise(boundary, [0.0], [0.0], None)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        truth, prediction, weight = binarise(self.boundary, y_true, y_pred, sample_weight)
        super().update_state(truth == prediction, weight)

    def get_config(self):
        return {**super().get_config(), "boundary": self.boundary}


def binarise(boundary, y_true, y_pred, sample_weight):
    """Truth and prediction as booleans, and the weight of each row, all `(rows,)`."""
    y = ops.cast(ops.reshape(y_true, (-1,)), "float32")
    p = ops.cast(ops.reshape(y_pred, (-1,)), "float32")
    weight = ops.ones_like(y) if sample_weight is None else ops.cast(ops.reshape(sample_weight, (-1,)), "float32")
    if boundary == "nonnegative":
        return y >= 0, p >= 0, weight
    if boundary == "positive":
        return y > 0, p > 0, ops.where(y != 0, weight, ops.zeros_like(weight))
    raise ValueError(f'`boundary` must be "nonnegative" or "positive". Received: boundary={boundary!r}')
