"""Runs that belong together: one model, trained from several seeds, or on the folds of a cross-validation."""

import dataclasses
import logging
import pathlib
import re

import numpy as np

from keras_misa._files import read_json
from keras_misa.experiments.load_run import FILES, read_run
from keras_misa.experiments.run_files import read_history, read_predictions
from keras_misa.experiments.task_metrics import is_classification

_logger = logging.getLogger(__name__)

SEEDS_FILE = "seeds.json"
VARIANTS_FILE = "ablation.json"
OWN = ("seed", "data_dir", "manual_dir", "devices")  # settings of a run that its group has not in common
_FOLD = re.compile(r"video:(\d+)/(\d+)((?::\d+)?)")
_FOLDER = re.compile(r"seed-(\d+)(?:-fold-(\d+))?")


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """A model's finished runs, which differ in their seeds and folds.

    Args:
        name: of the model in tables.
        runs: folders that `train` wrote, in the order of their seeds, and of the folds of each.
    """

    name: str
    runs: tuple

    @property
    def key(self):
        """What tells the group from others, wherever it was asked for: the places of its runs."""
        return tuple(run.resolve() for run in self.runs)

    @property
    def config(self):
        """Dict of `make_config`, as in the first run; of several folds, `split_by` tells how many."""
        first = read_run(self.runs[0])[0]
        return {**first, "split_by": _without_fold(first["split_by"])} if self.has_folds else first

    @property
    def has_folds(self):
        """Whether the runs are those of several folds."""
        return len({read_run(run)[0]["split_by"] for run in self.runs}) > 1

    @property
    def extent(self):
        """How many runs, and of what: `"5 seeds"`, `"5 folds"`, `"5 folds, 2 seeds"`."""
        configs = [read_run(run)[0] for run in self.runs]
        seeds = len({config["seed"] for config in configs})
        folds = len({config["split_by"] for config in configs})
        return extent(seeds, folds if self.has_folds else None)

    def rounds(self):
        """The runs that together predict each utterance of the test data once: all folds of a seed, else each run."""
        if not self.has_folds:
            return [(run,) for run in self.runs]
        by_seed = {}
        for run in self.runs:
            by_seed.setdefault(read_run(run)[0]["seed"], []).append(run)
        return [tuple(runs) for runs in by_seed.values()]

    def metrics(self):
        """Dict, name of a metric → array of its values on the test split, one a run."""
        read = [read_metrics(run) for run in self.runs]
        if len({frozenset(metrics) for metrics in read}) > 1:
            names = {str(run): sorted(metrics) for run, metrics in zip(self.runs, read, strict=True)}
            raise ValueError(f"Expected runs with the same metrics. Received: {names}")
        return {name: np.array([np.nan if m[name] is None else m[name] for m in read]) for name in read[0]}

    def histories(self, needed=()):
        """For each run what `read_history` gives."""
        return [read_history(run, needed) for run in self.runs]

    def predictions(self):
        """For each run what `read_predictions` gives."""
        return [read_predictions(run) for run in self.runs]


def find_run_groups(*paths, tell=True):
    """The runs in folders.

    Args:
        *paths: each a run, a folder that `train` with several seeds wrote, or one that `ablate` wrote. Runs that are
            not finished are left out, and so are seeds of which a fold is not; a warning says which. A `RunGroup`
            stands for itself.
        tell: whether to warn.

    Returns:
        List of `RunGroup`, at least one, each once. A folder of `ablate` gives one for each of its models, in its
        order; others are named after their folder.

    Raises:
        FileNotFoundError: If a path holds no finished run, or one that has lost files.
        ValueError: If runs of one model differ in more than their seeds and folds.

    Example:
        ```python
        for group in find_run_groups("runs/misa", "ablations/mosi"):
            print(group.name, group.metrics()["mae"].mean())
        ```
    """
    groups = {}
    for path in paths:
        if isinstance(path, RunGroup):
            groups[path.key] = path
            continue
        path = pathlib.Path(path)
        found = list(_groups_in(path, tell))
        if not found:
            below = sorted([*path.glob("*/metrics.json"), *path.glob("*/seed-*/metrics.json")])
            hint = f", a folder of other folders of runs, such as {below[0].parent}: name them" if below else ""
            if left_out := _finished_runs(path)[1]:
                hint = f", of which is not finished: {'; '.join(left_out)}. The command that began it goes on with it"
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
    is_below = _FOLDER.fullmatch(run.name) and group.name != run.name
    return run.parent if is_below else run


def data_of(config):
    """What runs must share to stand in one table: dataset, label, how it was dealt out, kind of label, its scores."""
    kind = "classes" if is_classification(config) else config["metrics"]
    return (config["dataset"], config["label"], config["split_by"] or "", kind, tuple(config["score_names"] or ()))


def extent(seeds, folds=None):
    """Numbers of seeds and folds in words."""
    counts = [f"{folds} folds"] if folds else []
    counts += [] if folds and seeds == 1 else [f"{seeds} seed{'' if seeds == 1 else 's'}"]
    return ", ".join(counts)


def _without_fold(split_by):
    match = _FOLD.fullmatch(split_by or "")
    if not match:
        return split_by
    return f"{match[2]}-fold cross-validation by video" + match[3].replace(":", ", seed ")


def run_folder(seed, fold=None):
    """Name of the folder of one of several runs."""
    return f"seed-{seed}" if fold is None else f"seed-{seed}-fold-{fold}"


def run_label(run):
    """What a folder that `run_folder` has named is called in tables, as `seed 3, fold 1`."""
    return run.name.replace("-fold-", ", fold ").replace("-", " ")


def run_folders(path):
    """The folders of runs that `train_seeds` wrote into `path`, in the order of their seeds and folds."""
    found = [(match, folder) for folder in path.glob("seed-*") if (match := _FOLDER.fullmatch(folder.name))]
    return [folder for _, folder in sorted(found, key=lambda pair: [int(part or 0) for part in pair[0].groups()])]


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


def _groups_in(path, tell):
    if (path / VARIANTS_FILE).exists():
        not_begun = []
        for name, folder in read_begun(path / VARIANTS_FILE).get("variants", {}).items():
            groups = list(_groups_in(path / folder, tell))
            yield from (dataclasses.replace(group, name=name) for group in groups)
            if not groups and not run_folders(path / folder):
                not_begun.append(name)
        if not_begun and tell:
            _logger.warning("%s: not there and left out are the models %s.", path, "; ".join(not_begun))
        return
    runs, left_out = _finished_runs(path)
    if left_out and tell:
        _logger.warning("%s: not finished and left out are %s.", path, "; ".join(left_out))
    if runs:
        _check_same_settings(runs)
        yield RunGroup(path.resolve().name, tuple(runs))


def _finished_runs(path):
    """The runs in a folder, and words for what of it is not finished. A seed's folds count together or not at all."""
    runs, left_out, of_seed = [path] if is_finished(path) else [], [], {}
    for run in run_folders(path):
        seed, fold = _FOLDER.fullmatch(run.name).groups()
        if fold is not None:
            of_seed.setdefault(seed, []).append(run)
        elif is_finished(run):
            runs.append(run)
        else:
            left_out.append(run_label(run))
    for name in read_begun(path / SEEDS_FILE).get("runs", ()) if (path / SEEDS_FILE).exists() else ():
        match = _FOLDER.fullmatch(str(name))
        if match and match[2] is None and not (path / name).exists():
            left_out.append(f"{run_label(path / name)}, which is gone")
    for seed, folds in of_seed.items():
        finished = [run for run in folds if is_finished(run)]
        dealt = [_FOLD.fullmatch(read_run(run)[0]["split_by"] or "") for run in finished]
        expected = {int(match[2]) for match in dealt if match}
        if expected == {len(finished)} or len(expected) > 1:  # of different numbers of folds: that will be told
            runs += finished
        else:
            number = f" of {max(expected)}" if expected else ""
            left_out.append(f"seed {seed}, of which {len(finished)}{number} folds are finished")
    return runs, left_out


def _check_same_settings(runs):
    """Runs of a group differ in their seeds and folds, and in where their data and machines were."""
    known = {}
    for run in runs:
        config = read_run(run)[0]
        place = config["seed"], config["split_by"]
        config = {**config, "split_by": _without_fold(config["split_by"])}
        other, then = known.get(place) or next(iter(known.values()), (run, config))
        names = [name for name in {**then, **config} if name not in OWN and then.get(name) != config.get(name)]
        if names or place in known:
            received = {name: (then.get(name), config.get(name)) for name in names or ["seed"]}
            raise ValueError(
                f"Runs of one model differ in their seeds and folds alone. Received: {other} and {run} with {received}"
            )
        known[place] = run, config


def read_begun(path):
    """What `train_seeds` or `ablate` wrote when it began: dict with the `settings`, and what else there is."""
    written = read_json(path)
    if not isinstance(written, dict) or not isinstance(written.get("settings"), dict):
        raise ValueError(f"{path} is damaged: expected an object with settings. Received: {str(written)[:80]}")
    return written


def read_metrics(run):
    """A run's `metrics.json`: dict, name → number, or `None` where it has no value."""
    path = run / "metrics.json"
    metrics = read_json(path)
    is_object = isinstance(metrics, dict) and metrics
    if not is_object or not all(isinstance(value, (int, float, type(None))) for value in metrics.values()):
        raise ValueError(f"{path} is damaged: expected an object, name → number. Received: {str(metrics)[:80]}")
    return metrics
