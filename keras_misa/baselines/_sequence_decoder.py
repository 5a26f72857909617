"""A vector unrolled to a sequence."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen


@keras.saving.register_keras_serializable("keras_misa")
class SequenceDecoder(keras.layers.Layer):
    r"""An LSTM that starts from a vector and goes on by itself, and a dense layer on each of its states.

    $$x_1 = f, \quad h_0 = c_0 = 0, \quad h_t, c_t = \mathrm{LSTM}(x_t, h_{t-1}, c_{t-1}), \quad x_{t+1} = h_t, \quad
    \hat x_t = W h_t + b$$

    Args:
        feature_dim: size of a decoded step.

    Call arguments:
        inputs: dict of `factor`, `(batch, units)`, and `values`, `(batch, time, any size)`, which tells the number of
            steps and nothing else.

    Returns:
        Tensor `(batch, time, feature_dim)`.
    """

    def __init__(self, feature_dim, **kwargs):
        super().__init__(**kwargs)
        self.feature_dim = feature_dim
        self.dense = keras.layers.Dense(feature_dim, dtype=self.dtype_policy, name="dense")

    def build(self, inputs_shape):
        units = inputs_shape["factor"][1]
        self.lstm = keras.layers.RNN(
            FreeLSTMCell(units, dtype=self.dtype_policy), return_sequences=True, dtype=self.dtype_policy, name="lstm"
        )
        self.lstm.build((None, None, 1))
        self.dense.build((None, None, units))
        keep_frozen(self)

    def call(self, inputs):
        factor = inputs["factor"]
        nothing = ops.zeros_like(factor)
        states = self.lstm(ops.zeros_like(inputs["values"][:, :, :1]), initial_state=[factor, nothing, nothing])
        return self.dense(states)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape["values"][:2], self.feature_dim)

    def get_config(self):
        return {**super().get_config(), "feature_dim": self.feature_dim}


@keras.saving.register_keras_serializable("keras_misa")
class FreeLSTMCell(keras.layers.Layer):
    """An LSTM cell whose input is its own hidden state, after the first step, whose input is the first state given.

    Args:
        units: size of the state.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units, units]
        self.output_size = units

    def build(self, input_shape):
        shape = (self.units, 4 * self.units)
        self.kernel = self.add_weight(shape, name="kernel")
        self.recurrent_kernel = self.add_weight(shape, initializer="orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight((4 * self.units,), initializer="zeros", name="bias")

    def call(self, inputs, states):
        x, h, c = states
        z = ops.matmul(x, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = ops.split(z, 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, h, c]

    def get_config(self):
        return {**super().get_config(), "units": self.units}
