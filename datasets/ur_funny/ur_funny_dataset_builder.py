"""TFDS builder of UR-FUNNY."""

import dataclasses
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.sources.reference_splits import ReferenceSplits
from keras_misa.data.sources.ur_funny_v1 import UrFunnyV1
from keras_misa.data.utterance_builder import SourceConfig, UtteranceBuilder, matrix, vector

DIMS = {"visual": 75, "acoustic": 81}  # OpenFace and COVAREP
CLASS_NAMES = ("not humorous", "humorous")


@dataclasses.dataclass(kw_only=True)
class V1Config(SourceConfig):
    """Version 1's files and, for the words, a text file of GloVe beside them."""

    def find(self, folder):
        files = super().find(folder)
        glove = sorted(path for path in folder.glob("glove*") if path.suffix in (".txt", ".zip", ".gz"))
        if files and len(glove) > 1:
            raise ValueError(
                f"`{folder}` holds more than one file of GloVe; keep the one that is meant. "
                f"Received: {[path.name for path in glove]}"
            )
        return files | {"word_vectors": glove[0]} if files and glove else files

    def open(self, folder, cache_dir):
        dims = {f"{modality}_dim": size for modality, size in self.dims.items()}
        word_vectors = self.find(folder).get("word_vectors")
        return self.source(folder, **dims, **self.options, word_vectors=word_vectors, cache_dir=cache_dir)


def _context():
    return tfds.features.FeaturesDict(
        {
            "words": tfds.features.Sequence(tfds.features.Text()),
            "word_similarities": vector(),
            **{modality: matrix(size) for modality, size in DIMS.items()},
            "sentence_lengths": vector(np.int32),
        }
    )


class Builder(UtteranceBuilder):
    """UR-FUNNY from any of the forms in which people hold it; see the README beside this file for the features."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the files that you hold into one folder. Known are version 1's (`data_folds.pkl`, `humor_label_sdk.pkl`,
    `word_embedding_indexes_sdk.pkl`, `word_embedding_list.pkl`, `openface_features_sdk.pkl`,
    `covarep_features_sdk.pkl`; beside them, for a transcript, GloVe's `glove.840B.300d.txt` or `.zip`), and the
    authors' pre-computed splits (`train.pkl`, `dev.pkl`, `test.pkl`, any of them, and `embedding_and_mapping.pt`).
    """
    BUILDER_CONFIGS: typing.ClassVar = [
        V1Config(
            name="v1",
            description="Version 1, the target utterances.",
            source=UrFunnyV1,
            dims=DIMS,
            extras={"word_similarities": vector},
        ),
        V1Config(
            name="v1_with_context",
            description="Version 1, each target utterance with the sentences before it.",
            source=UrFunnyV1,
            dims=DIMS,
            extras={"word_similarities": vector, "context": _context},
            options={"context": True},
        ),
        SourceConfig(
            name="reference_splits",
            description="The authors' pre-computed splits.",
            source=ReferenceSplits,
            dims=DIMS,
        ),
    ]
    EXPECTED_SIZES: typing.ClassVar = {"train": 10598, "validation": 2626, "test": 3290}  # the paper's Table 5
    HOMEPAGE = "https://github.com/ROC-HCI/UR-FUNNY"

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def configs_for(cls, folder):
        configs = super().configs_for(folder)
        configs.pop("v1_with_context", None)  # the same files; it must be asked for
        return configs

    def label_feature(self):
        return tfds.features.ClassLabel(names=CLASS_NAMES)

    def check_label(self, example):
        if example["label"] not in (0, 1):
            return f"expected a label of 0 or 1. Received: {example['label']}"
        return None
