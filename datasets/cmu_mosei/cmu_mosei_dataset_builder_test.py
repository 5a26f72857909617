import csv
import pathlib
import typing

import numpy as np
import tensorflow_datasets as tfds
from oracles import aligned_segment, read_sequences

from keras_misa.datasets.cmu_mosei import cmu_mosei_dataset_builder, dummy_data_generator

DUMMY_DATA = pathlib.Path(cmu_mosei_dataset_builder.__file__).parent / "dummy_data"


class CmuMoseiTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = cmu_mosei_dataset_builder.Builder
    EXAMPLE_DIR = DUMMY_DATA  # TFDS would look in `keras_misa/datasets/`.
    BUILDER_CONFIG_NAMES_TO_TEST: typing.ClassVar = ["csd"]
    SPLITS: typing.ClassVar = {"train": 3, "validation": 4, "test": 4}


def test_the_dummy_data_as_the_generator_made_it(tmp_path):
    builder = cmu_mosei_dataset_builder.Builder(data_dir=tmp_path / "data", config="csd")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(DUMMY_DATA)))
    dummy_data_generator.write(tmp_path)
    sequences = read_sequences(tmp_path, "cmu_mosei")
    dropped = set()
    for split, video in dummy_data_generator.videos().items():
        examples = tfds.as_numpy(builder.as_dataset(split=split))
        received = {example["segment_id"].decode(): example for example in examples}
        for number in range(dummy_data_generator.SEGMENTS):
            expected = aligned_segment(sequences, video, number)
            if expected is None:
                dropped.add(f"{video}[{number}]")
                continue
            example = received.pop(f"{video}[{number}]")
            assert example["video_id"].decode() == video
            assert [word.decode() for word in example["words"]] == expected["words"]
            for modality in ("visual", "acoustic"):
                np.testing.assert_allclose(example[modality], expected[modality], atol=1e-6)
            labels = sequences["labels"][video][0][number].astype("f4")
            np.testing.assert_array_equal([example["label"], *example["emotions"]], labels)
        assert not received
    with (pathlib.Path(builder.data_path) / "dropped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["segment_id"] for row in rows} == dropped
    assert {row["reason"] for row in rows} == {"lengths differ"}


if __name__ == "__main__":
    tfds.testing.test_main()
