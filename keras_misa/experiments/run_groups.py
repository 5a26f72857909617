"""Runs that belong together: one model, trained from several seeds."""

import csv
import dataclasses
import io
import pathlib
import re

import numpy as np

from keras_misa._files import read_json
from keras_misa.experiments.load_run import FILES, read_run
from keras_misa.experiments.task_metrics import is_classification

SEEDS_FILE = "seeds.json"
VARIANTS_FILE = "ablation.json"
OWN = ("seed", "data_dir", "manual_dir", "devices")  # settings of a run that its group has not in common


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """A model's finished runs, which differ in their seeds.

    Args:
        name: of the model in tables.
        runs: folders that `train` wrote, in the order of their seeds.
    """

    name: str
    runs: tuple

    @property
    def key(self):
        """What tells the group from others, wherever it was asked for: the places of its runs."""
        return tuple(run.resolve() for run in self.runs)

    @property
    def config(self):
        """Dict of `make_config`, as in the first run."""
        return read_run(self.runs[0])[0]

    @property
    def seeds(self):
        """The seeds, one a run."""
        return [read_run(run)[0]["seed"] for run in self.runs]

    def metrics(self):
        """Dict, name of a metric → array of its values on the test split, one a run."""
        read = [_read_metrics(run / "metrics.json") for run in self.runs]
        if len({frozenset(metrics) for metrics in read}) > 1:
            names = {str(run): sorted(metrics) for run, metrics in zip(self.runs, read, strict=True)}
            raise ValueError(f"Expected runs with the same metrics. Received: {names}")
        return {name: np.array([np.nan if m[name] is None else m[name] for m in read]) for name in read[0]}

    def histories(self):
        """For each run a dict, name of a column of `history.csv` → array of its values, one an epoch."""
        histories = []
        for run in self.runs:
            rows = _read_csv(run / "history.csv")
            if not rows:
                raise ValueError(f"{run / 'history.csv'} is damaged: expected a row for each epoch. Received: none")
            histories.append({name: np.array([float(row[name]) for row in rows]) for name in rows[0]})
        return histories

    def predictions(self):
        """For each run its `predictions.csv`, a list of dicts of strings."""
        return [read_predictions(run) for run in self.runs]


def find_run_groups(*paths):
    """The runs in folders.

    Args:
        *paths: each a run, a folder that `train` with several seeds wrote, or one that `ablate` wrote. Runs that are
            not finished are left out.

    Returns:
        List of `RunGroup`, at least one, each once. A folder of `ablate` gives one for each of its models, in its
        order; others are named after their folder.

    Raises:
        FileNotFoundError: If a path holds no finished run, or one that has lost files.
        ValueError: If runs of one model differ in more than their seeds.

    Example:
        ```python
        for group in find_run_groups("runs/misa", "ablations/mosi"):
            print(group.name, group.metrics()["mae"].mean())
        ```
    """
    groups = {}
    for path in map(pathlib.Path, paths):
        found = list(_groups_in(path))
        if not found:
            below = sorted([*path.glob("*/metrics.json"), *path.glob("*/seed-*/metrics.json")])
            hint = f", a folder of other folders of runs, such as {below[0].parent}: name them" if below else ""
            raise FileNotFoundError(f"There is no finished run. Received: {str(path)!r}{hint}")
        groups.update((group.key, group) for group in found)
    return list(groups.values())


def name_apart(groups, key=str):
    """The groups, with names whose `key` differ: of equal ones, the folders above tell which is which."""
    named, taken = [], set()
    for group in groups:
        name = first = _name_beside(group, groups)
        number = 1
        while key(name) in taken:
            number += 1
            name = f"{first} {number}"
        taken.add(key(name))
        named.append(dataclasses.replace(group, name=name))
    return named


def _name_beside(group, groups):
    others = [_folder(other) for other in groups if other.name == group.name and other is not group]
    if not others:
        return group.name
    parents, length = _folder(group).parent.parts, 1
    while any(other.parent.parts[-length:] == parents[-length:] for other in others) and length < len(parents):
        length += 1
    return f"{group.name} ({'/'.join(parents[-length:])})"


def _folder(group):
    """Of the model, where its runs have one each below it."""
    run = group.runs[0].resolve()
    is_below = re.fullmatch(r"seed-\d+", run.name) and group.name != run.name
    return run.parent if is_below else run


def read_predictions(run):
    """A run's `predictions.csv`, a list of dicts of strings."""
    return _read_csv(run / "predictions.csv")


def data_of(config):
    """What runs must share to stand in one table: dataset, label, how it was dealt out, kind of label, its scores."""
    kind = "classes" if is_classification(config) else config["metrics"]
    return (config["dataset"], config["label"], config["split_by"] or "", kind, tuple(config["score_names"] or ()))


def seed_folders(path):
    """Dict, seed → its folder, of what `train_seeds` wrote into `path`."""
    found = {int(folder.name[5:]): folder for folder in path.glob("seed-*") if re.fullmatch(r"seed-\d+", folder.name)}
    return dict(sorted(found.items()))


def is_finished(run):
    """Whether a training has come to its end.

    Raises:
        FileNotFoundError: If it has, and a file that it wrote is gone.
    """
    if (run / "metrics.json").exists():
        if gone := [name for name in FILES if not (run / name).exists()]:
            raise FileNotFoundError(
                f"{run} is damaged: expected {', '.join(FILES)}. Received: no {', '.join(gone)}. If the folder is "
                "removed, the command that wrote it trains that run again."
            )
        return True
    return False


def _groups_in(path):
    if (path / VARIANTS_FILE).exists():
        for name, folder in read_json(path / VARIANTS_FILE).get("variants", {}).items():
            for group in _groups_in(path / folder):
                yield dataclasses.replace(group, name=name)
    elif runs := [run for run in (path, *seed_folders(path).values()) if is_finished(run)]:
        _check_same_settings(runs)
        yield RunGroup(path.resolve().name, tuple(runs))


def _check_same_settings(runs):
    """Runs of a group differ in their seeds, and in where their data and machines were."""
    known = {}
    for run in runs:
        config = read_run(run)[0]
        other, then = known.get(config["seed"]) or next(iter(known.values()), (run, config))
        names = [name for name in {**then, **config} if name not in OWN and then.get(name) != config.get(name)]
        if names or config["seed"] in known:
            received = {name: (then.get(name), config.get(name)) for name in names or ["seed"]}
            raise ValueError(
                f"Runs of one model differ in their seeds alone. Received: {other} and {run} with {received}"
            )
        known[config["seed"]] = run, config


def _read_metrics(path):
    metrics = read_json(path)
    is_object = isinstance(metrics, dict) and metrics
    if not is_object or not all(isinstance(value, (int, float, type(None))) for value in metrics.values()):
        raise ValueError(f"{path} is damaged: expected an object, name → number. Received: {str(metrics)[:80]}")
    return metrics


def _read_csv(path):
    """The rows of a file that `write_csv` wrote: a cut one is told."""
    try:
        text = path.read_bytes().decode("utf-8")  # with its ends of lines, for the reader
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: expected a CSV file in UTF-8. Received: {error}") from error
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(f"{path} is damaged: expected a cell for each column. Received: row {number}, {row}")
    if rows and not text.endswith("\n"):
        raise ValueError(f"{path} is damaged: expected whole rows. Received: a last row, {len(rows)}, that is cut off")
    return rows
