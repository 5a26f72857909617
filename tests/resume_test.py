"""Runs that are interrupted and go on."""

import importlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_misa.experiments import train
from keras_misa.experiments.checkpoint import Checkpoint, remove_checkpoint

FOLDER = pathlib.Path(__file__).parents[1] / "datasets" / "cmu_mosi" / "dummy_data"
MODULE = importlib.import_module("keras_misa.experiments.train")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def run(output, data_dir, **settings):
    settings = {"epochs": 30, "hidden_dim": 4, "batch_size": 2, "patience": 3, "learning_rate": 0.05, **settings}
    averaged = ["visual", "acoustic"]  # LSTMs take long to trace.
    train("cmu_mosi", output, True, manual_dir=FOLDER, data_dir=data_dir, averaged=averaged, modalities=averaged,
          **settings)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    output = tmp_path_factory.mktemp("whole")
    run(output, data_dir)
    assert 4 < len((output / "history.csv").read_text().splitlines()) < 30  # early stopping
    return output


def kill(moment, output, data_dir, **settings):
    """Starts a run that dies before or after it has written down an epoch, or when training is over."""
    name, epoch = moment
    original = Checkpoint.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        if name != "before" or number + 1 != epoch:
            original(self, number, logs)
        if number + 1 == epoch:
            raise Killed

    def plot_curves(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        patch.setattr(MODULE, "plot_curves", plot_curves)
        with pytest.raises(Killed):
            run(output, data_dir, **settings)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, data_dir):
    output = tmp_path_factory.mktemp("killed")
    kill(("after", 2), output, data_dir)
    return output


def everything(folder):
    model = keras.models.load_model(folder / "model.keras")
    names = ("history.csv", "predictions.csv", "metrics.json", "explanation.json")
    files = {path.name for path in folder.iterdir()}
    return files, [w.tobytes() for w in model.get_weights()], [(folder / name).read_text() for name in names]


@pytest.mark.backends
def test_a_run_that_died_after_an_epoch(whole, killed, data_dir, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    written = json.loads((output / "config.json").read_text())
    del written["settings"]["cache"]  # as in a run of before there was this setting
    (output / "config.json").write_text(json.dumps(written))
    run(output, data_dir)
    assert everything(output) == everything(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("before", 1), ("before", 3), ("at the end", None)])
def test_a_run_that_died_at_another_moment(whole, moment, data_dir, tmp_path, monkeypatch):
    kill(moment, tmp_path, data_dir)
    if moment[0] == "at the end":
        monkeypatch.setattr(keras.Model, "fit", None)  # not one more epoch
    run(tmp_path, data_dir)
    assert everything(tmp_path) == everything(whole)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"protocol": "reference"}, {"dtype": "mixed_float16"}], ids=str)
def test_what_else_goes_on(settings, data_dir, tmp_path):
    """The published code's stopping; the loss scale of float16, which doubles and halves as training goes."""
    kill(("after", 2), tmp_path / "killed", data_dir, **settings)
    for name in ("killed", "whole"):
        run(tmp_path / name, data_dir, **settings)
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


def leave(path):
    """What a process leaves that is killed while it writes this file."""
    program = "import os, sys; from keras_misa._files import atomic_path\nwith atomic_path(sys.argv[1]): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9


def test_nothing_is_left_of_what_killed_processes_wrote(tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    kept = ["history.csv", "model.keras", "config.json", ".history-mine.csv", ".note-12345678.txt", "notes.txt"]
    for name in (*kept, "checkpoint.npz", "best-3.npz"):
        (folder / name).touch()
    (tmp_path / "history.csv").touch()
    leave(tmp_path / "history.csv")
    for name in ("history.csv", "model.keras", "config.json", "checkpoint.npz", "best-3.npz", "best-2.npz"):
        leave(folder / name)
    assert len(list(folder.iterdir())) == 14
    remove_checkpoint(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)
    assert len(list(tmp_path.glob(".history-*"))) == 1  # which is another folder's


def test_a_folder_that_another_process_writes_is_refused(killed, data_dir, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    lock = f"import fcntl, os; fcntl.flock(os.open({str(output)!r}, os.O_RDONLY), fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen([sys.executable, "-c", lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(BlockingIOError, match=rf"^{re.escape(str(output))} is being written by another process"):
            run(output, data_dir)
        other.communicate(b"\n")
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_other_settings_are_refused(killed, data_dir, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    with pytest.raises(ValueError, match=r"other settings.* Received: seed=1 \(was 0\)"):
        run(output, data_dir, seed=1)
    config = (output / "config.json").read_text()
    (output / "config.json").write_text(config.replace('"backend": "tensorflow"', '"backend": "jax"'))
    with pytest.raises(ValueError, match=r"other settings.* Received: backend='tensorflow' \(was 'jax'\)"):
        run(output, data_dir)


def test_a_damaged_checkpoint_is_told(killed, data_dir, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    with np.load(output / "checkpoint.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "0"}
    np.savez(output / "checkpoint.npz", **arrays)
    whole = (output / "checkpoint.npz").read_bytes()
    for content in (whole, whole[:100], b""):
        (output / "checkpoint.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.npz` is damaged, or of another model"):
            run(output, data_dir)


def test_best_weights_of_an_epoch_that_is_done_again_are_written_again(killed, whole, data_dir, tmp_path):
    """The process may have died between the two files."""
    output = shutil.copytree(killed, tmp_path / "run")
    for epoch in range(3, 30):
        np.savez(output / f"best-{epoch}.npz", np.zeros(3))
    run(output, data_dir)
    assert everything(output) == everything(whole)


@pytest.mark.parametrize("protocol", ["default", "reference"])
def test_a_validation_loss_that_is_no_number_is_divergence(protocol, data_dir, tmp_path, monkeypatch):
    from keras_misa.models import MISATask

    original = MISATask.compute_loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return original(self, x, y if training else y * np.nan, y_pred, sample_weight, training)

    monkeypatch.setattr(MISATask, "compute_loss", compute_loss)
    if protocol == "reference":
        import keras_misa.experiments.reference_protocol as reference

        monkeypatch.setattr(reference.BatchMean, "result", lambda self: self.total * np.nan)
    with pytest.raises(ValueError, match=r"Training diverged.* not finite in epoch 1"):
        run(tmp_path, data_dir, protocol=protocol)
    assert not (tmp_path / "metrics.json").exists()
