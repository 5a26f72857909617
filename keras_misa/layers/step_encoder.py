"""Sequence of feature vectors as it is, without what stands beyond its end."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class StepEncoder(keras.layers.Layer):
    """Each step of a sequence as a vector, zeros at and beyond the length.

    What models need that look at steps, not at one vector of an utterance. Every encoder has a method `step_encoder()`
    that makes the one for its modality.

    Args:
        feature_dim: size of a vector, such as 47 for the visual features of CMU-MOSI.

    Call arguments:
        inputs: dict of `values`, `(batch, time, feature_dim)`, and `lengths`, `(batch,)`, integers: the number of real
            steps of each row, which stand first. A time of 0 counts as one step that is not real; where a graph of
            TensorFlow does not know the time, it must be 1 or more.

    Returns:
        Dict of `values`, `(batch, time, feature_dim)`, and `lengths`, `(batch,)`, int32, at most `time`.

    Raises:
        ValueError: If `feature_dim` is not positive, or values are not `(batch, time, feature_dim)`.

    Example:
        >>> import numpy as np
        >>> values = np.array([[[1.0], [3.0], [np.nan]]], "float32")
        >>> steps = StepEncoder(1)({"values": values, "lengths": np.array([2])})
        >>> [float(x) for x in steps["values"][0, :, 0]]
        [1.0, 3.0, 0.0]
    """

    def __init__(self, feature_dim, **kwargs):
        super().__init__(**kwargs)
        if feature_dim < 1:
            raise ValueError(f"`feature_dim` must be a positive integer. Received: feature_dim={feature_dim}")
        self.feature_dim = feature_dim

    @property
    def output_dim(self):
        """Size of the vectors."""
        return self.feature_dim

    def step_encoder(self):
        """This layer."""
        return self

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {
            "values": keras.Input((None, self.feature_dim), name=f"{name}_values"),
            "lengths": keras.Input((), dtype="int32", name=f"{name}_lengths"),
        }

    def build(self, input_shape):
        check_vectors(input_shape["values"], self.feature_dim)

    def call(self, inputs):
        values, lengths = with_a_step(inputs["values"], ops.cast(inputs["lengths"], "int32"))
        real = is_real(values, lengths)
        real = ops.expand_dims(real, -1) if len(values.shape) == 3 else real
        vectors = self.embed(ops.where(real, values, ops.zeros_like(values)))
        return finish(vectors, lengths)

    def embed(self, values):
        """Turn the values of steps into vectors; here they are vectors already."""
        return values

    def compute_output_shape(self, input_shape):
        return shape_of_steps(input_shape, self.output_dim)

    def compute_output_spec(self, inputs):
        return spec_of_steps(self, inputs)

    def get_config(self):
        return {**super().get_config(), "feature_dim": self.feature_dim}


def check_vectors(shape, size):
    """Raise if this is not the shape of sequences of vectors of this size."""
    if len(shape) != 3 or shape[2] != size:
        raise ValueError(f"Expected values of shape (batch, time, {size}). Received: {tuple(shape)}")


def check_ids(shape):
    """Raise if this is not the shape of sequences of ids."""
    if len(shape) != 2:
        raise ValueError(f"Expected ids of shape (batch, time). Received: {tuple(shape)}")


def with_a_step(values, lengths):
    """The same, or where the time is known to be 0 one step of zeros, and no real one: recurrent layers need a step."""
    if values.shape[1] != 0:
        return values, lengths
    return ops.pad(values, [(0, 0), (0, 1)] + [(0, 0)] * (len(values.shape) - 2)), ops.zeros_like(lengths)


def is_real(values, lengths):
    """Which steps count, `(batch, time)`."""
    steps = ops.expand_dims(ops.arange(ops.shape(values)[1], dtype="int32"), 0)
    return steps < ops.expand_dims(ops.cast(lengths, "int32"), 1)


def mean_of(values, real):
    """Mean of the steps `(batch, time, size)` that `real` names; added up in float32, or in double precision."""
    dtype = values.dtype
    values = ops.cast(values, keras.backend.result_type(dtype, "float32"))
    count = ops.cast(ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True), values.dtype)
    total = ops.sum(ops.where(ops.expand_dims(real, -1), values, ops.zeros_like(values)), axis=1)
    return ops.cast(total / ops.maximum(count, 1), dtype)


def finish(vectors, lengths):
    """Vectors of steps with zeros where there is none, and the lengths, as a dict."""
    real = ops.expand_dims(is_real(vectors, lengths), -1)
    return {
        "values": ops.where(real, vectors, ops.zeros_like(vectors)),
        "lengths": ops.clip(lengths, 0, ops.shape(vectors)[1]),
    }


def shape_of_steps(input_shape, size):
    """Shapes of what a step encoder gives."""
    batch, time = input_shape["values"][:2]
    return {"values": (batch, 1 if time == 0 else time, size), "lengths": (batch,)}


def spec_of_steps(encoder, inputs):
    """Symbolic tensors of what a step encoder gives."""
    shapes = encoder.compute_output_shape({key: x.shape for key, x in inputs.items()})
    dtypes = {"values": encoder.compute_dtype, "lengths": "int32"}
    return {key: keras.KerasTensor(shape, dtypes[key]) for key, shape in shapes.items()}
