"""The batch that a model is given, as it wants it."""


def arrange(batch, inputs, place="a batch"):
    """The batch with its keys in the order of the model's inputs: on PyTorch, Keras takes them as it finds them.

    Args:
        batch: dict, modality → dict of its inputs, or one tensor.
        inputs: likewise, the model's symbolic inputs.
        place: what it is called in errors.

    Returns:
        The same values.

    Raises:
        ValueError: If a modality or an input is missing, or there is one too many.
    """
    if not isinstance(inputs, dict):
        return batch
    if not isinstance(batch, dict) or set(batch) != set(inputs):
        received = list(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(f"Expected {place} of {list(inputs)}. Received: {received}")
    return {key: arrange(batch[key], part, f"the modality {key!r}") for key, part in inputs.items()}
