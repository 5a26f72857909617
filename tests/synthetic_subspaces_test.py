import functools

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from keras_misa.data import prepare_dataset
from keras_misa.datasets.synthetic_subspaces import generator

SIZES = {"train": 1283, "validation": 229, "test": 686}


@functools.cache
def splits():
    return {split: generator.generate(split) for split in SIZES}


@functools.cache
def reachable():
    return generator.reachable_mae()


def time_means(examples):
    words, vectors = generator.word_table()
    vector = dict(zip(words, vectors, strict=True))
    text = [np.mean([vector[word] for word in example["words"]], axis=0) for example in examples]
    return np.hstack([text, *([example[m].mean(axis=0) for example in examples] for m in ("visual", "acoustic"))])


def assert_same(a, b):
    for key in a:
        if isinstance(a[key], dict):
            assert_same(a[key], b[key])
        else:
            np.testing.assert_array_equal(a[key], b[key])


def test_sizes_are_those_of_mosi():
    assert {split: len(examples) for split, examples in splits().items()} == SIZES
    assert len({e["video_id"] for examples in splits().values() for e in examples}) == 93
    lengths = np.array([len(e["words"]) for e in splits()["train"]])
    assert lengths.min() >= 2
    assert lengths.max() <= 44
    assert 10.5 < lengths.mean() < 12.5


def test_shapes_and_ranges():
    known = set(generator.word_table()[0][2:])
    for example in splits()["validation"]:
        length = len(example["words"])
        assert set(example["words"]) <= known
        assert example["visual"].shape == (length, 47)
        assert example["acoustic"].shape == (length, 74)
        assert example["segment_id"].startswith(example["video_id"] + "[")
        assert example["video_id"].startswith("synthetic-")
        assert abs(example["label"]) <= 3
        assert abs(example["best_prediction"]) <= 3
        assert {example[key].dtype for key in ("visual", "acoustic", "label")} == {np.dtype("float32")}
    for modality in ("visual", "acoustic"):
        features = np.concatenate([example[modality] for example in splits()["train"]])
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.15)
        np.testing.assert_allclose(features.std(axis=0), 1, atol=0.2)


def test_same_seed_same_examples_whatever_the_size():
    for small, large in zip(generator.generate("train", size=3), splits()["train"], strict=False):
        assert_same(small, large)


def test_seeds_and_splits_differ():
    first = [generator.generate(split, seed, 1)[0] for split in SIZES for seed in (0, 1)]
    assert len({float(example["label"]) for example in first}) == 6
    ids = [example["segment_id"] for examples in splits().values() for example in examples]
    assert len(ids) == len(set(ids))
    shared = [float(example["factors"]["shared"][0]) for examples in splits().values() for example in examples]
    assert len(shared) == len(set(shared))


def test_splits_share_the_world():
    x = time_means(splits()["validation"])
    predictions = [
        Ridge(30.0).fit(time_means(splits()[k]), [e["label"] for e in splits()[k]]).predict(x)
        for k in ("train", "test")
    ]
    assert np.corrcoef(predictions)[0, 1] > 0.97


def test_factors_are_standardised_and_differ_in_shape():
    factors = {k: np.concatenate([e["factors"][k] for e in splits()["train"]]) for k in ("shared", "text", "visual")}
    for values in factors.values():
        assert abs(values.mean()) < 0.1
        assert abs(values.std() - 1) < 0.1
    assert set(np.abs(factors["text"])) == {1.0}
    assert np.mean(factors["visual"] ** 3) > 0.7


def test_view_errors_cancel_over_the_modalities():
    for example in splits()["validation"]:
        views = np.stack(list(example["views"].values()))
        np.testing.assert_allclose(views.mean(axis=0), example["factors"]["shared"], atol=1e-6)
        assert np.ptp(views) > 0


def test_best_prediction_is_the_conditional_median():
    x, median, y = (
        np.array([f(e) for e in splits()["train"]], "float64")
        for f in (
            lambda e: np.concatenate(list(e["factors"].values())),
            lambda e: e["best_prediction"],
            lambda e: e["label"],
        )
    )
    inside = np.abs(median) < 3
    exact = Ridge(1e-6).fit(x[inside], median[inside])
    np.testing.assert_allclose(exact.predict(x[inside]), median[inside], atol=1e-3)
    assert abs(np.mean(y > median) - np.mean(y < median)) < 0.06


def test_best_mae_is_that_of_the_stored_predictions():
    for examples in splits().values():
        errors = [abs(example["label"] - example["best_prediction"]) for example in examples]
        assert generator.best_mae(examples) == pytest.approx(np.mean(errors), rel=1e-6)
    assert 0.65 < generator.best_mae(splits()["test"]) < 0.8


def test_features_show_the_factors():
    train, test = splits()["train"], splits()["test"]
    for name in ("shared", "text", "visual", "acoustic"):
        target = [np.stack([example["factors"][name] for example in examples]) for examples in (train, test)]
        assert Ridge(10.0).fit(time_means(train), target[0]).score(time_means(test), target[1]) > 0.95


def test_all_modalities_reach_the_best_error_and_parts_do_not():
    best = reachable()["best reachable"]
    excess = {name: mae / best - 1 for name, mae in reachable().items()}
    assert excess["time means of text, visual, acoustic"] < 0.05
    assert excess["true shared factors only"] > 0.5
    assert excess["true private factors only"] > 0.5
    for modality in ("text", "visual", "acoustic"):
        assert excess[f"{modality}'s view of the shared factors, true private ones"] > 0.05
        assert excess[f"time means without {modality}"] > 0.1
        assert excess[f"time means of {modality} only"] > 0.3


@pytest.mark.parametrize("arguments", [{"split": "dev"}, {"split": "train", "size": -1}])
def test_errors_tell_what_was_received(arguments):
    with pytest.raises(ValueError, match="Received: s"):
        generator.generate(**arguments)


def test_word_table_begins_with_the_two_special_words():
    words, vectors = generator.word_table(3)
    assert words[:2] == ["<unk>", "<pad>"]
    assert vectors.shape == (len(words), 50)
    assert vectors.dtype == np.float32
    assert not vectors[:2].any()
    assert len(set(words)) == len(words)


def test_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generator"])
    monkeypatch.setattr(generator, "reachable_mae", lambda seed: {"best reachable": 0.5, "nothing": 1.0})
    generator.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| best reachable | 0.500 | +0.0% |",
        "| nothing | 1.000 | +100.0% |",
    ]


def test_bare_name_is_the_first_form_whatever_else_is_prepared(tmp_path):
    assert prepare_dataset("synthetic_subspaces/small", tmp_path).info.config_name == "small"
    for _ in range(2):  # built, then found
        assert prepare_dataset("synthetic_subspaces", tmp_path).info.config_name == "default"
    assert prepare_dataset("synthetic_subspaces/small", tmp_path).info.splits["train"].num_examples == 256
