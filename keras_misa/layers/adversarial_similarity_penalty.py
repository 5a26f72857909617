"""Similarity loss by an adversary, an alternative that section 3.5.1 of the paper names."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.penalty import Penalty


@keras.saving.register_keras_serializable("keras_misa")
class AdversarialSimilarityPenalty(Penalty):
    r"""Makes the shared vectors such that a discriminator cannot tell which modality they come from.

    $$L_{sim} = -\frac{1}{|m|} \sum_m \log D_m(R(h^c_m))$$

    averaged over the batch. D, two dense layers with dropout after the activation of the first, learns to name the
    modality; R is the identity whose gradient is reversed, so that whatever makes the vectors learns the opposite. The
    published code does the same with `use_cmd_sim=False`.

    Args:
        modalities: names of the modalities, in the order of the discriminator's outputs.
        weight: factor of the term in the loss, the paper's α.
        activation: of the discriminator's first layer: the name of a Keras activation, or a layer, which is then
            shared.
        dropout: rate in the discriminator.
        reversal: factor of the reversed gradient.

    Call arguments:
        representations: dict with `shared`: modality name → `(batch, units)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` or `reversal` is not positive.

    Example:
        >>> import numpy as np
        >>> layer = AdversarialSimilarityPenalty(["text", "visual"])
        >>> shared = {"text": np.zeros((2, 4), "float32"), "visual": np.zeros((2, 4), "float32")}
        >>> _ = layer({"shared": shared})
        >>> [f"{float(loss):.4f}" for loss in layer.losses]  # log 2: nothing to tell them by
        ['0.6931']

    Reference:
        Ganin et al. Domain-adversarial training of neural networks. JMLR 2016.
    """

    needs = ("shared",)

    def __init__(self, modalities, weight=1.0, activation="relu", dropout=0.1, reversal=1.0, **kwargs):
        super().__init__(weight, **kwargs)
        if not reversal > 0:
            raise ValueError(f"`reversal` must be positive. Received: reversal={reversal}")
        self.modalities = tuple(modalities)
        self.activation = activation if isinstance(activation, keras.Layer) else keras.activations.get(activation)
        self.dropout = dropout
        self.reversal = reversal
        self.dropout_layer = keras.layers.Dropout(dropout, dtype="float32")

    def build(self, representations_shape):
        super().build(representations_shape)
        shape = representations_shape["shared"][self.modalities[0]]
        self.hidden_dense = keras.layers.Dense(shape[-1], dtype="float32", name="hidden_dense")
        self.hidden_dense.build(shape)
        self.output_dense = keras.layers.Dense(len(self.modalities), dtype="float32", name="output_dense")
        self.output_dense.build(shape)
        keep_frozen(self)

    def compute_term(self, representations):
        """Mean cross-entropy of the discriminator's guesses."""
        terms = []
        for label, modality in enumerate(self.modalities):
            hidden = self.activation(self.hidden_dense(self.reverse(representations["shared"][modality])))
            logits = self.output_dense(self.dropout_layer(ops.cast(hidden, "float32")))
            terms.append(-ops.mean(ops.log_softmax(logits, axis=-1)[:, label]))
        return sum(terms) / len(terms)

    def reverse(self, x):
        """`x` exactly; its gradient times `-reversal`."""
        return ops.stop_gradient(x) - self.reversal * (x - ops.stop_gradient(x))

    def get_config(self):
        is_layer = isinstance(self.activation, keras.Layer)
        serialize = keras.saving.serialize_keras_object if is_layer else keras.activations.serialize
        return {
            **super().get_config(),
            "modalities": self.modalities,
            "activation": serialize(self.activation),
            "dropout": self.dropout,
            "reversal": self.reversal,
        }

    @classmethod
    def from_config(cls, config):
        activation = config["activation"]
        if isinstance(activation, dict) and "class_name" in activation:
            activation = keras.saving.deserialize_keras_object(activation)
        return cls(**{**config, "activation": activation})
