"""One flat dict that says everything about an experiment."""

from keras_misa.presets import PRESETS

DEFAULTS = {
    "manual_dir": None,
    "data_dir": None,
    "split_by": None,
    "word_table": None,  # a file like the authors' embedding_and_mapping.pt
    "modalities": None,  # all of the dataset
    "trainable_embeddings": True,  # as the published code does
    "subspaces": ("shared", "private"),
    "fused": None,  # all subspaces
    "epochs": 500,  # the published code's cap; early stopping comes first
    "learning_rate_decay": None,  # factor an epoch; the published code's decay never takes effect
    "dtype": "float32",
    "seed": 0,
}


def make_config(dataset="synthetic_subspaces", **overrides):
    """Defaults, the dataset's preset and your changes, in one flat dict.

    Args:
        dataset: name of a dataset. One without a preset takes that of CMU-MOSI.
        **overrides: any of the keys; `None` leaves a value as it is.

    Returns:
        Dict with JSON-able values.

    Raises:
        ValueError: If a key is unknown.

    Example:
        >>> make_config("cmu_mosei", dropout=0.2)["activation"]
        'leaky_relu'
    """
    config = {"dataset": dataset, **DEFAULTS, **PRESETS.get(dataset, PRESETS["cmu_mosi"])}
    if unknown := set(overrides) - set(config):
        raise ValueError(f"Unknown settings: {sorted(unknown)}. Known are {sorted(config)}")
    config.update((key, value) for key, value in overrides.items() if value is not None)
    return config
