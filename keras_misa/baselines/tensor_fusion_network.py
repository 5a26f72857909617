"""TFN: the outer product of the modalities' vectors."""

import math

import keras
from keras import ops

from keras_misa.baselines._baseline import (
    Baseline,
    check_not_negative,
    check_outputs,
    check_positive,
    check_rates,
    sizes_of,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._modality_network import ModalityNetwork, check_averaged

UNITS = 128, 32  # of text, and of others


@keras.saving.register_keras_serializable("keras_misa")
class TensorFusionNetwork(Baseline):
    r"""TFN: one vector a modality, and all their products.

    $$z^m = U_m(x^m; W_m), \quad Z = \bigotimes_m \begin{bmatrix} z^m \\ 1 \end{bmatrix}, \quad
    \hat y = W_3\, \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1 \mathrm{vec}(Z) + b_1) + b_2) + b_3$$

    The appended 1 keeps the vectors themselves and the products of fewer modalities in $Z$. Its size is the product of
    the `units + 1` of all modalities, 129 · 33 · 33 by default.

    The subnetwork $U_m$ is an LSTM and a dense layer or, for the modalities in `averaged`, the mean of the steps and
    three dense layers, with ReLU. The paper averages visual and acoustic features. Here that is no default: the usual
    features are normalised over each utterance, and their mean over its steps is zero.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        averaged: names of the modalities whose steps are averaged; none by default.
        units: sizes of the vectors, and of the LSTMs: a number for all, or a dict with each one's. `None`, the default,
            is the paper's 128 for a modality called text and 32 for others (section 4.1).
        head_dim: size of the two dense layers before the output, 128 by default (section 4.3).
        dropout: rate on all hidden layers, 0.15 by default (section 5).
        l2: factor of the squared weights of the dense layers in the loss, 0.01 by default (section 5); 0 for none.
        dtype: dtype or policy of the layers; each encoder has its own.

    Call arguments:
        inputs: the batch: dict, modality → that encoder's inputs.

    Returns:
        Tensor `(batch, num_outputs)`, float32: scores, or logits.

    Raises:
        ValueError: If an argument is not valid.
        TypeError: If an encoder does not know steps.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import StepEncoder
        >>> model = TensorFusionNetwork({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, units=4)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 9, 7), "float32"), "lengths": np.array([9, 4], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape, model.get_layer("fusion").output.shape
        ((2, 1), (None, 25))

    Reference:
        Zadeh et al. Tensor Fusion Network for Multimodal Sentiment Analysis. EMNLP 2017.
    """

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        averaged=(),
        units=None,
        head_dim=128,
        dropout=0.15,
        l2=0.01,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(head_dim=head_dim)
        check_rates(dropout=dropout)
        check_not_negative(l2=l2)
        encoders = step_encoders(encoders)
        averaged = check_averaged(averaged, encoders)
        dtype = keras.dtype_policies.get(dtype)
        regularizer = keras.regularizers.L2(l2) if l2 else None
        networks = {
            m: ModalityNetwork(
                size,
                size,
                m in averaged,
                dropout=dropout,
                hidden_dropout=dropout,
                regularizer=regularizer,
                dtype=dtype,
                name=f"{m}_network",
            )
            for m, size in sizes_of(units, encoders, UNITS).items()
        }
        fusion = TensorFusion(encoders, dtype=dtype, name="fusion")
        head = []
        for number in (1, 2):
            head += [
                keras.layers.Dense(
                    head_dim, "relu", kernel_regularizer=regularizer, dtype=dtype, name=f"head_dense_{number}"
                ),
                keras.layers.Dropout(dropout, dtype=dtype, name=f"head_dropout_{number}"),
            ]
        head_output = keras.layers.Dense(
            num_outputs, kernel_regularizer=regularizer, dtype="float32", name="head_output"
        )

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        x = fusion({m: network(steps[m]) for m, network in networks.items()})
        for layer in head:
            x = layer(x)
        super().__init__(inputs, head_output(x), encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        self.averaged = averaged
        self.units = units
        self.head_dim = head_dim
        self.dropout = dropout
        self.l2 = l2

    def get_config(self):
        return {
            **super().get_config(),
            "averaged": self.averaged,
            "units": self.units,
            "head_dim": self.head_dim,
            "dropout": self.dropout,
            "l2": self.l2,
        }


@keras.saving.register_keras_serializable("keras_misa")
class TensorFusion(keras.layers.Layer):
    """Outer product of vectors, to each of which a 1 is appended.

    Args:
        modalities: names, in the order of the axes.

    Call arguments:
        vectors: dict, modality → `(batch, size)`.

    Returns:
        Tensor `(batch, product of size + 1)`.
    """

    def __init__(self, modalities, **kwargs):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def call(self, vectors):
        products = None
        for vector in (with_one(vectors[m]) for m in self.modalities):
            if products is None:
                products = vector
                continue
            pairs = ops.expand_dims(products, 2) * ops.expand_dims(vector, 1)
            products = ops.reshape(pairs, (-1, products.shape[1] * vector.shape[1]))
        return products

    def compute_output_shape(self, vectors_shape):
        (batch, _), *_ = vectors_shape.values()
        return (batch, math.prod(vectors_shape[m][1] + 1 for m in self.modalities))

    def get_config(self):
        return {**super().get_config(), "modalities": self.modalities}


def with_one(vectors):
    """Vectors `(batch, size)` with a 1 at their end."""
    return ops.concatenate([vectors, ops.ones_like(vectors[:, :1])], axis=1)
