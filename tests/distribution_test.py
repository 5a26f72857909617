"""Under a TensorFlow strategy: the terms that early stopping watches."""

import json
import subprocess
import sys

import keras
import pytest

# In a process of its own: the number of logical devices is fixed once TensorFlow has started.
SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_misa.layers import UtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

rng = np.random.default_rng(0)
batch = {m: {"values": rng.normal(size=(8, 2, 2)), "lengths": np.full(8, 2)} for m in ("visual", "acoustic")}
labels = rng.permutation(np.linspace(-3, 3, 8))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = MISARegressor(MISABackbone({m: UtteranceEncoder(2) for m in batch}, hidden_dim=4), feedforward_dim=4)
    model.compile()
logs = model.evaluate(batch, labels, batch_size=8, verbose=0, return_dict=True)
predictions = model(batch)[:, 0].numpy()
logs["expected"] = float(np.mean((predictions - labels) ** 2))
logs["expected_mae"] = float(np.mean(abs(predictions - labels)))
logs["expected_corr"] = float(np.corrcoef(predictions, labels)[0, 1])
print(json.dumps(logs))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_task_is_the_whole_batchs_under_two_replicas():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    logs = json.loads(result.stdout.splitlines()[-1])
    assert logs["task"] == pytest.approx(logs["expected"], rel=1e-4)
    assert logs["mae"] == pytest.approx(logs["expected_mae"], rel=1e-4)
    assert logs["corr"] == pytest.approx(logs["expected_corr"], abs=1e-5)
    assert logs["similarity"] > 0
    total = logs["task"] + logs["similarity"] + 0.3 * logs["difference"] + logs["reconstruction"]
    assert logs["loss"] == pytest.approx(total, rel=1e-4)
