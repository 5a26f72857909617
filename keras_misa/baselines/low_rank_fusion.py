"""LMF: tensor fusion with a weight of low rank."""

import keras
from keras import ops

from keras_misa.baselines._baseline import (
    Baseline,
    check_outputs,
    check_positive,
    check_rates,
    sizes_of,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._modality_network import ModalityNetwork, check_averaged
from keras_misa.baselines.tensor_fusion_network import with_one

UNITS = 64, 16  # of text, and of others


@keras.saving.register_keras_serializable("keras_misa")
class LowRankFusion(Baseline):
    r"""LMF: the tensor of `TensorFusionNetwork`, times a weight of low rank, without ever being made.

    $$\hat y_o = \sum_{r=1}^{R} w_r \prod_m \Big\langle W^m_{o,:,r}, \begin{bmatrix} z^m \\ 1 \end{bmatrix} \Big\rangle
    + b_o \;=\; \Big\langle \sum_r w_r \bigotimes_m W^m_{o,:,r},\; \bigotimes_m \begin{bmatrix} z^m \\ 1 \end{bmatrix}
    \Big\rangle + b_o$$

    The cost grows with the sum, not the product, of the modalities' sizes. As in the published code the fusion gives
    the output itself, and the subnetworks that make $z^m$ are those of TFN: an LSTM and a dense layer (here of twice
    the size, and linear) or, for the modalities in `averaged`, the mean of the steps and three dense layers with ReLU.
    Paper and code average visual and acoustic features. Here that is no default: the usual features are normalised over
    each utterance, and their mean over its steps is zero.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        averaged: names of the modalities whose steps are averaged; none by default.
        units: sizes of the vectors: a number for all, or a dict with each one's. `None`, the default, is 64 for a
            modality called text and 16 for others, of the published code's ranges (32 to 128, and 4 to 16).
        rank: R, 4 by default, which the paper found to suffice (section 5.4; its grid is 1, 4, 8, 16).
        dropout: rate on the LSTMs' states, or means; 0.15 by default, of the published code's range (0 to 0.5).
        dtype: dtype or policy of the layers; each encoder has its own. The fusion is float32 always.

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
        >>> model = LowRankFusion({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, units=4, rank=3)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 9, 7), "float32"), "lengths": np.array([9, 4], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape
        (2, 1)

    Reference:
        Liu et al. Efficient Low-rank Multimodal Fusion with Modality-Specific Factors. ACL 2018.
    """

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        averaged=(),
        units=None,
        rank=4,
        dropout=0.15,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(rank=rank)
        check_rates(dropout=dropout)
        encoders = step_encoders(encoders)
        averaged = check_averaged(averaged, encoders)
        dtype = keras.dtype_policies.get(dtype)
        networks = {
            m: ModalityNetwork(size, 2 * size, m in averaged, "linear", dropout, dtype=dtype, name=f"{m}_network")
            for m, size in sizes_of(units, encoders, UNITS).items()
        }
        fusion = FactorizedFusion(encoders, num_outputs, rank, dtype="float32", name="fusion")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        prediction = fusion({m: network(steps[m]) for m, network in networks.items()})
        super().__init__(inputs, prediction, encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        self.averaged = averaged
        self.units = units
        self.rank = rank
        self.dropout = dropout

    def get_config(self):
        return {
            **super().get_config(),
            "averaged": self.averaged,
            "units": self.units,
            "rank": self.rank,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("keras_misa")
class FactorizedFusion(keras.layers.Layer):
    """A linear function of the outer product of vectors with a 1 appended, by a weight of low rank.

    Args:
        modalities: names.
        num_outputs: size of the output.
        rank: number of terms of the weight.

    Call arguments:
        vectors: dict, modality → `(batch, size)`.

    Returns:
        Tensor `(batch, num_outputs)`.
    """

    def __init__(self, modalities, num_outputs, rank, **kwargs):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)
        self.num_outputs = num_outputs
        self.rank = rank

    def build(self, vectors_shape):
        # In these shapes Keras's fans of Glorot are those of PyTorch in the published code's `(rank, size, outputs)`.
        self.factors = {
            m: self.add_weight(
                (self.num_outputs, vectors_shape[m][1] + 1, self.rank), initializer="glorot_normal", name=f"factor_{m}"
            )
            for m in sorted(self.modalities)
        }
        self.fusion_weights = self.add_weight((1, self.rank), initializer="glorot_normal", name="fusion_weights")
        self.bias = self.add_weight((self.num_outputs,), initializer="zeros", name="bias")

    def call(self, vectors):
        products = 1.0
        for modality in self.modalities:
            factor = self.factors[modality]
            products = products * ops.einsum("bi,oir->bor", with_one(vectors[modality]), factor)
        return ops.einsum("bor,kr->bo", products, self.fusion_weights) + self.bias

    def compute_output_shape(self, vectors_shape):
        (batch, _), *_ = vectors_shape.values()
        return (batch, self.num_outputs)

    def get_config(self):
        return {
            **super().get_config(),
            "modalities": self.modalities,
            "num_outputs": self.num_outputs,
            "rank": self.rank,
        }
