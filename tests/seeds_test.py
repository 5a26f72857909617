"""Several seeds, the ablation, missing modalities."""

import csv
import importlib
import json
import shutil

import keras
import numpy as np
import pytest
from small_runs import write_run

from keras_misa._console import make_console
from keras_misa.cli import main
from keras_misa.experiments import ablate, find_run_groups, make_config, missing_modalities, train, train_seeds
from keras_misa.experiments.ablate import ablation_table, variants_of
from keras_misa.experiments.fit_model import TrainingDiverged
from keras_misa.experiments.load_run import FILES
from keras_misa.experiments.open_data import open_data

SEEDS = importlib.import_module("keras_misa.experiments.train_seeds")
SIZES = {"train": 10, "validation": 4, "test": 6}
DIMS = {"visual": 3, "acoustic": 2}
QUICK = {"epochs": 2, "hidden_dim": 4, "averaged": list(DIMS)}  # LSTMs take long to trace


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """One's own dataset of two modalities."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    rows = []
    for split, size in SIZES.items():
        for number in range(size):
            rows.append((f"{split}{number}", split, round(float(rng.uniform(-3, 3)), 2)))
            for modality, dim in DIMS.items():
                (folder / modality).mkdir(exist_ok=True)
                np.save(folder / modality / f"{split}{number}.npy", rng.normal(size=(4, dim)).astype("float32"))
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "split", "label"), *rows])
    return {"manual_dir": folder, "data_dir": folder / "data", "dataset": "utterance_folder", "quiet": True}


@pytest.fixture(scope="module")
def two_seeds(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds") / "runs"
    return folder, train_seeds(2, output=folder, seed=3, modality_dropout=0.3, **QUICK, **source)


def weights(run):
    return [weight.tobytes() for weight in keras.models.load_model(run / "model.keras").get_weights()]


def test_the_summary_is_that_of_the_runs(two_seeds):
    folder, summary = two_seeds
    runs = [json.loads((folder / f"seed-{seed}" / "metrics.json").read_text()) for seed in (3, 4)]
    for name, numbers in summary.items():
        values = [run[name] for run in runs]
        assert numbers["values"] == values
        np.testing.assert_allclose([numbers["mean"], numbers["std"]], [np.mean(values), np.std(values, ddof=1)])
    written = json.loads((folder / "seeds.json").read_text())
    assert (written["runs"], written["metrics"]) == (["seed-3", "seed-4"], summary)
    (group,) = find_run_groups(folder)
    assert (group.name, group.extent) == ("runs", "2 seeds")
    assert group.metrics()["mae"].tolist() == summary["mae"]["values"]
    assert [len(history["val_task"]) for history in group.histories()] == [2, 2]
    assert [len(rows) for rows in group.predictions()] == [SIZES["test"]] * 2


def test_a_seed_gives_the_same_bits_alone(two_seeds, source, tmp_path):
    train(output=tmp_path / "run", seed=4, modality_dropout=0.3, **QUICK, **source)
    assert weights(tmp_path / "run") == weights(two_seeds[0] / "seed-4") != weights(two_seeds[0] / "seed-3")
    files = [(run / "predictions.csv").read_text() for run in (tmp_path / "run", two_seeds[0] / "seed-4")]
    assert files[0] == files[1]


def test_workers_give_the_same_numbers(two_seeds, source, tmp_path, capsys):
    settings = {**source, "quiet": False, "modality_dropout": 0.3, **QUICK}
    summary = train_seeds(2, output=tmp_path / "runs", seed=3, workers=2, **settings)
    assert "2 of 2: runs/seed-" in capsys.readouterr().out
    for name, numbers in two_seeds[1].items():
        np.testing.assert_allclose(summary[name]["values"], numbers["values"], rtol=1e-4, atol=1e-5)
    assert not [path for path in tmp_path.rglob("*") if "checkpoint" in path.name]


@pytest.mark.slow
def test_folds_test_each_utterance_once(source, tmp_path, capsys):
    settings = {"--epochs": 1, "--set": 'averaged=["visual", "acoustic"]', "--hidden-dim": 4, "--folds": 3, "--seed": 5}
    settings |= {"--dataset": source["dataset"], "--manual-dir": source["manual_dir"], "--output": tmp_path / "runs"}
    command = ["train", "--data-dir", str(source["data_dir"]), *(str(x) for pair in settings.items() for x in pair)]
    assert main(command) == 0
    assert "3 folds" in capsys.readouterr().out
    names = [f"seed-5-fold-{fold}" for fold in (1, 2, 3)]
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text())["runs"] == names
    (group,) = find_run_groups(tmp_path / "runs")
    assert ([run.name for run in group.runs], group.extent) == (names, "3 folds")
    tested = [row["segment_id"] for rows in group.predictions() for row in rows]
    everything = [f"{split}{number}" for split, size in SIZES.items() for number in range(size)]
    assert sorted(tested) == sorted(everything)
    train(output=tmp_path / "alone", split_by="video:2/3", seed=5, **{**QUICK, "epochs": 1}, **source)
    assert weights(tmp_path / "alone") == weights(tmp_path / "runs" / names[1])
    assert main(command) == 0
    assert capsys.readouterr().out.count("is done.") == 3
    with pytest.raises(ValueError, match=r"other settings.*Received: folds=None \(was 3\)"):
        train_seeds(1, output=tmp_path / "runs", seed=5, **{**QUICK, "epochs": 1}, **source)


def test_folds_that_cannot_be(source, tmp_path):
    with pytest.raises(ValueError, match=r"3 or more.*Received: fold=1, folds=2"):
        train_seeds(1, output=tmp_path / "runs", folds=2, **source)
    with pytest.raises(ValueError, match=r"21 disjoint parts need at least as many videos\. Received: 20 videos"):
        ablate(output=tmp_path / "runs", folds=21, **source)
    with pytest.raises(ValueError, match="folds=5 and split_by='video:1/5'"):
        train_seeds(1, output=tmp_path / "runs", folds=5, split_by="video:1/5", **source)
    assert not (tmp_path / "runs").exists()


def test_one_label_out_of_range_makes_all_folds_scores(source, tmp_path):
    shutil.copytree(source["manual_dir"], tmp_path / "own", ignore=shutil.ignore_patterns("data"))
    table = tmp_path / "own" / "utterances.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows[:-1], f"{rows[-1].rpartition(',')[0]},4.5"]) + "\n")
    kinds = []
    for fold in (1, 2, 3):
        settings = {"manual_dir": tmp_path / "own", "data_dir": tmp_path / "data", "split_by": f"video:{fold}/3"}
        config = make_config(source["dataset"], **settings)
        open_data(config)
        kinds.append(config["metrics"])
    assert kinds == ["scores"] * 3


def test_workers_tell_what_is_wrong_with_a_run(source, tmp_path, capsys):
    settings = {**QUICK, **source, "quiet": False, "activation": "unknown"}
    with pytest.raises(ValueError, match="activation function identifier: unknown"):
        train_seeds(9, output=tmp_path / "runs", workers=2, **settings)
    assert 1 <= capsys.readouterr().out.count("failed: Could not interpret activation") < 9
    with pytest.raises(SystemExit):
        main(["ablate", "--workers", "two"])
    assert main(["train", "--workers", "2"]) != 0
    assert "Received: workers=2" in capsys.readouterr().err


def test_a_worker_that_dies_does_not_end_the_others(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.executable", "/bin/false")
    train_in_processes = importlib.import_module("keras_misa.experiments.train_in_processes").train_in_processes
    runs = {tmp_path / "a" / f"seed-{seed}": {"seed": seed, "note": "x" * 100_000} for seed in range(3)}
    train_in_processes(runs, 2, make_console())
    assert capsys.readouterr().out.count("failed: exit status 1") == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"modalities": ["vision"]}, "visual.*Received.*vision"), ({"label": "foo"}, "label.*Received.*foo"),
     ({"averaged": ["text"]}, r"Means can be taken of \['visual', 'acoustic'\]")],
)  # fmt: skip
def test_what_the_data_does_not_have_is_told_before_a_folder_is_made(wrong, message, source, tmp_path):
    for run in (lambda **settings: train_seeds(2, **settings), ablate):
        if run is not ablate or "modalities" not in wrong:
            with pytest.raises(ValueError, match=message):
                run(output=tmp_path / "runs", **wrong, **source)
    assert not (tmp_path / "runs").exists()


def test_what_is_done_is_not_done_again(source, tmp_path, monkeypatch):
    trained = []

    def pretend(output, seed, **settings):
        if seed == 1 and seed not in trained:
            trained.append(seed)
            raise TrainingDiverged("a loss is not finite")
        trained.append(seed)
        output.mkdir(parents=True)
        for name in FILES:
            (output / name).write_text(json.dumps({"mae": float(seed)}))
        return {"mae": float(seed)}

    monkeypatch.setattr(SEEDS, "train", pretend)
    with pytest.raises(ValueError, match=r"1 of 3 trainings diverged.* seed 1: a loss is not finite"):
        train_seeds(3, output=tmp_path / "runs", **source)
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text())["metrics"]["mae"]["values"] == [0, 2]
    assert train_seeds(4, output=tmp_path / "runs", **source)["mae"]["mean"] == 1.5
    assert trained == [0, 1, 2, 1, 3]
    assert train_seeds(1, output=tmp_path / "runs", **source)["mae"]["values"] == [0, 1, 2, 3]  # the others count still
    (tmp_path / "runs" / "seed-2" / "model.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"seed-2 is damaged: .*Received: no model\.keras"):
        train_seeds(4, output=tmp_path / "runs", **source)
    with pytest.raises(ValueError, match=r"other settings.*Received: hidden_dim=8 \(was None\)"):
        train_seeds(4, output=tmp_path / "runs", hidden_dim=8, **source)
    with pytest.raises(FileExistsError, match="must be new or empty"):
        train_seeds(2, output=tmp_path, **source)
    with pytest.raises(ValueError, match="Received: seeds=0"):
        train_seeds(0, output=tmp_path / "none", **source)
    with pytest.raises(FileNotFoundError, match="There is no finished run"):
        find_run_groups(tmp_path / "none")


def test_what_is_gone_is_told(tmp_path, caplog):
    for seed in (0, 1, 2):
        write_run(tmp_path / "runs" / f"seed-{seed}", DIMS, seed=seed)
        (tmp_path / "runs" / f"seed-{seed}" / "metrics.json").write_text('{"mae": 0.5}')
    began = {"settings": {}, "runs": [f"seed-{seed}" for seed in (0, 1, 2)]}
    (tmp_path / "runs" / "seeds.json").write_text(json.dumps(began))
    shutil.rmtree(tmp_path / "runs" / "seed-1")
    (group,) = find_run_groups(tmp_path / "runs")
    assert [run.name for run in group.runs] == ["seed-0", "seed-2"]
    assert "left out are seed 1, which is gone" in caplog.text
    (tmp_path / "ablation.json").write_text(
        json.dumps({"settings": {}, "variants": {"MISA": "runs", "base": "02-base", "inv": "03-inv"}})
    )
    assert [group.name for group in find_run_groups(tmp_path)] == ["MISA"]
    assert "not there and left out are the models base; inv" in caplog.text
    for name in ("ablation.json", "runs/seeds.json"):
        (tmp_path / name).write_text("[]")
        with pytest.raises(ValueError, match=rf"{name} is damaged: expected an object with settings"):
            find_run_groups((tmp_path / name).parent)


def test_metrics_that_are_none_are_told(source, tmp_path, monkeypatch):
    write_run(tmp_path / "seed-0", DIMS)
    monkeypatch.setattr(SEEDS, "train", None)
    (tmp_path / "seeds.json").write_text(json.dumps({"settings": {"dataset": "utterance_folder"}}))
    with pytest.raises(ValueError, match=r"seed-0/metrics\.json is damaged"):  # {}
        train_seeds(1, "utterance_folder", output=tmp_path, quiet=True)


def test_the_models_of_table_4():
    names = ["MISA", "(−) text", "(−) visual", "(−) acoustic", "(−) L_sim", "(−) L_diff", "(−) L_recon"]
    variants = variants_of(["text", "visual", "acoustic"])
    assert list(variants) == [*names, "base", "inv", "sFusion", "iFusion"]
    assert variants["(−) visual"] == {"modalities": ("text", "acoustic")}
    assert list(variants_of(["text"])) == ["MISA", *names[4:], "base", "inv", "sFusion", "iFusion"]


def test_an_ablation_hands_its_settings_on(source, tmp_path, monkeypatch):
    asked = {}

    def pretend(output, **settings):
        asked[output.parent.name] = settings
        raise TrainingDiverged("pretended")

    monkeypatch.setattr(SEEDS, "train", pretend)
    dims = {"text": None, "visual": 3}
    monkeypatch.setattr("keras_misa.experiments.open_data.find_dataset", lambda config: (None, dims))
    (tmp_path / "out" / "x").mkdir(parents=True)
    settings = {"text": "glove:vectors.txt", "vocabulary": "train", "dropout": 0.2, **source}
    with pytest.raises(FileExistsError):
        ablate(output=tmp_path / "out", **settings)
    with pytest.raises(ValueError, match=r"varies modalities, .* Received: \{'fused': \('shared',\)\}"):
        ablate(output=tmp_path / "ablation", fused=("shared",), **settings)
    (tmp_path / "ablation" / "a" / "b").mkdir(parents=True)
    (tmp_path / "ablation" / "a" / "b" / "config.json").touch()
    (tmp_path / "ablation" / "ablation.json").write_text(
        json.dumps({"settings": {k: str(v) if k.endswith("_dir") else v for k, v in settings.items() if k != "quiet"}})
    )
    with pytest.raises(ValueError, match="10 of 10 models have problems"):
        ablate(output=tmp_path / "ablation", **settings)
    given = {"text": "glove:vectors.txt", "vocabulary": "train", "dropout": 0.2}
    assert {k: asked["01-misa"][k] for k in given} == given
    assert not {"text", "vocabulary"} & set(asked["02-text"])
    assert asked["02-text"]["modalities"] == ("visual",)
    assert asked["04-l_sim"]["similarity_weight"] == 0
    assert asked["08-inv"]["subspaces"] == ("shared",)


def test_the_command_of_an_ablation_reads_settings_as_train_does(tmp_path, capsys, monkeypatch):
    asked = {}
    monkeypatch.setattr("keras_misa.experiments.ablate", lambda **settings: asked.update(settings))
    preset = tmp_path / "best.json"
    preset.write_text('{"dataset": "ur_funny", "dropout": 0.3, "hidden_dim": 8, "patience": 2}')
    options = ["--hidden-dim", "4", "--set", "patience=9", "--set", "bert_cache=false", "--seeds", "2", "--quiet"]
    assert main(["ablate", "--preset", str(preset), *options]) == 0
    given = {"dataset": "ur_funny", "dropout": 0.3, "hidden_dim": 4, "patience": 9, "bert_cache": False}
    assert asked == {**given, "seeds": 2, "folds": None, "workers": 1, "quiet": True}
    monkeypatch.undo()
    preset.write_text('{"subspaces": ["shared"]}')
    for options, message in (
        (["--preset", str(preset)], "varies modalities, subspaces, fused, model itself. Received: {'subspaces'"),
        (["--set", "model=lmf"], "Received: {'model': 'lmf'}"),
        (["--epochs", "3", "--set", "epochs=4"], "given once. Received: epochs as an option and by --set"),
        (["--set", "patience=3", "--set", "patience=4"], "given once. Received: patience by --set, more than once"),
    ):
        assert main(["ablate", *options, "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ablate", "--modalities", "text"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["train"], ["train", "--seeds", "2"], ["ablate"]])
@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_a_worker(command, workers, tmp_path, capsys):
    assert main([*command, "--workers", str(workers), "--output", str(tmp_path / "out")]) == 2
    assert f"Received: workers={workers}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_papers_numbers_stand_beside_ours(tmp_path):
    variants = variants_of(["text", "visual", "acoustic"])
    write_run(tmp_path / "0" / "seed-0", DIMS, dataset="cmu_mosei/csd")
    (tmp_path / "0" / "seed-0" / "metrics.json").write_text('{"mae": 0.5, "corr": null, "acc7": 0.25}')
    for number in range(1, len(variants)):
        shutil.copytree(tmp_path / "0", tmp_path / str(number))
    folders = {name: str(number) for number, name in enumerate(variants)}
    (tmp_path / "ablation.json").write_text(json.dumps({"settings": {}, "variants": folders}))
    table = ablation_table(tmp_path, variants)
    assert table.columns == ["model", "MAE ↓", "Corr ↑", "seeds", "in the paper: MAE ↓", "in the paper: Corr ↑"]
    assert table.rows[0] == ["1) MISA", "0.5000", "-", "1", "0.555", "0.756"]
    assert table.rows[1] == ["2) (−) text", "0.5000", "-", "1", "0.801", "0.090"]
    assert table.rows[3][4:] == ["0.562", "0.753"]
    assert [row[0].partition(") ")[2] for row in table.rows if row[4] == "-"] == []


@pytest.mark.slow
def test_an_ablation(source, tmp_path, capsys, monkeypatch):
    module = importlib.import_module("keras_misa.experiments.ablate")
    some = [name for name in variants_of(list(DIMS)) if name in ("(−) visual", "iFusion")]
    monkeypatch.setattr(module, "variants_of", lambda names: {name: variants_of(names)[name] for name in some})
    options = ["--dataset", "utterance_folder", "--manual-dir", source["manual_dir"], "--data-dir", source["data_dir"]]
    options += ["--epochs", 1, "--hidden-dim", 4, "--averaged", "visual,acoustic", "--output", tmp_path / "table4"]
    assert main([str(part) for part in ("ablate", *options)]) == 0
    assert "iFusion" in capsys.readouterr().out
    groups = find_run_groups(tmp_path / "table4")
    assert [group.name for group in groups] == some
    with open(tmp_path / "table4" / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for group, row in zip(groups, rows, strict=True):
        assert row["model"].endswith(f") {group.name}")
        assert row["MAE ↓"] == f"{group.metrics()['mae'][0]:.4f}"
    assert groups[0].config["modalities"] == ["acoustic"]
    assert groups[1].config["fused"] == ["shared"]
    for name in ("table.md", "table.tex"):
        assert "iFusion" in (tmp_path / "table4" / name).read_text(encoding="utf-8")


def test_missing_modalities(two_seeds, source, capsys, tmp_path):
    folder, _ = two_seeds
    for name in ("missing.md", "missing.csv", "missing-tests.md"):
        (tmp_path / name).write_text("another's")
    arguments = ["missing", str(folder), "--rates", "0.5", "--out", str(tmp_path / "missing")]
    assert main([*arguments, "--force"]) == 0
    assert (tmp_path / "missing-tests.md").read_text() == "another's"
    with open(tmp_path / "missing.csv", newline="", encoding="utf-8") as file:
        rows = {row.pop("modalities that are there"): row for row in csv.DictReader(file)}
    assert list(rows) == ["visual, acoustic", "visual", "acoustic", "each missing at 0.5"]
    for name, kept in {"visual, acoustic": DIMS, "visual": ["visual"], "acoustic": ["acoustic"]}.items():
        values = [mae_with(folder / f"seed-{seed}", source["manual_dir"], kept) for seed in (3, 4)]
        assert rows[name]["MAE ↓"] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert rows["visual"] != rows["visual, acoustic"] != rows["acoustic"] != rows["each missing at 0.5"]
    (tmp_path / "copy").mkdir()
    same_name = shutil.copytree(folder / "seed-3", tmp_path / "copy" / folder.name)
    metrics = "MAE ↓", "Corr ↑", "Acc-2 ↑ negative / non-negative"
    headings = missing_modalities(find_run_groups(folder, same_name), rates=[]).columns
    names = [f"{folder.name} ({parent})" for parent in (folder.parent.name, "copy")]
    assert headings[1:] == [f"{name}: {metric}" for name in names for metric in metrics]
    (note,) = missing_modalities(find_run_groups(folder), rates=[0.5]).notes
    share = np.mean([chosen(draw) for draw in np.random.default_rng(0).random((200_000, 2)) < 0.5])
    assert f"of 2, in the mean {share:.0%} are missing at 0.5" in note
    with pytest.raises(ValueError, match=r"chances in \[0, 1\)\. Received: \[1\.0\]"):
        missing_modalities(find_run_groups(folder), rates=[1.0])


def chosen(missing):
    """Share of an utterance's modalities that are missing where one stays."""
    return (missing.sum() - missing.all()) / len(missing)


def mae_with(run, folder, kept):
    """By the files and the saved model."""
    with open(folder / "utterances.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    batch = {}
    for modality in DIMS:
        values = np.stack([np.load(folder / modality / f"{row['segment_id']}.npy") for row in rows])
        lengths = np.full(len(rows), 4 if modality in kept else 0, "int32")
        batch[modality] = {"values": values, "lengths": lengths}
    predictions = keras.models.load_model(run / "model.keras").predict(batch, verbose=0)
    return np.abs(predictions[:, 0] - [float(row["label"]) for row in rows]).mean()
