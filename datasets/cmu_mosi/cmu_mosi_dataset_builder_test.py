import hashlib
import os
import pathlib
import pickle
import shutil
import typing

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_misa.data.sources.reference_splits import read_reference_split
from keras_misa.datasets.cmu_mosi import cmu_mosi_dataset_builder, dummy_data_generator

DUMMY_DATA = pathlib.Path(cmu_mosi_dataset_builder.__file__).parent / "dummy_data"


class CmuMosiTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = cmu_mosi_dataset_builder.Builder
    EXAMPLE_DIR = DUMMY_DATA  # TFDS would look in `keras_misa/datasets/`.
    BUILDER_CONFIG_NAMES_TO_TEST: typing.ClassVar = ["reference_splits"]
    SPLITS: typing.ClassVar = {"train": 4, "validation": 2, "test": 1}


def prepare(manual_dir, data_dir):
    builder = cmu_mosi_dataset_builder.Builder(data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return builder


def read_back(builder, split):
    """Segment id -> example, of a prepared split."""
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return {example["segment_id"].decode(): example for example in examples}


def test_the_dummy_data_as_the_generator_made_it(tmp_path):
    builder = prepare(DUMMY_DATA, tmp_path)
    for split, name in {"train": "train.pkl", "validation": "dev.pkl", "test": "test.pkl"}.items():
        received = read_back(builder, split)
        rows = dummy_data_generator.make_rows()[name]
        assert len(received) == len(rows)
        for (_, visual, acoustic, words), label, segment_id in rows:
            example = received[segment_id]
            assert example["video_id"].decode() == segment_id.rpartition("[")[0]
            assert [word.decode() for word in example["words"]] == words
            assert example["label"] == label.item()
            np.testing.assert_array_equal(example["visual"], visual)
            np.testing.assert_array_equal(example["acoustic"], acoustic)


def test_a_subset_of_the_files_and_their_provenance(tmp_path):
    manual_dir = tmp_path / "files"
    manual_dir.mkdir()
    shutil.copy(DUMMY_DATA / "train.pkl", manual_dir)
    shutil.copy(DUMMY_DATA / "dev.pkl", manual_dir)
    builder = prepare(manual_dir, tmp_path / "data")
    assert sorted(builder.info.splits) == ["train", "validation"]
    assert sorted(read_back(builder, "validation")) == ["third[0]", "third[1]"]

    data = {name: (manual_dir / name).read_bytes() for name in ("train.pkl", "dev.pkl")}
    expected = {name: (hashlib.sha256(content).hexdigest(), len(content), 1) for name, content in data.items()}
    again = cmu_mosi_dataset_builder.Builder(data_dir=tmp_path / "data")
    by_name = tfds.builder("cmu_mosi", data_dir=tmp_path / "data")
    from_folder = tfds.builder_from_directory(builder.data_dir)
    for reader in (builder, again, by_name, from_folder):
        sources = reader.info.metadata["sources"]
        assert {name: (s["sha256"], s["size"], s["files"]) for name, s in sources.items()} == expected
        assert reader.info.metadata["report"]["splits"]["train"]["utterances"] == 4


def test_a_folder_without_the_files(tmp_path):
    manual_dir = tmp_path / "files"
    manual_dir.mkdir()
    (manual_dir / "valid.pkl").touch()
    message = r"files` must hold one or more of \['train.pkl', 'dev.pkl', 'test.pkl'\]. Received: \['valid.pkl'\]"
    with pytest.raises(FileNotFoundError, match=message):
        prepare(manual_dir, tmp_path / "data")


def write_rows(path, *rows):
    """Utterances of one word: pairs of segment id and label."""
    features = np.ones((1, 47), "f4"), np.ones((1, 74), "f4")
    path.write_bytes(
        pickle.dumps([((np.array([2]), *features, ["good"]), np.full((1, 1), y, "f4"), name) for name, y in rows])
    )


def test_an_utterance_in_two_files(tmp_path):
    write_rows(tmp_path / "train.pkl", ("a[0]", 1.0), ("a[1]", 1.0))
    write_rows(tmp_path / "test.pkl", ("b[0]", 1.0), ("a[1]", 1.0))
    with pytest.raises(ValueError, match=r"one split only. Received: 'a\[1\]', which both train and test have"):
        prepare(tmp_path, tmp_path / "data")


def test_a_label_that_is_no_sentiment(tmp_path):
    write_rows(tmp_path / "test.pkl", ("a[0]", 3.0), ("a[1]", 50.0))
    with pytest.raises(ValueError, match=r"test\.pkl`, a\[1\]: expected a label in \[-3, 3\]\. Received: 50"):
        prepare(tmp_path, tmp_path / "data")


def test_files_of_another_dataset(tmp_path):
    (visual, acoustic), words = np.ones((2, 1, 35), "f4"), ["good"]
    row = ((np.array([2]), visual, acoustic, words), np.ones((1, 1), "f4"), "video[0]")
    (tmp_path / "test.pkl").write_bytes(pickle.dumps([row]))
    with pytest.raises(
        ValueError, match=r"test\.pkl`, row 0 .*`visual` as floats of shape \(1, 47\). Received: .*\(1, 35\)"
    ):
        prepare(tmp_path, tmp_path / "data")


def test_the_authors_split(tmp_path):
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    splits = pathlib.Path(folder) / "data/cmu_mosi/reference_splits"
    builder = prepare(splits, tmp_path)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"validation": 229}
    received = read_back(builder, "validation")
    for expected in read_reference_split(splits / "dev.pkl"):
        example = received.pop(expected["segment_id"])
        assert [word.decode() for word in example["words"]] == expected["words"]
        assert example["label"] == np.float32(expected["label"])
        np.testing.assert_array_equal(example["visual"], expected["visual"])
        np.testing.assert_array_equal(example["acoustic"], expected["acoustic"])


if __name__ == "__main__":
    tfds.testing.test_main()
