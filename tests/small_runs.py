"""Small runs and presets, in seconds: as `train` writes them, but nobody has trained them."""

import json

import keras
import numpy as np

from keras_misa.data import WordTable
from keras_misa.experiments import build_model, make_config
from keras_misa.experiments.text import open_text
from keras_misa.layers import WordUtteranceEncoder

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s", "very", "dull", "!", "é"]
WORDS = ["good", "bad", "films", "very", "dull", "Film!", "naïve", "日本"]


def write_run(folder, dims, class_names=None, seed=0, **settings):
    """Write a run; returns its model.

    Args:
        folder: of the run.
        dims: dict, modality → size of a step's vector, `None` for words of `WORDS`.
        class_names: of a classifier.
        seed: of the weights.
        **settings: of `make_config`, and others that stand in `config.json` as they are.
    """
    config = make_config("utterance_folder", hidden_dim=4, averaged=[m for m in dims if dims[m]], seed=seed)
    config |= {"num_outputs": len(class_names or [0]), "class_names": class_names, **settings}
    keras.utils.set_random_seed(seed)
    table, encoder, text = WordTable.from_words([WORDS], dimension=5), None, None
    if config["text"]:
        text = open_text(config, [])
        encoder = text.make_encoder(config["dtype"])
    elif None in dims.values():
        encoder = WordUtteranceEncoder(len(table), table.dimension)
        encoder.set_vectors(table.vectors)
    model = build_model(config, dims, encoder)
    rng = np.random.default_rng(seed)
    for weight in model.weights:  # larger than at the start of a training, so that mistakes show
        if "kernel" in weight.path:
            weight.assign(weight + rng.normal(size=weight.shape, scale=0.3))
    model.optimizer.build(model.trainable_variables)
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    written = {"settings": config, "data": {}, "versions": {}}
    tokenizer = {"kind": "words", "words": list(table.words)}
    for name, value in {"config": written, "metrics": {}, "tokenizer": tokenizer}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    if text:
        text.save(folder)
    return model


def write_bert(folder):
    """A BERT of two layers and `PIECES`, as a preset folder of keras-nlp."""
    import keras_nlp

    keras.utils.set_random_seed(1)
    keras_nlp.models.BertBackbone(len(PIECES), 2, 2, 8, 16, max_sequence_length=24).save_to_preset(folder)
    keras_nlp.models.BertTokenizer(vocabulary=PIECES, lowercase=True).save_to_preset(folder)
    return folder
