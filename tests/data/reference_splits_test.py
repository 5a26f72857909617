import os
import pathlib
import pickle
import tracemalloc

import numpy as np
import pytest

from keras_misa.data.sources.reference_splits import read_reference_split


def make_row(length=3, visual=5, acoustic=7, label=0.5, segment_id="video[7]"):
    rng = np.random.default_rng(length)
    return (
        (
            rng.integers(2, 9, length),
            rng.normal(size=(length, visual)).astype(np.float32),
            rng.normal(size=(length, acoustic)).astype(np.float32),
            [f"word{i}" for i in range(length)],
        ),
        np.array([[label]], np.float32),
        segment_id,
    )


@pytest.fixture
def write(tmp_path):
    def write(rows, name="train.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(rows, 4))
        return path

    return write


def test_examples_are_the_rows(write):
    rows = [make_row(3, label=-1.75), make_row(1, segment_id="a_b-[c]d[12]"), make_row(2, segment_id="video[8]")]
    examples = read_reference_split(write(rows))
    assert [example["segment_id"] for example in examples] == ["video[7]", "a_b-[c]d[12]", "video[8]"]
    assert [example["video_id"] for example in examples] == ["video", "a_b-[c]d", "video"]
    for example, ((_, visual, acoustic, words), label, _) in zip(examples, rows, strict=True):
        assert list(example) == ["segment_id", "video_id", "words", "visual", "acoustic", "label"]
        assert example["words"] == words
        assert example["label"] == label.item()
        for name, expected in {"visual": visual, "acoustic": acoustic}.items():
            assert type(example[name]) is np.ndarray
            assert example[name].dtype == np.float32
            np.testing.assert_array_equal(example[name], expected)
            example[name][:] = 0  # It belongs to nobody else.


def test_rows_are_in_memory_once(write):
    path = write([make_row(100, visual=50, acoustic=70, segment_id=f"video[{number}]") for number in range(100)])
    tracemalloc.start()
    read_reference_split(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * path.stat().st_size


def test_double_precision_is_cast(write):
    (ids, visual, acoustic, words), label, segment_id = make_row()
    wide = visual.astype(np.float64) + 1e-12
    (example,) = read_reference_split(write([((ids, wide, acoustic, words), label, segment_id)]))
    assert example["visual"].dtype == np.float32
    np.testing.assert_array_equal(example["visual"], wide.astype(np.float32))


def test_sizes_can_be_given(write):
    path = write([make_row()])
    assert len(read_reference_split(path, visual_dim=5, acoustic_dim=7)) == 1
    with pytest.raises(ValueError, match=r"row 0 .*`visual` as floats of shape \(3, 47\). Received: .*\(3, 5\)"):
        read_reference_split(path, visual_dim=47)
    with pytest.raises(ValueError, match=r"row 0 .*`acoustic` as floats of shape \(3, 74\). Received: .*\(3, 7\)"):
        read_reference_split(path, acoustic_dim=74)


def test_rows_without_an_id_as_in_ur_funny(write):
    rows = [(make_row(2)[0], 1), (make_row(3)[0], np.int64(0)), (make_row(1)[0], np.ones((1, 1), "f4"))]
    examples = read_reference_split(write(rows, "dev.pkl"))
    assert [(e["segment_id"], e["video_id"], e["label"]) for e in examples] == [
        (f"dev[{row}]", f"dev[{row}]", label) for row, label in enumerate([1.0, 0.0, 1.0])
    ]
    assert [len(e["words"]) for e in examples] == [2, 3, 1]
    with pytest.raises(ValueError, match=r"row 1 .*label\)`. Received: a tuple of 3"):
        read_reference_split(write([rows[0], make_row()]))


def changed(index, value):
    """A row in which `(word_ids, visual, acoustic, words)[index]` is `value`."""
    parts, label, segment_id = make_row()
    return ((*parts[:index], value, *parts[index + 1 :]), label, segment_id)


def with_number(number, name="visual"):
    row = make_row()
    row[0][{"visual": 1, "acoustic": 2}[name]][1, 2] = number
    return row


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            make_row()[:2],
            r"words\), label, segment_id\)`. Received: a tuple of 2 \(tuple, array\)",
        ),
        ((make_row()[0], 1), r"Received: a tuple of 2 \(tuple, int\)"),  # UR-FUNNY's, among MOSI's.
        ((make_row()[0][:3], *make_row()[1:]), r"Received: a tuple of 3 \(tuple, array, str\)"),
        ({"text": []}, "Received: .* of type dict"),
        (make_row(segment_id="video_7"), r"a segment id like 'video\[7\]'. Received: 'video_7' of type str"),
        (make_row(segment_id="[7]"), "a segment id"),
        (make_row(segment_id=7), "Received: 7 of type int"),
        (make_row(segment_id="first[0]"), r"no earlier row has. Received: 'first\[0\]'"),
        (make_row(0), r"a list of one word or more. Received: a list of 0"),
        (changed(3, "one"), "a list of one word or more. Received: 'one' of type str"),
        (changed(3, ["a", 5, "c"]), r"one word or more. Received: a list of 3 \(str, int, str\)"),
        (changed(3, ["a", "b"]), r"2 word ids, as there are 2 words. Received: an array of shape \(3,\)"),
        (changed(0, np.zeros(3)), "3 word ids.* dtype float64"),
        (changed(0, [1, 2, 3]), "3 word ids.* Received: a list of"),
        (changed(1, np.zeros((2, 5), "f4")), r"`visual` as floats of shape \(3, 5\). Received: .* \(2, 5\)"),
        (changed(1, np.zeros((3, 6), "f4")), r"`visual` as floats of shape \(3, 5\). Received: .* \(3, 6\)"),
        (changed(2, np.zeros((4, 7), "f4")), r"`acoustic` as floats of shape \(3, 7\). Received: .* \(4, 7\)"),
        (changed(2, np.zeros(3, "f4")), r"`acoustic`.* Received: an array of shape \(3,\)"),
        (changed(1, np.zeros((3, 5), "i4")), "`visual`.* Received: .* dtype int32"),
        (changed(1, np.zeros((3, 5), object)), "`visual`.* Received: .* dtype object"),
        (changed(1, [[0.0] * 5] * 3), "`visual`.* Received: a list of"),
        (with_number(np.nan), "finite numbers in `visual`. Received: 1 that are not, the first nan"),
        (with_number(-np.inf, "acoustic"), "finite numbers in `acoustic`. Received: 1 that are not, the first -inf"),
        (make_row(label=np.nan), "finite numbers in `label`"),
        ((*make_row()[:1], 0.5, "video[7]"), r"`label` as floats of shape \(1, 1\). Received: 0.5 of type float"),
        ((*make_row()[:1], np.zeros(1, "f4"), "video[7]"), r"Received: an array of shape \(1,\)"),
        ((*make_row()[:1], np.zeros((1, 6), "f4"), "video[7]"), r"Received: an array of shape \(1, 6\)"),
    ],
)
def test_wrong_rows(row, message, write):
    path = write([make_row(segment_id="first[0]"), row, make_row(segment_id="last[0]")])
    with pytest.raises(ValueError, match=message) as error:
        read_reference_split(path)
    assert str(error.value).startswith(f"`{path}`, row 1 (of 3, counted from 0): expected ")


@pytest.mark.parametrize("rows", [[], {}, (make_row(),), {"train": [make_row()]}, np.zeros(3)])
def test_files_of_something_else(rows, write):
    with pytest.raises(ValueError, match=r"train\.pkl` must hold a list of rows. Received: "):
        read_reference_split(write(rows))


def test_programs_and_missing_files(tmp_path):
    path = tmp_path / "dev.pkl"
    with pytest.raises(FileNotFoundError):
        read_reference_split(path)
    path.write_bytes(b"cos\nmkdir\n(X\x06\x00\x00\x00canarytR.")
    with pytest.raises(ValueError, match=r"dev\.pkl`: it asks for `os\.mkdir`"):
        read_reference_split(path)


def test_the_authors_split():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    path = pathlib.Path(folder) / "data/cmu_mosi/reference_splits/dev.pkl"
    examples = read_reference_split(path, visual_dim=47, acoustic_dim=74)
    lengths = [len(example["words"]) for example in examples]
    assert len(examples) == 229
    assert len({example["video_id"] for example in examples}) == 10
    assert (min(lengths), max(lengths)) == (2, 44)
    for example, ((_, visual, acoustic, words), label, segment_id) in zip(
        examples, pickle.loads(path.read_bytes()), strict=True
    ):
        assert example["segment_id"] == segment_id
        assert example["words"] == words
        assert example["label"] == label.item()
        np.testing.assert_array_equal(example["visual"], visual)
        np.testing.assert_array_equal(example["acoustic"], acoustic)
