"""Training that goes on where it was killed."""

import functools
import glob
import json
import pathlib

import keras
import numpy as np

from keras_misa._files import DAMAGED_NPZ, atomic_path, remove_temporaries

FILE = "checkpoint.npz"
_STOPPING = ("best", "best_epoch", "wait")
_GENERATOR = "generator-"


class Checkpoint(keras.callbacks.Callback):
    """Writes down, after every epoch, all that the next epochs depend on.

    That is: trained weights, the state of the optimiser, of the dropout's random generators, and of early stopping, and
    the history so far. The best weights stand in a file of their own, written when they are found. Each file is written
    whole or not at all, and the last one names the others: whenever the process dies, the folder holds the last epoch
    that was finished.

    Among the callbacks of `fit` it stands last.

    Args:
        folder: where to.
        stopping: the callback of early stopping, `keras.callbacks.EarlyStopping` or `ReferenceStopping`.
        history: a `HistoryFile`.

    Attributes:
        epoch: number of epochs that are done.
        is_over: whether training has ended, by early stopping.

    Example:
        ```python
        checkpoint = Checkpoint("run", stopping, history)
        checkpoint.restore(model)
        if not checkpoint.is_over:
            model.fit(train, initial_epoch=checkpoint.epoch, callbacks=[history, stopping, checkpoint])
        ```
    """

    def __init__(self, folder, stopping, history):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.stopping = stopping
        self.history = history
        self.epoch = 0
        self.is_over = False
        self._restored = None

    def restore(self, model):
        """Bring back the last epoch that was finished, if there is one.

        Args:
            model: the model as it was before training.

        Returns:
            Whether there was one.

        Raises:
            ValueError: If the file is damaged, or is of another model.
        """
        path = self.folder / FILE
        if not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as file:
                state = json.loads(file["state"].tobytes())
                arrays = [file[str(number)] for number in range(sum(name.isdecimal() for name in file.files))]
                generators = {name: file[name] for name in file.files if name.startswith(_GENERATOR)}
            with np.load(self._path_of_best(state["best_epoch"]), allow_pickle=False) as file:
                best = [file[str(number)] for number in range(len(file.files))]
            is_trained = [weight.trainable for weight in model.weights]
            if [w.shape for w in model.trainable_weights] != [array.shape for array in best]:
                raise ValueError("the best weights are of another model")
            best = _merge(model.get_weights(), is_trained, best)
            if model.optimizer and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            for variable, array in zip(_variables(model), arrays, strict=True):
                variable.assign(array)
        except DAMAGED_NPZ as error:
            raise ValueError(
                f"`{path}` is damaged, or of another model; start anew in another folder. Received: {error}"
            ) from error
        self.epoch, self.is_over = state["epoch"], state["is_over"]
        self.history.rows = state["history"]
        self._restored = {**{name: state[name] for name in _STOPPING}, "best_weights": best}
        if generators:
            self.on_train_batch_begin = functools.partial(self._set_generators, generators)
        if self.is_over:
            model.set_weights(best)
        return True

    def on_train_begin(self, logs=None):
        for name, value in (self._restored or {}).items():
            setattr(self.stopping, name, value)

    def _set_generators(self, states, batch, logs=None):
        """Before the first step only: starting a data loader draws from the generator, too."""
        import torch

        del self.on_train_batch_begin
        cpu, *gpus = [torch.from_numpy(states[f"{_GENERATOR}{number}"]) for number in range(len(states))]
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus[: torch.cuda.device_count()])

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite([logs["loss"], logs[self.stopping.monitor]]).all():
            self.model.stop_training = True  # This is no epoch to go on from.
            return
        best_epoch = self.stopping.best_epoch
        if best_epoch == epoch or not self._path_of_best(best_epoch).exists():
            weights = zip(self.model.weights, self.stopping.best_weights, strict=True)
            _write(self._path_of_best(best_epoch), [array for weight, array in weights if weight.trainable])
        state = {name: _plain(getattr(self.stopping, name)) for name in _STOPPING}
        is_over = bool(self.model.stop_training)
        state.update(epoch=epoch + 1, is_over=is_over, history=self.history.rows)
        arrays = [keras.ops.convert_to_numpy(variable) for variable in _variables(self.model)]
        state = np.frombuffer(json.dumps(state).encode(), np.uint8)
        _write(self.folder / FILE, arrays, state=state, **_get_generators())
        for path in self.folder.glob("best-*.npz"):
            if path != self._path_of_best(best_epoch):
                path.unlink()

    def _path_of_best(self, epoch):
        return self.folder / f"best-{epoch + 1}.npz"


def remove_checkpoint(folder):
    """Remove the files of a finished run's `Checkpoint`, and what killed processes were writing into its folder."""
    folder = pathlib.Path(folder)
    written = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    for name in (FILE, "best-*.npz", *map(glob.escape, written)):
        remove_temporaries(folder / name)
    for path in (folder / FILE, *folder.glob("best-*.npz")):
        path.unlink(missing_ok=True)


def _merge(weights, is_trained, trained):
    """All weights: the trained ones as given, the frozen ones as they are."""
    trained = iter(trained)
    return [next(trained) if flag else weight for weight, flag in zip(weights, is_trained, strict=True)]


def _variables(model):
    """Trained weights, random generators' states and the optimiser's variables.

    Not frozen weights, which are as they were, and not metrics, which start anew with each epoch.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    frozen = {id(variable) for variable in model.weights if not variable.trainable}
    variables = [variable for variable in model.variables if id(variable) not in metrics | frozen]
    return variables + (list(model.optimizer.variables) if model.optimizer else [])


def _get_generators():
    """States of the random generators that no variable holds: PyTorch's own, from which its backend draws dropout."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return {f"{_GENERATOR}{number}": state.numpy() for number, state in enumerate(states)}


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _write(path, arrays, **others):
    with atomic_path(path) as temporary:
        np.savez(temporary, **{str(number): array for number, array in enumerate(arrays)}, **others)
