"""`FineTuningAdam` and `reference_optimizer` against Adam in plain NumPy."""

import json

import keras
import keras_nlp
import numpy as np
import pytest
from oracles import to_numpy

from keras_misa.convert import reference_optimizer
from keras_misa.layers import BertEncoder
from keras_misa.optimizers import FineTuningAdam

pytestmark = pytest.mark.backends
STEPS = 7


def decay(rate, every=2, factor=0.5):
    return keras.optimizers.schedules.ExponentialDecay(rate, every, factor)


def adam(weights, gradients, rate, clipvalue=np.inf, is_pytorch=False):
    """The weights after each step; `rate` is a function of the step's number, from 0."""
    m = v = 0.0
    path = []
    for step, gradient in enumerate(gradients):
        gradient = np.clip(np.asarray(gradient, "float64"), -clipvalue, clipvalue)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        correction_1, correction_2 = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
        if is_pytorch:
            change = (m / correction_1) / (np.sqrt(v / correction_2) + 1e-8)
        else:
            change = m * np.sqrt(correction_2) / correction_1 / (np.sqrt(v) + 1e-7)
        weights = weights - rate(step) * change
        path.append(weights)
    return np.array(path)


def make_variables(pretrained):
    variables = [keras.Variable(np.linspace(-1, 1, 6).reshape(2, 3), name=name) for name in ("fresh", "pretrained")]
    variables[1].is_pretrained = pretrained
    return variables


def make_gradients():
    """Of small and large numbers, for each step and variable."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 2, 2, 3)).astype("float32") * np.array([1e-3, 1.0, 30.0], "float32")


def run(optimizer, variables, gradients):
    path = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in gradient], variables)
        path.append(to_numpy([variable.value for variable in variables]))
    return np.array(path)


RATES = {
    # name: arguments, rate of the fresh variable in step t, of the pre-trained one
    "one rate": ({"learning_rate": 0.01}, lambda t: 0.01, lambda t: 0.01),
    "two rates": ({"learning_rate": 0.01, "pretrained_learning_rate": 0.002}, lambda t: 0.01, lambda t: 0.002),
    "warm-up": (
        {"learning_rate": 0.01, "pretrained_learning_rate": 0.002, "warmup_steps": 4},
        lambda t: 0.01,
        lambda t: [0.0005, 0.001, 0.0015, 0.002, 0.002, 0.002, 0.002][t],
    ),
    "warm-up of the common rate": (
        {"learning_rate": 0.01, "warmup_steps": 2},
        lambda t: 0.01,
        lambda t: 0.005 if t == 0 else 0.01,
    ),
    "schedules": (
        {"learning_rate": decay(0.01), "pretrained_learning_rate": decay(0.002, 1, 0.9), "warmup_steps": 2},
        lambda t: 0.01 * 0.5 ** (t / 2),
        lambda t: 0.002 * 0.9**t * (0.5 if t == 0 else 1.0),
    ),
    "common schedule": (
        {"learning_rate": decay(0.01), "warmup_steps": 2},
        lambda t: 0.01 * 0.5 ** (t / 2),
        lambda t: 0.01 * 0.5 ** (t / 2) * (0.5 if t == 0 else 1.0),
    ),
}


@pytest.mark.parametrize("clipvalue", [None, 0.5])
@pytest.mark.parametrize("make", [FineTuningAdam, reference_optimizer])
@pytest.mark.parametrize("rates", RATES)
def test_two_groups(rates, make, clipvalue):
    arguments, *expected_rates = RATES[rates]
    optimizer = make(**arguments, clipvalue=clipvalue)
    variables, gradients = make_variables(True), make_gradients()
    start = to_numpy(variables[0].value)
    received = run(optimizer, variables, gradients)
    for number, rate in enumerate(expected_rates):
        expected = adam(start, gradients[:, number], rate, clipvalue or np.inf, make is reference_optimizer)
        np.testing.assert_allclose(received[:, number], expected, atol=2e-6, rtol=0)
    assert float(to_numpy(optimizer.iterations)) == STEPS


@pytest.mark.parametrize("settings", [{}, {"clipnorm": 0.5}, {"weight_decay": 0.1, "beta_1": 0.5, "epsilon": 1e-3}])
def test_without_pretrained_weights_it_is_adam(settings):
    rates = {} if "weight_decay" in settings else {"pretrained_learning_rate": 7.0, "warmup_steps": 3}
    ours = FineTuningAdam(0.01, **rates, **settings)
    received = run(ours, make_variables(False), make_gradients())
    expected = run(keras.optimizers.Adam(0.01, **settings), make_variables(False), make_gradients())
    np.testing.assert_allclose(received, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [FineTuningAdam, reference_optimizer])
@pytest.mark.parametrize("rates", ["one rate", "warm-up", "schedules"])
def test_config(make, rates):
    arguments, *_ = RATES[rates]
    optimizer = make(**arguments, clipvalue=0.5)
    content = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    copy = keras.saving.deserialize_keras_object(content)
    assert type(copy) is type(optimizer)
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(copy))) == content
    variables, copied = make_variables(True), make_variables(True)
    np.testing.assert_array_equal(run(copy, copied, make_gradients()), run(optimizer, variables, make_gradients()))


def test_a_config_from_before_there_were_two_rates():
    config = reference_optimizer(0.5).get_config()
    expected = dict(config)
    for name in ("pretrained_learning_rate", "warmup_steps"):
        del config[name]
    copy = type(reference_optimizer()).from_config(config)
    assert copy.get_config() == expected


def test_errors():
    with pytest.raises(ValueError, match=r"0 or more\. Received: warmup_steps=-1"):
        FineTuningAdam(warmup_steps=-1)
    for rates in ({"pretrained_learning_rate": 1e-5}, {"warmup_steps": 3}):
        with pytest.raises(ValueError, match=r"`weight_decay` works at the one .* Received: weight_decay=0\.1"):
            FineTuningAdam(weight_decay=0.1, **rates)


BATCH = {"values": np.array([[2, 5, 9, 3], [2, 7, 3, 0]], "int32"), "lengths": np.array([4, 3], "int32")}
LABELS = np.array([5.0, -5.0], "float32")


def changes(model):
    """The largest change of a weight in one step: in BERT, and elsewhere."""
    before = to_numpy([weight.value for weight in model.trainable_variables])
    model.fit(BATCH, LABELS, batch_size=2, verbose=0)
    largest = {True: 0.0, False: 0.0}
    for weight, array in zip(model.trainable_variables, before, strict=True):
        is_bert = not weight.path.startswith("head")
        largest[is_bert] = max(largest[is_bert], float(np.abs(to_numpy(weight.value) - array).max()))
    return largest[True], largest[False]


@pytest.mark.parametrize("make", [FineTuningAdam, reference_optimizer])
def test_the_weights_of_a_bert_are_pretrained_and_all_is_saved(make, tmp_path):
    backbone = keras_nlp.models.BertBackbone(30, 2, 2, 8, 16, max_sequence_length=12, dropout=0.0)
    encoder = BertEncoder(backbone, trainable_from=-1)
    inputs = encoder.make_inputs("text")
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(encoder(inputs)))
    model.compile(make(0.1, pretrained_learning_rate=0.02, warmup_steps=4), "mse", run_eagerly=True)
    # The first step of Adam is the learning rate, whatever the gradient.
    assert changes(model) == pytest.approx((0.02 / 4, 0.1), rel=1e-2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.fit(BATCH, LABELS, batch_size=2, epochs=2, verbose=0)
    for received, expected in zip(loaded.weights, model.weights, strict=True):
        if not expected.path.endswith("key/bias"):  # its gradient is zero but for rounding, which Adam makes large
            np.testing.assert_allclose(to_numpy(received.value), to_numpy(expected.value), atol=1e-6)
    assert float(to_numpy(loaded.optimizer.iterations)) == 3
    rate = loaded.optimizer.rate_of(loaded.get_layer(encoder.name).backbone.trainable_variables[0], 0.1)
    assert float(to_numpy(rate)) == pytest.approx(0.02)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has gradients of rows")
@pytest.mark.parametrize("is_pytorch", [False, True])
def test_gradients_of_a_row_that_is_looked_up_twice_are_summed(is_pytorch):
    import tensorflow as tf

    ids = [1, 3, 1, 1]
    slopes = np.random.default_rng(1).normal(size=(STEPS, 4, 2)).astype("float32")
    table = keras.Variable(np.ones((5, 2), "float32"))
    optimizer = (reference_optimizer if is_pytorch else FineTuningAdam)(0.01, clipvalue=0.8)
    dense, received = np.zeros((STEPS, 5, 2)), []
    for step in range(STEPS):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.gather(table.value, ids) * slopes[step])
        gradient = tape.gradient(total, table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply([gradient], [table])
        received.append(to_numpy(table.value))
        for place, row in enumerate(ids):
            dense[step, row] += slopes[step, place]
    assert (np.abs(dense).max(axis=(1, 2)) > 0.8).any()
    expected = adam(np.ones((5, 2)), dense, lambda t: 0.01, 0.8, is_pytorch)
    np.testing.assert_allclose(received, expected, atol=2e-6, rtol=0)
