"""The authors' pre-computed splits: `train.pkl`, `dev.pkl`, `test.pkl`."""

import re
import reprlib

import numpy as np

from keras_misa.data._restricted_unpickler import read_pickle


def read_reference_split(path, visual_dim=None, acoustic_dim=None):
    """Reads one of the authors' pre-computed splits.

    Such a file is a pickled list of rows `((word_ids, visual, acoustic, words), label, "video[segment]")`, aligned by
    word: each word has one visual and one acoustic vector. The word ids belong to the table of
    `keras_misa.data.read_word_table` and follow from the words; they are checked for length and left out.

    Every row is checked, and a row that is wrong is an error: nothing is dropped, repaired or filled in. Features that
    are stored in another precision are cast to float32.

    Args:
        path: The file.
        visual_dim: Number of visual features a word; `None` takes that of the first row.
        acoustic_dim: Number of acoustic features a word; `None` takes that of the first row.

    Returns:
        List of examples in the order of the file, each a dict:

        * `segment_id`: str, as the file has it.
        * `video_id`: str, the part of it before the bracket.
        * `words`: list of `T` str.
        * `visual`: float32 array of shape `(T, visual_dim)`.
        * `acoustic`: float32 array of shape `(T, acoustic_dim)`.
        * `label`: float, the sentiment.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is a program, or a row is not of this form; the message names the row.

    Example:
        >>> examples = read_reference_split("dev.pkl", visual_dim=47, acoustic_dim=74)  # doctest: +SKIP
    """
    rows = read_pickle(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"`{path}` must hold a list of rows. Received: {_describe(rows)}")
    dims = {"visual": visual_dim, "acoustic": acoustic_dim}
    examples = {}
    for number, row in enumerate(rows):
        try:
            example = _read_row(row, dims)
            segment_id = example["segment_id"]
            _require(segment_id not in examples, "a segment id that no earlier row has", segment_id)
        except ValueError as error:
            raise ValueError(f"`{path}`, row {number} (of {len(rows)}, counted from 0): {error}") from error
        examples[segment_id] = example
        dims = {name: example[name].shape[1] for name in dims}
    return list(examples.values())


def _read_row(row, dims):
    is_row = isinstance(row, tuple | list) and len(row) == 3 and isinstance(row[0], tuple | list) and len(row[0]) == 4
    _require(is_row, "`((word_ids, visual, acoustic, words), label, segment_id)`", row)
    (word_ids, visual, acoustic, words), label, segment_id = row

    match = re.fullmatch(r"(.+)\[\d+\]", segment_id) if isinstance(segment_id, str) else None
    _require(match, "a segment id like 'video[7]'", segment_id)
    is_words = isinstance(words, list | tuple) and len(words) > 0 and all(isinstance(word, str) for word in words)
    _require(is_words, "a list of one word or more", words)
    is_ids = isinstance(word_ids, np.ndarray) and word_ids.shape == (len(words),) and word_ids.dtype.kind in "iu"
    _require(is_ids, f"{len(words)} word ids, as there are {len(words)} words", word_ids)
    features = {"visual": visual, "acoustic": acoustic}
    return {
        "segment_id": segment_id,
        "video_id": match[1],
        "words": list(words),
        **{name: _read_array(name, features[name], (len(words), dim)) for name, dim in dims.items()},
        "label": float(_read_array("label", label, (1, 1))[0, 0]),
    }


def _read_array(name, array, shape):
    """The finite float32 array of `shape`, in which `None` is any positive size."""
    is_matrix = isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.ndim == 2 and array.size > 0
    is_shaped = is_matrix and all(size in (None, given) for size, given in zip(shape, array.shape, strict=True))
    _require(is_shaped, f"`{name}` as floats of shape {shape}", array)
    array = np.asarray(array, np.float32)
    bad = array[~np.isfinite(array)]
    if bad.size:
        raise ValueError(f"expected finite numbers in `{name}`. Received: {bad.size} that are not, the first {bad[0]}")
    return array


def _require(condition, expected, received):
    if not condition:
        raise ValueError(f"expected {expected}. Received: {_describe(received)}")


def _describe(value):
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        types = ["array" if isinstance(part, np.ndarray) else type(part).__name__ for part in value[:5]]
        return f"a {type(value).__name__} of {len(value)} ({', '.join(types)}{', ...' if len(value) > 5 else ''})"
    return f"{reprlib.repr(value)} of type {type(value).__name__}"
