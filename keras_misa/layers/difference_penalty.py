"""Difference loss, equation 10 of the paper."""

import itertools

import keras

from keras_misa.layers.penalty import Penalty
from keras_misa.losses import orthogonality


@keras.saving.register_keras_serializable("keras_misa")
class DifferencePenalty(Penalty):
    r"""Pushes private vectors away from the shared ones and from each other.

    $$L_{diff} = \sum_m \|{H^c_m}^\top H^p_m\|_F^2 + \sum_{(m_1, m_2)} \|{H^p_{m_1}}^\top H^p_{m_2}\|_F^2$$

    Args:
        weight: factor of the term in the loss, the paper's β.
        reduction: `"mean"` of the squared entries of each product, as the published code has it, or `"sum"`, as the
            paper writes it; see `keras_misa.losses.orthogonality`.

    Call arguments:
        representations: dict with `shared` and `private`, each modality name → `(batch, units)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive or `reduction` is unknown.

    Example:
        >>> import numpy as np
        >>> layer = DifferencePenalty(weight=0.3)
        >>> vectors = {"text": np.eye(2, dtype="float32")}
        >>> _ = layer({"shared": vectors, "private": vectors})
        >>> print(f"{float(layer.losses[0]):.4f}")  # 0.3 · the mean of four squared entries, each 1
        0.3000
    """

    needs = ("shared", "private")

    def __init__(self, weight=0.3, reduction="mean", **kwargs):
        super().__init__(weight, **kwargs)
        if reduction not in ("mean", "sum"):
            raise ValueError(f'`reduction` must be "mean" or "sum". Received: reduction={reduction!r}')
        self.reduction = reduction

    def compute_term(self, representations):
        """Sum over shared-private pairs of a modality and private-private pairs of modalities."""
        shared, private = representations["shared"], representations["private"]
        pairs = [(shared[m], private[m]) for m in private]
        pairs += itertools.combinations(private.values(), 2)
        return sum(orthogonality(x, y, self.reduction) for x, y in pairs)

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}
