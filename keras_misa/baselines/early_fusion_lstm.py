"""EF-LSTM: one LSTM on the modalities side by side."""

import keras

from keras_misa.baselines._aligned_steps import AlignedSteps
from keras_misa.baselines._baseline import (
    Baseline,
    check_outputs,
    check_positive,
    check_rates,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._last_state import LastState


@keras.saving.register_keras_serializable("keras_misa")
class EarlyFusionLSTM(Baseline):
    r"""EF-LSTM: the modalities' vectors are joined at each step, and one LSTM reads them.

    $$x_t = [x^m_t]_m, \quad h_t = \mathrm{LSTM}(x_t, h_{t-1}), \quad
    \hat y = W_2\, \mathrm{ReLU}(W_1 h_T + b_1) + b_2$$

    Step t must mean the same moment in all modalities, as in word-aligned data. A row is as long as the longest of its
    modalities; one that has ended, or is missing, counts as zeros.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        units: size of the LSTM's state; 128 by default, of the published code's range (32 to 256).
        hidden_dim: of the dense layer before the output. `None`, the default, takes `units`, as the published code.
        dropout: rate before the output; 0.2 by default, of the published code's range (0 to 0.7).
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
        >>> model = EarlyFusionLSTM({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, units=4)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 3, 7), "float32"), "lengths": np.array([3, 1], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape
        (2, 1)

    Reference:
        The comparison of Zadeh et al., Memory Fusion Network for Multi-view Sequential Learning, AAAI 2018, and of all
        that followed.
    """

    needs_alignment = True

    def __init__(
        self, encoders, num_outputs=1, predicts="scores", units=128, hidden_dim=None, dropout=0.2, dtype=None, **kwargs
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(units=units, hidden_dim=units if hidden_dim is None else hidden_dim)
        check_rates(dropout=dropout)
        encoders = step_encoders(encoders)
        dtype = keras.dtype_policies.get(dtype)
        fusion = AlignedSteps(encoders, dtype=dtype, name="fusion")
        lstm = LastState(units, dtype=dtype, name="lstm")
        head_dense = keras.layers.Dense(hidden_dim or units, "relu", dtype=dtype, name="head_dense")
        head_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="head_dropout")
        head_output = keras.layers.Dense(num_outputs, dtype="float32", name="head_output")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        prediction = head_output(head_dropout(head_dense(lstm(fusion(steps)))))
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
