"""Training, with everything written down."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from importlib import metadata

import numpy as np

from keras_misa._files import atomic_path, owning, read_json, write_csv, write_json
from keras_misa.experiments.evaluate import best_reachable
from keras_misa.experiments.load_run import complete_settings
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.prediction_cells import class_names, prediction_cells
from keras_misa.experiments.report import dataset_title, metrics_table, plot_curves, scores_table, split_title
from keras_misa.experiments.subspace_scores import subspace_scores, variance_shares
from keras_misa.experiments.task_metrics import compute_metrics


def train(dataset="synthetic_subspaces", output=None, quiet=False, **settings):
    """Train, evaluate and explain a model, MISA or a baseline, and write a run folder.

    The folder holds `config.json`, `tokenizer.json`, `history.csv`, `metrics.json`, `predictions.csv`,
    `explanation.json` (of MISA), `model.keras`, `curves.png` and TensorBoard logs. Training stops when the validation
    task loss (without regularisers) has not improved for `patience` epochs; the best weights are kept. A run that was
    killed goes on after its last whole epoch when it is started again with the same `output`, and ends as if nothing
    had happened: on CPUs to the last bit, with each backend.

    Args:
        dataset: name of a dataset; the built-in synthetic one by default.
        output: folder to write, new or empty; `runs/<dataset>-<time>` if `None`.
        quiet: whether to print nothing but errors.
        **settings: what differs from the dataset's preset; see `make_config`.

    Returns:
        Dict of the test split's metrics.

    Raises:
        ValueError: If a setting is wrong, the data does not fit, or training diverged.
        FileExistsError: If `output` holds files already that are not of an interrupted run.
        BlockingIOError: If another process trains there now.

    Example:
        ```python
        keras_misa.experiments.train(output="runs/first", seed=1)
        ```
    """
    from keras_misa._console import make_console
    from keras_misa.experiments.callbacks import text_progress
    from keras_misa.experiments.devices import prepare_devices
    from keras_misa.experiments.open_data import open_data

    config = make_config(dataset, **settings)
    console = make_console(quiet=quiet)
    output = pathlib.Path(output or f"runs/{dataset.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}")
    _check_output(output)  # before the data is read
    prepare_devices(config)
    with text_progress(console) as progress:
        run_data = open_data(config, progress=progress)
    _print_summary(console, run_data)
    with owning(output):
        return _train(run_data, output, console)


def _check_output(output):
    """Raise if the folder holds anything but a run that was interrupted; returns whether it holds one."""
    is_resumed = (output / "config.json").exists() and not (output / "metrics.json").exists()
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"The output is a folder. Received: output={str(output)!r}, which is a file")
    if output.exists() and not is_resumed and any(not path.name.startswith(".") for path in output.iterdir()):
        held = "a finished run" if (output / "metrics.json").exists() else "other files"
        raise FileExistsError(
            "The output folder must be new or empty, or hold a run that was interrupted. "
            f"Received: output={str(output)!r}, which holds {held}"
        )
    return is_resumed


def _train(run_data, output, console):
    from keras_misa.experiments.checkpoint import remove_checkpoint
    from keras_misa.experiments.devices import device_scope
    from keras_misa.experiments.fit_model import TrainingDiverged, divergence, fit_model, make_model

    config = run_data.config
    is_resumed = _check_output(output)  # again: another process may have been there in the meantime

    # === Training ===
    with device_scope(config["devices"]):
        model = make_model(run_data)
        if is_resumed:
            _check_settings(output / "config.json", config, run_data.provenance)
        write_json(output / "config.json", {"settings": config, "data": run_data.provenance, **_versions()})
        run_data.save_tokenizer(output)
        history = fit_model(model, run_data, output, console)
    if problem := divergence(history):
        raise TrainingDiverged(
            f"Training diverged: {problem}, see {output / 'history.csv'}. "
            f"Received: learning_rate={config['learning_rate']}, dtype={config['dtype']}"
        )
    with atomic_path(output / "model.keras") as temporary:
        (run_data.text.complete(model) if run_data.text else model).save(temporary)
    examples, batches, dims = run_data.examples, run_data.batches, run_data.dims
    title = split_title(config, "validation", len(examples["validation"]["label"]))
    plot_curves(history, output / "curves.png", f"{title}, seed {config['seed']}")

    # === Evaluation ===
    predictions = model.predict(batches["test"], verbose=0)
    metrics = compute_metrics(config, examples["test"]["label"], predictions)
    write_csv(output / "predictions.csv", list(_prediction_rows(config, examples["test"], predictions)))
    best = best_reachable(config, examples["test"])
    console.print(metrics_table(metrics, split_title(config, "test", len(examples["test"]["label"])), best))
    if best:
        console.print(f"MAE is {metrics['mae'] / best['mae'] - 1:+.1%} from the best reachable one.", highlight=False)
    if hasattr(model, "explain"):
        explanation = _explain(model, dims, batches, examples)
        write_json(output / "explanation.json", explanation)
        for name, scores in explanation.items():
            console.print(scores_table(scores, EXPLANATIONS[name]))
    write_json(output / "metrics.json", metrics)  # the last file: a run that has it is finished
    remove_checkpoint(output)
    console.print(f"Written to {output}", highlight=False)
    return metrics


EXPLANATIONS = {
    "attention": "Average attention over the test split: how much each row looks at each column",
    "factors": "Held-out R² of the true factors (columns) from the learned vectors (rows)",
    "variance": "Share of the learned vectors' variance (rows) that each true factor (columns) explains",
}


def _check_settings(path, config, provenance):
    """An interrupted run goes on as it began, on the same data and backend."""
    import keras

    def comparable(settings, data, backend):
        files = {name: source["sha256"] for name, source in (data.get("sources") or {}).items()}
        others = {"files": files, "words": data.get("text"), "backend": backend}
        return json.loads(json.dumps({**settings, **others}, default=str))

    written = read_json(path)
    then = comparable(complete_settings(written["settings"]), written["data"], written["backend"])
    now = comparable(config, provenance, keras.backend.backend())
    if changed := sorted(name for name in {*then, *now} if then.get(name) != now.get(name)):
        differences = ", ".join(f"{name}={now.get(name)!r} (was {then.get(name)!r})" for name in changed)
        raise ValueError(
            f"`{path.parent}` holds an interrupted run with other settings or data: start anew in another folder. "
            f"Received: {differences}"
        )


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


def _print_summary(console, data):
    config, dims, text = data.config, data.dims, data.text
    sizes = ", ".join(f"{m} {'words' if dims[m] is None else dims[m]}" for m in config["modalities"] or dims)
    console.print(f"[bold]{dataset_title(config['dataset'])}[/bold]: {sizes}", highlight=False)
    if text:
        console.print(f"  {text}", highlight=False, soft_wrap=True, markup=False)
    for split, counts in data.summary.items():
        line = f"  {split}: {counts['utterances']} utterances, {counts['videos']} video(s), {counts['words']} words"
        if text:
            line += f", {counts['unknown_words']} of them unknown"
        if counts.get("cut_utterances"):
            line += f"; {counts['cut_utterances']} utterances too long for BERT lose their end"
        console.print(line, highlight=False, soft_wrap=True)
        if counts["videos"] == 1:
            console.print(
                f"  [yellow]{split} is one video, one speaker: what is measured on it says little.[/yellow]",
                highlight=False,
                soft_wrap=True,
            )


def _prediction_rows(config, examples, predictions):
    columns = zip(examples["segment_id"], examples["video_id"], examples["label"], predictions, strict=True)
    for segment_id, video_id, label, prediction in columns:
        row = {"segment_id": segment_id, "video_id": video_id}
        if config["score_names"]:
            row.update((f"label_{name}", y) for name, y in zip(config["score_names"], label, strict=True))
        else:
            row["label"] = label if len(prediction) == 1 else class_names(config)[int(label)]
        yield row | prediction_cells(config, prediction)


def _versions():
    import keras

    names = ("keras-misa", "keras", "tensorflow", "tensorflow-datasets", "numpy")
    return {
        "backend": keras.backend.backend(),
        "python": sys.version.split()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "versions": {name: metadata.version(name) for name in names},
        "git": _git_revision(pathlib.Path(__file__).parents[2]),
    }


def _git_revision(folder):
    """The revision of the package where it is a git checkout, with `+` if files were changed since, else `None`."""

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        root = git("rev-parse", "--show-toplevel")
        if root is None or pathlib.Path(root).resolve() != folder.resolve():
            return None  # it lies in somebody else's repository
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.TimeoutExpired):
        return None
