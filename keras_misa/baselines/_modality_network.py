"""The embedding subnetworks of TFN and LMF."""

import keras

from keras_misa.baselines._last_state import LastState
from keras_misa.layers import MeanEncoder
from keras_misa.layers._frozen import keep_frozen

HIDDEN_LAYERS = 3  # after a mean


@keras.saving.register_keras_serializable("keras_misa")
class ModalityNetwork(keras.layers.Layer):
    """The steps of a modality to one vector: an LSTM's last state and a dense layer; or their mean and three.

    Args:
        units: size of the vector.
        lstm_units: size of the LSTM's state.
        is_averaged: whether the mean of the steps takes the LSTM's place.
        activation: of the dense layer after the LSTM; those after the mean have ReLU.
        dropout: rate on the state or mean.
        hidden_dropout: rate after each dense layer.
        regularizer: of the dense layers' kernels.

    Call arguments:
        steps: dict of `values`, `(batch, time, size)`, and `lengths`, `(batch,)`, as a `StepEncoder` gives them.

    Returns:
        Tensor `(batch, units)`.
    """

    def __init__(
        self,
        units,
        lstm_units,
        is_averaged=False,
        activation="relu",
        dropout=0.0,
        hidden_dropout=0.0,
        regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.lstm_units = lstm_units
        self.is_averaged = is_averaged
        self.activation = activation
        self.dropout = dropout
        self.hidden_dropout = hidden_dropout
        self.regularizer = keras.regularizers.get(regularizer)
        self.pooled_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        activations = ["relu"] * HIDDEN_LAYERS if is_averaged else [activation]
        self.denses = [
            keras.layers.Dense(
                units, a, kernel_regularizer=self.regularizer, dtype=self.dtype_policy, name=f"dense_{i}"
            )
            for i, a in enumerate(activations)
        ]
        self.dropouts = [keras.layers.Dropout(hidden_dropout, dtype=self.dtype_policy) for _ in self.denses]

    def build(self, steps_shape):
        size = steps_shape["values"][2]
        if self.is_averaged:
            self.pooling = MeanEncoder(size, dtype=self.dtype_policy, name="mean")
        else:
            self.pooling = LastState(self.lstm_units, dtype=self.dtype_policy, name="last_state")
        self.pooling.build(steps_shape)
        size = size if self.is_averaged else self.lstm_units
        for dense in self.denses:
            dense.build((None, size))
            size = self.units
        keep_frozen(self)

    def call(self, steps, training=None):
        x = self.pooled_dropout(self.pooling(steps), training=training)
        for dense, dropout in zip(self.denses, self.dropouts, strict=True):
            x = dropout(dense(x), training=training)
        return x

    def compute_output_shape(self, steps_shape):
        return (steps_shape["values"][0], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "lstm_units": self.lstm_units,
            "is_averaged": self.is_averaged,
            "activation": self.activation,
            "dropout": self.dropout,
            "hidden_dropout": self.hidden_dropout,
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }


def check_averaged(averaged, modalities):
    """The names as a tuple, or raise if one is not among the modalities."""
    averaged = tuple(averaged)
    if wrong := [name for name in averaged if name not in modalities]:
        raise ValueError(f"`averaged` must be some of the modalities {list(modalities)}. Received: averaged={wrong}")
    return averaged
