"""The same training from several seeds, and on the folds of a cross-validation."""

import pathlib
import time

import numpy as np

from keras_misa._files import write_json
from keras_misa.experiments.fit_model import TrainingDiverged
from keras_misa.experiments.forget_models import forget_models
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.report import HEADINGS, cell, dataset_title
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import (
    SEEDS_FILE,
    extent,
    is_finished,
    read_begun,
    read_metrics,
    run_folder,
    run_folders,
    run_label,
)
from keras_misa.experiments.train import train
from keras_misa.experiments.train_in_processes import train_in_processes


def train_seeds(seeds, dataset="synthetic_subspaces", output=None, quiet=False, workers=1, folds=None, **settings):
    """Train from several seeds, each as `train` does, and summarise.

    Writes `seed-<n>/`, a run, for each seed, from that of `settings` (0) on, and `seeds.json`. Started again with the
    same `output`, it goes on where it was killed; more seeds may then be asked for, and those that are there already
    count in any case. A training that diverges does not stop the others, and is told at the end.

    With `folds` each seed is a cross-validation by video: `seed-<n>-fold-<k>/` is tested on part k of the data, so that
    the folds together test each utterance once (see `keras_misa.data.fold_by_video`).

    Args:
        seeds: number of seeds.
        dataset: name of a dataset.
        output: folder to write, new or empty, or of the same settings; `runs/<dataset>-<time>` if `None`.
        quiet: whether to print nothing but errors.
        workers: how many trainings at a time, each in a process of its own with its share of the cores and GPUs. To
            get the same numbers again, to the last bit, take equally many.
        folds: number of folds, 3 or more; `None` for no cross-validation.
        **settings: as for `train`; with `folds`, no `split_by`.

    Returns:
        Dict, name of a metric → dict of its `mean`, `std` (that of a sample, n - 1; `None` of one run) and `values`,
        one a run.

    Raises:
        ValueError: If a setting is wrong, the data does not fit, or a training diverged.
        FileExistsError: If `output` holds something else.
        FileNotFoundError: If a finished run has lost files.

    Example:
        ```python
        keras_misa.experiments.train_seeds(5, "cmu_mosi", output="runs/mosi")["mae"]["mean"]
        ```
    """
    from keras_misa._console import make_console
    from keras_misa.experiments.open_data import find_dataset

    check_workers(workers)
    console = make_console(quiet=quiet)
    output = pathlib.Path(output or f"runs/{dataset.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}")
    if not (output / SEEDS_FILE).exists():  # else it was found then
        find_dataset(make_config(dataset, **settings))
    check_folds(folds, dataset, output / SEEDS_FILE, settings)
    written, runs = plan_seeds(seeds, dataset, output, settings, folds)
    if workers > 1:
        train_in_processes(runs, workers, console)
    diverged = []
    for run, run_settings in runs.items():
        if is_finished(run):
            console.print(f"{run_label(run).capitalize()} is done.", highlight=False)
            continue
        console.rule(run_label(run).capitalize())
        try:
            train(output=run, quiet=quiet, **run_settings)
        except TrainingDiverged as error:
            diverged.append(f"{run_label(run)}: {error}")
        finally:
            forget_models()
    finished = [run for run in run_folders(output) if is_finished(run)]  # some of a time when more were asked for
    summary = summarise(map(read_metrics, finished))
    write_json(output / SEEDS_FILE, {**written, "runs": [run.name for run in finished], "metrics": summary})
    if summary:
        counted = extent(len({run.name.split("-")[1] for run in finished}), folds)
        counted += f", but for {len(diverged)} runs that diverged" if diverged else ""
        caption = f"{dataset_title(dataset)}, test split, {counted}"
        console.print(_table(summary, list(map(run_label, finished)), caption).to_rich())
        console.print(f"Written to {output}", highlight=False)
    if diverged:
        raise ValueError(
            f"{len(diverged)} of {len(runs)} trainings diverged and are not in the table. " + "; ".join(diverged)
        )
    return summary


def check_workers(workers):
    """Raise if there is none."""
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1. Received: workers={workers}")


def check_folds(folds, dataset, file, settings):
    """That there can be so many folds, before anything is written.

    Args:
        folds: see `train_seeds`.
        dataset: name.
        file: of settings; if it is there, folds were checked when it was written.
        settings: of `train`.

    Raises:
        ValueError: If there are too few videos or folds, or videos are dealt out already.
    """
    from keras_misa.data import load_examples

    if folds is None or file.exists():
        return
    if settings.get("split_by") is not None:
        raise ValueError(
            f"`folds` deals out the videos itself. Received: folds={folds} and split_by={settings['split_by']!r}"
        )
    source = {name: settings.get(name) for name in ("data_dir", "manual_dir")}
    load_examples(dataset, "test", split_by=f"video:1/{folds}", **source)


def plan_seeds(seeds, dataset, output, settings, folds=None):
    """Claim the folder for these trainings.

    Args:
        seeds: see `train_seeds`, and so for the next two.
        dataset: name.
        output: folder.
        settings: dict.
        folds: see `train_seeds`.

    Returns:
        What `claim_folder` gives, and a dict, folder of a run → its settings, with `dataset` and `seed`.

    Raises:
        ValueError: See `train_seeds`.
        FileExistsError: Likewise.
    """
    if seeds < 1:
        raise ValueError(f"`seeds` must be 1 or more. Received: seeds={seeds}")
    first = make_config(dataset, **settings)["seed"]  # and nothing is written if the settings are wrong
    settings = {name: value for name, value in settings.items() if name != "seed"}
    settings = {"dataset": dataset, **settings}
    written = claim_folder(output / SEEDS_FILE, {**settings, "folds": folds})
    runs = {}
    for seed in range(first, first + seeds):
        for fold in [None] if folds is None else range(1, folds + 1):
            dealt = {} if fold is None else {"split_by": f"video:{fold}/{folds}"}
            runs[output / run_folder(seed, fold)] = {**settings, **dealt, "seed": seed}
    return written, runs


def claim_folder(path, settings, **more):
    """Write the settings, or compare them with those that a folder was begun with, if anything but them is there.

    Args:
        path: the JSON file in the folder that holds them.
        settings: dict.
        **more: what else to write.

    Returns:
        What the file holds, with the settings as `settings`.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If the settings differ.
    """
    folder = path.parent
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items() if v is not None}
    settings = {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in settings.items()}
    has_others = folder.is_dir() and any(not p.name.startswith(".") and p != path for p in folder.iterdir())
    if path.exists() and has_others:
        written = read_begun(path)
        then = written["settings"]
        if changed := sorted(name for name in {*then, *settings} if then.get(name) != settings.get(name)):
            differences = ", ".join(f"{n}={settings.get(n)!r} (was {then.get(n)!r})" for n in changed)
            raise ValueError(f"{folder} was begun with other settings; choose another. Received: {differences}")
        return written
    if folder.exists() and (not folder.is_dir() or has_others):
        raise FileExistsError(f"The output folder must be new or empty. Received: output={str(folder)!r}")
    written = {"settings": settings, **more}
    write_json(path, written)
    return written


def summarise(metrics):
    """Mean, standard deviation of a sample, and values of metrics.

    Args:
        metrics: dicts, name → number, one a run; `None`, as JSON has NaN, counts as NaN.

    Returns:
        Dict, name → dict of `mean`, `std` (`None` of a single run) and `values`.
    """
    metrics = list(metrics)
    if len(names := {frozenset(m) for m in metrics}) > 1:
        raise ValueError(f"Expected runs with the same metrics. Received: {sorted(map(sorted, names))}")
    summary = {}
    for name in metrics[0] if metrics else ():
        values = np.array([np.nan if m[name] is None else m[name] for m in metrics], float)
        std = float(values.std(ddof=1)) if len(values) > 1 else None
        summary[name] = {"mean": float(values.mean()), "std": std, "values": values.tolist()}
    return summary


def _table(summary, labels, caption):
    columns = ["metric", "mean ± std", *labels]
    rows = []
    for name, numbers in summary.items():
        values = [cell(name, value) for value in numbers["values"]]
        rows.append([HEADINGS.get(name, name), cell(name, numbers["mean"], numbers["std"]), *values])
    return ResultTable(caption, columns, rows)
