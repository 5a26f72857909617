"""Sentences inside a SavedModel are read as Python reads them."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_runs import PIECES, WORDS

from keras_misa.data import WordPieceTokenizer, WordTable

if keras.backend.backend() != "tensorflow":
    pytest.skip("SavedModels are TensorFlow's", allow_module_level=True)

import tensorflow as tf

from keras_misa.export.request_inputs import SentenceInput

TEXTS = {
    "words": WordTable.from_words([WORDS], dimension=2),
    "word pieces": WordPieceTokenizer(PIECES, max_length=12),
}
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SPACES = st.sampled_from([" ", "\t", "\n", "\x0b", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "\u2028", "\u3000", ""])


@functools.cache
def reader(kind):
    part = SentenceInput("text", TEXTS[kind], max_length=20)
    return tf.function(lambda text: part.read({"text": text}, encoded=True), [tf.TensorSpec((None,), tf.string)])


@pytest.mark.parametrize("kind", TEXTS)
@given(st.lists(st.lists(st.tuples(st.sampled_from(WORDS) | ANY, SPACES), max_size=6), min_size=1, max_size=5))
@example([[("\x00", " ")], [("good\x00film", "")], [("\u180e", "")], [("\u200b", "")], [("\ufeff", "")]])
def test_sentences_become_the_ids_of_their_words(kind, parts):
    sentences = ["".join(word + space for word, space in pairs) for pairs in parts]
    values, lengths, problems = (tensor.numpy() for tensor in reader(kind)(tf.constant(sentences)))
    for sentence, row, length, problem in zip(sentences, values, lengths, problems, strict=True):
        words = sentence.split()
        if not words:
            assert problem == b"text: 0 words; expected 1 to 20"
        elif len(words) > 20:
            assert problem == f"text: {len(words)} words; expected 1 to 20".encode()
        else:
            assert problem == b""
            np.testing.assert_array_equal(row[:length], TEXTS[kind].ids(words))
