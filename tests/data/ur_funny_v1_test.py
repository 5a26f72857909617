import importlib.util
import os
import pathlib
import pickle
import subprocess
import sys
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_misa.data import word_vectors
from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.ur_funny_v1 import UrFunnyV1

DATASET = pathlib.Path(__file__).parents[2] / "datasets/ur_funny"
NAMES = {
    "folds": "data_folds.pkl",
    "labels": "humor_label_sdk.pkl",
    "words": "word_embedding_indexes_sdk.pkl",
    "word_list": "word_embedding_list.pkl",
    "visual": "openface_features_sdk.pkl",
    "acoustic": "covarep_features_sdk.pkl",
}
GLOVE = {"good": (1, 0, 0, 0), "bad": (0, 2, 0, 0), "film": (0, 0, 3, 0), "the": (0, 0, 0, 1)}


def make_content():
    """What six files hold: ids 1 to 4 with punchlines of 2, 3, 1 and 2 words and two context sentences, 3 features."""
    rng = np.random.default_rng(0)
    indexes = {1: [0, 2], 2: [3, 1, 2], 3: [2], 4: [0, 0]}
    contexts = {number: [[3, 2], [number - 1]] for number in indexes}

    def features(size):
        return {
            number: {
                "punchline_features": rng.normal(size=(len(indexes[number]), size)).tolist(),
                "context_features": [rng.normal(size=(len(part), size)).tolist() for part in contexts[number]],
            }
            for number in indexes
        }

    return {
        "folds": {"train": [2, 1], "dev": [4], "test": [3]},
        "labels": {1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0},
        "words": {
            number: {"punchline_embedding_indexes": indexes[number], "context_embedding_indexes": contexts[number]}
            for number in indexes
        },
        "word_list": [[float(number) for number in vector] for vector in GLOVE.values()],
        "visual": features(2),
        "acoustic": features(3),
    }


@pytest.fixture
def write(tmp_path):
    def write(content, folder=tmp_path):
        for role, value in content.items():
            (folder / NAMES[role]).write_bytes(pickle.dumps(value, 4))
        return folder

    return write


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in GLOVE.items()))
    return path


def open_source(folder, **kwargs):
    return UrFunnyV1(folder, **{"visual_dim": 2, "acoustic_dim": 3, **kwargs})


def read(folder, **kwargs):
    """All examples by id, and the report."""
    source, report = open_source(folder, **kwargs), BuildReport()
    return {e["segment_id"]: e for split in source.splits for e in source.examples(split, report)}, report


def assert_equal(array, expected, dtype=np.float32):
    assert type(array) is np.ndarray
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.asarray(expected, dtype))


def test_examples_are_what_the_files_hold(write):
    content = make_content()
    source, report = open_source(write(content)), BuildReport()
    assert source.splits == ("train", "validation", "test")
    examples = {split: list(source.examples(split, report)) for split in source.splits}
    assert {s: [e["segment_id"] for e in part] for s, part in examples.items()} == {
        "train": ["2", "1"],
        "validation": ["4"],
        "test": ["3"],
    }
    for example in [example for part in examples.values() for example in part]:
        number = int(example["segment_id"])
        assert set(example) == {
            "segment_id",
            "video_id",
            "words",
            "word_similarities",
            "visual",
            "acoustic",
            "label",
        }
        assert example["video_id"] == example["segment_id"]
        assert type(example["label"]) is int
        assert example["label"] == content["labels"][number]
        indexes = content["words"][number]["punchline_embedding_indexes"]
        assert example["words"] == [f"#{index}" for index in indexes]
        assert_equal(example["word_similarities"], [0.0] * len(indexes))
        for modality in ("visual", "acoustic"):
            assert_equal(example[modality], content[modality][number]["punchline_features"])
    assert report.dropped == []
    assert len(report.notes) == 2
    assert "`--split-by` cannot keep speakers apart" in report.notes[0]
    assert "there is no transcript. Give a text file of GloVe" in report.notes[1]
    # 2 + 3 + 1 + 2 words.
    assert {m: c["values"] for m, c in report.as_dict()["modalities"].items()} == {"visual": 16, "acoustic": 24}


def test_arrays_numpy_numbers_and_synonyms_of_dev(write):
    content = make_content()
    expected, _ = read(write(content), context=True)
    content["folds"] = {
        "train": np.array([2, 1], np.int32),
        "valid": (np.int64(4),),
        "test": [3],
    }
    content["labels"] = {np.int64(number): np.float32(label) for number, label in content["labels"].items()}
    content["word_list"] = np.array(content["word_list"], np.float64)
    for role, key in {"words": "embedding_indexes", "visual": "features", "acoustic": "features"}.items():
        dtype = np.int32 if role == "words" else np.float64
        for number in list(content[role]):
            entry = content[role].pop(number)
            context = np.empty(2, object)
            context[:] = [np.array(part, dtype) for part in entry[f"context_{key}"]]
            punchline = np.array(entry[f"punchline_{key}"], dtype)
            content[role][np.int64(number)] = {f"punchline_{key}": punchline, f"context_{key}": context}
    content["visual"][1]["punchline_features"] = list(content["visual"][1]["punchline_features"])
    received, _ = read(write(content), context=True)
    np.testing.assert_equal(received, expected)


def test_the_context_is_the_sentences_before(write):
    content = make_content()
    content["words"][3]["context_embedding_indexes"] = []
    content["visual"][3]["context_features"] = []
    content["acoustic"][3]["context_features"] = []
    examples, report = read(write(content), context=True)
    for number in (1, 2, 4):
        context = examples[str(number)]["context"]
        assert list(context) == ["words", "word_similarities", "visual", "acoustic", "sentence_lengths"]
        assert context["words"] == ["#3", "#2", f"#{number - 1}"]
        assert_equal(context["word_similarities"], [0, 0, 0])
        assert_equal(context["sentence_lengths"], [2, 1], np.int32)
        for modality in ("visual", "acoustic"):
            first, second = content[modality][number]["context_features"]
            assert_equal(context[modality], first + second)
    empty = examples["3"]["context"]
    assert empty["words"] == []
    shapes = {name: (value.shape, value.dtype.name) for name, value in empty.items() if name != "words"}
    assert shapes == {
        "word_similarities": ((0,), "float32"),
        "visual": ((0, 2), "float32"),
        "acoustic": ((0, 3), "float32"),
        "sentence_lengths": ((0,), "int32"),
    }
    assert report.dropped == []


def test_sentences_of_a_context_that_cannot_be_used(write):
    content = make_content()
    content["visual"][1]["context_features"][0].append([7.0, 7.0])
    content["words"][2]["context_embedding_indexes"][1] = []
    content["visual"][2]["context_features"][1] = []
    content["acoustic"][2]["context_features"][1] = np.zeros((0, 3))
    content["acoustic"][4]["context_features"].pop()
    examples, report = read(write(content), context=True)
    assert examples["1"]["context"]["words"] == ["#0"]
    assert_equal(examples["1"]["context"]["visual"], content["visual"][1]["context_features"][1])
    assert_equal(examples["1"]["context"]["sentence_lengths"], [1], np.int32)
    assert examples["2"]["context"]["words"] == ["#3", "#2"]
    assert examples["4"]["context"]["words"] == []
    assert [tuple(row.values()) for row in report.dropped] == [
        ("2 context sentence 1", "context: empty", "no word"),
        ("1 context sentence 0", "context: lengths differ", "2 words, 3 visual, 2 acoustic"),
        ("4 context", "context: numbers of sentences differ", "2 words, 2 visual, 1 acoustic"),
    ]


def test_utterances_that_cannot_be_used(write):
    content = make_content()
    content["folds"] = {"train": [1, 2, 7], "test": [3, 4]}
    content["labels"] |= {9: 1.0, 8: 0.0}
    del content["visual"][1]
    content["words"][2]["punchline_embedding_indexes"] = [0]
    content["words"][3]["punchline_embedding_indexes"] = []
    content["visual"][3]["punchline_features"] = []
    content["acoustic"][3]["punchline_features"] = np.zeros((0, 3))
    source, report = open_source(write(content)), BuildReport()
    assert source.splits == ("train", "test")
    assert list(source.examples("train", report)) == []
    assert [tuple(row.values()) for row in report.dropped] == [
        ("8", "in no fold", ""),
        ("9", "in no fold", ""),
        ("1", f"missing in {NAMES['visual']}", ""),
        ("2", "lengths differ", "1 words, 3 visual, 3 acoustic"),
        ("7", f"missing in {' and '.join(NAMES[r] for r in ('labels', 'words', 'visual', 'acoustic'))}", ""),
    ]
    assert [example["segment_id"] for example in source.examples("test", report)] == ["4"]
    assert report.dropped[5:] == [{"segment_id": "3", "reason": "empty", "detail": "no word"}]
    assert "2 ids with a label are in no fold." in report.notes


def test_values_that_are_not_finite_are_seen_and_replaced(write):
    content = make_content()
    content["visual"][1]["punchline_features"] = [[np.nan, 1.0], [2.0, -np.inf]]
    content["acoustic"][4]["punchline_features"] = np.array([[1e300, 1.0, 2.0], [3.0, 4.0, 5.0]])
    content["visual"][4]["context_features"][0][0][0] = np.inf
    examples, report = read(write(content), context=True)
    assert_equal(examples["1"]["visual"], [[0, 1], [2, 0]])
    assert_equal(examples["4"]["acoustic"], [[0, 1, 2], [3, 4, 5]])
    assert examples["4"]["context"]["visual"][0, 0] == 0
    modalities = report.as_dict()["modalities"]
    assert (modalities["visual"]["nan"], modalities["visual"]["inf"], modalities["acoustic"]["inf"]) == (1, 1, 1)
    assert report.notes[2:] == [
        "train: 2 values of visual that are no finite float32 were replaced by 0.",
        "validation: 1 values of acoustic that are no finite float32 were replaced by 0.",
        "validation: 1 values of visual that are no finite float32 were replaced by 0.",
    ]


def test_words_are_the_nearest_of_glove(write, glove):
    content = make_content()
    examples, report = read(write(content), word_vectors=glove, context=True)
    words = list(GLOVE)
    for number, example in examples.items():
        indexes = content["words"][int(number)]["punchline_embedding_indexes"]
        assert example["words"] == [words[index] for index in indexes]
        np.testing.assert_allclose(example["word_similarities"], 1, atol=1e-6)
        assert example["context"]["words"] == ["the", "film", words[int(number) - 1]]
    assert [note for note in report.notes if "GloVe" in note or "cosine" in note or "share" in note] == []


def test_only_vectors_that_are_used_are_looked_up_once(write, glove, monkeypatch):
    calls = []

    def nearest_words(vectors, path):
        calls.append((vectors.tolist(), path))
        return [f"word{i}" for i in range(len(vectors))], np.ones(len(vectors), np.float32)

    monkeypatch.setattr(word_vectors, "nearest_words", nearest_words)
    content = make_content()
    content["words"][2]["punchline_embedding_indexes"] = [0, 2, 2]  # Index 1 is left to the context of id 2.
    folder = write(content)
    source = open_source(folder, word_vectors=glove)
    assert calls == []  # Opening is cheap.
    examples = [example for split in source.splits for example in source.examples(split, BuildReport())]
    assert examples[0]["words"] == ["word0", "word1", "word1"]
    assert source.word_table().words == ("<unk>", "<pad>", "word0", "word1")
    assert calls == [([content["word_list"][0], content["word_list"][2]], glove)]
    read(folder, word_vectors=glove, context=True)
    assert len(calls[1][0]) == 4


def test_doubtful_and_shared_words_are_told(write, glove):
    content = make_content()
    content["word_list"] = [
        [1.0, 0.0, 0.5, 0.0],  # good, cosine 1 / sqrt(1.25) = 0.894
        [0.0, 5.0, 0.0, 0.0],  # bad
        [1.0, 0.0, 0.0, 0.0],  # good
        [0.0, 0.6, 0.0, 0.8],  # the, cosine 0.8
    ]
    folder = write(content)
    examples, report = read(folder, word_vectors=glove)
    assert examples["2"]["words"] == ["the", "bad", "good"]
    np.testing.assert_allclose(examples["2"]["word_similarities"], [0.8, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(examples["1"]["word_similarities"], [1.25**-0.5, 1], rtol=1e-6)
    assert report.notes[1:] == [
        "2 of 4 word vectors share 1 words.",
        "2 of 4 word vectors (50.0%) have no word with a cosine of 0.99 or more; "
        "the worst: 'the' (0.800), 'good' (0.894).",
    ]
    table = open_source(folder, word_vectors=glove).word_table()
    words, vectors = list(table.words[2:]), table.vectors[2:]
    assert not table.vectors[:2].any()
    assert words == ["bad", "good", "the"]
    assert_equal(vectors, content["word_list"][1:])


def test_at_most_ten_doubtful_words_are_listed(write, glove):
    content = make_content()
    # Between `good` and `bad`, ever farther from `good`: cosines cos(0), cos(0.05), ... cos(0.7).
    angles = np.arange(15) * 0.05
    content["word_list"] = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)
    rng = np.random.default_rng(0)
    content["folds"] = {"train": [1]}
    content["words"][1]["punchline_embedding_indexes"] = list(range(15))
    for role, size in {"visual": 2, "acoustic": 3}.items():
        content[role][1]["punchline_features"] = rng.normal(size=(15, size))
    _, report = read(write(content), word_vectors=glove)
    listed = ", ".join(f"'good' ({np.cos(angle):.3f})" for angle in angles[:-11:-1])
    # cos(0.10) = 0.995, cos(0.15) = 0.989: the first three are beyond doubt.
    assert report.notes[-1] == (
        f"12 of 15 word vectors (80.0%) have no word with a cosine of 0.99 or more; the worst: {listed}."
    )


def test_the_word_table_has_what_is_used_by_index(write, glove):
    content = make_content()
    content["word_list"].append([5.0, 5.0, 5.0, 5.0])  # Used by none.
    content["word_list"][1] = [0.0, 0.0, 0.0, 0.0]  # No direction: `<unk>`.
    folder = write(content)
    table = open_source(folder).word_table()
    words, vectors = list(table.words[2:]), table.vectors[2:]
    assert words == ["#0", "#1", "#2", "#3"]
    assert_equal(vectors, content["word_list"][:4])
    table = open_source(folder, word_vectors=glove).word_table()
    words, vectors = list(table.words[2:]), table.vectors[2:]
    assert not table.vectors[:2].any()
    assert words == ["good", "film", "the"]
    assert_equal(vectors, [content["word_list"][index] for index in (0, 2, 3)])


class TestCache:
    @pytest.fixture
    def look(self, write, glove, tmp_path, monkeypatch):
        """Reads the words with a cache; `look.calls` counts the searches."""
        search = word_vectors.nearest_words

        def nearest_words(vectors, path):
            look.calls += 1
            return search(vectors, path)

        def look(content=None, **kwargs):
            folder = write(content or make_content())
            source = open_source(folder, word_vectors=glove, cache_dir=tmp_path / "cache", **kwargs)
            examples = [e for split in source.splits for e in source.examples(split, BuildReport())]
            return {e["segment_id"]: (e["words"], e["word_similarities"].tolist()) for e in examples}

        look.calls, look.folder = 0, tmp_path / "cache"
        monkeypatch.setattr(word_vectors, "nearest_words", nearest_words)
        return look

    def test_words_are_found_once(self, look):
        first = look()
        (path,) = look.folder.iterdir()
        assert path.suffix == ".npz"
        assert look() == first
        assert look.calls == 1
        assert first["2"][0] == ["the", "bad", "film"]

    def test_other_vectors_and_another_glove_are_looked_up_again(self, look, glove):
        look()
        content = make_content()
        content["word_list"][0] = [0.0, 0.0, 0.0, 2.0]
        assert look(content)["1"][0] == ["the", "film"]
        assert look.calls == 2
        glove.write_text(glove.read_text().replace("film", "FILM"))
        os.utime(glove, ns=(time.time_ns(), time.time_ns() + 10**9))
        assert look()["1"][0] == ["good", "FILM"]
        assert look.calls == 3
        assert len(list(look.folder.iterdir())) == 3

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"PK\x03\x04 no zip",
            {"words": np.array(["x"]), "similarities": np.ones(4, np.float32)},
            {"words": np.array(["x"] * 4), "similarities": np.ones(4, np.float64)},
            {"words": np.arange(4), "similarities": np.ones(4, np.float32)},
            {"words": np.array(["x"] * 4), "similarities": np.full(4, np.nan, np.float32)},
            {"words": np.array(["x"] * 4, object), "similarities": np.ones(4, np.float32)},
            {"words": np.array(["x"] * 4)},
        ],
    )
    def test_damaged_caches_are_made_anew(self, look, damage):
        first = look()
        (path,) = look.folder.iterdir()
        whole = path.read_bytes()
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:
            np.savez(path, **damage)
        assert look() == first
        assert look.calls == 2
        assert [entry.name for entry in look.folder.iterdir()] == [path.name]
        assert len(path.read_bytes()) == len(whole)
        look()
        assert look.calls == 2

    def test_a_cache_cut_off_anywhere_is_made_anew(self, look):
        first = look()
        (path,) = look.folder.iterdir()
        whole = path.read_bytes()
        cuts = range(0, len(whole), 97)
        for cut in cuts:
            path.write_bytes(whole[:cut])
            assert look() == first
        assert look.calls == 1 + len(cuts)


def test_missing_files(write, tmp_path, glove):
    content = make_content()
    del content["visual"], content["word_list"]
    folder = write(content)
    assert UrFunnyV1.find(folder) == {role: folder / NAMES[role] for role in content}
    message = rf"Missing: {NAMES['word_list']}, {NAMES['visual']}\. Received: \['{NAMES['acoustic']}', 'data_folds.pkl'"
    with pytest.raises(FileNotFoundError, match=message):
        open_source(folder)
    write(make_content())
    assert list(open_source(folder).files) == list(NAMES)
    source = open_source(folder, word_vectors=str(glove))
    assert source.files == {**UrFunnyV1.find(folder), "word_vectors": glove}
    with pytest.raises(FileNotFoundError, match=r"Received: word_vectors='.*other\.txt'"):
        open_source(folder, word_vectors=tmp_path / "other.txt")


def put(*keys, value):
    """A change of the content: `content[keys[0]][keys[1]]... = value`."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


PUNCHLINE, WORDS = "punchline_features", "punchline_embedding_indexes"


@pytest.mark.parametrize(
    ("change", "file", "message"),
    [
        (put("folds", value=[1]), "folds", "a dict of train, dev and test. Received: a list"),
        (
            put("folds", "all", value=[1]),
            "folds",
            r"a dict of train, dev and test. Received: \['train', 'dev', .*'all'",
        ),
        (put("folds", value={"train": [], "dev": []}), "folds", "ids of utterances. Received: none"),
        (put("folds", "dev", value=[4, 2]), "folds", "each id once. Received: 2 in train and in dev"),
        (put("folds", "valid", value=[4]), "folds", "each id once. Received: 4 in dev and in valid"),
        (put("folds", "test", value=[3, 3]), "folds", "each id once. Received: 3 in test and in test"),
        (put("folds", "test", value=["3"]), "folds", r"test: expected whole numbers of shape \(None,\). .* <U1"),
        (put("folds", "test", value=[3.0]), "folds", r"test: expected whole numbers .* float64"),
        (put("folds", "test", value=7), "folds", r"test: expected whole numbers .* shape \(\)"),
        (put("labels", value=[1.0]), "labels", "a dict by id. Received: a list"),
        (put("labels", "1", value=1.0), "labels", r"whole numbers as ids. Received: \['1'\]"),
        (put("labels", 2, value=0.5), "labels", "id 2: expected a label of 0 or 1. Received: 0.5"),
        (put("labels", 2, value=np.nan), "labels", "id 2: expected a label of 0 or 1. Received: nan"),
        (put("labels", 2, value="1"), "labels", "id 2: .*Received: '1'"),
        (put("labels", 2, value=np.ones(2)), "labels", r"id 2: .*Received: .*Array\(\["),
        (put("words", value=[]), "words", "a dict by id. Received: a list"),
        (put("words", 3, value=[2]), "words", rf"id 3: expected a dict with {WORDS} and .* Received: a list"),
        (put("words", 3, value={"x": 1}), "words", rf"id 3: expected a dict with {WORDS} and .* Received: \['x'\]"),
        (put("words", 3, WORDS, value=[4]), "words", rf"id 3, {WORDS}: expected indexes of the 4 .*Received: \[4\]"),
        (put("words", 3, WORDS, value=[-1]), "words", r"expected indexes of the 4 vectors in .* Received: \[-1\]"),
        (put("words", 3, WORDS, value=[2**64]), "words", r"whole numbers of shape \(None,\). Received: .* object"),
        (put("words", 3, WORDS, value=[2.0]), "words", r"whole numbers of shape \(None,\). Received: .* float64"),
        (put("words", 3, WORDS, value=[[2]]), "words", r"whole numbers of shape \(None,\). Received: shape \(1, 1\)"),
        (put("words", 3, WORDS, value=None), "words", r"Received: shape \(\), dtype object"),
        (put("words", 3, WORDS, value=[True]), "words", "Received: .* bool"),
        (put("words", 3, "context_embedding_indexes", value=3), "words", "a list of sentences. Received: a int"),
        (put("words", 3, "context_embedding_indexes", 1, value=[9]), "words", r"sentence 1: .* Received: \[9\]"),
        (put("word_list", value=[[1.0], [1.0, 2.0]]), "word_list", "Received: rows of different lengths"),
        (put("word_list", value=np.ones(4)), "word_list", r"numbers of shape \(None, None\). Received: shape \(4,\)"),
        (put("word_list", 2, 0, value=np.nan), "word_list", r"finite numbers. Received: others at the indexes \[2\]"),
        (put("word_list", 2, 0, value=1e300), "word_list", r"finite numbers. Received: others at the indexes \[2\]"),
        (
            put("visual", 3, PUNCHLINE, value=[[1.0] * 3]),
            "visual",
            rf"id 3, {PUNCHLINE}: expected numbers of shape \(None, 2\). Received: shape \(1, 3\), dtype float64",
        ),
        (put("acoustic", 3, PUNCHLINE, value=[[1.0] * 2]), "acoustic", r"\(None, 3\). Received: shape \(1, 2\)"),
        (put("visual", 3, PUNCHLINE, value=[1.0, 2.0]), "visual", r"Received: shape \(2,\)"),
        (put("visual", 3, PUNCHLINE, value=[[1.0, 2.0], [1.0]]), "visual", "Received: rows of different lengths"),
        (put("visual", 3, PUNCHLINE, value=[["1", "2"]]), "visual", "Received: .* <U1"),
        (put("visual", 3, PUNCHLINE, value=[[1.0, None]]), "visual", "Received: .* object"),
        (put("visual", 3, PUNCHLINE, value={}), "visual", r"Received: shape \(\)"),
        (put("visual", 3, value={PUNCHLINE: [[1.0, 2.0]]}), "visual", f"a dict with {PUNCHLINE} and context_features"),
        (put("visual", 3, "context_features", 1, value=[[1.0]]), "visual", r"sentence 1: .*Received: shape \(1, 1\)"),
    ],
)
def test_wrong_files(change, file, message, write):
    content = make_content()
    change(content)
    folder = write(content)
    with pytest.raises(ValueError, match=message) as error:
        read(folder, context=True)
    assert str(error.value).startswith(f"`{folder / NAMES[file]}`")


def test_the_context_is_not_needed_where_it_is_not_asked_for(write):
    content = make_content()
    expected, _ = read(write(content))
    for role in ("words", "visual", "acoustic"):
        for entry in content[role].values():
            del entry[next(key for key in entry if key.startswith("context"))]
    received, _ = read(write(content))
    np.testing.assert_equal(received, expected)


def test_unused_vectors_and_unused_entries_are_not_checked(write):
    content = make_content()
    expected, _ = read(write(content))
    content["word_list"].append([np.nan] * 4)
    content["visual"][99] = "nothing"
    received, report = read(write(content))
    np.testing.assert_equal(received, expected)
    assert report.dropped == []


@pytest.mark.parametrize("role", list(NAMES))
def test_programs_are_refused(role, write):
    folder = write(make_content())
    (folder / NAMES[role]).write_bytes(b"cos\nmkdir\n(X\x06\x00\x00\x00canarytR.")
    with pytest.raises(ValueError, match=rf"{NAMES[role]}`: it asks for `os\.mkdir`"):
        read(folder)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(role=st.sampled_from(list(NAMES)), data=st.data())
def test_damaged_files_are_errors_or_change_no_shape(role, data, write):
    folder = write(make_content())
    path = folder / NAMES[role]
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=NAMES[role]):
        read(folder, context=True)
    noise = data.draw(st.binary(min_size=1, max_size=8))
    path.write_bytes(whole[:cut] + noise + whole[cut + len(noise) :])
    try:
        examples, message = read(folder, context=True)[0], None
    except ValueError as error:
        examples, message = {}, str(error)
    assert message is None or str(path) in message
    for example in examples.values():
        length = len(example["words"])
        assert length > 0
        assert example["label"] in (0, 1)
        assert example["visual"].shape == (length, 2)
        assert example["acoustic"].shape == (length, 3)
        assert all(np.isfinite(example[name]).all() for name in ("visual", "acoustic", "word_similarities"))


@st.composite
def contents(draw):
    """Six files, and what is to come of each id, said by the drawing itself: `None`, if it cannot be used."""
    ids = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    content = {role: {} for role in NAMES} | {"word_list": rng.normal(size=(5, 4))}
    expected = {}
    for number in ids:
        fold = draw(st.sampled_from(["train", "dev", "test", None]))
        lengths = draw(st.sampled_from([(0, 0, 0), (1, 1, 1), (3, 3, 3), (2, 3, 3), (2, 2, 1), (0, 1, 1)]))
        absent = draw(st.sampled_from([None] * 5 + ["labels", "words", "visual", "acoustic"]))
        indexes = rng.integers(0, 5, lengths[0])
        visual, acoustic = (rng.normal(size=(n, dim)) for n, dim in zip(lengths[1:], (2, 3), strict=True))
        label = int(rng.integers(2))
        wrap = draw(st.sampled_from([np.asarray, np.ndarray.tolist, list]))
        content["labels"][number] = float(label)
        content["words"][number] = {WORDS: wrap(indexes)}
        content["visual"][number] = {PUNCHLINE: wrap(visual)}
        content["acoustic"][number] = {PUNCHLINE: wrap(acoustic)}
        if absent:
            del content[absent][number]
        if fold:
            content["folds"].setdefault(fold, []).append(number)
            is_used = absent is None and lengths in ((1, 1, 1), (3, 3, 3))
            expected[str(number)] = (indexes, visual, acoustic, label) if is_used else None
    hypothesis.assume(content["folds"])
    return content, expected


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(drawn=contents())
def test_every_id_of_a_fold_is_kept_or_dropped(drawn, write):
    content, expected = drawn
    examples, report = read(write(content))
    assert set(examples) == {number for number, parts in expected.items() if parts}
    dropped = [row["segment_id"] for row in report.dropped if row["reason"] != "in no fold"]
    assert sorted(dropped) == sorted(number for number, parts in expected.items() if not parts)
    outside = [row["segment_id"] for row in report.dropped if row["reason"] == "in no fold"]
    assert sorted(outside) == sorted(str(number) for number in content["labels"] if str(number) not in expected)
    for number, example in examples.items():
        indexes, visual, acoustic, label = expected[number]
        assert example["words"] == [f"#{index}" for index in indexes]
        assert example["label"] == label
        assert_equal(example["visual"], visual)
        assert_equal(example["acoustic"], acoustic)


def test_the_dummy_data_is_what_its_generator_says():
    spec = importlib.util.spec_from_file_location("dummy_data_generator", DATASET / "dummy_data_generator.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    folder = DATASET / "dummy_data"
    source = UrFunnyV1(folder, context=True, word_vectors=folder / "glove.300d.txt")
    report, files = BuildReport(), generator.make_files()
    for split, fold in {"train": "train", "validation": "dev", "test": "test"}.items():
        examples = {int(example["segment_id"]): example for example in source.examples(split, report)}
        assert list(examples) == list(generator.UTTERANCES[fold])
        for number, (label, punchline, context) in generator.UTTERANCES[fold].items():
            example = examples[number]
            assert example["words"] == punchline.split()
            assert example["label"] == label
            assert example["context"]["words"] == " ".join(context).split()
            assert example["context"]["sentence_lengths"].tolist() == [len(part.split()) for part in context]
            np.testing.assert_allclose(example["word_similarities"], 1, atol=1e-6)
            for modality in ("visual", "acoustic"):
                entry = files[NAMES[modality]][number]
                assert_equal(example[modality], entry["punchline_features"])
                assert_equal(example["context"][modality], np.concatenate(entry["context_features"]))
    assert report.dropped == []
    assert len(report.notes) == 1


def test_the_real_folds_and_labels_give_the_sizes_of_table_5(tmp_path):
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    real = pathlib.Path(folder) / "data/ur_funny"
    for role in ("folds", "labels"):
        (tmp_path / NAMES[role]).write_bytes((real / NAMES[role]).read_bytes())
    folds, labels = (pickle.loads((real / NAMES[role]).read_bytes()) for role in ("folds", "labels"))
    rng = np.random.default_rng(0)
    entries = {  # The same arrays for all ids: pickled once.
        "words": {WORDS: [1, 0]},
        "visual": {PUNCHLINE: rng.normal(size=(2, 75))},
        "acoustic": {PUNCHLINE: rng.normal(size=(2, 81))},
    }
    content = {role: dict.fromkeys(labels, entry) for role, entry in entries.items()}
    for role, value in {**content, "word_list": rng.normal(size=(2, 300))}.items():
        (tmp_path / NAMES[role]).write_bytes(pickle.dumps(value, 4))
    source, report = UrFunnyV1(tmp_path), BuildReport()
    sizes = {}
    for split, fold in {"train": "train", "validation": "dev", "test": "test"}.items():
        received = [(int(example["segment_id"]), example["label"]) for example in source.examples(split, report)]
        assert received == [(number, labels[number]) for number in folds[fold]]
        sizes[split] = len(received)
    assert sizes == {"train": 10598, "validation": 2626, "test": 3290}
    assert report.as_dict()["dropped"] == {"in no fold": 92}
    assert "92 ids with a label are in no fold." in report.notes


def test_only_numpy_is_imported():
    code = (
        "import sys, keras_misa.data.sources.ur_funny_v1; "
        "print([name for name in ('tensorflow', 'keras', 'torch', 'pandas') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
