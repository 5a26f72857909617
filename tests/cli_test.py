"""The command line on made-up files in the authors' format."""

import csv
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error

from keras_misa.cli import main
from keras_misa.experiments import make_config, subspace_scores, variance_shares
from keras_misa.presets import PRESETS

FOLDER = pathlib.Path(__file__).parents[1] / "datasets" / "cmu_mosi" / "dummy_data"
KEYS = ["mae", "corr", "acc7", "acc5", "acc2_nonneg", "f1_nonneg", "acc2_pos", "f1_pos"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    return {"data": root / "prepared", "run": root / "run"}


@pytest.fixture(scope="module")
def run(folders):
    options = {
        "--dataset": "cmu_mosi",
        "--manual-dir": FOLDER,
        "--data-dir": folders["data"],
        "--output": folders["run"],
        "--epochs": 2,
        "--hidden-dim": 8,
        "--seed": 3,
    }
    status = main(["train", "--quiet", *(str(part) for option in options.items() for part in option)])
    assert status == 0
    return folders["run"]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_quiet_is_for_one_command(tmp_path):
    assert main(["train", "--quiet", "--preset", str(tmp_path / "missing.json")]) == 2
    assert logging.getLogger("keras_misa").isEnabledFor(logging.WARNING)


def test_run_folder(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json",
        "curves.png",
        "explanation.json",
        "history.csv",
        "metrics.json",
        "model.keras",
        "predictions.csv",
        "tensorboard",
        "tokenizer.json",
    }
    assert list(json.loads((run / "metrics.json").read_text())) == KEYS
    history = read_csv(run / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert {"task", "val_task", "similarity", "val_reconstruction", "learning_rate"} <= set(history[0])
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["seed"] == 3
    assert set(config["data"]["sources"]) == {"train.pkl", "dev.pkl", "test.pkl"}
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"]
    revision = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert config["git"] in ((revision, f"{revision}+") if revision else (None,))
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").rglob("events*"))


def test_metrics_are_those_of_the_predictions(run):
    rows = read_csv(run / "predictions.csv")
    mae = mean_absolute_error(*([float(row[key]) for row in rows] for key in ("label", "prediction")))
    assert json.loads((run / "metrics.json").read_text())["mae"] == pytest.approx(mae, rel=1e-6)
    assert len({row["segment_id"] for row in rows}) == len(rows)


def test_evaluate_repeats_the_table_to_the_last_digit(run, capsys):
    from keras_misa.experiments import evaluate

    recorded = json.loads((run / "metrics.json").read_text())
    assert {k: None if np.isnan(v) else v for k, v in evaluate(run).items()} == recorded
    assert main(["evaluate", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    printed = capsys.readouterr().out
    assert f"{metrics['mae']:.4f}" in printed
    [title] = [line for line in printed.splitlines() if "test split" in line]  # a pipe is not cut at 80 columns
    assert title.strip().startswith("cmu_mosi/reference_splits, test split")
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    assert main(["evaluate", str(run), "--dialect", "mmsa"]) == 0
    printed = capsys.readouterr().out
    assert f"{100 * round(metrics['acc2_pos'], 4):.2f}" in printed.split("Non0_acc_2")[1].split("\n")[0]
    assert main(["evaluate", str(run), "--dialect", "sdk"]) == 0
    assert "as in the sdk dialect" in " ".join(capsys.readouterr().out.split())


def test_compare_reads_what_train_writes(run, capsys):
    assert main(["compare", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| run |")]
    both = [100 * metrics[f"acc2_{boundary}"] for boundary in ("nonneg", "pos")]
    assert row.startswith(f"| run | {metrics['mae']:.3f} | ")
    assert f"| {both[0]:.1f} / {both[1]:.1f} |" in row


def test_same_seed_same_predictions(run, folders, tmp_path):
    arguments = ["--data-dir", str(folders["data"]), "--epochs", "2", "--hidden-dim", "8", "--quiet"]
    output = tmp_path / "same"
    assert main(["train", "--dataset", "cmu_mosi", "--seed", "3", "--output", str(output), *arguments]) == 0
    assert (output / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


def test_user_errors_are_one_line(run, folders, capsys, tmp_path):
    data = ["--data-dir", str(folders["data"])]
    for arguments, message in (
        (["train", "--output", str(run), *data], "must be new or empty"),
        (["train", "--dataset", "nothing", *data], "no dataset of this name"),
        (["train", "--dataset", "../x", *data], "a plain word"),
        (["train", "--dataset", "mnist", *data], "nor prepared in data_dir"),
        (["train", "--epochs", "0", *data], "Received: epochs=0"),
        (
            ["train", "--dataset", "cmu_mosi", "--modalities", "visual", "--text", "glove:x", *data],
            "and the modality text",
        ),
        (["train", "--dataset", "cmu_mosi", "--modalities", "visual, visual", *data], "each once"),
        (["train", "--dataset", "cmu_mosi", "--text", "bert", *data], "must be bert:<preset> or glove:<file>"),
        (["train", "--dataset", "cmu_mosi", "--text", "bert:no/where", *data], "folder that is there"),
        (["train", "--bert-trainable", "9", "--text", "bert:no/where", *data], "folder that is there"),
        (["evaluate", str(tmp_path)], "lacks config.json"),
        (["train", "--dataset", "cmu_mosi", "--fused", "public", "--output", str(tmp_path / "x"), *data], "fused"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("keras-misa: ")
        assert message in error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--modalities=text,vision",
            "['text', 'visual', 'acoustic'], each once. Received: modalities=['text', 'vision']",
        ),
        ("--modalities=text,text", "['text', 'visual', 'acoustic'], each once. Received: modalities=['text', 'text']"),
        ("--modalities=", "['text', 'visual', 'acoustic'], each once. Received: modalities=['']"),
        ("--label=foo", "has the labels ['label']. Received: label='foo'"),
    ],
)
def test_names_that_the_dataset_lacks(option, message, run, folders, tmp_path, capsys):
    data = [f"--data-dir={folders['data']}", "--dataset=cmu_mosi"]
    assert main(["train", option, *data, f"--output={tmp_path / 'runs' / 'run'}"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_damaged_file_is_named(tmp_path, capsys):
    folder = tmp_path / "files"
    shutil.copytree(FOLDER, folder)
    (folder / "dev.pkl").write_bytes((folder / "dev.pkl").read_bytes()[:100])
    assert main(["train", "--dataset", "cmu_mosi", "--manual-dir", str(folder), "--data-dir", str(tmp_path / "d")]) == 2
    assert "dev.pkl" in capsys.readouterr().err


def test_damaged_runs_are_named(run, folders, tmp_path, capsys):
    damages = {
        "config.json": (b"{", b"{}", b"[]", b'{"settings": {}, "data": {}}'),
        "model.keras": (b"", (run / "model.keras").read_bytes()[:1000]),
    }
    for name, contents in damages.items():
        for number, content in enumerate(contents):
            damaged = tmp_path / f"{name}-{number}"
            shutil.copytree(run, damaged)
            (damaged / name).write_bytes(content)
            assert main(["evaluate", str(damaged), "--data-dir", str(folders["data"])]) == 2
            assert name in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "metrics.json").unlink()
    assert main(["evaluate", str(unfinished)]) == 2
    assert "not a finished run: it lacks metrics.json" in capsys.readouterr().err


def test_other_files_than_those_of_the_run_are_told(run, folders, tmp_path, caplog):
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(FOLDER / "test.pkl", folder)
    shutil.copytree(folders["data"], tmp_path / "data")
    assert main(["evaluate", str(run), f"--manual-dir={folder}", f"--data-dir={tmp_path / 'data'}"]) == 0
    assert "not the files that the run was trained on" in caplog.text


def test_any_terminal_can_show_the_help():
    command = [sys.executable, "-m", "keras_misa.cli", "train", "--help"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})


def test_presets_are_table_6():
    keys = ["activation", "batch_size", "similarity_weight", "difference_weight", "reconstruction_weight"]
    keys += ["dropout", "hidden_dim", "learning_rate", "clipvalue", "num_moments"]
    names = ("cmu_mosi", "cmu_mosei", "ur_funny")
    columns = {name: [PRESETS[name][key] for key in keys] for name in names}
    assert columns == {
        "cmu_mosi": ["relu", 64, 1.0, 0.3, 1.0, 0.5, 128, 1e-4, 1.0, 5],
        "cmu_mosei": ["leaky_relu", 16, 0.7, 0.3, 0.7, 0.1, 128, 1e-4, 1.0, 5],
        "ur_funny": ["tanh", 32, 0.7, 1.0, 1.0, 0.1, 128, 1e-4, 1.0, 5],
    }


def test_unknown_setting():
    with pytest.raises(ValueError, match=r"Received: \['dropuot'\]"):
        make_config(dropuot=0.1)


NAN = float("nan")
WRONG = {
    "batch_size": (0, -3),
    "clipvalue": (0.0, -1.0, NAN),
    "devices": (0,),
    "dropout": (-0.1, 1.0, NAN),
    "epochs": (0, -1),
    "fused": ((),),
    "fusion_dropout": (1.0,),
    "hidden_dim": (0, 127),
    "learning_rate": (0.0, -1.0, NAN, float("inf")),
    "learning_rate_decay": (0.0, -2.0),
    "modalities": ((),),
    "patience": (-1,),
    "protocol": ("best",),
    "seed": (-1, 99999999999),
    "similarity_weight": (-1.0, NAN),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        make_config(**{name: value})


def test_a_preset_that_is_none(tmp_path, capsys):
    path = tmp_path / "best.json"
    for content, message in (("[1]", "A preset is a JSON object"), ("{", "is not valid JSON"), ('{"x": 1}', "['x']")):
        path.write_text(content)
        assert main(["train", "--preset", str(path), "--output", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_subspace_scores_against_known_answers():
    rng = np.random.default_rng(0)
    known, noise = rng.normal(size=(2, 4000, 2))
    vectors = {"shared": known @ rng.normal(size=(2, 5)), "private": noise, "half": known + noise}
    fit, held_out = ({n: v[part] for n, v in vectors.items()} for part in (slice(0, 2000), slice(2000, None)))
    scores = subspace_scores(fit, {"f": known[:2000]}, held_out, {"f": known[2000:]})
    assert scores["shared"]["f"] == pytest.approx(1.0, abs=1e-3)
    assert scores["private"]["f"] == pytest.approx(0.0, abs=0.02)
    assert scores["half"]["f"] == pytest.approx(0.5, abs=0.03)


def test_variance_shares_against_known_answers():
    rng = np.random.default_rng(0)
    f, g, noise = rng.normal(size=(3, 4000, 1))
    # Columns of variance 4 (f), 1 (g) and 1 (neither): shares 4/6, 1/6.
    shares = variance_shares({"x": np.hstack([5 + 2 * f, g, noise]), "none": 0 * f}, {"f": f, "g": g})
    assert shares["x"] == pytest.approx({"f": 4 / 6, "g": 1 / 6}, abs=0.02)
    both = variance_shares({"x": f + g}, {"fg": np.hstack([f, g])})
    assert both["x"]["fg"] == pytest.approx(1.0)


def test_one_video_is_warned_of(folders, tmp_path, capsys):
    arguments = ["--dataset=cmu_mosi", f"--data-dir={folders['data']}", "--epochs=1", "--hidden-dim=8"]
    arguments += ["--modalities=visual,acoustic", "--averaged=visual,acoustic"]  # LSTMs take long to trace.
    assert main(["train", *arguments, "--split-by=video:0.3,0.3,0.4", f"--output={tmp_path / 'run'}"]) == 0
    assert "is one video, one speaker" in capsys.readouterr().out


def test_saved_model_of_a_run_is_plain_keras(run):
    model = keras.models.load_model(run / "model.keras")
    assert model.optimizer is not None


@pytest.mark.parametrize(
    ("settings", "useless"),
    [
        ({"bert_learning_rate": 1e-5}, "bert_learning_rate"),
        ({"text": "glove:x.txt", "bert_trainable": "none", "bert_cache": False}, "bert_cache and bert_trainable"),
        ({"text": "bert:x", "vocabulary": "table"}, "vocabulary"),
        ({"text": "bert:x", "bert_trainable": "none", "bert_warmup_steps": 9}, "bert_warmup_steps"),
        ({"text": "bert:x", "bert_trainable": -1, "bert_cache": False}, "bert_cache"),
    ],
)
def test_settings_of_text_without_effect_are_refused(settings, useless):
    with pytest.raises(ValueError, match=rf"^{useless} would have no effect here\. Received: {useless.split()[0]}="):
        make_config("cmu_mosi", **settings)
    for text in ("bert:x", "glove:x", None):
        full = make_config("ur_funny", text=text)
        assert make_config(**full) == full
