"""The command that repeats a run."""

import json
import shlex

from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.model_settings import MISA, model_defaults

SETTLED = ("num_outputs", "class_names", "score_names", "metrics")  # by the data
FLAGS = {
    "trainable_embeddings": {False: "--freeze-embeddings"},
    "bert_cache": {False: "--no-bert-cache"},
    "jit_compile": {True: "--jit-compile"},
}


def changed_settings(config, contextual=()):
    """What differs from the dataset's preset.

    Args:
        config: dict of `make_config`, settled.
        contextual: modalities that the dataset calls contextual, whose means are taken unless the user says otherwise.

    Returns:
        Dict, name → pair of the value and the preset's (for a baseline, its own default's); without the dataset, the
        model, the seed and what the data settles.

    Example:
        >>> changed_settings(make_config("cmu_mosi", dropout=0.2, seed=7))
        {'dropout': (0.2, 0.5)}
    """
    preset = _plain(make_config(config["dataset"], model=config.get("model")))
    if sorted(config.get("averaged") or ()) == sorted(contextual):
        config = {**config, "averaged": preset["averaged"]}
    return {
        name: (value, preset.get(name))
        for name, value in _plain(config).items()
        if name not in ("dataset", "model", "seed", *SETTLED) and value != preset.get(name)
    }


def train_command(config, contextual=(), output=None):
    """The command line that trains with these settings.

    Args:
        config: dict of `make_config`, settled.
        contextual: see `changed_settings`.
        output: run folder to write.

    Returns:
        A string for a shell. A setting that has no option stands behind it, in a comment.

    Example:
        >>> print(train_command(make_config("cmu_mosi", modalities=("text", "visual"), trainable_embeddings=False)))
        keras-misa train --dataset cmu_mosi --modalities text,visual --freeze-embeddings --seed 0
        >>> print(train_command(make_config("cmu_mosi", model="lmf", rank=8)))
        keras-misa train --dataset cmu_mosi --model lmf --set rank=8 --seed 0
    """
    model = config.get("model", MISA)
    words, without_option = ["keras-misa", "train", "--dataset", config["dataset"]], {}
    words += [] if model == MISA else ["--model", model]
    own = () if model == MISA else model_defaults(model)
    for name, (value, _) in changed_settings(config, contextual).items():
        if value is None:  # which leaves a setting as it is
            without_option[name] = value
        elif name in own or (name in FLAGS and value not in FLAGS[name]):
            words += ["--set", f"{name}={json.dumps(value)}"]
        elif name in FLAGS:
            words.append(FLAGS[name][value])
        else:
            words += _option(name, (",".join(value) or "none") if isinstance(value, list) else str(value))
    words += ["--seed", str(config["seed"])]
    words += ["--output", str(output)] if output else []
    command = shlex.join(words)
    return f"{command}  # and {without_option}, by --preset FILE.json" if without_option else command


def _option(name, value):
    option = f"--{name.replace('_', '-')}"
    return [f"{option}={value}"] if value.startswith("-") else [option, value]


def _plain(config):
    return json.loads(json.dumps(config, default=str))
