"""Text files of word vectors: GloVe, word2vec and fastText; plain, in gzip or in zip."""

import contextlib
import functools
import gzip
import io
import itertools
import re
import zipfile
import zlib

import numpy as np

from keras_misa._files import is_number

_LINE_BYTES = 1 << 20  # No line of word vectors is as long; what has no line ends does not fill the memory.
_BUFFER_BYTES = 1 << 18
_BATCH_BYTES = 1 << 20
_PRODUCT_NUMBERS = 1 << 24  # 64 MiB of float32.
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")


def read_word_vectors(path, words=None):
    r"""Reads a text file of word vectors.

    Each line is a word and its numbers, with a space between. A first line of two whole numbers, as word2vec and
    fastText write it, is a header: how many words, and how many numbers for each. Without it the first line tells how
    many numbers there are. The word is all that stands before them: it may hold spaces, of which GloVe 840B has some.
    Its last part is no number then; a line of too many numbers is an error, not a longer word.

    Bytes of a word that are not UTF-8 are written as `\xff`: words stay distinct and can be written again; such a word
    cannot be asked for. Of a word that the file has twice the first vector is taken.

    The file is streamed. With `words`, memory is needed for their vectors alone, lines of other words are not checked,
    and reading ends when every word was found.

    Args:
        path: The file: text, or text in gzip, or a zip file of one text file.
        words: Iterable of the words that are wanted; `None` takes all.

    Returns:
        The words that were found, a list in the file's order, and their vectors, float32 of shape `(words, dimension)`.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: `words` is one string.
        ValueError: The file is damaged or holds something else; the message names the line.

    Example:
        >>> words, vectors = read_word_vectors("glove.840B.300d.zip", {"good", "movie"})  # doctest: +SKIP
    """
    if isinstance(words, str):
        raise TypeError(f"`words` must be an iterable of words. Received: words={words!r}")
    wanted = None if words is None else set(words)
    found, numbers = [], bytearray()  # Bytes grow in place, so that all of a large file is in memory once.
    with _open(path) as file:
        for batch, vectors in file.batches(_take_first(file.entries(wanted), wanted)):
            found += batch
            numbers += vectors.tobytes()
        return found, np.frombuffer(numbers, np.float32).reshape(-1, file.dimension)


def nearest_words(vectors, path, block=None):
    """Finds the word of each vector: that of the file's vector with the greatest cosine similarity.

    The file, of which `read_word_vectors` says more, is streamed, and all of it is read.

    Args:
        vectors: Finite numbers of shape `(n, dimension)`.
        path: The file.
        block: How many of the file's vectors are compared at once, at most. `None` takes as many as 64 MiB of
            similarities allow.

    Returns:
        List of `n` words, at a tie the file's first, and their similarities, float32 of shape `(n,)`. A vector of zeros
        has no direction: its word is `<unk>` and its similarity 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The vectors are not such numbers, have another dimension than the file, or the file is damaged.

    Example:
        >>> words, similarities = nearest_words(vectors, "glove.840B.300d.zip")  # doctest: +SKIP
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not np.isfinite(vectors).all():
        raise ValueError(
            "`vectors` must be finite numbers of shape `(n, dimension)`. "
            f"Received: shape {vectors.shape} and dtype {vectors.dtype}, or numbers that are not finite"
        )
    block = max(1, _PRODUCT_NUMBERS // max(1, len(vectors))) if block is None else block
    if block < 1:
        raise ValueError(f"`block` must be at least 1. Received: block={block}")
    directions = _directions(vectors)
    words = ["<unk>"] * len(vectors)
    similarities = np.full(len(vectors), -np.inf, np.float32)
    with _open(path) as file:
        if file.dimension != vectors.shape[1]:
            raise ValueError(
                f"`vectors` must have {file.dimension} columns, as `{path}` has vectors of {file.dimension} numbers. "
                f"Received: vectors of shape {vectors.shape}"
            )
        for batch, candidates in file.batches(file.entries()):
            for start in range(0, len(batch), block):
                nearest, highest = _nearest(directions, _directions(candidates[start : start + block]))
                for row in np.flatnonzero(highest > similarities):
                    words[row], similarities[row] = batch[start + nearest[row]], highest[row]
    for row in np.flatnonzero(~vectors.any(axis=1)):
        words[row], similarities[row] = "<unk>", 0
    return words, similarities.clip(-1, 1)


def _directions(vectors):
    """Vectors of length 1, or of zeros; squares of float32 numbers neither overflow nor vanish in float64."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0).astype(np.float32)


def _nearest(directions, candidates):
    product = directions @ candidates.T
    nearest = product.argmax(axis=1)
    return nearest, product[np.arange(len(product)), nearest]


@contextlib.contextmanager
def _open(path):
    with open(path, "rb", _BUFFER_BYTES) as file, contextlib.ExitStack() as stack:
        start = file.peek(4)
        try:
            if start.startswith(_ZIP_STARTS):
                archive = stack.enter_context(zipfile.ZipFile(file))
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
                if len(names) != 1:
                    raise ValueError(
                        f"`{path}` must hold one text file of word vectors; unpack the one of them that you want. "
                        f"Received: {len(names)} files {names[:10]}"
                    )
                file = io.BufferedReader(stack.enter_context(archive.open(names[0])), _BUFFER_BYTES)
            elif start.startswith(b"\x1f\x8b"):
                file = io.BufferedReader(stack.enter_context(gzip.open(file)), _BUFFER_BYTES)
            yield _Reader(file, path)
        except (EOFError, NotImplementedError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"`{path}` cannot be read. Received: {error}") from error


class _Reader:
    """One pass over the lines of a file.

    An entry is a line that is wanted: its number, its word as str, and its numbers as bytes, divided by single spaces.
    """

    def __init__(self, file, path):
        if b"\0" in file.peek():
            raise ValueError(
                f"`{path}` must be a text file of word vectors; convert word2vec's binary format (`.bin`) to text, as "
                "gensim's `save_word2vec_format` does. Received: bytes that are no text"
            )
        self._path = path
        lines = self._number_lines(file)
        head = list(itertools.islice(lines, 2))
        first = head[0][1] if head else b""
        header = re.fullmatch(rb"(\d{1,18}) (\d{1,18})\s*", first)
        if header:
            self._count, self.dimension = map(int, header.groups())
            head = head[1:]
        else:
            _, *fields = _strip(first).split(b" ")
            self._count, self.dimension = None, sum(1 for _ in itertools.takewhile(is_number, reversed(fields)))
        if not head:
            raise ValueError(f"`{path}` holds no word vectors. Received: {'a header alone' if header else 'no lines'}")
        if not self.dimension:
            raise ValueError(f"`{path}`, line 1: expected a word and its numbers. Received: {_quote(first)}")
        for number, line in head:  # The second line, wanted or not, shows whether the first told the dimension.
            self._split(number, line)
        self._lines = itertools.chain(head, lines)

    def entries(self, wanted=None):
        """Yields the entries of all words, or of those lines that may have a wanted word."""
        # A look at the first part of the word is all that most lines cost.
        starts = None if wanted is None else {word.encode(errors="surrogatepass").split(b" ")[0] for word in wanted}
        number = 0
        for number, line in self._lines:
            if starts is None or line[: line.find(b" ")] in starts:
                yield number, *self._split(number, line)
        if wanted is None and self._count not in (None, number - 1):
            raise ValueError(
                f"`{self._path}` must hold {self._count} words, as its first line says. Received: {number - 1}"
            )

    def batches(self, entries):
        """Yields the words and the vectors of many entries at a time."""
        batch, size = [], 0
        for entry in entries:
            batch.append(entry)
            size += len(entry[2])
            if size >= _BATCH_BYTES:
                yield self._parse(batch)
                batch, size = [], 0
        if batch:
            yield self._parse(batch)

    def _number_lines(self, file):
        for number, line in enumerate(iter(functools.partial(file.readline, _LINE_BYTES), b""), start=1):
            if len(line) == _LINE_BYTES:
                raise ValueError(
                    f"`{self._path}`, line {number}: expected fewer than {_LINE_BYTES} bytes. "
                    f"Received: a longer line, {_quote(line)}"
                )
            yield number, line

    def _split(self, number, line):
        line = _strip(line)
        if line.count(b" ") == self.dimension:
            word, numbers = line.split(b" ", 1)
        else:
            word, *fields = line.rsplit(b" ", self.dimension)
            if len(fields) < self.dimension or is_number(word.rpartition(b" ")[2]):
                raise self._error(number, line, f"{line.count(b' ') + 1} parts, ")
            numbers = b" ".join(fields)
        return word.decode(errors="backslashreplace"), numbers

    def _parse(self, batch):
        lines, words, numbers = zip(*batch, strict=True)
        vectors = _parse_numbers(b" ".join(numbers)).reshape(-1, self.dimension)
        wrong = np.argwhere(~np.isfinite(vectors))
        if len(wrong):
            row, column = wrong[0]
            raise self._error(lines[row], numbers[row].split(b" ")[column], f"{words[row]!r} with the number ")
        return words, vectors

    def _error(self, number, text, received):
        source = "line 1" if self._count is None else "the header"
        return ValueError(
            f"`{self._path}`, line {number}: expected a word and {self.dimension} finite numbers, as {source} has it, "
            f"with single spaces between. Received: {received}{_quote(text)}"
        )


def _take_first(entries, wanted):
    """The entries of wanted words, each word once, as long as any is missing."""
    seen = set()
    for entry in entries if wanted != seen else ():
        if entry[1] not in seen and (wanted is None or entry[1] in wanted):
            seen.add(entry[1])
            yield entry
            if seen == wanted:
                return


def _quote(text):
    return repr(text[:60].decode(errors="backslashreplace"))


def _strip(line):
    return line.rstrip(b" \r\n")


def _parse_numbers(text):
    """The numbers of a text, float32, with NaN for what is none; single spaces are between.

    Numbers like `-0.25`, with one digit before the point and 1 to 14 behind, are read all at once: a whole number
    divided by a power of ten. Both are exact in float64, so that the result is what `float` gives. It reads the others.
    """
    text = b"0" * 16 + b" " + text + b" "
    characters = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero((characters == ord(" ")) | (characters == ord(".")))
    spaces = np.flatnonzero(characters[marks] == ord(" "))
    starts, ends = marks[spaces[:-1]] + 1, marks[spaces[1:]]
    points = marks[spaces[1:] - 1]
    negative = characters[starts] == ord("-")
    whole = characters[points - 1] - ord("0")
    decimals = ends - points - 1
    regular = (np.diff(spaces) == 2) & (points - starts - negative == 1) & (whole < 10)
    regular &= (decimals > 0) & (decimals < 15)
    decimals[~regular] = 1

    values = _parse_digits(text, ends, np.minimum(decimals, 8))
    if decimals.max() > 8:
        values += _parse_digits(text, ends - 8, np.maximum(decimals - 8, 0)) * 1e8
    powers = (10.0 ** np.arange(15))[decimals]
    values = (whole * powers + values) / powers
    np.negative(values, out=values, where=negative)
    for row in np.flatnonzero(~regular | np.isnan(values)).tolist():
        field = text[starts[row] : ends[row]]
        values[row] = float(field) if is_number(field) else np.nan
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _parse_digits(text, ends, counts):
    """The whole numbers that the last `counts` (0 to 8) bytes before `ends` spell, float64; NaN where one is no digit.

    The eight bytes are one integer, whose lowest byte is the first digit; neighbours are joined to numbers of two, of
    four and of eight digits.
    """
    digits = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))[ends - 8]
    unused = (64 - 8 * counts).astype(np.uint64)
    digits = (digits ^ 0x3030303030303030) >> unused << unused
    is_wrong = (digits | (digits + 0x0606060606060606)) & 0xF0F0F0F0F0F0F0F0 != 0
    for bits, mask in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
        digits = (digits & mask) * 10 ** (bits // 8) + (digits >> bits & mask)
    return np.where(is_wrong, np.nan, digits)
