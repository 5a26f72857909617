"""Sequence of feature vectors to one vector: the sLSTM of equation 1."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.step_encoder import StepEncoder, check_vectors, is_real, with_a_step

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


@keras.saving.register_keras_serializable("keras_misa")
class UtteranceEncoder(keras.layers.Layer):
    """Two stacked bidirectional LSTMs (or GRUs) with layer normalisation between them; end states of both.

    Steps at and beyond the length count for nothing: what stands there, NaN included, never reaches the output, and
    the backward direction starts at the last real step. An utterance of length 0 gives zeros.

    Args:
        feature_dim: size of a feature vector, such as 47 for the visual features of CMU-MOSI.
        units: hidden size H of each direction. `None`, the default, takes `feature_dim`, as the published code does.
        epsilon: of the layer normalisation; PyTorch's 1e-5 by default.
        cell: `"lstm"` or `"gru"`.

    Call arguments:
        inputs: dict of `values`, `(batch, time, feature_dim)`, and `lengths`, `(batch,)`, integers: the number of real
            steps of each row, which stand first. Where a graph of TensorFlow does not know the time, it must be 1 or
            more.

    Returns:
        Tensor `(batch, 4 * units)`: final hidden states in the order first layer forward, second layer forward, first
        layer backward, second layer backward.

    Raises:
        ValueError: If `feature_dim` or `units` is not positive, `cell` is another word, or values are not
            `(batch, time, feature_dim)`.

    Example:
        >>> import numpy as np
        >>> encoder = UtteranceEncoder(feature_dim=3)
        >>> encoder({"values": np.ones((2, 5, 3), "float32"), "lengths": np.array([5, 2])}).shape[1]
        12
    """

    def __init__(self, feature_dim, units=None, epsilon=1e-5, cell="lstm", **kwargs):
        super().__init__(**kwargs)
        for name, value in (("feature_dim", feature_dim), ("units", units)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}")
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {sorted(CELLS)}. Received: cell={cell!r}")
        self.feature_dim = feature_dim
        self.units = units
        self.epsilon = epsilon
        self.cell = cell
        self.rnn_1 = self._make_rnns(f"{cell}_1", return_sequences=True)
        self.layer_norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy, name="layer_norm")
        self.rnn_2 = self._make_rnns(f"{cell}_2", return_sequences=False)

    def _make_rnns(self, name, return_sequences):
        """Forward and backward LSTM or GRU.

        Not `keras.layers.Bidirectional`: it serialises the layer that it is given, and while a `.keras` file is loaded
        Keras may take that copy for another one that happened to have the same address.
        """
        return [
            CELLS[self.cell](
                self.units or self.feature_dim,
                return_sequences=return_sequences,
                return_state=True,
                go_backwards=direction == "backward",
                dtype=self.dtype_policy,
                name=f"{name}_{direction}",
            )
            for direction in ("forward", "backward")
        ]

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {
            "values": keras.Input((None, self.feature_dim), name=f"{name}_values"),
            "lengths": keras.Input((), dtype="int32", name=f"{name}_lengths"),
        }

    def build(self, input_shape):
        self.check_shape(input_shape["values"])
        batch, time = input_shape["values"][:2]
        hidden_shape = (batch, time, 2 * (self.units or self.feature_dim))
        for rnn in self.rnn_1:
            rnn.build((batch, time, self.feature_dim))
        self.layer_norm.build(hidden_shape)
        for rnn in self.rnn_2:
            rnn.build(hidden_shape)
        keep_frozen(self)
        if self.cell == "lstm":
            for rnn in (*self.rnn_1, *self.rnn_2):
                rnn.cell.bias.stands_for = 2  # PyTorch adds two bias vectors: see `convert.reference_optimizer`

    def call(self, inputs, training=None):
        values, lengths = with_a_step(inputs["values"], inputs["lengths"])
        if keras.backend.backend() == "tensorflow" and self.cell == "lstm":
            from keras_misa import _tensorflow_lstm

            if _tensorflow_lstm.is_usable(self.compute_dtype):
                return _tensorflow_lstm.encode(values, lengths, self.embed, self.rnn_1, self.layer_norm, self.rnn_2)
        real = is_real(values, lengths)
        values = self.embed(ops.where(self._spread(real, values), values, ops.zeros_like(values)))
        # A row without any real step still runs its first, zeroed one: cuDNN refuses rows that are masked throughout.
        states = self._end_states(values, ops.maximum(lengths, 1), training)
        return ops.where(ops.expand_dims(lengths > 0, 1), states, ops.zeros_like(states))

    def _end_states(self, values, lengths, training):
        if keras.backend.backend() == "torch" and self.cell == "lstm":
            from keras_misa import _torch_lstm

            if _torch_lstm.is_usable(values):
                return _torch_lstm.encode(values, lengths, self.rnn_1, self.layer_norm, self.rnn_2)
        mask = is_real(values, lengths)
        forward, backward = self.rnn_1
        forward_sequence, forward_1, *_ = forward(values, mask=mask, training=training)
        backward_sequence, backward_1, *_ = backward(values, mask=mask, training=training)
        sequence = ops.concatenate([forward_sequence, ops.flip(backward_sequence, axis=1)], axis=-1)
        sequence = self.layer_norm(sequence)
        forward_2, backward_2 = (rnn(sequence, mask=mask, training=training)[1] for rnn in self.rnn_2)
        return ops.concatenate([forward_1, forward_2, backward_1, backward_2], axis=-1)

    def check_shape(self, shape):
        """Raise if values cannot be of this shape."""
        check_vectors(shape, self.feature_dim)

    def embed(self, values):
        """Turn the values of real steps into vectors, one axis more for ids; here they are vectors already."""
        return values

    def step_encoder(self):
        """Step by step, without what this one makes of them."""
        return StepEncoder(self.feature_dim, dtype=self.dtype_policy)

    @staticmethod
    def _spread(mask, values):
        return mask if len(values.shape) == 2 else ops.expand_dims(mask, -1)

    def compute_output_shape(self, input_shape):
        return (input_shape["values"][0], 4 * (self.units or self.feature_dim))

    def get_config(self):
        return {
            **super().get_config(),
            "feature_dim": self.feature_dim,
            "units": self.units,
            "epsilon": self.epsilon,
            "cell": self.cell,
        }
