"""What a request holds for each modality, and how that becomes a batch.

All of it is TensorFlow ops, which a SavedModel keeps. A row that cannot be used is told from the others: whatever is in
it, theirs is the same.
"""

import numpy as np
import tensorflow as tf

MAX_BYTES = 2**20  # of a sentence


class SequenceInput:
    """A modality whose steps the request holds: vectors, or ids of words or word pieces.

    Args:
        modality: its name, and that of the input.
        dim: size of a step's vector; `None` for ids.
        vocabulary_size: number of ids; `None` for vectors.
        max_length: the most steps of an utterance.
        may_miss: whether an utterance may be without this modality, its length 0.
    """

    def __init__(self, modality, dim=None, vocabulary_size=None, max_length=2048, may_miss=False):
        self.modality = modality
        self.dim = dim
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.may_miss = may_miss
        self.resources = ()
        self._dtype = tf.float32 if dim else tf.int32

    def specs(self, encoded):
        """Dict, input name → `tf.TensorSpec`."""
        if encoded:
            return {self.modality: tf.TensorSpec((None,), tf.string)}
        shape = (None, None, self.dim) if self.dim else (None, None)
        return {
            self.modality: tf.TensorSpec(shape, self._dtype),
            f"{self.modality}_lengths": tf.TensorSpec((None,), tf.int32),
        }

    def describe(self, encoded):
        """Dict, input name → what it is, in words."""
        step = f"{self.dim} features" if self.dim else f"an id below {self.vocabulary_size}"
        few = "0 (missing)" if self.may_miss else "1"
        if encoded:
            content = f"{self._dtype.name}, little-endian, row by row: {few} to {self.max_length} steps of {step}"
            return {self.modality: f"an utterance's array as bytes, {content}"}
        return {
            self.modality: f"(utterance, step{', feature' if self.dim else ''}): each step {step}; what stands at and "
            "beyond an utterance's length is not looked at",
            f"{self.modality}_lengths": f"number of steps of each utterance, {few} to {self.max_length}",
        }

    def sample(self, encoded, rows, steps):
        """Dict, input name → array: rows of noise, 1 to `steps` steps of it."""
        steps = min(steps, self.max_length)
        rng = np.random.default_rng(0)
        if self.dim:
            values = rng.standard_normal((rows, steps, self.dim)).astype("<f4")
        else:
            values = rng.integers(self.vocabulary_size, size=(rows, steps)).astype("<i4")
        lengths = rng.integers(1, steps + 1, rows).astype("int32")
        if encoded:
            steps = [row[:length].tobytes() for row, length in zip(values, lengths, strict=True)]
            return {self.modality: np.array(steps, object)}
        return {self.modality: values, f"{self.modality}_lengths": lengths}

    def read(self, tensors, encoded):
        """Values, lengths and problems of the rows, from the request's tensors.

        Args:
            tensors: dict, input name → tensor.
            encoded: whether arrays are strings of bytes.

        Returns:
            Triple of tensors: `(batch, time, dim)` or `(batch, time)`; `(batch,)`, int32; and `(batch,)`, strings,
            empty where nothing is wrong.
        """
        values, lengths, problems = self._decode(tensors) if encoded else self._take(tensors)
        fewest = 0 if self.may_miss else 1
        in_range = (lengths >= fewest) & (lengths <= self.max_length)
        problems = _where_none(
            problems, ~in_range, self._say("length ", lengths, f"; expected {fewest} to {self.max_length}")
        )
        real = tf.sequence_mask(lengths, tf.shape(values)[1])
        if self.dim:
            wrong = real & ~tf.reduce_all(tf.math.is_finite(values), axis=2)
            message = "NaN or infinite; expected finite numbers"
        else:
            wrong = real & ((values < 0) | (values >= self.vocabulary_size))
            message = f"an id out of range; expected 0 to {self.vocabulary_size - 1}"
        return values, lengths, _where_none(problems, tf.reduce_any(wrong, axis=1), self._say(message))

    def _take(self, tensors):
        values, lengths = tensors[self.modality], tensors[f"{self.modality}_lengths"]
        if self.dim:  # A session takes any shape, whatever the signature says; only this op does not rely on it.
            received = tf.shape(tf.raw_ops.PlaceholderWithDefault(input=values, shape=[None] * 3))[-1]
            with tf.control_dependencies(
                [tf.debugging.assert_equal(received, self.dim, f"{self.modality}: expected {self.dim} features a step")]
            ):
                values = tf.identity(values)
        time = tf.shape(values)[1]
        return (
            values,
            lengths,
            _where_none(
                tf.zeros_like(lengths, tf.string),
                lengths > time,
                self._say("length ", lengths, "; expected no more than the ", time, " steps that were sent"),
            ),
        )

    def _decode(self, tensors):
        encoded = tensors[self.modality]
        sizes = tf.strings.length(encoded)
        step = 4 * (self.dim or 1)
        what = f"{self._dtype.name} of {self.dim} features a step" if self.dim else f"{self._dtype.name} ids"
        problems = _where_none(
            tf.zeros_like(encoded),
            sizes % step != 0,
            self._say("", sizes, f" bytes; expected a multiple of {step}, {what}"),
        )
        lengths = sizes // step
        usable = (problems == "") & (lengths <= self.max_length)
        time = tf.maximum(tf.reduce_max(tf.where(usable, lengths, 0)), 1)
        values = tf.io.decode_raw(tf.where(usable, encoded, ""), self._dtype, fixed_length=time * step)
        shape = [tf.shape(encoded)[0], time] + ([self.dim] if self.dim else [])
        return tf.reshape(values, shape), lengths, problems

    def _say(self, *parts):
        return _say(self.modality, *parts)


class SentenceInput:
    """A modality that comes as sentences, one string an utterance.

    Args:
        modality: its name, and that of the input.
        text: what makes ids of words, a `WordTable` or a `WordPieceTokenizer`.
        max_length: the most words of an utterance.
        may_miss: whether an utterance may be without this modality, its sentence empty.
    """

    def __init__(self, modality, text, max_length=2048, may_miss=False):
        self.modality = modality
        self.text = text
        self.max_length = max_length
        self.may_miss = may_miss
        self.resources = text.resources

    def specs(self, encoded):
        """Dict, input name → `tf.TensorSpec`."""
        return {self.modality: tf.TensorSpec((None,), tf.string)}

    def describe(self, encoded):
        """Dict, input name → what it is, in words."""
        few = "0 (missing)" if self.may_miss else "1"
        meaning = f"a sentence in UTF-8, {few} to {self.max_length} words with white space between them"
        if most := getattr(self.text, "max_length", None):
            meaning += f"; what is over {most} {self.text.unit} is cut off, as in training"
        return {self.modality: meaning}

    def sample(self, encoded, rows, steps):
        """Dict, input name → array: rows of words."""
        numbers = np.random.default_rng(0).integers(len(self.text.vocabulary), size=(rows, min(steps, self.max_length)))
        return {self.modality: np.array([" ".join(self.text.vocabulary[n] for n in row) for row in numbers], object)}

    def read(self, tensors, encoded):
        """Ids, lengths and problems of the rows; see `SequenceInput.read`."""
        sentences = tensors[self.modality]
        sizes = tf.strings.length(sentences)
        problems = _where_none(
            tf.zeros_like(sentences),
            sizes > MAX_BYTES,
            _say(self.modality, "", sizes, f" bytes; expected at most {MAX_BYTES}"),
        )
        sentences = tf.where(problems == "", sentences, "")
        readable = tf.strings.unicode_transcode(sentences, "UTF-8", "UTF-8")  # what is no UTF-8 is replaced
        problems = _where_none(problems, readable != sentences, _say(self.modality, "expected UTF-8"))
        # As Python's `str.split()`, which training text went through.
        words = tf.strings.split(tf.strings.regex_replace(readable, r"[\t-\r\x1c-\x20\x{85}\p{Z}]+", " "))
        counts = tf.cast(words.row_lengths(), tf.int32)
        fewest = 0 if self.may_miss else 1
        problems = _where_none(
            problems,
            (counts < fewest) | (counts > self.max_length),
            _say(self.modality, "", counts, f" words; expected {fewest} to {self.max_length}"),
        )
        words = _keep_rows(words, problems == "")
        ids = self.text.encode_batch(words)
        lengths = tf.where(counts > 0, tf.cast(ids.row_lengths(), tf.int32), 0)
        return ids.to_tensor(), lengths, problems


def combine_problems(problems):
    """The problems of an utterance in its several modalities as one string."""
    total = problems[0]
    for other in problems[1:]:
        both = tf.strings.join([total, other], "; ")
        total = tf.where(total == "", other, tf.where(other == "", total, both))
    return total


def fit(values, lengths, usable):
    """A batch without what cannot be used: such rows are one step of zeros, and time is as long as it has to be."""
    lengths = tf.where(usable, lengths, 1)
    time = tf.maximum(tf.reduce_max(tf.concat([lengths, [1]], 0)), 1)
    values = values[:, :time]
    padding = [[0, 0], [0, time - tf.shape(values)[1]]] + [[0, 0]] * (len(values.shape) - 2)
    values = tf.pad(values, padding)
    real = tf.sequence_mask(lengths, time) & tf.expand_dims(usable, 1)
    real = tf.reshape(real, tf.concat([tf.shape(real), [1] * (len(values.shape) - 2)], 0))
    return {"values": tf.where(real, values, tf.zeros_like(values)), "lengths": lengths}


def _keep_rows(ragged, kept):
    """The other rows become empty."""
    rows = ragged.value_rowids()
    kept = tf.gather(kept, rows)
    values = tf.boolean_mask(ragged.values, kept)
    return tf.RaggedTensor.from_value_rowids(values, tf.boolean_mask(rows, kept), ragged.nrows(), validate=False)


def _where_none(problems, wrong, message):
    """Adds a problem to those rows that have none yet."""
    return tf.where(wrong & (problems == ""), message, problems)


def _say(modality, *parts):
    return tf.strings.join([f"{modality}: ", *(p if isinstance(p, str) else tf.as_string(p) for p in parts)])
