"""MISA for scores, such as sentiment in [-3, 3]."""

import keras

from keras_misa.metrics import regression_metrics
from keras_misa.models.misa_task import MISATask


@keras.saving.register_keras_serializable("keras_misa")
class MISARegressor(MISATask):
    """MISA that predicts a score.

    `compile()` without arguments gives mean squared error (equation 13), Adam at 1e-4 with gradients clipped to ±1, and
    the paper's metrics for sentiment.

    Args:
        backbone: a `MISABackbone`.
        num_outputs: number of scores, 1 by default.
        **kwargs: see `MISATask`.

    Call arguments:
        inputs: the batch, as for the backbone.

    Returns:
        Tensor `(batch, num_outputs)`, float32.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import UtteranceEncoder
        >>> from keras_misa.models import MISABackbone
        >>> backbone = MISABackbone({"visual": UtteranceEncoder(5), "acoustic": UtteranceEncoder(7)}, hidden_dim=16)
        >>> model = MISARegressor(backbone, similarity_weight=0.7)
        >>> model.compile()
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 4, 7), "float32"), "lengths": np.array([4, 2], "int32")},
        ... }
        >>> history = model.fit(batch, np.array([1.2, -0.4]), verbose=0).history
        >>> [name for name in ("loss", "task", "similarity", "difference", "reconstruction") if name not in history]
        []
        >>> model.explain(batch)["attention"].shape
        (2, 2, 4, 4)
    """

    def __init__(self, backbone, num_outputs=1, **kwargs):
        super().__init__(backbone, num_outputs, **kwargs)

    def default_loss(self):
        """Mean squared error."""
        return keras.losses.MeanSquaredError()

    def default_metrics(self):
        """The paper's metrics for sentiment."""
        return regression_metrics()
