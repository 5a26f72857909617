"""MISA for classes, such as humour or not."""

import keras

from keras_misa.models.misa_task import MISATask


@keras.saving.register_keras_serializable("keras_misa")
class MISAClassifier(MISATask):
    """MISA that predicts a class.

    `compile()` without arguments gives cross-entropy (equation 12) of integer labels, Adam at 1e-4 with gradients
    clipped to ±1, and accuracy.

    Args:
        backbone: a `MISABackbone`.
        num_outputs: number of classes, 2 by default.
        **kwargs: see `MISATask`.

    Call arguments:
        inputs: the batch, as for the backbone.

    Returns:
        Logits `(batch, num_outputs)`, float32.

    Raises:
        ValueError: If `num_outputs` is below 2.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import UtteranceEncoder
        >>> from keras_misa.models import MISABackbone
        >>> backbone = MISABackbone({"visual": UtteranceEncoder(5)}, hidden_dim=16, activation="tanh")
        >>> model = MISAClassifier(backbone, difference_weight=1.0)  # one modality has nothing to be similar to
        >>> model.compile()
        >>> batch = {"visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")}}
        >>> sorted(model.evaluate(batch, np.array([0, 1]), verbose=0, return_dict=True))
        ['accuracy', 'difference', 'loss', 'reconstruction', 'task']
    """

    def __init__(self, backbone, num_outputs=2, **kwargs):
        if num_outputs < 2:
            raise ValueError(f"A classifier needs at least two classes. Received: num_outputs={num_outputs}")
        super().__init__(backbone, num_outputs, **kwargs)

    def default_loss(self):
        """Cross-entropy on logits, for integer labels."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        """Accuracy of the most likely class."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
