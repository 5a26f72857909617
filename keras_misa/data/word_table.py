"""The table of word vectors, and the files of it."""

import contextlib
import json
import zipfile

import numpy as np

from keras_misa._files import DAMAGED_NPZ, atomic_path
from keras_misa.data._torch_file import load
from keras_misa.data.word_vectors import read_word_vectors

SPECIAL_WORDS = ("<unk>", "<pad>")


class WordTable:
    """Words, their ids and their vectors.

    The id of a word is its row. Row 0 is `<unk>`, which stands for every word that is not in the table; row 1 is
    `<pad>`, the published code's filler; `load_dataset` fills with zeros, and lengths tell what is real.

    Args:
        words: Distinct words in the order of their ids; the first two are `<unk>` and `<pad>`.
        vectors: Finite numbers of shape `(words, dimension)`; kept as float32.
        origin: Where the vectors come from, for reports.

    Attributes:
        words: Tuple of the words; the position is the id.
        vectors: float32 array of shape `(words, dimension)`.
        origin: As given.

    Raises:
        ValueError: The words and vectors do not make such a table.

    Example:
        >>> table = WordTable(["<unk>", "<pad>", "good"], [[0.0, 0.0], [0.0, 0.0], [0.5, 1.0]])
        >>> table.ids(["good", "movie"])
        array([2, 0], dtype=int32)
    """

    unit = "words"
    unknown_id = 0

    def __init__(self, words, vectors, origin="given"):
        words = tuple(words)
        vectors = np.asarray(vectors)
        if words[:2] != SPECIAL_WORDS:
            raise ValueError(f"The first two words must be `<unk>` and `<pad>`. Received: words[:2]={words[:2]}")
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or len(vectors) != len(words):
            raise ValueError(
                f"`vectors` must hold one row of numbers for each of the {len(words)} words. "
                f"Received: vectors of shape {vectors.shape} and dtype {vectors.dtype}"
            )
        self.words = words
        self.origin = origin
        self.vectors = vectors.astype(np.float32)
        if not np.isfinite(self.vectors).all():
            row = int(np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))[0])
            raise ValueError(f"`vectors` must be finite. Received: row {row} ({words[row]!r})")
        self._lookup = None
        self._ids = {}
        for row, word in enumerate(words):
            if not isinstance(word, str) or self._ids.setdefault(word, row) != row:
                raise ValueError(f"`words` must be distinct strings. Received: words[{row}]={word!r}")

    @classmethod
    def from_words(cls, sentences, dimension=300, seed=0):
        """Makes a table of the words of a training text, with random vectors.

        Words have the order in which they are first seen. Every vector is drawn from N(0, 1), as the reference draws
        those of the words that GloVe lacks.

        Args:
            sentences: Iterable of sentences, each an iterable of words.
            dimension: Length of a vector.
            seed: Equal seeds and sentences give equal tables.

        Returns:
            A `WordTable`.

        Raises:
            TypeError: A sentence is one string rather than its words.

        Example:
            >>> WordTable.from_words([["a", "good", "movie"], ["good"]], dimension=2).words
            ('<unk>', '<pad>', 'a', 'good', 'movie')
        """
        words = dict.fromkeys(SPECIAL_WORDS)
        for sentence in sentences:
            if isinstance(sentence, str):
                raise TypeError(f"A sentence must be an iterable of words. Received: {sentence!r}")
            words.update(dict.fromkeys(sentence))
        vectors = np.random.default_rng(seed).standard_normal((len(words), dimension), dtype=np.float32)
        return cls(words, vectors, origin=f"random, seed {seed}")

    @property
    def dimension(self):
        """Length of a vector."""
        return self.vectors.shape[1]

    def __len__(self):
        return len(self.words)

    def ids(self, words):
        """Looks words up.

        Args:
            words: Sequence of words.

        Returns:
            int32 array of shape `(words,)`; words that are not in the table have the id of `<unk>`, 0.
        """
        return np.array([self._ids.get(word, 0) for word in words], np.int32)

    def restrict(self, words):
        """The table of some of its words.

        Args:
            words: iterable of words; those that the table lacks stay unknown.

        Returns:
            A `WordTable`, its rows in the order of this one.

        Example:
            >>> table = WordTable(["<unk>", "<pad>", "good", "film"], [[0.0], [0.0], [0.5], [1.0]])
            >>> table.restrict(["film", "movie"]).words
            ('<unk>', '<pad>', 'film')
        """
        rows = sorted({0, 1, *(self._ids[word] for word in words if word in self._ids)})
        return WordTable([self.words[row] for row in rows], self.vectors[rows], self.origin)

    def encode(self, words):
        """Looks words up, in a `tf.data` pipeline.

        Args:
            words: string tensor `(words,)`.

        Returns:
            int32 tensor `(words,)`.
        """
        return self._table[words]

    def encode_batch(self, words):
        """Looks the words of several utterances up, in a TensorFlow graph.

        Args:
            words: ragged string tensor `(utterances, None)`.

        Returns:
            int32 ragged tensor `(utterances, None)`.
        """
        return words.with_values(self._table[words.values])

    @property
    def vocabulary(self):
        """The words, by their ids."""
        return self.words

    @property
    def resources(self):
        """What a SavedModel must keep for `encode_batch`."""
        return [self._table]

    @property
    def _table(self):
        import tensorflow as tf

        if self._lookup is None:
            with tf.init_scope():
                initializer = tf.lookup.KeyValueTensorInitializer(
                    list(self.words), np.arange(len(self), dtype="int32"), tf.string, tf.int32
                )
                self._lookup = tf.lookup.StaticHashTable(initializer, 0)
        return self._lookup

    def describe(self, sentences):
        """Counts what does not go in.

        Args:
            sentences: list of lists of words.

        Returns:
            Dict: `unknown_words`, those that the table lacks.
        """
        return {"unknown_words": sum(word not in self._ids for words in sentences for word in words)}


def read_word_table(path, words=None, seed=0):
    """Reads the authors' `embedding_and_mapping.pt`, or looks words up in a text file of word vectors.

    The authors' file is a PyTorch file of a pair: the vectors, and the dict from words to rows. It is a table already:
    all of it is read, whatever `words` are. PyTorch is not needed, and no code of the file is run.

    Any other file is read by `keras_misa.data.word_vectors.read_word_vectors`: GloVe, word2vec or fastText. What the
    file is, its content tells and not its name. Words that the file lacks have vectors from N(0, 1), as the reference
    draws them, and so has `<unk>`; `<pad>` is zeros.

    Args:
        path: The file.
        words: Iterable of the words to look up; `None` takes all words of the file.
        seed: Equal seeds, words and files give equal tables.

    Returns:
        A `WordTable`: of the authors' file its rows in its order; else `<unk>`, `<pad>` and the words in their order.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: `words` is one string.
        ValueError: The file is damaged or holds something else.

    Example:
        >>> table = read_word_table("embedding_and_mapping.pt")  # doctest: +SKIP
        >>> table = read_word_table("glove.840B.300d.zip", ["a", "good", "movie"])  # doctest: +SKIP
    """
    return _read_authors_table(path) if is_torch_file(path) else _look_words_up(path, words, seed)


def is_torch_file(path):
    """Whether a file is a pickle, or a zip file with PyTorch's in it; text never starts with the byte of a pickle."""
    with open(path, "rb") as file:
        start = file.read(4)
        if start != b"PK\x03\x04":
            return start.startswith(b"\x80")
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    return False


def _look_words_up(path, words, seed):
    if isinstance(words, str):
        raise TypeError(f"`words` must be an iterable of words. Received: words={words!r}")
    words = None if words is None else list(dict.fromkeys([SPECIAL_WORDS[0], *words]))
    found, vectors = read_word_vectors(path, words)
    if words is not None and not set(found) & set(words[1:]) and len(words) > 1:
        raise ValueError(
            f"`{path}` must have some of the words that are looked up; as they are written, upper case and all. "
            f"Received: none of {words[1:6]}"
        )
    rows = {word: row for row, word in enumerate(found)}
    words = list(dict.fromkeys([*SPECIAL_WORDS, *(found if words is None else words)]))
    is_missing = np.array([word not in rows for word in words])
    table = np.zeros((len(words), vectors.shape[1]), np.float32)
    table[~is_missing] = vectors[[rows[word] for word in words if word in rows]]
    table[is_missing] = np.random.default_rng(seed).standard_normal((is_missing.sum(), table.shape[1]), np.float32)
    table[1] = 0
    lacks = f"which lacks {is_missing[2:].sum()} of {len(words) - 2} words (drawn from N(0, 1), seed {seed})"
    return WordTable(words, table, origin=f"{path}, {lacks}")


def _read_authors_table(path):
    # The dict is a `defaultdict` whose factory, a function of the authors' script, means: unknown words have id 0.
    value = load(path, extra_globals=["create_dataset.return_unk"])
    if not (isinstance(value, tuple) and [type(part) for part in value] == [np.ndarray, dict]):
        parts = [type(part).__name__ for part in value] if isinstance(value, tuple) else type(value).__name__
        raise ValueError(f"`{path}` must hold a tuple of a tensor and a dict from words to rows. Received: {parts}")
    vectors, rows = value
    words = {row: word for word, row in rows.items() if isinstance(row, int)}
    wrong = [row for row in range(len(rows)) if row not in words]
    if wrong:
        raise ValueError(
            f"`{path}` must number its {len(rows)} words from 0 to {len(rows) - 1}, each once. "
            f"Received: no word {wrong[0]}"
        )
    try:
        return WordTable([words[row] for row in range(len(rows))], vectors, origin=str(path))
    except ValueError as error:
        raise ValueError(f"`{path}` is no word table: {error}") from error


def save_word_table(path, table):
    """Writes a table as `.npz`, which `load_word_table_file` reads."""
    words = np.frombuffer(json.dumps([table.words, table.origin]).encode(), np.uint8)
    with atomic_path(path) as temporary:
        np.savez(temporary, words=words, vectors=table.vectors)


def load_word_table_file(path):
    """Reads what `save_word_table` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            words, origin = json.loads(file["words"].tobytes())
            return WordTable(words, file["vectors"], origin)
    except DAMAGED_NPZ as error:
        raise ValueError(f"`{path}` is damaged: {error}") from error
