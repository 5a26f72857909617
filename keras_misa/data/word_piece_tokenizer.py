"""Words to BERT's word pieces."""

import functools

import numpy as np

from keras_misa._bert_presets import find_preset, read_settings, reading

MAX_LENGTH = 512  # positions that BERT knows


class WordPieceTokenizer:
    """BERT's word pieces of an utterance, between `[CLS]` and `[SEP]`.

    keras-nlp's `BertTokenizer` cuts the words, after a clean-up of their characters that is BERT's own; each is cut for
    itself, which gives what their sentence gives, since BERT cuts at white space first. An utterance longer than
    `max_length` loses its end, whatever stands beside it in a batch.

    Args:
        vocabulary: sequence of word pieces, the position is the id.
        lowercase: whether upper case is made lower case, for uncased checkpoints.
        strip_accents: whether accents are taken off; `None`, the default, as `lowercase`, which uncased checkpoints
            were trained with.
        max_length: word pieces of an utterance at most, `[CLS]` and `[SEP]` included.

    Attributes:
        vocabulary: tuple of str.

    Raises:
        ValueError: If the vocabulary lacks one of BERT's special pieces, or a piece is there twice.

    Example:
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "movie", "##s"])
        >>> tokenizer.ids(["Good", "movies"]).tolist()
        [2, 5, 6, 7, 3]
        >>> tokenizer.word_of_piece(["Good", "movies"]).tolist()
        [-1, 0, 1, 1, -1]
    """

    unit = "word pieces"

    def __init__(self, vocabulary, lowercase=True, strip_accents=None, max_length=MAX_LENGTH):
        self.vocabulary = tuple(vocabulary)
        self.lowercase = bool(lowercase)
        self.strip_accents = self.lowercase if strip_accents is None else bool(strip_accents)
        self.max_length = max_length
        if missing := [piece for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if piece not in self.vocabulary]:
            raise ValueError(f"A vocabulary of BERT has {', '.join(missing)}. Received: {self.vocabulary[:5]}, …")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"Word pieces must be distinct. Received: {len(self.vocabulary)} with doubles")
        if max_length < 2:
            raise ValueError(f"`max_length` must be 2 or more, for [CLS] and [SEP]. Received: max_length={max_length}")

    @classmethod
    def from_preset(cls, preset, max_length=None):
        """The tokenizer that a BERT was trained with.

        Args:
            preset: as for `keras_misa.layers.BertEncoder.from_preset`.
            max_length: see the constructor; `None` takes as many as the checkpoint's configuration tells, or 512.

        Returns:
            A `WordPieceTokenizer`.

        Raises:
            ValueError: If there is no such preset.

        Example:
            >>> tokenizer = WordPieceTokenizer.from_preset("bert_base_en_uncased")  # doctest: +SKIP
        """
        found = find_preset(preset)
        with reading(preset):
            import keras_nlp

            inner = keras_nlp.models.BertTokenizer.from_preset(found)
            vocabulary = inner.get_vocabulary()
        # keras-nlp's `False` is no more than its default, which uncased checkpoints were not trained with.
        strip_accents = read_settings(found, "tokenizer_config.json").get("strip_accents", inner.strip_accents or None)
        settings = read_settings(found)
        settings = {**(settings.get("config") or {}), **settings}  # Keras's, and Hugging Face's
        positions = settings.get("max_sequence_length", settings.get("max_position_embeddings", MAX_LENGTH))
        if max_length is None:
            max_length = min(positions, MAX_LENGTH)
        return cls(vocabulary, inner.lowercase, strip_accents, max_length)

    @property
    def unknown_id(self):
        """Number of the piece that stands for what the vocabulary lacks."""
        return self.vocabulary.index("[UNK]")

    @property
    def resources(self):
        """What a SavedModel must keep for `encode_batch`."""
        return [self._cut]

    def get_config(self):
        """The constructor's arguments, for JSON."""
        return {
            "vocabulary": list(self.vocabulary),
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "max_length": self.max_length,
        }

    def encode(self, words):
        """Word pieces of an utterance, in a `tf.data` pipeline.

        Args:
            words: string tensor `(words,)`.

        Returns:
            int32 tensor `(pieces,)`.
        """
        return self._encode(words)[0]

    def encode_batch(self, words):
        """Word pieces of several utterances, in a TensorFlow graph.

        Args:
            words: ragged string tensor `(utterances, None)`.

        Returns:
            int32 ragged tensor `(utterances, None)`, each row what `encode` gives.
        """
        import tensorflow as tf

        pieces, places = self._cut(words.values)
        rows = tf.gather(words.value_rowids(), places)
        pieces = tf.RaggedTensor.from_value_rowids(pieces, rows, words.nrows(), validate=False)
        first, last = (tf.fill([words.nrows(), 1], self.vocabulary.index(piece)) for piece in ("[CLS]", "[SEP]"))
        return tf.concat([first, pieces[:, : self.max_length - 2], last], axis=1)

    def ids(self, words):
        """Word pieces of an utterance.

        Args:
            words: sequence of words.

        Returns:
            int32 array `(pieces,)`.
        """
        return self._encode(_tensor(words))[0].numpy()

    def word_of_piece(self, words):
        """Which word each piece is of: the way from BERT's steps to those of word-level features.

        Args:
            words: sequence of words.

        Returns:
            int32 array `(pieces,)`, places in `words`, -1 for `[CLS]` and `[SEP]`. A word that BERT cuts to nothing,
            such as a control character, has no piece.
        """
        return self._encode(_tensor(words))[1].numpy()

    def describe(self, sentences):
        """Counts what does not go in.

        Args:
            sentences: list of lists of words.

        Returns:
            Dict: `unknown_words`, those with an `[UNK]` in them, and `cut_utterances`, those over `max_length`.
        """
        distinct = list(dict.fromkeys(word for words in sentences for word in words))
        pieces, places = (tensor.numpy() for tensor in self._cut(_tensor(distinct)))
        counts = dict(zip(distinct, np.bincount(places, minlength=len(distinct)).tolist(), strict=True))
        unknown = {distinct[place] for place in places[pieces == self.vocabulary.index("[UNK]")]}
        return {
            "unknown_words": sum(word in unknown for words in sentences for word in words),
            "cut_utterances": sum(sum(counts[word] for word in words) + 2 > self.max_length for words in sentences),
        }

    @functools.cached_property
    def _cut(self):
        """Function of words `(words,)` → word pieces, and the word of each."""
        import keras_nlp
        import tensorflow as tf

        with tf.init_scope():  # The constants that keras-nlp makes must outlive the pipeline in which this may run.
            inner = keras_nlp.models.BertTokenizer(
                vocabulary=list(self.vocabulary), lowercase=False, strip_accents=self.strip_accents
            )

            # Called on tensors outside of a function, keras-nlp answers with lists, by other code.
            @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
            def cut(words):
                # As BERT does and keras-nlp does not: every space of Unicode parts, control characters vanish and part
                # nothing, lower case leaves characters such as "…" and "½" what they are.
                words = tf.strings.regex_replace(words, r"[\t\n\r\p{Z}]", " ")
                words = tf.strings.regex_replace(words, r"[\p{C}\x{FFFD}]", "")
                if self.lowercase:
                    words = tf.strings.lower(words)  # ASCII, for a Turkish locale has another "i"
                    words = tf.strings.lower(words, encoding="utf-8")
                pieces = inner(words)
                return tf.cast(pieces.flat_values, tf.int32), tf.cast(pieces.value_rowids(), tf.int32)

            cut.get_concrete_function()
        return cut

    def _encode(self, words):
        """Word pieces between `[CLS]` and `[SEP]`, and the word of each."""
        import tensorflow as tf

        pieces, places = self._cut(words)
        first, last = (self.vocabulary.index(piece) for piece in ("[CLS]", "[SEP]"))
        kept = self.max_length - 2
        return tf.concat([[first], pieces[:kept], [last]], axis=0), tf.concat([[-1], places[:kept], [-1]], axis=0)


def _tensor(words):
    import tensorflow as tf

    if isinstance(words, str):
        raise TypeError(f"`words` must be a sequence of words. Received: words={words!r}")
    return tf.constant(np.asarray(list(words), object), tf.string, shape=(len(words),))
