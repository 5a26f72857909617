"""Pearson correlation over a whole split."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class PearsonCorrelation(keras.metrics.Metric):
    r"""Pearson's r of prediction and truth over everything seen since the last reset.

    $$r = \frac{\sum_i (y_i - \bar y)(p_i - \bar p)}{\sqrt{\sum_i (y_i - \bar y)^2 \sum_i (p_i - \bar p)^2}}$$

    Means and co-moments are merged from batch to batch (Chan et al. 1983), so that the result is that of the whole
    split; `keras.metrics.PearsonCorrelation` averages the coefficients of the batches, which is another number. NaN
    where it is undefined: fewer than two rows, or a constant.

    Args:
        name: name in the logs.
        dtype: of the state.

    Call arguments:
        y_true: tensor of scores, any shape.
        y_pred: tensor of predictions, as many values.
        sample_weight: optional, as many values, zero or more.

    Example:
        >>> metric = PearsonCorrelation()
        >>> metric.update_state([[1.0], [2.0]], [[2.0], [4.0]])
        >>> metric.update_state([[3.0]], [[6.0]])
        >>> print(f"{float(metric.result()):.3f}")
        1.000
    """

    def __init__(self, name="corr", dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)
        names = ("weight", "mean_true", "mean_pred", "square_true", "square_pred", "product")
        self._state = {n: self.add_variable((), initializer="zeros", name=n) for n in names}

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        y = ops.cast(ops.reshape(y_true, (-1,)), self.dtype)
        p = ops.cast(ops.reshape(y_pred, (-1,)), self.dtype)
        w = ops.ones_like(y) if sample_weight is None else ops.cast(ops.reshape(sample_weight, (-1,)), self.dtype)
        state = self._state
        batch_weight = ops.sum(w)
        weight = state["weight"] + batch_weight
        safe_batch_weight = ops.where(batch_weight > 0, batch_weight, 1.0)
        safe_weight = ops.where(weight > 0, weight, 1.0)
        mean_y = _mean(y, w / safe_batch_weight)
        mean_p = _mean(p, w / safe_batch_weight)
        delta_y = mean_y - state["mean_true"]
        delta_p = mean_p - state["mean_pred"]
        share = batch_weight / safe_weight
        between = state["weight"] * share
        state["square_true"].assign_add(ops.sum(w * (y - mean_y) ** 2) + delta_y**2 * between)
        state["square_pred"].assign_add(ops.sum(w * (p - mean_p) ** 2) + delta_p**2 * between)
        state["product"].assign_add(ops.sum(w * (y - mean_y) * (p - mean_p)) + delta_y * delta_p * between)
        state["mean_true"].assign_add(delta_y * share)
        state["mean_pred"].assign_add(delta_p * share)
        state["weight"].assign(weight)

    def result(self):
        """The coefficient, a scalar in [-1, 1], or NaN."""
        # Two roots rather than the root of the product, which would leave the range of float32 early.
        scale = ops.sqrt(self._state["square_true"]) * ops.sqrt(self._state["square_pred"])
        defined = scale > 0
        r = self._state["product"] / ops.where(defined, scale, 1.0)
        return ops.where(defined, ops.clip(r, -1.0, 1.0), float("nan"))


def _mean(values, shares):
    """Weighted mean, exact for a constant: the second sum takes away the rounding error of the first."""
    mean = ops.sum(shares * values)
    return mean + ops.sum(shares * (values - mean))
