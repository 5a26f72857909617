"""The model that a configuration describes."""

import keras

from keras_misa.experiments.reference_protocol import apply_reference_protocol
from keras_misa.experiments.task_metrics import is_classification, task_metrics
from keras_misa.layers import MeanEncoder, UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor


def build_model(config, dims, word_table=None, steps_per_epoch=None):
    """Build and compile.

    Args:
        config: dict, as `make_config` makes it.
        dims: dict, modality → size of a step's vector, `None` for word ids; as `keras_misa.data.modality_dims` gives.
        word_table: `keras_misa.data.WordTable`, needed where a modality has word ids.
        steps_per_epoch: number of batches, needed for `learning_rate_decay`.

    Returns:
        A compiled `MISARegressor`, or `MISAClassifier` for classes.
    """
    dtype = config["dtype"]
    encoders = {}
    for modality in config["modalities"] or dims:
        if dims[modality] is not None:
            encoder = MeanEncoder if modality in (config["averaged"] or ()) else UtteranceEncoder
            encoders[modality] = encoder(dims[modality], dtype=dtype)
            continue
        encoders[modality] = WordUtteranceEncoder(
            len(word_table),
            word_table.dimension,
            trainable_embeddings=config["trainable_embeddings"],
            dtype=dtype,
        )
        encoders[modality].set_vectors(word_table.vectors)
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
    model = task(backbone, **{name: config[name] for name in arguments})
    learning_rate = config["learning_rate"]
    if config["learning_rate_decay"] is not None:
        learning_rate = keras.optimizers.schedules.ExponentialDecay(
            learning_rate, steps_per_epoch, config["learning_rate_decay"], staircase=True
        )
    metrics = task_metrics(config)
    if config["protocol"] == "reference":
        apply_reference_protocol(model, learning_rate, config["clipvalue"], config["seed"], metrics=metrics)
    else:
        model.compile(keras.optimizers.Adam(learning_rate, clipvalue=config["clipvalue"]), metrics=metrics)
    return model
