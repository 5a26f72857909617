"""Utterances that nobody has labelled, read one at a time."""

import json
import pathlib
import re

import numpy as np

from keras_misa.data.sources.utterance_folder import (
    TABLE,
    ArrayFiles,
    find_columns,
    finite,
    open_text,
    read_lines,
    read_records,
)

LINES_TABLE = "utterances.jsonl"


class UnlabelledUtterances:
    """A table of utterances and their arrays, for predictions; memory is that of one utterance, however many there are.

    The table is `utterances.csv` or `utterances.jsonl`, as in a folder of the dataset `utterance_folder`, without
    labels; or any file `.csv` or `.jsonl`; or a `.txt` with a sentence a line, which are numbered from 1. Each line of
    a `.jsonl` is an object with `segment_id` (the number of its line by default), `text` and, if you like, the
    modalities, each a list of steps, which are lists of numbers, or the name of a `.npy` file. Arrays that are not in
    the table lie beside it, in `<modality>/<segment_id>.npy` or in `<modality>.npz`.

    Iterating yields pairs: a dict of `segment_id`, `words`, the modalities, float32, and `notes`, a list of what was
    replaced; and what is wrong, an empty string if nothing is. NaN and infinities become 0.

    Args:
        path: the table, or its folder.
        dims: dict, modality → number of its features, of the arrays that are needed.
        needs_words: whether words are needed.
        may_miss: whether an utterance may be without some of its modalities, but not all; they are then arrays of no
            steps, or no words.

    Raises:
        FileNotFoundError: If there is no such table, or no arrays of a modality.
        ValueError: If the table has no such columns; while iterating, if it is damaged or the first array of a modality
            has another number of features.

    Example:
        >>> source = UnlabelledUtterances("calls.jsonl", {"acoustic": 74}, needs_words=True)  # doctest: +SKIP
        >>> utterance, problem = next(iter(source))  # doctest: +SKIP
    """

    def __init__(self, path, dims, needs_words, may_miss=False):
        self.path = _find_table(pathlib.Path(path))
        self._dims = dims
        self._needs_words = needs_words
        self._may_miss = may_miss
        self._seen = set()  # modalities of which an array was of the right size
        read = {".csv": self._read_csv, ".jsonl": self._read_lines, ".txt": self._read_sentences}
        self._rows = read[self.path.suffix.lower()]()
        self._file = None
        if dims and self.path.suffix.lower() == ".txt":
            raise ValueError(
                f"The model needs {self._describe()}: give a table and arrays, see the dataset utterance_folder. "
                f"Received: `{self.path}`"
            )
        folder = self.path.parent
        self._arrays = {}
        for modality in dims:
            found = [p for p in (folder / modality, folder / f"{modality}.npz") if p.exists()]
            if len(found) > 1:
                raise ValueError(f"`{folder}` must hold {modality} once. Received: {[p.name for p in found]}")
            if found:
                self._arrays[modality] = ArrayFiles(found[0])
        missing = sorted(set(dims) - set(self._arrays)) if self.path.suffix.lower() != ".jsonl" else []
        if missing and not may_miss:
            raise FileNotFoundError(
                f"`{folder}`: the model needs {self._describe()}: expected `<modality>/<segment_id>.npy` or "
                f"`<modality>.npz`. Received: nothing of {', '.join(missing)}"
            )
        self._next = next(self._rows, None)  # so that a table that is none is told at once
        if self._next is None:
            raise ValueError(f"`{self.path}`: expected an utterance. Received: none")

    @property
    def fraction(self):
        """How much of the table has been read, from 0 to 1."""
        if self._file.closed:
            return 1.0
        return min(self._file.buffer.raw.tell() / max(self.path.stat().st_size, 1), 1.0)

    def __iter__(self):
        while self._next is not None:
            row, problem = self._next
            yield (row, problem) if problem else self._complete(row)
            self._next = next(self._rows, None)

    def _complete(self, row):
        """The utterance of a row of the table, and what is wrong with it."""
        segment_id, text, given = row["segment_id"], row["text"], row["arrays"]
        utterance = {"segment_id": segment_id, "words": text.split(), "notes": []}
        missing = ["words"] if self._needs_words and not utterance["words"] else []
        problem = "empty: text" if missing else ""
        for modality, dim in self._dims.items():
            try:
                array, where = self._array(modality, segment_id, given.get(modality))
            except ValueError as error:
                return utterance, f"damaged: {error}"
            if array is not None and len(array) and array.shape[1] != dim:
                wrong = f"{where}: expected {dim} features. Received: {array.shape[1]}"
                if modality not in self._seen:
                    raise ValueError(f"The model needs {self._describe()}. {wrong}")
                return utterance, f"damaged: {wrong}"
            if array is None or not len(array):
                problem = problem or (f"no {modality} file: {where}" if array is None else f"empty: {modality}")
                missing.append(modality)
                array = np.zeros((0, dim))
            else:
                self._seen.add(modality)
            utterance[modality], count = finite(array)
            if count:
                utterance["notes"].append(f"{count} values of {modality} that were NaN or infinite are 0")
        needed = len(self._dims) + self._needs_words
        if missing and self._may_miss and len(missing) < needed:
            utterance["notes"].append(f"without {' and '.join(missing)}")
            problem = ""
        return utterance, problem

    def _array(self, modality, segment_id, given):
        """The array, `None` if there is none, and where it was looked for."""
        if isinstance(given, list):
            where = f"{modality} of {segment_id!r}"
            try:
                array = np.array(given, np.float32)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{where}: expected a list of steps, lists of equally many numbers") from error
            if array.ndim != 2 and array.size:
                raise ValueError(f"{where}: expected the shape (steps, features). Received: {array.shape}")
            return array.reshape(len(array), -1) if array.size else np.zeros((0, 1), np.float32), where
        if given is not None:
            return ArrayFiles(self.path.parent).read(str(given).removesuffix(".npy"))
        if modality in self._arrays:
            return self._arrays[modality].read(segment_id)
        return None, f"`{self.path.parent / modality}`"

    def _describe(self):
        parts = [f"{name} of {dim} features" for name, dim in self._dims.items()]
        return ", ".join(parts + ["words"] * self._needs_words)

    def _read_csv(self):
        with open_text(self.path) as self._file:
            records = read_records(self.path, self._file)
            _, header = next(records, (0, []))
            columns, _ = find_columns(self.path, header, labelled=False)
            columns.pop("split", None)
            if self._needs_words and "text" not in columns and not self._may_miss:
                raise ValueError(f"`{self.path}`: expected a column `text`. Received: the columns {header}")
            for line, fields in records:
                if len(fields) != len(header):
                    wrong = f"expected {len(header)} fields, as the header has. Received: {len(fields)}"
                    yield {"segment_id": f"line {line}", "notes": []}, f"damaged: line {line}: {wrong}"
                    continue
                cells = {role: fields[column] for role, column in columns.items()}
                if "clip_id" in cells:
                    cells["segment_id"] = f"{cells['video_id']}[{cells['clip_id']}]" if all(cells.values()) else ""
                yield self._row(line, cells["segment_id"], cells.get("text", ""), {})

    def _read_lines(self):
        with open_text(self.path) as self._file:
            for number, line in enumerate(read_lines(self.path, self._file), start=1):
                if not line.strip():
                    continue
                try:
                    content = json.loads(line)
                except ValueError as error:
                    yield {"segment_id": f"line {number}", "notes": []}, f"damaged: line {number}: no JSON: {error}"
                    continue
                if not isinstance(content, dict) or not isinstance(content.get("text") or "", str):
                    wrong = "expected an object with a string `text`"
                    yield {"segment_id": f"line {number}", "notes": []}, f"damaged: line {number}: {wrong}"
                    continue
                given = {modality: content[modality] for modality in self._dims if content.get(modality) is not None}
                yield self._row(number, str(content.get("segment_id", number)), content.get("text") or "", given)

    def _read_sentences(self):
        with open_text(self.path) as self._file:
            for number, line in enumerate(read_lines(self.path, self._file), start=1):
                yield self._row(number, str(number), line, {})

    def _row(self, line, segment_id, text, given):
        if not segment_id or segment_id.startswith(".") or re.search(r"[/\\\0]", segment_id):
            wrong = f"expected a segment_id that can be the name of a file. Received: {segment_id!r}"
            return {"segment_id": segment_id or f"line {line}", "notes": []}, f"damaged: line {line}: {wrong}"
        return {"segment_id": segment_id, "text": text, "arrays": given}, ""


def _find_table(path):
    if path.is_dir():
        names = (TABLE, LINES_TABLE)
        tables = [path / name for name in names if (path / name).exists()]
        tables = tables or sorted(p for p in path.iterdir() if p.suffix.lower() in (".csv", ".jsonl"))
        if len(tables) != 1:
            received = [table.name for table in tables[:5]] or "neither"
            raise ValueError(f"`{path}` must hold `{TABLE}` or `{LINES_TABLE}`. Received: {received}")
        return tables[0]
    if not path.exists():
        raise FileNotFoundError(f"There is nothing to predict. Received: `{path}`, which is not there")
    if path.suffix.lower() not in (".csv", ".jsonl", ".txt"):
        raise ValueError(f"Expected a folder, or a file .csv, .jsonl or .txt. Received: `{path}`")
    return path
