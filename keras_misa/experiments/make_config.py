"""One flat dict that says everything about an experiment."""

import math

from keras_misa.presets import PRESETS

PROTOCOLS = ("default", "reference")
METRICS = (None, "sentiment", "scores")
DEFAULTS = {
    "manual_dir": None,
    "data_dir": None,
    "split_by": None,
    "label": "label",  # or another feature of the dataset, such as MOSEI's emotions
    "metrics": None,  # "sentiment" (the paper's) or "scores"; None: as the labels are
    "class_names": None,  # the dataset's, where labels are classes
    "score_names": None,  # the dataset's, where a label is several scores
    "word_table": None,  # a file like the authors' embedding_and_mapping.pt
    "modalities": None,  # all of the dataset
    "averaged": None,  # modalities of which the mean is taken; None: those that the dataset calls contextual
    "trainable_embeddings": True,  # as the published code does
    "subspaces": ("shared", "private"),
    "fused": None,  # all subspaces
    "similarity": "cmd",
    "epochs": 500,  # the published code's cap; early stopping comes first
    "learning_rate_decay": None,  # factor an epoch; the published code's decay never takes effect
    "protocol": "default",  # or "reference", the published code's: see docs/protocols.md
    "dtype": "float32",
    "seed": 0,
}


def make_config(dataset="synthetic_subspaces", **overrides):
    """Defaults, the dataset's preset and your changes, in one flat dict.

    Args:
        dataset: name of a dataset, `"name"` or `"name/form"`. One without a preset takes that of CMU-MOSI.
        **overrides: any of the keys; `None` leaves a value as it is.

    Returns:
        Dict with JSON-able values.

    Raises:
        ValueError: If a key or the protocol is unknown, or a number is out of its range.

    Example:
        >>> make_config("cmu_mosei", dropout=0.2)["activation"]
        'leaky_relu'
    """
    config = {"dataset": dataset, **DEFAULTS, **PRESETS.get(dataset.split("/")[0], PRESETS["cmu_mosi"])}
    if unknown := set(overrides) - set(config):
        raise ValueError(f"Known settings are {sorted(config)}. Received: {sorted(unknown)}")
    config.update((key, value) for key, value in overrides.items() if value is not None)
    if config["protocol"] not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {PROTOCOLS}. Received: protocol={config['protocol']!r}")
    if config["metrics"] not in METRICS:
        raise ValueError(f"`metrics` must be one of {METRICS}. Received: metrics={config['metrics']!r}")
    for name, (is_good, expected) in _RANGES.items():
        if config[name] is not None and not is_good(config[name]):
            raise ValueError(f"`{name}` must be {expected}. Received: {name}={config[name]}")
    return config


_POSITIVE = (lambda x: 0 < x < math.inf, "a positive number")
_NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, "a number of 0 or more")
_RATE = (lambda x: 0 <= x < 1, "in [0, 1)")
_COUNT = (lambda x: x >= 1, "1 or more")
_NAMES = (lambda x: len(x) > 0, "at least one name")
_RANGES = {
    "batch_size": _COUNT,
    "clipvalue": _POSITIVE,
    "difference_weight": _NOT_NEGATIVE,
    "dropout": _RATE,
    "epochs": _COUNT,
    "fused": _NAMES,
    "fusion_dropout": _RATE,
    "hidden_dim": (lambda x: x >= 2 and x % 2 == 0, "an even number of 2 or more, for the two attention heads"),
    "learning_rate": _POSITIVE,
    "learning_rate_decay": _POSITIVE,
    "modalities": _NAMES,
    "num_moments": _COUNT,
    "patience": (lambda x: x >= 0, "0 or more"),
    "reconstruction_weight": _NOT_NEGATIVE,
    "seed": (lambda x: x >= 0, "0 or more"),
    "similarity_weight": _NOT_NEGATIVE,
}
