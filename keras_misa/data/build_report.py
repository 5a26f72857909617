"""What became of the utterances of a dataset's files."""

import collections
import functools

import numpy as np

QUANTILES = (0, 5, 25, 50, 75, 95, 100)


class BuildReport:
    """Counts what is kept, what is left out and why, and what the numbers of the files look like.

    A source (`keras_misa.data.sources`) tells it of each utterance; the builder stores `as_dict()` with the dataset.

    Attributes:
        dropped: list of dicts with `segment_id`, `reason` and `detail`, one for each utterance that was left out.
        notes: list of sentences that the user should read once.

    Example:
        >>> report = BuildReport()
        >>> report.look("visual", np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 2.0]]))
        >>> report.keep("train", {"video_id": "v", "visual": np.zeros((2, 2)), "label": -1.5})
        >>> report.drop("v[1]", "empty", "pauses only")
        >>> summary = report.as_dict()
        >>> summary["modalities"]["visual"]["nan"], summary["modalities"]["visual"]["constant_columns"]
        (1, [1])
        >>> summary["splits"]["train"]["utterances"], summary["dropped"]
        (1, {'empty': 1})
    """

    def __init__(self):
        self.dropped = []
        self.notes = []
        self._columns = {}
        self._lengths = collections.defaultdict(functools.partial(collections.defaultdict, list))
        self._labels = collections.defaultdict(list)
        self._videos = collections.defaultdict(set)

    def drop(self, segment_id, reason, detail=""):
        """Notes an utterance that is left out; `reason` is one of few short sentences, `detail` is free."""
        self.dropped.append({"segment_id": segment_id, "reason": reason, "detail": detail})

    def note(self, text):
        """Notes what the user should know of the files; equal notes are kept once."""
        if text not in self.notes:
            self.notes.append(text)

    def look(self, modality, values):
        """Looks at the values `(time, size)` of a kept utterance as the file has them."""
        values = np.asarray(values)
        columns = self._columns.setdefault(modality, _Columns(values.shape[1]))
        columns.look(values)

    def keep(self, split, example):
        """Counts an utterance of the dataset."""
        self._videos[split].add(example["video_id"])
        self._labels[split].append(example["label"])
        for name, value in example.items():
            if name == "words" or (isinstance(value, np.ndarray) and value.ndim == 2):
                self._lengths[split][name].append(len(value))

    def merge(self, other):
        """Takes over what another report was told, as if this one had been told it now."""
        self.dropped.extend(other.dropped)
        for text in other.notes:
            self.note(text)
        for modality, columns in other._columns.items():
            self._columns.setdefault(modality, _Columns(len(columns.nan))).merge(columns)
        for split, labels in other._labels.items():
            self._labels[split].extend(labels)
            self._videos[split].update(other._videos[split])
            for name, steps in other._lengths[split].items():
                self._lengths[split][name].extend(steps)

    def as_dict(self, class_names=None):
        """The report as plain numbers, for JSON.

        Args:
            class_names: names of the classes where labels are class numbers.

        Returns:
            Dict: `splits` (for each `utterances`, `videos`, `labels`, a histogram, and `lengths` in steps, percentiles
            by modality), `modalities` (for each `values`, `nan`, `inf`, and the numbers of the columns that are
            constant or never finite), `dropped` (reason → count) and `notes`.
        """
        return {
            "splits": {split: self._split(split, class_names) for split in self._labels},
            "modalities": {modality: columns.as_dict() for modality, columns in self._columns.items()},
            "dropped": dict(collections.Counter(row["reason"] for row in self.dropped)),
            "notes": list(self.notes),
        }

    def _split(self, split, class_names):
        lengths = {
            modality: dict(zip(map(str, QUANTILES), np.percentile(steps, QUANTILES).tolist(), strict=True))
            for modality, steps in self._lengths[split].items()
        }
        labels = np.asarray(self._labels[split])
        return {
            "utterances": len(labels),
            "videos": len(self._videos[split]),
            "labels": _histogram(labels, class_names),
            "lengths": lengths,
        }


def _histogram(labels, class_names):
    """Number of utterances by class, by rounded score, or, for several scores, of those above 0 by position."""
    if labels.ndim == 2:
        return {str(column): int(count) for column, count in enumerate((labels > 0).sum(axis=0))}
    if class_names:
        return {name: int((labels == index).sum()) for index, name in enumerate(class_names)}
    values, counts = np.unique(np.round(labels) + 0.0, return_counts=True)
    return {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}


class _Columns:
    """Running statistics of the columns of a modality."""

    def __init__(self, size):
        self.values = 0
        self.nan = np.zeros(size, np.int64)
        self.inf = np.zeros(size, np.int64)
        self.least = np.full(size, np.inf)
        self.greatest = np.full(size, -np.inf)

    def look(self, values):
        finite = np.isfinite(values)
        self.values += values.size
        if not finite.all():
            nan = np.isnan(values)
            self.nan += nan.sum(axis=0)
            self.inf += (~finite & ~nan).sum(axis=0)
        self.least = np.minimum(self.least, np.where(finite, values, np.inf).min(axis=0, initial=np.inf))
        self.greatest = np.maximum(self.greatest, np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf))

    def merge(self, other):
        self.values += other.values
        self.nan += other.nan
        self.inf += other.inf
        self.least = np.minimum(self.least, other.least)
        self.greatest = np.maximum(self.greatest, other.greatest)

    def as_dict(self):
        return {
            "size": len(self.nan),
            "values": self.values,
            "nan": int(self.nan.sum()),
            "inf": int(self.inf.sum()),
            "nan_columns": np.flatnonzero(self.nan).tolist(),
            "inf_columns": np.flatnonzero(self.inf).tolist(),
            "constant_columns": np.flatnonzero(self.least == self.greatest).tolist(),
            "columns_without_numbers": np.flatnonzero(self.least > self.greatest).tolist(),
        }
