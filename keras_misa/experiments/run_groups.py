"""Runs that belong together: one model, trained from several seeds."""

import csv
import dataclasses
import pathlib
import re

import numpy as np

from keras_misa._files import read_json
from keras_misa.experiments.load_run import FILES, read_run

SEEDS_FILE = "seeds.json"
VARIANTS_FILE = "ablation.json"


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
    def config(self):
        """Dict of `make_config`, as in the first run."""
        return read_run(self.runs[0])[0]

    @property
    def seeds(self):
        """The seeds, one a run."""
        return [read_run(run)[0]["seed"] for run in self.runs]

    def metrics(self):
        """Dict, name of a metric → array of its values on the test split, one a run."""
        read = [read_json(run / "metrics.json") for run in self.runs]
        return {name: np.array([np.nan if m[name] is None else m[name] for m in read]) for name in read[0]}

    def histories(self):
        """For each run a dict, name of a column of `history.csv` → array of its values, one an epoch."""
        histories = []
        for run in self.runs:
            rows = _read_csv(run / "history.csv")
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
        List of `RunGroup`, at least one. A folder of `ablate` gives one for each of its models, in its order; others
        are named after their folder.

    Raises:
        FileNotFoundError: If a path holds no finished run.

    Example:
        ```python
        for group in find_run_groups("runs/misa", "ablations/mosi"):
            print(group.name, group.metrics()["mae"].mean())
        ```
    """
    groups = []
    for path in map(pathlib.Path, paths):
        found = list(_groups_in(path))
        if not found:
            raise FileNotFoundError(f"There is no finished run. Received: {str(path)!r}")
        groups += found
    return groups


def name_apart(groups, key=str):
    """The groups, with names whose `key` differ: of two named `misa` the second becomes `misa 2`."""
    named, taken = [], set()
    for group in groups:
        name, number = group.name, 1
        if re.fullmatch(r"seed-\d+", name):  # one of several, asked for by itself
            name = f"{group.runs[0].resolve().parent.name} {name}"
        first = name
        while key(name) in taken:
            number += 1
            name = f"{first} {number}"
        taken.add(key(name))
        named.append(dataclasses.replace(group, name=name))
    return named


def read_predictions(run):
    """A run's `predictions.csv`, a list of dicts of strings."""
    return _read_csv(run / "predictions.csv")


def _groups_in(path):
    if (path / VARIANTS_FILE).exists():
        for name, folder in read_json(path / VARIANTS_FILE)["variants"].items():
            for group in _groups_in(path / folder):
                yield dataclasses.replace(group, name=name)
    elif runs := [run for run in (path, *_seed_folders(path)) if all((run / name).exists() for name in FILES)]:
        yield RunGroup(path.resolve().name, tuple(runs))


def _seed_folders(path):
    return sorted(path.glob("seed-*"), key=lambda folder: (len(folder.name), folder.name))


def _read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
