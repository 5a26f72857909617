"""A search from beginning to end: trials, tables, a picture, and the winner on the test split."""

import contextlib
import io
import os
import pathlib
import time

from keras_misa._files import read_json, write_json
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.model_settings import MISA
from keras_misa.tuning.search_progress import SearchProgress
from keras_misa.tuning.search_spaces import SPACES, grid_size

SEARCH_FILE = "search.json"
PRESET_FILE = "best.json"
HYPERBAND_EPOCHS = 81


def tune(
    dataset="synthetic_subspaces",
    output=None,
    tuner="grid",
    space=None,
    trials=None,
    seeds=1,
    workers=1,
    quiet=False,
    **settings,
):
    """Search hyper-parameters by the validation task loss, then train the winner and test it.

    The test split is not looked at before there is a winner, and then once. A search that was interrupted goes on when
    it is started again with the same `output`; a trial in the middle of a training goes on after its last epoch.

    On a cluster start the same search on each machine, with KerasTuner's environment variables: `KERASTUNER_TUNER_ID`
    (`chief` on one of them), `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`. `output` must be a folder that all of
    them see.

    Args:
        dataset: name of a dataset; the built-in synthetic one by default.
        output: folder to write, new or of an interrupted search; `searches/<dataset>-<time>` if `None`.
        tuner: `"grid"`, `"random"`, `"bayesian"` or `"hyperband"`.
        space: a name in `SPACES`: `"paper"`, the grid of 180 points in appendix C, or `"wide"`. `None` is `"paper"` for
            a grid and `"wide"` else.
        trials: the most trials; `None` is the whole grid, or 50. Hyperband has a number of its own.
        seeds: trainings of each trial, whose mean counts. Seeds are made of the hyper-parameters.
        workers: number of processes on this machine.
        quiet: whether to print nothing but errors.
        **settings: what differs from the dataset's preset; see `make_config`. A hyper-parameter that is given is not
            searched, nor is the weight of a loss that the model does not have.

    Returns:
        Dict of the winner's metrics on the test split; `None` in a worker on a cluster.

    Raises:
        ValueError: If a setting is wrong, `output` holds another search, or five trials in a row failed.

    Example:
        ```python
        keras_misa.tuning.tune("cmu_mosi", output="searches/mosi", tuner="random", trials=20, workers=2)
        ```
    """
    from keras_misa._console import make_console
    from keras_misa.experiments.callbacks import text_progress
    from keras_misa.experiments.devices import prepare_devices
    from keras_misa.experiments.fit_model import make_stopping
    from keras_misa.experiments.open_data import open_data
    from keras_misa.tuning.oracles import ORACLES, check_installed, make_oracle

    if tuner not in ORACLES:
        raise ValueError(f"`tuner` must be one of {tuple(ORACLES)}. Received: tuner={tuner!r}")
    check_installed(tuner)
    space = space or ("paper" if tuner == "grid" else "wide")
    if space not in SPACES:
        raise ValueError(f"`space` must be one of {tuple(SPACES)}. Received: space={space!r}")
    for name, number in (("trials", trials), ("seeds", seeds), ("workers", workers)):
        if number is not None and number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}")
    if tuner == "hyperband":
        if trials is not None:
            raise ValueError(f"Hyperband knows its number of trials: leave `trials` out. Received: trials={trials}")
        settings = {**settings, "epochs": settings.get("epochs") or HYPERBAND_EPOCHS}
    is_on_cluster = _check_cluster(output, workers)
    settings = {name: value for name, value in settings.items() if value is not None}
    config = make_config(dataset, **settings)
    if config["model"] != MISA:
        raise ValueError(f"The spaces that are searched are MISA's. Received: model={config['model']!r}")
    folder = pathlib.Path(output or f"searches/{dataset.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}")
    _check_folder(folder)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # workers share what the chief does not use
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    prepare_devices(config)
    console = make_console(quiet=quiet)
    with text_progress(console) as progress:
        data = open_data(config, splits=("train", "validation"), progress=progress)
    fixed = {*settings, *_without_effect(config, data.dims)}

    def declare(hp):
        return SPACES[space](hp, without=fixed)

    if tuner == "grid" and grid_size(declare) is None:
        raise ValueError(f"A grid needs a space of choices, such as paper. Received: space={space!r}")
    if grid_size(declare) == 1:
        raise ValueError(f"There is nothing left to search in the space {space!r}. Received: {settings}")
    search = {"dataset": dataset, "tuner": tuner, "space": space, "trials": trials, "seeds": seeds}
    files = {name: source["sha256"] for name, source in (data.provenance.get("sources") or {}).items()}
    _begin_or_resume(folder, {**search, "settings": settings, "files": files})
    monitor = make_stopping(config).monitor

    def make_tuner(**kwargs):
        from keras_misa.tuning.trial_tuner import TrialTuner

        oracle = make_oracle(tuner, declare, monitor, trials, config["epochs"], config["seed"])
        oracle.verbose = 0
        with contextlib.redirect_stdout(io.StringIO()):  # it says that it reloads
            return TrialTuner(oracle, data, seeds, directory=str(folder), project_name="trials", **kwargs)

    if is_on_cluster and "chief" not in os.environ["KERASTUNER_TUNER_ID"]:
        make_tuner().search()
        return None
    total = _number_of_trials(tuner, declare, trials, config)
    reporting = SearchProgress(console, folder / "trials", total, monitor)
    if is_on_cluster or workers > 1:
        from keras_misa.tuning.local_workers import LocalWorkers, search_as_chief

        pool = LocalWorkers(folder, workers, console) if not is_on_cluster else None
        search_as_chief(make_tuner, reporting, pool)
    else:
        search_alone = make_tuner(on_end=reporting.update)
        reporting.update()  # what it will run again is not done
        search_alone.search()
    reporting.update()
    return _conclude(folder, console, config, monitor)


def _check_cluster(output, workers):
    """Whether this is one of several machines."""
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    given = [name for name in names if os.environ.get(name)]
    if given and len(given) < len(names):
        raise ValueError(f"A search on several machines needs the variables {', '.join(names)}. Received: {given}")
    if given and output is None:
        raise ValueError("On several machines `output` must be a folder that all of them see. Received: output=None")
    if given and workers > 1:
        raise ValueError(f"On several machines each has one worker. Received: workers={workers}")
    return bool(given)


def _without_effect(config, dims):
    """Names of the weights whose losses the configuration does not have."""
    subspaces = set(config["subspaces"])
    modalities = config["modalities"] or list(dims)
    has = {
        "similarity_weight": "shared" in subspaces and len(modalities) > 1,
        "difference_weight": {"shared", "private"} <= subspaces,
        "reconstruction_weight": bool(subspaces),
    }
    return [name for name, is_there in has.items() if not is_there]


def _check_folder(folder):
    is_used = folder.exists() and (not folder.is_dir() or any(not e.name.startswith(".") for e in folder.iterdir()))
    if is_used and not (folder / SEARCH_FILE).exists():
        raise FileExistsError(
            "The output folder must be new or empty, or hold a search that was interrupted. "
            f"Received: output={str(folder)!r}"
        )


def _begin_or_resume(folder, search):
    path = folder / SEARCH_FILE
    if not path.exists():
        write_json(path, search)
        return
    written = read_json(path)
    then, now = ({**s["settings"], **{k: v for k, v in s.items() if k != "settings"}} for s in (written, search))
    if changed := sorted(name for name in {*then, *now} if _plain(then.get(name)) != _plain(now.get(name))):
        differences = ", ".join(f"{name}={now.get(name)!r} (was {then.get(name)!r})" for name in changed)
        raise ValueError(f"`{folder}` holds a search with other settings or data. Received: {differences}")


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _number_of_trials(tuner, declare, trials, config):
    from keras_misa.tuning.oracles import make_oracle

    if tuner == "hyperband":
        oracle = make_oracle(tuner, declare, "val_task", max_epochs=config["epochs"])
        brackets = range(oracle._get_num_brackets())
        return sum(oracle._get_size(b, r) for b in brackets for r in range(oracle._get_num_rounds(b)))
    if tuner == "grid":
        return min(trials or grid_size(declare), grid_size(declare))
    return trials or 50


def _conclude(folder, console, config, monitor):
    from rich.table import Table

    from keras_misa.experiments.report import dataset_title
    from keras_misa.experiments.train import train
    from keras_misa.tuning.trials import ENDED, best_trial, plot_importances, read_trials, write_tables

    trials = read_trials(folder / "trials")
    if running := [trial["trial"] for trial in trials if trial["status"] not in ENDED]:
        raise ValueError(
            f"The search has not ended: the same command goes on with it. Received: output={str(folder)!r} with the "
            f"trials {', '.join(running)} unfinished"
        )
    if alone := [t["trial"] for t in trials if t["score"] is not None and not t["seeds"]]:
        raise ValueError(
            "Workers do not write into the folder that the chief reads: `output` must be one that all of them see. "
            f"Received: output={str(folder)!r}, without results of the trials {', '.join(alone)}"
        )
    write_tables(trials, monitor, folder)
    best = best_trial(trials)
    if best is None:
        raise ValueError(f"No trial came to an end, see {folder / 'trials.csv'}. Received: output={str(folder)!r}")
    title = f"{dataset_title(config['dataset'])}, {len(trials)} trials"
    plot_importances(trials, folder / "importance.png", title, monitor)
    names = [name for name in best["values"] if not name.startswith("tuner/")]
    first = sorted((t for t in trials if t["score"] is not None), key=lambda t: t["score"])[:5]
    table = Table("trial", *(t["trial"] for t in first), title=f"{title}: the best five", title_justify="left")
    table.add_row(monitor, *(f"{trial['score']:.4f}" for trial in first))
    for name in names:
        cells = (trial["values"].get(name) for trial in first)
        table.add_row(name, *(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    console.print(table)
    failed = [trial for trial in trials if trial["status"] == "FAILED"]
    console.print(
        f"{len(trials) - len(failed)} trials completed, {len(failed)} failed. All of them: {folder / 'trials.csv'}; "
        f"what matters: {folder / 'importance.png'}",
        highlight=False,
        soft_wrap=True,
    )
    preset = _preset(config, best)
    write_json(folder / PRESET_FILE, preset)
    console.print(f"The winner, for keras-misa train --preset: {folder / PRESET_FILE}", highlight=False, soft_wrap=True)
    run = folder / "best"
    if (run / "metrics.json").exists():
        return read_json(run / "metrics.json")
    return train(**preset, output=run, quiet=console.quiet)


def _preset(config, best):
    """What differs from the dataset's preset, and the seed of the winner: `train` does the trial again."""
    values = {name: value for name, value in best["values"].items() if not name.startswith("tuner/")}
    first = best["seeds"][0]
    config = {**config, **values, "seed": first["seed"], "epochs": first["max_epochs"]}
    defaults = make_config(config["dataset"])
    return {
        "dataset": config["dataset"],
        **{name: value for name, value in config.items() if name in values or value != defaults[name]},
    }
