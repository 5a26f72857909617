"""Similarity loss by maximum mean discrepancy, an alternative that section 3.5.1 of the paper names."""

import keras

from keras_misa.layers.penalty import Penalty
from keras_misa.layers.similarity_penalty import mean_over_pairs
from keras_misa.losses import maximum_mean_discrepancy


@keras.saving.register_keras_serializable("keras_misa")
class MMDSimilarityPenalty(Penalty):
    r"""Pulls the shared vectors of the modalities towards one distribution, compared by kernels.

    $$L_{sim} = \frac{1}{P} \sum_{(m_1, m_2)} MMD^2(h^c_{m_1}, h^c_{m_2})$$

    over the P pairs of modalities; zero for a single modality. See `keras_misa.losses.maximum_mean_discrepancy`.

    Args:
        weight: factor of the term in the loss, the paper's α.

    Call arguments:
        representations: dict with `shared`: modality name → `(batch, units)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive.

    Example:
        >>> import numpy as np
        >>> layer = MMDSimilarityPenalty()
        >>> shared = {"text": np.zeros((2, 4), "float32"), "visual": np.zeros((2, 4), "float32")}
        >>> _ = layer({"shared": shared})
        >>> [float(loss) for loss in layer.losses]
        [0.0]
    """

    needs = ("shared",)

    def compute_term(self, representations):
        """Mean discrepancy over the pairs of modalities."""
        return mean_over_pairs(maximum_mean_discrepancy, representations["shared"])
