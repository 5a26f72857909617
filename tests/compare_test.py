"""Tables and tests of runs that nobody has trained: only what `compare` reads is written."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from keras_misa._files import write_csv
from keras_misa.cli import main
from keras_misa.experiments import compare, find_run_groups, holm, make_config, paired_bootstrap
from keras_misa.experiments.published_results import TABLE_1, TABLE_3
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.task_metrics import compute_metrics

MOSI = {"dataset": "cmu_mosi/reference_splits", "metrics": "sentiment"}
FUNNY = {"dataset": "ur_funny/v1", "num_outputs": 2, "class_names": ["not humorous", "humorous"]}
ROWS = 60
MEASURES = ("Acc-2 neg. / non-neg.", "Acc-2 neg. / pos.", "MAE", "Corr")


def write_results(folder, labels, predictions, seed=0, segments=None, **settings):
    """A finished run's files, as far as they are read.

    Args:
        folder: of the run.
        labels: `(rows,)` scores or numbers of classes, or `(rows, scores)`.
        predictions: `(rows, outputs)`.
        seed: of the run.
        segments: names of the rows.
        **settings: of `make_config`.
    """
    config = {**make_config(settings["dataset"]), **settings, "seed": seed}
    folder.mkdir(parents=True)
    rows = []
    for number, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        row = {
            "segment_id": segments[number] if segments else f"v{number // 4}[{number}]",
            "video_id": f"v{number // 4}",
        }
        if config["score_names"]:
            row |= {f"label_{name}": y for name, y in zip(config["score_names"], label, strict=True)}
            row |= {f"prediction_{name}": p for name, p in zip(config["score_names"], prediction, strict=True)}
        elif config["num_outputs"] > 1:
            names = config["class_names"]
            row |= {"label": names[int(label)], "prediction": names[int(np.argmax(prediction))]}
        else:
            row |= {"label": label, "prediction": prediction[0]}
        rows.append(row)
    write_csv(folder / "predictions.csv", rows)
    metrics = compute_metrics(config, labels, predictions)
    metrics = {name: None if np.isnan(value) else value for name, value in metrics.items()}
    for name, value in {"config": {"settings": config, "data": {}}, "metrics": metrics, "tokenizer": {}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    (folder / "model.keras").touch()
    return folder


def sentiment(noise, seed=0, rows=ROWS):
    """Scores with zeros and halves among them, and predictions with that much noise."""
    y = np.round(2 * np.random.default_rng(0).normal(0, 1.2, rows)).astype("float32") / 2
    p = y + np.random.default_rng(seed + 1).normal(0, noise, rows)
    return y, p.astype("float32")[:, None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, noise in {"good": 0.3, "fair": 1.2, "bad": 4.0}.items():
        write_results(root / name, *sentiment(noise), **MOSI)
    for seed in (0, 1, 2):
        write_results(root / "several" / f"seed-{seed}", *sentiment(0.6, seed), seed=seed, **MOSI)
    return root


def table_of(table):
    """Rows of a table as dicts, by the first cell; a line ends it."""
    rows = table.rows[: table.rows.index(None)] if None in table.rows else table.rows
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in rows}


def pairs_of(comparison):
    return {(row["models"], row["measure"]): row for row in csv.DictReader(io.StringIO(comparison.tests.to_csv()))}


# === The table ===


def test_cells_are_scikit_learn_s(runs):
    [comparison] = compare(runs / "good", runs / "fair", samples=0)
    y, p = sentiment(1.2)
    p = p[:, 0]
    kept = y != 0
    clipped = [np.round(np.clip(scores, -3, 3)) for scores in (y, p)]
    cells = table_of(comparison.results)["fair"]
    assert list(cells) == ["model", "MAE ↓", "Corr ↑", "Acc-2 ↑", "F-Score ↑", "Acc-7 ↑"]
    assert cells["MAE ↓"] == f"{mean_absolute_error(y, p):.3f}"
    assert cells["Corr ↑"] == f"{np.corrcoef(y, p)[0, 1]:.3f}"
    nonneg, pos = accuracy_score(y >= 0, p >= 0), accuracy_score(y[kept] > 0, p[kept] > 0)
    assert cells["Acc-2 ↑"] == f"{100 * nonneg:.1f} / {100 * pos:.1f}"
    nonneg = f1_score(y >= 0, p >= 0, average="weighted")
    pos = f1_score(y[kept] > 0, p[kept] > 0, average="weighted")
    assert cells["F-Score ↑"] == f"{100 * nonneg:.1f} / {100 * pos:.1f}"
    assert cells["Acc-7 ↑"] == f"{100 * accuracy_score(*clipped):.1f}"


def test_published_rows_stand_below_a_line(runs):
    [comparison] = compare(runs / "good", samples=0)
    assert comparison.tests is None
    table = comparison.results
    line = table.rows.index(None)
    assert [row[0] for row in table.rows[:line]] == ["good"]
    assert [tuple(row) for row in table.rows[line + 1 :]] == [*TABLE_1.rows, TABLE_1.delta]
    [note] = [note for note in table.notes if "Table 1" in note]
    assert (
        f"not the same test: that is of the standard test split, 686 utterances, the rows above the line of {ROWS}"
        in note
    )
    assert f"cmu_mosi/reference_splits, test split, {ROWS} utterances" in table.caption


def test_the_standard_split_needs_no_warning(tmp_path):
    write_results(tmp_path / "run", *sentiment(1.0, rows=686), **MOSI)
    [comparison] = compare(tmp_path / "run", samples=0)
    assert "not the same test" not in " ".join(comparison.results.notes)
    write_results(tmp_path / "dealt", *sentiment(1.0, rows=686), **MOSI, split_by="video:0.7,0.15,0.15")
    [comparison] = compare(tmp_path / "dealt", samples=0)
    assert "dealt out anew" in " ".join(comparison.results.notes)
    assert "re-dealt by video:0.7,0.15,0.15" in comparison.results.caption


def test_several_seeds_are_a_row_of_mean_and_deviation(runs):
    [comparison] = compare(runs / "several", runs / "good", samples=0)
    mae = [mean_absolute_error(y, p) for y, p in (sentiment(0.6, seed) for seed in range(3))]
    cells = table_of(comparison.results)["several, 3 seeds"]
    assert cells["MAE ↓"] == f"{np.mean(mae):.3f} ± {np.std(mae, ddof=1):.3f}"
    assert cells["Acc-2 ↑"].count("±") == 2
    assert "±" not in table_of(comparison.results)["good"]["MAE ↓"]
    assert "mean ± sample standard deviation over runs" in comparison.results.caption


def test_delta_is_best_against_best_metric_by_metric(runs):
    [comparison] = compare(runs / "several", runs / "good", against=[runs / "bad", runs / "fair"], samples=0)
    table = table_of(comparison.results)
    assert list(table) == ["bad", "fair", "several, 3 seeds", "good", "Δ"]
    gain = float(table["fair"]["MAE ↓"]) - float(table["good"]["MAE ↓"])
    assert table["Δ"]["MAE ↓"].startswith("↓ ")
    assert float(table["Δ"]["MAE ↓"][2:]) == pytest.approx(gain, abs=2e-3)
    assert table["Δ"]["Acc-2 ↑"].count("↑") == 2
    assert any("best of bad, fair" in note for note in comparison.results.notes)
    [worse] = compare(runs / "bad", against=[runs / "good"], samples=0)
    assert table_of(worse.results)["Δ"]["MAE ↓"].startswith("↑ ")
    assert table_of(worse.results)["Δ"]["Corr ↑"].startswith("↓ ")


def test_ur_funny_has_context_and_target(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    for name, noise in {"misa": 0.4, "base": 2.0}.items():
        p = np.eye(2)[y] + rng.normal(0, noise, (400, 2))
        write_results(tmp_path / name, y, p, **FUNNY)
    [comparison] = compare(tmp_path / "misa", against=[tmp_path / "base"])
    cells = table_of(comparison.results)
    assert list(cells["misa"]) == ["model", "context", "target", "Accuracy-2 ↑"]
    assert (cells["misa"]["context"], cells["misa"]["target"], cells["Δ"]["target"]) == ("", "✓", "")
    assert cells["misa"]["Accuracy-2 ↑"].endswith("†")
    assert not cells["base"]["Accuracy-2 ↑"].endswith("†")
    line = comparison.results.rows.index(None)
    assert [tuple(row) for row in comparison.results.rows[line + 1 :]] == [*TABLE_3.rows, TABLE_3.delta]
    [(pair, measure)] = pairs_of(comparison)
    assert (pair, measure) == ("misa − base", "Accuracy")


def test_other_labels_have_their_columns_and_no_published_rows(tmp_path):
    rng = np.random.default_rng(0)
    emotions = {"dataset": "cmu_mosei/csd", "label": "emotions", "metrics": "scores", "score_names": ["happy", "sad"]}
    y = rng.uniform(0, 3, (30, 2)).astype("float32")
    for name in ("one", "two"):
        write_results(tmp_path / name, y, (y + rng.normal(size=(30, 2))).astype("float32"), num_outputs=2, **emotions)
    [comparison] = compare(tmp_path / "one", tmp_path / "two", samples=50)
    assert comparison.results.columns[1:] == [
        "MAE, mean ↓",
        "Corr, mean ↑",
        "happy: MAE ↓ / Corr ↑",
        "sad: MAE ↓ / Corr ↑",
    ]
    assert None not in comparison.results.rows
    assert "label emotions" in comparison.results.caption
    assert {measure for _, measure in pairs_of(comparison)} == {"MAE", "Corr"}
    classes = {"dataset": "my_folder", "num_outputs": 3, "class_names": ["a", "b", "c"]}
    write_results(tmp_path / "c", rng.integers(0, 3, 9), rng.normal(size=(9, 3)), **classes)
    assert compare(tmp_path / "c")[0].results.columns == ["model", "Accuracy ↑"]
    for number, dataset in enumerate(("my_folder", "cmu_mosi/csd")):
        score = {"dataset": dataset, "metrics": "scores"}
        write_results(tmp_path / f"s{number}", rng.normal(size=9), rng.normal(size=(9, 1)), **score)
        [comparison] = compare(tmp_path / f"s{number}")
        assert comparison.results.columns == ["model", "MAE ↓", "Corr ↑"]
        assert None not in comparison.results.rows


def test_a_metric_that_a_run_does_not_have_is_a_dash(runs, tmp_path):
    folder = write_results(tmp_path / "old", *sentiment(0.5), **MOSI)
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("acc7", "acc2_pos", "f1_pos", "f1_nonneg"):
        del metrics[name]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    [comparison] = compare(folder, against=[runs / "good"], samples=0)
    table = table_of(comparison.results)
    assert (table["old"]["Acc-7 ↑"], table["old"]["F-Score ↑"]) == ("-", "-")
    assert table["old"]["Acc-2 ↑"].endswith(" / -")
    assert table["Δ"]["Acc-2 ↑"].endswith(" / -")


# === Dialects ===


def test_mmsa_has_its_names_percentages_and_deviation(runs):
    [comparison] = compare(runs / "several", against=[runs / "bad"], dialect="mmsa", samples=0)
    cells = table_of(comparison.results)["several, 3 seeds"]
    names = ["Has0_acc_2", "Has0_F1_score", "Non0_acc_2", "Non0_F1_score", "Mult_acc_5", "Mult_acc_7", "MAE", "Corr"]
    assert list(cells) == ["model", *(f"{name} {'↓' if name == 'MAE' else '↑'}" for name in names)]
    mae = [100 * mean_absolute_error(y, p) for y, p in (sentiment(0.6, seed) for seed in range(3))]
    mean, deviation = map(float, cells["MAE ↓"].split(" ± "))
    assert (mean, deviation) == pytest.approx((np.mean(mae), np.std(mae)), abs=0.011)
    assert cells["Has0_acc_2 ↑"].endswith("†")
    misa, delta = (dict(zip(comparison.results.columns, row, strict=True)) for row in comparison.results.rows[-2:])
    assert [misa[f"{name} ↑"] for name in ("Has0_acc_2", "Non0_F1_score", "Corr", "Mult_acc_5")] == [
        "81.8†",
        "83.6",
        "76.1",
        "-",
    ]
    assert (misa["MAE ↓"], delta["MAE ↓"], delta["Non0_acc_2 ↑"]) == ("78.3", "↓ 7.7", "↑ 0.4")
    assert "population" in comparison.results.caption


def test_units_of_the_tests_are_told_where_the_results_have_others(runs):
    said = "differences of MAE in the labels' units and of Corr as it is, not times 100"
    for dialect, samples, is_said in (("mmsa", 50, True), ("mmsa", 0, False), ("sdk", 50, False), ("paper", 50, False)):
        [comparison] = compare(runs / "good", against=[runs / "bad"], dialect=dialect, samples=samples)
        assert (said in comparison.tests.caption) == is_said
        if samples:
            y, good = sentiment(0.3)
            difference = mean_absolute_error(y, good) - mean_absolute_error(y, sentiment(4.0)[1])
            assert pairs_of(comparison)["good − bad", "MAE"]["first − second"] == f"{difference:+.3f}"


def test_sdk_has_another_acc7_and_the_paper_none(tmp_path):
    y, p = np.array([1 / 3, 2.0, -1.0], "float32"), np.array([[1.0], [2.0], [0.0]], "float32")
    write_results(tmp_path / "run", y, p, **MOSI)
    by_dialect = {dialect: compare(tmp_path / "run", dialect=dialect)[0].results for dialect in ("paper", "sdk")}
    assert {d: table_of(t)["run"]["Acc-7 ↑"] for d, t in by_dialect.items()} == {"paper": "33.3", "sdk": "66.7"}
    assert by_dialect["sdk"].rows[-2][1:] == ["0.783", "0.761", "81.8† / 83.4†", "81.7 / 83.6", "-"]


# === The tests ===


def test_mcnemar_holm_and_daggers(runs):
    [comparison] = compare(runs / "good", runs / "fair", against=[runs / "bad"], samples=0)
    tests = pairs_of(comparison)
    assert [pair for pair, _ in tests] == ["good − bad"] * 2 + ["fair − bad"] * 2
    p_values = []
    for (pair, measure), row in tests.items():
        y, first = sentiment({"good": 0.3, "fair": 1.2}[pair.split()[0]])
        _, second = sentiment(4.0)
        first, second = first[:, 0], second[:, 0]
        if measure == "Acc-2 neg. / pos.":
            y, first, second = y[y != 0], first[y != 0], second[y != 0]
            one, other = (first > 0) == (y > 0), (second > 0) == (y > 0)
        else:
            one, other = (first >= 0) == (y >= 0), (second >= 0) == (y >= 0)
        b, c = np.sum(one & ~other), np.sum(~one & other)
        assert row["right alone"] == f"{b} / {c}"
        assert b + c < 25
        assert row["test"] == "exact"
        p_values.append(stats.binomtest(int(b), int(b + c), 0.5).pvalue)
        assert row["p"] == f"{p_values[-1]:.2g}"
        assert row["first − second"] == f"{100 * (one.mean() - other.mean()):+.1f}"
    corrected = holm(p_values)
    assert [row["p (Holm)"] for row in tests.values()] == [f"{p:.2g}" for p in corrected]
    table = table_of(comparison.results)
    for place, name in enumerate(("good", "fair")):
        parts = table[name]["Acc-2 ↑"].split(" / ")
        assert [part.endswith("†") for part in parts] == list(corrected[2 * place : 2 * place + 2] < 0.05)
    assert "†" in table["good"]["Acc-2 ↑"]
    assert "†" not in table["bad"]["Acc-2 ↑"]
    assert "†: better than every baseline, p < 0.05" in " ".join(comparison.results.notes)
    [comparison] = compare(runs / "bad", against=[runs / "good"], samples=0)
    assert "† (none here): " in " ".join(comparison.results.notes)


def test_without_a_baseline_each_is_tested_against_each(runs):
    [comparison] = compare(runs / "good", runs / "fair", runs / "bad", samples=0)
    assert [pair for pair, _ in pairs_of(comparison)][::2] == ["good − fair", "good − bad", "fair − bad"]
    assert "Δ" not in table_of(comparison.results)
    assert "corrected for the 6 tests" in " ".join(comparison.tests.notes)
    [alone] = compare(runs / "bad", runs / "good", samples=0)  # the second is the better one
    assert "†" in table_of(alone.results)["good"]["Acc-2 ↑"]
    assert "†" not in table_of(alone.results)["bad"]["Acc-2 ↑"]


def test_a_dagger_is_for_being_better_than_all(tmp_path):
    """The first is as good as its twin, and no better: no dagger for either."""
    for name in ("first", "twin"):
        write_results(tmp_path / name, *sentiment(0.3, rows=400), **MOSI)
    write_results(tmp_path / "bad", *sentiment(4.0, rows=400), **MOSI)
    [comparison] = compare(tmp_path / "first", tmp_path / "twin", tmp_path / "bad", samples=0)
    assert not any("†" in cell for row in table_of(comparison.results).values() for cell in row.values())
    [comparison] = compare(tmp_path / "first", tmp_path / "twin", against=[tmp_path / "bad"], samples=0)
    assert [("†" in row["Acc-2 ↑"]) for row in table_of(comparison.results).values()] == [False, True, True, False]
    row = pairs_of(comparison)["first − bad", "Acc-2 neg. / non-neg."]
    assert row["test"] == "chi-square"


def test_of_several_seeds_most_pairs_of_runs_must_differ(tmp_path):
    """One lucky seed of three is no finding."""
    y, good = sentiment(0.3, rows=200)
    _, bad = sentiment(4.0, rows=200)
    for seed, prediction in enumerate((good, bad, bad)):
        write_results(tmp_path / "lucky" / f"seed-{seed}", y, prediction, seed=seed, **MOSI)
    for seed, prediction in enumerate((good, good, bad)):
        write_results(tmp_path / "mostly" / f"seed-{seed}", y, prediction, seed=seed, **MOSI)
    write_results(tmp_path / "bad", y, bad, **MOSI)
    [comparison] = compare(tmp_path / "lucky", tmp_path / "mostly", against=[tmp_path / "bad"], samples=0)
    tests = pairs_of(comparison)
    single = compare(tmp_path / "mostly" / "seed-0", against=[tmp_path / "bad"], samples=0)[0]
    p = float(pairs_of(single)["seed-0 − bad", "Acc-2 neg. / pos."]["p"])
    assert float(tests["lucky − bad", "Acc-2 neg. / pos."]["p"]) == 1
    assert float(tests["mostly − bad", "Acc-2 neg. / pos."]["p"]) == pytest.approx(1.5 * p, rel=0.1)
    assert tests["mostly − bad", "Acc-2 neg. / pos."]["test"].endswith(", 3 pairs")


def test_intervals_are_those_of_the_bootstrap(runs):
    [comparison] = compare(runs / "several", against=[runs / "fair"], samples=300, seed=5)
    y, fair = sentiment(1.2)
    several = np.stack([sentiment(0.6, seed)[1][:, 0] for seed in range(3)])
    for measure in ("MAE", "Corr"):
        expected = paired_bootstrap(y, several, fair[:, 0], measure.lower(), samples=300, seed=5)
        row = pairs_of(comparison)["several − fair", measure]
        assert row["first − second"] == f"{expected['difference']:+.3f}"
        assert row["95 % interval"] == f"[{expected['low']:+.3f}, {expected['high']:+.3f}]"
        assert row["test"] == "bootstrap"
    assert f"300 resamples of the {ROWS} utterances" in " ".join(comparison.tests.notes)
    [videos] = compare(runs / "several", against=[runs / "fair"], samples=300, seed=5, resample="videos")
    groups = [number // 4 for number in range(ROWS)]
    expected = paired_bootstrap(y, several, fair[:, 0], "mae", groups, samples=300, seed=5)
    row = pairs_of(videos)["several − fair", "MAE"]
    # the names of videos sort otherwise than their numbers, so other ones are drawn
    assert f"300 resamples of the {ROWS // 4} videos" in " ".join(videos.tests.notes)
    low = float(row["95 % interval"][1:].split(",")[0])
    assert low == pytest.approx(expected["low"], abs=0.1)


# === Which rows belong together ===


def test_rows_are_paired_by_segment_not_by_place(runs, tmp_path):
    y, p = sentiment(1.2)
    segments = [f"v{number // 4}[{number}]" for number in range(ROWS)]
    order = np.random.default_rng(0).permutation(ROWS)
    write_results(tmp_path / "fair", y[order], p[order], segments=[segments[i] for i in order], **MOSI)
    one, other = (compare(runs / "good", against=[folder / "fair"], samples=40)[0] for folder in (runs, tmp_path))
    assert one.tests.to_csv() == other.tests.to_csv()


def test_other_utterances_are_an_error_that_says_which(runs, tmp_path):
    y, p = sentiment(1.0)
    write_results(tmp_path / "fewer", y[:-2], p[:-2], **MOSI)
    with pytest.raises(
        ValueError, match=r"60 and .*fewer with 58 utterances; .*fewer lacks 2 .*such as v14\[58\], v14"
    ):
        compare(runs / "good", tmp_path / "fewer")
    write_results(tmp_path / "others", y, p, segments=[f"x[{i}]" for i in range(ROWS)], **MOSI)
    with pytest.raises(ValueError, match=r"others lacks 60 .*; .*good lacks 60 .*such as x\[0\], x\[1\], x\[2\]"):
        compare(runs / "good", tmp_path / "others")


def test_other_labels_for_an_utterance_are_an_error(runs, tmp_path):
    y, p = sentiment(1.0)
    changed = y.copy()
    changed[[3, 9]] += 1
    write_results(tmp_path / "changed", changed, p, **MOSI)
    message = rf"other labels for 2 of 60 utterances; v0\[3\] has {y[3]} in .*good and {changed[3]} in .*changed"
    with pytest.raises(ValueError, match=message):
        compare(runs / "good", tmp_path / "changed")


def test_damaged_predictions_are_named(tmp_path):
    folder = write_results(tmp_path / "run", *sentiment(1.0), **MOSI)
    text = (folder / "predictions.csv").read_text()
    for content, message in (
        ("", "expected columns .*Received: no row"),
        (text.replace("label", "truth"), r"expected columns \['label'.*Received: columns"),
        (text + text.splitlines()[1] + "\n", "61 rows of 60 utterances"),
    ):
        (folder / "predictions.csv").write_text(content)
        with pytest.raises(ValueError, match=f"predictions.csv is damaged: .*{message}"):
            compare(folder)
    cell = text.splitlines()[1].rpartition(",")[2]
    for content, message in (
        (text.rstrip()[:-3], "expected whole rows"),
        (text.rstrip().rpartition(",")[0] + "\n", "expected a cell for each column"),
        (text.replace(cell, "nan", 1), "expected a finite number as prediction.*Received: 'nan' in row 1, v0"),
        (text.replace(cell, "x", 1), "expected a finite number as prediction.*Received: 'x' in row 1, v0"),
    ):
        (folder / "predictions.csv").write_text(content)
        with pytest.raises(ValueError, match=rf"predictions\.csv.*{message}"):
            compare(folder)
    (folder / "predictions.csv").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"predictions\.csv is damaged: expected a CSV file in UTF-8"):
        compare(folder)
    (folder / "predictions.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"predictions\.csv"):
        compare(folder)


def test_a_table_for_each_dataset(runs, tmp_path):
    write_results(tmp_path / "funny", np.array([0, 1]), np.eye(2), **FUNNY)
    write_results(tmp_path / "dealt", *sentiment(1.0), **MOSI, split_by="video:0.5,0.2,0.3")
    comparisons = compare(runs / "good", tmp_path / "funny", tmp_path / "dealt", samples=0)
    assert [list(table_of(c.results)) for c in comparisons] == [["good"], ["funny"], ["dealt"]]
    names = [c.name for c in comparisons]
    assert names == ["cmu_mosi-reference_splits", "ur_funny-v1", "cmu_mosi-reference_splits-video_0.5_0.2_0.3"]


def test_names_are_told_apart_by_their_folders(runs, tmp_path):
    for folder in ("a/x/best", "b/x/best", "b/y/other"):
        write_results(tmp_path / folder, *sentiment(1.0), **MOSI)
    for experiment in ("first", "second"):
        write_results(tmp_path / experiment / "full" / "seed-0", *sentiment(1.0), **MOSI)
        (tmp_path / experiment / "ablation.json").write_text(
            json.dumps({"settings": {}, "variants": {"1) MISA": "full"}})
        )
    paths = [tmp_path / name for name in ("a/x/best", "b/x/best", "b/y/other", "first", "second")]
    [comparison] = compare(*paths, samples=0)
    names = ["best (a/x)", "best (b/x)", "other", "1) MISA (first)", "1) MISA (second)"]
    assert list(table_of(comparison.results)) == names


def test_single_seeds_of_two_models_are_told_apart(tmp_path):
    for name in ("a", "b"):
        for seed in (0, 1):
            write_results(tmp_path / name / f"seed-{seed}", *sentiment(1.0, seed), seed=seed, **MOSI)
    [comparison] = compare(tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0", samples=0)
    assert list(table_of(comparison.results)) == ["seed-0 (a)", "seed-0 (b)"]
    with pytest.raises(ValueError, match=r"A run is compared once\. Received: .*seed-0 in two models, a and seed-0"):
        compare(tmp_path / "a", tmp_path / "a" / "seed-0")


def test_a_group_is_one_model(tmp_path):
    write_results(tmp_path / "a" / "seed-0", *sentiment(1.0), **MOSI)
    write_results(tmp_path / "a" / "seed-0.bak", *sentiment(9.0), **MOSI)
    [comparison] = compare(tmp_path / "a", samples=0)
    assert list(table_of(comparison.results)) == ["a"]  # and not of two runs
    write_results(tmp_path / "a" / "seed-1", *sentiment(1.0, 1), seed=1, **MOSI, dropout=0.7)
    with pytest.raises(
        ValueError, match=r"differ in their seeds and folds alone\. Received: .*'dropout': \(0\.\d+, 0\.7\)"
    ):
        compare(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "seed-1")
    for seed in (1, 2):  # the second one's folder lies
        write_results(tmp_path / "a" / f"seed-{seed}", *sentiment(1.0, 1), seed=1, **MOSI)
    with pytest.raises(ValueError, match=r"seed-1 and .*seed-2 with \{'seed': \(1, 1\)\}"):
        compare(tmp_path / "a")


def test_baselines_of_other_data_are_told(runs, tmp_path):
    write_results(tmp_path / "dealt", *sentiment(1.0), **MOSI, split_by="video:0.5,0.2,0.3")
    with pytest.raises(ValueError, match=r"`against` needs, of the same data, .*Received: no baseline of .*good"):
        compare(runs / "good", runs / "fair", against=[tmp_path / "dealt"])
    with pytest.raises(ValueError, match=r"Received: only baselines"):
        compare(runs / "good", against=[runs / "good"])


def test_one_decision_is_one_test(tmp_path):
    y = np.where(np.arange(ROWS) % 2, 1.0, -1.0)
    for name, wrong in {"good": 0, "bad": 12}.items():
        write_results(tmp_path / name, y, np.where(np.arange(ROWS) < wrong, -y, y)[:, None], **MOSI)
    [comparison] = compare(tmp_path / "good", tmp_path / "bad", samples=0)
    [test] = pairs_of(comparison).values()
    assert test["p"] == test["p (Holm)"] == f"{2 / 2**12:.2g}"
    assert table_of(comparison.results)["good"]["Acc-2 ↑"] == "100.0† / 100.0†"
    assert "are one test" in " ".join(comparison.tests.notes)


def test_what_cannot_be_tested_is_not_counted(tmp_path):
    """No truth but 0: negative / positive is no decision."""
    for name in ("one", "two"):
        scores = np.random.default_rng(len(name) + ord(name[0])).normal(size=(12, 1)).astype("float32")
        write_results(tmp_path / name, np.zeros(12, "float32"), scores, **MOSI)
    [comparison] = compare(tmp_path / "one", tmp_path / "two", samples=0)
    [test] = pairs_of(comparison).values()
    assert test["measure"] == MEASURES[0]
    assert test["p"] == test["p (Holm)"]


def test_damaged_metrics_are_named(tmp_path):
    folder = write_results(tmp_path / "run", *sentiment(1.0), **MOSI)
    for content in ("[]", "{}", '{"mae": "x"}'):
        (folder / "metrics.json").write_text(content)
        with pytest.raises(ValueError, match=r"metrics\.json is damaged"):
            compare(folder)
    (folder / "model.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"run is damaged: .*Received: no model\.keras"):
        compare(folder)


def test_metrics_are_those_of_the_predictions(tmp_path):
    y, p = sentiment(1.0)
    edited, cut = (write_results(tmp_path / name, y, p, **MOSI) for name in ("edited", "cut"))
    path = edited / "metrics.json"
    path.write_text(re.sub(r'"mae": [\d.]+', '"mae": 0.1', path.read_text()))
    path = cut / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    for run, rows in ((edited, 60), (cut, 19)):
        mae = f"{mean_absolute_error(y[:rows], p[:rows]):.6g}"
        message = (
            rf"{run.name}/metrics\.json does not belong .* expected mae={mae}, as its {rows} rows .*Received: mae="
        )
        with pytest.raises(ValueError, match=message):
            compare(run)


def test_names_are_no_formulas_and_no_lines(tmp_path):
    write_results(tmp_path / "=1+1", *sentiment(1.0), **MOSI)
    write_results(tmp_path / "two\nlines", *sentiment(2.0), **MOSI)
    [comparison] = compare(tmp_path / "=1+1", tmp_path / "two\nlines", samples=0)
    assert [row[0] for row in csv.reader(io.StringIO(comparison.results.to_csv()))][1:3] == ["'=1+1", "two\nlines"]
    assert "| two lines |" in comparison.results.to_markdown()


def test_where_tables_are_written(runs, tmp_path, capsys):
    assert main(["compare", str(runs / "good"), "--out", str(tmp_path / "table.md")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "table.csv", "table.tex"}
    assert main(["compare", str(runs / "good"), "--out", f"{tmp_path}/"]) == 2
    assert "a folder" in capsys.readouterr().err
    for command in ("compare", "missing"):
        assert main([command, str(runs / "good"), "--out", ""]) == 2
        assert "Received: --out '', no name" in capsys.readouterr().err


def test_what_is_missing_replaces_no_file_without_being_told(runs, tmp_path, capsys):
    (tmp_path / "table.csv").write_text("mine")
    assert main(["missing", str(runs / "good"), "--out", str(tmp_path / "table.md")]) == 2
    assert "--force replaces them" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"table.csv": "mine"}


def test_folder_of_models_gets_advice(runs):
    with pytest.raises(FileNotFoundError, match=r"a folder of other folders of runs, such as .*bad: name them"):
        compare(runs)


def test_folder_of_models_with_seeds_gets_advice(tmp_path):
    write_results(tmp_path / "misa" / "seed-0", *sentiment(1.0), **MOSI)
    with pytest.raises(FileNotFoundError, match=r"such as .*misa.seed-0: name them"):
        compare(tmp_path)


def test_the_same_run_twice_is_one_row(runs):
    [comparison] = compare(runs / "good", runs / "good", runs / "bad", against=[runs / "bad"], samples=0)
    assert list(table_of(comparison.results)) == ["bad", "good", "Δ"]
    assert {pair for pair, _ in pairs_of(comparison)} == {"good − bad"}


def test_wrong_arguments(runs, tmp_path):
    for arguments, message in (
        ({"resample": "speakers"}, r"`resample` must be one of .*Received: resample='speakers'"),
        ({"samples": -1}, r"`samples` must be 0, or from 40 to 1,000,000\. Received: samples=-1$"),
        ({"samples": 39}, "Received: samples=39$"),
        ({"samples": 10**14}, "from 40 to 1,000,000. Received: samples=100,000,000,000,000$"),
        ({"dialect": "cmu"}, r"`dialect` must be one of .*Received: dialect='cmu'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(runs / "good", **arguments)
    with pytest.raises(ValueError, match="Runs are needed"):
        compare()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        compare(tmp_path)
    write_results(tmp_path / "funny", np.array([0, 1]), np.eye(2), **FUNNY)
    with pytest.raises(ValueError, match=r"dialects are of sentiment.*ur_funny/v1"):
        compare(tmp_path / "funny", dialect="mmsa")


# === The command, and files ===


def test_command_prints_and_writes(runs, tmp_path, capsys):
    arguments = ["compare", str(runs / "good"), "--against", str(runs / "bad"), "--bootstrap", "50"]
    arguments += ["--out", str(tmp_path / "tables" / "mosi")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| good |" in printed
    assert "| MISA (B) | 0.783 | 0.761 | 81.8† / 83.4† | 81.7 / 83.6 | 42.3 |" in printed
    assert "good − bad" in printed
    names = {f"mosi{part}.{suffix}" for part in ("", "-tests") for suffix in ("md", "csv", "tex")}
    assert {path.name for path in (tmp_path / "tables").iterdir()} == names
    markdown = (tmp_path / "tables" / "mosi.md").read_text(encoding="utf-8")
    assert markdown in printed + "\n"
    with open(tmp_path / "tables" / "mosi.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + 3 + 22 + 1
    assert {len(row) for row in rows} == {6}
    latex = (tmp_path / "tables" / "mosi.tex").read_text(encoding="utf-8")
    assert r"MFM $\otimes$ & 0.951 & 0.662 & 78.1 / - & 78.1 / - & 36.2 \\" in latex
    assert latex.count(r"\midrule") == 2
    assert main(arguments) == 2
    assert "--force replaces them" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_tables_of_tests_that_were_not_made_again_are_removed(runs, tmp_path, capsys):
    good, bad, base = str(runs / "good"), str(runs / "bad"), str(tmp_path / "mosi")
    (tmp_path / "mosi-tests.txt").write_text("not a table")
    assert main(["compare", good, "--against", bad, "--bootstrap", "50", "--out", base]) == 0
    tests = {f"mosi-tests.{suffix}" for suffix in ("md", "csv", "tex")}
    for suffix in ("md", "csv", "tex"):
        (tmp_path / f"mosi.{suffix}").unlink()
    assert main(["compare", good, "--out", base]) == 2  # the tests alone are in the way
    assert "mosi-tests.md" in capsys.readouterr().err
    assert tests < {path.name for path in tmp_path.iterdir()}
    assert main(["compare", good, "--out", base, "--force"]) == 0
    [told] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Removed")]
    assert all(name in told for name in tests)
    left = {"mosi.md", "mosi.csv", "mosi.tex", "mosi-tests.txt"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert main(["compare", good, "--out", base, "--force"]) == 0
    assert "Removed" not in capsys.readouterr().out


def test_a_single_baseline_is_a_path_of_any_kind(runs):
    [group] = find_run_groups(runs / "bad")
    expected = compare(runs / "good", against=[str(runs / "bad")], samples=0)
    for against in (runs / "bad", str(runs / "bad"), group):
        assert compare(runs / "good", against=against, samples=0)[0].tests.rows == expected[0].tests.rows


@pytest.mark.parametrize("repeated", [False, True])
def test_command_takes_several_baselines(runs, capsys, repeated):
    bad, fair = str(runs / "bad"), str(runs / "fair")
    baselines = ["--against", bad, "--against", fair] if repeated else ["--against", bad, fair]
    assert main(["compare", str(runs / "good"), *baselines, "--bootstrap", "0"]) == 0
    printed = capsys.readouterr().out
    assert "good − bad" in printed
    assert "good − fair" in printed
    assert "fair − bad" not in printed


def test_command_of_several_datasets(runs, tmp_path, capsys):
    write_results(tmp_path / "funny", np.array([0, 1]), np.eye(2), **FUNNY)
    assert main(["compare", str(runs / "good"), str(tmp_path / "funny"), "--out", str(tmp_path / "t")]) == 0
    files = {path.name for path in tmp_path.glob("t-*.md")}
    assert files == {"t-cmu_mosi-reference_splits.md", "t-ur_funny-v1.md"}
    assert main(["compare", str(tmp_path / "nothing")]) == 2
    assert "no finished run" in capsys.readouterr().err


SPECIAL = "\\&%$#_{}~^[]"


def test_latex_escapes_what_it_must():
    latex = ResultTable(
        "50 % of α_1", ["model", "p < 0.05"], [["[a]", SPECIAL], None, ["b", "±✓"]], ["See x_y."]
    ).to_latex()
    assert r"{[}a{]} & \textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}{[}{]} \\" in latex
    assert r"\caption{50 \% of α\_1. See x\_y.}" in latex
    assert r"b & $\pm$\checkmark{} \\" in latex
    assert r"model & p $<$ 0.05 \\" in latex


def test_a_narrow_terminal_loses_no_digit(runs):
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    [comparison] = compare(runs / "several", against=[runs / "bad"], samples=50)
    console.print(comparison.tests.to_rich())
    assert "…" not in console.file.getvalue()


def test_notes_follow_the_table():
    table = ResultTable("Results", ["model", "MAE"], [["a|b", "1"]], ["First.", "Second."])
    assert table.to_markdown().splitlines()[-4:] == ["", "First.", "", "Second."]
    assert "| a\\|b | 1 |" in table.to_markdown()
    with pytest.raises(ValueError, match=r"Expected 2 cells, \['model', 'MAE'\]\. Received: \['a'\]"):
        ResultTable("Results", ["model", "MAE"], [["a"]])


# === Folds ===


def write_folds(folder, labels, predictions, folds=3, seed=0, **settings):
    """The runs of a cross-validation, each tested on the rows of every third video."""
    video = np.arange(len(labels)) // 4
    for fold in range(1, folds + 1):
        rows = np.flatnonzero(video % folds == fold - 1)
        run = write_results(
            folder / f"seed-{seed}-fold-{fold}",
            labels[rows],
            predictions[rows],
            seed=seed,
            segments=[f"v{row // 4}[{row}]" for row in rows],
            **{**MOSI, "split_by": f"video:{fold}/{folds}", **settings},
        )
        written = list(csv.DictReader(io.StringIO((run / "predictions.csv").read_text())))
        write_csv(
            run / "predictions.csv", [{**row, "video_id": f"v{video[n]}"} for row, n in zip(written, rows, strict=True)]
        )
    return folder


def test_folds_are_tested_as_one_run_on_everything(tmp_path):
    for name, noise in {"good": 0.3, "bad": 4.0}.items():
        write_folds(tmp_path / name, *sentiment(noise))
        write_results(tmp_path / "whole" / name, *sentiment(noise), **MOSI)
    (folds,) = compare(tmp_path / "good", tmp_path / "bad", resample="videos", samples=200)
    (whole,) = compare(tmp_path / "whole" / "good", tmp_path / "whole" / "bad", resample="videos", samples=200)
    found, expected = pairs_of(folds), pairs_of(whole)
    assert found.keys() == expected.keys() == {("good − bad", m) for m in MEASURES}
    for key in expected:  # the folds are of one size, so that MAE is the mean of theirs
        exact = ("first − second", "right alone", "test", "p", "p (Holm)") if key[1] != "Corr" else ("test",)
        assert {name: found[key][name] for name in exact} == {name: expected[key][name] for name in exact}
    assert "test split re-dealt by 3-fold cross-validation by video, 60 utterances" in folds.results.caption
    assert "decisions stand together in McNemar's test" in " ".join(folds.tests.notes)
    assert "dealt out anew" in " ".join(folds.results.notes)


@pytest.mark.parametrize("dialect", ["paper", "mmsa"])
def test_numbers_of_folds_are_means_over_them(tmp_path, dialect):
    y, p = sentiment(1.2)
    (comparison,) = compare(write_folds(tmp_path / "fair", y, p), dialect=dialect)
    fold = np.arange(ROWS) // 4 % 3
    values = np.array([mean_absolute_error(y[fold == k], p[fold == k, 0]) for k in range(3)])
    cells = table_of(comparison.results)["fair, 3 folds"]
    if dialect == "paper":
        assert cells["MAE ↓"] == f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
    else:
        assert cells["MAE ↓"] == f"{100 * values.mean():.2f} ± {100 * values.std():.2f}"


def test_several_seeds_of_folds(tmp_path):
    for seed in (0, 1, 2):
        write_folds(tmp_path / "good", *sentiment(0.3, seed), seed=seed)
        write_results(tmp_path / "whole" / f"seed-{seed}", *sentiment(0.3, seed), seed=seed, **MOSI)
    write_folds(tmp_path / "bad", *sentiment(4.0))
    write_results(tmp_path / "bad_whole", *sentiment(4.0), **MOSI)
    (folds,) = compare(tmp_path / "good", tmp_path / "bad", samples=0)
    (whole,) = compare(tmp_path / "whole", tmp_path / "bad_whole", samples=0)
    for measure in MEASURES[:2]:
        found, expected = pairs_of(folds)["good − bad", measure], pairs_of(whole)["whole − bad_whole", measure]
        assert found["test"].endswith("3 pairs")
        assert found["p"] == expected["p"]


def test_differences_of_folds_are_those_of_the_means_over_them(tmp_path):
    """Each fold's predictions are off by another amount: within a fold that leaves the correlation as it is."""
    fold = np.arange(ROWS) // 4 % 3
    y, p = sentiment(0.5)
    off = p + 3 * fold[:, None].astype("float32")
    (comparison,) = compare(
        write_folds(tmp_path / "off", y, off), write_folds(tmp_path / "fair", *sentiment(0.7)), samples=400
    )
    expected = {}
    for name, scores in {"off": off, "fair": sentiment(0.7)[1]}.items():
        expected[name] = np.mean([np.corrcoef(y[fold == k], scores[fold == k, 0])[0, 1] for k in range(3)])
    found = pairs_of(comparison)["off − fair", "Corr"]
    assert found["first − second"] == f"{expected['off'] - expected['fair']:+.3f}"
    low, high = map(float, found["95 % interval"].strip("[]").split(","))
    assert low < expected["off"] - expected["fair"] < high
    assert high - low < 0.2


def test_few_to_draw_from_are_told(tmp_path):
    """Resamples are drawn within a fold: what counts is how many it has."""
    paths = [write_folds(tmp_path / name, *sentiment(noise)) for name, noise in {"one": 0.3, "two": 0.9}.items()]
    for resample, told in {"videos": True, "utterances": False}.items():  # 3 folds of 5 videos, 20 utterances
        [comparison] = compare(*paths, samples=100, resample=resample)
        assert any(f"5 {resample}, drawn at a time, are few" in note for note in comparison.tests.notes) == told


def test_folds_that_do_not_belong_together(tmp_path, caplog):
    whole = write_folds(tmp_path / "whole", *sentiment(0.3))
    lacking = write_folds(tmp_path / "lacking", *sentiment(0.3))
    (lacking / "seed-0-fold-2" / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="There is no finished run"):
        compare(whole, lacking)
    assert "lacking: not finished and left out are seed 0, of which 2 of 3 folds are finished" in caplog.text
    write_folds(lacking, *sentiment(0.3, 1), seed=1)
    (comparison,) = compare(whole, lacking, samples=0)
    assert list(table_of(comparison.results)) == ["whole, 3 folds", "lacking, 3 folds"]
    twice = write_folds(tmp_path / "twice", *sentiment(0.3))
    shutil.copy(twice / "seed-0-fold-1" / "predictions.csv", twice / "seed-0-fold-2")
    with pytest.raises(
        ValueError, match=r"tested in one fold.*Received: 20 in .*fold-1 and in .*fold-2, such as v0\[0"
    ):
        compare(whole, twice)
    mixed = write_folds(tmp_path / "mixed", *sentiment(0.3))
    write_folds(mixed, *sentiment(0.3), folds=4, seed=1)
    with pytest.raises(ValueError, match=r"differ in their seeds and folds alone.*split_by"):
        compare(mixed)
