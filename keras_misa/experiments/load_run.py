"""What `train` has written down."""

import pathlib

from keras_misa._files import read_json
from keras_misa.experiments.make_config import make_config

TOKENIZER_FILE = "tokenizer.json"
FILES = ("config.json", TOKENIZER_FILE, "model.keras", "metrics.json")


def padding_multiple(jit_compile=False):
    """What padded lengths are rounded up to: XLA, which JAX always uses, compiles anew for every one."""
    import keras

    return 16 if jit_compile or keras.backend.backend() == "jax" else 1


def read_run(run):
    """A run's configuration and what is known of its data.

    Args:
        run: folder that `train` wrote.

    Returns:
        Pair: dict of `make_config`, and all of `config.json`.

    Raises:
        FileNotFoundError: If the folder is not a finished run.
        ValueError: If one of its files is damaged.
    """
    run = pathlib.Path(run)
    for name in FILES:
        if not (run / name).exists():
            raise FileNotFoundError(f"{run} is not a finished run: it lacks {name}. Received: run={str(run)!r}")
    written = read_json(run / "config.json")
    is_complete = isinstance(written, dict) and all(isinstance(written.get(n), dict) for n in ("settings", "data"))
    if not is_complete or not {"dataset", "seed"} <= set(written["settings"]):
        raise ValueError(f"{run / 'config.json'} is damaged: expected the settings and data of a run.")
    return complete_settings(written["settings"]), written


def complete_settings(settings):
    """The settings of a run; those that did not exist when it was written have their defaults."""
    return {**make_config(settings["dataset"], model=settings.get("model")), **settings}


def load_run_model(run):
    """A run's model.

    Args:
        run: folder that `train` wrote.

    Returns:
        A `MISARegressor`, `MISAClassifier` or baseline.

    Raises:
        ValueError: If its file is damaged.
    """
    import keras

    import keras_misa.baselines
    import keras_misa.layers
    import keras_misa.models
    import keras_misa.optimizers  # noqa: F401 (Keras finds the classes of a file once they are registered)

    path = pathlib.Path(run, "model.keras")
    try:
        return keras.models.load_model(path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        versions = read_json(path.with_name("config.json")).get("versions", {})
        raise ValueError(
            f"{path} cannot be loaded: it is damaged or of another version (written by {versions}). "
            f"Received: {str(error).splitlines()[0]}"
        ) from error
