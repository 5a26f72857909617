"""A run as an ONNX file, asked by onnxruntime."""

import keras
import numpy as np
import pytest

from keras_misa.cli import main

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("tf2onnx", reason="needs the extra onnx")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exported on TensorFlow")


@pytest.mark.parametrize("task", ["score", "class"])
def test_onnxruntime_predicts_what_keras_predicts(task, tmp_path, capsys):
    from export_test import Exported, make_run, utterance

    run = make_run(tmp_path, task, None)
    assert main(["export", str(run), "--onnx", str(tmp_path / "model.onnx")]) == 0
    assert "onnxruntime's predictions are Keras's within" in capsys.readouterr().out
    exported = Exported(run, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for rows in (1, 2, 17):
        batch = exported.batch([utterance(rng) for _ in range(rows)])
        flat = {f"{m}_{key}": array for m, part in batch.items() for key, array in part.items()}
        assert {part.name for part in session.get_inputs()} == set(flat)
        (prediction,) = session.run(["prediction"], flat)
        np.testing.assert_allclose(prediction, exported.model.predict(batch, verbose=0), atol=1e-5)
    assert main(["export", str(run), "--onnx", str(tmp_path / "model.onnx"), "--name", "x"]) == 2
    assert "--onnx none" in capsys.readouterr().err
