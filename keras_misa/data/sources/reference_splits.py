"""The authors' pre-computed splits: `train.pkl`, `dev.pkl`, `test.pkl`."""

import pathlib
import re
import reprlib

import numpy as np

from keras_misa.data._restricted_unpickler import read_pickle

FILES = {"train": "train.pkl", "validation": "dev.pkl", "test": "test.pkl"}
WORD_TABLE_FILE = "embedding_and_mapping.pt"


class ReferenceSplits:
    """`train.pkl`, `dev.pkl`, `test.pkl`, those that are there, and the word table beside them, if it is.

    Args:
        folder: the folder with the files.
        visual_dim: number of visual features expected.
        acoustic_dim: number of acoustic features expected.

    Attributes:
        files: dict, split or `word_table` → path.
        splits: those whose file is there.

    Raises:
        FileNotFoundError: If none of the files is there.
    """

    kind = "reference_splits"

    def __init__(self, folder, visual_dim, acoustic_dim):
        self.files = self.find(folder)
        if not self.files:
            found = sorted(path.name for path in pathlib.Path(folder).iterdir())
            raise FileNotFoundError(
                f"`{folder}` must hold one or more of {list(FILES.values())}. Received: {found[:10]}"
            )
        self.splits = tuple(split for split in FILES if split in self.files)
        self._dims = visual_dim, acoustic_dim

    @classmethod
    def find(cls, folder):
        """Dict of the files that are there; empty without a split."""
        folder = pathlib.Path(folder)
        files = {split: folder / name for split, name in FILES.items() if (folder / name).is_file()}
        if files and (folder / WORD_TABLE_FILE).is_file():
            files["word_table"] = folder / WORD_TABLE_FILE
        return files

    def examples(self, split, report):
        """Yields the utterances of a split; see `keras_misa.data.sources`."""
        for example in read_reference_split(self.files[split], *self._dims):
            for modality in ("visual", "acoustic"):
                report.look(modality, example[modality])
            if example["video_id"] == example["segment_id"]:
                report.note("The files name no videos: splits by video cannot keep speakers apart.")
            yield example

    def word_table(self):
        """The `WordTable` beside the splits, or `None`."""
        from keras_misa.data.word_table import read_word_table

        return read_word_table(self.files["word_table"]) if "word_table" in self.files else None


def read_reference_split(path, visual_dim=None, acoustic_dim=None):
    """Reads one of the authors' pre-computed splits.

    Such a file is a pickled list of rows `((word_ids, visual, acoustic, words), label, "video[segment]")`, aligned by
    word: each word has one visual and one acoustic vector. The word ids belong to the table of
    `keras_misa.data.read_word_table` and follow from the words; they are checked for length and left out. UR-FUNNY's
    rows are pairs: they lack the last part, and their label is a number.

    Every row is checked, and a row that is wrong is an error: nothing is dropped, repaired or filled in. Features that
    are stored in another precision are cast to float32.

    Args:
        path: The file.
        visual_dim: Number of visual features a word; `None` takes that of the first row.
        acoustic_dim: Number of acoustic features a word; `None` takes that of the first row.

    Returns:
        List of examples in the order of the file, each a dict:

        * `segment_id`: str, as the file has it; for rows without one, file and row, such as `train[0]`.
        * `video_id`: str, the part of it before the bracket; for rows without one, the `segment_id`.
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
    is_unnamed = isinstance(rows[0], tuple | list) and len(rows[0]) == 2
    examples = {}
    for number, row in enumerate(rows):
        rows[number] = None  # What is read leaves the list, so that no array is in memory twice.
        try:
            example = _read_row(row, dims, unnamed=f"{pathlib.Path(path).stem}[{number}]" if is_unnamed else None)
            segment_id = example["segment_id"]
            _require(segment_id not in examples, "a segment id that no earlier row has", segment_id)
        except ValueError as error:
            raise ValueError(f"`{path}`, row {number} (of {len(rows)}, counted from 0): {error}") from error
        examples[segment_id] = example
        dims = {name: example[name].shape[1] for name in dims}
    return list(examples.values())


def _read_row(row, dims, unnamed):
    is_row = isinstance(row, tuple | list) and len(row) == (2 if unnamed else 3)
    is_row = is_row and isinstance(row[0], tuple | list) and len(row[0]) == 4
    _require(is_row, f"`((word_ids, visual, acoustic, words), label{'' if unnamed else ', segment_id'})`", row)
    (word_ids, visual, acoustic, words), label, *segment_ids = row

    segment_id, video_id = unnamed, unnamed
    if segment_ids:
        segment_id = segment_ids[0]
        match = re.fullmatch(r"(.+)\[\d+\]", segment_id) if isinstance(segment_id, str) else None
        _require(match, "a segment id like 'video[7]'", segment_id)
        video_id = match[1]
    elif isinstance(label, int | float | np.integer | np.floating):
        label = np.full((1, 1), label, np.float64)
    is_words = isinstance(words, list | tuple) and len(words) > 0 and all(isinstance(word, str) for word in words)
    _require(is_words, "a list of one word or more", words)
    is_ids = isinstance(word_ids, np.ndarray) and word_ids.shape == (len(words),) and word_ids.dtype.kind in "iu"
    _require(is_ids, f"{len(words)} word ids, as there are {len(words)} words", word_ids)
    features = {"visual": visual, "acoustic": acoustic}
    return {
        "segment_id": segment_id,
        "video_id": video_id,
        "words": list(words),
        **{name: _read_array(name, features[name], (len(words), dim)) for name, dim in dims.items()},
        "label": float(_read_array("label", label, (1, 1))[0, 0]),
    }


def _read_array(name, array, shape):
    """The finite float32 array of `shape`, in which `None` is any positive size."""
    is_matrix = isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.ndim == 2 and array.size > 0
    is_shaped = is_matrix and all(size in (None, given) for size, given in zip(shape, array.shape, strict=True))
    _require(is_shaped, f"`{name}` as floats of shape {shape}", array)
    array = np.array(array, np.float32)
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
