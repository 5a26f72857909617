"""Soft orthogonality of two representations, equations 9 and 10 of the paper."""

from keras import ops


def orthogonality(x, y, reduction="mean"):
    r"""Squared Frobenius norm of the product of two normalised matrices.

    Each feature is centred over the batch, then each row divided by its L2 norm (plus 1e-6, the norm taken as a
    constant in the gradient), which gives $X$ and $Y$:

    $$\|X^\top Y\|_F^2 = \sum_{ij} \Big(\sum_n X_{ni} Y_{nj}\Big)^2$$

    Args:
        x: tensor `(batch, units)`.
        y: tensor `(batch, other_units)`, same batch.
        reduction: `"mean"` over the `units * other_units` entries, as the published code does, or `"sum"`, as the
            paper writes it. At 128 units the sum is 16384 times larger; the paper's weight of 0.3 fits the mean.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: If `reduction` is another word.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
        >>> y = np.array([[0.0, 2.0], [0.0, -2.0]], "float32")
        >>> print(f"{float(orthogonality(x, y)):.3f} {float(orthogonality(x, y, reduction='sum')):.3f}")
        1.000 4.000
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f'`reduction` must be "mean" or "sum". Received: reduction={reduction!r}')
    product = ops.matmul(ops.transpose(_normalise(x)), _normalise(y))
    return (ops.mean if reduction == "mean" else ops.sum)(ops.square(product))


def _normalise(x):
    x = ops.cast(x, "float32")
    centred = x - ops.mean(x, axis=0)
    norms = ops.sqrt(ops.sum(ops.square(ops.stop_gradient(centred)), axis=1, keepdims=True))
    return centred / (norms + 1e-6)
