"""Each batch dealt out to several devices, with the numbers of one. GPUs if there are enough, else parts of the CPU.

python examples/many_devices.py [--devices 2] [--epochs 2]
"""

import argparse

import keras
import tensorflow as tf

from keras_misa.data import load_dataset
from keras_misa.layers import UtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--devices", type=int, default=2)
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()
keras.utils.set_random_seed(0)

kind = "GPU" if len(tf.config.list_physical_devices("GPU")) >= options.devices else "CPU"
if kind == "CPU":
    parts = [tf.config.LogicalDeviceConfiguration()] * options.devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
strategy = tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(options.devices)])

arguments = {"modalities": ["visual", "acoustic"], "batch_size": 50}
train = load_dataset("synthetic_subspaces/small", "train", shuffle=True, **arguments)
validation = load_dataset("synthetic_subspaces/small", "validation", **arguments)
with strategy.scope():
    model = MISARegressor(MISABackbone({"visual": UtteranceEncoder(47), "acoustic": UtteranceEncoder(74)}))
    model.compile()
history = model.fit(train, validation_data=validation, epochs=options.epochs, verbose=2).history
print(f"{options.devices} devices, validation task loss by epoch:", [round(loss, 5) for loss in history["val_task"]])
