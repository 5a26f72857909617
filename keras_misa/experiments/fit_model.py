"""Training, to the end and wherever it was interrupted."""

import pathlib

import numpy as np


class TrainingDiverged(ValueError):
    """A loss that is not finite."""


def make_model(data, config=None):
    """The compiled model of a configuration, with the weights of its seed.

    Args:
        data: a `RunData`.
        config: dict of `make_config`, if it is not that of the data.

    Returns:
        What `build_model` gives.

    Raises:
        ValueError: If the model needs modalities that are aligned, and they are not.
    """
    import keras

    from keras_misa.experiments.build_model import build_model

    config = config or data.config
    keras.utils.set_random_seed(config["seed"])  # whatever was computed so far
    text_encoder = data.text and data.text.make_encoder(config["dtype"])
    model = build_model(config, data.dims, text_encoder, data.steps_per_epoch)
    if model.needs_alignment:
        _check_alignment(config, data)
    return model


def _check_alignment(config, data):
    """Raise if the modalities of an utterance have steps in different numbers; one that is missing may have none."""
    for split, batches in data.batches.items():
        parts = [{m: np.asarray(part["lengths"]) for m, part in batch.items()} for batch, _ in batches]
        lengths = {m: np.concatenate([part[m] for part in parts]) for m in parts[0]}
        table = np.stack(list(lengths.values()), axis=1)
        wrong = np.flatnonzero(((table != table.max(axis=1, keepdims=True)) & (table > 0)).any(axis=1))
        if len(wrong):
            example = ", ".join(f"{m} {numbers[wrong[0]]}" for m, numbers in lengths.items())
            raise ValueError(
                f"The model {config['model']!r} reads the modalities side by side, step by step: they must be aligned. "
                "BERT's word pieces are not aligned with anything; the models mult, tfn, lmf and lf_lstm, and mfm with "
                "multimodal_encoder=lstm, need not be. "
                f"Received: {len(wrong)} of {len(table)} utterances of {split} with modalities of different lengths, "
                f"such as {data.examples[split]['segment_id'][wrong[0]]}: {example}"
            )


def fit_model(model, data, folder, console=None, config=None, tensorboard=True):
    """Train until early stopping; the model then has its best weights.

    Progress is written to `folder` after each epoch, and training goes on after the last one that is there.

    Args:
        model: what `make_model` made.
        data: a `RunData`.
        folder: for `history.csv`, the checkpoint and TensorBoard's logs.
        console: `rich.console.Console` to print a line an epoch to; `None` prints nothing.
        config: dict of `make_config`, if it is not that of the data.
        tensorboard: whether to write TensorBoard's logs (on the TensorFlow backend).

    Returns:
        The history: list of dicts, one an epoch.
    """
    import keras

    from keras_misa.experiments.callbacks import EpochTable, HistoryFile
    from keras_misa.experiments.checkpoint import Checkpoint

    config = config or data.config
    folder = pathlib.Path(folder)
    history = HistoryFile(folder / "history.csv")
    stopping = make_stopping(config)
    saving = Checkpoint(folder, stopping, history)
    callbacks = [history, stopping, keras.callbacks.TerminateOnNaN()]
    if tensorboard and keras.backend.backend() == "tensorflow":
        callbacks.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    if console is not None and not console.quiet:
        callbacks.append(EpochTable(console, config["epochs"], stopping.monitor, history))
    if saving.restore(model) and console is not None:
        console.print(f"Interrupted after epoch {saving.epoch}; going on.", highlight=False)
    if not saving.is_over:
        # Keras would take a batch to build these from, and with it the order of an epoch.
        model.evaluate(data.batches["validation"], steps=1, verbose=0)
        if not model.optimizer.built:  # A loss scale's optimiser would take a second build for a new beginning.
            model.optimizer.build(model.trainable_variables)
        model.fit(
            data.training_batches(config["seed"], saving.epoch),
            validation_data=data.batches["validation"],
            steps_per_epoch=data.steps_per_epoch,
            initial_epoch=saving.epoch,
            epochs=config["epochs"],
            callbacks=[*callbacks, saving],
            shuffle=False,  # load_dataset has shuffled
            verbose=0,
        )
    return history.rows


def make_stopping(config):
    """The early stopping of a configuration's protocol; its `monitor` is the validation task loss."""
    import keras

    from keras_misa.experiments.reference_protocol import ReferenceStopping

    if config["protocol"] == "reference":
        return ReferenceStopping(config["patience"])
    return keras.callbacks.EarlyStopping("val_task", mode="min", patience=config["patience"], restore_best_weights=True)


def divergence(history):
    """What is wrong with a history whose losses are not finite, else `None`."""
    for row in history:
        if not np.isfinite([value for name, value in row.items() if name.endswith(("loss", "task"))]).all():
            return f"a loss is not finite in epoch {row['epoch']}"
    return None
