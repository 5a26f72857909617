"""TFDS builder of CMU-MOSEI."""

import pathlib
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.sentiment_builder import SentimentBuilder, mmsa_configs, read_folds
from keras_misa.data.sources.computational_sequences import EMOTIONS, ComputationalSequences
from keras_misa.data.sources.reference_splits import ReferenceSplits
from keras_misa.data.utterance_builder import SourceConfig

FOLDER = pathlib.Path(__file__).parent
DIMS = {"visual": 35, "acoustic": 74}  # FACET 4.2 and COVAREP
FOLDS = read_folds(FOLDER / "standard_folds.json")


class Builder(SentimentBuilder):
    """CMU-MOSEI from any of the forms in which people hold it; see the README beside this file for the features."""

    BUILDER_CONFIGS: typing.ClassVar = [
        SourceConfig(
            name="reference_splits",
            description="The authors' pre-computed splits.",
            source=ReferenceSplits,
            dims=DIMS,
        ),
        SourceConfig(
            name="csd",
            description="Computational sequences, aligned by word; labels of seven columns, with emotions.",
            source=ComputationalSequences,
            dims=DIMS,
            extras={"emotions": lambda: tfds.features.Tensor(shape=(len(EMOTIONS),), dtype=np.float32)},
            options={"folds": FOLDS, "emotions": True},
            column_names={"emotions": EMOTIONS},
        ),
        SourceConfig(
            name="csd_sentiment",
            description="Computational sequences, aligned by word; labels of one column, the sentiment.",
            source=ComputationalSequences,
            dims=DIMS,
            options={"folds": FOLDS},
        ),
        *mmsa_configs({"visual": 35, "acoustic": 74}),
    ]
    EXPECTED_SIZES: typing.ClassVar = {"train": 16315, "validation": 1871, "test": 4654}  # the paper's Table 5
    HOMEPAGE = "http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/"

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def configs_for(cls, folder):
        has_emotions = ComputationalSequences.label_columns_of(folder) == 1 + len(EMOTIONS)
        other = "csd_sentiment" if has_emotions else "csd"
        return {name: config for name, config in super().configs_for(folder).items() if name != other}
