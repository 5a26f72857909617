import json
import os
import pathlib
import shutil

import h5py
import numpy as np
import pytest

from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.computational_sequences import EMOTIONS, ComputationalSequences
from keras_misa.datasets.cmu_mosi.sequence_generator import FILES, write_sequences

FOLDS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
EPSILON = 1e-5


@pytest.fixture
def folder(tmp_path):
    write_sequences(tmp_path, "abcd", seconds=12.0, segments=6, visual_dim=3, acoustic_dim=4, damage=0.1)
    return tmp_path


def open_source(folder, folds=FOLDS, **kwargs):
    return ComputationalSequences(folder, folds, **{"visual_dim": 3, "acoustic_dim": 4, **kwargs})


def read(source):
    """Split → examples, and the report."""
    report = BuildReport()
    return {split: list(source.examples(split, report)) for split in source.splits}, report


def slow_example(sequences, video, number):
    """The published pipeline for one segment, frame by frame: `None` if it drops the segment."""
    start, end = sequences["labels"][video][1][number]
    words, times = sequences["words"][video]
    aligned = {"words": [], "visual": [], "acoustic": []}
    for word, (begin, stop) in zip(words[:, 0], times, strict=True):
        if abs(stop - begin) < EPSILON:
            continue
        entries = {"words": (word.decode(), begin, stop)}
        for modality in ("visual", "acoustic"):
            frames = [
                (values, max(left, begin), min(right, stop))
                for values, (left, right) in zip(*sequences[modality][video], strict=True)
                if min(right, stop) - max(left, begin) > EPSILON
            ]
            if frames:
                values, lefts, rights = zip(*frames, strict=True)
                entries[modality] = np.mean(np.array(values), axis=0), min(lefts), max(rights)
        for modality, (value, left, right) in entries.items():
            if min(right, end) - max(left, start) > EPSILON:
                aligned[modality].append(value)
    if len({len(values) for values in aligned.values()}) > 1:
        return None
    spoken = [index for index, word in enumerate(aligned["words"]) if word != "sp"]
    if not spoken:
        return None
    example = {"words": [aligned["words"][index] for index in spoken]}
    for modality in ("visual", "acoustic"):
        with np.errstate(all="ignore"):
            values = np.nan_to_num(np.array([aligned[modality][index] for index in spoken]))
            values = (values - values.mean(0, keepdims=True)) / (1e-6 + np.std(values, axis=0, keepdims=True))
        example[modality] = np.nan_to_num(values)
    return example


def read_raw(folder):
    sequences = {}
    for role, (name, root) in FILES["cmu_mosi"].items():
        with h5py.File(folder / f"{name}.csd") as file:
            data = file[root]["data"]
            sequences[role] = {v: (data[v]["features"][()], data[v]["intervals"][()]) for v in data}
    return sequences


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_examples_are_those_of_the_plain_loop(folder):
    splits, report = read(open_source(folder))
    received = {example["segment_id"]: example for examples in splits.values() for example in examples}
    sequences = read_raw(folder)
    dropped = set()
    for video in "abcd":
        for number in range(6):
            segment_id = f"{video}[{number}]"
            expected = slow_example(sequences, video, number)
            if expected is None:
                dropped.add(segment_id)
                continue
            example = received.pop(segment_id)
            assert example["words"] == expected["words"]
            for modality in ("visual", "acoustic"):
                assert example[modality].dtype == np.float32
                np.testing.assert_allclose(example[modality], expected[modality], atol=1e-6)
            assert example["label"] == sequences["labels"][video][0][number, 0]
            assert example["video_id"] == video
    assert not received
    assert {row["segment_id"] for row in report.dropped} == dropped
    looked = report.as_dict()["modalities"]
    assert looked["visual"]["nan"] > 0
    assert looked["acoustic"]["inf"] > 0


def test_the_splits_are_the_folds(folder):
    splits, _ = read(open_source(folder))
    videos = {split: {example["video_id"] for example in examples} for split, examples in splits.items()}
    assert videos == {"train": {"a", "b"}, "validation": {"c"}, "test": {"d"}}
    assert open_source(folder, {"train": ["a"], "validation": ["x"], "test": ["b"]}).splits == ("train", "test")


def test_videos_that_no_split_takes_are_counted(folder):
    write_sequences(folder, "e", seconds=1.0, segments=2, visual_dim=3, acoustic_dim=4)  # The files now hold e alone.
    os.rename(folder / "CMU_MOSI_Opinion_Labels.csd", folder / "e.csd")
    write_sequences(folder, "abcd", seconds=12.0, segments=6, visual_dim=3, acoustic_dim=4)
    with h5py.File(folder / "e.csd") as other, h5py.File(folder / "CMU_MOSI_Opinion_Labels.csd", "a") as labels:
        data = labels["Opinion Segment Labels/data"]
        other.copy("Opinion Segment Labels/data/e", data)
        del data["d"]
    os.remove(folder / "e.csd")
    with h5py.File(folder / "CMU_MOSI_COVAREP.csd", "a") as acoustic:
        del acoustic["COVAREP/data/b"]
    _, report = read(open_source(folder))
    reasons = {(row["segment_id"], row["reason"]): row["detail"] for row in report.dropped}
    for number in range(2):
        assert (f"e[{number}]", "video in no standard fold") in reasons
    for number in range(6):
        assert reasons[f"b[{number}]", "video missing in a file"] == "CMU_MOSI_COVAREP.csd"
    assert any("1 video(s) without a label, such as d" in note for note in report.notes)


def test_the_emotions_are_the_columns_after_the_sentiment(tmp_path):
    paths = write_sequences(tmp_path, "ab", "cmu_mosei", 5.0, 3, 35, 74, label_columns=7)
    source = open_source(tmp_path, visual_dim=35, acoustic_dim=74, emotions=True)
    (examples, *_), _ = read(source)[0].values(), None
    with h5py.File(paths["labels"]) as file:
        labels = {video: file["All Labels/data"][video]["features"][()] for video in "ab"}
    assert examples
    for example in examples:
        video, number = example["segment_id"][:-1].split("[")
        assert example["label"] == labels[video][int(number), 0]
        np.testing.assert_array_equal(example["emotions"], labels[video][int(number), 1:].astype("f4"))
        assert example["emotions"].shape == (len(EMOTIONS),)
    assert ComputationalSequences.label_columns_of(tmp_path) == 7
    sentiment_only = read(open_source(tmp_path, visual_dim=35, acoustic_dim=74))[0]["train"]
    assert "emotions" not in sentiment_only[0]


def test_files_are_known_by_what_is_in_them(folder):
    for number, path in enumerate(sorted(folder.glob("*.csd"))):
        path.rename(folder / f"download ({number}).csd")
    assert sum(map(len, read(open_source(folder))[0].values())) > 0


@pytest.mark.parametrize(
    ("role", "root"),
    [
        ("visual", "CMU_MOSI_VisualFacet_4.1"),
        ("visual", "Visual Facet 42"),
        ("labels", "CMU_MOSEI_LabelsSentiment"),
        ("labels", "All Labels"),
        ("words", "CMU_MOSEI_TimestampedWords"),
        ("acoustic", "CMU_MOSI_COVAREP"),
    ],
)
def test_old_and_new_names_of_roots(role, root, folder):
    name, old = FILES["cmu_mosi"][role]
    with h5py.File(folder / f"{name}.csd", "a") as file:
        file.move(old, root)
    assert ComputationalSequences.find(folder)[role].name == f"{name}.csd"


def test_a_file_of_unknown_name_is_known_by_its_width(tmp_path):
    write_sequences(tmp_path, "ab", seconds=2.0, segments=1)
    for name, root in (FILES["cmu_mosi"][role] for role in ("visual", "acoustic")):
        with h5py.File(tmp_path / f"{name}.csd", "a") as file:
            file.move(root, "features")
    found = ComputationalSequences.find(tmp_path)
    assert {role: path.name for role, path in found.items() if role in ("visual", "acoustic")} == {
        "visual": "CMU_MOSI_Visual_Facet_41.csd",
        "acoustic": "CMU_MOSI_COVAREP.csd",
    }


def edit(name, change):
    """Change of a file of the folder, `change(file, its data)`."""

    def apply(folder):
        with h5py.File(folder / f"{name}.csd", "a") as file:
            change(file, file[next(iter(file))]["data"])

    return apply


def replace(group, name, values, **kwargs):
    del group[name]
    group.create_dataset(name, data=values, **kwargs)


def cut(name, share):
    def apply(folder):
        path = folder / f"{name}.csd"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return apply


def remove(name):
    return lambda folder: (folder / f"{name}.csd").unlink()


def outside(group, folder):
    """Makes the features of a video a link into another file."""
    del group["a"]
    group["a"] = h5py.ExternalLink("secret.h5", "/a")


WORDS, VISUAL, ACOUSTIC, LABELS = (FILES["cmu_mosi"][role][0] for role in ("words", "visual", "acoustic", "labels"))
BAD = {
    "no acoustic file": (
        remove(ACOUSTIC),
        FileNotFoundError,
        r"Missing: acoustic. Received: .*Facet_41.csd': 'visual'",
    ),
    "no HDF5": (
        lambda f: (f / f"{WORDS}.csd").write_bytes(b"words"),
        ValueError,
        "is not an HDF5 file.*Received: 5 bytes",
    ),
    "an empty file": (
        lambda f: (f / f"{WORDS}.csd").write_bytes(b""),
        ValueError,
        "is not an HDF5 file.*Received: 0 bytes",
    ),
    "a pickle": (lambda f: (f / f"{LABELS}.csd").write_bytes(b"\x80\x04."), ValueError, "is not an HDF5 file"),
    **{
        f"cut off at {s}": (cut(ACOUSTIC, s), ValueError, "COVAREP.csd.*(cut off|damaged)")
        for s in (0.02, 0.3, 0.7, 0.99)
    },
    "two of a kind": (
        lambda f: shutil.copy(f / f"{VISUAL}.csd", f / "copy.csd"),
        ValueError,
        r"more than one file of visual.*Received: \['CMU_MOSI_Visual_Facet_41.csd', 'copy.csd'\]",
    ),
    "another width": (
        edit(VISUAL, lambda _, d: [replace(d[v], "features", np.zeros((9, 5), "f4")) for v in d]),
        ValueError,
        "Facet_41.csd`: expected 3 columns for visual. Received: 5",
    ),
    "another width in one video": (
        edit(VISUAL, lambda _, d: replace(d["c"], "features", np.zeros((9, 5), "f4"))),
        ValueError,
        r"video c: expected features \(n, 3\) .*Received: float32 \(9, 5\)",
    ),
    "fewer intervals": (
        edit(ACOUSTIC, lambda _, d: replace(d["b"], "intervals", np.zeros((7, 2)))),
        ValueError,
        r"COVAREP.csd`, video b: expected .*of as many rows. Received: .* and \(7, 2\)",
    ),
    "an interval that is NaN": (
        edit(WORDS, lambda _, d: d["a"]["intervals"].__setitem__((3, 1), np.nan)),
        ValueError,
        r"TimestampedWords.csd`, video a, row 3: expected a finite interval. Received: \[.*nan\]",
    ),
    "no features": (
        edit(LABELS, lambda _, d: d["a"].__delitem__("features")),
        ValueError,
        r"data/a lacks features. Received: \['intervals'\]",
    ),
    "no data": (
        edit(LABELS, lambda f, _: f["Opinion Segment Labels"].__delitem__("data")),
        ValueError,
        "lacks data",
    ),
    "two roots": (edit(LABELS, lambda f, _: f.create_group("more")), ValueError, "one root group. Received: .*'more'"),
    "no videos": (edit(LABELS, lambda _, d: [d.__delitem__(v) for v in "abcd"]), ValueError, "at least one video"),
    "a video that is no group": (
        edit(LABELS, lambda _, d: (d.__delitem__("a"), d.create_dataset("a", data=[1.0]))),
        ValueError,
        "expected a Group .*/data/a. Received: a Dataset",
    ),
    "a cube": (
        edit(LABELS, lambda _, d: replace(d["a"], "features", np.zeros((2, 1, 1)))),
        ValueError,
        r"video a, features: expected a matrix. Received: float64 of shape \(2, 1, 1\)",
    ),
    "a link into another file": (
        edit(VISUAL, lambda _, d: outside(d, None)),
        ValueError,
        "expected a Group .*data/a. Received: a ExternalLink",
    ),
    "a soft link": (
        edit(VISUAL, lambda _, d: (d.__delitem__("a"), d.__setitem__("a", h5py.SoftLink("/FACET_4.1/data/b")))),
        ValueError,
        "Received: a SoftLink",
    ),
    "numbers from another file": (
        edit(
            VISUAL,
            lambda _, d: (
                d["a"].__delitem__("features"),
                d["a"].create_dataset("features", (9, 3), "f4", external=[("/etc/hostname", 0, 4 * 27)]),
            ),
        ),
        ValueError,
        "expected data in this file. Received: data that lies in other files",
    ),
    "a promise of terabytes": (
        edit(
            ACOUSTIC,
            lambda _, d: (
                d["a"].__delitem__("features"),
                d["a"].create_dataset("features", (10**10, 4), "f4", chunks=(1000, 4)),
            ),
        ),
        ValueError,
        r"video a, features: expected 160000000000 bytes.*Received: 0 bytes in the file",
    ),
    "labels of words": (
        edit(LABELS, lambda _, d: replace(d["a"], "features", np.array([[b"good"]] * 6))),
        ValueError,
        "columns for labels. Received: 1 of text",
    ),
    "words in one video's labels": (
        edit(LABELS, lambda _, d: replace(d["c"], "features", np.array([[b"good"]] * 6))),
        ValueError,
        "video c: expected features .* of numbers .*Received: .S4 ",
    ),
    "videos of another dataset": (
        lambda f: write_sequences(f, "xy", seconds=2.0, segments=1, visual_dim=3, acoustic_dim=4),
        ValueError,
        r"none of its 2 videos is in the dataset's standard folds. Received: \['x', 'y'\]",
    ),
}


@pytest.mark.parametrize("damage", BAD)
def test_damaged_files_are_named(damage, folder):
    change, kind, message = BAD[damage]
    change(folder)
    with pytest.raises(kind, match=f"(?s){message}"):
        read(open_source(folder))


def test_labels_that_are_no_numbers_are_told(folder):
    edit(LABELS, lambda _, d: d["c"]["features"].__setitem__((1, 0), np.nan))(folder)
    splits, report = read(open_source(folder))
    assert next(e for e in splits["validation"] if e["segment_id"] == "c[1]")["label"] == 0.0
    assert any("count as 0" in note for note in report.notes)
    assert any("c[1]: label [nan]" in note for note in report.notes)


def test_a_segment_of_pauses_only_is_counted(folder):
    edit(WORDS, lambda _, d: replace(d["d"], "features", np.full(d["d"]["features"].shape, b"sp")))(folder)
    with pytest.raises(KeyError):
        read(open_source(folder))[0]["no such split"]
    _, report = read(open_source(folder))
    reasons = {
        row["segment_id"]: (row["reason"], row["detail"]) for row in report.dropped if row["segment_id"][0] == "d"
    }
    assert len(reasons) == 6
    assert ("empty", "pauses only") in reasons.values()


def test_the_published_pipelines_features():
    data = os.environ.get("KERAS_MISA_TEST_DATA")
    if not data:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    data = pathlib.Path(data, "data")
    folds = json.loads((data / "standard_folds.json").read_text())["cmu_mosi"]
    folder = data / "cmu_mosi/csd_sample"
    splits, report = read(ComputationalSequences(folder, folds, visual_dim=47, acoustic_dim=74))
    received = {e["segment_id"]: (split, e) for split, examples in splits.items() for e in examples}
    with np.load(folder / "expected.npz") as expected:
        names = {key.rpartition("/")[0] for key in expected.files}
        assert set(received) == names
        for name, (split, example) in received.items():
            assert split == expected[f"{name}/split"]
            assert example["words"] == expected[f"{name}/words"].tolist()
            assert example["label"] == expected[f"{name}/label"]
            for modality in ("visual", "acoustic"):
                np.testing.assert_allclose(example[modality], expected[f"{name}/{modality}"], rtol=0, atol=1e-6)
    assert report.as_dict()["dropped"] == {"lengths differ": 5}
