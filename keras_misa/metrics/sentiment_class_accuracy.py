"""Acc-7 and Acc-5."""

import keras
from keras import ops

ROUNDINGS = ("half_to_even", "away_from_zero")


@keras.saving.register_keras_serializable("keras_misa")
class SentimentClassAccuracy(keras.metrics.Mean):
    r"""Share of scores that fall into the right one of 7 (or 5) classes.

    Truth and prediction are clipped to $[-k, k]$, $k = 3$ for 7 classes and 2 for 5, rounded to whole numbers and
    compared. Empty: 0.

    Args:
        num_classes: odd number of classes, `2 k + 1`.
        rounding: `"half_to_even"`, to the nearest, from the middle to the even one: `np.round`, the published code.
            `"away_from_zero"`, to the next whole number of larger magnitude, 1/3 to 1: the CMU SDK's Acc-7.
        name: name in the logs.
        dtype: of the state.

    Call arguments:
        y_true: tensor of scores, any shape.
        y_pred: tensor of predictions, as many values.
        sample_weight: optional, as many values.

    Raises:
        ValueError: If `num_classes` is even or below 3, or `rounding` is unknown.

    Example:
        >>> metric = SentimentClassAccuracy(num_classes=7)
        >>> metric.update_state([2.4, -2.6, 0.5], [1.6, -9.0, 0.6])  # 2 = 2, -3 = -3, 0 ≠ 1
        >>> print(f"{float(metric.result()):.3f}")
        0.667
    """

    def __init__(self, num_classes=7, rounding="half_to_even", name=None, dtype=None, **kwargs):
        if num_classes < 3 or num_classes % 2 == 0:
            raise ValueError(f"`num_classes` must be odd and at least 3. Received: num_classes={num_classes}")
        if rounding not in ROUNDINGS:
            raise ValueError(f"`rounding` must be one of {ROUNDINGS}. Received: rounding={rounding!r}")
        super().__init__(name=name or f"acc{num_classes}", dtype=dtype, **kwargs)
        self.num_classes = num_classes
        self.rounding = rounding

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        matches = self._to_class(y_true) == self._to_class(y_pred)
        if sample_weight is not None:
            sample_weight = ops.reshape(sample_weight, (-1,))
        super().update_state(matches, sample_weight)

    def _to_class(self, scores):
        highest = self.num_classes // 2
        scores = ops.clip(ops.cast(ops.reshape(scores, (-1,)), "float32"), -highest, highest)
        if self.rounding == "half_to_even":
            return ops.round(scores)
        return ops.sign(scores) * ops.ceil(ops.abs(scores))

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "rounding": self.rounding}
