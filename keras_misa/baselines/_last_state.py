"""An LSTM's state after the last real step."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.step_encoder import is_real


@keras.saving.register_keras_serializable("keras_misa")
class LastState(keras.layers.Layer):
    """Hidden state of an LSTM after the last real step.

    Args:
        units: size of the state.

    Call arguments:
        steps: dict of `values`, `(batch, time, size)`, and `lengths`, `(batch,)`, as a `StepEncoder` gives them.

    Returns:
        Tensor `(batch, units)`; zeros for a row without steps.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.lstm = keras.layers.LSTM(units, dtype=self.dtype_policy, name="lstm")

    def build(self, steps_shape):
        self.lstm.build(steps_shape["values"])
        keep_frozen(self)

    def call(self, steps, training=None):
        values, lengths = steps["values"], steps["lengths"]
        # A row without any real step still runs its first, zeros: cuDNN refuses rows that are masked throughout.
        state = self.lstm(values, mask=is_real(values, ops.maximum(lengths, 1)), training=training)
        return ops.where(ops.expand_dims(lengths > 0, 1), state, ops.zeros_like(state))

    def compute_output_shape(self, steps_shape):
        return (steps_shape["values"][0], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
