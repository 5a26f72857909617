"""Who says which point is tried next: KerasTuner's oracles, made to outlive a killed process."""

import importlib.util
import itertools

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_misa._files import write_json

MAX_FAILURES = 5  # trials that failed in a row end a search


class Resuming:
    """First base of an oracle: what it knows outlives a kill at any moment.

    KerasTuner writes its files in place, and one that is cut off ends a search for good.
    """

    def save(self):
        """Write the state."""
        write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        write_json(f"{self._get_trial_dir(trial.trial_id)}/trial.json", trial.get_state())

    def reload(self):
        """Bring back the state: each trial that was begun and has not ended is run again, and no other.

        So are the failed ones if a row of failures has ended the search: something has been mended since.
        """
        super().reload()
        for name, trial in sorted(self.trials.items()):
            if name not in self.start_order:  # killed between two writes
                self.start_order.append(name)
                self._record_values(trial)
        for name in _last_failures(self.end_order, self.trials):
            self.end_order.remove(name)
            self.trials[name].status = TrialStatus.RUNNING
            self._save_trial(self.trials[name])
        ended = (TrialStatus.COMPLETED, TrialStatus.FAILED)
        self._retry_queue = sorted((n for n, trial in self.trials.items() if trial.status not in ended), reverse=True)


def _last_failures(end_order, trials):
    """Names of the trials that failed one after another at the end, if they are so many that the search has stopped."""
    names = list(itertools.takewhile(lambda name: trials[name].status == TrialStatus.FAILED, reversed(end_order)))
    return names if len(names) >= MAX_FAILURES else []


class GridOracle(Resuming, keras_tuner.Oracle):
    """All points of a space of choices, one after another.

    KerasTuner's own does not remember where it was: started again after a kill, it raises a `KeyError`. Here the number
    of a trial says which point it is.
    """

    def populate_space(self, trial_id):
        """The next point, or the end."""
        space = self.get_space().space
        points = itertools.product(*(part.values for part in space))
        point = next(itertools.islice(points, len(self.trials), None), None)
        if point is None:
            return {"status": TrialStatus.STOPPED}
        values = dict(zip((part.name for part in space), point, strict=True))
        return {"status": TrialStatus.RUNNING, "values": values}


class RandomOracle(Resuming, keras_tuner.oracles.RandomSearchOracle):
    """Points drawn at random."""


class BayesianOracle(Resuming, keras_tuner.oracles.BayesianOptimizationOracle):
    """Points where a Gaussian process expects improvement."""


class HyperbandOracle(Resuming, keras_tuner.oracles.HyperbandOracle):
    """Many points for a few epochs, the best of them for more."""


ORACLES = {"grid": GridOracle, "random": RandomOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle}


def make_oracle(tuner, space, objective, trials=None, max_epochs=100, seed=0):
    """The oracle of a search.

    Args:
        tuner: `"grid"`, `"random"`, `"bayesian"` or `"hyperband"`.
        space: function of `keras_tuner.HyperParameters` that declares the space.
        objective: name in the logs that is to be small.
        trials: the most trials; `None` is the whole grid, or 50. Hyperband has a number of its own.
        max_epochs: of a model that Hyperband trains to the end.
        seed: of what is random.

    Returns:
        A `keras_tuner.Oracle`.
    """
    hp = keras_tuner.HyperParameters()
    space(hp)
    arguments = {
        "objective": keras_tuner.Objective(objective, "min"),
        "hyperparameters": hp,
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "max_consecutive_failed_trials": 10**9,  # its way to stop leaves a lock behind; `tune` has one of its own
    }
    if tuner == "hyperband":
        arguments.update(max_epochs=max_epochs)
    else:
        arguments.update(max_trials=trials if trials or tuner == "grid" else 50)
    return ORACLES[tuner](**arguments)


def check_installed(tuner):
    """Raise `ValueError` if a search lacks its libraries."""
    if tuner == "bayesian" and not all(map(importlib.util.find_spec, ("scipy", "sklearn"))):
        raise ValueError(
            "Bayesian search needs scikit-learn and SciPy: pip install 'keras-misa[bayesian]'. Received: tuner=bayesian"
        )
