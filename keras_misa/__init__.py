"""Modality-invariant and -specific representations (MISA) in Keras.

`import keras_misa` costs nothing: each part loads when it is first used.

Reference:
    Hazarika, Zimmermann, Poria. MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment
    Analysis. ACM Multimedia 2020.
"""

import importlib

__version__ = "0.1.0"

__all__ = [
    "baselines",
    "convert",
    "data",
    "experiments",
    "export",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plots",
    "presets",
    "reports",
    "serving",
    "tuning",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
