"""What the TFDS builders of this package have in common."""

import dataclasses
import importlib.metadata
import pathlib
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa._files import are_described, describe_files, removing_leftovers, write_csv
from keras_misa.data.build_report import BuildReport
from keras_misa.data.load_dataset import WORD_TABLE_FILE
from keras_misa.data.word_table import save_word_table

DROPPED_FILE = "dropped.csv"
VERSIONS = ("keras-misa", "numpy", "tensorflow-datasets")


@dataclasses.dataclass(kw_only=True)
class SourceConfig(tfds.core.BuilderConfig):
    """A form in which people hold the dataset.

    Args:
        source: class of `keras_misa.data.sources`.
        dims: dict, modality → number of its features.
        words: whether there is a transcript.
        extras: dict, name of a further feature → function that makes its TFDS feature.
        options: dict of further arguments of the source.
        column_names: dict, name of a feature of several numbers → their names.
        contextual: modalities whose vectors know their context, such as BERT's: a mean says enough of them.
        **kwargs: `name`, `description` and so on, see `tfds.core.BuilderConfig`.

    Example:
        >>> from keras_misa.data.sources.reference_splits import ReferenceSplits
        >>> SourceConfig(name="reference_splits", source=ReferenceSplits, dims={"visual": 47, "acoustic": 74}).words
        True
    """

    source: type
    dims: dict[str, int]
    words: bool = True
    extras: dict[str, typing.Callable] = dataclasses.field(default_factory=dict)
    options: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    column_names: dict[str, typing.Sequence[str]] = dataclasses.field(default_factory=dict)
    contextual: typing.Sequence[str] = ()

    def find(self, folder):
        """Dict, role → path of the files in the folder that the source would read; empty if they are not there."""
        return self.source.find(folder)

    def open(self, folder, cache_dir):
        """The source for a folder; what is costly to find out may be kept in `cache_dir`."""
        dims = {f"{modality}_dim": size for modality, size in self.dims.items()}
        return self.source(folder, **dims, **self.options)


def matrix(size):
    """TFDS feature of a modality with its own number of steps, `(steps, size)`."""
    return tfds.features.Tensor(shape=(None, size), dtype=np.float32, encoding="bytes")


def vector(dtype=np.float32):
    """TFDS feature of one number a step, `(steps,)`."""
    return tfds.features.Tensor(shape=(None,), dtype=dtype)


class UtteranceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset of utterances from files that people hold.

    A subclass names its `BUILDER_CONFIGS`, one for each form of the files, and its label. With the prepared dataset are
    stored: `builder.info.metadata` with `sources` (each file's SHA-256, size and time of change), `report`
    (`BuildReport.as_dict`), `versions`; the list `dropped.csv`; and the word table, if the files have one.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "First release."}
    EXPECTED_SIZES: typing.ClassVar = {}  # split → utterances, for the report
    HOMEPAGE = None
    num_workers = 1  # processes that read the files, for sources that can use them

    def download_and_prepare(self, **kwargs):
        """Builds the dataset, see TFDS, and removes what killed builds of it have left."""
        folder = self.data_path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with removing_leftovers(folder, "incomplete.*"):  # TFDS's names for what is being built
            super().download_and_prepare(**kwargs)

    def label_feature(self):
        """TFDS feature of the label."""
        raise NotImplementedError

    def check_label(self, example):
        """Says what is wrong with a label, or returns `None`."""

    @classmethod
    def configs_for(cls, folder):
        """Dict, name → configuration, of those that a folder's files fit."""
        return {config.name: config for config in cls.BUILDER_CONFIGS if config.find(folder)}

    def is_made_from(self, folder):
        """Whether the prepared dataset was made from the files that are in the folder now."""
        return are_described(self.builder_config.find(folder), (self.info.metadata or {}).get("sources", {}))

    def _info(self):
        config = self.builder_config
        features = {"segment_id": tfds.features.Text(), "video_id": tfds.features.Text()}
        if config.words:
            features["words"] = tfds.features.Sequence(tfds.features.Text())
        features.update((modality, matrix(size)) for modality, size in config.dims.items())
        features.update((name, make()) for name, make in config.extras.items())
        features["label"] = self.label_feature()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        cache_dir = pathlib.Path(self._data_dir_root, self.name)
        self._source = self.builder_config.open(pathlib.Path(dl_manager.manual_dir), cache_dir)
        if hasattr(self._source, "num_workers"):
            self._source.num_workers = self.num_workers
        self._report = BuildReport()
        self._seen = {}
        return {split: self._generate_examples(split) for split in self._source.splits}

    def _generate_examples(self, split):
        for example in self._source.examples(split, self._report):
            segment_id = example["segment_id"]
            other = self._seen.setdefault(segment_id, split)
            if other != split:
                raise ValueError(
                    f"Expected an utterance in one split only. Received: {segment_id!r}, which both {other} and "
                    f"{split} have, in {[str(path) for path in self._source.files.values()]}"
                )
            if problem := self.check_label(example):
                raise ValueError(f"`{self._source.files.get(split, split)}`, {segment_id}: {problem}")
            self._report.keep(split, example)
            yield segment_id, example
        if split not in self._seen.values():
            reasons = self._report.as_dict()["dropped"]
            raise ValueError(f"No utterance of {split} could be used. Received: {reasons or 'none'}")

    def _download_and_prepare(self, dl_manager, download_config=None):
        super()._download_and_prepare(dl_manager, download_config)
        self.info.metadata.update(
            sources=describe_files(self._source.files),
            report=self._report.as_dict(getattr(self.info.features["label"], "names", None)),
            expected_sizes=dict(self.EXPECTED_SIZES),
            column_names={name: list(names) for name, names in self.builder_config.column_names.items()},
            contextual=list(self.builder_config.contextual),
            versions={name: importlib.metadata.version(name) for name in VERSIONS},
        )
        write_csv(self.data_path / DROPPED_FILE, self._report.dropped, ("segment_id", "reason", "detail"))
        table = self._source.word_table() if hasattr(self._source, "word_table") else None
        if table is not None:
            save_word_table(self.data_path / WORD_TABLE_FILE, table)
