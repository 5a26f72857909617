"""What becomes of words: ids, word pieces or vectors in the pipeline; cached vectors of a frozen BERT."""

import csv
import logging
from typing import ClassVar

import keras
import keras_nlp
import numpy as np
import pytest
from oracles import sequence, to_numpy, write_table

from keras_misa import data
from keras_misa.data import TextVectors, WordPieceTokenizer, WordTable, load_dataset, load_word_table
from keras_misa.experiments import evaluate, train
from keras_misa.experiments.frozen_text import encode_texts
from keras_misa.layers import BertEncoder, MeanEncoder, UtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor, replace_encoder

TEXTS = {
    "train": ["good movie", "the movie was a bad bad movie and so on", "fine"],
    "validation": ["good plot", "bad"],
    "test": ["so so", "plot"],
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "movie", "the", "pl", "##ot", "so", "fine"]
PIECES = {word: [VOCABULARY.index(word)] for word in ("good", "bad", "movie", "the", "so", "fine")} | {"plot": [9, 10]}
TABLE = WordTable(["<unk>", "<pad>", "good", "movie", "plot"], np.arange(10.0).reshape(5, 2))


def write_folder(folder, texts=TEXTS, header="text", with_vectors=False):
    """A dataset whose labels are the numbers of its texts; returns where it lies, for `load_dataset`."""
    rows = [(split, text) for split, part in texts.items() for text in part]
    (folder / "visual").mkdir(parents=True)
    with open(folder / "utterances.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["segment_id", "video_id", "split", header, "label"])
        for number, (split, text) in enumerate(rows):
            writer.writerow([f"s{number}", f"v{number}", split, text, float(number)])
    for number in range(len(rows)):
        np.save(folder / "visual" / f"s{number}.npy", np.full((number + 1, 3), number, "float32"))
    if with_vectors:
        np.savez(folder / "text.npz", **{f"s{n}": np.full((2, 4), n, "float32") for n in range(len(rows))})
    return {"manual_dir": folder, "data_dir": folder.parent / "prepared"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("text") / "folder")


def rows_of(dataset):
    """The values of the text of each utterance, by its number, and what stands beyond them."""
    rows, padding = {}, []
    for batch, labels in dataset.as_numpy_iterator():
        for values, length, label in zip(batch["text"]["values"], batch["text"]["lengths"], labels, strict=True):
            rows[int(label)] = values[:length].tolist()
            padding.append(values[length:])
    return rows, np.concatenate(padding)


def numbered(split):
    texts = [text for part in TEXTS.values() for text in part]
    return {texts.index(text): text.split() for text in TEXTS[split]}


def through(encode, sentences):
    """In a pipeline, then outside, by the same object."""
    import tensorflow as tf

    words = tf.ragged.constant([text.split() for text in sentences], tf.string, ragged_rank=1)
    inside = list(tf.data.Dataset.from_tensor_slices(words).map(encode).as_numpy_iterator())
    for row, result in zip(words, inside, strict=True):
        np.testing.assert_array_equal(encode(row).numpy(), result)
    return inside


class TestTextVectors:
    def test_each_text_has_its_vector(self):
        vectors = TextVectors(["good movie", "", "good"], [[1, 2], [3, 4], [5, 6]])
        received = through(vectors.encode, ["good", "good movie", "", "good"])
        assert [row.tolist() for row in received] == [[[5, 6]], [[1, 2]], [[3, 4]], [[5, 6]]]
        assert received[0].dtype == np.float32
        assert vectors.dimension == 2

    def test_a_text_without_a_vector_is_an_error(self):
        import tensorflow as tf

        vectors = TextVectors(["good movie"], [[1, 2]])
        with pytest.raises(tf.errors.InvalidArgumentError, match="no vector of a text"):
            through(vectors.encode, ["good movie", "movie good"])

    def test_errors(self):
        for wrong in ([[1, 2]], [1, 2]):
            with pytest.raises(ValueError, match=r"each of the 2 sentences. Received: vectors of shape \([12],"):
                TextVectors(["a", "b"], wrong)
        with pytest.raises(ValueError, match=r"distinct\. Received: 2 with doubles"):
            TextVectors(["a", "a"], [[1], [2]])


class TestWordTable:
    def test_encode(self):
        table = WordTable(TABLE.words, TABLE.vectors)
        received = through(table.encode, ["movie good", "film", "", "<pad> <unk> plot plot Plot"])
        assert [row.tolist() for row in received] == [[3, 2], [0], [], [1, 0, 4, 4, 0]]
        assert received[0].dtype == np.int32

    def test_restrict(self):
        table = TABLE.restrict(iter(["plot", "film", "good", "plot", "<unk>"]))
        assert table.words == ("<unk>", "<pad>", "good", "plot")
        np.testing.assert_array_equal(table.vectors, [[0, 1], [2, 3], [4, 5], [8, 9]])
        assert table.origin == TABLE.origin
        assert table.ids(["plot", "movie"]).tolist() == [3, 0]

    def test_describe(self):
        assert TABLE.describe([["good", "film"], [], ["a", "plot", "a"]]) == {"unknown_words": 3}


class TestLoadDataset:
    @pytest.mark.parametrize("split", TEXTS)
    def test_ids(self, source, split):
        rows, padding = rows_of(load_dataset("utterance_folder", split, text=TABLE, batch_size=2, **source))
        known = {"good": 2, "movie": 3, "plot": 4}
        assert rows == {n: [known.get(word, 0) for word in words] for n, words in numbered(split).items()}
        assert not padding.any()

    @pytest.mark.parametrize("max_length", [512, 4])
    def test_word_pieces(self, source, max_length):
        tokenizer = WordPieceTokenizer(VOCABULARY, max_length=max_length)
        for split in TEXTS:  # one tokenizer for several pipelines
            batches = load_dataset("utterance_folder", split, text=tokenizer, batch_size=2, **source)
            assert batches.element_spec[0]["text"]["values"].dtype == "int32"
            rows, padding = rows_of(batches)
            assert rows == {
                number: [2, *[piece for word in words for piece in PIECES.get(word, [1])][: max_length - 2], 3]
                for number, words in numbered(split).items()
            }
            assert not padding.any()

    def test_vectors(self, source):
        distinct = [text for part in TEXTS.values() for text in part]
        vectors = TextVectors(distinct[::-1], np.random.default_rng(0).normal(size=(len(distinct), 4)))
        expected = np.random.default_rng(0).normal(size=(len(distinct), 4)).astype("float32")[::-1]
        for split in TEXTS:
            batches = load_dataset("utterance_folder", split, text=vectors, shuffle=True, **source)
            rows, _ = rows_of(batches)
            assert rows == {number: [expected[number].tolist()] for number in numbered(split)}
        model = MISARegressor(MISABackbone({"text": MeanEncoder(4), "visual": UtteranceEncoder(3)}, 8))
        assert model.predict(batches, verbose=0).shape == (2, 1)

    def test_words_go_before_the_datasets_own_vectors(self, tmp_path):
        source = write_folder(tmp_path / "folder", with_vectors=True)
        (batch, _), *_ = load_dataset("utterance_folder", "test", **source).as_numpy_iterator()
        assert batch["text"]["values"].shape == (2, 2, 4)
        rows, _ = rows_of(load_dataset("utterance_folder", "test", text=TABLE, **source))
        assert rows == {5: [0, 0], 6: [4]}
        batches = load_dataset("utterance_folder", "test", text=TABLE, modalities=["visual"], **source)
        assert list(batches.element_spec[0]) == ["visual"]

    def test_a_dataset_without_words(self, tmp_path):
        source = write_folder(tmp_path / "folder", header="remark")
        with pytest.raises(
            ValueError, match=r"utterance_folder.* holds no words. Received: text=<keras_misa.*WordTable"
        ):
            load_dataset("utterance_folder", "test", text=TABLE, **source)
        with pytest.raises(ValueError, match=r"holds no words\. Received: path=None"):
            load_word_table("utterance_folder", **source)


class TestLoadWordTable:
    def words(self, *splits):
        return {word for split in splits for text in TEXTS[split] for word in text.split()}

    @pytest.fixture(scope="class")
    def glove(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("vectors") / "glove.txt"
        path.write_text("movie 1 2\nother 3 4\nplot 5 6\ngood 7 8\n")
        return path

    @pytest.fixture(scope="class")
    def authors(self, tmp_path_factory):
        rows = {"<unk>": 0, "<pad>": 1, "other": 2, "plot": 3, "good": 4}
        vectors = np.arange(10.0).reshape(5, 2)
        return write_table(tmp_path_factory.mktemp("vectors") / "embedding_and_mapping.pt", vectors, rows)

    @pytest.mark.parametrize(
        ("vocabulary", "splits"), [("train", ["train"]), ("dataset", list(TEXTS)), (None, list(TEXTS))]
    )
    def test_a_text_file(self, source, glove, vocabulary, splits):
        table = load_word_table("utterance_folder", glove, vocabulary=vocabulary, **source)
        assert table.words[:2] == ("<unk>", "<pad>")
        assert set(table.words[2:]) == self.words(*splits)
        vectors = dict(zip(table.words, table.vectors.tolist(), strict=True))
        known = {"movie": [1, 2], "plot": [5, 6], "good": [7, 8]}
        assert {word: vectors[word] for word in known if word in vectors} == {
            word: known[word] for word in known if word in self.words(*splits)
        }
        unknown = [tuple(vectors[word]) for word in vectors if word not in {*known, "<pad>"}]
        assert len(set(unknown)) == len(unknown)  # each drawn for itself
        assert f"lacks {len(unknown) - 1} of {len(self.words(*splits))} words" in table.origin

    def test_all_of_a_text_file(self, source, glove):
        table = load_word_table("utterance_folder", glove, vocabulary="table", **source)
        assert table.words == ("<unk>", "<pad>", "movie", "other", "plot", "good")
        np.testing.assert_array_equal(table.vectors[2:], [[1, 2], [3, 4], [5, 6], [7, 8]])

    @pytest.mark.parametrize(
        ("vocabulary", "rows"),
        [(None, [0, 1, 2, 3, 4]), ("table", [0, 1, 2, 3, 4]), ("dataset", [0, 1, 3, 4]), ("train", [0, 1, 4])],
    )
    def test_a_table_like_the_authors(self, source, authors, vocabulary, rows):
        table = load_word_table("utterance_folder", authors, vocabulary=vocabulary, **source)
        words = ("<unk>", "<pad>", "other", "plot", "good")
        assert table.words == tuple(words[row] for row in rows)
        np.testing.assert_array_equal(table.vectors, np.arange(10.0).reshape(5, 2)[rows])

    def test_no_file(self, source):
        for vocabulary, splits in ((None, ["train"]), ("train", ["train"]), ("dataset", list(TEXTS))):
            table = load_word_table("utterance_folder", vocabulary=vocabulary, **source)
            assert set(table.words) == {"<unk>", "<pad>", *self.words(*splits)}
            assert table.dimension == 300
            assert table.origin.endswith("all splits" if vocabulary == "dataset" else "the training split")
        with pytest.raises(ValueError, match=r"no word table of its own: give a file\. Received: path=None"):
            load_word_table("utterance_folder", vocabulary="table", **source)
        with pytest.raises(ValueError, match=r"dataset, train or table\. Received: vocabulary='trian'"):
            load_word_table("utterance_folder", vocabulary="trian", **source)

    def test_splits_that_are_dealt_anew(self, source, glove):
        options = {"split_by": "video:0.4,0.3,0.3", **source}
        examples = data.load_examples("utterance_folder", "train", **options).as_numpy_iterator()
        words = {word.decode() for example in examples for word in example["words"]}
        assert words != self.words("train")
        table = load_word_table("utterance_folder", glove, vocabulary="train", **options)
        assert set(table.words[2:]) == words

    def test_a_dataset_that_lacks_a_split(self, tmp_path, glove):
        source = write_folder(tmp_path / "folder", {"train": ["good movie"], "test": ["plot"]})
        assert load_word_table("utterance_folder", glove, **source).words[2:] == ("good", "movie", "plot")


def make_bert(seed=0, positions=12, **kwargs):
    keras.utils.set_random_seed(seed)
    backbone = keras_nlp.models.BertBackbone(len(VOCABULARY), 2, 2, 8, 16, max_sequence_length=positions)
    backbone.set_weights([w + np.random.normal(size=w.shape, scale=0.3) for w in backbone.get_weights()])  # noqa: NPY002
    return BertEncoder(backbone, trainable_from=None, **kwargs)


def pad(rows, width=12):
    """A batch, with a word piece that is none of theirs beyond the lengths."""
    values = np.full((len(rows), width), 7, "int32")
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
    return {"values": values, "lengths": np.array([len(row) for row in rows], "int32")}


def forbidden(*args, **kwargs):
    raise AssertionError("BERT must not run")


@pytest.mark.backends
class TestEncodeTexts:
    tokenizer = WordPieceTokenizer(VOCABULARY, max_length=12)
    sentences: ClassVar = [
        text.split() for text in ["plot so bad", "good", "", "plot so bad", "the movie " * 9, "good"]
    ]

    def test_is_what_bert_makes_of_each(self):
        encoder = make_bert()
        rng = np.random.default_rng(0)
        many = [rng.choice(list(PIECES), rng.integers(1, 12)).tolist() for _ in range(80)]
        for sentences in (self.sentences, many):
            told = []
            texts, vectors = encode_texts(
                encoder,
                self.tokenizer,
                sentences,
                progress=lambda done, total: told.append((done, total)),  # noqa: B023
            )
            assert texts == list(dict.fromkeys(" ".join(words) for words in sentences))
            assert vectors.dtype == np.float32
            expected = to_numpy(encoder(pad([self.tokenizer.ids(text.split()) for text in texts])))
            np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)
            assert told[-1] == (len(texts), len(texts))
        texts, vectors = encode_texts(encoder, self.tokenizer, [])
        assert (texts, vectors.shape) == ([], (0, 8))

    def test_the_cache(self, tmp_path, monkeypatch):
        folder = tmp_path / "new" / "cache"
        texts, vectors = encode_texts(make_bert(), self.tokenizer, self.sentences, folder)
        (path,) = folder.iterdir()
        told = []
        more, _ = encode_texts(
            make_bert(), self.tokenizer, [["fine"], *self.sentences], str(folder), lambda *state: told.append(state)
        )
        assert (more, told) == (["fine", *texts], [(1, 1)])  # only what is new
        assert list(folder.iterdir()) == [path]
        monkeypatch.setattr(BertEncoder, "call", forbidden)
        again, received = encode_texts(make_bert(), self.tokenizer, self.sentences[::-1], folder, forbidden)
        assert again == list(dict.fromkeys(" ".join(words) for words in self.sentences[::-1]))
        np.testing.assert_array_equal(received, [vectors[texts.index(text)] for text in again])

    @pytest.mark.parametrize(
        ("encoder", "tokenizer"),
        [
            ({"seed": 1}, {}),
            ({"exact_gelu": False}, {}),
            ({"dtype": "mixed_bfloat16"}, {}),
            ({}, {"max_length": 11}),
            ({}, {"lowercase": False}),
            ({}, {"vocabulary": [*VOCABULARY[:-1], "dull"]}),
        ],
        ids=str,
    )
    def test_what_makes_other_vectors_has_another_file(self, tmp_path, encoder, tokenizer):
        encode_texts(make_bert(), self.tokenizer, self.sentences, tmp_path)
        (first,) = tmp_path.iterdir()
        content = first.read_bytes()
        other = make_bert(**encoder), WordPieceTokenizer(**self.tokenizer.get_config() | tokenizer)
        _, expected = encode_texts(*other, self.sentences)
        _, received = encode_texts(*other, self.sentences, tmp_path)
        np.testing.assert_array_equal(received, expected)
        assert len(list(tmp_path.iterdir())) == 2
        assert first.read_bytes() == content

    def test_a_damaged_cache_is_made_anew(self, tmp_path, caplog):
        encoder = make_bert()
        _, expected = encode_texts(encoder, self.tokenizer, self.sentences, tmp_path)
        (path,) = tmp_path.iterdir()
        whole = path.read_bytes()

        def save(**arrays):
            with open(path, "wb") as file:
                np.savez(file, **arrays)

        keys = np.zeros((4, 32), np.uint8)
        for damage in (
            lambda: path.write_bytes(b""),
            lambda: path.write_bytes(whole[:-30]),
            lambda: path.write_bytes(b"something else"),
            lambda: save(keys=keys),
            lambda: save(keys=keys, vectors=np.zeros((4, 9))),
            lambda: save(keys=keys[:, :5], vectors=np.zeros((4, 8))),
        ):
            damage()
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                _, received = encode_texts(encoder, self.tokenizer, self.sentences, tmp_path)
            np.testing.assert_array_equal(received, expected)
            assert f"`{path}` is damaged and is made anew" in caplog.text
            with np.load(path) as file:
                assert sorted(map(tuple, file["vectors"])) == sorted(map(tuple, expected))


@pytest.mark.backends
class TestReplaceEncoder:
    @pytest.mark.parametrize(
        ("task", "options", "head"),
        [
            (MISARegressor, {"activation": "prelu"}, {}),
            (MISAClassifier, {"subspaces": ("shared",), "subspace_activation": "tanh"}, {"num_outputs": 3}),
            (MISARegressor, {"subspaces": ()}, {"similarity_weight": 0}),
        ],
    )
    def test_bert_in_front_changes_no_prediction(self, task, options, head, tmp_path):
        encoder, tokenizer = make_bert(), TestEncodeTexts.tokenizer
        utterances = [["good", "movie"], ["plot"], []]
        texts, vectors = encode_texts(encoder, tokenizer, utterances)
        assert texts == [" ".join(words) for words in utterances]
        old = task(MISABackbone({"text": MeanEncoder(8), "visual": UtteranceEncoder(3)}, 8, **options), **head)
        rng = np.random.default_rng(0)
        old.set_weights([w + rng.normal(size=w.shape, scale=0.3) for w in old.get_weights()])
        visual = {name: np.nan_to_num(array) for name, array in sequence(3, [4, 1, 2]).items()}
        text = {"values": vectors[:, None], "lengths": np.ones(3, "int32")}
        expected = old.predict({"text": text, "visual": visual}, verbose=0)
        assert np.ptp(expected, axis=0).max() > 1e-3

        new = replace_encoder(old, "text", encoder)
        assert type(new) is task
        assert new.backbone.modalities == ["text", "visual"]
        assert new.backbone.encoders["visual"] is old.backbone.encoders["visual"]
        pieces = pad([tokenizer.ids(words) for words in utterances])
        batch = {"text": pieces, "visual": visual}
        np.testing.assert_allclose(new.predict(batch, verbose=0), expected, atol=1e-5)
        new.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(batch, verbose=0), expected, atol=1e-5)

    def test_names_of_encoders_and_frozen_parts(self):
        """An encoder may be called like a part of the head; what is frozen stays so."""
        old = MISARegressor(MISABackbone({"text": MeanEncoder(6)}, 8))
        old.fusion.trainable = False
        inputs = keras.Input((6,))
        new = replace_encoder(old, "text", keras.Model(inputs, inputs * 1.0, name="head_dense"))
        vectors = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
        expected = old.predict({"text": {"values": vectors[:, None], "lengths": np.ones(3, "int32")}}, verbose=0)
        np.testing.assert_allclose(new.predict({"text": vectors}, verbose=0), expected, atol=1e-5)
        assert not new.fusion.trainable_weights
        assert len(new.trainable_weights) == len(old.trainable_weights)

    def test_errors(self):
        model = MISARegressor(MISABackbone({"text": MeanEncoder(6)}, 8))
        with pytest.raises(ValueError, match=r"modalities are \['text'\]. Received: modality='smell'"):
            replace_encoder(model, "smell", MeanEncoder(6))
        with pytest.raises(ValueError, match=r"vectors of 6 numbers, .* Received: 8 numbers"):
            replace_encoder(model, "text", make_bert())


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_a_run_with_a_frozen_bert(tmp_path, monkeypatch, cached):
    preset = tmp_path / "bert"
    make_bert(positions=16).backbone.save_to_preset(preset)
    keras_nlp.models.BertTokenizer(VOCABULARY, lowercase=True).save_to_preset(preset)
    source = {name: str(path) for name, path in write_folder(tmp_path / "folder").items()}
    settings = {"text": f"bert:{preset}", "bert_trainable": "none", "bert_cache": cached, "hidden_dim": 8, "epochs": 1}
    train("utterance_folder", tmp_path / "run", quiet=True, **source, **settings)
    with open(tmp_path / "run" / "predictions.csv", encoding="utf-8", newline="") as file:
        written = {float(row["label"]): float(row["prediction"]) for row in csv.DictReader(file)}
    assert len(list((tmp_path / "prepared").glob("text_vectors/*.npz"))) == cached
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    # The run's model takes words, by way of the run's tokenizer: BERT's vectors are nowhere but in it.
    tokenizer = WordPieceTokenizer(VOCABULARY)
    (batch, labels), *_ = load_dataset("utterance_folder", "test", text=tokenizer, **source).as_numpy_iterator()
    predictions = model.predict(batch, verbose=0)[:, 0]
    assert dict(zip(labels.tolist(), predictions.tolist(), strict=True)) == pytest.approx(written, abs=1e-5)
    assert evaluate(tmp_path / "run")["mae"] == pytest.approx(np.abs(predictions - labels).mean(), abs=1e-5)
