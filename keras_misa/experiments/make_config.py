"""One flat dict that says everything about an experiment."""

import math
import re

from keras_misa.experiments.model_settings import MISA, MISA_SETTINGS, MODELS, model_defaults, takes_means
from keras_misa.presets import PRESETS

PROTOCOLS = ("default", "reference")
METRICS = (None, "sentiment", "scores")
VOCABULARIES = (None, "train", "dataset", "table")
DEFAULTS = {
    "model": MISA,  # or a baseline
    "manual_dir": None,
    "data_dir": None,
    "split_by": None,
    "cache": True,  # examples are read once and kept in memory
    "label": "label",  # or another feature of the dataset, such as MOSEI's emotions
    "metrics": None,  # "sentiment" (the paper's) or "scores"; None: as the labels are
    "class_names": None,  # the dataset's, where labels are classes
    "score_names": None,  # the dataset's, where a label is several scores
    "text": None,  # "bert:<preset>" or "glove:<file>"; None: what the dataset has, else its words, random vectors
    "vocabulary": None,  # words with a vector of their own: of "train", "dataset" or the whole "table"
    "bert_learning_rate": None,  # one rate for everything, as the published code
    "bert_warmup_steps": 0,
    "bert_cache": True,  # a frozen BERT runs once and not in every epoch
    "modalities": None,  # all of the dataset
    "modality_dropout": 0.0,  # chance of a modality to be missing in training, for data in which some will be
    "averaged": None,  # modalities of which the mean is taken; None: those that the dataset calls contextual
    "trainable_embeddings": True,  # as the published code does
    "subspaces": ("shared", "private"),
    "fused": None,  # all subspaces
    "similarity": "cmd",
    "epochs": 500,  # the published code's cap; early stopping comes first
    "learning_rate_decay": None,  # factor an epoch; the published code's decay never takes effect
    "protocol": "default",  # or "reference", the published code's: see docs/protocols.md
    "dtype": "float32",
    "jit_compile": False,  # XLA, on TensorFlow; lengths are then padded to multiples of 16
    "devices": 1,
    "seed": 0,
}


def make_config(dataset="synthetic_subspaces", **overrides):
    """Defaults, the dataset's preset and your changes, in one flat dict.

    A baseline, `model="tfn"` and so on, has the arguments of its constructor in place of MISA's, with their defaults;
    batches, optimiser and stopping are the dataset's preset for all models, so that a comparison is fair.

    Args:
        dataset: name of a dataset, `"name"` or `"name/form"`. One without a preset takes that of CMU-MOSI.
        **overrides: any of the keys; `None` leaves a value as it is.

    Returns:
        Dict with JSON-able values.

    Raises:
        ValueError: If a key, the model or the protocol is unknown, a number is out of its range, or a setting would
            have no effect.

    Example:
        >>> make_config("cmu_mosei", dropout=0.2)["activation"]
        'leaky_relu'
        >>> make_config("cmu_mosei", model="lmf")["rank"]
        4
    """
    config = {"dataset": dataset, **DEFAULTS, **PRESETS.get(dataset.split("/")[0], PRESETS["cmu_mosi"])}
    model = overrides.get("model") or config["model"]
    if model not in MODELS:
        raise ValueError(f"`model` must be one of {MODELS}. Received: model={model!r}")
    if model != MISA:
        config = _of_baseline(model, config, overrides)
    if unknown := set(overrides) - set(config) - MISA_SETTINGS:
        raise ValueError(f"Known settings are {sorted(config)}. Received: {sorted(unknown)}")
    changed = {key for key, value in overrides.items() if value is not None and value != config[key]}
    config.update((key, value) for key, value in overrides.items() if value is not None)
    _check_text_settings(config, changed)
    if config["protocol"] not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {PROTOCOLS}. Received: protocol={config['protocol']!r}")
    if config["vocabulary"] not in VOCABULARIES:
        raise ValueError(f"`vocabulary` must be one of {VOCABULARIES}. Received: vocabulary={config['vocabulary']!r}")
    if not re.fullmatch(r"(bert|glove):.+", config["text"] or "glove:x"):
        raise ValueError(f"`text` must be bert:<preset> or glove:<file>. Received: text={config['text']!r}")
    part = config["bert_trainable"]
    if part not in ("all", "none") and not (isinstance(part, int) and not isinstance(part, bool)):
        raise ValueError(
            "`bert_trainable` must be all, none, or the number of the first encoder layer that is trained (-3: the "
            f"last three). Received: bert_trainable={part!r}"
        )
    if config["metrics"] not in METRICS:
        raise ValueError(f"`metrics` must be one of {METRICS}. Received: metrics={config['metrics']!r}")
    for name, (is_good, expected) in _RANGES.items():
        if config.get(name) is None or (name == "hidden_dim" and model != MISA):
            continue
        if not is_good(config[name]):
            raise ValueError(f"`{name}` must be {expected}. Received: {name}={config[name]}")
    return config


def _of_baseline(model, config, overrides):
    """The defaults of a baseline, from those of MISA."""
    defaults = model_defaults(model)
    useless = MISA_SETTINGS - set(defaults) | {"protocol", "bert_cache"}  # the published code is MISA's
    if not takes_means(model):
        useless.add("averaged")
    nothing = {"protocol": ("default",), "bert_cache": (False,), "averaged": ((), [])}
    if wrong := sorted(name for name in useless if overrides.get(name) not in (None, *nothing.get(name, ()))):
        received = ", ".join(f"{name}={overrides[name]!r}" for name in (*wrong, "model"))
        raise ValueError(
            f"{' and '.join(wrong)} would have no effect here; the model's own settings are {sorted(defaults)}. "
            f"Received: {received}"
        )
    config = {name: value for name, value in config.items() if name not in MISA_SETTINGS}
    # A frozen BERT's mean is computed once for MISA; these models look at each word piece.
    config.update(defaults, model=model, bert_cache=False)
    return config if takes_means(model) else {**config, "averaged": ()}


def _check_text_settings(config, changed):
    """A setting that would have no effect is a mistake."""
    is_bert = str(config["text"] or "").startswith("bert:")
    useless = {"bert_trainable", "bert_learning_rate", "bert_warmup_steps", "bert_cache"}
    if is_bert:
        useless = {"vocabulary"}
        is_frozen = config["bert_trainable"] == "none"
        useless |= {"bert_learning_rate", "bert_warmup_steps"} if is_frozen else {"bert_cache"}
    if useless := sorted(useless & changed):
        received = ", ".join(f"{name}={config[name]!r}" for name in dict.fromkeys((*useless, "text", "bert_trainable")))
        raise ValueError(f"{' and '.join(useless)} would have no effect here. Received: {received}")


_POSITIVE = (lambda x: 0 < x < math.inf, "a positive number")
_NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, "a number of 0 or more")
_RATE = (lambda x: 0 <= x < 1, "in [0, 1)")
_COUNT = (lambda x: x >= 1, "1 or more")
_NAMES = (lambda x: len(x) > 0, "at least one name")
_RANGES = {
    "batch_size": _COUNT,
    "bert_learning_rate": _POSITIVE,
    "bert_warmup_steps": _NOT_NEGATIVE,
    "clipvalue": _POSITIVE,
    "devices": _COUNT,
    "difference_weight": _NOT_NEGATIVE,
    "dropout": _RATE,
    "epochs": _COUNT,
    "fused": _NAMES,
    "fusion_dropout": _RATE,
    "hidden_dim": (lambda x: x >= 2 and x % 2 == 0, "an even number of 2 or more, for the two attention heads"),
    "learning_rate": _POSITIVE,
    "learning_rate_decay": _POSITIVE,
    "modalities": _NAMES,
    "modality_dropout": _RATE,
    "num_moments": _COUNT,
    "patience": (lambda x: x >= 0, "0 or more"),
    "reconstruction_weight": _NOT_NEGATIVE,
    "seed": (lambda x: 0 <= x < 2**32, "from 0 to 2**32 - 1"),
    "similarity_weight": _NOT_NEGATIVE,
}
