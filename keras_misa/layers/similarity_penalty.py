"""Similarity loss by central moment discrepancy, equation 8 of the paper."""

import itertools

import keras

from keras_misa.layers.penalty import Penalty
from keras_misa.losses.central_moment_discrepancy import central_moment_discrepancy, check_arguments


@keras.saving.register_keras_serializable("keras_misa")
class SimilarityPenalty(Penalty):
    r"""Pulls the shared vectors of the modalities towards one distribution.

    $$L_{sim} = \frac{1}{P} \sum_{(m_1, m_2)} CMD_K(h^c_{m_1}, h^c_{m_2})$$

    over the P pairs of modalities (three pairs for three); zero for a single modality.

    Args:
        weight: factor of the term in the loss, the paper's α.
        num_moments: integer K, the number of moments compared.
        bounds: interval of the shared vectors: `(0.0, 1.0)` for sigmoid, `(-1.0, 1.0)` for tanh.

    Call arguments:
        representations: dict with `shared`: modality name → `(batch, units)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive, `num_moments` is below 1, or `bounds` is not an interval.

    Example:
        >>> import numpy as np
        >>> layer = SimilarityPenalty()
        >>> shared = {"text": np.zeros((2, 4), "float32"), "visual": np.ones((2, 4), "float32")}
        >>> _ = layer({"shared": shared})
        >>> [float(loss) for loss in layer.losses]
        [2.0]
    """

    needs = ("shared",)

    def __init__(self, weight=1.0, num_moments=5, bounds=(0.0, 1.0), **kwargs):
        super().__init__(weight, **kwargs)
        check_arguments(num_moments, bounds)
        self.num_moments = num_moments
        self.bounds = tuple(bounds)

    def compute_term(self, representations):
        """Mean discrepancy over the pairs of modalities."""
        return mean_over_pairs(
            lambda x, y: central_moment_discrepancy(x, y, self.num_moments, self.bounds), representations["shared"]
        )

    def get_config(self):
        return {**super().get_config(), "num_moments": self.num_moments, "bounds": self.bounds}


def mean_over_pairs(discrepancy, vectors):
    """Mean of a discrepancy over the pairs of modalities, a float32 scalar; zero where there is no pair."""
    terms = [discrepancy(x, y) for x, y in itertools.combinations(vectors.values(), 2)]
    return keras.ops.convert_to_tensor(sum(terms) / max(len(terms), 1), dtype="float32")
