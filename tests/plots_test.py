"""Figures: that they show the numbers, in their order, and that what is left out is told."""

import csv
import io
import json
import re
import shutil
import sys
import xml.etree.ElementTree

import keras
import matplotlib
import numpy as np
import pytest
import sklearn.metrics
from small_runs import write_results, write_run

from keras_misa import plots
from keras_misa.cli import main
from keras_misa.experiments import compare
from keras_misa.layers import MeanEncoder, UtteranceEncoder
from keras_misa.metrics import SentimentClassAccuracy
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor
from keras_misa.reports import write_report

MODALITIES = ("text", "visual", "acoustic")
TOKENS = [(subspace, modality) for subspace in ("shared", "private") for modality in MODALITIES]
PAPER = {"topology", "regularisers", "representations", "attention", "predictions", "confusion", "errors"}


def svg_texts(path):
    root = xml.etree.ElementTree.parse(path).getroot()
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def make_model(task=MISARegressor, encoders=None, subspaces=("shared", "private"), hidden_dim=8, **kwargs):
    encoders = encoders or {"text": MeanEncoder(5), "visual": UtteranceEncoder(3), "acoustic": UtteranceEncoder(4)}
    return task(MISABackbone(encoders, hidden_dim, subspaces=subspaces), **kwargs)


# === Files ===


def test_files_are_the_same_whenever_they_are_written(tmp_path):
    attention = np.random.default_rng(0).dirichlet(np.ones(6), 6)
    before = dict(matplotlib.rcParams)
    contents = []
    for name in ("one", "two"):
        figure = plots.plot_attention(attention, TOKENS, title="a & b, 5 $ < 6 $")
        paths = plots.save_figure(figure, tmp_path / name / "attention", "What it shows.")
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert dict(matplotlib.rcParams) == before
    png, svg = contents[0]
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == int(3.33 * 300)  # a column at 300 dpi
    assert b"What it shows." in png
    assert b"What it shows." in svg
    assert "a & b, 5 $ < 6 $" in svg_texts(tmp_path / "one" / "attention.svg")


def test_settings_of_the_user_change_nothing(tmp_path):
    def draw():
        path = plots.save_figure(plots.plot_confusion([[1, 2], [3, 4]], ["a", "b"]), tmp_path / "x")[1]
        return path.read_bytes()

    expected = draw()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.grid": True}):
        assert draw() == expected


# === What they show ===


def test_confusion_is_scikit_learns(tmp_path):
    rng = np.random.default_rng(1)
    true = rng.normal(size=200, scale=2).round(1)
    predicted = true + rng.normal(size=200)
    classes = [np.clip(scores.astype("float32"), -3, 3).round().astype(int) for scores in (true, predicted)]
    expected = sklearn.metrics.confusion_matrix(*classes, labels=range(-3, 4))
    (true_classes, names), (predicted_classes, _) = map(plots.sentiment_classes, (true, predicted))
    counts = plots.count_confusion(true_classes, predicted_classes, 7)
    np.testing.assert_array_equal(counts, expected)
    assert names == ["−3", "−2", "−1", "0", "1", "2", "3"]
    metric = SentimentClassAccuracy(7)
    metric.update_state(true, predicted)
    assert counts.trace() / counts.sum() == pytest.approx(float(metric.result()))
    figure = plots.plot_confusion(counts, names)
    assert texts(figure) == [str(count) for count in expected.ravel()]  # row by row, the true class in rows
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [f"{name}  ({row.sum()})" for name, row in zip(names, expected, strict=True)]
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the first row at the top


def test_attention_is_the_mean_in_the_papers_order(tmp_path):
    scores = np.random.default_rng(2).dirichlet(np.ones(6), (5, 2, 6))
    figure = plots.plot_attention(scores, TOKENS)
    image = figure.axes[0].images[0].get_array()
    expected = np.zeros((6, 6))
    for row in scores:
        for head in row:
            expected += head / 10
    np.testing.assert_allclose(image, expected)
    cells = [f"{value:.3f}".removeprefix("0") for value in expected.ravel()]
    assert texts(figure)[:36] == cells
    for labels in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
        assert [label.get_text() for label in labels] == 2 * list(MODALITIES)
    shown = svg_texts(plots.save_figure(figure, tmp_path / "attention")[1])
    assert [text for text in shown if text in MODALITIES] == 4 * list(MODALITIES)
    subspaces = [text for text in shown if text in ("shared", "private")]
    assert subspaces == ["shared", "shared", "private", "private"]  # at the top and on the right


@pytest.mark.parametrize("size", [1, 2, 10, 40])
def test_attention_of_any_number_of_tokens(size, tmp_path):
    tokens = [("shared", f"m{n}") for n in range(size)]
    figure = plots.plot_attention(np.full((size, size), 1 / size), tokens)
    plots.save_figure(figure, tmp_path / "attention")
    with pytest.raises(ValueError, match=rf"Expected attention of {size} tokens"):
        plots.plot_attention(np.ones((size + 1, size + 1)), tokens)


def test_regularisers_are_means_while_all_seeds_train():
    rng = np.random.default_rng(3)
    histories = []
    for epochs in (3, 5, 4):
        histories.append(
            {f"{p}{loss}": rng.random(epochs) for p in ("", "val_") for loss in ("similarity", "difference")}
        )
    figure = plots.plot_regularisers({"MISA": histories})
    assert [axes.get_title() for axes in figure.axes] == ["$L_{sim}$", "$L_{diff}$"]
    for axes, loss in zip(figure.axes, ("similarity", "difference"), strict=True):
        for number, prefix in enumerate(("", "val_")):
            curves = np.stack([history[prefix + loss][:3] for history in histories])
            (line,) = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_linewidth() == 1][
                number : number + 1
            ]
            np.testing.assert_allclose(line.get_ydata(), curves.mean(axis=0))
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            band = axes.collections[number].get_paths()[0].vertices
            for column, epoch in enumerate((1, 2, 3)):
                low, high = np.sort(band[band[:, 0] == epoch, 1])[[0, -1]]
                mean, spread = curves[:, column].mean(), np.std(curves[:, column], ddof=1)
                np.testing.assert_allclose([low, high], [mean - spread, mean + spread])
        alone = [line for line in axes.lines if 0 < line.get_linewidth() < 0.5]
        assert sorted(len(line.get_xdata()) for line in alone) == [2, 2, 3, 3]  # epochs 3 and 4, 3 to 5
    with pytest.raises(ValueError, match="Expected histories with some of"):
        plots.plot_regularisers({"base": [{"task": [1.0], "val_task": [1.0]}]})


def explained_clusters(rows, subspaces=("shared", "private")):
    """Shared vectors in one heap, private ones in a heap for each modality."""
    rng = np.random.default_rng(4)
    places = {"shared": [0, 0, 0], "private": [40, 80, 120], "projected": [0, 40, 80]}
    return {
        s: {m: rng.normal(size=(rows, 6)) + place for m, place in zip(MODALITIES, places[s], strict=True)}
        for s in subspaces
    }


def test_representations_keep_heaps_apart():
    explained = explained_clusters(12)
    points = plots.embed_representations(explained, max_utterances=10)
    again = plots.embed_representations(explained, max_utterances=10)
    assert list(points) == TOKENS
    for kind, plane in points.items():
        assert plane.shape == (10, 2)
        np.testing.assert_array_equal(plane, again[kind])
    centres = {kind: plane.mean(axis=0) for kind, plane in points.items()}
    within = max(
        np.linalg.norm(plane - centres[kind], axis=1).max() for kind, plane in points.items() if "private" in kind
    )
    for modality in MODALITIES:
        others = [
            np.linalg.norm(centres["private", modality] - centres[k]) for k in TOKENS if k != ("private", modality)
        ]
        assert min(others) > within
    figure = plots.plot_representations({"with": points, "without": points})
    assert [axes.get_title() for axes in figure.axes] == ["with", "without"]
    lines = figure.axes[0].lines
    assert [line.get_marker() for line in lines] == 3 * ["o"] + 3 * ["^"]
    assert len({line.get_color() for line in lines}) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*MODALITIES, "shared", "private"]


def test_representations_of_few_rows_and_of_base():
    points = plots.embed_representations(explained_clusters(2, ["projected"]))
    assert list(points) == [("projected", modality) for modality in MODALITIES]
    plots.plot_representations({"base": points})
    with pytest.raises(ValueError, match=r"at least 4 vectors\. Received: 3"):
        plots.embed_representations(explained_clusters(1, ["projected"]))
    with pytest.raises(ValueError, match=r"Received: \['prediction'\]"):
        plots.embed_representations({"prediction": np.zeros((3, 1))})


def test_scikit_learn_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-misa\[plots\]'"):
        plots.embed_representations(explained_clusters(4))


def test_predictions_and_their_errors():
    rng = np.random.default_rng(5)
    true, predicted = rng.normal(size=(2, 30))
    figure = plots.plot_predictions({"score": (true, predicted)})
    diagonal, points = figure.axes[0].lines
    np.testing.assert_array_equal(points.get_xdata(), true)
    np.testing.assert_array_equal(points.get_ydata(), predicted)
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    mae, corr = sklearn.metrics.mean_absolute_error(true, predicted), np.corrcoef(true, predicted)[0, 1]
    assert texts(figure) == [f"n = 30\nMAE {mae:.3f}\nCorr {corr:.3f}"]
    several = plots.plot_predictions({name: (true, predicted) for name in ("happy", "sad", "angry")})
    assert [axes.get_title().split(":")[0] for axes in several.axes[:3]] == ["happy", "sad", "angry"]


def test_errors_by_length_are_means_of_all_utterances():
    rng = np.random.default_rng(6)
    errors, lengths = rng.random(100), rng.integers(1, 12, size=100)
    figure = plots.plot_errors_by_length(errors, lengths, "words")
    axes = figure.axes[0]
    means = axes.containers[0].lines[0].get_ydata()
    seen = 0
    for label, mean in zip(axes.get_xticklabels(), means, strict=True):
        interval, count = label.get_text().split("\n")
        low, high = (int(interval.split("–")[index]) for index in (0, -1))
        members = [e for e, n in zip(errors, lengths, strict=True) if low <= n <= high]
        assert count == f"({len(members)})"
        assert mean == pytest.approx(sum(members) / len(members))
        seen += len(members)
    assert seen == 100
    plots.plot_errors_by_length([1.0], [3])
    with pytest.raises(ValueError, match="Received: 2 and 1"):
        plots.plot_errors_by_length([1.0, 2.0], [3])


# === The topology ===


def test_topology_is_the_models():
    model = make_model(similarity_weight=0.7, difference_weight=0.25, num_moments=4, dropout=0.2)
    shown = texts(plots.plot_topology(model, "MISA"))
    assert shown[0] == "MISA"
    assert "text\n5 numbers a step" in shown
    assert "mean over steps\n→ 5" in shown
    assert "2 × biLSTM 4\n→ 16" in shown
    assert shown.count("Dense 8\nReLU, layer norm") == 3
    assert "shared encoder\nDense 8, sigmoid" in shown
    tokens = [text.split("\n") for text in shown if text.startswith("$h^")]
    assert tokens == [[f"$h^{'c' if s == 'shared' else 'p'}$", m] for s, m in TOKENS]
    assert "$L_{sim}$  CMD, K = 4\nα = 0.7" in shown
    assert "$L_{diff}$  mean\nβ = 0.25" in shown
    assert "$L_{recon}$  decoders\nγ = 1" in shown
    assert "self-attention over 6 vectors, 2 heads\nfeed-forward 2048, ReLU, dropout 0.1" in shown
    assert "concatenation 48\nDense 24, ReLU, dropout 0.2" in shown
    assert shown[-1] == f"Dense 1\nMISARegressor, {model.count_params():,} weights"


def test_topology_of_the_variants():
    base = texts(plots.plot_topology(make_model(subspaces=())))
    assert not any("encoder" in text or "$" in text for text in base)
    inv = texts(plots.plot_topology(make_model(subspaces=("shared",))))
    assert not any("private" in text or "diff" in text for text in inv)
    one = plots.plot_topology(make_model(MISAClassifier, {"heart": MeanEncoder(2)}, num_outputs=4))
    assert not any("sim" in text for text in texts(one))
    arrows = {}
    for fused in (("private",), ("shared", "private")):
        figure = plots.plot_topology(make_model(fused=fused))
        arrows[fused] = sum(text.get_text() == "" and text.arrow_patch is not None for text in figure.axes[0].texts[1:])
    assert arrows["shared", "private"] - arrows[("private",)] == 3  # the shared vectors lead nowhere
    many = {f"sensor_{n}": MeanEncoder(2) for n in range(6)}
    assert plots.plot_topology(make_model(encoders=many)).get_figwidth() > 3.33


def test_topology_of_other_models():
    inputs = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(3, name="left")(inputs), keras.layers.Dense(2, name="right")(inputs)
    model = keras.Model(inputs, keras.layers.Concatenate(name="both")(hidden))
    shown = texts(plots.plot_topology(model))
    assert {"features\nInputLayer → 4", "left\nDense → 3", "right\nDense → 2", "both\nConcatenate → 5"} <= set(shown)

    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match=r"another functional Keras model\. Received: <Sub"):
        plots.plot_topology(Subclassed())


# === Of runs ===


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("plots")
    arguments = ["--dataset", "synthetic_subspaces/small", "--data-dir", str(root / "data"), "--epochs", "1"]
    arguments += ["--hidden-dim", "4", "--modalities", "visual,acoustic", "--averaged", "visual,acoustic"]
    weights = ["--similarity-weight", "0", "--difference-weight", "0", "--reconstruction-weight", "0"]
    assert main(["train", *arguments, "--output", str(root / "run"), "--quiet"]) == 0
    assert main(["train", *arguments, *weights, "--output", str(root / "plain"), "--quiet"]) == 0
    return root


def test_figures_of_a_trained_run(trained, capsys):
    assert main(["plot", str(trained / "run"), "--without", str(trained / "plain")]) == 0
    files = {path.name for path in (trained / "run" / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in PAPER for kind in ("png", "svg")}
    assert capsys.readouterr().out.count("figures/") == 2 * len(PAPER)
    shown = svg_texts(trained / "run" / "figures" / "representations.svg")
    assert {"with regularisation", "without regularisation"} <= set(shown)
    assert any("SYNTHETIC" in text for text in shown)
    for path in (trained / "run" / "figures").glob("*.svg"):
        assert "DejaVu" in path.read_text()  # text is text


def test_other_splits_are_predicted_anew(trained, tmp_path):
    paths, skipped = plots.draw_figures([trained / "run"], tmp_path, ["predictions", "attention"], "validation")
    assert not skipped
    assert len(paths) == 4
    assert any("validation split" in text for text in svg_texts(tmp_path / "predictions.svg"))


def test_without_its_data_a_run_shows_what_it_remembers(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run, ignore=shutil.ignore_patterns("figures"))
    config = run / "config.json"
    config.write_text(config.read_text().replace("synthetic_subspaces/small", "cmu_mosi/reference_splits"))
    data = tmp_path / "nothing"
    assert main(["plot", str(run), "--out", str(tmp_path / "out"), "--data-dir", str(data)]) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == PAPER - {"representations", "errors"}
    printed = capsys.readouterr().out
    assert "No representations: " in printed
    assert "No errors: " in printed
    assert main(["plot", str(run), "--figures", "errors", "--data-dir", str(data)]) == 2
    assert "Nothing could be drawn" in capsys.readouterr().err


def test_classifier_and_several_models(tmp_path, capsys):
    names = ["not $funny$", "<funny>"]
    rng = np.random.default_rng(7)
    labels, predictions = rng.choice(names, size=(2, 20))
    for name in ("one", "two"):
        write_run(tmp_path / name / "humour", {"visual": 3, "acoustic": 2}, names, dataset="ur_funny")
        write_results(tmp_path / name / "humour", labels, predictions, names)
    folders = [str(tmp_path / name / "humour") for name in ("one", "two")]
    assert main(["plot", *folders, "--out", str(tmp_path / "out"), "--data-dir", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr().out
    assert "No humour_one/predictions: the model predicts classes: see confusion" in printed
    assert "No representations: " in printed
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"regularisers.png", "regularisers.svg", "humour_one", "humour_two"}
    for folder in ("humour_one", "humour_two"):
        assert {path.stem for path in (out / folder).iterdir()} == {"topology", "attention", "confusion"}
    shown = svg_texts(out / "humour_one" / "confusion.svg")
    expected = sklearn.metrics.confusion_matrix(labels, predictions, labels=names)
    assert [text for text in shown if text in names] == names
    for name, row in zip(names, expected, strict=True):
        assert f"{name}  ({row.sum()})" in shown


def test_attention_is_the_mean_over_seeds(tmp_path):
    attentions = []
    for seed in (1, 2):
        run = tmp_path / "misa" / f"seed-{seed}"
        write_run(run, {"visual": 3, "acoustic": 2}, seed=seed)
        attentions.append(write_results(run, [1.0, -2.0], [0.5, 0.1], seed=seed))
    plots.draw_figures([tmp_path / "misa"], tmp_path / "out", ["attention"])
    shown = svg_texts(tmp_path / "out" / "attention.svg")
    cells = [f"{value:.3f}".removeprefix("0") for value in np.mean(attentions, axis=0).ravel()]
    assert [text for text in shown if text in cells] == cells
    assert any("mean of 2 seeds" in text for text in shown)


def test_folds_are_shown_together(tmp_path):
    scores = [1.0, -2.0], [0.2, 2.9], [-0.7, -0.4, 0.0]
    for fold, labels in enumerate(scores, start=1):
        run = tmp_path / "misa" / f"seed-0-fold-{fold}"
        write_run(run, {"visual": 3, "acoustic": 2}, dataset="cmu_mosi", split_by=f"video:{fold}/3")
        write_results(run, labels, np.array(labels) + 0.25 * fold)
    plots.draw_figures([tmp_path / "misa"], tmp_path / "out", ["predictions", "attention", "regularisers"])
    shown = svg_texts(tmp_path / "out" / "predictions.svg")
    errors = [0.25] * 2 + [0.5] * 2 + [0.75] * 3
    assert any(f"MAE {np.mean(errors):.3f}" in text for text in shown)
    assert "re-dealt by 3-fold cross-validation by video, seed 0" in " ".join(shown)
    assert any("mean of 3 folds" in text for text in svg_texts(tmp_path / "out" / "attention.svg"))


def test_user_errors(trained, tmp_path, capsys):
    for arguments, message in (
        ([str(trained / "run"), "--figures", "topologie"], "Received: ['topologie']"),
        ([str(tmp_path)], "There is no finished run"),
        ([str(trained / "run"), "--without", str(tmp_path)], "There is no finished run"),
    ):
        assert main(["plot", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs whose files are whole, of scores and of classes."""
    root = tmp_path_factory.mktemp("whole")
    common = {"dataset": "cmu_mosi", "metrics": "sentiment", "similarity_weight": 1.0, "reconstruction_weight": 1.0}
    for name, classes in (("scores", None), ("classes", ["a", "b"])):
        write_run(root / name, {"visual": 3, "acoustic": 2}, classes, **common)
        labels, predictions = (["a", "b"], ["b", "b"]) if classes else ([1.0, -2.0], [0.5, 0.125])
        write_results(root / name, labels, predictions, classes)
    return root


def replace_cell(text, row, column, cell):
    rows = list(csv.DictReader(io.StringIO(text)))
    rows[row - 1][column] = cell
    return table_text(rows)


def without_column(text, column):
    rows = list(csv.DictReader(io.StringIO(text)))
    return table_text([{name: cell for name, cell in row.items() if name != column} for row in rows])


def table_text(rows):
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


FINITE = "expected a finite number as "
DAMAGED_PREDICTIONS = [
    (lambda text: replace_cell(text, 2, "prediction", "abc"), FINITE + "prediction.*Received: 'abc' in row 2, id1"),
    (lambda text: replace_cell(text, 1, "label", "nan"), FINITE + "label.*Received: 'nan' in row 1, id0"),
    (lambda text: replace_cell(text, 1, "prediction", "-inf"), FINITE + "prediction.*Received: '-inf' in row 1, id0"),
    (lambda text: replace_cell(text, 1, "prediction", "1e60"), FINITE + "prediction.*Received: '1e60' in row 1, id0"),
    (lambda text: replace_cell(text, 1, "prediction", ""), FINITE + "prediction.*Received: '' in row 1, id0"),
    (lambda text: without_column(text, "prediction"), r"expected columns .*'prediction'.*Received: columns \['segment"),
    (lambda text: "", "expected columns .*Received: no row"),
    (lambda text: text + '"' + 200000 * "x", "expected a CSV file in UTF-8. Received: field larger"),
    (lambda text: text + text.splitlines()[1] + "\n", "Received: 3 rows of 2 utterances"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED_PREDICTIONS)
def test_damaged_predictions_are_not_drawn_and_not_compared(whole, tmp_path, damage, message):
    run = shutil.copytree(whole / "scores", tmp_path / "run")
    path = run / "predictions.csv"
    path.write_text(damage(path.read_text()))
    figures = ["predictions", "confusion", "errors", "attention"]
    paths, skipped = plots.draw_figures([run], tmp_path / "out", figures)
    assert {file.stem for file in paths} == {"attention"}
    assert set(skipped) == {"predictions", "confusion", "errors"}
    for problem in skipped.values():
        assert re.search(rf"run.predictions\.csv.*{message}", problem)
    with pytest.raises(ValueError, match=re.escape(skipped["predictions"])):
        compare(run)
    problems = write_report([run], tmp_path / "page.html", figures=figures)
    assert problems == {**skipped, "comparison": skipped["predictions"]}


def test_classes_that_the_model_does_not_have_are_not_drawn(whole, tmp_path):
    run = shutil.copytree(whole / "classes", tmp_path / "run")
    path = run / "predictions.csv"
    path.write_text(replace_cell(path.read_text(), 2, "prediction", "c"))
    paths, skipped = plots.draw_figures([run], tmp_path / "out", ["confusion"])
    assert not paths
    assert re.search(r"predictions\.csv: expected one of \['a', 'b'\] as .*: 'c' in row 2, id1", skipped["confusion"])


DAMAGED_HISTORIES = [
    (lambda text: replace_cell(text, 3, "similarity", "abc"), FINITE + "similarity. Received: 'abc' in row 3$"),
    (lambda text: replace_cell(text, 1, "val_difference", "nan"), FINITE + "val_difference. Received: 'nan' in row 1$"),
    (lambda text: replace_cell(text, 1, "task", "x"), "expected a number as task. Received: 'x' in row 1$"),
    (lambda text: without_column(text, "val_similarity"), r"expected columns .*'val_similarity'.*Received: columns \["),
    (
        lambda text: without_column(without_column(text, "similarity"), "val_similarity"),
        r"expected columns .*'similarity'.*Received: columns \[",
    ),
    (lambda text: "", "expected a row for each epoch. Received: none"),
    (lambda text: text.replace("\n2,", "\n3,"), "expected epoch 2 in row 2. Received: '3'"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED_HISTORIES)
def test_damaged_histories_are_not_drawn(whole, tmp_path, damage, message):
    run = shutil.copytree(whole / "scores", tmp_path / "run")
    path = run / "history.csv"
    path.write_text(damage(path.read_text()))
    paths, skipped = plots.draw_figures([run], tmp_path / "out", ["regularisers"])
    assert not paths
    assert re.search(message, skipped["regularisers"])
    assert str(path) in skipped["regularisers"]


def test_metrics_without_a_value_are_no_damage(whole, tmp_path):
    run = shutil.copytree(whole / "scores", tmp_path / "run")
    path = run / "history.csv"
    path.write_text(path.read_text().replace("task", "corr"))
    path.write_text(replace_cell(path.read_text(), 1, "val_corr", "nan"))
    _, skipped = plots.draw_figures([run], tmp_path / "out", ["regularisers"])
    assert not skipped


def change_attention(change):
    def damage(explanation):
        change(explanation["attention"])
        return explanation

    return damage


FIRST, LAST = "shared visual", "private acoustic"
DAMAGED_EXPLANATIONS = [
    (lambda explanation: [], r"expected an object with attention.*Received: \[\]"),
    (lambda explanation: {}, r"expected an object with attention.*Received: \{\}"),
    (lambda explanation: {"attention": [[1.0]]}, "expected an object with attention.*Received: "),
    (change_attention(lambda a: a.pop(LAST)), "expected attention of .*'private acoustic'.*Received: "),
    (change_attention(lambda a: a.update({"visual": a.pop(LAST)})), r"expected attention of .*Received: .*'visual'\]"),
    (change_attention(lambda a: a[FIRST].pop(LAST)), "attention of 'shared visual' a number for each of .*Received: "),
    (
        change_attention(lambda a: a.update({FIRST: 0.5})),
        "attention of 'shared visual' a number for each.*Received: 0.5",
    ),
    (
        change_attention(lambda a: a.update({FIRST: dict(reversed(a[FIRST].items()))})),
        r"'shared visual' a number for each of .*Received: \['private acoustic'",
    ),
    (
        change_attention(lambda a: a[FIRST].update({LAST: None})),
        "'shared visual' to 'private acoustic' .*Received: None",
    ),
    (change_attention(lambda a: a[FIRST].update({LAST: "0.1"})), "to 'private acoustic' .*Received: '0.1'"),
    (change_attention(lambda a: a[FIRST].update({LAST: float("nan")})), "to 'private acoustic' .*Received: nan"),
    (change_attention(lambda a: a[FIRST].update({LAST: [0.1]})), r"to 'private acoustic' .*Received: \[0.1\]"),
    (change_attention(lambda a: a[FIRST].update(dict.fromkeys(a, 0.5))), "'shared visual' .*up to 1. Received: 2$"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED_EXPLANATIONS)
def test_damaged_attention_is_not_drawn(whole, tmp_path, damage, message):
    for seed in (1, 2):
        run = shutil.copytree(whole / "scores", tmp_path / "misa" / f"seed-{seed}")
        config = json.loads((run / "config.json").read_text())
        config["settings"]["seed"] = seed
        (run / "config.json").write_text(json.dumps(config))
    path = run / "explanation.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    paths, skipped = plots.draw_figures([tmp_path / "misa"], tmp_path / "out", ["attention"])
    assert not paths
    assert re.search("explanation.json is damaged: .*" + message, skipped["attention"])
    assert str(path) in skipped["attention"]


def test_attention_of_seeds_in_another_order_is_not_averaged(tmp_path):
    for seed in (1, 2):
        run = tmp_path / "misa" / f"seed-{seed}"
        write_run(run, {"visual": 3, "acoustic": 2}, seed=seed)
        write_results(run, [1.0, -2.0], [0.5, 0.1], seed=seed)
    path = run / "explanation.json"
    attention = json.loads(path.read_text())["attention"]
    turned = {query: dict(reversed(row.items())) for query, row in reversed(attention.items())}
    path.write_text(json.dumps({"attention": turned}))
    _, skipped = plots.draw_figures([tmp_path / "misa"], tmp_path / "out", ["attention"])
    assert re.search(r"seed-2: expected the attention of .*seed-1's vectors.*Received: \[\('pri", skipped["attention"])


NO_WEIGHT = {"similarity_weight": 0, "difference_weight": 0, "reconstruction_weight": 0}
MISA_WITHOUT = r"`without` must be a MISA that was trained without regularisers"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, MISA_WITHOUT + ".*Received: .*other with similarity_weight=1, difference_weight=0.3, reconstruction_"),
        ({**NO_WEIGHT, "difference_weight": 0.25}, r"Received: .*other with difference_weight=0\.25$"),
        ({"subspaces": ["shared"], **NO_WEIGHT, "similarity_weight": 2}, "other with similarity_weight=2$"),
        (
            {**NO_WEIGHT, "dataset": "cmu_mosei"},
            r"data of the models .*cmu_mosi.* of .*run\. Received: cmu_mosei, .*other",
        ),
        ({**NO_WEIGHT, "label": "happy"}, r"cmu_mosi, label, scores of .*run\. Received: cmu_mosi, happy, .*other"),
        ({**NO_WEIGHT, "split_by": "video:0.5,0.2,0.3"}, r"Received: cmu_mosi, label, video:0\.5,0\.2,0\.3, .*other"),
        ({**NO_WEIGHT, "metrics": "sentiment"}, "Received: cmu_mosi, label, sentiment of .*other"),
    ],
)
def test_without_is_a_model_of_the_same_data_without_regularisers(tmp_path, settings, message):
    dims, common = {"visual": 3, "acoustic": 2}, {"dataset": "cmu_mosi", "metrics": "scores"}
    common |= {"similarity_weight": 1.0, "difference_weight": 0.3, "reconstruction_weight": 1.0}
    write_run(tmp_path / "run", dims, **common)
    write_run(tmp_path / "other", dims, **{**common, **settings})
    for name in ("run", "other"):
        write_results(tmp_path / name, [1.0, -2.0], [0.5, 0.1])
    with pytest.raises(ValueError, match=message):
        plots.draw_figures([tmp_path / "run"], tmp_path / "out", without=tmp_path / "other")
    with pytest.raises(ValueError, match=message):
        write_report([tmp_path / "run"], tmp_path / "page.html", without=tmp_path / "other")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "page.html").exists()


def test_without_is_no_baseline(trained, tmp_path):
    shutil.copytree(trained / "plain", tmp_path / "lmf")
    config = tmp_path / "lmf" / "config.json"
    written = json.loads(config.read_text())
    written["settings"]["model"] = "lmf"
    config.write_text(json.dumps(written))
    with pytest.raises(ValueError, match=MISA_WITHOUT + r"\. Received: .*lmf, whose model is LMF"):
        plots.draw_figures([trained / "run"], tmp_path / "out", without=tmp_path / "lmf")


def test_base_has_no_regularisers_whatever_their_weights(trained, tmp_path):
    """Its settings have weights, and nothing that they could weigh; but its vectors are others, which is told."""
    settings = json.loads((trained / "run" / "config.json").read_text())["settings"]
    assert settings["similarity_weight"] > 0
    write_run(
        tmp_path / "base", {"visual": 47, "acoustic": 74}, **{**settings, "subspaces": [], "learning_rate_decay": None}
    )
    _, skipped = plots.draw_figures([trained / "run"], tmp_path / "out", ["representations"], without=tmp_path / "base")
    assert not skipped
    shown = svg_texts(tmp_path / "out" / "representations.svg")
    assert {"with regularisation", "without regularisation", "projected"} <= set(shown)
    caption = (tmp_path / "out" / "representations.svg").read_text()
    assert "with regularisation: shared and private; without regularisation: projected." in caption
    plots.draw_figures([tmp_path / "base"], tmp_path / "out", ["representations"], without=trained / "plain")
    assert "with regularisation" not in svg_texts(tmp_path / "out" / "representations.svg")


def test_predictions_of_several_scores(tmp_path):
    run = tmp_path / "emotions"
    write_run(run, {"visual": 3, "acoustic": 2}, num_outputs=2, score_names=["happy", "sad"], metrics="scores")
    write_results(run, [], [])
    header = ["segment_id", "video_id", "label_happy", "label_sad", "prediction_happy", "prediction_sad"]
    with open(run / "predictions.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, ["a", "v", 1, 2, 1.5, 2.5], ["b", "v", 0, 3, 0.5, 1]])
    _, skipped = plots.draw_figures([run], tmp_path / "out", ["predictions", "confusion"])
    assert skipped == {"confusion": "the scores are no sentiment in [-3, 3], and have no seven classes"}
    shown = svg_texts(tmp_path / "out" / "predictions.svg")
    assert "happy: MAE 0.500, Corr 1.000" in shown
    assert "sad: MAE 1.250, Corr -1.000" in shown
