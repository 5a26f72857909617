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


def write_results(folder, labels, predictions, class_names=None, epochs=3, seed=0):
    """Add what `train` writes of the test split and of the epochs to a run of `write_run`.

    Args:
        folder: of the run.
        labels: `(rows,)`, scores or names of classes.
        predictions: as many.
        class_names: of a classifier.
        epochs: rows of `history.csv`.
        seed: of the numbers in it.

    Returns:
        The attention that stands in `explanation.json`, `(tokens, tokens)`.
    """
    rng = np.random.default_rng(seed)
    rows = [f"id{n},video{n},{y},{p}" for n, (y, p) in enumerate(zip(labels, predictions, strict=True))]
    (folder / "predictions.csv").write_text("\n".join(["segment_id,video_id,label,prediction", *rows]) + "\n")
    losses = ("similarity", "difference", "reconstruction", "task")
    columns = ["epoch", *losses, *(f"val_{name}" for name in losses)]
    lines = [",".join(map(str, [epoch + 1, *rng.random(8) + 1 / (epoch + 1)])) for epoch in range(epochs)]
    (folder / "history.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    modalities = [*read_modalities(folder)]
    tokens = [f"{subspace} {modality}" for subspace in ("shared", "private") for modality in modalities]
    attention = rng.dirichlet(np.ones(len(tokens)), len(tokens))
    explanation = {t: dict(zip(tokens, row.tolist(), strict=True)) for t, row in zip(tokens, attention, strict=True)}
    (folder / "explanation.json").write_text(json.dumps({"attention": explanation}))
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if class_names:
        metrics = {"accuracy": float(np.mean(labels == predictions))}
    else:
        sevenths = [np.round(np.clip(scores, -3, 3)) for scores in (labels, predictions)]
        metrics = {
            "mae": float(np.abs(labels - predictions).mean()),
            "acc7": float(np.mean(sevenths[0] == sevenths[1])),
        }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return attention


def read_modalities(folder):
    """Names of the modalities of a run."""
    return keras.models.load_model(folder / "model.keras").backbone.modalities
