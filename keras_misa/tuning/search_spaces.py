"""Hyper-parameters worth searching; names are those of the constructors' arguments."""

import math

# Appendix C of the paper: 5 · 2 · 3 · 2 · 3 = 180 points.
PAPER_GRID = {
    "activation": ("leaky_relu", "prelu", "elu", "relu", "tanh"),
    "similarity_weight": (0.7, 1.0),  # α
    "difference_weight": (0.3, 0.7, 1.0),  # β
    "reconstruction_weight": (0.7, 1.0),  # γ
    "dropout": (0.1, 0.5, 0.7),
}


def paper_space(hp, without=()):
    """The grid of the paper's appendix C.

    Args:
        hp: `keras_tuner.HyperParameters`.
        without: names that are not searched.

    Returns:
        Dict, name → value of this point.

    Example:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> paper_space(hp)["activation"], len(hp.space)
        ('leaky_relu', 5)
    """
    return {name: hp.Choice(name, list(values)) for name, values in PAPER_GRID.items() if name not in without}


def wide_space(hp, without=()):
    """A wider space, for random and Bayesian search and for Hyperband.

    Args:
        hp: `keras_tuner.HyperParameters`.
        without: names that are not searched.

    Returns:
        Dict, name → value of this point.

    Example:
        >>> import keras_tuner
        >>> wide_space(keras_tuner.HyperParameters())["hidden_dim"]
        128
    """
    weight = {"min_value": 0.05, "max_value": 5.0, "sampling": "log"}
    choices = {"activation": {"values": list(PAPER_GRID["activation"])}}
    choices["hidden_dim"] = {"values": [32, 64, 128, 256], "default": 128}
    ranges = {
        "similarity_weight": {**weight, "default": 1.0},
        "difference_weight": {**weight, "default": 0.3},
        "reconstruction_weight": {**weight, "default": 1.0},
        "dropout": {"min_value": 0.0, "max_value": 0.7, "default": 0.5},
        "fusion_dropout": {"min_value": 0.0, "max_value": 0.5, "default": 0.1},
        "learning_rate": {"min_value": 1e-5, "max_value": 1e-3, "sampling": "log", "default": 1e-4},
    }
    values = {name: hp.Choice(name, **part) for name, part in choices.items() if name not in without}
    return values | {name: hp.Float(name, **part) for name, part in ranges.items() if name not in without}


SPACES = {"paper": paper_space, "wide": wide_space}


def grid_size(space):
    """Number of points of a space whose hyper-parameters are all choices.

    Args:
        space: function of `keras_tuner.HyperParameters`, such as `paper_space`.

    Returns:
        The number, or `None` if one of them is a range.
    """
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    space(hp)
    if not all(isinstance(part, keras_tuner.engine.hyperparameters.Choice) for part in hp.space):
        return None
    return math.prod(len(part.values) for part in hp.space)
