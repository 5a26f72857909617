"""What MISA computes: encoders and subspaces, the left half of the paper's Figure 2."""

import keras

from keras_misa.layers.shared_private_projection import SUBSPACES, SharedPrivateProjection
from keras_misa.models._batch import arrange
from keras_misa.models._rebuilding import check_encoders, common_config, rebuild


@keras.saving.register_keras_serializable("keras_misa")
class MISABackbone(keras.Model):
    """From the sequences of each modality to its projected, shared and private vectors.

    Args:
        encoders: dict, modality name → encoder: a layer with a method `make_inputs(name)`, such as `UtteranceEncoder`
            or `WordUtteranceEncoder`, or a functional or sequential Keras model; its output is `(batch, any size)`. The
            names are yours; removing a key removes a modality.
        hidden_dim: size of the vectors, d_h.
        activation: of the projection (and, by default, of the task's head): the name of a Keras activation.
            `"leaky_relu"` has the slope 0.01 and `"prelu"` one scalar slope, 0.25 at the start, that projections and
            head share: PyTorch's definitions, which the published results come from.
        subspaces: some of `("shared", "private")`. Both are MISA; `("shared",)` the paper's variant *inv*; `()` its
            *base* (section 5.2.3).
        subspace_activation: of the shared and private vectors.
        epsilon: of the layer normalisation after the projection; PyTorch's 1e-5 by default.
        dtype: dtype or policy of projections and subspaces, such as `"mixed_bfloat16"`; each encoder has its own.

    Call arguments:
        inputs: the batch: dict, modality name → that encoder's inputs, for example
            `{"visual": {"values": (batch, time, 47), "lengths": (batch,)}, …}`.

    Returns:
        The representations: dict of `projected` and each of `subspaces`, every one a dict, modality name →
        `(batch, hidden_dim)`.

    Raises:
        ValueError: If there is no encoder, two have one name, or a name or subspace is not valid.
        TypeError: If an encoder does not tell its inputs.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import UtteranceEncoder
        >>> backbone = MISABackbone({"visual": UtteranceEncoder(5), "acoustic": UtteranceEncoder(7)}, hidden_dim=16)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 4, 7), "float32"), "lengths": np.array([4, 2], "int32")},
        ... }
        >>> representations = backbone.predict(batch, verbose=0)
        >>> representations["shared"]["acoustic"].shape
        (2, 16)
    """

    def __init__(
        self,
        encoders,
        hidden_dim=128,
        activation="relu",
        subspaces=SUBSPACES,
        subspace_activation="sigmoid",
        epsilon=1e-5,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_encoders(encoders)
        dtype = keras.dtype_policies.get(dtype)
        activation_layer = make_activation(activation, dtype)
        dense = {m: keras.layers.Dense(hidden_dim, dtype=dtype, name=f"{m}_projection") for m in encoders}
        norm = {m: keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name=f"{m}_norm") for m in encoders}
        subspace_projection = SharedPrivateProjection(
            hidden_dim, subspaces, subspace_activation, dtype=dtype, name="subspaces"
        )

        # === Functional model ===
        inputs = {modality: _make_inputs(modality, encoder) for modality, encoder in encoders.items()}
        utterance = {modality: encoder(inputs[modality]) for modality, encoder in encoders.items()}
        projected = {m: norm[m](activation_layer(dense[m](vector))) for m, vector in utterance.items()}
        representations = subspace_projection(projected)
        super().__init__(inputs=inputs, outputs=representations, **kwargs)

        # === Config ===
        self.dtype_policy = dtype
        self.encoders = dict(encoders)
        self.hidden_dim = hidden_dim
        self.activation = activation
        self.subspaces = subspace_projection.subspaces
        self.subspace_activation = keras.activations.serialize(subspace_projection.activation)
        self.epsilon = epsilon
        self.activation_layer = activation_layer

    def call(self, inputs, training=None, mask=None, **kwargs):
        return super().call(arrange(inputs, self.input), training=training, mask=mask, **kwargs)

    @property
    def modalities(self):
        """Names of the modalities, in their order."""
        return list(self.encoders)

    def get_config(self):
        return {
            **common_config(self),
            "encoders": {m: keras.saving.serialize_keras_object(encoder) for m, encoder in self.encoders.items()},
            "hidden_dim": self.hidden_dim,
            "activation": self.activation,
            "subspaces": self.subspaces,
            "subspace_activation": self.subspace_activation,
            "epsilon": self.epsilon,
        }

    @classmethod
    def from_config(cls, config):
        return rebuild(cls, config, "encoders")


def make_activation(activation, dtype=None):
    """One activation layer, with PyTorch's defaults where Keras has others."""
    if activation == "leaky_relu":
        return keras.layers.LeakyReLU(negative_slope=0.01, dtype=dtype, name="activation")
    if activation == "prelu":
        slope = keras.initializers.Constant(0.25)
        return keras.layers.PReLU(slope, shared_axes=[1], dtype=dtype, name="activation")
    return keras.layers.Activation(activation, dtype=dtype, name="activation")


def _make_inputs(modality, encoder):
    if hasattr(encoder, "make_inputs"):
        return encoder.make_inputs(modality)
    structure = encoder.input if hasattr(encoder, "input") else None
    if isinstance(encoder, keras.Sequential) and encoder.inputs:
        (structure,) = encoder.inputs
    if isinstance(encoder, keras.Model) and structure is not None:
        single = keras.backend.is_keras_tensor(structure)
        return keras.tree.map_structure(
            lambda tensor: keras.Input(
                batch_shape=tensor.shape,
                dtype=tensor.dtype,
                name=modality if single else f"{modality}_{tensor.name}",
            ),
            structure,
        )
    raise TypeError(
        "An encoder must be a layer with `make_inputs(name)` or a Keras model that knows its inputs, functional or "
        "sequential. "
        f"Received: encoders[{modality!r}]={encoder}"
    )
