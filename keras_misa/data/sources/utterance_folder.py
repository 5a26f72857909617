"""A person's own dataset: a table of utterances, and for each modality a folder of arrays."""

import collections
import csv
import dataclasses
import itertools
import math
import pathlib
import re
import typing
import zipfile

import numpy as np

TABLE = "utterances.csv"
COLUMNS = {  # What a column means → its names, the first that is there is taken.
    "segment_id": ("segment_id", "id"),
    "video_id": ("video_id",),
    "clip_id": ("clip_id",),
    "split": ("split", "mode"),
    "text": ("text", "transcript"),
}
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
NOT_MODALITIES = ("segment_id", "video_id", "words", "label", "utterances")
_SPLIT_OF = {synonym: split for split, synonyms in SPLITS.items() for synonym in synonyms}
_IGNORED = re.compile(r"\..*|__MACOSX|thumbs\.db|desktop\.ini|(readme|license)(\.(md|txt|rst))?", re.IGNORECASE)
_GREATEST = float(np.finfo(np.float32).max)
_SHOWN = 5  # names in a message
_MOST_COMPRESSION = 1100  # Deflate cannot do better.


class UtteranceFolder:
    """A table `utterances.csv` and, for each modality, a folder of `.npy` files or one `.npz` file.

    The format is described in `datasets/utterance_folder/README.md`. The table is read at once, arrays one at a time.

    Args:
        folder: the folder with the table.
        classes: whether labels that are numbers name classes, as they do in a column `class`.

    Attributes:
        folder: `pathlib.Path`, as given.
        files: dict, `utterances` or modality → path of the table, of the modality's folder or of its `.npz` file.
        splits: those in which an utterance has a label.
        dims: dict, modality → number of its features, by name. Words are not among them.
        has_words: whether there are texts.
        label_kind: `"score"` (a number), `"classes"` or `"scores"` (several numbers).
        class_names: tuple of str, class by class, `None` where labels are no classes.
        label_names: tuple of str, score by score, `None` where labels are not several scores.

    Raises:
        FileNotFoundError: If there is no such folder, or no table in it.
        ValueError: If the table is not of the form, or there is nothing besides the labels, or arrays are not fit to be
            a modality.

    Example:
        >>> source = UtteranceFolder("my_dataset")  # doctest: +SKIP
        >>> source.dims, source.has_words, source.label_kind  # doctest: +SKIP
        ({'acoustic': 74, 'visual': 35}, True, 'score')
    """

    kind = "utterance_folder"

    def __init__(self, folder, classes=False):
        self.folder = pathlib.Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"Expected a folder that holds `{TABLE}`. Received: `{folder}`, which is none")
        self.files = self.find(folder)
        if not self.files:
            names = [path.name for path in _list(self.folder)]
            raise FileNotFoundError(f"`{folder}` must hold `{TABLE}`. Received: {_some(names)}")
        table = _Table(self.files["utterances"])
        self._rows = table.rows
        self.has_words = any(row.words for row in self._rows)
        self.label_kind, self.class_names, self.label_names = table.read_labels(classes)
        self.splits = tuple(s for s in SPLITS if any(row.split == s and row.label is not None for row in self._rows))
        ids = [row.segment_id for row in self._rows]
        paths = {name: path for name, path in self.files.items() if name != "utterances"}
        self._arrays = {name: _Arrays(name, path, ids) for name, path in sorted(paths.items())}
        self.dims = {name: arrays.width for name, arrays in self._arrays.items()}
        if not self.dims and not self.has_words:
            raise ValueError(
                f"`{folder}` must hold a modality: a column `text`, or a folder of `.npy` files such as "
                f"`visual/{ids[0]}.npy`. Received: {_some([path.name for path in _list(self.folder)])}"
            )
        self._notes = [*table.notes, *(note for arrays in self._arrays.values() for note in arrays.notes)]
        if others := [path.name for path in _list(self.folder) if path not in self.files.values()]:
            self._notes.append(f"Not read, being neither the table nor arrays: {_some(others)}.")

    @classmethod
    def find(cls, folder):
        """Finds what would be read.

        Args:
            folder: where to look.

        Returns:
            Dict as the attribute `files`; empty without a table.

        Raises:
            ValueError: If two files would do for the table or for a modality, or a modality's name is not fit.
        """
        members = _list(pathlib.Path(folder))
        tables = [path for path in members if path.suffix.lower() == ".csv"]
        tables = [path for path in tables if path.name == TABLE] or tables
        if not tables:
            return {}
        if len(tables) > 1:
            raise ValueError(
                f"`{folder}` must hold `{TABLE}`, or only one .csv file. Received: {_some([p.name for p in tables])}"
            )
        files = {"utterances": tables[0]}
        for path in members:
            if path.suffix == ".npz" or (path.is_dir() and any(member.suffix == ".npy" for member in path.iterdir())):
                name = path.name.removesuffix(".npz")
                if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name in NOT_MODALITIES:
                    raise ValueError(
                        f"`{path}`: a modality's name has letters, digits and underscores, starts with a letter and "
                        f"is none of {list(NOT_MODALITIES)}; rename it, or start it with a dot to hide it. "
                        f"Received: {name!r}"
                    )
                if files.setdefault(name, path) != path:
                    raise ValueError(
                        f"`{folder}` must hold {name} once. Received: {files[name].name!r} and {path.name!r}"
                    )
        return files

    def examples(self, split, report):
        """Yields the utterances of a split; see `keras_misa.data.sources`."""
        for note in self._notes:
            report.note(note)
        if split == self.splits[0]:
            for row in self._rows:
                if row.split not in self.splits:
                    report.drop(row.segment_id, "no label", f"like all of {row.split}")
        left_out, replaced, kept = collections.Counter(), collections.Counter(), 0
        for row in self._rows:
            if row.split != split:
                continue
            values, reason, detail = self._read(row)
            if reason:
                left_out[reason] += 1
                report.drop(row.segment_id, reason, detail)
                continue
            kept += 1
            for name in self.dims:
                report.look(name, values[name])
                values[name], count = finite(values[name])
                replaced[name] += count
            words = {"words": row.words} if self.has_words else {}
            yield {"segment_id": row.segment_id, "video_id": row.video_id, **words, **values, "label": row.label}
        if not kept:
            raise ValueError(
                f"`{self.files['utterances']}`: expected an utterance of {split} that can be used. "
                f"Received: {left_out.total()}, all left out: {dict(left_out)}"
            )
        for name, count in replaced.items():
            if count:
                report.note(f"{name}, {split}: {count} values that were NaN or infinite are 0.")

    def _read(self, row):
        """Arrays of a row, and why the row cannot be used, if it cannot: a reason and a detail."""
        if row.label is None:
            return {}, "no label", ", ".join(map(repr, row.labels))
        if self.has_words and not row.words:
            return {}, "empty", "text"
        values = {}
        for name, arrays in self._arrays.items():
            values[name], where = arrays.read(row.segment_id)
            if values[name] is None:
                return {}, f"no {name} file", where
        empty = [name for name, array in values.items() if not len(array)]
        return values, "empty" if empty else "", ", ".join(empty)


@dataclasses.dataclass
class _Row:
    line: int
    segment_id: str
    video_id: str
    split: str
    words: list[str]
    labels: list[str]
    label: typing.Any = None


class _Table:
    """The rows of `utterances.csv`, and what of it is not read."""

    def __init__(self, path):
        self.path = path
        with open_text(path) as file:
            records = read_records(path, file)
            _, self._header = next(records, (0, []))
            self._columns, self._label_columns = find_columns(path, self._header)
            self.rows = [self._read_row(line, fields) for line, fields in records]
        if not self.rows:
            raise ValueError(f"`{path}`: expected a row for each utterance. Received: a header only, {self._header}")
        lines = {}
        for row in self.rows:
            if lines.setdefault(row.segment_id, row.line) != row.line:
                raise ValueError(
                    f"{self._where(row.line)}: expected a segment_id that no other row has. "
                    f"Received: {row.segment_id!r}, which line {lines[row.segment_id]} has too"
                )
        self.notes = self._make_notes()

    def _read_row(self, line, fields):
        if len(fields) != len(self._header):
            raise ValueError(
                f"{self._where(line)}: expected {len(self._header)} fields, as the header has (a text with commas "
                f"needs quotes). Received: {len(fields)}, {fields}"
            )
        cells = {role: fields[column] for role, column in self._columns.items()}
        if "clip_id" in cells:
            cells["segment_id"] = f"{cells['video_id']}[{cells['clip_id']}]" if all(cells.values()) else ""
        segment_id = cells["segment_id"]
        if not segment_id or segment_id.startswith(".") or re.search(r"[/\\\0]", segment_id):
            raise ValueError(
                f"{self._where(line)}: expected a segment_id that can be the name of a file: not empty, no dot at its "
                f"start, no slash in it. Received: {segment_id!r}"
            )
        split = cells.get("split", "train")
        if split.lower() not in _SPLIT_OF:
            raise ValueError(
                f"{self._where(line)} ({segment_id}): expected a split: {', '.join(_SPLIT_OF)}. Received: {split!r}"
            )
        labels = [fields[column] for column in self._label_columns]
        video_id, words = cells.get("video_id") or segment_id, cells.get("text", "").split()
        return _Row(line, segment_id, video_id, _SPLIT_OF[split.lower()], words, labels)

    def _make_notes(self):
        notes = []
        read = {*self._columns.values(), *self._label_columns}
        if ignored := [name or "(no name)" for column, name in enumerate(self._header) if column not in read]:
            notes.append(f"{self.path.name}: columns that are not read: {_some(ignored)}.")
        if "split" not in self._columns:
            notes.append(f"{self.path.name} has no column `split`: all of it is train; --split-by deals it out.")
        if "video_id" not in self._columns:
            notes.append(
                f"{self.path.name} has no column `video_id`: each utterance counts as a video of its own, so that "
                "--split-by may part what one person said."
            )
        if "text" in self._columns and not any(row.words for row in self.rows):
            notes.append(f"{self.path.name}: the column of texts is empty and is not read.")
        return notes

    def read_labels(self, classes):
        """Sets `label` of the rows, `None` where there is none, and tells the kind, class names and label names."""
        classes = classes or self._header[self._label_columns[0]].lower() == "class"
        labelled = [row for row in self.rows if all(map(_is_label, row.labels))]
        if not labelled:
            raise ValueError(f"`{self.path}`: expected labels. Received: {len(self.rows)} rows, none of which has one")
        no_numbers = [row for row in labelled if None in map(_number, row.labels)]
        several = len(self._label_columns) > 1
        decimal_comma = any(re.fullmatch(r"[+-]?\d*,\d+", text) for row in no_numbers for text in row.labels)
        if no_numbers and (several or (not classes and (decimal_comma or 2 * len(no_numbers) < len(labelled)))):
            received = [f"line {row.line} ({row.segment_id}): {', '.join(row.labels)}" for row in no_numbers]
            hint = "write 1.5, not 1,5" if decimal_comma else "leave the field empty if there is no label"
            other = "" if several else ", or, if they name classes, call the column class"
            raise ValueError(
                f"`{self.path}`: expected labels that are numbers, as most are ({hint}){other}. "
                f"Received: {_some(received)}"
            )
        if several:
            for row in labelled:
                row.label = np.array([_number(text) for text in row.labels], np.float32)
            return "scores", None, tuple(self._header[column][len("label_") :] for column in self._label_columns)
        if classes or no_numbers:
            names = sorted({_class_name(row.labels[0]) for row in labelled}, key=_class_order)
            for row in labelled:
                row.label = names.index(_class_name(row.labels[0]))
            return "classes", tuple(names), None
        for row in labelled:
            row.label = _number(row.labels[0])
        return "score", None, None

    def _where(self, line):
        return f"`{self.path}`, line {line}"


def find_columns(path, header, labelled=True):
    """Positions of the columns of a table.

    Args:
        path: of the table, for errors.
        header: list of the names.
        labelled: whether there must be labels.

    Returns:
        Pair: dict, what a column means → position; and the positions of the labels.

    Raises:
        ValueError: If a column is missing or there twice.
    """
    names = [name.lower() for name in header]
    found = {
        role: [names.index(synonym) for synonym in synonyms if synonym in names] for role, synonyms in COLUMNS.items()
    }
    columns = {role: positions[0] for role, positions in found.items() if positions}
    if "segment_id" in columns:
        columns.pop("clip_id", None)
    elif not {"video_id", "clip_id"} <= set(columns):
        raise ValueError(f"`{path}`: expected a column `segment_id`. Received: the columns {header}")
    labels = [names.index(name) for name in ("label", "class") if name in names][:1]
    labels = labels or [column for column, name in enumerate(names) if name.startswith("label_")]
    if labelled and not labels:
        raise ValueError(
            f"`{path}`: expected a column `label`, `class`, or several `label_<name>`. Received: the columns {header}"
        )
    for column in [*columns.values(), *labels]:
        if names.count(names[column]) > 1:
            raise ValueError(f"`{path}`: expected each column once. Received: {header[column]!r} again")
    return columns, labels


def open_text(path):
    """A text file in UTF-8, with or without a mark, its ends of lines as they are."""
    return open(path, encoding="utf-8-sig", newline="")


def read_lines(path, file):
    """Yields the lines of what `open_text` opened.

    Raises:
        ValueError: If a line is not UTF-8.
    """
    try:
        yield from file
    except UnicodeDecodeError:
        with open(path, "rb") as raw:
            for number, line in enumerate(raw, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"`{path}`, line {number}: expected text in UTF-8 (Excel: save as CSV UTF-8). "
                        f"Received: the bytes {line[error.start : error.start + 4]}"
                    ) from error
        raise


def read_records(path, file):
    """Yields the line at which a record begins, and its fields; the first is the header. Blank records are skipped.

    Args:
        path: of the table, for errors.
        file: what `open_text` made of it.

    Raises:
        ValueError: If the table is no CSV in UTF-8.
    """
    lines = read_lines(path, file)
    first = []
    for text in lines:
        first.append(text)
        if text.strip():
            break
    options = {"delimiter": _sniff_delimiter(first[-1] if first else ""), "skipinitialspace": True, "strict": True}
    reader = csv.reader(itertools.chain(first, lines), **options)
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield line, [field.strip() for field in fields]
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"`{path}`, the record that begins at line {line} is no CSV: {error}") from error


def _sniff_delimiter(header):
    """The delimiter that makes most of the header known names."""
    known = {synonym for synonyms in COLUMNS.values() for synonym in synonyms}

    def known_names(delimiter):
        names = [name.strip(' "\r\n').lower() for name in header.split(delimiter)]
        return sum(name in known or name.startswith("label") for name in names)

    return max(",;\t", key=known_names)


def _number(text):
    """The number that a text is, or `None`."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _is_label(text):
    number = _number(text)
    return bool(text) and (number is None or abs(number) <= _GREATEST)


def _class_name(text):
    """One name for a class that a table calls 1 here and 1.0 there."""
    number = _number(text)
    return text if number is None else str(number + 0.0).removesuffix(".0")


def _class_order(name):
    number = _number(name)
    return number is None, number or 0.0, name


class ArrayFiles:
    """A modality's arrays by name: the `.npy` files of a folder, or the members of an `.npz` file.

    Args:
        path: of the folder or file.

    Raises:
        ValueError: If the file is no `.npz` file.
    """

    def __init__(self, path):
        self._path = path
        self._archive = None if path.is_dir() else _open_archive(path)
        self._members = self._archive and {member.filename: member for member in self._archive.infolist()}

    def names(self):
        """The names of all that is there, arrays with their suffix `.npy`."""
        return set(self._members) if self._archive else {member.name for member in _list(self._path)}

    def read_shape(self, name):
        """The shape of an array, which must be there."""
        return self._use(name, _read_shape)

    def read(self, name):
        """An array, as it is stored.

        Returns:
            Pair: the array, `(0, 1)` if it has no steps, or `None` if there is none; and where that is, for messages.

        Raises:
            ValueError: If the file is damaged or holds something else.
        """
        where = f"`{self._path}`, array {name!r}" if self._archive else f"`{self._path / name}.npy`"
        exists = f"{name}.npy" in self._members if self._archive else (self._path / f"{name}.npy").is_file()
        return (self._use(name, _read_array) if exists else None), where

    def _use(self, name, read):
        """Calls `read` with a stream of a `.npy` file and its size."""
        try:
            if not self._archive:
                path = self._path / f"{name}.npy"
                with path.open("rb") as stream:
                    return read(stream, path.stat().st_size)
            member = self._members[f"{name}.npy"]
            if member.file_size > _MOST_COMPRESSION * member.compress_size:
                raise ValueError(
                    f"expected data. Received: {member.compress_size} bytes that claim to be {member.file_size}"
                )
            with self._archive.open(member) as stream:
                return read(stream, member.file_size)
        except Exception as error:  # Damaged bytes can fail as anything.
            where = f"`{self._path}`, array {name!r}" if self._archive else f"`{self._path / name}.npy`"
            raise ValueError(f"{where}: {str(error) or type(error).__name__}") from error


class _Arrays:
    """The arrays of a modality, of one width, that belong to the rows of a table."""

    def __init__(self, modality, path, ids):
        self._files = ArrayFiles(path)
        members = self._files.names()
        found = [name for name in ids if f"{name}.npy" in members]
        if not found:
            received = _some(name.removesuffix(".npy") for name in sorted(members) if name.endswith(".npy"))
            raise ValueError(
                f"`{path}`: expected arrays that are named as the segment_ids are, such as {ids[0]!r}. "
                f"Received: {received}"
            )
        shapes = ((name, self._files.read_shape(name)) for name in found)
        self._first, self.width = next(((name, shape[1]) for name, shape in shapes if shape[0]), (None, None))
        if self._first is None:
            raise ValueError(f"`{path}`: expected arrays with a step. Received: {len(found)} arrays without any")
        self.notes = []
        if others := sorted(members - {f"{name}.npy" for name in found}):
            self.notes.append(f"{modality}: {len(others)} of its arrays belong to no row: {_some(others)}.")

    def read(self, name):
        """See `ArrayFiles.read`; the width is that of all arrays."""
        array, where = self._files.read(name)
        if array is not None and len(array) and array.shape[1] != self.width:
            raise ValueError(
                f"{where}: expected {self.width} features, as {self._first!r} has. Received: {array.shape[1]}"
            )
        return (np.zeros((0, self.width), np.float32) if array is not None and not len(array) else array), where


def _read_array(stream, size):
    if not _read_shape(stream, size)[0]:
        return np.zeros((0, 1), np.float32)
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _open_archive(path):
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # Damaged bytes can fail as anything.
        raise ValueError(f"`{path}` is no .npz file, or is cut off: {error}") from error
    names = archive.namelist()
    if len(names) != len(set(names)):
        twice = [name for name, count in collections.Counter(names).items() if count > 1]
        raise ValueError(f"`{path}`: expected each array once. Received: {_some(twice)} again")
    return archive


def _read_shape(stream, size):
    """Reads the header of a `.npy` file; `size` is that of the file, which must be what the header promises."""
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in versions:
        raise ValueError(f"expected a `.npy` file of version 1.0 or 2.0. Received: {version}")
    shape, _, dtype = versions[version](stream)
    if dtype.kind not in "fiub":
        hint = "; such arrays are pickles, which are programs, and are not read" if dtype.hasobject else ""
        raise ValueError(f"expected an array of numbers (`array.astype('float32')`). Received: dtype {dtype}{hint}")
    if len(shape) != 2 and shape != (0,):
        hints = {1: "; if it is one step, save array[None]", 3: "; if it is a batch of one, save array[0]"}
        raise ValueError(f"expected the shape (steps, features){hints.get(len(shape), '')}. Received: {shape}")
    if min(shape) < 0 or (shape[0] and not shape[1]):
        raise ValueError(f"expected one feature or more. Received: an array of shape {shape}")
    promised = stream.tell() + math.prod(shape) * dtype.itemsize
    if promised != size:
        raise ValueError(
            f"expected {promised} bytes, as its shape {shape} and dtype {dtype} say. Received: {size} bytes; "
            f"{'the file is cut off' if size < promised else 'there is more in it than one array'}"
        )
    return shape


def finite(values):
    """The values as float32, those that are no finite number as 0; and how many these are."""
    with np.errstate(over="ignore"):
        values = np.array(values, np.float32)
    wrong = ~np.isfinite(values)
    values[wrong] = 0
    return values, int(wrong.sum())


def _list(folder):
    """What is in a folder and is meant: no hidden files, no README, no litter of operating systems."""
    return sorted(path for path in folder.iterdir() if not _IGNORED.fullmatch(path.name))


def _some(names):
    """A few of the names, for a message."""
    names = list(names)
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
