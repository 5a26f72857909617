import pathlib
import pickle
import shutil
import typing

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_misa import data
from keras_misa.datasets.ur_funny import dummy_data_generator, ur_funny_dataset_builder

DUMMY_DATA = pathlib.Path(ur_funny_dataset_builder.__file__).parent / "dummy_data"
SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # split -> fold of the files


class UrFunnyTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = ur_funny_dataset_builder.Builder
    EXAMPLE_DIR = DUMMY_DATA  # TFDS would look in `keras_misa/datasets/`.
    BUILDER_CONFIG_NAMES_TO_TEST: typing.ClassVar = ["v1", "v1_with_context"]
    SPLITS: typing.ClassVar = {"train": 4, "validation": 2, "test": 1}


def prepare(config, manual_dir, data_dir):
    builder = ur_funny_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)))
    return builder


def read_back(builder, split):
    """Id -> example, of a prepared split."""
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return {int(example["segment_id"]): example for example in examples}


def check_sentences(received, sentences, visual, acoustic):
    """The features of one sentence after the other."""
    words = " ".join(sentences).split()
    assert [word.decode() for word in received["words"]] == words
    np.testing.assert_allclose(received["word_similarities"], np.ones(len(words)), atol=1e-6)
    np.testing.assert_array_equal(received["visual"], np.concatenate(visual).astype("f4"))
    np.testing.assert_array_equal(received["acoustic"], np.concatenate(acoustic))


@pytest.mark.parametrize("config", ["v1", "v1_with_context"])
def test_the_dummy_data_as_the_generator_made_it(config, tmp_path):
    builder = prepare(config, DUMMY_DATA, tmp_path)
    files = dummy_data_generator.make_files()
    visual, acoustic = files["openface_features_sdk.pkl"], files["covarep_features_sdk.pkl"]
    for split, fold in SPLITS.items():
        received = read_back(builder, split)
        assert received.keys() == dummy_data_generator.UTTERANCES[fold].keys()
        for number, (label, punchline, context) in dummy_data_generator.UTTERANCES[fold].items():
            example = received[number]
            assert example["label"] == label
            assert example["video_id"] == example["segment_id"]
            parts = (table[number]["punchline_features"] for table in (visual, acoustic))
            check_sentences(example, [punchline], *([part] for part in parts))
            assert ("context" in example) == (config == "v1_with_context")
            if "context" in example:
                check_sentences(
                    example["context"], context, *(table[number]["context_features"] for table in (visual, acoustic))
                )
                assert example["context"]["sentence_lengths"].tolist() == [len(part.split()) for part in context]


def test_the_word_table_holds_the_vectors_of_glove(tmp_path):
    prepare("v1", DUMMY_DATA, tmp_path)
    table = data.load_word_table("ur_funny", data_dir=tmp_path)
    punchlines = [text for fold in dummy_data_generator.UTTERANCES.values() for _, text, _ in fold.values()]
    assert set(table.words[2:]) == set(" ".join(punchlines).split())
    vectors = dummy_data_generator.make_vectors()
    for word, vector in zip(table.words[2:], table.vectors[2:], strict=True):
        np.testing.assert_array_equal(vector, vectors[word].astype("f4"))


def test_without_glove_words_are_their_places(tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(DUMMY_DATA, folder, ignore=shutil.ignore_patterns("glove*"))
    received = read_back(prepare("v1", folder, tmp_path / "data"), "test")
    _, punchline, _ = dummy_data_generator.UTTERANCES["test"][5]
    places = [f"#{dummy_data_generator.WORDS.index(word)}" for word in punchline.split()]
    assert [word.decode() for word in received[5]["words"]] == places
    np.testing.assert_array_equal(received[5]["word_similarities"], np.zeros(len(places)))


def test_an_id_in_two_folds(tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(DUMMY_DATA, folder)
    folds = {fold: list(members) for fold, members in dummy_data_generator.UTTERANCES.items()}
    folds["test"].append(3)
    (folder / "data_folds.pkl").write_bytes(pickle.dumps(folds))
    with pytest.raises(ValueError, match=r"data_folds.pkl`: expected each id once. Received: 3 in train and in test"):
        prepare("v1", folder, tmp_path / "data")


if __name__ == "__main__":
    tfds.testing.test_main()
