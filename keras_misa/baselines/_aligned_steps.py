"""Modalities side by side, step by step."""

import functools
import operator

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class AlignedSteps(keras.layers.Layer):
    """The steps of all modalities as one sequence: step t has the vectors of each.

    A row is as long as the longest of its modalities; where one has ended, or is missing, it is zeros.

    Args:
        modalities: names, in the order in which the vectors stand.

    Call arguments:
        steps: dict, modality → dict of `values`, `(batch, time, size)`, and `lengths`, `(batch,)`, as a `StepEncoder`
            gives them; `time` may differ.

    Returns:
        Dict of `values`, `(batch, longest time, sum of sizes)`, and `lengths`, `(batch,)`.
    """

    def __init__(self, modalities, **kwargs):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def call(self, steps):
        values, lengths = align([steps[m] for m in self.modalities])
        return {"values": ops.concatenate(values, axis=-1), "lengths": lengths}

    def compute_output_spec(self, steps):
        shapes = [steps[m]["values"].shape for m in self.modalities]
        times = [shape[1] for shape in shapes]
        time = None if None in times else max(times)
        return {
            "values": keras.KerasTensor((shapes[0][0], time, sum(s[2] for s in shapes)), self.compute_dtype),
            "lengths": keras.KerasTensor((shapes[0][0],), "int32"),
        }

    def get_config(self):
        return {**super().get_config(), "modalities": self.modalities}


def align(sequences):
    """Sequences of equal time, and the lengths of the rows: those of the longest in each.

    Args:
        sequences: list of dicts of `values` and `lengths`.

    Returns:
        Pair: list of `(batch, longest time, size)`, and `(batch,)`.
    """
    times = [ops.shape(sequence["values"])[1] for sequence in sequences]
    longest = max(times) if all(isinstance(time, int) for time in times) else functools.reduce(ops.maximum, times)

    def extend(values, time):
        rows, _, size = ops.shape(values)
        return ops.concatenate([values, ops.zeros((rows, longest - time, size), values.dtype)], axis=1)

    same = all(operator.is_(time, times[0]) for time in times)
    values = [
        sequence["values"] if same else extend(sequence["values"], time)
        for sequence, time in zip(sequences, times, strict=True)
    ]
    return values, functools.reduce(ops.maximum, [sequence["lengths"] for sequence in sequences])
