"""UR-FUNNY, version 1, as its authors publish it."""

import collections
import functools
import hashlib
import numbers
import pathlib
import reprlib

import numpy as np

from keras_misa._files import atomic_path
from keras_misa.data._restricted_unpickler import read_pickle
from keras_misa.data.word_table import SPECIAL_WORDS, WordTable

FILES = {
    "folds": "data_folds.pkl",
    "labels": "humor_label_sdk.pkl",
    "words": "word_embedding_indexes_sdk.pkl",
    "word_list": "word_embedding_list.pkl",
    "visual": "openface_features_sdk.pkl",
    "acoustic": "covarep_features_sdk.pkl",
}
SPLITS = {"train": ("train",), "validation": ("dev", "valid", "validation"), "test": ("test",)}
KEYS = {"words": "embedding_indexes", "visual": "features", "acoustic": "features"}  # after `punchline_`, `context_`
DOUBTFUL_SIMILARITY = 0.99
DOUBTFUL_WORDS = 10  # so many are listed


class UrFunnyV1:
    """The six files of UR-FUNNY V1: punchlines and their contexts, aligned by word, under integer ids.

    The files hold the words' vectors and not the words. As in the paper, a vector stands for the word of GloVe that is
    nearest by cosine. Without a file of GloVe a word is called `#` and its index, and its similarity is 0.

    The feature files are read when the first example is asked for, one after the other; what is used of them stays in
    memory as float32. The files of version 1 hold lists of numbers, which take some GB while such a file is read.

    Args:
        folder: the folder with the files.
        visual_dim: number of visual features expected.
        acoustic_dim: number of acoustic features expected.
        context: whether examples also have `context`, the sentences before the punchline: a dict of `words`,
            `word_similarities`, `visual` and `acoustic`, one row for each of its `W` words, which may be none, and
            `sentence_lengths`, int32 of shape `(S,)`, words. A sentence that cannot be used is left out as a row
            `<id> context sentence <number from 0>`.
        word_vectors: a text file of GloVe, or `None`.
        cache_dir: folder that keeps the words once they are found, or `None`.

    Attributes:
        files: dict, role (`folds`, `labels`, `words`, `word_list`, `visual`, `acoustic`, and `word_vectors` if it is
            given) → path.
        splits: those that have an id.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged, is a program, or has another form, or an id stands in two folds.

    Example:
        >>> source = UrFunnyV1("ur_funny", word_vectors="glove.840B.300d.txt")  # doctest: +SKIP
    """

    kind = "ur_funny_v1"

    def __init__(self, folder, visual_dim=75, acoustic_dim=81, context=False, word_vectors=None, cache_dir=None):
        self.files = self.find(folder)
        if missing := [name for role, name in FILES.items() if role not in self.files]:
            found = sorted(path.name for path in pathlib.Path(folder).iterdir())
            raise FileNotFoundError(
                f"`{folder}` must hold the six files of UR-FUNNY V1. Missing: {', '.join(missing)}. "
                f"Received: {found[:10]}"
            )
        if word_vectors is not None:
            self.files["word_vectors"] = pathlib.Path(word_vectors)
            if not self.files["word_vectors"].is_file():
                raise FileNotFoundError(
                    f"There is no file of word vectors. Received: word_vectors={str(word_vectors)!r}"
                )
        self._widths = {"visual": visual_dim, "acoustic": acoustic_dim}
        self._context = context
        self._cache_dir = cache_dir
        self._folds = self._read_folds()
        self._labels = self._read_labels()
        self._unused = sorted(set(self._labels).difference(*self._folds.values()))
        self.splits = tuple(self._folds)

    @classmethod
    def find(cls, folder):
        """Dict, role → path, of the files that are there under their names."""
        paths = {role: pathlib.Path(folder, name) for role, name in FILES.items()}
        return {role: path for role, path in paths.items() if path.is_file()}

    def examples(self, split, report):
        """Yields the utterances of a split; see `keras_misa.data.sources`."""
        for note in self._notes:
            report.note(note)
        if split == self.splits[0]:
            for number in self._unused:
                report.drop(str(number), "in no fold")
        replaced = collections.Counter()
        for number in self._folds[split]:
            if missing := self._absent_from(number):
                report.drop(str(number), f"missing in {' and '.join(missing)}")
                continue
            punchline = {role: self._sentences[role][number][0] for role in KEYS}
            if problem := _find_problem(punchline):
                report.drop(str(number), *problem)
                continue
            for modality in self._widths:
                report.look(modality, punchline[modality])
            example = {"segment_id": str(number), "video_id": str(number), "label": self._labels[number]}
            example |= self._make_features(punchline, replaced)
            if self._context:
                example["context"] = self._make_context(number, report, replaced)
            yield example
        for modality, count in replaced.items():
            report.note(f"{split}: {count} values of {modality} that are no finite float32 were replaced by 0.")

    def word_table(self):
        """The words that are used, with the vectors of the files.

        Returns:
            `WordTable` of the distinct words in the order of their indexes. Of several vectors with one word the most
            similar stands for it. The vectors of `<unk>` and `<pad>` are zeros.
        """
        used, words, similarities = self._words
        rows = {}
        for row in np.argsort(-similarities, kind="stable").tolist():
            if words[row] not in SPECIAL_WORDS:
                rows.setdefault(words[row], row)
        rows = sorted(rows.values())
        vectors = self._vectors[used[rows]]
        return WordTable(
            [*SPECIAL_WORDS, *(words[row] for row in rows)],
            np.concatenate([np.zeros((len(SPECIAL_WORDS), vectors.shape[1]), vectors.dtype), vectors]),
            origin="the dataset's own",
        )

    @functools.cached_property
    def _vectors(self):
        """Word vectors by index."""
        path = self.files["word_list"]
        return _read_array(f"`{path}`", read_pickle(path), (None, None), np.float32)

    @functools.cached_property
    def _sentences(self):
        """Dict, role → id → list of arrays: the punchline and, where it is asked for, the sentences of its context."""
        return {role: self._read_sentences(role) for role in KEYS}

    @functools.cached_property
    def _words(self):
        """The indexes that are used, their words and the similarities of these."""
        sentences = [sentence for part in self._sentences["words"].values() for sentence in part]
        used = np.unique(np.concatenate([np.zeros(0, np.int64), *sentences]))
        vectors = self._vectors[used]
        strange = used[~np.isfinite(vectors).all(axis=1)].tolist()
        _require(not strange, f"`{self.files['word_list']}`", "finite numbers", f"others at the indexes {strange[:5]}")
        if "word_vectors" not in self.files:
            return used, [f"#{index}" for index in used], np.zeros(len(used), np.float32)
        return used, *_find_words(vectors, self.files["word_vectors"], self._cache_dir)

    @functools.cached_property
    def _notes(self):
        """What there is to say of the files as a whole."""
        used, words, similarities = self._words
        notes = [
            "The files name no video and no speaker: each utterance counts as a video of its own, and `--split-by` "
            "cannot keep speakers apart."
        ]
        if self._unused:
            notes.append(f"{len(self._unused)} ids with a label are in no fold.")
        if "word_vectors" not in self.files:
            return [
                *notes,
                "The files hold the words' vectors, not the words: there is no transcript. Give a text file of GloVe "
                "(`word_vectors`, such as glove.840B.300d.txt) to have the nearest words.",
            ]
        shared = [count for count in collections.Counter(words).values() if count > 1]
        if shared:
            notes.append(f"{sum(shared)} of {len(used)} word vectors share {len(shared)} words.")
        doubtful = np.flatnonzero(similarities < DOUBTFUL_SIMILARITY)
        if len(doubtful):
            worst = doubtful[np.argsort(similarities[doubtful], kind="stable")[:DOUBTFUL_WORDS]]
            listed = ", ".join(f"{words[row]!r} ({similarities[row]:.3f})" for row in worst)
            share = len(doubtful) / len(used)
            notes.append(
                f"{len(doubtful)} of {len(used)} word vectors ({share:.1%}) have no word with a cosine of "
                f"{DOUBTFUL_SIMILARITY} or more; the worst: {listed}."
            )
        return notes

    def _absent_from(self, number):
        tables = {"labels": self._labels, **self._sentences}
        return [FILES[role] for role, table in tables.items() if number not in table]

    def _make_features(self, parts, replaced):
        """Words, their similarities, and finite features; `replaced` counts the values that are not."""
        used, words, similarities = self._words
        rows = np.searchsorted(used, parts["words"])
        features = {"words": [words[row] for row in rows], "word_similarities": similarities[rows]}
        for modality in self._widths:
            is_finite = np.isfinite(parts[modality])
            features[modality] = np.where(is_finite, parts[modality], np.float32(0))
            if not is_finite.all():
                replaced[modality] += int((~is_finite).sum())
        return features

    def _make_context(self, number, report, replaced):
        contexts = {role: self._sentences[role][number][1:] for role in KEYS}
        counts = {role: len(sentences) for role, sentences in contexts.items()}
        kept = []
        if len(set(counts.values())) > 1:
            report.drop(f"{number} context", "context: numbers of sentences differ", _describe(counts))
        else:
            for position, sentence in enumerate(zip(*contexts.values(), strict=True)):
                sentence = dict(zip(KEYS, sentence, strict=True))
                if problem := _find_problem(sentence):
                    report.drop(f"{number} context sentence {position}", f"context: {problem[0]}", problem[1])
                else:
                    kept.append(sentence)
        empty = {role: self._sentences[role][number][0][:0] for role in KEYS}
        joined = {role: np.concatenate([empty[role], *(sentence[role] for sentence in kept)]) for role in KEYS}
        lengths = np.array([len(sentence["words"]) for sentence in kept], np.int32)
        return {**self._make_features(joined, replaced), "sentence_lengths": lengths}

    def _read_folds(self):
        """Dict, split → list of ids."""
        path = self.files["folds"]
        folds = read_pickle(path)
        names = [name for group in SPLITS.values() for name in group]
        is_dict = isinstance(folds, dict)
        _require(
            is_dict and set(folds) <= set(names),
            f"`{path}`",
            "a dict of train, dev and test",
            reprlib.repr(list(folds)) if is_dict else f"a {type(folds).__name__}",
        )
        splits, fold_of = {}, {}
        for split, group in SPLITS.items():
            for name in filter(folds.__contains__, group):
                ids = _read_array(f"`{path}`, {name}", folds[name], (None,), np.int64).tolist()
                for number in ids:
                    other = fold_of.get(number)
                    _require(other is None, f"`{path}`", "each id once", f"{number} in {other} and in {name}")
                    fold_of[number] = name
                splits[split] = splits.get(split, []) + ids
        _require(fold_of, f"`{path}`", "ids of utterances", "none")
        return {split: ids for split, ids in splits.items() if ids}

    def _read_labels(self):
        """Dict, id → class."""
        labels = self._read_dict("labels")
        for number, label in labels.items():
            is_class = isinstance(label, numbers.Real) and label in (0, 1)
            _require(is_class, f"`{self.files['labels']}`, id {number}", "a label of 0 or 1", reprlib.repr(label))
        return {int(number): int(label) for number, label in labels.items()}

    def _read_dict(self, role):
        where = f"`{self.files[role]}`"
        table = read_pickle(self.files[role])
        _require(isinstance(table, dict), where, "a dict by id", f"a {type(table).__name__}")
        strange = [number for number in table if not isinstance(number, numbers.Integral)]
        _require(not strange, where, "whole numbers as ids", reprlib.repr(strange))
        return table

    def _read_sentences(self, role):
        table = self._read_dict(role)
        ids = [number for fold in self._folds.values() for number in fold if number in table]
        # What is read leaves the table, so that its lists do not stay in memory beside the arrays.
        return {number: self._read_entry(role, number, table.pop(number)) for number in ids}

    def _read_entry(self, role, number, entry):
        where = f"`{self.files[role]}`, id {number}"
        punchline, context = f"punchline_{KEYS[role]}", f"context_{KEYS[role]}"
        needed = [punchline, context] if self._context else [punchline]
        is_entry = isinstance(entry, dict) and all(key in entry for key in needed)
        received = reprlib.repr(list(entry)) if isinstance(entry, dict) else f"a {type(entry).__name__}"
        _require(is_entry, where, f"a dict with {' and '.join(needed)}", received)
        sentences = {punchline: entry[punchline]}
        if self._context:
            received = f"a {type(entry[context]).__name__}"
            is_list = isinstance(entry[context], list | tuple) or np.ndim(entry[context]) > 0
            _require(is_list, f"{where}, {context}", "a list of sentences", received)
            sentences.update((f"{context}, sentence {i}", sentence) for i, sentence in enumerate(entry[context]))
        return [self._read_sentence(role, f"{where}, {name}", sentence) for name, sentence in sentences.items()]

    def _read_sentence(self, role, where, sentence):
        if role != "words":
            return _read_array(where, sentence, (None, self._widths[role]), np.float32)
        indexes = _read_array(where, sentence, (None,), np.int64)
        count = len(self._vectors)
        outside = indexes[(indexes < 0) | (indexes >= count)]
        expected = f"indexes of the {count} vectors in `{self.files['word_list']}`"
        _require(not len(outside), where, expected, outside[:5].tolist())
        return indexes


def _require(condition, where, expected, received):
    if not condition:
        raise ValueError(f"{where}: expected {expected}. Received: {received}")


def _read_array(where, value, shape, dtype):
    """The array that a file holds as one or as lists; `None` in `shape` is any size, and an empty list has no rows."""
    what, kinds = ("whole numbers", "iu") if dtype == np.int64 else ("numbers", "fiu")
    expected = f"{what} of shape {shape}"
    try:
        array = np.asarray(value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value)
    except ValueError as error:  # NumPy's word for rows of different lengths.
        raise ValueError(f"{where}: expected {expected}. Received: rows of different lengths") from error
    if array.shape[:1] == (0,):
        return np.zeros([size or 0 for size in (0, *shape[1:])], dtype)
    is_shaped = array.ndim == len(shape) and all(
        n in (None, given) for n, given in zip(shape, array.shape, strict=True)
    )
    received = f"shape {array.shape}, dtype {array.dtype}"
    _require(is_shaped and array.dtype.kind in kinds, where, expected, received)
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite and is treated as such.
        return array.astype(dtype)


def _find_problem(sentence):
    """Why a sentence cannot be used, `(reason, detail)`, or `None`."""
    lengths = {role: len(part) for role, part in sentence.items()}
    if len(set(lengths.values())) > 1:
        return "lengths differ", _describe(lengths)
    return None if lengths["words"] else ("empty", "no word")


def _describe(counts):
    return ", ".join(f"{count} {role}" for role, count in counts.items())


def _find_words(vectors, path, cache_dir):
    """Nearest words and their similarities, from the cache if it has them."""
    from keras_misa.data.word_vectors import nearest_words

    if cache_dir is None:
        return nearest_words(vectors, path)
    stat = path.stat()
    key = hashlib.sha256(vectors.tobytes())
    key.update(repr((vectors.shape, path.name, stat.st_size, stat.st_mtime_ns)).encode())
    cache = pathlib.Path(cache_dir, f"nearest_words-{key.hexdigest()[:32]}.npz")
    found = _read_cache(cache, len(vectors))
    if found is None:
        found = nearest_words(vectors, path)
        with atomic_path(cache) as temporary:
            np.savez(temporary, words=np.array(found[0], str), similarities=found[1])
    return found


def _read_cache(path, count):
    """The words and similarities of a cache file, `None` if there is none or it is damaged."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            words, similarities = file["words"], file["similarities"]
    except Exception:  # Damaged bytes can fail as anything; all of it means that the words must be found again.
        return None
    is_whole = words.shape == similarities.shape == (count,) and words.dtype.kind == "U"
    is_whole = is_whole and similarities.dtype == np.float32 and np.isfinite(similarities).all()
    return (words.tolist(), similarities) if is_whole else None
