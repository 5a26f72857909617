"""How well learned vectors tell known factors."""

import numpy as np


def subspace_scores(train_vectors, train_factors, test_vectors, test_factors, ridge=1.0):
    r"""Held-out R² of known factors from learned vectors.

    A ridge regression from the standardised vectors to each factor is fitted on one split and scored on another:

    $$R^2 = 1 - \frac{\sum (f - \hat f)^2}{\sum (f - \bar f)^2}$$

    averaged over the dimensions of the factor. 1: the vectors tell the factor; 0: no more than its mean does; below 0:
    worse than the mean.

    Args:
        train_vectors: dict, name → `(rows, size)`, to fit on.
        train_factors: dict, name → `(rows, size)`.
        test_vectors: same names, other rows.
        test_factors: same names, other rows.
        ridge: weight of the squared coefficients beside the sum of squared errors.

    Returns:
        Dict, name of vectors → dict, name of factor → R².

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> scores = subspace_scores({"shared": x}, {"f": x[:, :1]}, {"shared": x}, {"f": x[:, :1]}, ridge=1e-6)
        >>> print(f"{scores['shared']['f']:.3f}")
        1.000
    """
    scores = {}
    for name, train_x in train_vectors.items():
        mean, scale = train_x.mean(axis=0), train_x.std(axis=0) + 1e-8
        x = (train_x - mean) / scale
        gram = x.T @ x + ridge * np.eye(x.shape[1])
        scores[name] = {}
        for factor, train_f in train_factors.items():
            offset = train_f.mean(axis=0)
            coefficients = np.linalg.solve(gram, x.T @ (train_f - offset))
            predicted = (test_vectors[name] - mean) / scale @ coefficients + offset
            truth = test_factors[factor]
            residual = ((truth - predicted) ** 2).sum(axis=0)
            total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
            scores[name][factor] = float(np.mean(1.0 - residual / total))
    return scores


def variance_shares(vectors, factors):
    r"""Share of the vectors' variance that each known factor explains linearly.

    $$\text{share} = 1 - \frac{\sum_{n,k} (x_{nk} - \hat x_{nk})^2}{\sum_{n,k} (x_{nk} - \bar x_k)^2}$$

    with $\hat x$ the least-squares regression of all coordinates of the vectors on the factor. R² of a factor *from*
    the vectors (`subspace_scores`) does not see how loudly they tell it; this does. Of independent factors the shares
    add up to at most one; what is left is noise, or a factor told in a curve.

    Args:
        vectors: dict, name → `(rows, size)`.
        factors: dict, name → `(rows, size)`, the same rows.

    Returns:
        Dict, name of vectors → dict, name of factor → share in [0, 1].

    Example:
        >>> f = np.array([[-1.0], [1.0], [-1.0], [1.0]])
        >>> g = np.array([[-1.0], [-1.0], [1.0], [1.0]])
        >>> shares = variance_shares({"shared": np.hstack([3 * f, g])}, {"f": f, "g": g})["shared"]
        >>> print(f"{shares['f']:.2f} {shares['g']:.2f}")
        0.90 0.10
    """
    shares = {}
    for name, x in vectors.items():
        x = np.asarray(x, "float64") - np.mean(x, axis=0, dtype="float64")
        shares[name] = {}
        for factor, f in factors.items():
            f = np.asarray(f, "float64") - np.mean(f, axis=0, dtype="float64")
            coefficients, *_ = np.linalg.lstsq(f, x, rcond=None)
            shares[name][factor] = float(1.0 - ((x - f @ coefficients) ** 2).sum() / max((x**2).sum(), 1e-30))
    return shares
