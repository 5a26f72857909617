"""A saved run on a split."""

import logging
import pathlib

import numpy as np

from keras_misa.experiments.dialects import check_dialect
from keras_misa.experiments.load_run import load_run_model, padding_multiple, read_run
from keras_misa.experiments.report import metrics_table, split_title
from keras_misa.experiments.task_metrics import compute_metrics

_logger = logging.getLogger(__name__)


def evaluate(run, split="test", manual_dir=None, data_dir=None, console=None, dialect="paper"):
    """Compute the metrics of a run's saved model.

    Args:
        run: folder that `train` wrote.
        split: `"train"`, `"validation"` or `"test"`.
        manual_dir: where the data's files lie now, if not where they lay at training.
        data_dir: where the prepared data lies now, likewise.
        console: `rich.console.Console` to print the table to; `None` prints nothing.
        dialect: of the metrics of sentiment: `"paper"`, the published code's; `"sdk"`, whose Acc-7 rounds away from
            zero; `"mmsa"`, MMSA's names and percentages.

    Returns:
        Dict of metrics, in the table's order.

    Raises:
        FileNotFoundError: If the folder is not a finished run.
        ValueError: If one of its files is damaged, or the dialect is unknown or not of this task.

    Example:
        ```python
        keras_misa.experiments.evaluate("runs/first")["mae"]
        ```
    """
    from keras_misa.experiments.text import load_text

    check_dialect(read_run(run)[0], dialect)
    config = find_data(run, manual_dir, data_dir)
    model = load_run_model(run)
    examples = collect_examples(config, split)
    predictions = model.predict(load_split(config, split, load_text(run)), verbose=0)
    labels = examples["label"]
    metrics = compute_metrics(config, labels, predictions, dialect)
    if console:
        title = split_title(config, split, len(labels))
        title += f", as in the {dialect} dialect" if dialect != "paper" else ""
        console.print(metrics_table(metrics, title, best_reachable(config, examples, dialect)))
    return metrics


def find_data(run, manual_dir=None, data_dir=None):
    """A run's configuration, with the places where its data lies now; warns if that is other data.

    Args:
        run: folder that `train` wrote.
        manual_dir: where the data's files lie now, if not where they lay at training.
        data_dir: where the prepared data lies now, likewise.

    Returns:
        Dict of `make_config`.

    Raises:
        FileNotFoundError: If the folder is not a finished run.
        ValueError: If the data is nowhere.
    """
    from keras_misa.data import prepare_dataset

    config, written = read_run(run)
    if manual_dir is None and config["manual_dir"] and pathlib.Path(config["manual_dir"]).is_dir():
        manual_dir = config["manual_dir"]  # else what was prepared of it
    config.update(manual_dir=manual_dir, data_dir=data_dir or config["data_dir"])
    metadata = dict(prepare_dataset(config["dataset"], config["data_dir"], config["manual_dir"]).info.metadata or {})
    now, then = (
        {name: s["sha256"] for name, s in (data.get("sources") or {}).items()} for data in (metadata, written["data"])
    )
    if now != then:
        _logger.warning("These are not the files that the run was trained on. Then: %s. Now: %s.", then, now)
    return config


def load_split(config, split, text, **kwargs):
    """The batches of a split as the configuration wants them; `text` is what `load_dataset` takes."""
    from keras_misa.data import load_dataset

    return load_dataset(
        config["dataset"],
        split,
        label=config["label"],
        text=text,
        modalities=config["modalities"],
        batch_size=config["batch_size"],
        cache=config["cache"],
        **source_of(config),
        pad_to_multiple_of=padding_multiple(config["jit_compile"]),
        **kwargs,
    )


def source_of(config):
    """The settings that say where the data comes from."""
    return {name: config[name] for name in ("split_by", "data_dir", "manual_dir")}


def collect_examples(config, split):
    """What is known of each example of a split beside its features.

    Returns:
        Dict of arrays `(rows, ...)`: `segment_id`, `video_id`, `label`, `words` (a list of lists) and, for made-up
        data, `factors` and `best_prediction`.
    """
    import keras

    from keras_misa.data import load_examples

    keys = ("segment_id", "video_id", "words", "factors", "best_prediction")
    examples = load_examples(config["dataset"], split, **source_of(config))
    examples = examples.map(
        lambda e: {key: e[key] for key in keys if key in e} | {"label": e[config["label"]]},
    )
    examples = list(examples.as_numpy_iterator())
    words = [[word.decode() for word in example.pop("words", ())] for example in examples]
    collected = keras.tree.map_structure(lambda *values: np.stack(values), *examples)
    for key in ("segment_id", "video_id"):
        collected[key] = [value.decode() for value in collected[key]]
    return {**collected, "words": words}


def best_reachable(config, examples, dialect="paper"):
    """The metrics of the predictor that knows the true factors, where there is one, else `None`."""
    if "best_prediction" not in examples:
        return None
    return compute_metrics(config, examples["label"], examples["best_prediction"][:, None], dialect)
