"""A prediction as cells of a table."""

import numpy as np


def prediction_cells(config, prediction):
    """Dict, column → value.

    Args:
        config: dict of `make_config`, settled.
        prediction: `(outputs,)`: a score, several scores, or the logits of classes.
    """
    if config["score_names"]:
        return {f"prediction_{name}": p for name, p in zip(config["score_names"], prediction, strict=True)}
    if len(prediction) == 1:
        return {"prediction": prediction[0]}
    names = class_names(config)
    probabilities = np.exp(prediction - prediction.max())
    probabilities /= probabilities.sum()
    cells = {"prediction": names[int(prediction.argmax())]}
    return cells | {f"probability_{name}": p for name, p in zip(names, probabilities, strict=True)}


def class_names(config):
    """Names of the classes, numbers where they have none."""
    return config["class_names"] or [str(number) for number in range(config["num_outputs"])]
