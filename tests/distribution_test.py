"""On several devices: the same numbers as on one."""

import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_misa.experiments import make_config
from keras_misa.experiments.devices import check_batches, device_scope, prepare_devices
from keras_misa.experiments.forget_models import forget_models

# In processes of their own: the number of logical devices is fixed once TensorFlow has started.
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf

devices, modalities, similarity, sizes, epochs, optimizer = json.loads(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
from keras_misa.layers import MeanEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor
from keras_misa.optimizers import FineTuningAdam

rng = np.random.default_rng(0)

def make_batch(size):
    lengths = rng.integers(1, 4, size, "int32")
    values = {
        "text": rng.integers(0, 9, (size, 3), "int32"),
        "acoustic": rng.normal(size=(size, 3, 2)).astype("float32"),
        "gesture": rng.normal(size=(size, 3, 2)).astype("float32"),
    }
    batch = {modality: {"values": values[modality], "lengths": lengths} for modality in modalities}
    return batch, 3.0 * rng.normal(size=size).astype("float32")

encoders = {
    "text": lambda: WordUtteranceEncoder(9, 3),
    "acoustic": lambda: MeanEncoder(2),
    "gesture": lambda: MeanEncoder(2),
}
encoders = {modality: encoders[modality] for modality in modalities}
batches = [make_batch(size) for size in sizes]
specs = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), batches[0])
data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
strategy = tf.distribute.get_strategy()
if devices > 1:
    strategy = tf.distribute.MirroredStrategy([f"CPU:{device}" for device in range(devices)])
keras.utils.set_random_seed(0)
with strategy.scope():
    backbone = MISABackbone({modality: make() for modality, make in encoders.items()}, hidden_dim=4)
    model = MISARegressor(backbone, feedforward_dim=4, dropout=0.0, fusion_dropout=0.0, similarity=similarity)
    # Clipping bites; with a large epsilon a step is proportional to the gradient, whose zeros are noise.
    optimizer = FineTuningAdam(0.01, clipvalue=0.05, epsilon=0.1) if optimizer == "adam" else keras.optimizers.SGD(0.01)
    model.compile(optimizer)
history = model.fit(data, epochs=epochs, verbose=0, shuffle=False).history
weights = np.concatenate([weight.ravel() for weight in model.get_weights()]).tolist()
print(json.dumps({"history": history, "weights": weights}))
"""


def train(*arguments):
    command = [sys.executable, "-c", SCRIPT, json.dumps(arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
@pytest.mark.parametrize(
    ("devices", "arguments"),
    [
        # Shares of unequal size from the first batch on, and, in the last, of no row at all.
        (2, (["text", "acoustic"], "cmd", [7, 1], 1, "adam")),
        pytest.param(4, (["acoustic", "gesture"], "cmd", [7, 2], 1, "adam"), marks=pytest.mark.slow),
        (2, (["acoustic", "gesture"], "mmd", [7], 1, "sgd")),
        (2, (["acoustic", "gesture"], "adversarial", [7], 1, "sgd")),
    ],
    ids=["2-cmd", "4-cmd", "2-mmd", "2-adversarial"],
)
def test_many_devices_give_the_numbers_of_one(devices, arguments):
    expected = train(1, *arguments)
    assert all(np.isfinite(values).all() for values in expected["history"].values())
    actual = train(devices, *arguments)
    assert actual["history"].keys() == expected["history"].keys()
    for name, values in expected["history"].items():
        np.testing.assert_allclose(actual["history"][name], values, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(actual["weights"], expected["weights"], rtol=1e-5, atol=1e-5)


COMMAND = [
    *(sys.executable, "-m", "keras_misa.cli", "train", "--dataset", "synthetic_subspaces/small", "--quiet"),
    *("--modalities", "visual,acoustic", "--averaged", "visual,acoustic", "--hidden-dim", "4", "--epochs", "2"),
    # The last batch of training has one row, that of validation none for the second device.
    *("--dropout", "0", "--fusion-dropout", "0", "--batch-size", "51", "--protocol", "reference"),
]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_the_command_trains_on_two_devices_as_on_one(tmp_path):
    histories = []
    for devices in ("1", "2"):
        folder = tmp_path / devices
        subprocess.run([*COMMAND, "--devices", devices, "--output", str(folder)], check=True)
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            histories.append([{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)])
    assert "val_task_batches" in histories[0][0]
    for one, two in zip(*histories, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="they go together on JAX")
def test_xla_and_several_devices_exclude_each_other():
    with pytest.raises(ValueError, match=r"XLA compiles the step of one device.*devices=2"):
        prepare_devices(make_config(jit_compile=True, devices=2))


SCRIPT_ON_JAX = """
import json, sys
import keras, numpy as np
from keras_misa.experiments.devices import device_scope
from keras_misa.layers import MeanEncoder
from keras_misa.models import MISABackbone, MISARegressor

rng = np.random.default_rng(0)
lengths = rng.integers(1, 4, 8, "int32")
sizes = {"visual": 3, "acoustic": 2}
batch = {m: {"values": rng.normal(size=(8, 3, n)).astype("float32"), "lengths": lengths} for m, n in sizes.items()}
labels = 3.0 * rng.normal(size=8).astype("float32")
keras.utils.set_random_seed(0)
with device_scope(int(sys.argv[1])):
    backbone = MISABackbone({modality: MeanEncoder(size) for modality, size in sizes.items()}, hidden_dim=4)
    model = MISARegressor(backbone, feedforward_dim=4, dropout=0.0, fusion_dropout=0.0)
    model.compile(keras.optimizers.SGD(0.01))
    history = model.fit(batch, labels, batch_size=8, epochs=2, verbose=0).history
    devices = {len(weight.value.sharding.device_set) for weight in model.weights}
weights = np.concatenate([weight.ravel() for weight in model.get_weights()]).tolist()
print(json.dumps({"history": history, "weights": weights, "devices": list(devices)}))
"""


@pytest.mark.backends
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="keras.distribution works on JAX")
def test_many_devices_on_jax_give_the_numbers_of_one():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    results = []
    for devices in ("1", "4"):
        command = [sys.executable, "-c", SCRIPT_ON_JAX, devices]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        results.append(json.loads(result.stdout.splitlines()[-1]))
    one, four = results
    assert (one["devices"], four["devices"]) == ([1], [4])
    for name, values in one["history"].items():
        np.testing.assert_allclose(four["history"][name], values, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(four["weights"], one["weights"], rtol=1e-5, atol=1e-5)


@pytest.mark.backends
def test_batches_that_do_not_divide():
    check_batches(1, {"train": 7}, 4)
    check_batches(2, {"train": 16, "test": 6}, 4)
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match=r"2 devices need batches.*batch of 3 in test"):
            check_batches(2, {"train": 16, "test": 7}, 4)
        with pytest.raises(ValueError, match="batch of 3 in test"):
            check_batches(2, {"train": 16, "test": 3}, 4)
    else:
        check_batches(2, {"train": 16, "test": 7}, 4)


@pytest.mark.backends
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the others have several devices")
def test_torch_has_one_device():
    with pytest.raises(ValueError, match="TensorFlow or JAX backend"):
        device_scope(2)


@pytest.mark.backends
def test_models_are_forgotten_and_what_the_caller_has_chosen_is_not():
    keras.config.set_dtype_policy("mixed_bfloat16")
    distribution = None
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:1])
        keras.distribution.set_distribution(distribution)
    try:
        keras.layers.Dense(1)
        forget_models()
        assert keras.layers.Dense(1).name == "dense"  # names are counted anew
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.distribution.distribution() is distribution
    finally:
        keras.distribution.set_distribution(None)
