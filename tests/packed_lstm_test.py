"""TensorFlow's CPU runs LSTMs over real steps only: the same numbers as Keras's layers and as a loop in NumPy."""

import functools

import keras
import numpy as np
import oracles
import pytest
from oracles import sequence, to_numpy, utterance_vector

from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's own path", allow_module_level=True)

import tensorflow as tf

from keras_misa import _tensorflow_lstm

RAGGED = [5, 1, 0, 7, 7, 3, 0, 2]
PATHS = {"one operation": 10**6, "loop": -1}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Both ways to run over the steps, whatever the number of tokens."""
    monkeypatch.setattr(_tensorflow_lstm, "FEW", PATHS[request.param])
    _tensorflow_lstm.in_graph.cache_clear()
    yield request.param
    _tensorflow_lstm.in_graph.cache_clear()


def built(encoder, inputs):
    encoder(inputs)
    rng = np.random.default_rng(1)
    encoder.set_weights([0.5 * rng.normal(size=w.shape) for w in encoder.get_weights()])
    return encoder


def output_and_gradients(encoder, inputs):
    """Outputs and the gradients of a function of all of them, of every weight and of the values if they are floats."""
    values = tf.convert_to_tensor(inputs["values"])
    sources = [v.value for v in encoder.trainable_variables] + [values] * values.dtype.is_floating
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = encoder({"values": values, "lengths": tf.convert_to_tensor(inputs["lengths"])})
        weights = tf.constant(np.random.default_rng(2).normal(size=y.shape[1:]), tf.float32)
        total = tf.reduce_sum(weights * tf.square(y))
    return [y, *(tf.convert_to_tensor(g) for g in tape.gradient(total, sources))]


def make_words():
    ids = np.random.default_rng(3).integers(0, 9, (len(RAGGED), 8)).astype("int32")
    return WordUtteranceEncoder(9, 3, units=2), {"values": ids, "lengths": np.array(RAGGED, "int32")}


CASES = {
    "ragged": lambda: (UtteranceEncoder(3, units=4), sequence(3, RAGGED, time=8)),
    "one row": lambda: (UtteranceEncoder(2, units=2), sequence(2, [4])),
    "empty rows": lambda: (UtteranceEncoder(2, units=2), sequence(2, [0, 0])),
    "words": make_words,
}


@functools.cache
def by_layers(case):
    """Encoder, inputs, and what Keras's own LSTM layers make of them."""
    encoder, inputs = CASES[case]()
    built(encoder, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tensorflow_lstm, "is_usable", lambda dtype: False)
        return encoder, inputs, to_numpy(output_and_gradients(encoder, inputs))


@pytest.mark.parametrize("case", CASES)
def test_keras_layers_give_the_same(path, case):
    encoder, inputs, expected = by_layers(case)
    for actual, array in zip(to_numpy(output_and_gradients(encoder, inputs)), expected, strict=True):
        np.testing.assert_allclose(actual, array, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["ragged", "words"])
def test_keras_layers_give_the_same_inside_a_graph(path, case):
    encoder, inputs, expected = by_layers(case)
    specs = [{n: tf.TensorSpec((None, None, *a.shape[2:])[: a.ndim], a.dtype) for n, a in inputs.items()}]
    compiled = tf.function(lambda x: output_and_gradients(encoder, x), specs)
    for actual, array in zip(to_numpy(compiled(inputs)), expected, strict=True):
        np.testing.assert_allclose(actual, array, atol=1e-5, rtol=1e-5)


def test_a_loop_in_numpy_gives_the_same(path):
    inputs = sequence(3, RAGGED, time=9)
    encoder = built(UtteranceEncoder(3, units=4), inputs)
    rows = to_numpy(encoder(inputs))
    for row, values, length in zip(rows, inputs["values"], RAGGED, strict=True):
        expected = utterance_vector(encoder, values[:length]) if length else np.zeros(16)
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_gradients_are_slopes(path):
    """By central differences of the loop in NumPy, in double precision."""
    inputs = sequence(2, [3, 1, 0], time=4)
    encoder = built(UtteranceEncoder(2, units=2), inputs)
    weights = encoder.get_weights()

    def total(values, arrays):
        encoder.set_weights(arrays)
        return sum(
            np.square(utterance_vector(encoder, v[:n].astype("float64"))).sum()
            for v, n in zip(values, inputs["lengths"], strict=True)
            if n
        )

    slopes = oracles.weight_gradients(
        lambda: keras.ops.sum(keras.ops.square(encoder(inputs))), encoder.trainable_variables
    )
    rng = np.random.default_rng(0)
    for number, slope in enumerate(slopes):
        index = tuple(rng.integers(size) for size in slope.shape)
        sides = []
        for change in (1e-2, -1e-2):
            arrays = [w.copy() for w in weights]
            arrays[number][index] += change
            sides.append(total(inputs["values"], arrays))
        encoder.set_weights(weights)
        assert slope[index] == pytest.approx((sides[0] - sides[1]) / 2e-2, rel=1e-2, abs=1e-3)


def test_no_steps_or_no_rows(path):
    encoder = built(UtteranceEncoder(3, units=2), sequence(3, [2]))
    specs = [{"values": tf.TensorSpec((None, None, 3)), "lengths": tf.TensorSpec((None,), tf.int32)}]
    compiled = tf.function(lambda x: output_and_gradients(encoder, x), specs)
    for rows, time in ((2, 0), (0, 4), (0, 0)):
        inputs = {"values": np.zeros((rows, time, 3), "float32"), "lengths": np.full(rows, time, "int32")}
        for function in (compiled, lambda x: output_and_gradients(encoder, x)):
            outputs, *slopes = to_numpy(function(inputs))
            np.testing.assert_array_equal(outputs, np.zeros((rows, 8)))
            assert not any(slope.any() for slope in slopes)


def test_lengths_beyond_the_time(path):
    inputs = sequence(3, [4, 2], time=4)
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    longer = {**inputs, "lengths": np.array([9, 2], "int64")}
    np.testing.assert_array_equal(to_numpy(encoder(longer)), to_numpy(encoder(inputs)))


def small_model():
    encoder = UtteranceEncoder(3, units=4)
    inputs = encoder.make_inputs("a")
    model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def test_equal_trainings_end_bit_for_bit_equal():
    inputs = keras.tree.map_structure(np.nan_to_num, sequence(3, 6 * RAGGED))
    ends = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = small_model()
        model.fit(inputs, np.arange(48.0), batch_size=16, epochs=2, verbose=0)
        ends.append(model.get_weights())
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_weights_as_constants_give_the_same(path, case):
    encoder, inputs, expected = by_layers(case)
    specs = [{n: tf.TensorSpec((None, None, *a.shape[2:])[: a.ndim], a.dtype) for n, a in inputs.items()}]

    def constant(x):
        with _tensorflow_lstm.constant_weights():
            return tf.square(encoder(x))

    actual = to_numpy(tf.function(constant, specs, autograph=False)(inputs))
    np.testing.assert_allclose(actual, expected[0] ** 2, atol=1e-5)


def test_exported_for_batches_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(_tensorflow_lstm, "FEW", 20)
    model = small_model()
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for lengths in ([4], RAGGED, [0], [2] * 90):
        inputs = sequence(3, lengths)
        expected = model.predict_on_batch(inputs)
        np.testing.assert_allclose(to_numpy(loaded.serve(inputs)), expected, atol=1e-6)
    functions = loaded.signatures["serving_default"].graph.as_graph_def().library.function
    used = {node.op for f in functions for node in f.node_def}
    assert "BlockLSTMV2" in used  # else this has tested Keras's layers
    assert not [name for name in used if "PyFunc" in name or "XlaLaunch" in name]


def test_xla_takes_the_layers():
    inputs = keras.tree.map_structure(np.nan_to_num, sequence(3, RAGGED))
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    compiled = tf.function(lambda x: tf.function(encoder)(x), jit_compile=True)
    np.testing.assert_allclose(to_numpy(compiled(inputs)), to_numpy(encoder(inputs)), atol=1e-5)


def test_training_with_xla_takes_the_layers():
    inputs = keras.tree.map_structure(np.nan_to_num, sequence(3, RAGGED))
    model = small_model()
    before = model.predict_on_batch(inputs)
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(inputs, np.arange(8.0), verbose=0)
    assert (model.predict_on_batch(inputs) != before).any()


def test_other_precisions_and_graphics_cards_take_the_layers(monkeypatch):
    assert _tensorflow_lstm.is_usable("float32")
    assert not _tensorflow_lstm.is_usable("bfloat16")
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["one"] if kind == "GPU" else [])
    assert not _tensorflow_lstm.is_usable("float32")


def test_second_derivatives_are_refused():
    inputs = sequence(3, [2])
    encoder = built(UtteranceEncoder(3, units=2), inputs)
    variable = encoder.rnn_2[0].cell.kernel.value

    def second():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                total = tf.reduce_sum(encoder(inputs))
            slope = tf.reduce_sum(tf.square(inner.gradient(total, variable)))
        return outer.gradient(slope, variable)

    for function in (second, tf.function(second, autograph=False)):
        with pytest.raises(LookupError, match="first derivatives"):
            function()
