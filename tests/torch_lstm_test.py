"""PyTorch's own LSTM gives what Keras's layers give on PyTorch, outputs and gradients."""

import keras
import numpy as np
import pytest
from oracles import sequence, to_numpy

from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder

if keras.backend.backend() != "torch":
    pytest.skip("PyTorch's own path", allow_module_level=True)

import torch

from keras_misa import _torch_lstm

pytestmark = pytest.mark.backends
RAGGED = [5, 1, 0, 7, 7, 3, 0, 2]


def words():
    ids = np.random.default_rng(3).integers(0, 9, (len(RAGGED), 8)).astype("int32")
    return {"values": ids, "lengths": np.array(RAGGED, "int32")}


def beyond():
    return {**sequence(2, [3, 2]), "lengths": np.array([9, 2], "int32")}


CASES = {
    "ragged, NaN behind": (lambda: UtteranceEncoder(3, units=4), lambda: sequence(3, RAGGED, time=8)),
    "one row": (lambda: UtteranceEncoder(2), lambda: sequence(2, [4])),
    "empty rows": (lambda: UtteranceEncoder(2), lambda: sequence(2, [0, 0])),
    "lengths beyond the time": (lambda: UtteranceEncoder(2), beyond),
    "words": (lambda: WordUtteranceEncoder(9, 3, units=2), words),
}


def output_and_gradients(encoder, inputs):
    values = keras.ops.convert_to_tensor(inputs["values"])
    values = values.requires_grad_() if values.is_floating_point() else values
    encoder.zero_grad()
    y = encoder({"values": values, "lengths": keras.ops.convert_to_tensor(inputs["lengths"], "int32")})
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=y.shape[1:]).astype("float32"))
    (weights * y**2).sum().backward()
    gradients = [v.value.grad for v in encoder.trainable_variables] + [values.grad] * values.is_floating_point()
    return to_numpy([y, *(torch.zeros(()) if g is None else g for g in gradients)])


@pytest.mark.parametrize("case", CASES)
def test_keras_layers_give_the_same(case, monkeypatch):
    make_encoder, make_inputs = CASES[case]
    encoder, inputs = make_encoder(), make_inputs()
    encoder(keras.tree.map_structure(keras.ops.convert_to_tensor, inputs))
    rng = np.random.default_rng(1)
    encoder.set_weights([0.5 * rng.normal(size=w.shape) for w in encoder.get_weights()])
    used = []
    monkeypatch.setattr(_torch_lstm, "bidirectional", lambda *a, of=_torch_lstm.bidirectional: used.append(1) or of(*a))
    ours = output_and_gradients(encoder, inputs)
    assert len(used) == 2
    monkeypatch.setattr(_torch_lstm, "is_usable", lambda values: False)
    for actual, expected in zip(ours, output_and_gradients(encoder, inputs), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)
