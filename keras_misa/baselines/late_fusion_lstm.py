"""LF-LSTM: one LSTM a modality, joined at the end."""

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
from keras_misa.baselines._last_state import LastState

UNITS = 128, 32  # of text, and of others


@keras.saving.register_keras_serializable("keras_misa")
class LateFusionLSTM(Baseline):
    r"""LF-LSTM: each modality has an LSTM of its own, and a dense layer reads their last states.

    $$h^m_t = \mathrm{LSTM}^m(x^m_t, h^m_{t-1}), \quad
    \hat y = W_2\, \mathrm{ReLU}(W_1 [h^m_{T_m}]_m + b_1) + b_2$$

    The modalities' lengths may differ; a missing one (length 0) counts as zeros.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        units: sizes of the LSTMs' states: a number for all, or a dict with each one's. `None`, the default, is 128 for
            a modality called text and 32 for others, of the ranges that the published code of MFN has for its LSTMs.
        hidden_dim: of the dense layer before the output; 128 by default.
        dropout: rate before the output, 0.2 by default.
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
        >>> model = LateFusionLSTM({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, units=4)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 9, 7), "float32"), "lengths": np.array([9, 4], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape
        (2, 1)

    Reference:
        The comparison of Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019.
    """

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        units=None,
        hidden_dim=128,
        dropout=0.2,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(hidden_dim=hidden_dim)
        check_rates(dropout=dropout)
        encoders = step_encoders(encoders)
        dtype = keras.dtype_policies.get(dtype)
        sizes = sizes_of(units, encoders, UNITS)
        lstms = {m: LastState(size, dtype=dtype, name=f"{m}_lstm") for m, size in sizes.items()}
        fusion = keras.layers.Concatenate(dtype=dtype, name="fusion")
        head_dense = keras.layers.Dense(hidden_dim, "relu", dtype=dtype, name="head_dense")
        head_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="head_dropout")
        head_output = keras.layers.Dense(num_outputs, dtype="float32", name="head_output")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        states = [lstm(steps[m]) for m, lstm in lstms.items()]
        fused = fusion(states) if len(states) > 1 else states[0]
        prediction = head_output(head_dropout(head_dense(fused)))
        super().__init__(inputs, prediction, encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        self.units = units
        self.hidden_dim = hidden_dim
        self.dropout = dropout

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
        }
