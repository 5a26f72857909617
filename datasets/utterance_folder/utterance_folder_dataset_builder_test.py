import pathlib
import typing

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_misa.datasets.utterance_folder import dummy_data_generator, utterance_folder_dataset_builder

DUMMY_DATA = pathlib.Path(utterance_folder_dataset_builder.__file__).parent / "dummy_data"
CONFIG = utterance_folder_dataset_builder.Builder.configs_for(DUMMY_DATA)["dummy_data"]


class UtteranceFolderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = utterance_folder_dataset_builder.Builder
    EXAMPLE_DIR = DUMMY_DATA  # TFDS would look in `keras_misa/datasets/`.
    BUILDER_CONFIG_NAMES_TO_TEST: typing.ClassVar = [CONFIG]
    SPLITS: typing.ClassVar = {"train": 4, "validation": 2, "test": 1}

    def _make_builder(self, config=CONFIG):  # There is no default: each folder makes a configuration.
        return super()._make_builder(config)


def prepare(config, manual_dir, data_dir):
    builder = utterance_folder_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return builder


def test_the_dummy_data_as_the_generator_made_it(tmp_path):
    builder = prepare(CONFIG, DUMMY_DATA, tmp_path)
    arrays = dummy_data_generator.make_arrays()
    rows = {row[0]: row for row in dummy_data_generator.ROWS}
    for split, name in {"train": "train", "validation": "dev", "test": "test"}.items():
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            segment_id = example["segment_id"].decode()
            _, video_id, its_split, text, label = rows.pop(segment_id)
            assert (example["video_id"].decode(), name) == (video_id, its_split)
            assert [word.decode() for word in example["words"]] == text.split()
            assert example["label"] == label
            for modality, size in dummy_data_generator.SIZES.items():
                assert example[modality].shape[1] == size
                np.testing.assert_array_equal(example[modality], arrays[modality][segment_id])
    assert not rows


def write_table(folder, header, *rows):
    """A folder whose table has the rows, which begin with a segment id, and one step of one modality for each."""
    (folder / "hands").mkdir(parents=True)
    for row in rows:
        np.save(folder / "hands" / f"{row[0]}.npy", np.ones((1, 2), "f4"))
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (folder / "utterances.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("segment_id,label", [("a", 1.5), ("b", -2)], {"a": 1.5, "b": -2.0}),
        ("segment_id,label", [("a", "sad"), ("b", "glad"), ("c", "sad")], {"a": 1, "b": 0, "c": 1}),
        ("segment_id,label_joy,label_fear", [("a", 1, 0.5), ("b", 0, 2)], {"a": [1.0, 0.5], "b": [0.0, 2.0]}),
    ],
    ids=["score", "classes", "scores"],
)
def test_the_label_is_what_the_table_says(header, rows, expected, tmp_path):
    folder = tmp_path / "mine"
    write_table(folder, header, *rows)
    config = utterance_folder_dataset_builder.Builder.configs_for(folder)["mine"]
    examples = tfds.as_numpy(prepare(config, folder, tmp_path / "data").as_dataset(split="train"))
    assert {example["segment_id"].decode(): example["label"].tolist() for example in examples} == expected


if __name__ == "__main__":
    tfds.testing.test_main()
