"""A run as an ONNX file."""

import pathlib
import warnings

import numpy as np

from keras_misa._files import atomic_path
from keras_misa.export.export_run import RunSource

TOLERANCE = 1e-4
SHAPES = ((1, 5), (3, 11))  # rows and steps that the file is tried with


def export_onnx(run, path):
    """Write a run's model as ONNX, by Keras's exporter, and try it with onnxruntime.

    The file takes `<modality>_values` and `<modality>_lengths`, padded arrays of any number of rows and steps, a text
    as ids of words or word pieces, and gives `prediction` `(rows, outputs)`: a score, or the logits of the classes.
    Unlike a SavedModel it has no preprocessing and checks nothing.

    Args:
        run: folder that `train` wrote.
        path: file to write.

    Returns:
        The greatest difference between onnxruntime's and Keras's predictions, on made-up batches.

    Raises:
        ImportError: If tf2onnx or onnxruntime is not installed: `pip install 'keras-misa[onnx]'`.
        ValueError: If onnxruntime's predictions are not those of Keras.

    Example:
        ```python
        keras_misa.export.export_onnx("runs/first", "model.onnx")
        session = onnxruntime.InferenceSession("model.onnx")
        ```
    """
    try:
        import onnx
        import onnxruntime
        import tf2onnx  # noqa: F401 (Keras's exporter)
    except ImportError as error:
        raise ImportError("ONNX needs pip install 'keras-misa[onnx]'") from error
    import keras

    from keras_misa import _tensorflow_lstm

    source = RunSource(run)
    model = source.model
    predictor = keras.Model(model.input, model.inference_model().output["prediction"])
    tokens = source.make_module("tokens", max_length=max(steps for _, steps in SHAPES))
    batches = []
    for shape in SHAPES:
        sample = tokens.sample("serving_default", *shape)
        batches.append({m: {"values": sample[m], "lengths": sample[f"{m}_lengths"]} for m in model.input})
    with _tensorflow_lstm.portable(), atomic_path(pathlib.Path(path)) as temporary:
        expected = [np.asarray(predictor(batch)) for batch in batches]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of Keras's, about NumPy
            predictor.export(temporary, format="onnx", verbose=False)
        _name_output(onnx, temporary, "prediction")
        session = onnxruntime.InferenceSession(temporary)
        worst = 0.0
        for batch, values in zip(batches, expected, strict=True):
            flat = {f"{m}_{key}": array for m, part in batch.items() for key, array in part.items()}
            (received,) = session.run(["prediction"], flat)
            worst = max(worst, float(np.abs(received - values).max()))
        if not worst <= TOLERANCE:
            raise ValueError(
                f"onnxruntime must predict as Keras does, within {TOLERANCE}. Received: {worst} between them"
            )
    return worst


def _name_output(onnx, path, name):
    """Give the only output a name."""
    content = onnx.load(path)
    old = content.graph.output[0].name
    content.graph.output[0].name = name
    for node in content.graph.node:
        for names in (node.input, node.output):
            for place, value in enumerate(names):
                if value == old:
                    names[place] = name
    onnx.save(content, path)
