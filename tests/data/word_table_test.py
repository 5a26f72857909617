import collections
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from oracles import write_table

from keras_misa.data.word_table import WordTable, read_word_table

WORDS = ["<unk>", "<pad>", "good", "movie"]
VECTORS = np.arange(8.0).reshape(4, 2)


def test_a_table():
    table = WordTable(WORDS, VECTORS)
    assert table.words == ("<unk>", "<pad>", "good", "movie")
    assert len(table) == 4
    assert table.dimension == 2
    assert table.vectors.dtype == np.float32
    np.testing.assert_array_equal(table.vectors, VECTORS)


def test_ids():
    table = WordTable(WORDS, VECTORS)
    ids = table.ids(["movie", "Good", "good", "<pad>", "<unk>", "film"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [3, 0, 2, 1, 0, 0]
    assert table.ids([]).shape == (0,)
    assert table.ids([]).dtype == np.int32


@pytest.mark.parametrize(
    ("words", "vectors", "message"),
    [
        (
            ["<pad>", "<unk>"],
            np.ones((2, 2)),
            r"must be `<unk>` and `<pad>`. Received: words\[:2\]=\('<pad>', '<unk>'\)",
        ),
        ([], np.ones((0, 2)), "must be `<unk>` and `<pad>`"),
        (WORDS, VECTORS[:3], r"each of the 4 words. Received: vectors of shape \(3, 2\)"),
        (WORDS, VECTORS[0], r"Received: vectors of shape \(2,\)"),
        (WORDS, VECTORS.astype(str), "Received: vectors of shape .* dtype <U"),
        (WORDS, np.where(VECTORS == 5, np.nan, VECTORS), r"must be finite. Received: row 2 \('good'\)"),
        ([*WORDS[:3], "good"], VECTORS, r"distinct strings. Received: words\[3\]='good'"),
        ([*WORDS[:3], 5], VECTORS, r"distinct strings. Received: words\[3\]=5"),
    ],
)
def test_wrong_tables(words, vectors, message):
    with pytest.raises(ValueError, match=message):
        WordTable(words, vectors)


def test_from_words():
    sentences = [["b", "a"], ("a", "c", "<pad>"), iter(["b", "d"])]
    table = WordTable.from_words(sentences, dimension=3, seed=7)
    assert table.words == ("<unk>", "<pad>", "b", "a", "c", "d")
    assert table.vectors.shape == (6, 3)
    again = WordTable.from_words([["b", "a"], ["c", "d"]], dimension=3, seed=7)
    np.testing.assert_array_equal(again.vectors, table.vectors)
    assert not np.allclose(WordTable.from_words([["b"]], dimension=3, seed=8).vectors, table.vectors[:3])
    with pytest.raises(TypeError, match="Received: 'good movie'"):
        WordTable.from_words(["good movie"])


def test_random_vectors_are_standard_normal():
    vectors = WordTable.from_words([map(str, range(998))]).vectors
    assert vectors.shape == (1000, 300)
    # 300000 draws: six standard errors.
    assert abs(vectors.mean()) < 6 / 300_000**0.5
    assert abs(vectors.var() - 1) < 6 * (2 / 300_000) ** 0.5
    assert abs((np.abs(vectors) < 1).mean() - 0.6827) < 0.006


def test_read_word_table(tmp_path):
    rows = {"movie": 3, "<pad>": 1, "good": 2, "<unk>": 0}
    table = read_word_table(write_table(tmp_path / "table.pt", VECTORS, rows))
    assert table.words == tuple(WORDS)
    np.testing.assert_array_equal(table.vectors, VECTORS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"<unk>": 0, "<pad>": 1, "good": 2, "movie": 4}, "its 4 words from 0 to 3, each once. Received: no word 3"),
        ({"<unk>": 0, "<pad>": 1, "good": 1, "movie": 3}, "Received: no word 2"),
        ({"<unk>": 0, "<pad>": 1, "good": 2, "movie": [3]}, "Received: no word 3"),
        ({"<unk>": 0, "<pad>": 1, "good": 2}, r"each of the 3 words. Received: vectors of shape \(4, 2\)"),
        ({"<unk>": 1, "<pad>": 0, "good": 2, "movie": 3}, "must be `<unk>` and `<pad>`"),
    ],
)
def test_wrong_files(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        read_word_table(write_table(tmp_path / "table.pt", VECTORS, rows))
    assert str(tmp_path / "table.pt") in str(error.value)


def test_files_of_something_else(tmp_path):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    for value in ({"weight": torch.ones(2)}, (torch.ones(2), [1]), (torch.ones(2), {"a": 0}, 1)):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=r"a tuple of a tensor and a dict.* Received: \[?'?\w+"):
            read_word_table(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        read_word_table(tmp_path / "missing.pt")


def test_only_numpy_is_imported():
    code = (
        "import sys, keras_misa.data.word_table, keras_misa.data.sources.reference_splits; "
        "print([name for name in ('tensorflow', 'keras', 'torch') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_the_authors_table():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    splits = pathlib.Path(folder) / "data/cmu_mosi/reference_splits"
    table = read_word_table(splits / "embedding_and_mapping.pt")
    assert len(table) == 2729
    assert table.dimension == 300
    assert table.words[:4] == ("<unk>", "<pad>", "anyhow", "it")
    # The authors' own ids of the words of every utterance.
    rows = pickle.loads((splits / "dev.pkl").read_bytes())
    counts = collections.Counter()
    for (word_ids, _, _, words), _, _ in rows:
        np.testing.assert_array_equal(table.ids(words), word_ids)
        counts.update(word_ids == 0)
    assert counts[False] > 100 * counts[True]
