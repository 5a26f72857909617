"""TFDS builder of CMU-MOSI."""

import hashlib
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.reference_splits import read_reference_split

VISUAL_DIM = 47
ACOUSTIC_DIM = 74
MAX_LABEL = 3.0
FILES = {"train": "train.pkl", "validation": "dev.pkl", "test": "test.pkl"}


class Builder(tfds.core.GeneratorBasedBuilder):
    """CMU-MOSI from the authors' pre-computed splits.

    Each file that is present in the manual folder becomes a split; see the README beside this file for the features.
    `builder.info.metadata["sources"]` tells what the prepared dataset was made of: file name -> its `sha256`, `size` in
    bytes and number of `examples`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put one or more of `train.pkl`, `dev.pkl` and `test.pkl` of CMU-MOSI into the folder: the splits that the authors of
    MISA pre-computed, lists of `((word_ids, visual, acoustic, words), label, "video[segment]")`.
    """

    SOURCE_FILES = tuple(FILES.values())

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "segment_id": tfds.features.Text(),
                    "video_id": tfds.features.Text(),
                    "words": tfds.features.Sequence(tfds.features.Text()),
                    "visual": tfds.features.Tensor(shape=(None, VISUAL_DIM), dtype=np.float32, encoding="bytes"),
                    "acoustic": tfds.features.Tensor(shape=(None, ACOUSTIC_DIM), dtype=np.float32, encoding="bytes"),
                    "label": tfds.features.Scalar(np.float32),
                }
            ),
            homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        folder = dl_manager.manual_dir
        paths = {split: folder / name for split, name in FILES.items() if (folder / name).is_file()}
        if not paths:
            found = sorted(path.name for path in folder.iterdir())
            raise FileNotFoundError(f"`{folder}` must hold one or more of {list(FILES.values())}. Received: {found}")
        splits = {split: read_reference_split(path, VISUAL_DIM, ACOUSTIC_DIM) for split, path in paths.items()}
        _check(splits, paths)
        self.info.metadata["sources"] = {
            path.name: _describe_file(path) | {"examples": len(splits[split])} for split, path in paths.items()
        }
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples):
        for example in examples:
            yield example["segment_id"], example


def _check(splits, paths):
    """No utterance stands in two files, and every label is a sentiment."""
    seen = {}
    for split, examples in splits.items():
        for row, example in enumerate(examples):
            if not -MAX_LABEL <= example["label"] <= MAX_LABEL:
                raise ValueError(
                    f"`{paths[split]}`, row {row} ({example['segment_id']}): expected a label in "
                    f"[-{MAX_LABEL:g}, {MAX_LABEL:g}]. Received: {example['label']}"
                )
            other = seen.setdefault(example["segment_id"], split)
            if other != split:
                raise ValueError(
                    f"`{paths[split]}`, row {row}: expected a segment that no other split has. "
                    f"Received: {example['segment_id']!r}, which `{paths[other]}` has too"
                )


def _describe_file(path):
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
