"""TFDS builder of the built-in synthetic dataset."""

import dataclasses
import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.load_dataset import WORD_TABLE_FILE
from keras_misa.data.word_table import WordTable, save_word_table
from keras_misa.datasets.synthetic_subspaces import generator


@dataclasses.dataclass(kw_only=True)
class SyntheticSubspacesConfig(tfds.core.BuilderConfig):
    """A world and its sizes.

    Args:
        seed: integer ≥ 0, names the world and the draws.
        sizes: dict, split → number of utterances; MOSI's by default.
        **kwargs: `name`, `description` and so on, see `tfds.core.BuilderConfig`.

    Example:
        >>> SyntheticSubspacesConfig(name="seed_1", seed=1).sizes
        {'train': 1283, 'validation': 229, 'test': 686}
    """

    seed: int = 0
    sizes: dict[str, int] = dataclasses.field(default_factory=lambda: dict(generator.SPLIT_SIZES))


class Builder(tfds.core.GeneratorBasedBuilder):
    """Synthetic utterances of MOSI's size and shapes, made from known factors; nothing is downloaded.

    See the README beside this file for the features. `builder.info.metadata` says `synthetic`, `seed` and, split by
    split, `best_mae`: the mean absolute error of the predictor that knows the true factors.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: typing.ClassVar = [
        SyntheticSubspacesConfig(name="default", description="Seed 0, MOSI's sizes."),
        SyntheticSubspacesConfig(
            name="small",
            description="Seed 0, for trying things out: a model trains in seconds.",
            sizes={"train": 256, "validation": 64, "test": 64},
        ),
    ]

    # TFDS would look in `keras_misa/datasets/`, which an editable installation does not have.
    pkg_dir_path = tfds.core.Path(__file__).parent

    def _info(self):
        vector = tfds.features.Tensor
        factor_dims = {"shared": generator.SHARED_DIM} | dict.fromkeys(generator.MODALITIES, generator.PRIVATE_DIM)
        view_dims = dict.fromkeys(generator.MODALITIES, generator.SHARED_DIM)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "segment_id": tfds.features.Text(),
                    "video_id": tfds.features.Text(),
                    "words": tfds.features.Sequence(tfds.features.Text()),
                    **{
                        modality: tfds.features.Tensor(shape=(None, dim), dtype=np.float32, encoding="bytes")
                        for modality, dim in generator.FEATURE_DIMS.items()
                    },
                    "label": tfds.features.Scalar(np.float32),
                    "best_prediction": tfds.features.Scalar(np.float32),
                    "factors": {name: vector(shape=(dim,), dtype=np.float32) for name, dim in factor_dims.items()},
                    "views": {name: vector(shape=(dim,), dtype=np.float32) for name, dim in view_dims.items()},
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        seed, sizes = self.builder_config.seed, self.builder_config.sizes
        splits = {split: generator.generate(split, seed, size) for split, size in sizes.items()}
        self.info.metadata.update(
            synthetic=True,
            seed=seed,
            best_mae={split: generator.best_mae(examples) for split, examples in splits.items()},
        )
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _download_and_prepare(self, dl_manager, download_config=None):
        super()._download_and_prepare(dl_manager, download_config)
        table = WordTable(*generator.word_table(), origin="the dataset's own")
        save_word_table(self.data_path / WORD_TABLE_FILE, table)

    def _generate_examples(self, examples):
        for example in examples:
            yield example["segment_id"], example
