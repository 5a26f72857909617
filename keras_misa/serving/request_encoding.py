"""Utterances as people have them, as the tensors of a request."""

import numpy as np


class RequestEncoding:
    """What a model's modalities are made of, and how they are written.

    Args:
        modalities: dict, modality → `{"kind": "vectors", "dim": 47}`, `{"kind": "ids"}` or `{"kind": "sentence"}`.
    """

    def __init__(self, modalities):
        self.modalities = modalities

    @property
    def nothing(self):
        """An utterance of nothing, which a model refuses."""
        return {modality: self._read(modality, None) for modality in self.modalities}

    def read(self, utterance):
        """The values of an utterance.

        Args:
            utterance: dict, modality → value; `None` is an utterance's lack of this modality.

        Returns:
            Dict, modality → array or, for sentences, bytes.

        Raises:
            ValueError: If the utterance cannot be used.
        """
        expected = ", ".join(self.modalities)
        if unknown := [modality for modality in utterance if modality not in self.modalities]:
            raise ValueError(f"no such modality; the model has {expected}. Received: modality={unknown[0]!r}")
        if missing := [modality for modality in self.modalities if modality not in utterance]:
            raise ValueError(
                f"{missing[0]} is missing; expected {expected} (None where an utterance has no such modality, for a "
                f"model that was trained for it). Received: modalities={list(utterance)}"
            )
        return {modality: self._read(modality, utterance[modality]) for modality in self.modalities}

    def encode(self, rows):
        """Values of utterances as byte strings, for the signature `encoded`."""
        return {
            modality: [row[modality] if isinstance(row[modality], bytes) else row[modality].tobytes() for row in rows]
            for modality in self.modalities
        }

    def pad(self, rows):
        """Values of utterances as padded tensors and lengths, for the other signatures."""
        inputs = {}
        for modality in self.modalities:
            values = [row[modality] for row in rows]
            if isinstance(values[0], bytes):
                inputs[modality] = values
                continue
            lengths = np.array([len(value) for value in values], np.int32)
            padded = np.zeros((len(rows), max(1, lengths.max()), *values[0].shape[1:]), values[0].dtype)
            for row, value in zip(padded, values, strict=True):
                row[: len(value)] = value
            inputs |= {modality: padded, f"{modality}_lengths": lengths}
        return inputs

    def _read(self, modality, value):
        kind = self.modalities[modality]["kind"]
        if kind == "sentence":
            return _read_sentence(modality, value)
        if kind == "ids":
            return _read_ids(modality, value)
        return _read_vectors(modality, value, self.modalities[modality]["dim"])


def _read_sentence(modality, value):
    if value is None:
        return b""
    words = value
    if not isinstance(value, str):
        if not isinstance(value, list | tuple | np.ndarray) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{modality}: expected a sentence or a list of words. {_received(modality, value)}")
        words = " ".join(value)
    if not words.split():
        raise ValueError(f"{modality}: expected one word or more. {_received(modality, value)}")
    try:
        return words.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{modality}: expected Unicode. {_received(modality, value)}") from error


def _read_ids(modality, value):
    if value is None:
        return np.zeros(0, "<i4")
    array = _array(modality, value, "ids of words, (steps,), whole numbers")
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ValueError(f"{modality}: expected ids of words, (steps,), whole numbers. {_received(modality, value)}")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        wrong = array[(array < 0) | (array > np.iinfo(np.int32).max)][0]
        raise ValueError(f"{modality}: expected ids of 0 or more, of 32 bits. Received: {modality} with {wrong}")
    return np.ascontiguousarray(array, "<i4")


def _read_vectors(modality, value, dim):
    if value is None:
        return np.zeros((0, dim), "<f4")
    array = _array(modality, value, f"numbers, (steps, {dim})")
    if array.ndim != 2 or array.shape[1] != dim or not len(array) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{modality}: expected numbers, (steps, {dim}), one step or more. {_received(modality, value)}"
        )
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, "<f4")
    if not np.isfinite(array).all():
        step, feature = map(int, np.argwhere(~np.isfinite(array))[0])
        wrong = f"{modality}[{step}][{feature}]={array[step, feature]}"
        raise ValueError(f"{modality}: expected finite numbers of 32 bits. Received: {wrong}")
    return array


def _array(modality, value, expected):
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # of lists of different lengths, say
        raise ValueError(f"{modality}: expected {expected}. {_received(modality, value)}") from error


def _received(modality, value):
    """What a value is, in a few words."""
    if isinstance(value, str | bytes):
        shown = repr(value[:40])
    else:
        try:
            array = np.asarray(value)
            shown = f"{array.dtype} of shape {array.shape}"
        except (ValueError, TypeError):
            shown = f"a {type(value).__name__}, ragged"
    return f"Received: {modality}={shown}"
