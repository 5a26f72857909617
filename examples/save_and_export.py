"""Save a model, load it, train it on, export it for serving.

python examples/save_and_export.py
"""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_misa.layers import UtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier

rng = np.random.default_rng(0)
lengths = rng.integers(1, 12, 32).astype("int32")
batch = {
    "visual": {"values": rng.normal(size=(32, 12, 75)).astype("float32"), "lengths": lengths},
    "acoustic": {"values": rng.normal(size=(32, 12, 81)).astype("float32"), "lengths": lengths},
}
labels = rng.integers(0, 2, 32)

backbone = MISABackbone({"visual": UtteranceEncoder(75), "acoustic": UtteranceEncoder(81)}, activation="tanh")
model = MISAClassifier(backbone)
model.compile()
model.fit(batch, labels, verbose=0)
logits = model.predict(batch, verbose=0)

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    model.save(path / "model.keras")
    reloaded = keras.models.load_model(path / "model.keras")
    np.testing.assert_allclose(reloaded.predict(batch, verbose=0), logits, atol=1e-6)
    reloaded.fit(batch, labels, verbose=0)  # with the optimiser's state

    model.export(path / "saved_model", verbose=False)
    served = tf.saved_model.load(path / "saved_model")
    np.testing.assert_allclose(served.serve(batch), logits, atol=1e-6)
    signature = served.signatures["serving_default"].structured_input_signature[1]
    print("serving inputs:", {name: tuple(spec.shape) for name, spec in signature.items()})
