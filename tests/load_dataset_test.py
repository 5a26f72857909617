import pathlib
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from keras_misa import data
from keras_misa.data.sources.reference_splits import read_reference_split
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.open_data import open_data

FOLDER = pathlib.Path(__file__).parents[1] / "datasets" / "cmu_mosi" / "dummy_data"
FILES = {"train": "train.pkl", "validation": "dev.pkl", "test": "test.pkl"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return {"manual_dir": FOLDER, "data_dir": tmp_path_factory.mktemp("prepared")}


def rows_of(dataset):
    rows = []
    for batch, labels in dataset.as_numpy_iterator():
        for i, label in enumerate(labels):
            rows.append({m: v["values"][i, : v["lengths"][i]] for m, v in batch.items()} | {"label": label})
    return rows


def key(example):
    return (round(float(example["label"]), 5), len(example["visual"]), *np.asarray(example["visual"])[0, :3].tolist())


@pytest.mark.parametrize("split", FILES)
def test_batches_hold_what_the_file_holds(source, split):
    expected = sorted(read_reference_split(FOLDER / FILES[split]), key=key)
    table = data.load_word_table("cmu_mosi", **source)
    rows = sorted(rows_of(data.load_dataset("cmu_mosi", split, text=table, batch_size=2, **source)), key=key)
    assert len(rows) == len(expected)
    for row, example in zip(rows, expected, strict=True):
        for modality in ("visual", "acoustic"):
            np.testing.assert_array_equal(row[modality], example[modality])
        known = [word if word in table.words else "<unk>" for word in example["words"]]
        assert [table.words[i] for i in row["text"]] == known
        assert row["label"] == np.float32(example["label"])


def test_padding_and_short_last_batch(source):
    lengths = [len(e["words"]) for e in read_reference_split(FOLDER / "train.pkl")]
    batches = list(data.load_dataset("cmu_mosi", "train", batch_size=2, **source).as_numpy_iterator())
    assert sum(len(labels) for _, labels in batches) == len(lengths)
    for batch, _ in batches:
        for inputs in batch.values():
            assert inputs["values"].shape[1] == inputs["lengths"].max()
    padded = data.load_dataset("cmu_mosi", "train", pad_to_multiple_of=8, **source)
    assert {b["visual"]["values"].shape[1] % 8 for b, _ in padded.as_numpy_iterator()} == {0}


def test_shuffling_is_repeatable_and_changes_by_epoch(source):
    def epochs(seed):
        dataset = data.load_dataset("cmu_mosi", "train", shuffle=True, seed=seed, **source)
        return [np.concatenate([labels for _, labels in dataset.as_numpy_iterator()]).tolist() for _ in range(3)]

    first = epochs(1)
    assert first == epochs(1)
    assert len({tuple(epoch) for epoch in first}) > 1
    assert len({tuple(sorted(epoch)) for epoch in first}) == 1


def labels_of(dataset):
    return np.concatenate([labels for _, labels in dataset.as_numpy_iterator()]).tolist()


def test_without_a_cache_a_small_split_comes_in_the_same_order(source):
    settings = {"batch_size": 2, "shuffle": True, "seed": 3, **source}
    cached, read_anew = (data.load_dataset("cmu_mosi", "train", cache=cache, **settings) for cache in (True, False))
    assert [labels_of(cached) for _ in range(3)] == [labels_of(read_anew) for _ in range(3)]


def test_without_a_cache_a_large_split_is_shuffled_among_some(source, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_misa.data.load_dataset"], "SHUFFLED", 2)
    in_order = labels_of(data.load_dataset("cmu_mosi", "train", **source))
    assert len(set(in_order)) == len(in_order) > 3

    def epochs():
        dataset = data.load_dataset("cmu_mosi", "train", cache=False, shuffle=True, seed=1, batch_size=2, **source)
        return [labels_of(dataset) for _ in range(4)]

    first = epochs()
    assert first == epochs()
    assert len(set(map(tuple, first))) > 1
    for epoch in first:
        assert sorted(epoch) == sorted(in_order)
        # After n of them, one of the first n + 2 comes: no more is held.
        assert all(in_order.index(label) < n + 2 for n, label in enumerate(epoch))


def test_a_cache_reads_the_files_once(tmp_path):
    folder = tmp_path / "data"
    datasets = {c: data.load_dataset("cmu_mosi", "train", cache=c, manual_dir=FOLDER, data_dir=folder) for c in (1, 0)}
    labels = [labels_of(dataset) for dataset in datasets.values()]
    assert labels[0] == labels[1]
    for file in folder.rglob("*.tfrecord*"):
        file.unlink()
    assert labels_of(datasets[1]) == labels[0]
    with pytest.raises(tf.errors.NotFoundError, match="tfrecord"):
        labels_of(datasets[0])


def test_training_without_a_cache_sees_the_same_batches(source):
    def labels(cache):
        config = make_config("cmu_mosi", cache=cache, batch_size=2, **{k: str(v) for k, v in source.items()})
        run_data = open_data(config)
        batches = run_data.training_batches(seed=3, first_epoch=1).take(3 * run_data.steps_per_epoch)
        return [labels_of(batches), *map(labels_of, run_data.batches.values())]

    assert labels(True) == labels(False)


def test_modalities_can_be_left_out(source):
    batch, _ = next(iter(data.load_dataset("cmu_mosi", "test", modalities=["acoustic"], **source)))
    assert list(batch) == ["acoustic"]
    with pytest.raises(ValueError, match=r"some of \['text', 'visual', 'acoustic'\], .*modalities=\['smell'\]"):
        data.load_dataset("cmu_mosi", "test", modalities=["smell"], **source)


def test_modalities_go_missing_at_their_rate_anew_in_each_epoch_and_never_all(source):
    def lengths(first_epoch, batches, **settings):
        settings = {"batch_size": 2, "shuffle": True, "seed": 3, "first_epoch": first_epoch, **source, **settings}
        dataset = data.load_dataset("cmu_mosi", "train", **settings).take(batches)
        return np.concatenate([np.stack([v["lengths"] for v in b.values()], 1) for b, _ in dataset.as_numpy_iterator()])

    epoch = len(data.load_dataset("cmu_mosi", "train", batch_size=2, **source))
    whole = lengths(0, 400 * epoch)
    some = lengths(0, 400 * epoch, modality_dropout=0.4)
    kept = some > 0
    np.testing.assert_array_equal(some[kept], whole[kept])
    assert kept.any(axis=1).all()
    # Each is kept with 0.6, and, where all three would go, with a third of the rest.
    np.testing.assert_allclose(kept.mean(axis=0), 0.6 + 0.4**3 / 3, atol=0.04)
    np.testing.assert_allclose(kept.all(axis=1).mean(), 0.6**3, atol=0.04)
    rows = len(whole) // 400
    assert len({kept[k * rows : (k + 1) * rows].tobytes() for k in range(400)}) > 100
    np.testing.assert_array_equal(lengths(7, 3 * epoch, modality_dropout=0.4), some[7 * rows : 10 * rows])
    assert (lengths(0, 400 * epoch, modality_dropout=0.4, seed=4) != some).any()
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"in \[0, 1\)\. Received: modality_dropout={wrong}"):
            data.load_dataset("cmu_mosi", "train", modality_dropout=wrong, **source)


@pytest.mark.parametrize("split_by", ["video:0.4,0.3,0.3", "video:2/3", "video:3/3:7"])
def test_split_by_video_is_disjoint_and_complete(source, split_by):
    seen = {}
    for split in FILES:
        examples = data.load_examples("cmu_mosi", split, split_by=split_by, **source)
        ids = [(e["video_id"], e["segment_id"]) for e in examples.as_numpy_iterator()]
        assert len(ids) == examples.cardinality()
        seen[split] = ids
    videos = [video for ids in seen.values() for video in {v for v, _ in ids}]
    assert len(videos) == len(set(videos))
    assert sum(map(len, seen.values())) == sum(len(read_reference_split(FOLDER / f)) for f in FILES.values())


def test_other_files_are_not_mistaken_for_those_prepared(tmp_path):
    manual, prepared = tmp_path / "files", tmp_path / "prepared"
    manual.mkdir()
    (manual / "dev.pkl").write_bytes((FOLDER / "dev.pkl").read_bytes())
    builder = data.prepare_dataset("cmu_mosi", prepared, manual)
    assert list(builder.info.splits) == ["validation"]
    with pytest.raises(ValueError, match=r"splits \['validation'\] only.*split-by.*Received: split='train'"):
        data.load_examples("cmu_mosi", "train", data_dir=prepared)
    (manual / "train.pkl").write_bytes((FOLDER / "train.pkl").read_bytes())
    builder = data.prepare_dataset("cmu_mosi", prepared, manual)
    assert set(builder.info.splits) == {"train", "validation"}
    assert set(data.prepare_dataset("cmu_mosi", prepared).info.splits) == {"train", "validation"}


def test_word_table_of_the_training_words(source):
    table = data.load_word_table("cmu_mosi", **source)
    words = {word for example in read_reference_split(FOLDER / "train.pkl") for word in example["words"]}
    assert set(table.words) == {"<unk>", "<pad>", *words}
    assert table.dimension == 300


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset of this name.*Received: name='cmu_mosy'"):
        data.prepare_dataset("cmu_mosy", tmp_path)
    with pytest.raises(ValueError, match=r"--manual-dir.*train.pkl.*Received: manual_dir=None"):
        data.prepare_dataset("cmu_mosi", tmp_path)
    with pytest.raises(ValueError, match="must be a folder with files in it"):
        data.prepare_dataset("cmu_mosi", tmp_path, tmp_path / "nowhere")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "foo.pkl").touch()
    data.prepare_dataset("cmu_mosi", tmp_path / "d", FOLDER)
    with pytest.raises(ValueError, match=r"none of the files that cmu_mosi is made from.*Received: \['foo.pkl'\]"):
        data.prepare_dataset("cmu_mosi", tmp_path / "d", wrong)
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        data.load_dataset("cmu_mosi", "test", batch_size=0, manual_dir=FOLDER, data_dir=tmp_path / "d")
    with pytest.raises(ValueError, match="each once"):
        data.load_dataset("cmu_mosi", "test", modalities=["text", "text"], manual_dir=FOLDER, data_dir=tmp_path / "d")
    for wrong in ("video", "speaker:0.7,0.15,0.15", "video:0.7,x,0.15", "speaker:2/5", "video:2/5/6", "video:/5"):
        with pytest.raises(ValueError, match="must look like"):
            data.load_examples("cmu_mosi", "test", split_by=wrong, manual_dir=FOLDER, data_dir=tmp_path)


def test_split_by_video_alone():
    sizes = {f"v{i}": 5 + i for i in range(20)}
    ids = [video for video, size in sizes.items() for _ in range(size)]
    assignment = data.split_by_video(ids, (0.6, 0.2, 0.2), seed=3)
    assert assignment == data.split_by_video(reversed(ids), (0.6, 0.2, 0.2), seed=3)
    assert assignment != data.split_by_video(ids, (0.6, 0.2, 0.2), seed=4)
    shares = {s: sum(sizes[v] for v, a in assignment.items() if a == s) / len(ids) for s in set(assignment.values())}
    assert shares == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.1)
    with pytest.raises(ValueError, match="Received: 2 videos"):
        data.split_by_video(["a", "b"])
    with pytest.raises(ValueError, match=r"add up to 1.*Received: fractions=\(nan"):
        data.split_by_video(ids, (float("nan"),) * 3)
    with pytest.raises(ValueError, match="Received: seed=-1"):
        data.split_by_video(ids, seed=-1)
    with pytest.raises(ValueError, match=r"add up to 1.*Received: fractions=\(0.5, 0.5, 0.5\)"):
        data.split_by_video(ids, (0.5, 0.5, 0.5))


@hypothesis.given(
    st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=3, max_size=30),
    st.data(),
    st.integers(0, 99),
)
def test_folds_test_and_validate_each_video_once(sizes, drawn, seed):
    ids = [video for video, size in sizes.items() for _ in range(size)]
    folds = drawn.draw(st.integers(3, len(sizes)))
    assignments = [data.fold_by_video(ids, fold, folds, seed) for fold in range(1, folds + 1)]
    for split in ("test", "validation"):
        parts = [{video for video, s in assignment.items() if s == split} for assignment in assignments]
        assert all(parts)
        assert sorted(video for part in parts for video in part) == sorted(sizes)
    assert assignments[1] == data.fold_by_video(ids[::-1], 2, folds, seed)
    for assignment, following in zip(assignments, assignments[1:] + assignments[:1], strict=True):
        assert assignment.keys() == sizes.keys()
        assert [v for v, s in assignment.items() if s == "validation"] == [
            v for v, s in following.items() if s == "test"
        ]
    tested = [sum(sizes[v] for v, s in assignment.items() if s == "test") for assignment in assignments]
    if set(sizes.values()) == {1}:
        assert max(tested) - min(tested) <= 1


def test_folds_that_cannot_be():
    for fold, folds in ((0, 3), (4, 3), (1, 2)):
        with pytest.raises(ValueError, match=f"Received: fold={fold}, folds={folds}"):
            data.fold_by_video(["a", "b", "c"], fold, folds)
    with pytest.raises(ValueError, match=r"4 disjoint parts.*Received: 3 videos, \['a', 'b', 'c'\]"):
        data.fold_by_video(["a", "b", "c"], 1, 4)
    assert data.fold_by_video("abc", 1, 3) != data.fold_by_video("abc", 1, 3, seed=1)
