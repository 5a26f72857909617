"""MFN: a memory beside the modalities' LSTMs."""

import keras

from keras_misa.baselines._baseline import (
    Baseline,
    check_outputs,
    check_positive,
    check_rates,
    sizes_of,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._memory_fusion import MemoryFusion

UNITS = 128, 32  # of text, and of others


@keras.saving.register_keras_serializable("keras_misa")
class MemoryFusionNetwork(Baseline):
    r"""MFN: an LSTM a modality, attention to how their cells change, and a memory that keeps what was attended to.

    The system of LSTMs gives hidden states $h^m_t$ and cells $c^m_t$; $c_t$ are the cells of all modalities. Then

    $$a_t = \mathrm{softmax}(D_a([c_{t-1}; c_t])), \quad \hat c_t = [c_{t-1}; c_t] \odot a_t,$$
    $$\hat u_t = \tanh(D_u(\hat c_t)), \quad γ^k_t = σ(D_{γ k}([\hat c_t; u_{t-1}])), \quad
    u_t = γ^1_t \odot u_{t-1} + γ^2_t \odot \hat u_t,$$
    $$\hat y = D_y([h^m_T]_m; u_T),$$

    where each $D$ is a dense layer with ReLU, dropout, and a linear layer, and $c_0 = u_0 = 0$.

    Step t must mean the same moment in all modalities, as in word-aligned data. A row is as long as the longest of its
    modalities; one that has ended, or is missing, counts as zeros.

    The paper has no fixed sizes; its published code draws them at random, and the defaults are of its ranges.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        units: sizes of the LSTMs' states: a number for all, or a dict with each one's. `None`, the default, is 128 for
            a modality called text (32 to 256) and 32 for others (8 to 80).
        memory_dim: size of the memory, 128 by default (64 to 400).
        attention_dim: hidden size of $D_a$, 128 by default; of this and the next three the range is 32 to 256.
        proposal_dim: hidden size of $D_u$, 64 by default.
        gate_dim: hidden size of $D_{γ1}$ and $D_{γ2}$, 64 by default.
        head_dim: hidden size of $D_y$, 64 by default.
        dropout: rate in all $D$, 0.2 by default (0 to 0.7).
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
        >>> model = MemoryFusionNetwork({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, units=4, memory_dim=8)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 3, 7), "float32"), "lengths": np.array([3, 1], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape
        (2, 1)

    Reference:
        Zadeh et al. Memory Fusion Network for Multi-view Sequential Learning. AAAI 2018.
    """

    needs_alignment = True

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        units=None,
        memory_dim=128,
        attention_dim=128,
        proposal_dim=64,
        gate_dim=64,
        head_dim=64,
        dropout=0.2,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(
            memory_dim=memory_dim,
            attention_dim=attention_dim,
            proposal_dim=proposal_dim,
            gate_dim=gate_dim,
            head_dim=head_dim,
        )
        check_rates(dropout=dropout)
        encoders = step_encoders(encoders)
        dtype = keras.dtype_policies.get(dtype)
        sizes = sizes_of(units, encoders, UNITS)
        fusion = MemoryFusion(
            sizes, memory_dim, attention_dim, proposal_dim, gate_dim, dropout, dtype=dtype, name="fusion"
        )
        head_dense = keras.layers.Dense(head_dim, "relu", dtype=dtype, name="head_dense")
        head_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="head_dropout")
        head_output = keras.layers.Dense(num_outputs, dtype="float32", name="head_output")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        prediction = head_output(head_dropout(head_dense(fusion(steps))))
        super().__init__(inputs, prediction, encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        self.units = units
        self.memory_dim = memory_dim
        self.attention_dim = attention_dim
        self.proposal_dim = proposal_dim
        self.gate_dim = gate_dim
        self.head_dim = head_dim
        self.dropout = dropout

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "memory_dim": self.memory_dim,
            "attention_dim": self.attention_dim,
            "proposal_dim": self.proposal_dim,
            "gate_dim": self.gate_dim,
            "head_dim": self.head_dim,
            "dropout": self.dropout,
        }
