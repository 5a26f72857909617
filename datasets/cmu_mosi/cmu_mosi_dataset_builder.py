"""TFDS builder of CMU-MOSI."""

import pathlib
import typing

import tensorflow_datasets as tfds

from keras_misa.data.sentiment_builder import SentimentBuilder, mmsa_configs, read_folds
from keras_misa.data.sources.computational_sequences import ComputationalSequences
from keras_misa.data.sources.reference_splits import ReferenceSplits
from keras_misa.data.utterance_builder import SourceConfig

FOLDER = pathlib.Path(__file__).parent
DIMS = {"visual": 47, "acoustic": 74}  # FACET 4.1 and COVAREP


class Builder(SentimentBuilder):
    """CMU-MOSI from any of the forms in which people hold it; see the README beside this file for the features."""

    BUILDER_CONFIGS: typing.ClassVar = [
        SourceConfig(
            name="reference_splits",
            description="The authors' pre-computed splits.",
            source=ReferenceSplits,
            dims=DIMS,
        ),
        SourceConfig(
            name="csd",
            description="Computational sequences, aligned by word.",
            source=ComputationalSequences,
            dims=DIMS,
            options={"folds": read_folds(FOLDER / "standard_folds.json")},
        ),
        *mmsa_configs({"visual": 20, "acoustic": 5}),
    ]
    EXPECTED_SIZES: typing.ClassVar = {"train": 1283, "validation": 229, "test": 686}  # the paper's Table 5
    HOMEPAGE = "http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/"

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent
