"""Text by BERT from the command line: a small BERT that the test makes, a folder of sentences, every command on it."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from small_runs import write_bert

from keras_misa.cli import main
from keras_misa.data import WordPieceTokenizer
from keras_misa.experiments import train

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the command line runs on TensorFlow")

WORDS = ["good", "bad", "films", "very", "dull", "Film!", "zebra"]
SIZES = {"train": 12, "validation": 4, "test": 5}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(str(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sentences of 1 to 7 words and frames to match, as one's own dataset."""
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "visual").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for split, size in SIZES.items():
        for number in range(size):
            words = rng.choice(WORDS, rng.integers(1, 8))
            rows.append((f"{split}{number}", split, " ".join(words), round(float(rng.uniform(-3, 3)), 2)))
            np.save(folder / f"visual/{split}{number}.npy", rng.normal(size=(rng.integers(1, 6), 3)).astype("f4"))
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "split", "text", "label"), *rows])
    return folder


@pytest.fixture(scope="module")
def settings(bert, folder, tmp_path_factory):
    return {
        "--dataset": "utterance_folder",
        "--manual-dir": folder,
        "--data-dir": tmp_path_factory.mktemp("prepared"),
        "--text": f"bert:{bert}",
        "--epochs": 2,
        "--batch-size": 5,
        "--hidden-dim": 4,
        "--averaged": "visual",
    }


def run(settings, output, *flags, **changes):
    options = {**settings, "--output": output, **{f"--{k.replace('_', '-')}": v for k, v in changes.items()}}
    assert main(["train", "--quiet", *flags, *(str(part) for option in options.items() for part in option)]) == 0
    return output


@pytest.fixture(scope="module")
def tuned(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("tuned")
    return run(settings, output, bert_trainable=-1, bert_learning_rate=1e-3, bert_warmup_steps=2)


@pytest.fixture(scope="module")
def cached(settings, tmp_path_factory):
    return run(settings, tmp_path_factory.mktemp("cached"), bert_trainable="none", learning_rate=1e-2)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_of(run):
    bert = keras.models.load_model(run / "model.keras").backbone.encoders["text"].backbone
    return {variable.path: keras.ops.convert_to_numpy(variable.value) for variable in bert.weights}


def test_fine_tuning_shows_every_term_and_moves_what_it_should(tuned, bert):
    import keras_nlp

    history = read(tuned / "history.csv")
    for name in ("loss", "task", "similarity", "difference", "reconstruction"):
        assert np.isfinite([float(row[name]) for row in history]).all()
        assert f"val_{name}" in history[0]
    before = keras_nlp.models.BertBackbone.from_preset(bert).weights
    before = {v.path: keras.ops.convert_to_numpy(v.value) for v in before}
    moved = {path for path, after in weights_of(tuned).items() if np.abs(after - before[path]).max() > 1e-7}
    assert any("transformer_layer_1" in path for path in moved)
    assert any("token_embedding" in path for path in moved)
    assert not any("transformer_layer_0" in path or "pooled_dense" in path for path in moved)


@pytest.mark.parametrize("kind", ["tuned", "cached"])
def test_evaluate_and_predict_repeat_the_run(kind, settings, folder, tmp_path, request):
    from keras_misa.experiments import evaluate

    run = request.getfixturevalue(kind)
    recorded = json.loads((run / "metrics.json").read_text())
    assert evaluate(run) == pytest.approx(recorded, abs=1e-5)
    shutil.copytree(folder, tmp_path / "input")
    rows = read(folder / "utterances.csv")
    with open(tmp_path / "input/utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "text"), *((row["segment_id"], row["text"]) for row in rows)])
    arguments = [str(run), "--input", str(tmp_path / "input"), "--out", str(tmp_path / "out.csv"), "--batch-size", "4"]
    assert main(["predict", *arguments]) == 0
    predicted = read(tmp_path / "out.csv")
    assert [row["segment_id"] for row in predicted] == [row["segment_id"] for row in rows]
    assert {row["problem"] for row in predicted} == {""}
    predicted = {row["segment_id"]: float(row["prediction"]) for row in predicted}
    for row in read(run / "predictions.csv"):
        assert predicted[row["segment_id"]] == pytest.approx(float(row["prediction"]), abs=1e-5)


@pytest.mark.slow
def test_a_frozen_bert_stays_as_it_was_and_serves_raw_pieces(cached, bert, folder, tmp_path):
    import keras_nlp
    import tensorflow as tf

    for variable in keras_nlp.models.BertBackbone.from_preset(bert).weights:
        np.testing.assert_array_equal(weights_of(cached)[variable.path], keras.ops.convert_to_numpy(variable.value))
    model = keras.models.load_model(cached / "model.keras")
    model.export(tmp_path / "saved", verbose=False)
    row = read(cached / "predictions.csv")[0]
    words = next(r["text"] for r in read(folder / "utterances.csv") if r["segment_id"] == row["segment_id"]).split()
    pieces = WordPieceTokenizer.from_preset(bert).ids(words)
    visual = np.load(folder / f"visual/{row['segment_id']}.npy")
    batch = {
        "text": {"values": pieces[None], "lengths": np.array([len(pieces)], "int32")},
        "visual": {"values": visual[None], "lengths": np.array([len(visual)], "int32")},
    }
    served = tf.saved_model.load(tmp_path / "saved")
    assert served.serve(batch).numpy().item() == pytest.approx(float(row["prediction"]), abs=1e-5)


def test_text_alone_has_no_similarity_and_predicts_sentences(settings, tmp_path):
    output = run(settings, tmp_path / "run", modalities="text", bert_trainable="none", averaged="none")
    assert {"task", "difference", "reconstruction"} <= set(history := read(output / "history.csv")[0])
    assert "similarity" not in history
    (tmp_path / "sentences.txt").write_text("good films\n\nvery dull\n", encoding="utf-8")
    arguments = [str(output), "--input", str(tmp_path / "sentences.txt"), "--out", str(tmp_path / "out.csv")]
    assert main(["predict", *arguments]) == 0
    assert [(row["segment_id"], row["problem"]) for row in read(tmp_path / "out.csv")] == [
        ("1", ""), ("2", "empty: text"), ("3", "")
    ]  # fmt: skip
    assert main(["predict", *arguments]) == 2  # it exists


def test_the_exact_way_keeps_berts_dropout(settings, cached, tmp_path):
    exact = run(settings, tmp_path / "run", "--no-bert-cache", bert_trainable="none", learning_rate=1e-2)
    for before, after in zip(weights_of(cached).values(), weights_of(exact).values(), strict=True):
        np.testing.assert_array_equal(before, after)
    losses = [[float(row["task"]) for row in read(run / "history.csv")] for run in (cached, exact)]
    assert losses[0] != losses[1]  # dropout


@pytest.mark.slow
def test_a_run_with_bert_that_was_killed_goes_on(settings, tuned, tmp_path, monkeypatch):
    from keras_misa.experiments.checkpoint import Checkpoint

    class KilledError(Exception):
        pass

    def on_epoch_end(self, epoch, logs=None, original=Checkpoint.on_epoch_end):
        original(self, epoch, logs)
        raise KilledError

    changes = {"bert_trainable": -1, "bert_learning_rate": 1e-3, "bert_warmup_steps": 2}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        with pytest.raises(KilledError):
            run(settings, tmp_path / "run", **changes)
    resumed = run(settings, tmp_path / "run", **changes)
    for name in ("history.csv", "predictions.csv", "metrics.json"):
        assert (resumed / name).read_text() == (tuned / name).read_text()
    for before, after in zip(weights_of(tuned).values(), weights_of(resumed).values(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_predict_says_what_is_missing(tuned, folder, tmp_path, capsys):
    def fails(source):
        assert main(["predict", str(tuned), "--input", str(source), "--out", str(tmp_path / "out.csv")]) == 2
        assert not (tmp_path / "out.csv").exists()
        return capsys.readouterr().err

    (tmp_path / "sentences.txt").write_text("good films\n", encoding="utf-8")
    assert "needs visual of 3 features, words: give a table" in fails(tmp_path / "sentences.txt")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(folder / "utterances.csv", bare)
    assert "needs visual of 3 features, words: expected" in (message := fails(bare))
    assert "Received: nothing of visual" in message
    (bare / "visual").mkdir()
    for path in (folder / "visual").glob("*.npy"):
        np.save(bare / "visual" / path.name, np.zeros((2, 4), "f4"))
    assert "expected 3 features. Received: 4" in fails(bare)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "visual/test1.npy").unlink()
    assert main(["predict", str(tuned), "--input", str(other), "--out", str(tmp_path / "out.csv")]) == 0
    assert "21 utterances, 1 of them with a problem" in capsys.readouterr().out
    (row,) = (row for row in read(tmp_path / "out.csv") if row["problem"])
    assert row["segment_id"] == "test1"
    assert row["prediction"] == ""
    assert "no visual file" in row["problem"]


def test_classes_and_several_scores_have_columns_of_their_own(settings, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "classes")
    rows = read(folder / "utterances.csv")
    with open(other / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        rows = [(r["segment_id"], r["split"], r["text"], "yes" if float(r["label"]) > 0 else "no") for r in rows]
        csv.writer(file).writerows([("segment_id", "split", "text", "class"), *rows])
    output = run(settings, tmp_path / "run", manual_dir=other, bert_trainable="none", epochs=1)
    assert main(["predict", str(output), "--input", str(other), "--out", str(tmp_path / "out.csv")]) == 0
    for row in read(tmp_path / "out.csv"):
        shares = {name: float(row[f"probability_{name}"]) for name in ("no", "yes")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(shares, key=shares.get)


def test_a_layer_that_bert_lacks_is_refused(settings, tmp_path):
    names = {"dataset": "utterance_folder", "manual_dir": str(settings["--manual-dir"]), "text": settings["--text"]}
    with pytest.raises(ValueError, match=r"one of the 2 encoder layers.*Received: trainable_from=-3"):
        train(output=tmp_path / "run", quiet=True, data_dir=str(settings["--data-dir"]), bert_trainable=-3, **names)
