"""The published code's batch as ours."""

import numpy as np


def model_inputs(words, visual, acoustic, lengths):
    """Make the batch of a converted model from padded arrays.

    Args:
        words: integer array `(batch, time)`, word ids.
        visual: array `(batch, time, visual_dim)`.
        acoustic: array `(batch, time, acoustic_dim)`.
        lengths: integer array `(batch,)`, number of real steps of each row, the same for the three.

    Returns:
        Dict, modality name → dict of `values` and `lengths`.

    Raises:
        ValueError: If the arrays do not agree in batch and time, or a length is outside of `[0, time]`.

    Example:
        >>> batch = model_inputs(np.zeros((2, 3), int), np.zeros((2, 3, 5)), np.zeros((2, 3, 7)), np.array([3, 1]))
        >>> sorted(batch), batch["visual"]["values"].shape
        (['acoustic', 'text', 'visual'], (2, 3, 5))
    """
    lengths = np.asarray(lengths, "int32")
    values = {
        "text": np.asarray(words, "int32"),
        "visual": np.asarray(visual, "float32"),
        "acoustic": np.asarray(acoustic, "float32"),
    }
    shapes = {modality: array.shape for modality, array in values.items()}
    batch_and_time = {shape[:2] for shape in shapes.values()}
    ranks = [len(shape) for shape in shapes.values()]
    if ranks != [2, 3, 3] or len(batch_and_time) != 1 or lengths.shape != shapes["text"][:1]:
        raise ValueError(
            "Expected words (batch, time), visual and acoustic (batch, time, features), lengths (batch,). "
            f"Received: {shapes}, lengths {lengths.shape}"
        )
    time = shapes["text"][1]
    wrong = np.flatnonzero((lengths < 0) | (lengths > time))
    if wrong.size:
        raise ValueError(
            f"Each length must be in [0, {time}]. Received: lengths[{wrong[0]}]={lengths[wrong[0]]} "
            f"({wrong.size} such rows)"
        )
    return {modality: {"values": array, "lengths": lengths} for modality, array in values.items()}
