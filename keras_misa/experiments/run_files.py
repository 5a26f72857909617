"""What a run has written of its epochs and of its test split, checked when it is read."""

import csv
import io
import math
import pathlib

import numpy as np

from keras_misa._files import is_number, read_json
from keras_misa.experiments.load_run import read_run
from keras_misa.experiments.prediction_cells import class_names
from keras_misa.experiments.task_metrics import is_classification

LARGEST = float(np.finfo("float32").max)  # models compute in it
ROUNDING = 0.02  # of a sum of attention, in bfloat16


def read_predictions(run):
    """A run's `predictions.csv`.

    Args:
        run: folder that `train` wrote.

    Returns:
        List of dicts of strings, one an utterance: `segment_id`, `video_id`, `label` and `prediction`, or these of each
        score.

    Raises:
        ValueError: If the file is damaged, a score is not a finite number, or a class is none of the model's.
    """
    path, config = pathlib.Path(run, "predictions.csv"), read_run(run)[0]
    names = [f"_{name}" for name in config["score_names"] or ()] or [""]
    cells = [f"{kind}{name}" for kind in ("label", "prediction") for name in names]
    rows = _read_csv(path)
    _check_columns(path, rows, ["segment_id", "video_id", *cells])
    if (utterances := len({row["segment_id"] for row in rows})) < len(rows):
        raise ValueError(
            f"{path} is damaged: expected a row for each utterance. "
            f"Received: {len(rows)} rows of {utterances} utterances"
        )
    if is_classification(config):
        classes = class_names(config)
        _check_cells(path, rows, cells, lambda text: text in classes, f"one of {classes}")
    else:
        _check_cells(path, rows, cells, _is_finite, "a finite number")
    return rows


def read_history(run, needed=()):
    """A run's `history.csv`.

    Args:
        run: folder that `train` wrote.
        needed: names of columns that must be there, of finite numbers; in others may be NaN, a metric without a value.

    Returns:
        Dict, name of a column → array of its values, one an epoch.

    Raises:
        ValueError: If the file is damaged.
    """
    path = pathlib.Path(run, "history.csv")
    rows = _read_csv(path)
    if not rows:
        raise ValueError(f"{path} is damaged: expected a row for each epoch. Received: none")
    _check_columns(path, rows, ["epoch", *needed])
    _check_cells(path, rows, needed, _is_finite, "a finite number")
    _check_cells(path, rows, rows[0], is_number, "a number")
    for number, row in enumerate(rows, start=1):
        if float(row["epoch"]) != number:
            raise ValueError(f"{path} is damaged: expected epoch {number} in row {number}. Received: {row['epoch']!r}")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def read_attention(run):
    """The average attention in a run's `explanation.json`.

    Args:
        run: folder that `train` wrote, of a MISA.

    Returns:
        Pair: array `(tokens, tokens)`, queries in rows, and the tokens' names, pairs such as `("shared", "text")`.

    Raises:
        ValueError: If the file is damaged, or the attention is not of this model's vectors.
    """
    path, config = pathlib.Path(run, "explanation.json"), read_run(run)[0]
    explanation = read_json(path)
    attention = explanation.get("attention") if isinstance(explanation, dict) else None
    if not isinstance(attention, dict) or not attention:
        raise ValueError(
            f"{path} is damaged: expected an object with attention, name → name → number. "
            f"Received: {str(explanation)[:80]}"
        )
    modalities = config["modalities"] or dict.fromkeys(name.partition(" ")[2] for name in attention)
    subspaces = config["fused"] or config["subspaces"] or ("projected",)
    expected = [f"{subspace} {modality}" for subspace in subspaces for modality in modalities]
    if sorted(attention) != sorted(expected):
        raise ValueError(f"{path} is damaged: expected attention of {expected}. Received: {list(attention)}")
    for query, row in attention.items():
        if not isinstance(row, dict) or list(row) != list(attention):
            received = list(row) if isinstance(row, dict) else row
            raise ValueError(
                f"{path} is damaged: expected as attention of {query!r} a number for each of {list(attention)}. "
                f"Received: {received}"
            )
        for key, value in row.items():
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ValueError(
                    f"{path} is damaged: expected as attention of {query!r} to {key!r} a number of 0 or more. "
                    f"Received: {value!r}"
                )
        if abs(sum(row.values()) - 1) > ROUNDING:
            raise ValueError(
                f"{path} is damaged: expected as attention of {query!r} numbers that add up to 1. "
                f"Received: {sum(row.values()):g}"
            )
    matrix = np.array([list(row.values()) for row in attention.values()], float)
    return matrix, [tuple(name.split(" ", 1)) for name in attention]


def _read_csv(path):
    """The rows of a file that `write_csv` wrote: a cut one is told."""
    try:
        text = path.read_bytes().decode("utf-8")  # with its ends of lines, for the reader
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: expected a CSV file in UTF-8. Received: {error}") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(f"{path} is damaged: expected a cell for each column. Received: row {number}, {row}")
    if rows and not text.endswith("\n"):
        raise ValueError(f"{path} is damaged: expected whole rows. Received: a last row, {len(rows)}, that is cut off")
    return rows


def _check_columns(path, rows, columns):
    if not rows or set(columns) - set(rows[0]):
        received = "no row" if not rows else f"columns {list(rows[0])}"
        raise ValueError(f"{path} is damaged: expected columns {sorted(columns)}. Received: {received}")


def _check_cells(path, rows, columns, is_good, expected):
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if not is_good(row[column]):
                utterance = f", {row['segment_id']}" if "segment_id" in row else ""
                raise ValueError(
                    f"{path}: expected {expected} as {column}. Received: {row[column]!r} in row {number}{utterance}"
                )


def _is_finite(text):
    return is_number(text) and abs(float(text)) <= LARGEST
