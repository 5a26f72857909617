"""The model that a configuration describes."""

import keras

from keras_misa.experiments.model_settings import BASELINES, MISA, model_defaults, takes_means
from keras_misa.experiments.reference_protocol import apply_reference_protocol
from keras_misa.experiments.task_metrics import is_classification, task_metrics
from keras_misa.layers import MeanEncoder, StepEncoder, UtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor
from keras_misa.optimizers import FineTuningAdam


def build_model(config, dims, text_encoder=None, steps_per_epoch=None):
    """Build and compile.

    Args:
        config: dict, as `make_config` makes it.
        dims: dict, modality → size of a step's vector, `None` for a text of words, as `keras_misa.data.modality_dims`
            gives.
        text_encoder: the encoder of such a text.
        steps_per_epoch: number of batches, needed for `learning_rate_decay`.

    Returns:
        A compiled `MISARegressor`, or `MISAClassifier` for classes; or the baseline that `config["model"]` names.
    """
    make = _make_misa if config["model"] == MISA else _make_baseline
    model = make(config, {m: dims[m] for m in config["modalities"] or dims}, text_encoder)
    rates = {
        "learning_rate": _schedule(config["learning_rate"], config, steps_per_epoch),
        "pretrained_learning_rate": _schedule(config["bert_learning_rate"], config, steps_per_epoch),
        "warmup_steps": config["bert_warmup_steps"],
        "clipvalue": config["clipvalue"],
    }
    metrics = task_metrics(config)
    jit_compile = True if config["jit_compile"] else None  # None is the model's default
    if config["protocol"] == "reference":
        apply_reference_protocol(model, seed=config["seed"], metrics=metrics, jit_compile=jit_compile, **rates)
    else:
        model.compile(FineTuningAdam(**rates), metrics=metrics, jit_compile=jit_compile)
    return model


def _make_misa(config, dims, text_encoder):
    dtype = config["dtype"]
    encoders = {}
    for modality, dim in dims.items():
        if dim is None:
            encoders[modality] = text_encoder
            continue
        encoder = MeanEncoder if modality in (config["averaged"] or ()) else UtteranceEncoder
        encoders[modality] = encoder(dim, dtype=dtype)
    backbone = MISABackbone(
        encoders, config["hidden_dim"], config["activation"], config["subspaces"], dtype=dtype, name="backbone"
    )
    task = MISAClassifier if is_classification(config) else MISARegressor
    arguments = (
        "num_outputs",
        "fused",
        "similarity",
        "similarity_weight",
        "difference_weight",
        "reconstruction_weight",
        "num_moments",
        "dropout",
        "fusion_dropout",
    )
    return task(backbone, **{name: config[name] for name in arguments})


def _make_baseline(config, dims, text_encoder):
    dtype = config["dtype"]
    encoders = {m: text_encoder if dim is None else StepEncoder(dim, dtype=dtype) for m, dim in dims.items()}
    arguments = {name: config[name] for name in model_defaults(config["model"])}
    if takes_means(config["model"]):
        arguments["averaged"] = [m for m in config["averaged"] or () if m in encoders]
    predicts = "classes" if is_classification(config) else "scores"
    return BASELINES[config["model"]](encoders, config["num_outputs"], predicts, dtype=dtype, **arguments)


def _schedule(rate, config, steps_per_epoch):
    if rate is None or config["learning_rate_decay"] is None:
        return rate
    return keras.optimizers.schedules.ExponentialDecay(
        rate, steps_per_epoch, config["learning_rate_decay"], staircase=True
    )
