"""Runs the trials of a search."""

import json
import pathlib
import shutil
import time
import traceback
import zlib

import keras_tuner
import numpy as np

from keras_misa._files import read_json, write_json
from keras_misa.experiments.checkpoint import remove_checkpoint
from keras_misa.experiments.devices import device_scope
from keras_misa.experiments.fit_model import divergence, fit_model, make_model, make_stopping
from keras_misa.experiments.forget_models import forget_models

RESULTS_FILE = "results.json"
ATTEMPTS_FILE = "attempts.json"
MAX_ATTEMPTS = 3


class TrialTuner(keras_tuner.Tuner):
    """KerasTuner's tuner for MISA: each trial is a training of each seed, with early stopping, that can be resumed.

    The objective is the mean over the seeds of the smallest validation task loss. A trial that fails (losses that are
    not finite, no memory, anything) is recorded with its reason, and the search goes on.

    Args:
        oracle: see `make_oracle`.
        data: a `RunData`, of the splits `train` and `validation`.
        seeds: number of seeds of each trial.
        on_end: function that is called after each trial.
        **kwargs: see `keras_tuner.Tuner`.
    """

    def __init__(self, oracle, data, seeds=1, on_end=None, **kwargs):
        self.data = data
        self.seeds = seeds
        self._on_end = on_end
        self._is_idle = False
        super().__init__(oracle, **kwargs)

    def pre_create_trial(self):
        """Wait a moment if there was nothing to do: KerasTuner asks again at once."""
        if self._is_idle:
            time.sleep(0.5)
        self._is_idle = True

    def on_trial_begin(self, trial):
        self._is_idle = False

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if self._on_end:
            self._on_end()

    def run_trial(self, trial):
        """Train all seeds of a trial; returns the objective."""
        folder = pathlib.Path(self.get_trial_dir(trial.trial_id))
        try:
            results = self._train_seeds(trial, folder)
        except (KeyboardInterrupt, SystemExit):
            (folder / ATTEMPTS_FILE).unlink(missing_ok=True)  # The trial is not to blame.
            raise
        except Exception as error:
            (folder / ATTEMPTS_FILE).unlink(missing_ok=True)
            message = str(error) or type(error).__name__
            write_json(folder / RESULTS_FILE, {"message": message, "traceback": traceback.format_exc()})
            raise keras_tuner.errors.FailedTrialError(message) from error
        write_json(folder / RESULTS_FILE, {"seeds": results})
        (folder / ATTEMPTS_FILE).unlink(missing_ok=True)
        return {self.oracle.objective.name: float(np.mean([r[self.oracle.objective.name] for r in results]))}

    def _train_seeds(self, trial, folder):
        values = dict(trial.hyperparameters.values)
        plan = {name: values.pop(name) for name in list(values) if name.startswith("tuner/")}  # Hyperband's
        config = {**self.data.config, **values}
        config["epochs"] = min(plan.get("tuner/epochs", config["epochs"]), config["epochs"])
        if "tuner/trial_id" in plan:
            _go_on_from(pathlib.Path(self.get_trial_dir(plan["tuner/trial_id"])), folder)
        _count_attempt(folder)
        results = []
        for seed in trial_seeds(values, self.data.config["seed"], self.seeds):
            results.append(self._train({**config, "seed": seed}, folder / f"seed-{seed}", is_kept=bool(plan)))
        return results

    def _train(self, config, folder, is_kept):
        path = folder / RESULTS_FILE
        if path.exists() and (results := read_json(path))["max_epochs"] == config["epochs"]:
            return results
        forget_models()
        start = time.monotonic()
        with device_scope(config["devices"]):
            model = make_model(self.data, config)
            history = fit_model(model, self.data, folder, config=config, tensorboard=False)
        if problem := divergence(history):
            raise FloatingPointError(f"{problem} (seed {config['seed']})")
        monitor = make_stopping(config).monitor
        best = min(history, key=lambda row: row[monitor])
        results = {
            **{name: value for name, value in best.items() if name.startswith("val_")},
            "seed": config["seed"],
            "epochs": len(history),
            "best_epoch": best["epoch"],
            "max_epochs": config["epochs"],
            "seconds": round(time.monotonic() - start, 1),
        }
        write_json(path, results)
        if not is_kept:
            remove_checkpoint(folder)
        return results

    def _get_tuner_fname(self):
        # Alone or with workers, a search is the same one.
        return str(pathlib.Path(self.project_dir, f"{self.tuner_id if self._is_worker() else 'tuner'}.json"))

    def save(self):
        """Write the state, which is the oracle's."""
        if not self._is_worker():
            self.oracle.save()
        write_json(self._get_tuner_fname(), self.get_state())


def trial_seeds(values, seed, number):
    """Seeds of a trial. They come from its hyper-parameters: whoever runs it, and when, makes no difference.

    Args:
        values: dict, name → value.
        seed: of the search.
        number: how many.

    Returns:
        List of integers.

    Example:
        >>> trial_seeds({"dropout": 0.5}, seed=0, number=2) == trial_seeds({"dropout": 0.5}, seed=0, number=3)[:2]
        True
    """
    first = zlib.crc32(json.dumps(sorted(values.items())).encode())
    return [(first + seed + 7919 * index) % 2**31 for index in range(number)]


def _go_on_from(parent, folder):
    """Hyperband's second round takes up the training of the first."""
    for path in parent.glob("seed-*"):
        if not (folder / path.name).exists():
            shutil.copytree(path, folder / f".{path.name}", dirs_exist_ok=True)
            (folder / f".{path.name}").rename(folder / path.name)


def _count_attempt(folder):
    """Give up a trial in which the process dies again and again before an epoch is done."""
    path = folder / ATTEMPTS_FILE
    epochs = sum(len(file.read_text().splitlines()) for file in folder.glob("seed-*/history.csv"))
    attempts = read_json(path) if path.exists() else {"number": 0, "epochs": epochs}
    number = attempts["number"] + 1 if attempts["epochs"] == epochs else 1
    if number > MAX_ATTEMPTS:
        raise RuntimeError(f"the process died {MAX_ATTEMPTS} times in this trial (out of memory?)")
    write_json(path, {"number": number, "epochs": epochs})
