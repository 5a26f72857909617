"""The pickles of MMSA and Self-MM, and the older ones of the Multimodal Transformer (MulT)."""

import pathlib
import re
import reprlib
import typing

import numpy as np

from keras_misa.data._restricted_unpickler import read_pickle

SPLITS = {"train": ("train",), "validation": ("valid", "validation", "val", "dev"), "test": ("test",)}
MODALITIES = {"text": "text", "visual": "vision", "acoustic": "audio"}  # What the files call them.
LENGTHS = {"visual": "vision_lengths", "acoustic": "audio_lengths"}
LABELS = ("regression_labels", "labels")
_NAMES = {"unaligned": r"unaligned|noalign", "aligned": r"aligned|_data$"}  # The first that fits.


class MMSAFile:
    """`aligned_50.pkl`, `unaligned_50.pkl`, `mosi_data.pkl` and their like: one pickle with all splits.

    A split is a dict of padded arrays. Which rows are an utterance's, and which are padding, is told

    * for text by the mask of `text_bert`, where the file has it: BERT's vectors of padding are not zero;
    * for the other modalities by the same mask in an aligned file, by `audio_lengths` and `vision_lengths` in an
      unaligned one. MMSA's script took the first row of zeros for the end of the data: where a length ends at such a
      row and more data follows, it is not used, and the third rule holds;
    * without these by the values: from the first row with a finite number other than 0 to the last such row, in an
      aligned file of any modality.

    Rows of zeros inside, as a face tracker leaves them, are kept. The side of the padding, which lengths do not tell,
    is that of most utterances of the split. A file is aligned if its modalities have windows of one size and it has no
    lengths; if it has lengths and is called aligned, it is, and they are not used.

    Args:
        path: the file, or a folder with one such file.
        visual_dim: number of visual features expected; `None` takes that of the file.
        acoustic_dim: number of acoustic features, likewise.
        text_dim: size of the text's vectors, likewise: 768 for BERT, 300 for GloVe in MulT's files.

    Attributes:
        kind: `"mmsa_aligned"` or `"mmsa_unaligned"`.
        files: dict, `features` → path.
        splits: those that the file has.
        dims: dict, modality (`text`, `visual`, `acoustic`) → number of features.
        has_words: whether examples have `words`, the transcript split at white space.
        has_token_ids: whether examples have `token_ids`, int32 `(steps,)`: BERT's word pieces, `[CLS]` and `[SEP]`
            included, one for each row of `text`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or a program, has another form or other sizes, is not what its name says, or
            has an id twice; or if the folder holds several such files.

    Example:
        >>> source = MMSAFile("unaligned_50.pkl", visual_dim=20, acoustic_dim=5)  # doctest: +SKIP
    """

    def __init__(self, path, visual_dim, acoustic_dim, text_dim=768):
        path = _choose(pathlib.Path(path))
        self.files = {"features": path}
        self._parts = _read_parts(path)
        self.splits = tuple(self._parts)
        self.dims = {"text": text_dim, "visual": visual_dim, "acoustic": acoustic_dim}
        for part in self._parts.values():
            part.check_dims(self.dims)
            self.dims = {modality: array.shape[2] for modality, array in part.arrays.items()}
        self.has_words = all(part.words is not None for part in self._parts.values())
        self.has_token_ids = all(part.token_ids is not None for part in self._parts.values())
        self._is_aligned = _is_aligned(path, self._parts.values())
        self.kind = "mmsa_aligned" if self._is_aligned else "mmsa_unaligned"

    @classmethod
    def find(cls, folder):
        """Finds files by their names alone.

        Args:
            folder: where to look.

        Returns:
            Dict, `aligned` or `unaligned` → path, of those that are there.

        Raises:
            ValueError: If two files would do for one of them.
        """
        found = {}
        for path in _list(folder):
            if (name := _named(path)) and found.setdefault(name, path) != path:
                raise ValueError(
                    f"`{folder}` must hold one file of {name} features. Received: {[found[name].name, path.name]}"
                )
        return found

    def examples(self, split, report):
        """Yields the utterances of a split; see `keras_misa.data.sources`."""
        part = self._parts[split]

        def note(modality, text):
            report.note(f"{split}, {modality}: {text}")

        spans = part.spans(self._is_aligned, note)
        replaced, blank = dict.fromkeys(MODALITIES, 0), dict.fromkeys(MODALITIES, 0)
        for row, segment_id in enumerate(part.segment_ids):
            if problem := part.problem(row, spans, self.has_words):
                report.drop(segment_id, *problem)
                continue
            example = {"segment_id": segment_id, "video_id": part.video_ids[row], "label": float(part.labels[row])}
            if self.has_words:
                example["words"] = part.words[row]
            if self.has_token_ids:
                example["token_ids"] = part.token_ids[row, spans["text"].steps(row)]
            for modality, span in spans.items():
                values = part.arrays[modality][row, span.steps(row)]
                report.look(modality, values)
                example[modality], count = _finite(values)
                replaced[modality] += count
                blank[modality] += not example[modality].any()
            yield example
        for modality in MODALITIES:
            if replaced[modality]:
                note(modality, f"{replaced[modality]} value(s) that are no finite numbers count as 0.")
            if blank[modality]:
                note(modality, f"{blank[modality]} utterance(s) of zeros only, kept.")


def _list(folder):
    return sorted(path for path in pathlib.Path(folder).glob("*.pkl") if not path.name.startswith("."))


def _named(path):
    """What the file's name says it is."""
    return next((name for name, pattern in _NAMES.items() if re.search(pattern, path.stem.lower())), None)


def _choose(path):
    if not path.is_dir():
        return path
    files = list(MMSAFile.find(path).values()) or _list(path)
    if not files:
        names = sorted(entry.name for entry in path.iterdir())
        raise FileNotFoundError(
            f"`{path}` must hold a pickle such as `aligned_50.pkl` or `unaligned_50.pkl`. Received: {names[:10]}"
        )
    if len(files) > 1:
        raise ValueError(
            f"`{path}`: expected one file; name the one that is meant. Received: {[f.name for f in files]}"
        )
    return files[0]


def _read_parts(path):
    """Dict, split → `_Part`."""
    data = read_pickle(path)
    if not isinstance(data, dict):
        raise ValueError(f"`{path}` must hold a dict of splits. Received: {_describe(data)}")
    keys = {split: [key for key in names if key in data] for split, names in SPLITS.items()}
    if not any(keys.values()) or any(len(found) > 1 for found in keys.values()):
        raise ValueError(f"`{path}`: expected one or more of train, valid and test. Received: the keys {_keys(data)}")
    parts, rows = {}, {}
    for split, found in keys.items():
        for key in found:
            parts[split] = _Part(f"`{path}`, {key}", data[key])
            for row, segment_id in enumerate(parts[split].segment_ids):
                here = f"{key} row {row}"
                if rows.setdefault(segment_id, here) != here:
                    raise ValueError(
                        f"`{path}`, {here}: expected an id that no other row has. "
                        f"Received: {segment_id!r}, as {rows[segment_id]}"
                    )
    return parts


def _is_aligned(path, parts):
    named = _named(path)
    windows = [{modality: array.shape[1] for modality, array in part.arrays.items()} for part in parts]
    has_lengths = any(part.has_lengths for part in parts)
    is_aligned = all(len(set(sizes.values())) == 1 for sizes in windows) and (named == "aligned" or not has_lengths)
    if named not in (None, "aligned" if is_aligned else "unaligned"):
        raise ValueError(
            f"`{path}`: expected {named} features, as the file's name says. Received: windows of {windows[0]} steps "
            f"{'with' if has_lengths else 'without'} lengths"
        )
    return is_aligned


class _Span(typing.NamedTuple):
    """Which rows of a modality's array are each utterance's: three arrays of shape `(utterances,)`."""

    start: np.ndarray
    stop: np.ndarray
    is_wrong: np.ndarray  # The file states a length, and other rows are filled.

    def steps(self, row):
        return slice(self.start[row], self.stop[row])


class _Part:
    """A split: the arrays as the file has them, and what is read of each utterance."""

    def __init__(self, where, data):
        self._where = where
        if not isinstance(data, dict):
            self._fail("a dict of arrays", _describe(data))
        label_key = next((key for key in LABELS if key in data), LABELS[0])
        required = ("id", label_key, *MODALITIES.values())
        if missing := [key for key in required if key not in data]:
            self._fail(f"also {', '.join(f'`{key}`' for key in missing)}", f"the keys {_keys(data)}")
        optional = [key for key in ("raw_text", "text_bert", *LENGTHS.values()) if key in data]
        columns = {
            key: self._items(key, data[key]) if key in ("id", "raw_text") else self._numbers(key, data[key])
            for key in (*required, *optional)
        }
        counts = {key: len(column) for key, column in columns.items()}
        if len(set(counts.values())) > 1 or not counts["id"]:
            self._fail("one row or more, and as many of each key", counts)

        self.arrays = {modality: columns[key] for modality, key in MODALITIES.items()}
        self.labels = self._one_a_row(label_key, columns[label_key])
        self._lengths = {
            modality: self._whole(key, self._one_a_row(key, columns[key]))
            for modality, key in LENGTHS.items()
            if key in columns
        }
        self.has_lengths = bool(self._lengths)
        self.segment_ids, self.video_ids = zip(*map(self._read_id, range(counts["id"]), columns["id"]), strict=True)
        words = [self._string("raw_text", row, text).split() for row, text in enumerate(columns.get("raw_text", []))]
        self.words = words if any(words) else None
        self.token_ids, self._mask = self._read_tokens(columns["text_bert"]) if "text_bert" in columns else (None, None)

    def check_dims(self, dims):
        """Raises an error unless each modality has its number of features; `None` stands for any."""
        for modality, array in self.arrays.items():
            if array.ndim != 3 or not array.size or dims[modality] not in (None, array.shape[2]):
                shape = f"(utterances, steps, {dims[modality] or 'features'})"
                self._fail(f"`{MODALITIES[modality]}` of shape {shape}", array.shape)
        if self._mask is not None and self._mask.shape != self.arrays["text"].shape[:2]:
            self._fail(f"`text_bert` for `text` of shape {self.arrays['text'].shape}", f"{self._mask.shape[1]} steps")

    def spans(self, is_aligned, note):
        """Dict, modality → `_Span`. What the user should know goes to `note(modality, text)`."""
        has_mask = self._mask is not None
        filled = {m: self._mask if m == "text" and has_mask else _filled(array) for m, array in self.arrays.items()}
        sides = {modality: _side_of_extents(rows) for modality, rows in filled.items()}
        lengths = {} if is_aligned else dict(self._lengths)
        if has_mask:
            lengths |= dict.fromkeys(MODALITIES if is_aligned else ["text"], self._mask.sum(axis=1))
        if is_aligned and not has_mask:
            if {"left", "right"} <= set(sides.values()):
                self._fail("aligned features to be padded on one side", sides)
            filled = dict.fromkeys(filled, np.logical_or.reduce(list(filled.values())))

        spans = {}
        for modality, rows in filled.items():
            if modality not in lengths:
                spans[modality] = _Span(*_extents(rows), np.zeros(len(rows), bool))
                continue
            window = rows.shape[1]
            if count := int((lengths[modality] > window).sum()):
                note(modality, f"{count} stated length(s) beyond the window of {window} steps, cut to it.")
            spans[modality], sides[modality] = _spans_of_lengths(rows, np.minimum(lengths[modality], window))
            if modality in self._lengths and not is_aligned:
                spans[modality], count = _mend(spans[modality], rows)
                if count:
                    note(modality, f"{count} stated length(s) end at a row of zeros before the data does; not used.")
        for modality, side in sides.items():
            if side:
                note(modality, f"padded on the {side}.")
        return spans

    def problem(self, row, spans, has_words):
        """Reason and detail if the utterance is of no use."""
        if not np.isfinite(self.labels[row]):
            return "no label", f"{self.labels[row]}"
        for modality, span in spans.items():
            count = span.stop[row] - span.start[row]
            if span.is_wrong[row]:
                return "length contradicts the data", f"{modality}: {count} step(s) stated, other rows are filled"
            if count <= 0:
                return "empty", f"{modality}: no step"
        return ("empty", "raw_text: no word") if has_words and not self.words[row] else None

    def _items(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            return value.tolist()
        if not isinstance(value, list | tuple):
            self._fail(f"`{key}` as a list or an array", _describe(value))
        return value

    def _numbers(self, key, value):
        """The numbers as an array, which is no copy if they are one."""
        try:
            array = np.asarray(value)
            if array.dtype.hasobject:
                array = np.array(array.tolist(), np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            self._fail(f"`{key}` as one array of numbers", f"{_describe(value)} ({error})")
        if array.dtype.kind not in "fiu" or not array.ndim:
            self._fail(f"`{key}` as an array of numbers", _describe(array))
        return array

    def _one_a_row(self, key, array):
        if array.size != len(array):
            self._fail(f"one number a row in `{key}`", f"an array of shape {array.shape}")
        return array.reshape(-1)

    def _whole(self, key, array):
        """Numbers that count or name something, as int32."""
        is_whole = (array >= 0) & (array < 2**31) & (array == np.floor(array))
        if not is_whole.all():
            self._fail(f"whole numbers from 0 in `{key}`", array[~is_whole].flat[0])
        return array.astype(np.int32)

    def _read_tokens(self, array):
        """Token ids and mask, both `(utterances, steps)`."""
        if array.ndim != 3 or array.shape[1] != 3:
            self._fail("`text_bert` of shape (utterances, 3, steps): ids, mask and types", array.shape)
        ids, mask, _ = np.moveaxis(self._whole("text_bert", array), 1, 0)
        if mask.max(initial=0) > 1:
            self._fail("a mask of 0 and 1 in `text_bert`", mask.max())
        return ids, mask == 1

    def _read_id(self, row, value):
        """Segment id and video id."""
        parts = value.tolist() if isinstance(value, np.ndarray) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        parts = [str(part) if isinstance(part, int | float) else self._string("id", row, part) for part in parts]
        if not any(parts):
            self._fail(f"an id in row {row}", _describe(value))
        if len(parts) == 1 and (match := re.fullmatch(r"(.+)\$_\$(.+)", parts[0])):
            return f"{match[1]}[{match[2]}]", match[1]
        match = re.fullmatch(r"(.+)\[\w+\]|(.{11})_\d+", parts[0])  # The latter: YouTube's id and a number.
        return "_".join(parts), (match[1] or match[2]) if match else parts[0]

    def _string(self, key, row, value):
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if not isinstance(value, str):
            self._fail(f"text in `{key}`, row {row}", _describe(value))
        return str(value)

    def _fail(self, expected, received):
        raise ValueError(f"{self._where}: expected {expected}. Received: {received}")


def _filled(array):
    """For each row whether it holds a finite number other than 0, `(utterances, steps)`."""
    filled = np.empty(array.shape[:2], bool)
    for row, values in enumerate(array):  # One by one: the arrays are gigabytes.
        filled[row] = (np.isfinite(values) & (values != 0)).any(axis=1)
    return filled


def _extents(filled):
    """First row that is filled and the row behind the last; the window's size and 0 where none is."""
    window = filled.shape[1]
    is_any = filled.any(axis=1)
    return np.where(is_any, filled.argmax(axis=1), window), np.where(is_any, window - filled[:, ::-1].argmax(axis=1), 0)


def _side(is_left, is_right):
    """The side of the padding that most utterances of one opinion have."""
    left, right = int((is_left & ~is_right).sum()), int((is_right & ~is_left).sum())
    return None if left == right == 0 else "left" if left > right else "right"


def _side_of_extents(filled):
    first, stop = _extents(filled)
    behind = filled.shape[1] - stop
    return _side(first > behind, first < behind)


def _spans_of_lengths(filled, lengths):
    """Spans of stated lengths, and the side of the padding."""
    window = filled.shape[1]
    first, stop = _extents(filled)
    fits = {"left": first >= window - lengths, "right": stop <= lengths}
    side = _side(fits["left"], fits["right"]) or _side_of_extents(filled)
    start = window - lengths if side == "left" else np.zeros_like(lengths)
    return _Span(start, start + lengths, ~fits[side or "right"]), side


def _mend(span, filled):
    """Lets the values decide where a length ends at a row of zeros and more follows, and counts how often they do."""
    first, stop = _extents(filled)
    lengths = span.stop - span.start
    follows = filled[np.arange(len(filled)), np.minimum(lengths, filled.shape[1] - 1)]
    is_gap = (lengths > 0) & ~follows | (lengths == 1) & ~filled[:, 0]  # The script writes 1 instead of 0.
    ends_early = span.is_wrong & (stop > lengths) & is_gap
    mended = _Span(
        np.where(ends_early, first, span.start), np.where(ends_early, stop, span.stop), span.is_wrong & ~ends_early
    )
    return mended, int(ends_early.sum())


def _finite(values):
    """The values as float32, 0 where that is not finite, and the number of these."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    is_finite = np.isfinite(values)
    values[~is_finite] = 0
    return values, int((~is_finite).sum())


def _describe(value):
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{reprlib.repr(value)} of type {type(value).__name__}"


def _keys(data):
    return [reprlib.repr(key) for key in data][:30]
