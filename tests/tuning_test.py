"""Searches: spaces, oracles, importances, and whole searches of small models."""

import csv
import itertools
import json
import subprocess
import sys
import time

import keras
import keras_tuner
import numpy as np
import psutil
import pytest
import tensorflow_datasets as tfds

import keras_misa.data
from keras_misa.cli import main
from keras_misa.data import load_dataset, load_examples, modality_dims, prepare_dataset
from keras_misa.experiments import make_config, train
from keras_misa.tuning import PAPER_GRID, MISAHyperModel, paper_space, tune, wide_space
from keras_misa.tuning.oracles import make_oracle
from keras_misa.tuning.trial_tuner import trial_seeds
from keras_misa.tuning.trials import importances, plot_importances, read_trials

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="searched on TensorFlow")


# === Spaces ===


def test_the_papers_grid_is_that_of_appendix_c():
    hp = keras_tuner.HyperParameters()
    paper_space(hp)
    points = list(itertools.product(*(part.values for part in hp.space)))
    assert len(points) == len(set(points)) == 180
    assert {part.name: set(part.values) for part in hp.space} == {
        "activation": {"leaky_relu", "prelu", "elu", "relu", "tanh"},
        "similarity_weight": {0.7, 1.0},
        "difference_weight": {0.3, 0.7, 1.0},
        "reconstruction_weight": {0.7, 1.0},
        "dropout": {0.1, 0.5, 0.7},
    }


@pytest.mark.parametrize("space", [paper_space, wide_space])
def test_names_are_those_of_the_configuration_and_defaults_mosis(space):
    hp = keras_tuner.HyperParameters()
    values = space(hp)
    config = make_config("cmu_mosi", **values)
    assert all(config[name] == value for name, value in values.items())
    if space is wide_space:
        assert values == {name: make_config("cmu_mosi")[name] for name in values if name != "activation"} | {
            "activation": "leaky_relu"
        }


# === Oracles ===


def make_tuner(folder, kind, run_trial, **kwargs):
    tuner_class = type("Tuner", (keras_tuner.Tuner,), {"run_trial": lambda self, trial: run_trial(trial)})
    oracle = make_oracle(kind, paper_space, "val_task", **kwargs)
    oracle.verbose = 0
    return tuner_class(oracle, directory=str(folder), project_name="trials")


class Killed(BaseException):
    """Ends a search as a kill does: nothing is written after it."""


@pytest.mark.parametrize("kind", ["grid", "random", "bayesian", "hyperband"])
def test_a_killed_search_tries_the_points_of_an_undisturbed_one(tmp_path, kind):
    def score(trial):
        return {"val_task": trial.hyperparameters.values["dropout"]}

    def dies(trial):
        seen.append(dict(trial.hyperparameters.values))
        if len(seen) in (3, 8):
            raise Killed
        return score(trial)

    arguments = {"max_epochs": 9} if kind == "hyperband" else {"trials": 14}
    undisturbed = make_tuner(tmp_path / "undisturbed", kind, score, **arguments)
    undisturbed.search()
    expected = [trial.hyperparameters.values for trial in undisturbed.oracle.trials.values()]
    seen = []
    for _ in range(2):
        with pytest.raises(Killed):
            make_tuner(tmp_path / "killed", kind, dies, **arguments).search()
    resumed = make_tuner(tmp_path / "killed", kind, dies, **arguments)
    resumed.search()
    trials = resumed.oracle.trials.values()
    assert all(trial.status == "COMPLETED" for trial in trials)
    assert len(trials) == len(expected)
    if kind == "grid":
        trials = sorted(trials, key=lambda trial: trial.trial_id)
        assert [trial.hyperparameters.values for trial in trials] == expected
    assert len(seen) == len(expected) + 2  # the two that were killed, again


def test_the_grid_is_walked_to_its_end(tmp_path):
    tuner = make_tuner(tmp_path, "grid", lambda trial: {"val_task": 1.0})
    tuner.search()
    points = [
        tuple(trial.hyperparameters.values[name] for name in PAPER_GRID) for trial in tuner.oracle.trials.values()
    ]
    assert sorted(map(str, points)) == sorted(map(str, itertools.product(*PAPER_GRID.values())))


def test_seeds_come_from_the_values():
    values = {"dropout": 0.5, "activation": "relu"}
    assert trial_seeds(values, 0, 3) == trial_seeds(dict(reversed(values.items())), 0, 3)
    assert len({*trial_seeds(values, 0, 3), *trial_seeds({**values, "dropout": 0.1}, 0, 3)}) == 6
    assert trial_seeds(values, 1, 1) != trial_seeds(values, 0, 1)


# === What matters ===


def test_importance_is_adjusted_r_squared_of_an_analysis_of_variance():
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    trials = [
        {"values": {"activation": a, "dropout": d, "tuner/epochs": 3}, "score": float(s), "trial": "0"}
        for (a, d), s in zip(itertools.product("abc", (0.1, 0.5)), rng.normal(size=6), strict=True)
    ] * 3
    trials = [{**trial, "score": trial["score"] + 0.3 * rng.normal()} for trial in trials]
    shares = importances([*trials, {"values": {"activation": "d", "dropout": 0.9}, "score": None}])
    assert set(shares) == {"activation", "dropout"}
    scores = np.array([trial["score"] for trial in trials])
    for name, share in shares.items():
        features = OneHotEncoder(drop="first").fit_transform([[str(t["values"][name])] for t in trials]).toarray()
        r_squared = LinearRegression().fit(features, scores).score(features, scores)
        adjusted = 1 - (1 - r_squared) * (len(scores) - 1) / (len(scores) - features.shape[1] - 1)
        assert share == pytest.approx(max(0.0, adjusted), abs=1e-9)


def test_importance_of_ranges_and_of_too_few_trials(tmp_path):
    rng = np.random.default_rng(0)
    trials = [
        {"values": {"learning_rate": 10.0**x, "dropout": d}, "score": float(x * x), "trial": str(x)}
        for x, d in zip(np.linspace(-3, 3, 50), rng.uniform(size=50), strict=True)
    ]
    shares = importances(trials)
    assert shares["learning_rate"] > 0.75
    assert shares["dropout"] < 0.1
    for count in (1, 2, 50):
        plot_importances(trials[:count], tmp_path / "picture.png", "title", "val_task")
    assert importances(trials[:1]) == {}


# === Whole searches ===

# Means of the features in place of LSTMs: there is less to trace.
SMALL = {"hidden_dim": 4, "epochs": 2, "modalities": ["visual", "acoustic"], "batch_size": 256}
SMALL["averaged"] = SMALL["modalities"]


@pytest.fixture(scope="module", autouse=True)
def prepared():
    tfds.display_progress_bar(False)
    prepare_dataset("synthetic_subspaces/small")


def rows_of(folder):
    with open(folder / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_search_from_beginning_to_end(tmp_path, capsys, monkeypatch):
    opened, searched = [], []

    def load(name, split, **kwargs):
        opened.append(split)
        return load_examples(name, split, **kwargs)

    def train_winner(*args, **kwargs):
        searched.extend(opened)
        opened.clear()
        return train(*args, **kwargs)

    monkeypatch.setattr(keras_misa.data, "load_examples", load)
    monkeypatch.setattr(sys.modules["keras_misa.data.load_dataset"], "load_examples", load)
    monkeypatch.setattr(sys.modules["keras_misa.experiments.train"], "train", train_winner)
    metrics = tune("synthetic_subspaces/small", output=tmp_path / "search", trials=2, seeds=2, **SMALL)
    # The test split is touched once: by the training of the winner, when the search is over.
    assert set(searched) == {"train", "validation"}
    assert "test" in opened

    rows = rows_of(tmp_path / "search")
    assert [row["status"] for row in rows] == ["completed"] * 2
    scores = [float(row["val_task"]) for row in rows]
    assert scores == sorted(scores)
    trials = {trial["trial"]: trial for trial in read_trials(tmp_path / "search/trials")}
    best = trials[rows[0]["trial"]]
    assert scores[0] == pytest.approx(np.mean([seed["val_task"] for seed in best["seeds"]]))
    assert float(rows[0]["val_task_std"]) == pytest.approx(np.std([s["val_task"] for s in best["seeds"]], ddof=1))
    assert (tmp_path / "search/trials.md").read_text().count("\n") == 4
    assert (tmp_path / "search/importance.png").stat().st_size > 10_000

    # The winner's training is the trial's, again.
    preset = json.loads((tmp_path / "search/best.json").read_text())
    assert {name: preset[name] for name in PAPER_GRID} == best["values"]
    with open(tmp_path / "search/best/history.csv", newline="", encoding="utf-8") as file:
        history = [float(row["val_task"]) for row in csv.DictReader(file)]
    assert min(history) == best["seeds"][0]["val_task"]
    assert metrics == json.loads((tmp_path / "search/best/metrics.json").read_text())
    output = capsys.readouterr().out
    assert "2/2 trial" in output
    assert "left" in output

    # Other options win over the preset's.
    arguments = ["train", "--preset", str(tmp_path / "search/best.json"), "--epochs", "1", "--quiet"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    settings = json.loads((tmp_path / "run/config.json").read_text())["settings"]
    assert {**settings, "epochs": preset["epochs"]} == settings | preset
    assert settings["epochs"] == 1

    # Again: nothing is left to do, and nothing is looked at again.
    opened.clear()
    searched.clear()
    assert tune("synthetic_subspaces/small", output=tmp_path / "search", trials=2, seeds=2, **SMALL) == metrics
    assert "test" not in opened
    assert not searched
    with pytest.raises(ValueError, match=r"other settings.*seeds=1 \(was 2\)"):
        tune("synthetic_subspaces/small", output=tmp_path / "search", trials=2, **SMALL)


@pytest.mark.slow
def test_a_failed_trial_is_told_and_skipped(tmp_path, capsys, monkeypatch):
    from keras_misa.tuning import trial_tuner

    fit_model = trial_tuner.fit_model

    def fails_sometimes(model, data, folder, **kwargs):
        if kwargs["config"]["activation"] == "leaky_relu" and kwargs["config"]["dropout"] == 0.5:
            raise MemoryError("no memory for it")
        history = fit_model(model, data, folder, **kwargs)
        if kwargs["config"]["dropout"] == 0.7:
            history[-1]["val_task"] = float("nan")
        return history

    monkeypatch.setattr(trial_tuner, "fit_model", fails_sometimes)
    tune("synthetic_subspaces/small", output=tmp_path / "search", trials=4, **{**SMALL, "epochs": 1})
    rows = rows_of(tmp_path / "search")
    assert [row["status"] for row in rows] == ["completed", "completed", "failed", "failed"]
    assert rows[2]["message"] == "no memory for it"
    assert "a loss is not finite in epoch 1" in rows[3]["message"]
    assert "failed: no memory for it" in capsys.readouterr().out


@pytest.mark.slow
def test_failures_in_a_row_end_a_search_and_are_run_again(tmp_path, capsys, monkeypatch):
    from keras_misa.tuning import trial_tuner

    fit_model = trial_tuner.fit_model
    trained = []

    def fails_later(*args, config, **kwargs):
        trained.append(config["seed"])
        if len(trained) > 1:
            raise RuntimeError("the disk is full")
        return fit_model(*args, config=config, **kwargs)

    arguments = {"output": tmp_path / "search", "trials": 7, **SMALL, "epochs": 1}
    monkeypatch.setattr(trial_tuner, "fit_model", fails_later)
    with pytest.raises(ValueError, match=r"^5 trials failed one after another.*the disk is full"):
        tune("synthetic_subspaces/small", **arguments)
    assert not (tmp_path / "search/best").exists()
    monkeypatch.setattr(trial_tuner, "fit_model", fit_model)
    capsys.readouterr()
    tune("synthetic_subspaces/small", **arguments)
    output = capsys.readouterr().out
    assert all(f"{number}/7 trial " in output for number in range(2, 8))  # each is told
    assert [row["status"] for row in rows_of(tmp_path / "search")] == ["completed"] * 7


def test_what_is_given_or_has_no_effect_is_not_searched(tmp_path):
    arguments = {**SMALL, "epochs": 1, "modalities": ["visual"], "averaged": ["visual"]}
    tune("synthetic_subspaces/small", output=tmp_path, trials=1, activation="tanh", **arguments)
    (row,) = rows_of(tmp_path)
    assert not {"activation", "similarity_weight"} & set(row)  # one modality has no similarity loss
    assert {"difference_weight", "reconstruction_weight", "dropout"} <= set(row)
    assert json.loads((tmp_path / "best/config.json").read_text())["settings"]["activation"] == "tanh"
    with pytest.raises(ValueError, match="nothing left to search"):
        tune("synthetic_subspaces/small", **arguments, subspaces=(), activation="tanh", dropout=0.1)


def test_searches_on_several_machines_say_what_they_need(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ValueError, match=r"variables KERASTUNER_TUNER_ID.*Received: \['KERASTUNER_ORACLE_IP'\]"):
        tune()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(ValueError, match="all of them see"):
        tune()
    with pytest.raises(ValueError, match="each has one worker"):
        tune(output=tmp_path, workers=2)
    # A chief without a place to serve at does not take an unfinished search for a finished one.
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "192.0.2.1")
    with pytest.raises(ValueError, match=r"cannot serve at 192\.0\.2\.1:1"):
        tune("synthetic_subspaces/small", output=tmp_path, trials=2, **SMALL)
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tuner": "annealing"}, "`tuner` must be one of"),
        ({"space": "narrow"}, "`space` must be one of"),
        ({"space": "wide"}, "space of choices"),
        ({"trials": 0}, "`trials` must be at least 1"),
        ({"tuner": "hyperband", "trials": 3}, "leave `trials` out"),
        ({"hidden_dim": 3}, "`hidden_dim`"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        tune("synthetic_subspaces/small", output=tmp_path / "search", **arguments)
    assert not (tmp_path / "search").exists()


def test_hypermodel_in_any_tuner_of_kerastuner(tmp_path):
    builder = prepare_dataset("synthetic_subspaces/small")
    config = make_config("synthetic_subspaces", **SMALL)
    hypermodel = MISAHyperModel(config, modality_dims(builder), steps_per_epoch=1)
    tuner = keras_tuner.RandomSearch(
        hypermodel, keras_tuner.Objective("val_task", "min"), max_trials=1, directory=str(tmp_path), seed=1
    )
    batches = [
        load_dataset("synthetic_subspaces/small", split, modalities=SMALL["modalities"])
        for split in ("train", "validation")
    ]
    tuner.search(batches[0], validation_data=batches[1], verbose=0)
    (trial,) = tuner.oracle.get_best_trials()
    model = tuner.get_best_models()[0]
    assert model.evaluate(batches[1], return_dict=True, verbose=0)["task"] == pytest.approx(trial.score, rel=1e-5)
    assert model.similarity_weight == trial.hyperparameters.values["similarity_weight"]


COMMAND = [
    *(sys.executable, "-m", "keras_misa.cli", "tune", "--dataset", "synthetic_subspaces/small", "--trials", "5"),
    *("--batch-size", "256", "--hidden-dim", "4", "--epochs", "1"),
    *("--modalities", "visual,acoustic", "--averaged", "visual,acoustic"),
]


@pytest.mark.slow
def test_two_workers_killed_and_resumed_give_the_results_of_one(tmp_path):
    def started(folder, *more):
        return subprocess.Popen([*COMMAND, "--output", str(folder), *more], stdout=subprocess.PIPE, text=True)

    process = started(tmp_path / "two", "--workers", "2")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("two/trials/trial_*/results.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    # A worker dies, then the chief.
    children = [child for child in psutil.Process(process.pid).children() if "worker" in " ".join(child.cmdline())]
    assert len(children) == 2
    children[0].kill()
    time.sleep(1)
    process.kill()
    process.wait()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)  # they do not outlive their chief
    process = started(tmp_path / "two", "--workers", "2")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "going on" in output
    assert "5/5 trial" in output
    tune("synthetic_subspaces/small", output=tmp_path / "one", trials=5, quiet=True, **{**SMALL, "epochs": 1})
    one, two = ({t["trial"]: t for t in read_trials(tmp_path / name / "trials")} for name in ("one", "two"))
    assert one.keys() == two.keys()
    # A finished search, by one process now: each trial stays as it is.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("two/trials/*/results.json")}
    tune("synthetic_subspaces/small", output=tmp_path / "two", trials=5, quiet=True, **{**SMALL, "epochs": 1})
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("two/trials/*/results.json")}
    for name, trial in one.items():
        assert trial["values"] == two[name]["values"]
        assert trial["status"] == two[name]["status"] == "COMPLETED"
        assert trial["score"] == pytest.approx(two[name]["score"], rel=1e-5)
