"""Pearson correlation over a whole split."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class PearsonCorrelation(keras.metrics.Metric):
    r"""Pearson's r of prediction and truth over everything seen since the last reset.

    $$r = \frac{\sum_i (y_i - \bar y)(p_i - \bar p)}{\sqrt{\sum_i (y_i - \bar y)^2 \sum_i (p_i - \bar p)^2}}$$

    It is computed from plain sums, so that the result is that of the whole split however the batches fall and on
    however many replicas; `keras.metrics.PearsonCorrelation` averages the coefficients of the batches, which is another
    number. The sums are float64 on TensorFlow and PyTorch. JAX has float32 only, where the third digit is lost once the
    mean is some thirty standard deviations from zero. NaN where it is undefined: fewer than two rows, or a constant.

    Args:
        name: name in the logs.
        dtype: of the sums; `None`, the default, is float64, and float32 on JAX.

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
        if dtype is None:
            dtype = "float32" if keras.backend.backend() == "jax" else "float64"
        super().__init__(name=name, dtype=dtype, **kwargs)
        names = ("weight", "true", "pred", "square_true", "square_pred", "product")
        self._sums = {n: self.add_variable((), "zeros", self.dtype, name=n) for n in names}

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        y = ops.cast(ops.reshape(y_true, (-1,)), self.dtype)
        p = ops.cast(ops.reshape(y_pred, (-1,)), self.dtype)
        w = ops.ones_like(y) if sample_weight is None else ops.cast(ops.reshape(sample_weight, (-1,)), self.dtype)
        parts = {"weight": w, "true": w * y, "pred": w * p}
        parts.update(square_true=w * y * y, square_pred=w * p * p, product=w * y * p)
        for name, values in parts.items():
            self._sums[name].assign_add(ops.sum(values))

    def result(self):
        """The coefficient, a scalar in [-1, 1], or NaN."""
        sums = {name: ops.convert_to_tensor(variable) for name, variable in self._sums.items()}
        weight = ops.where(sums["weight"] > 0, sums["weight"], 1.0)

        def moment(product, one, other):
            return sums[product] - sums[one] * sums[other] / weight

        square_true, square_pred = moment("square_true", "true", "true"), moment("square_pred", "pred", "pred")
        # What rounding leaves of a constant is none.
        rounding = 1e-12 if self.dtype == "float64" else 1e-6
        defined = ops.logical_and(
            square_true > rounding * sums["square_true"], square_pred > rounding * sums["square_pred"]
        )
        one = ops.ones_like(weight)
        # Two roots rather than the root of the product, which would leave the range of float32 early.
        scale = ops.sqrt(ops.where(defined, square_true, one)) * ops.sqrt(ops.where(defined, square_pred, one))
        r = moment("product", "true", "pred") / scale
        return ops.where(defined, ops.clip(r, -1.0, 1.0), float("nan"))
