"""Training, with everything written down."""

import os
import pathlib
import platform
import sys
import time
from importlib import metadata

import numpy as np

from keras_misa._files import atomic_path, write_csv, write_json
from keras_misa.experiments.evaluate import (
    best_reachable,
    collect_examples,
    load_split,
    source_of,
    split_title,
)
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.report import dataset_title, metrics_table, plot_curves, scores_table
from keras_misa.experiments.subspace_scores import subspace_scores, variance_shares
from keras_misa.experiments.task_metrics import compute_metrics, settle_task


def train(dataset="synthetic_subspaces", output=None, quiet=False, **settings):
    """Train, evaluate and explain a model, and write a run folder.

    The folder holds `config.json`, `vocabulary.json`, `history.csv`, `metrics.json`, `predictions.csv`,
    `explanation.json`, `model.keras`, `curves.png` and TensorBoard logs. Training stops when the validation task loss
    (without regularisers) has not improved for `patience` epochs; the best weights are kept.

    Args:
        dataset: name of a dataset; the built-in synthetic one by default.
        output: folder to write, new or empty; `runs/<dataset>-<time>` if `None`.
        quiet: whether to print nothing but errors.
        **settings: what differs from the dataset's preset; see `make_config`.

    Returns:
        Dict of the test split's metrics.

    Raises:
        ValueError: If a setting is wrong, the data does not fit, or training diverged.
        FileExistsError: If `output` holds files already.

    Example:
        ```python
        keras_misa.experiments.train(output="runs/first", seed=1)
        ```
    """
    import keras
    from rich.console import Console

    from keras_misa import data
    from keras_misa.experiments.build_model import build_model
    from keras_misa.experiments.callbacks import EpochTable, HistoryFile
    from keras_misa.experiments.reference_protocol import ReferenceStopping

    config = make_config(dataset, **settings)
    console = Console(quiet=quiet)
    output = pathlib.Path(output or f"runs/{dataset}-{time.strftime('%Y%m%d-%H%M%S')}")
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise FileExistsError(f"The output folder must be new or empty. Received: output={str(output)!r}")

    # === Data ===
    builder = data.prepare_dataset(dataset, config["data_dir"], config["manual_dir"])
    if "sources" in (builder.info.metadata or {}):
        config["dataset"] = dataset = builder.info.full_name.rpartition("/")[0]  # with the form of the files
    dims = data.modality_dims(builder)
    has_words = any(dims.get(m, 0) is None for m in config["modalities"] or dims)
    if config["word_table"] and not has_words:
        raise ValueError(
            f"A word table needs a modality text of words. Received: word_table={config['word_table']!r}, "
            f"modalities {dict(dims)}"
        )
    if config["averaged"] is None:
        config["averaged"] = list((builder.info.metadata or {}).get("contextual", ()))
    if wrong := [m for m in config["averaged"] if dims.get(m) is None]:
        raise ValueError(f"Means can be taken of {[m for m in dims if dims[m]]}. Received: averaged={wrong}")
    word_table = None
    if has_words:
        word_table = data.load_word_table(dataset, path=config["word_table"], **source_of(config))
    vocabulary = list(word_table.words) if word_table else None
    keras.utils.set_random_seed(config["seed"])
    examples = {split: collect_examples(config, split) for split in ("train", "validation", "test")}
    settle_task(config, builder, examples["train"]["label"])
    batches = {
        split: load_split(config, split, vocabulary, shuffle=split == "train", seed=config["seed"])
        for split in examples
    }
    summary = {split: _summarise(examples[split], word_table) for split in examples}
    _print_summary(console, config, dims, summary, word_table)

    # === Training ===
    model = build_model(config, dims, word_table, steps_per_epoch=int(batches["train"].cardinality()))
    metadata = {key: value for key, value in (builder.info.metadata or {}).items() if key != "report"}
    provenance = {**metadata, "version": str(builder.version), "splits": summary}
    provenance["word_table"] = word_table and f"{len(word_table)} x {word_table.dimension}, {word_table.origin}"
    write_json(output / "config.json", {"settings": config, "data": provenance, **_versions()})
    write_json(output / "vocabulary.json", vocabulary)
    history = HistoryFile(output / "history.csv")
    callbacks = [
        history,
        ReferenceStopping(config["patience"])
        if config["protocol"] == "reference"
        else keras.callbacks.EarlyStopping(
            "val_task", mode="min", patience=config["patience"], restore_best_weights=True
        ),
        keras.callbacks.TerminateOnNaN(),
    ]
    if keras.backend.backend() == "tensorflow":
        callbacks.append(keras.callbacks.TensorBoard(output / "tensorboard", write_graph=False))
    if not quiet:
        monitor = "val_task_batches" if config["protocol"] == "reference" else "val_task"
        callbacks.append(EpochTable(console, config["epochs"], monitor))
    model.fit(
        batches["train"],
        validation_data=batches["validation"],
        epochs=config["epochs"],
        callbacks=callbacks,
        shuffle=False,  # load_dataset has shuffled
        verbose=0,
    )
    if not np.isfinite([row["loss"] for row in history.rows]).all():
        raise ValueError(
            f"Training diverged: the loss is not finite in epoch {len(history.rows)}, see {output / 'history.csv'}. "
            f"Received: learning_rate={config['learning_rate']}, dtype={config['dtype']}"
        )
    with atomic_path(output / "model.keras") as temporary:
        model.save(temporary)
    title = split_title(config, "validation", examples["validation"])
    plot_curves(history.rows, output / "curves.png", f"{title}, seed {config['seed']}")

    # === Evaluation ===
    predictions = model.predict(batches["test"], verbose=0)
    metrics = compute_metrics(config, examples["test"]["label"], predictions)
    write_csv(output / "predictions.csv", _prediction_rows(config, examples["test"], predictions))
    best = best_reachable(config, examples["test"])
    console.print(metrics_table(metrics, split_title(config, "test", examples["test"]), best))
    if best:
        console.print(f"MAE is {metrics['mae'] / best['mae'] - 1:+.1%} from the best reachable one.", highlight=False)
    batches["train"] = load_split(config, "train", vocabulary)
    explanation = _explain(model, dims, batches, examples)
    write_json(output / "explanation.json", explanation)
    for name, scores in explanation.items():
        console.print(scores_table(scores, EXPLANATIONS[name]))
    write_json(output / "metrics.json", metrics)  # the last file: a run that has it is finished
    console.print(f"Written to {output}", highlight=False)
    return metrics


EXPLANATIONS = {
    "attention": "Average attention over the test split: how much each row looks at each column",
    "factors": "Held-out R² of the true factors (columns) from the learned vectors (rows)",
    "variance": "Share of the learned vectors' variance (rows) that each true factor (columns) explains",
}


def _explain(model, dims, batches, examples):
    explained = {split: model.explain(batches[split]) for split in ("train", "test")}
    tokens = [" ".join(token) for token in model.token_names]
    attention = explained["test"]["attention"].mean(axis=(0, 1)).tolist()
    explanation = {
        "attention": {t: dict(zip(tokens, row, strict=True)) for t, row in zip(tokens, attention, strict=True)}
    }
    if "factors" in examples["test"]:
        vectors = {}
        for split, parts in explained.items():
            by_subspace = {s: parts[s] for s in ("projected", "shared", "private") if s in parts}
            vectors[split] = {s: np.concatenate(list(v.values()), axis=1) for s, v in by_subspace.items()}
        train_factors, test_factors = (
            {name: examples[split]["factors"][name] for name in ("shared", *dims)} for split in explained
        )
        explanation["factors"] = subspace_scores(vectors["train"], train_factors, vectors["test"], test_factors)
        explanation["variance"] = variance_shares(vectors["test"], test_factors)
    return explanation


def _summarise(examples, word_table):
    """Counts of a split; nothing that was read in disappears unsaid."""
    words = [word for sentence in examples["words"] for word in sentence]
    unknown = int((word_table.ids(words) == 0).sum()) if word_table else 0
    return {
        "utterances": len(examples["label"]),
        "videos": len(set(examples["video_id"])),
        "words": len(words),
        "unknown_words": unknown,
    }


def _print_summary(console, config, dims, summary, word_table):
    sizes = ", ".join(f"{m} {'words' if dims[m] is None else dims[m]}" for m in config["modalities"] or dims)
    console.print(f"[bold]{dataset_title(config['dataset'])}[/bold]: {sizes}", highlight=False)
    if word_table:
        vectors = f"{len(word_table)} words x {word_table.dimension}, {word_table.origin}"
        console.print(f"  word vectors: {vectors}", highlight=False, soft_wrap=True)
    for split, counts in summary.items():
        console.print(
            f"  {split}: {counts['utterances']} utterances, {counts['videos']} video(s), "
            f"{counts['words']} words, {counts['unknown_words']} of them not in the word table",
            highlight=False,
            soft_wrap=True,
        )
        if counts["videos"] == 1:
            console.print(
                f"  [yellow]{split} is one video, one speaker: what is measured on it says little.[/yellow]",
                highlight=False,
                soft_wrap=True,
            )


def _prediction_rows(config, examples, predictions):
    classes, scores = config["class_names"], config["score_names"]
    rows = []
    for segment_id, video_id, label, prediction in zip(
        examples["segment_id"], examples["video_id"], examples["label"], predictions, strict=True
    ):
        row = {"segment_id": segment_id, "video_id": video_id}
        if scores:
            row.update((f"label_{name}", y) for name, y in zip(scores, label, strict=True))
            row.update((f"prediction_{name}", p) for name, p in zip(scores, prediction, strict=True))
        elif len(prediction) == 1:
            row.update(label=label, prediction=prediction[0])
        else:
            names = classes or [str(c) for c in range(len(prediction))]
            probabilities = np.exp(prediction - prediction.max())
            probabilities /= probabilities.sum()
            row.update(label=names[int(label)], prediction=names[int(prediction.argmax())])
            row.update((f"probability_{name}", p) for name, p in zip(names, probabilities, strict=True))
        rows.append(row)
    return rows


def _versions():
    import keras

    names = ("keras-misa", "keras", "tensorflow", "tensorflow-datasets", "numpy")
    return {
        "backend": keras.backend.backend(),
        "python": sys.version.split()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "versions": {name: metadata.version(name) for name in names},
    }
