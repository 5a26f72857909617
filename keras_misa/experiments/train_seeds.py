"""The same training from several seeds."""

import pathlib
import time

import numpy as np

from keras_misa._files import read_json, write_json
from keras_misa.experiments.fit_model import TrainingDiverged
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.report import HEADINGS, cell
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import SEEDS_FILE, is_finished, seed_folders
from keras_misa.experiments.train import train
from keras_misa.experiments.train_in_processes import train_in_processes


def train_seeds(seeds, dataset="synthetic_subspaces", output=None, quiet=False, workers=1, **settings):
    """Train from several seeds, each as `train` does, and summarise.

    Writes `seed-<n>/`, a run, for each seed, from that of `settings` (0) on, and `seeds.json`. Started again with the
    same `output`, it goes on where it was killed; more seeds may then be asked for, and those that are there already
    count in any case. A training that diverges does not stop the others, and is told at the end.

    Args:
        seeds: number of seeds.
        dataset: name of a dataset.
        output: folder to write, new or empty, or of the same settings; `runs/<dataset>-<time>` if `None`.
        quiet: whether to print nothing but errors.
        workers: how many trainings at a time, each in a process of its own with its share of the cores and GPUs. To
            get the same numbers again, to the last bit, take equally many.
        **settings: as for `train`.

    Returns:
        Dict, name of a metric → dict of its `mean`, `std` (that of a sample, n - 1; `None` of one seed) and `values`,
        one a seed.

    Raises:
        ValueError: If a setting is wrong, the data does not fit, or a training diverged.
        FileExistsError: If `output` holds something else.
        FileNotFoundError: If a finished run has lost files.

    Example:
        ```python
        keras_misa.experiments.train_seeds(5, "cmu_mosi", output="runs/mosi")["mae"]["mean"]
        ```
    """
    import keras

    from keras_misa._console import make_console

    console = make_console(quiet=quiet)
    output = pathlib.Path(output or f"runs/{dataset.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}")
    written, runs = plan_seeds(seeds, dataset, output, settings)
    if workers > 1:
        train_in_processes(unfinished(runs), workers, console)
    metrics, diverged = {}, []
    for run, run_settings in runs.items():
        seed = run_settings["seed"]
        if is_finished(run):
            console.print(f"Seed {seed} is done.", highlight=False)
            metrics[seed] = read_json(run / "metrics.json")
            continue
        console.rule(f"Seed {seed}")
        try:
            metrics[seed] = train(output=run, quiet=quiet, **run_settings)
        except TrainingDiverged as error:
            diverged.append(f"seed {seed}: {error}")
        finally:
            keras.backend.clear_session()
    for seed, run in seed_folders(output).items():  # of a time when more were asked for
        if seed not in metrics and is_finished(run):
            metrics[seed] = read_json(run / "metrics.json")
    metrics = dict(sorted(metrics.items()))
    summary = summarise(metrics.values())
    write_json(output / SEEDS_FILE, {**written, "seeds": list(metrics), "metrics": summary})
    if summary:
        console.print(_table(summary, list(metrics), f"{dataset}, test split").to_rich())
        console.print(f"Written to {output}", highlight=False)
    if diverged:
        raise ValueError(
            f"{len(diverged)} of {seeds} trainings diverged and are not in the table. " + "; ".join(diverged)
        )
    return summary


def plan_seeds(seeds, dataset, output, settings):
    """Claim the folder for these trainings.

    Args:
        seeds: see `train_seeds`, and so for the next two.
        dataset: name.
        output: folder.
        settings: dict.

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
    written = claim_folder(output / SEEDS_FILE, {"dataset": dataset, **settings})
    numbers = range(first, first + seeds)
    return written, {output / f"seed-{seed}": {"dataset": dataset, **settings, "seed": seed} for seed in numbers}


def unfinished(runs):
    """Those of a dict of runs that have no metrics yet."""
    return {folder: settings for folder, settings in runs.items() if not is_finished(folder)}


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
        then = read_json(path)["settings"]
        if changed := sorted(name for name in {*then, *settings} if then.get(name) != settings.get(name)):
            differences = ", ".join(f"{n}={settings.get(n)!r} (was {then.get(n)!r})" for n in changed)
            raise ValueError(f"{folder} was begun with other settings; choose another. Received: {differences}")
        return read_json(path)
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
    summary = {}
    for name in metrics[0] if metrics else ():
        values = np.array([np.nan if m[name] is None else m[name] for m in metrics], float)
        std = float(values.std(ddof=1)) if len(values) > 1 else None
        summary[name] = {"mean": float(values.mean()), "std": std, "values": values.tolist()}
    return summary


def _table(summary, seeds, caption):
    columns = ["metric", "mean ± std", *(f"seed {seed}" for seed in seeds)]
    rows = []
    for name, numbers in summary.items():
        values = [cell(name, value) for value in numbers["values"]]
        rows.append([HEADINGS.get(name, name), cell(name, numbers["mean"], numbers["std"]), *values])
    return ResultTable(f"{caption}, {len(seeds)} seeds", columns, rows)
