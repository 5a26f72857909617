"""Computational sequences, the `.csd` files of the CMU Multimodal SDK."""

import functools
import itertools
import pathlib
import re

import numpy as np

from keras_misa.data._ordered_pool import map_in_order
from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.alignment import EPSILON, mean_over, overlapping

PAUSE = "sp"
NORMALISATION_EPSILON = 1e-6
ROLES = {  # What the root's name says, without its punctuation.
    "words": r"^words$|timestampedwords",
    "visual": r"facet",
    "acoustic": r"covarep",
    "labels": r"opinion|sentimentlabel|labelssentiment|alllabels|^cmumoseilabels$",
}
EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")  # MOSEI's columns after the sentiment
WIDTHS = {35: "visual", 47: "visual", 74: "acoustic"}  # settle what a file of unknown name is
_TEXT = "SO"  # NumPy's kinds of what HDF5 has as text
_CACHE = 2**20  # bytes
_MOST_COMPRESSION = 1100  # Deflate cannot do better.


class ComputationalSequences:
    """Words, visual and acoustic frames and labels of videos, each in a file of its own with its own clock.

    The words, FACET's and COVAREP's features and the labels are found by the name in the file (its root), then by
    shape: file names have changed over the years. They are aligned as the published code does it with the CMU SDK: a
    word takes the mean of each modality's frames during it, a labelled segment takes its words. One video is in memory
    at a time, or a few for each worker.

    Args:
        folder: the folder with the four files.
        folds: dict, split → list of video ids.
        visual_dim: number of visual features expected.
        acoustic_dim: number of acoustic features expected.
        emotions: whether examples also have `emotions`, columns 2 to 7 of MOSEI's labels.

    Attributes:
        files: dict, role (`words`, `visual`, `acoustic`, `labels`) → path.
        splits: those that have a video.
        num_workers: number of processes that read videos, 1 unless it is set: this one. The examples are the same.

    Raises:
        FileNotFoundError: If one of the four is not there.
        ValueError: If a file is damaged or has the wrong shape, or two files would do for one role.
    """

    kind = "csd"

    def __init__(self, folder, folds, visual_dim, acoustic_dim, emotions=False):
        self.files = self.find(folder)
        if missing := [role for role in ROLES if role not in self.files]:
            roles = {path: role for role, path in self.files.items()}
            received = {path.name: roles.get(path, "unknown") for path in _list(folder)}
            raise FileNotFoundError(
                f"`{folder}` must hold four computational sequences: {', '.join(ROLES)}. "
                f"Missing: {', '.join(missing)}. Received: {received}"
            )
        self._sequences = {role: _Sequence(path) for role, path in self.files.items()}
        with_emotions = 1 + len(EMOTIONS)
        widths = {"words": (1,), "visual": (visual_dim,), "acoustic": (acoustic_dim,)}
        widths["labels"] = (with_emotions,) if emotions else (1, with_emotions)
        for role, expected in widths.items():
            sequence = self._sequences[role]
            if sequence.width not in expected or sequence.is_text != (role == "words"):
                raise ValueError(
                    f"`{self.files[role]}`: expected {' or '.join(map(str, expected))} columns for {role}. "
                    f"Received: {sequence.width}{' of text' if sequence.is_text else ''}"
                )
        self.num_workers = 1
        self._arguments = folder, folds, visual_dim, acoustic_dim, emotions
        self._emotions = emotions
        self._fold_of = {video: split for split, videos in folds.items() for video in videos}
        labelled = self._sequences["labels"].videos
        self.splits = tuple(split for split in folds if any(self._fold_of.get(video) == split for video in labelled))
        if not self.splits:
            raise ValueError(
                f"`{self.files['labels']}`: none of its {len(labelled)} videos is in the dataset's standard folds. "
                f"Received: {labelled[:3]}"
            )

    @classmethod
    def find(cls, folder):
        """Finds the files by what they say of themselves.

        Args:
            folder: where to look.

        Returns:
            Dict, role → path, of those that are there.

        Raises:
            ValueError: If a file is damaged, or two would do for one role.
        """
        found = {}
        for path in _list(folder):
            if role := _role_of(_Sequence(path)):
                found.setdefault(role, []).append(path)
        for role, paths in found.items():
            if len(paths) > 1:
                raise ValueError(
                    f"`{folder}` holds more than one file of {role}; keep the one that is meant. "
                    f"Received: {[path.name for path in paths]}"
                )
        return {role: found[role][0] for role in ROLES if role in found}

    @classmethod
    def label_columns_of(cls, folder):
        """Number of columns of the file of labels, `None` if there is none."""
        path = cls.find(folder).get("labels")
        return path and _Sequence(path).width

    def examples(self, split, report):
        """Yields the utterances of a split; see `keras_misa.data.sources`."""
        labels = self._sequences["labels"]
        if split == self.splits[0]:
            self._report_the_others(report)
        videos = [v for v in labels.videos if self._fold_of.get(v) == split and not self._absent_from(v)]
        if self.num_workers == 1:
            results = map(self._read_video, videos)
        else:
            results = map_in_order(_make_reader, self._arguments, videos, self.num_workers)
        for examples, told in results:
            report.merge(told)
            yield from examples

    def _read_video(self, video):
        """The utterances of a video, and what there is to report of them."""
        report = BuildReport()
        return list(self._video(video, report)), report

    def _absent_from(self, video):
        return [path.name for role, path in self.files.items() if video not in self._sequences[role].names]

    def _report_the_others(self, report):
        """Videos that no split takes."""
        labels = self._sequences["labels"]
        for video in labels.videos:
            reason = None
            if video not in self._fold_of:
                reason, detail = "video in no standard fold", ""
            elif absent := self._absent_from(video):
                reason, detail = "video missing in a file", ", ".join(absent)
            if reason:
                for segment in range(labels.length(video)):
                    report.drop(f"{video}[{segment}]", reason, detail)
        every = set().union(*(sequence.names for sequence in self._sequences.values()))
        if unlabelled := sorted(every - labels.names):
            report.note(f"{len(unlabelled)} video(s) without a label, such as {unlabelled[0]}: not used.")

    def _video(self, video, report):
        words, times = self._sequences["words"].read(video)
        segments_labels, segments = self._sequences["labels"].read(video)
        is_long = np.abs(times[:, 1] - times[:, 0]) >= EPSILON
        words, times = words[is_long, 0], times[is_long]
        rows = {"words": words}
        chosen = {"words": overlapping(times, segments)}
        for modality in ("visual", "acoustic"):
            rows[modality], covered, _ = mean_over(*self._sequences[modality].read(video), times)
            chosen[modality] = overlapping(covered, segments)
        ends = {name: np.cumsum(counts) for name, (_, counts) in chosen.items()}
        is_short = np.abs(segments[:, 1] - segments[:, 0]) < EPSILON
        for number, label in enumerate(segments_labels):
            segment_id = f"{video}[{number}]"
            parts = {
                name: rows[name][chosen[name][0][end[number] - chosen[name][1][number] : end[number]]]
                for name, end in ends.items()
            }
            lengths = {name: len(part) for name, part in parts.items()}
            if is_short[number] or not any(lengths.values()):
                report.drop(segment_id, "empty", "no word, no frame")
            elif len(set(lengths.values())) > 1:
                report.drop(segment_id, "lengths differ", ", ".join(f"{n} {name}" for name, n in lengths.items()))
            elif all(is_pause := [word == PAUSE for word in parts["words"]]):
                report.drop(segment_id, "empty", "pauses only")
            else:
                yield self._example(segment_id, video, parts, ~np.array(is_pause), label, report)

    def _example(self, segment_id, video, parts, is_spoken, label, report):
        if not np.isfinite(label).all():
            report.note("Labels that are no numbers count as 0, as in the published code.")
            report.note(f"{segment_id}: label {label.tolist()}.")
        label = np.nan_to_num(label.astype(np.float64))
        example = {
            "segment_id": segment_id,
            "video_id": video,
            "words": parts["words"][is_spoken].tolist(),
            "label": float(label[0]),
        }
        for modality in ("visual", "acoustic"):
            values = parts[modality][is_spoken]
            report.look(modality, values)
            example[modality] = _normalise(values)
        if self._emotions:
            example["emotions"] = label[1:].astype(np.float32)
        return example


def _make_reader(*arguments):
    return ComputationalSequences(*arguments)._read_video


def _normalise(values):
    """Each column minus its mean, by its standard deviation over the steps, in the published code's arithmetic."""
    with np.errstate(all="ignore"):  # NaN and infinities are among the values that people hold.
        values = np.nan_to_num(values)
        values = (values - values.mean(axis=0)) / (values.std(axis=0) + NORMALISATION_EPSILON)
    return np.nan_to_num(values).astype(np.float32)


def _open(path):
    """The file, with a small cache: HDF5 would remember where everything is, more with each video."""
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    cache = access.get_mdc_config()
    cache.set_initial_size, cache.initial_size = True, _CACHE
    cache.min_size = cache.max_size = _CACHE
    access.set_mdc_config(cache)
    return h5py.File(h5py.h5f.open(str(path).encode(), h5py.h5f.ACC_RDONLY, access))


def _list(folder):
    return sorted(path for path in pathlib.Path(folder).glob("*.csd") if not path.name.startswith("."))


def _role_of(sequence):
    name = re.sub(r"[^a-z0-9]", "", sequence.root.lower())
    for role, pattern in ROLES.items():
        if re.search(pattern, name):
            return role
    return None if sequence.is_text else WIDTHS.get(sequence.width)


def _naming_the_file(method):
    """The method of `_Sequence`; whatever h5py says of damaged bytes becomes an error that names the file."""

    @functools.wraps(method)
    def call(self, *args):
        try:
            return method(self, *args)
        except Exception as error:  # Damaged bytes can fail as anything.
            if isinstance(error, ValueError) and f"`{self._path}`" in str(error):
                raise
            raise ValueError(f"`{self._path}` is damaged. Received: {type(error).__name__}: {error}") from error

    return call


class _Sequence:
    """One file: for each video, features `(rows, width)` and intervals `(rows, 2)` in seconds.

    Only what stands in the file itself is read: HDF5 can point into other files, and can promise more than it holds.
    """

    @_naming_the_file
    def __init__(self, path):
        import h5py

        self._path = path
        try:
            self._file = _open(path)
        except OSError as error:
            raise ValueError(
                f"`{path}` is not an HDF5 file, or is cut off: {error}. Received: {path.stat().st_size} bytes"
            ) from error
        roots = list(self._file)
        if len(roots) != 1:
            raise ValueError(f"`{path}`: expected one root group. Received: {roots[:5]}")
        self.root = roots[0]
        self._data = self._member(self._member(self._file, self.root, h5py.Group), "data", h5py.Group)
        self.videos = list(self._data)
        self.names = set(self.videos)
        if not self.videos:
            raise ValueError(f"`{path}`: expected at least one video in /{self.root}/data. Received: none")
        features = self._dataset(self.videos[0], "features")
        self.is_text = features.dtype.kind in _TEXT
        self.width = features.shape[1]

    @_naming_the_file
    def length(self, video):
        return self._dataset(video, "features").shape[0]

    @_naming_the_file
    def read(self, video):
        """Features, text as `str`, and intervals of a video."""
        features, intervals = self._dataset(video, "features"), self._dataset(video, "intervals")
        where = f"`{self._path}`, video {video}"
        is_text = features.dtype.kind in _TEXT
        is_shaped = features.shape[1] == self.width and intervals.shape[1] == 2 and len(features) == len(intervals)
        if not is_shaped or is_text != self.is_text:
            raise ValueError(
                f"{where}: expected features (n, {self.width}) of {'text' if self.is_text else 'numbers'} and "
                f"intervals (n, 2) of as many rows. Received: {features.dtype} {features.shape} and {intervals.shape}"
            )
        for dataset in (features, intervals):
            if dataset.chunks:
                self._check_chunks(dataset)
        try:
            features, intervals = features[()], intervals[()].astype(np.float64)
        except (OSError, ValueError) as error:
            raise ValueError(f"{where} is damaged: {error}") from error
        if not np.isfinite(intervals).all():
            row = int(np.flatnonzero(~np.isfinite(intervals).all(axis=1))[0])
            raise ValueError(f"{where}, row {row}: expected a finite interval. Received: {intervals[row].tolist()}")
        if self.is_text:
            decoded = [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in features.ravel()]
            features = np.array(decoded, object).reshape(features.shape)
        elif features.dtype.kind != "f":
            features = features.astype(np.float64)
        return features, intervals

    def _dataset(self, video, name):
        import h5py

        dataset = self._member(self._member(self._data, video, h5py.Group), name, h5py.Dataset)
        where = f"`{self._path}`, video {video}, {name}"
        if dataset.ndim != 2 or dataset.dtype.kind not in "fiuSO":
            raise ValueError(f"{where}: expected a matrix. Received: {dataset.dtype} of shape {dataset.shape}")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{where}: expected data in this file. Received: data that lies in other files")
        if dataset.nbytes > _MOST_COMPRESSION * dataset.id.get_storage_size():
            raise ValueError(
                f"{where}: expected {dataset.nbytes} bytes, as its shape {dataset.shape} says. "
                f"Received: {dataset.id.get_storage_size()} bytes in the file"
            )
        return dataset

    def _check_chunks(self, dataset):
        """Looks for each part of a dataset: what HDF5 cannot find in a damaged file it would take for zeros."""
        for offset in itertools.product(*map(range, (0, 0), dataset.shape, dataset.chunks)):
            dataset.id.read_direct_chunk(offset)

    def _member(self, group, name, kind):
        import h5py

        if name not in group:
            raise ValueError(f"`{self._path}`: {group.name} lacks {name}. Received: {list(group)[:5]}")
        try:
            link = group.get(name, getlink=True)
            member = group[name] if isinstance(link, h5py.HardLink) else None
        except (KeyError, OSError, RuntimeError) as error:
            raise ValueError(f"`{self._path}`: {group.name}/{name} is damaged: {error}") from error
        if not isinstance(member, kind):
            received = type(link).__name__ if member is None else type(member).__name__
            raise ValueError(f"`{self._path}`: expected a {kind.__name__} {group.name}/{name}. Received: a {received}")
        return member
