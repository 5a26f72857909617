"""Utterances whose text is a vector already."""

import numpy as np


class TextVectors:
    """One vector for each utterance's text, such as a frozen BERT's, computed once.

    Args:
        sentences: distinct texts, each the words joined by single spaces.
        vectors: array `(sentences, dimension)`; kept as float32.

    Attributes:
        dimension: length of a vector.

    Raises:
        ValueError: If the two do not go together, or a text is there twice.

    Example:
        >>> vectors = TextVectors(["good movie", "dull"], [[0.5, 1.0], [0.0, -1.0]])
        >>> import tensorflow as tf
        >>> vectors.encode(tf.constant(["good", "movie"])).numpy().tolist()
        [[0.5, 1.0]]
    """

    def __init__(self, sentences, vectors):
        self._sentences = list(sentences)
        self._vectors = np.asarray(vectors, np.float32)
        if self._vectors.ndim != 2 or len(self._vectors) != len(self._sentences):
            raise ValueError(
                f"`vectors` must hold one row for each of the {len(self._sentences)} sentences. "
                f"Received: vectors of shape {self._vectors.shape}"
            )
        if len(set(self._sentences)) != len(self._sentences):
            raise ValueError(f"`sentences` must be distinct. Received: {len(self._sentences)} with doubles")
        self.dimension = self._vectors.shape[1]
        self._rows = None

    def encode(self, words):
        """The vector of an utterance, in a `tf.data` pipeline.

        Args:
            words: string tensor `(words,)`.

        Returns:
            float32 tensor `(1, dimension)`: a sequence of one step.

        Raises:
            tf.errors.InvalidArgumentError: When it runs, if the text is not among the sentences.
        """
        import tensorflow as tf

        if self._rows is None:
            with tf.init_scope():
                numbers = np.arange(len(self._sentences), dtype="int32")
                initializer = tf.lookup.KeyValueTensorInitializer(self._sentences, numbers, tf.string, tf.int32)
                self._rows = tf.lookup.StaticHashTable(initializer, -1), tf.constant(self._vectors)
        rows, vectors = self._rows
        sentence = tf.strings.reduce_join(words, separator=" ")
        row = rows[sentence]
        with tf.control_dependencies([tf.debugging.assert_non_negative(row, "There is no vector of a text.")]):
            return tf.gather(vectors, row[None])
