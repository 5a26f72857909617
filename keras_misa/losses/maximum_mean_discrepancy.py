"""Maximum mean discrepancy, an alternative that section 3.5.1 of the paper names."""

from keras import ops


def maximum_mean_discrepancy(x, y, scales=(0.25, 0.5, 1.0, 2.0, 4.0)):
    r"""Squared distance between two samples by their mean embeddings under Gaussian kernels.

    $$MMD^2(x, y) = E[k(x, x')] + E[k(y, y')] - 2 E[k(x, y)], \quad
    k(u, v) = \frac{1}{S} \sum_{s} \exp\Big(-\frac{\|u - v\|_2^2}{s\, w}\Big)$$

    with means over all pairs of rows (the biased estimate, never negative). The width $w$ is the mean squared distance
    between different rows of both samples together, taken as a constant in the gradient, so that the value does not
    depend on the scale of the vectors. It is zero, with a gradient of zero, where the samples are equal.

    Args:
        x: tensor `(batch, units)`.
        y: tensor `(other_batch, units)`.
        scales: positive factors s of the width.

    Returns:
        A scalar, float32, in [0, 2].

    Raises:
        ValueError: If `scales` is empty or holds a number that is not positive.

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [0.0]], "float32")
        >>> y = np.array([[1.0], [1.0]], "float32")
        >>> print(f"{float(maximum_mean_discrepancy(x, y, scales=(1.0,))):.4f}")  # w = 2/3: 2 - 2 exp(-3/2)
        1.5537

    Reference:
        Gretton et al. A kernel two-sample test. JMLR 2012.
    """
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"`scales` must be positive numbers. Received: scales={scales}")
    x = ops.cast(x, "float32")
    y = ops.cast(y, "float32")
    xx, yy, xy = _squared_distances(x, x), _squared_distances(y, y), _squared_distances(x, y)
    rows = ops.cast(ops.shape(x)[0] + ops.shape(y)[0], "float32")
    width = ops.stop_gradient((ops.sum(xx) + ops.sum(yy) + 2.0 * ops.sum(xy)) / (rows * (rows - 1.0)))
    width = ops.where(width > 0, width, 1.0)

    def mean_kernel(distances):
        return ops.mean(sum(ops.exp(-distances / (scale * width)) for scale in scales)) / len(scales)

    return ops.relu(mean_kernel(xx) + mean_kernel(yy) - 2.0 * mean_kernel(xy))


def _squared_distances(x, y):
    """Of all pairs of rows, `(batch, other_batch)`; from differences, which are exact for equal rows."""
    return ops.sum(ops.square(ops.expand_dims(x, 1) - ops.expand_dims(y, 0)), axis=-1)
