"""Asks SavedModels with TensorFlow alone: run as a program, with the folder of requests; the package is not imported.

Each request is `<number>.npz` with its inputs, strings in hexadecimal, and `<number>.json` with the SavedModel and the
signature; the answer is `<number>_answer.npz`, or `<number>_error.txt`.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf


def main(folder, needs_text):
    if needs_text:
        import tensorflow_text  # noqa: F401
    models = {}
    for path in sorted(folder.glob("*.json")):
        request = json.loads(path.read_text())
        if request["model"] not in models:
            models[request["model"]] = tf.saved_model.load(request["model"])
        model = models[request["model"]]
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            inputs = dict(file)
        for key in [key for key in inputs if key.endswith(":hex")]:  # strings, any bytes
            inputs[key.removesuffix(":hex")] = [bytes.fromhex(value) for value in inputs.pop(key).tolist()]
        inputs = {key: tf.constant(value) for key, value in inputs.items()}
        try:
            answer = model.signatures[request["signature"]](**inputs)
        except tf.errors.OpError as error:
            path.with_name(f"{path.stem}_error.txt").write_text(error.message)
            continue
        values = {key: value.numpy() for key, value in answer.items()}
        values = {key: value.astype("S") if value.dtype == object else value for key, value in values.items()}
        np.savez(path.with_name(f"{path.stem}_answer.npz"), **values)
    if any(name.partition(".")[0] == "keras_misa" for name in sys.modules):
        sys.exit("the package was imported")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), "text" in sys.argv[2:])
