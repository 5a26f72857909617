import typing

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.datasets.synthetic_subspaces import generator
from keras_misa.datasets.synthetic_subspaces import synthetic_subspaces_dataset_builder as module

SIZES = {"train": 30, "validation": 4, "test": 5}
SMALL = module.SyntheticSubspacesConfig(name="few", seed=7, sizes=SIZES)


class SyntheticSubspacesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = module.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = (SMALL,)
    EXAMPLE_DIR = module.Builder.pkg_dir_path  # Nothing is downloaded: there is no dummy data.
    SPLITS: typing.ClassVar = SIZES


def test_metadata_survives_on_disk(tmp_path):
    builder = module.Builder(data_dir=tmp_path, config=SMALL)
    builder.download_and_prepare()
    best = {split: generator.best_mae(generator.generate(split, 7, size)) for split, size in SIZES.items()}
    for reader in (builder, tfds.builder_from_directory(builder.data_dir)):
        assert dict(reader.info.metadata) == {"synthetic": True, "seed": 7, "best_mae": best}


def test_examples_are_those_of_the_generator(tmp_path):
    builder = module.Builder(data_dir=tmp_path, config=SMALL)
    builder.download_and_prepare()
    for split, size in SIZES.items():
        made = {example["segment_id"]: example for example in generator.generate(split, 7, size)}
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            expected = made.pop(example["segment_id"].decode())
            assert expected["video_id"] == example["video_id"].decode()
            assert expected["words"] == [word.decode() for word in example["words"]]
            for key in ("visual", "acoustic", "label", "best_prediction"):
                np.testing.assert_array_equal(expected[key], example[key])
            for key in ("factors", "views"):
                assert expected[key].keys() == example[key].keys()
                for name in expected[key]:
                    np.testing.assert_array_equal(expected[key][name], example[key][name])
        assert not made


def test_default_is_seed_0_at_the_size_of_mosi():
    default = module.Builder.BUILDER_CONFIGS[0]
    assert (default.name, default.seed) == ("default", 0)
    assert default.sizes == {"train": 1283, "validation": 229, "test": 686}


if __name__ == "__main__":
    tfds.testing.test_main()
