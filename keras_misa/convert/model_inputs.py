"""The published code's batch as ours."""

import numpy as np


def model_inputs(words=None, visual=None, acoustic=None, lengths=None, token_ids=None, padding_mask=None):
    """Make the batch of a converted model from padded arrays.

    Give `words` for a model with GloVe text, `token_ids` and `padding_mask` for one with BERT.

    Args:
        words: integer array `(batch, time)`, word ids.
        visual: array `(batch, time, visual_dim)`.
        acoustic: array `(batch, time, acoustic_dim)`.
        lengths: integer array `(batch,)`, number of real steps of each row, the same for words, visual and acoustic.
        token_ids: integer array `(batch, pieces)`, BERT's word pieces, [CLS] and [SEP] included.
        padding_mask: array `(batch, pieces)`, 1 for word pieces and 0 for padding.

    Returns:
        Dict, modality name → dict of its `values` and `lengths`.

    Raises:
        ValueError: If something is missing, the arrays do not agree in batch and time, or a length is outside of
            `[0, time]`.

    Example:
        >>> batch = model_inputs(np.zeros((2, 3), int), np.zeros((2, 3, 5)), np.zeros((2, 3, 7)), np.array([3, 1]))
        >>> sorted(batch), batch["visual"]["values"].shape
        (['acoustic', 'text', 'visual'], (2, 3, 5))
    """
    given = {"visual": visual, "acoustic": acoustic, "lengths": lengths}
    given.update({"words": words} if token_ids is None else {"token_ids": token_ids, "padding_mask": padding_mask})
    if missing := [name for name, array in given.items() if array is None]:
        raise ValueError(f"A batch needs visual, acoustic, lengths and a text. Received: {missing[0]}=None")
    lengths = np.asarray(lengths, "int32")
    values = {"visual": np.asarray(visual, "float32"), "acoustic": np.asarray(acoustic, "float32")}
    if token_ids is None:
        values = {"text": np.asarray(words, "int32"), **values}
    shapes = {modality: array.shape for modality, array in values.items()}
    ranks_fit = all(len(shape) == (2 if modality == "text" else 3) for modality, shape in shapes.items())
    if not ranks_fit or len({shape[:2] for shape in shapes.values()}) != 1 or lengths.shape != shapes["visual"][:1]:
        raise ValueError(
            "Expected words (batch, time), visual and acoustic (batch, time, features), lengths (batch,). "
            f"Received: {shapes}, lengths {lengths.shape}"
        )
    batch_size, time = shapes["visual"][:2]
    wrong = np.flatnonzero((lengths < 0) | (lengths > time))
    if wrong.size:
        raise ValueError(
            f"Each length must be in [0, {time}]. Received: lengths[{wrong[0]}]={lengths[wrong[0]]} "
            f"({wrong.size} such rows)"
        )
    batch = {modality: {"values": array, "lengths": lengths} for modality, array in values.items()}
    if token_ids is None:
        return batch
    token_ids, padding_mask = np.asarray(token_ids, "int32"), np.asarray(padding_mask, "int32")
    if token_ids.ndim != 2 or token_ids.shape != padding_mask.shape or len(token_ids) != batch_size:
        raise ValueError(
            f"Expected token_ids and padding_mask of shape ({batch_size}, pieces). "
            f"Received: {token_ids.shape} and {padding_mask.shape}"
        )
    if not np.isin(padding_mask, (0, 1)).all() or (np.diff(padding_mask, axis=1) > 0).any():
        raise ValueError(
            "Expected a padding_mask of 1 for word pieces, which stand first, and 0 behind them. "
            f"Received: {padding_mask.tolist()[:3]}"
        )
    return {"text": {"values": token_ids, "lengths": padding_mask.sum(axis=1, dtype="int32")}, **batch}
