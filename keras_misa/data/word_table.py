"""The table of word vectors, and the authors' file of it."""

import numpy as np

from keras_misa.data._torch_file import load

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
        return cls(words, vectors, origin=f"random, seed {seed}, for the words of the training split")

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


def read_word_table(path):
    """Reads the authors' `embedding_and_mapping.pt`.

    The file is a PyTorch file of a pair: the vectors, and the dict from words to rows. PyTorch is not needed, and no
    code of the file is run.

    Args:
        path: The file.

    Returns:
        A `WordTable` with the file's rows in the file's order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds something else.

    Example:
        >>> table = read_word_table("embedding_and_mapping.pt")  # doctest: +SKIP
    """
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
