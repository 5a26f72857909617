"""TFDS builder of your own utterances."""

import dataclasses
import re
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.sources.utterance_folder import UtteranceFolder
from keras_misa.data.utterance_builder import SourceConfig, UtteranceBuilder


@dataclasses.dataclass(kw_only=True)
class FolderConfig(SourceConfig):
    """A folder of CSV and NumPy files, as it is.

    Args:
        class_names: names of the classes, where labels are classes.
        **kwargs: see `SourceConfig`.
    """

    class_names: typing.Sequence[str] | None = None

    def open(self, folder, cache_dir):
        return self.source(folder)


class Builder(UtteranceBuilder):
    """Any modalities and any label, from a folder of CSV and NumPy files; see the README beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    A folder with `utterances.csv`, one row an utterance (`segment_id`, `label`, and if you like `video_id`, `split`,
    `text`), and for each modality a folder of `<segment_id>.npy` or a file `<modality>.npz`: arrays
    `(steps, features)`.
    """

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def configs_for(cls, folder):
        if not UtteranceFolder.find(folder):
            return {}
        source = UtteranceFolder(folder)
        name = re.sub(r"\W+", "_", folder.resolve().name).strip("_") or "folder"
        config = FolderConfig(
            name=name,
            description="Your own utterances.",
            source=UtteranceFolder,
            dims=source.dims,
            words=source.has_words,
            class_names=source.class_names,
            column_names={"label": source.label_names} if source.label_names else {},
        )
        return {name: config}

    def label_feature(self):
        config = self.builder_config
        if config.class_names:
            return tfds.features.ClassLabel(names=config.class_names)
        if names := config.column_names.get("label"):
            return tfds.features.Tensor(shape=(len(names),), dtype=np.float32)
        return tfds.features.Scalar(np.float32)
