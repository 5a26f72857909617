import json
import os
import pathlib
import shutil

import h5py
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from oracles import aligned_segment, read_sequences

from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.computational_sequences import EMOTIONS, ComputationalSequences
from keras_misa.datasets.cmu_mosi.sequence_generator import FILES, write_sequences

FOLDS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_examples_are_those_of_the_plain_loop(folder):
    splits, report = read(open_source(folder))
    received = {example["segment_id"]: example for examples in splits.values() for example in examples}
    sequences = read_sequences(folder, "cmu_mosi")
    dropped = set()
    for video in "abcd":
        for number in range(6):
            segment_id = f"{video}[{number}]"
            expected = aligned_segment(sequences, video, number)
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


def lose(name):
    """Empties the index of the parts of each dataset: HDF5 then gives zeros and says nothing."""

    def apply(folder):
        path = folder / f"{name}.csd"
        path.write_bytes(path.read_bytes().replace(b"TREE\x01\x00\x01\x00", b"TREE\x01\x00\x00\x00"))

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
    "labels that cannot be found": (lose(LABELS), ValueError, "Opinion_Labels.csd"),
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of small files, and its examples by id."""
    folder = tmp_path_factory.mktemp("whole")
    write_sequences(
        folder, "abcd", seconds=4.0, segments=3, visual_dim=3, acoustic_dim=4, visual_rate=9, acoustic_rate=9
    )
    return folder, {e["segment_id"]: e for examples in read(open_source(folder))[0].values() for e in examples}


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    name=st.sampled_from([WORDS, VISUAL, ACOUSTIC, LABELS]),
    at=st.integers(0, 2**16),
    noise=st.just(None) | st.binary(min_size=1, max_size=16),
)
def test_damaged_bytes_are_an_error_that_names_the_file_or_change_no_utterance(
    name, at, noise, whole, tmp_path_factory
):
    folder, expected = shutil.copytree(whole[0], tmp_path_factory.mktemp("damaged"), dirs_exist_ok=True), whole[1]
    path = folder / f"{name}.csd"
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + (noise + content[at + len(noise) :] if noise else b""))
    try:
        splits, report = read(open_source(folder))
    except (FileNotFoundError, ValueError) as error:
        assert path.name in str(error)  # noqa: PT017
        return
    received = {example["segment_id"]: example for examples in splits.values() for example in examples}
    lost = expected.keys() - received.keys() - {row["segment_id"] for row in report.dropped}
    assert not lost or any("without a label" in note for note in report.notes)
    for segment_id, example in received.items():
        for key, value in expected[segment_id].items():
            np.testing.assert_array_equal(example[key], value)


def test_several_processes_give_the_same_to_the_last_bit(folder):
    edit(LABELS, lambda _, d: d["c"]["features"].__setitem__((1, 0), np.nan))(folder)
    edit(WORDS, lambda _, d: d["b"]["features"].__setitem__(slice(0, 20), b"sp"))(folder)
    splits, report = read(open_source(folder))
    source = open_source(folder)
    source.num_workers = 2
    others, other_report = read(source)
    assert others.keys() == splits.keys()
    for split, examples in splits.items():
        for example, other in zip(examples, others[split], strict=True):
            assert list(other) == list(example)
            for name, value in example.items():
                assert np.asarray(other[name]).dtype == np.asarray(value).dtype
                assert np.asarray(other[name]).tobytes() == np.asarray(value).tobytes()
    assert report.dropped
    assert other_report.dropped == report.dropped
    assert other_report.notes == report.notes
    assert other_report.as_dict() == report.as_dict()


@pytest.mark.parametrize("damage", ["another width in one video", "an interval that is NaN", "fewer intervals"])
def test_several_processes_give_the_same_errors(damage, folder):
    BAD[damage][0](folder)
    messages = []
    for num_workers in (1, 2):
        source = open_source(folder)
        source.num_workers = num_workers
        with pytest.raises(ValueError, match=folder.name) as error:
            read(source)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


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
