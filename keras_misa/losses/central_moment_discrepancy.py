"""Central moment discrepancy, equation 7 of the paper."""

from keras import ops


def central_moment_discrepancy(x, y, num_moments=5, bounds=(0.0, 1.0)):
    r"""Distance between two samples by their means and central moments.

    With $C_k(x) = E[(x - E[x])^k]$, taken for each coordinate over the batch:

    $$CMD_K(x, y) = \frac{\|E[x] - E[y]\|_2}{|b - a|} + \sum_{k=2}^{K} \frac{\|C_k(x) - C_k(y)\|_2}{|b - a|^k}$$

    The value is zero, and so is its gradient, where all compared moments agree (the same input twice, for one): the
    plain square root would have an infinite slope there.

    Args:
        x: tensor `(batch, units)`, values within `bounds`.
        y: tensor `(other_batch, units)`, values within `bounds`.
        num_moments: integer K >= 1, the number of moments compared.
        bounds: pair `(a, b)`, the interval of the values: that of a sigmoid by default, where the factors
            $1 / |b - a|^k$ are one. Use `(-1.0, 1.0)` for tanh.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: If `num_moments` is below 1 or `bounds` is not an interval.

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [1.0]], "float32")
        >>> y = np.array([[0.5], [0.5]], "float32")
        >>> float(central_moment_discrepancy(x, y))  # 0.5**2 + 0.5**4; means and odd moments agree
        0.3125

    Reference:
        Zellinger et al. Central Moment Discrepancy (CMD) for domain-invariant representation learning. ICLR 2017.
    """
    check_arguments(num_moments, bounds)
    low, high = bounds
    x = ops.cast(x, "float32")
    y = ops.cast(y, "float32")
    mean_x = ops.mean(x, axis=0)
    mean_y = ops.mean(y, axis=0)
    centred_x = (x - mean_x) / (high - low)
    centred_y = (y - mean_y) / (high - low)
    discrepancy = _norm(mean_x - mean_y) / (high - low)
    power_x, power_y = centred_x, centred_y
    for _ in range(2, num_moments + 1):
        power_x = power_x * centred_x
        power_y = power_y * centred_y
        discrepancy = discrepancy + _norm(ops.mean(power_x, axis=0) - ops.mean(power_y, axis=0))
    return discrepancy


def check_arguments(num_moments, bounds):
    """Raise if `num_moments` is below 1 or `bounds` is not an interval."""
    if num_moments < 1:
        raise ValueError(f"`num_moments` must be at least 1. Received: num_moments={num_moments}")
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(f"`bounds` must be a pair (a, b) with a < b. Received: bounds={bounds}")


def _norm(vector):
    """Euclidean norm with gradient zero at the origin."""
    squared = ops.sum(ops.square(vector))
    positive = squared > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squared, 1.0)), 0.0)
