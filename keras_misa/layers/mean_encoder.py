"""Sequence of contextual vectors to one vector: their mean."""

import keras

from keras_misa.layers.step_encoder import StepEncoder, check_vectors, is_real, mean_of


@keras.saving.register_keras_serializable("keras_misa")
class MeanEncoder(keras.layers.Layer):
    r"""Mean of the real steps, $\frac{1}{T}\sum_{t<T} x_t$; nothing is learned.

    For vectors that know their context already, such as the last hidden states of BERT which MMSA's files hold: the
    published code takes their mean, `[CLS]` and `[SEP]` included. Steps at and beyond the length count for nothing; an
    utterance of length 0 gives zeros.

    Args:
        feature_dim: size of a vector, such as 768 for BERT.

    Call arguments:
        inputs: dict of `values`, `(batch, time, feature_dim)`, and `lengths`, `(batch,)`, integers: the number of real
            steps of each row, which stand first.

    Returns:
        Tensor `(batch, feature_dim)`.

    Raises:
        ValueError: If `feature_dim` is not positive, or values are not `(batch, time, feature_dim)`.

    Example:
        >>> import numpy as np
        >>> values = np.array([[[1.0], [3.0], [np.nan]]], "float32")
        >>> float(MeanEncoder(1)({"values": values, "lengths": np.array([2])})[0, 0])
        2.0
    """

    def __init__(self, feature_dim, **kwargs):
        super().__init__(**kwargs)
        if feature_dim < 1:
            raise ValueError(f"`feature_dim` must be a positive integer. Received: feature_dim={feature_dim}")
        self.feature_dim = feature_dim

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {
            "values": keras.Input((None, self.feature_dim), name=f"{name}_values"),
            "lengths": keras.Input((), dtype="int32", name=f"{name}_lengths"),
        }

    def step_encoder(self):
        """Step by step, without what this one makes of them."""
        return StepEncoder(self.feature_dim, dtype=self.dtype_policy)

    def build(self, input_shape):
        check_vectors(input_shape["values"], self.feature_dim)

    def call(self, inputs):
        values, lengths = inputs["values"], inputs["lengths"]
        return mean_of(values, is_real(values, lengths))

    def compute_output_shape(self, input_shape):
        return (input_shape["values"][0], self.feature_dim)

    def get_config(self):
        return {**super().get_config(), "feature_dim": self.feature_dim}
