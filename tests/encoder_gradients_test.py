"""Padding and empty utterances have no part in the gradients of the encoders' weights."""

import numpy as np
import oracles
import pytest
from keras import ops
from oracles import sequence, to_numpy

from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder

pytestmark = pytest.mark.backends
LENGTHS = [4, 1, 0, 3]


def weight_gradients(layer, inputs):
    """Gradients of the sum of the squared outputs with respect to each trainable weight."""
    return oracles.weight_gradients(lambda: ops.sum(ops.square(layer(inputs))), layer.trainable_variables)


def built(layer, inputs):
    """With random numbers in every weight: zero biases would make zeros of an empty utterance anyhow."""
    layer(inputs)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def padding(inputs):
    return np.arange(inputs["values"].shape[1]) >= inputs["lengths"][:, None]


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_garbage_in_the_padding(garbage):
    inputs = sequence(3, LENGTHS)
    inputs["values"][padding(inputs)] = 0.0
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    expected = weight_gradients(encoder, inputs)
    inputs["values"][padding(inputs)] = garbage
    for slope, other in zip(weight_gradients(encoder, inputs), expected, strict=True):
        assert other.any()
        np.testing.assert_array_equal(slope, other)


def test_garbage_ids_in_the_padding():
    inputs = {"values": np.array([[1, 2, 3], [4, 0, 0]], "int32"), "lengths": np.array([3, 1], "int32")}
    encoder = built(WordUtteranceEncoder(6, 3, units=2), inputs)
    expected = weight_gradients(encoder, inputs)
    paths = [variable.path for variable in encoder.trainable_variables]
    table = expected[paths.index(encoder.embedding.embeddings.path)]
    np.testing.assert_array_equal(table.any(axis=1), [False, True, True, True, True, False])
    inputs["values"][1, 1:] = [5, 2**31 - 1]
    for slope, other in zip(weight_gradients(encoder, inputs), expected, strict=True):
        np.testing.assert_array_equal(slope, other)


def test_more_padding():
    inputs = sequence(3, LENGTHS)
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    longer = {**inputs, "values": np.pad(inputs["values"], [(0, 0), (0, 3), (0, 0)], constant_values=np.nan)}
    for slope, other in zip(weight_gradients(encoder, longer), weight_gradients(encoder, inputs), strict=True):
        np.testing.assert_allclose(slope, other, atol=1e-6)


def test_an_empty_utterance_has_no_part():
    inputs = sequence(3, [4, 0])
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    alone = {name: array[:1] for name, array in inputs.items()}
    empty = {name: array[1:] for name, array in inputs.items()}
    np.testing.assert_array_equal(to_numpy(encoder(empty)), 0.0)
    for slope, other in zip(weight_gradients(encoder, inputs), weight_gradients(encoder, alone), strict=True):
        np.testing.assert_allclose(slope, other, atol=1e-6)
    for slope in weight_gradients(encoder, empty):
        np.testing.assert_array_equal(slope, 0.0)


def test_neighbours_in_the_batch_have_no_part():
    inputs = sequence(3, LENGTHS)
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    alone = [to_numpy(encoder({name: array[i : i + 1] for name, array in inputs.items()})) for i in range(4)]
    np.testing.assert_allclose(to_numpy(encoder(inputs)), np.concatenate(alone), atol=1e-6)
