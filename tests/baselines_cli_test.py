"""The baselines by command line, on a made-up folder."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_misa.cli import main
from keras_misa.experiments import build_model, make_config
from keras_misa.experiments.model_settings import BASELINES, MODELS, TITLES, model_defaults
from keras_misa.presets import PRESETS

WORDS = ["good", "bad", "films", "very", "dull"]
SIZES = {"train": 12, "validation": 4, "test": 5}


def write_folder(folder, longer=()):
    """Sentences, and a frame for each word; for the utterances `longer` one more."""
    (folder / "visual").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, size in SIZES.items():
        for number in range(size):
            name, steps = f"{split}{number}", int(rng.integers(1, 6))
            rows.append((name, split, " ".join(rng.choice(WORDS, steps)), round(float(rng.uniform(-3, 3)), 2)))
            frames = rng.normal(size=(steps + 1, 3))[: steps + (name in longer)]
            np.save(folder / f"visual/{name}.npy", frames.astype("float32"))
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "split", "text", "label"), *rows])
    return folder


def command(*arguments):
    return main([str(argument) for argument in arguments])


def train(place, *options):
    settings = ("--quiet", "--dataset", "utterance_folder", "--manual-dir", place / "own", "--data-dir", place / "data")
    return command("train", *settings, "--output", place / "run", "--epochs", 1, *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings", "terms"),
    [
        ("ef_lstm", {"units": 3}, set()),
        ("mfm", {"units": {"text": 3, "visual": 2}, "latent_dim": 2}, {"similarity", "reconstruction"}),
    ],
)
def test_trains_evaluates_predicts_and_exports(model, settings, terms, tmp_path, capsys):
    write_folder(tmp_path / "own")
    assignments = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    assert train(tmp_path, "--model", model, *assignments) == 0
    run = tmp_path / "run"
    assert not (run / "explanation.json").exists()
    config = json.loads((run / "config.json").read_text())["settings"]
    assert {"model": model, **settings}.items() <= config.items()
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        (epoch,) = csv.DictReader(file)
    assert {"loss", "val_loss", *(f"{part}{t}" for part in ("", "val_") for t in {"task", *terms})} <= set(epoch)
    metrics = json.loads((run / "metrics.json").read_text())
    assert command("evaluate", run) == 0
    assert f"{metrics['mae']:.4f}" in capsys.readouterr().out

    write_folder(tmp_path / "new", longer=("test1",))
    assert command("predict", run, "--input", tmp_path / "new", "--out", tmp_path / "predictions.csv") == 0
    assert command("export", run, "--out", tmp_path / "served", "--name", "baseline") == 0
    exported = tmp_path / "served" / "baseline_text"
    assert command("predict", exported, "--input", tmp_path / "new", "--out", tmp_path / "exported.csv") == 0
    tables = []
    for name in ("predictions.csv", "exported.csv"):
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            tables.append({row["segment_id"]: row for row in csv.DictReader(file)})
    with open(run / "predictions.csv", newline="", encoding="utf-8") as file:
        expected = {row["segment_id"]: float(row["prediction"]) for row in csv.DictReader(file)}
    for table in tables:
        unaligned = table.pop("test1")
        assert unaligned["prediction"] == ""
        assert "not aligned; expected as many steps in each" in unaligned["problem"]
        for name, value in expected.items():
            if name != "test1":
                assert float(table[name]["prediction"]) == pytest.approx(value, abs=1e-4)
    (signature,) = exported.glob("*/signature.json")
    description = json.loads(signature.read_text())
    assert description["model"] == TITLES[model]
    assert set(description["signatures"]) == {"serving_default", "encoded"}


def test_modalities_that_are_not_aligned_are_refused(tmp_path, capsys):
    write_folder(tmp_path / "own", longer=("train3", "validation0"))
    assert train(tmp_path, "--model", "ef_lstm", "--set", "units=3") == 2
    message = capsys.readouterr().err
    assert "'ef_lstm' reads the modalities side by side" in message
    assert "Received: 1 of 12 utterances of train" in message
    assert "such as train3: text" in message


def test_settings_are_the_models_own():
    config = make_config("cmu_mosei", model="lmf", rank=8, batch_size=5)
    assert config["rank"] == 8
    assert config["batch_size"] == 5
    assert "hidden_dim" not in config
    for model in BASELINES:
        config = make_config("cmu_mosei", model=model)
        assert model_defaults(model).items() <= config.items()
        for name in ("batch_size", "learning_rate", "clipvalue", "patience"):
            assert config[name] == PRESETS["cmu_mosei"][name]
        read = json.loads(json.dumps(config))
        assert make_config(**read) == read
    assert set(TITLES) == set(MODELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity_weight": 0.3}, "^similarity_weight would have no effect here"),
        ({"hidden_dim": 128, "subspaces": ("shared",)}, "^hidden_dim and subspaces would have no effect here"),
        ({"protocol": "reference"}, "^protocol would .*Received: protocol='reference', model='tfn'"),
        ({"bert_cache": True, "text": "bert:x"}, "^bert_cache would"),
        ({"rank": 3}, r"Received: \['rank'\]"),
        ({"dropout": 1.5}, r"`dropout` must be in \[0, 1\)"),
        ({"model": "svm"}, "`model` must be one of .*Received: model='svm'"),
        ({"model": "mult", "averaged": ("text",)}, "^averaged would"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_config("cmu_mosi", **{"model": "tfn", **settings})


@pytest.mark.parametrize("model", BASELINES)
def test_models_are_built_from_settings(model):
    config = make_config("ur_funny", model=model, modalities=("visual", "acoustic"), dtype="mixed_bfloat16")
    if "averaged" in config and config["averaged"] is None:
        config["averaged"] = ["visual"]
    built = build_model(config, {"text": None, "visual": 3, "acoustic": 2})
    assert type(built) is BASELINES[model]
    assert (built.predicts, built.num_outputs, built.modalities) == ("classes", 2, ["visual", "acoustic"])
    assert built.dtype_policy.name == "mixed_bfloat16"
    assert getattr(built, "averaged", ("visual",)) == ("visual",)
    assert built.optimizer.clipvalue == 1.0
    for name, default in model_defaults(model).items():
        assert getattr(built, name) == default
    assert keras.saving.serialize_keras_object(built)


def test_an_assignment_that_is_none(capsys):
    with pytest.raises(SystemExit):
        command("train", "--model", "lmf", "--set", "rank")
    assert "expected NAME=VALUE" in capsys.readouterr().err
    assert command("train", "--seed", 1, "--set", "seed=2") == 2
    assert "A setting is given once. Received: seed" in capsys.readouterr().err
    assert command("train", "--model", "lmf", "--set", "rank=8", "--set", "rank=3") == 2
    assert "A setting is given once. Received: rank by --set, more than once" in capsys.readouterr().err
