import contextlib
import csv
import io
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.utterance_folder import UtteranceFolder

DATASET = pathlib.Path(__file__).parents[2] / "datasets/utterance_folder"
HEADER = ("segment_id", "video_id", "split", "text", "label")
ROWS = [
    ("a[0]", "a", "train", "good movie", "1.5"),
    ("a[1]", "a", "train", "it was, well, long", "-2"),
    ("b[0]", "b", "dev", "fine", "0.25"),
    ("c[0]", "c", "test", "so so", "0"),
]
IDS = [row[0] for row in ROWS]


def write_table(folder, rows=ROWS, header=HEADER, name="utterances.csv", encoding="utf-8", **options):
    text = io.StringIO()
    csv.writer(text, **options).writerows([header, *rows])
    (folder / name).write_bytes(text.getvalue().encode(encoding))


def make_arrays(width, ids=IDS):
    """Arrays with 1, 2, 3 ... steps, each number another."""
    rng = np.random.default_rng(width)
    return {name: rng.normal(size=(steps, width)).astype(np.float32) for steps, name in enumerate(ids, start=1)}


def write_arrays(folder, modality, arrays):
    (folder / modality).mkdir()
    for name, array in arrays.items():
        np.save(folder / modality / f"{name}.npy", array)


def read(folder, **options):
    """Split → examples, and the report."""
    source, report = UtteranceFolder(folder, **options), BuildReport()
    return {split: list(source.examples(split, report)) for split in source.splits}, report


def read_labels(folder, labels, header=("id", "text", "label"), **options):
    rows = [
        (f"s{number}", "word", *([label] if isinstance(label, str) else label)) for number, label in enumerate(labels)
    ]
    write_table(folder, rows, header)
    splits, report = read(folder, **options)
    return [example["label"] for example in splits["train"]], report


def test_a_column_class_makes_classes_of_numbers(tmp_path):
    (tmp_path / "utterances.csv").write_text("segment_id,class,text\na,1,x\nb,0,y\nc,10,z\n")
    source = UtteranceFolder(tmp_path)
    assert source.class_names == ("0", "1", "10")
    assert [example["label"] for example in source.examples("train", BuildReport())] == [1, 0, 2]


def test_examples_are_what_was_written(tmp_path):
    arrays = {"visual": make_arrays(3), "hands": make_arrays(2), "acoustic": make_arrays(5)}
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", arrays["visual"])
    write_arrays(tmp_path, "hands", arrays["hands"])
    np.savez_compressed(tmp_path / "acoustic.npz", **arrays["acoustic"])

    source = UtteranceFolder(str(tmp_path))
    assert source.folder == tmp_path
    assert source.splits == ("train", "validation", "test")
    assert list(source.dims.items()) == [("acoustic", 5), ("hands", 2), ("visual", 3)]
    assert source.has_words
    assert (source.label_kind, source.class_names, source.label_names) == ("score", None, None)
    paths = {"utterances": "utterances.csv", "visual": "visual", "hands": "hands", "acoustic": "acoustic.npz"}
    assert source.files == UtteranceFolder.find(tmp_path) == {name: tmp_path / path for name, path in paths.items()}

    report = BuildReport()
    examples = [example for split in source.splits for example in source.examples(split, report)]
    for example, (segment_id, video_id, _, text, label) in zip(examples, ROWS, strict=True):
        assert list(example) == ["segment_id", "video_id", "words", "acoustic", "hands", "visual", "label"]
        assert (example["segment_id"], example["video_id"], example["words"]) == (segment_id, video_id, text.split())
        assert example["label"] == float(label)
        for modality, expected in arrays.items():
            assert example[modality].dtype == np.float32
            np.testing.assert_array_equal(example[modality], expected[segment_id])
    assert report.notes == report.dropped == []
    assert report.as_dict()["modalities"]["hands"]["values"] == (1 + 2 + 3 + 4) * 2


def test_text_alone_and_features_alone(tmp_path):
    write_table(tmp_path)
    source = UtteranceFolder(tmp_path)
    assert (source.dims, source.has_words) == ({}, True)
    assert list(next(source.examples("train", BuildReport()))) == ["segment_id", "video_id", "words", "label"]

    write_table(tmp_path, [(name, label) for name, *_, label in ROWS], ("segment_id", "label"))
    with pytest.raises(ValueError, match=r"must hold a modality: .*`visual/a\[0\]\.npy`\. Received: 'utterances.csv'"):
        UtteranceFolder(tmp_path)
    write_arrays(tmp_path, "visual", make_arrays(3))
    source, report = UtteranceFolder(tmp_path), BuildReport()
    assert (source.dims, source.has_words, source.splits) == ({"visual": 3}, False, ("train",))
    assert list(next(source.examples("train", report))) == ["segment_id", "video_id", "visual", "label"]
    assert [note.partition(":")[0] for note in report.notes] == [
        "utterances.csv has no column `split`",
        "utterances.csv has no column `video_id`",
    ]


def test_an_empty_column_of_texts_is_none(tmp_path):
    write_table(tmp_path, [("a", " ", "1"), ("b", "", "2")], ("segment_id", "text", "label"))
    write_arrays(tmp_path, "visual", make_arrays(3, ["a", "b"]))
    splits, report = read(tmp_path)
    assert [list(example) for example in splits["train"]] == [["segment_id", "video_id", "visual", "label"]] * 2
    assert "utterances.csv: the column of texts is empty and is not read." in report.notes


def test_text_as_vectors_beside_the_words(tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, "text", make_arrays(4))
    source = UtteranceFolder(tmp_path)
    assert (source.dims, source.has_words) == ({"text": 4}, True)
    example = next(source.examples("train", BuildReport()))
    assert example["words"] == ["good", "movie"]
    np.testing.assert_array_equal(example["text"], make_arrays(4)["a[0]"])


def test_synonyms_other_columns_and_the_name_of_the_table(tmp_path):
    header = ("", " Video_ID", "clip_id", "Transcript", "label", "label_T", "MODE")
    rows = [("0", "v-_1", "82_7", "a b", "1", "", "Train"), ("1", "v-_1", "9", "c", "2", "", "VALID ")]
    write_table(tmp_path, rows, header, name="label.csv")
    splits, report = read(tmp_path)
    assert {split: [(e["segment_id"], e["video_id"]) for e in examples] for split, examples in splits.items()} == {
        "train": [("v-_1[82_7]", "v-_1")],
        "validation": [("v-_1[9]", "v-_1")],
    }
    assert report.notes == ["label.csv: columns that are not read: '(no name)', 'label_T'."]


@pytest.mark.parametrize(
    ("synonym", "split"),
    [("dev", "validation"), ("val", "validation"), ("validation", "validation"), ("testing", "test")],
)
def test_synonyms_of_splits(synonym, split, tmp_path):
    write_table(tmp_path, [("a", "", synonym, "text", "1")])
    assert UtteranceFolder(tmp_path).splits == (split,)


def test_a_segment_id_goes_before_its_synonyms(tmp_path):
    write_table(
        tmp_path, [("x", "a", "v", "7", "1", "hm")], ("id", "segment_id", "video_id", "clip_id", "label", "text")
    )
    splits, report = read(tmp_path)
    assert [(e["segment_id"], e["video_id"]) for e in splits["train"]] == [("a", "v")]
    assert report.notes[0] == "utterances.csv: columns that are not read: 'id', 'clip_id'."


def test_an_utterance_without_a_video_is_its_own(tmp_path):
    write_table(tmp_path, [("a", "v", "train", "word", "1"), ("b", "", "train", "word", "1")])
    splits, _ = read(tmp_path)
    assert [(e["segment_id"], e["video_id"]) for e in splits["train"]] == [("a", "v"), ("b", "b")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("lineterminator", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_dialects(encoding, delimiter, lineterminator, quoting, tmp_path):
    rows = [("é[0]", "é", "train", 'she said: "a;b,\tc\nd"', "1.5"), ("é[1]", "é", "test", "f", "2")]
    options = {"delimiter": delimiter, "lineterminator": lineterminator, "quoting": quoting}
    write_table(tmp_path, rows, encoding=encoding, **options)
    splits, _ = read(tmp_path)
    (first,), (second,) = splits["train"], splits["test"]
    assert (first["segment_id"], first["label"]) == ("é[0]", 1.5)
    assert first["words"] == ["she", "said:", '"a;b,', "c", 'd"']
    assert (second["segment_id"], second["words"]) == ("é[1]", ["f"])


def test_spaces_after_commas_and_blank_lines(tmp_path):
    text = '\nsegment_id, text, label\n\na, "yes, well", 1\n , ,\n\nb, no, 2\n\n'
    (tmp_path / "utterances.csv").write_text(text, encoding="utf-8")
    splits, _ = read(tmp_path)
    assert [(e["segment_id"], e["words"], e["label"]) for e in splits["train"]] == [
        ("a", ["yes,", "well"], 1.0),
        ("b", ["no"], 2.0),
    ]


names = (
    st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), max_size=20)
    .map(str.strip)
    .filter(lambda name: name and not name.startswith("."))
)
labels = st.floats(width=32, allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@hypothesis.given(
    ids=st.lists(names, min_size=1, max_size=6, unique=True),
    data=st.data(),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
)
def test_any_table(ids, data, delimiter, quoting, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    columns = data.draw(st.permutations(["segment_id", "text", "label", "split", "remark"]))
    rows = [
        {
            "segment_id": name,
            "text": "first " + data.draw(texts),
            "label": data.draw(labels),
            "split": data.draw(st.sampled_from(["train", "dev", "test"])),
            "remark": data.draw(texts),
        }
        for name in ids
    ]
    cells = [[row[column] for column in columns] for row in rows]
    write_table(folder, cells, columns, delimiter=delimiter, quoting=quoting, lineterminator="\r\n")
    splits, _ = read(folder)
    expected = {"train": [], "validation": [], "test": []}
    for row in rows:
        split = {"dev": "validation"}.get(row["split"], row["split"])
        expected[split].append((row["segment_id"], row["segment_id"], row["text"].split(), row["label"]))
    assert {
        split: [(e["segment_id"], e["video_id"], e["words"], e["label"]) for e in examples]
        for split, examples in splits.items()
    } == {split: examples for split, examples in expected.items() if examples}


@hypothesis.given(
    array=hypothesis.extra.numpy.arrays(
        st.sampled_from(["<f2", "<f4", ">f4", "<f8", "i1", "u2", ">i8", "?"]),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ),
    fortran=st.booleans(),
    as_npz=st.booleans(),
)
def test_any_array(array, fortran, as_npz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    write_table(folder, [("a", "1")], ("id", "label"))
    array = np.asfortranarray(array) if fortran else array
    if as_npz:
        np.savez(folder / "m.npz", a=array)
    else:
        write_arrays(folder, "m", {"a": array})
    splits, report = read(folder)
    (example,) = splits["train"]
    numbers = [[float(value) for value in row] for row in array]
    kept = [[value if abs(value) < 2**128 * (1 - 2**-25) else 0.0 for value in row] for row in numbers]
    assert example["m"].dtype == np.float32
    np.testing.assert_array_equal(example["m"], np.array(kept, np.float32))
    replaced = sum(not abs(value) < 2**128 * (1 - 2**-25) for row in numbers for value in row)
    notes = [f"m, train: {replaced} values that were NaN or infinite are 0."] if replaced else []
    assert [note for note in report.notes if note.startswith("m,")] == notes


def test_values_that_are_not_finite(tmp_path):
    arrays = make_arrays(3)
    arrays["a[0]"][0, 1] = np.nan
    arrays["a[1]"][1, 1:] = np.inf, -np.inf
    arrays["c[0]"] = np.full((1, 3), 1e39)  # Finite, but not as float32.
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", arrays)
    splits, report = read(tmp_path)
    np.testing.assert_array_equal(splits["train"][0]["visual"], [[arrays["a[0]"][0, 0], 0, arrays["a[0]"][0, 2]]])
    np.testing.assert_array_equal(splits["train"][1]["visual"][1], [arrays["a[1]"][1, 0], 0, 0])
    np.testing.assert_array_equal(splits["test"][0]["visual"], [[0, 0, 0]])
    assert report.notes == [
        "visual, train: 3 values that were NaN or infinite are 0.",
        "visual, test: 3 values that were NaN or infinite are 0.",
    ]
    columns = report.as_dict()["modalities"]["visual"]
    assert (columns["nan"], columns["inf"]) == (1, 2)


def test_utterances_that_are_dropped(tmp_path):
    rows = [
        *ROWS,
        ("d[0]", "d", "train", "unlabelled", " "),
        ("d[1]", "d", "train", "not finite", "nan"),
        ("d[2]", "d", "train", "too large", "1e39"),
        ("d[3]", "d", "train", "  ", "1"),
        ("d[4]", "d", "train", "no file", "1"),
        ("d[5]", "d", "test", "no steps", "1"),
        ("d[6]", "d", "train", "no steps", "1"),
    ]
    write_table(tmp_path, rows)
    arrays = make_arrays(3, [row[0] for row in rows])
    write_arrays(tmp_path, "visual", arrays | {"d[5]": np.zeros((0, 3)), "d[6]": np.zeros(0)})
    (tmp_path / "visual/d[4].npy").unlink()
    splits, report = read(tmp_path)
    assert [e["segment_id"] for examples in splits.values() for e in examples] == IDS
    assert report.dropped == [
        {"segment_id": "d[0]", "reason": "no label", "detail": "''"},
        {"segment_id": "d[1]", "reason": "no label", "detail": "'nan'"},
        {"segment_id": "d[2]", "reason": "no label", "detail": "'1e39'"},
        {"segment_id": "d[3]", "reason": "empty", "detail": "text"},
        {"segment_id": "d[4]", "reason": "no visual file", "detail": f"`{tmp_path}/visual/d[4].npy`"},
        {"segment_id": "d[6]", "reason": "empty", "detail": "visual"},
        {"segment_id": "d[5]", "reason": "empty", "detail": "visual"},
    ]
    assert report.as_dict()["modalities"]["visual"]["values"] == (1 + 2 + 3 + 4) * 3  # Of those that are kept.


def test_a_test_split_whose_labels_are_withheld(tmp_path):
    write_table(tmp_path, [(*row[:4], "" if row[2] == "test" else row[4]) for row in ROWS])
    splits, report = read(tmp_path)
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 2, "validation": 1}
    assert report.dropped == [{"segment_id": "c[0]", "reason": "no label", "detail": "like all of test"}]


def test_nothing_is_left(tmp_path):
    write_table(tmp_path, [(*row[:4], "") for row in ROWS])
    with pytest.raises(
        ValueError, match=r"utterances\.csv`: expected labels\. Received: 4 rows, none of which has one"
    ):
        UtteranceFolder(tmp_path)
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", {"a[0]": np.ones((2, 3)), "a[1]": np.ones((0, 3))})
    source = UtteranceFolder(tmp_path)
    assert len(list(source.examples("train", BuildReport()))) == 1
    with pytest.raises(
        ValueError, match=r"an utterance of test that .*Received: 1, all left out: {'no visual file': 1}"
    ):
        list(source.examples("test", BuildReport()))


def test_files_that_belong_to_no_row(tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", make_arrays(3, [*IDS, *"tuvwxy"]))
    (tmp_path / "visual/notes.txt").touch()
    (tmp_path / "visual/README.md").touch()
    (tmp_path / "visual/.DS_Store").touch()
    (tmp_path / "visual/._a[0].npy").write_bytes(b"resource fork")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/a[0].npy").write_bytes(b"litter")
    (tmp_path / "README").touch()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    (tmp_path / "old.csv").touch()
    np.savez(tmp_path / "hands.npz", z=np.ones(2), **make_arrays(2))
    _, report = read(tmp_path)
    assert report.notes == [
        "hands: 1 of its arrays belong to no row: 'z.npy'.",
        "visual: 7 of its arrays belong to no row: 'notes.txt', 't.npy', 'u.npy', 'v.npy', 'w.npy' and 2 more.",
        "Not read, being neither the table nor arrays: 'old.csv', 'videos'.",
    ]


def test_classes_by_name(tmp_path):
    labels, _ = read_labels(tmp_path, ["sad", "happy", "", "sad", "Nan", "angry", "7"])
    source = UtteranceFolder(tmp_path)
    assert (source.label_kind, source.class_names, source.label_names) == (
        "classes",
        ("7", "angry", "happy", "sad"),
        None,
    )
    assert labels == [3, 2, 3, 1, 0]
    assert {type(label) for label in labels} == {int}


def test_classes_by_number(tmp_path):
    labels, _ = read_labels(tmp_path, ["10", "2", "2.0", "-1", "-0.0", "0", "other"], classes=True)
    assert UtteranceFolder(tmp_path, classes=True).class_names == ("-1", "0", "2", "10", "other")
    assert labels == [3, 2, 2, 0, 1, 1, 4]


def test_several_scores(tmp_path):
    header = ("id", "text", "label_Joy", "remark", "label_fear")
    labels, report = read_labels(
        tmp_path, [("1", "x", "0.5"), ("", "x", "2"), ("3", "x", "inf"), ("-2", "x", "0")], header
    )
    source = UtteranceFolder(tmp_path)
    assert (source.label_kind, source.class_names, source.label_names) == ("scores", None, ("Joy", "fear"))
    assert [label.dtype for label in labels] == [np.float32] * 2
    np.testing.assert_array_equal(labels, [[1, 0.5], [-2, 0]])
    assert [(drop["segment_id"], drop["detail"]) for drop in report.dropped] == [
        ("s1", "'', '2'"),
        ("s2", "'3', 'inf'"),
    ]
    with pytest.raises(
        ValueError, match=r"expected labels that are numbers.*field empty.*Received: 'line 2 \(s0\): 1, x'"
    ):
        read_labels(tmp_path, [("1", "x", "x")], header)


def test_one_column_with_a_name_of_its_own(tmp_path):
    labels, _ = read_labels(tmp_path, ["1", "2.5"], header=("id", "text", "label_sentiment"))
    assert labels == [1.0, 2.5]
    assert {type(label) for label in labels} == {float}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1,5", "2,5"], r"\(write 1\.5, not 1,5\).*Received: 'line 2 \(s0\): 1,5', 'line 3 \(s1\): 2,5'"),
        (["1", "2", "-,5"], r"write 1\.5, not 1,5.*Received: 'line 4 \(s2\): -,5'"),
        (
            ["1.5", "n/a", "2"],
            r"leave the field empty.*, or, if they name classes, call the column class\. Received: 'line 3",
        ),
        ([*map(str, range(100)), *["?"] * 7], r"'line 102 \(s100\): \?', .* \(s104\): \?' and 2 more$"),
        (["1", "2", "1_5"], r"Received: 'line 4 \(s2\): 1_5'"),
    ],
)
def test_a_typo_makes_no_classes_of_scores(labels, message, tmp_path):
    with pytest.raises(
        ValueError, match=r"utterances\.csv`: expected labels that are numbers, as most are.*" + message
    ):
        read_labels(tmp_path, labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r": expected a column `segment_id`. Received: the columns \[\]"),
        ("name,label,text\na,1,b", r"a column `segment_id`. Received: the columns \['name', 'label', 'text'\]"),
        (
            "id,text\na,b",
            r": expected a column `label`, `class`, or several `label_<name>`. Received: the columns \['id', 'text'\]",
        ),
        ("id,text,label,Label\na,b,1,2", "expected each column once. Received: 'label' again"),
        ("id,text,label\n", r"expected a row for each utterance. Received: a header only, \['id', 'text', 'label'\]"),
        ("id,text,label\na,b,c,1", r", line 2: expected 3 fields.* Received: 4, \['a', 'b', 'c', '1'\]"),
        ("id,text,label\na,b,1,5", r", line 2: expected 3 fields"),
        ('id,text,label\na,"b\nc",1\nd,2', r", line 4: expected 3 fields.* Received: 2, \['d', '2'\]"),
        (
            "id,text,label\na,b,1\n\nb,c,2\na,d,3",
            r", line 5: expected a segment_id .* Received: 'a', which line 2 has too",
        ),
        ("id,text,label\n,b,1", ", line 2: expected a segment_id .* Received: ''"),
        ("video_id,clip_id,text,label\nv,,b,1", ", line 2: expected a segment_id .* Received: ''"),
        ("id,text,label\n../a,b,1", r", line 2: expected a segment_id .* Received: '\.\./a'"),
        ("id,text,label\na,b,1\n/etc/a,b,1", ", line 3: expected a segment_id .* Received: '/etc/a'"),
        ("id,text,label\n..\\a,b,1", r", line 2: expected a segment_id .* Received: '\.\."),
        ("id,text,label\na\\b,b,1", r", line 2: expected a segment_id .* Received: 'a\\\\b'"),
        ("id,text,label\n..,b,1", r", line 2: expected a segment_id .* Received: '\.\.'"),
        ("id,text,label\na\0b,b,1", r", line 2: expected a segment_id .* Received: 'a\\x00b'"),
        (
            "id,text,label,mode\na,b,1,train\nb,c,1,tset",
            r", line 3 \(b\): expected a split: train, .* Received: 'tset'",
        ),
        ("id,text,label,mode\na,b,1,", r", line 2 \(a\): expected a split: .* Received: ''"),
        ('id,text,label\na,b,1\nb,"c,2\nc,d,3', ", the record that begins at line 3 is no CSV: unexpected end of data"),
        ('id,text,label\na,"b" c,1', ", the record that begins at line 2 is no CSV: ',' expected after '\"'"),
    ],
)
def test_tables_that_are_wrong(text, message, tmp_path):
    (tmp_path / "utterances.csv").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ValueError, match=r"^`.*utterances\.csv`.*" + message):
        UtteranceFolder(tmp_path)


def test_another_encoding(tmp_path):
    write_table(tmp_path, [("a", "oui", "1"), ("b", "déjà", "1")], ("id", "text", "label"), encoding="latin-1")
    with pytest.raises(
        ValueError, match=r"utterances\.csv`, line 3: expected text in UTF-8 .*the bytes b'\\xe9j\\xe0,'"
    ):
        UtteranceFolder(tmp_path)
    write_table(tmp_path, encoding="utf-16")
    with pytest.raises(ValueError, match=r"utterances\.csv`, line 1: expected text in UTF-8"):
        UtteranceFolder(tmp_path)


def test_folders_without_a_table_or_with_two(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder that holds `utterances\.csv`. Received: `.*nowhere`"):
        UtteranceFolder(tmp_path / "nowhere")
    write_arrays(tmp_path, "visual", make_arrays(3))
    assert UtteranceFolder.find(tmp_path) == {}
    with pytest.raises(FileNotFoundError, match=r"must hold `utterances\.csv`. Received: 'visual'"):
        UtteranceFolder(tmp_path)
    write_table(tmp_path, name="first.csv")
    write_table(tmp_path, name="second.csv")
    with pytest.raises(ValueError, match=r"or only one \.csv file. Received: 'first.csv', 'second.csv'"):
        UtteranceFolder(tmp_path)
    write_table(tmp_path)
    assert UtteranceFolder(tmp_path).files["utterances"] == tmp_path / "utterances.csv"


@pytest.mark.parametrize("name", ["label", "words", "segment_id", "video_id", "utterances", "my-features", "3d", "_a"])
def test_names_that_are_no_modality(name, tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, name, make_arrays(3))
    with pytest.raises(ValueError, match=rf"/{name}`: a modality's name has letters, .* Received: '{name}'"):
        UtteranceFolder(tmp_path)


def test_a_modality_twice(tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", make_arrays(3))
    np.savez(tmp_path / "visual.npz", **make_arrays(3))
    with pytest.raises(ValueError, match=r"must hold visual once. Received: 'visual' and 'visual.npz'"):
        UtteranceFolder(tmp_path)


def test_arrays_of_other_names(tmp_path):
    write_table(tmp_path)
    np.savez(tmp_path / "visual.npz", np.ones((4, 9, 3)))
    with pytest.raises(ValueError, match=r"visual\.npz`: expected arrays that are named .*'a\[0\]'. Received: 'arr_0'"):
        UtteranceFolder(tmp_path)


def write_npy(version=(1, 0), **header):
    """A `.npy` file with a header of one's own and 24 bytes of data."""
    fields = {"descr": "<f4", "fortran_order": False, "shape": (2, 3)} | header
    text = (repr(fields) + "\n").encode()
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text + np.arange(6, dtype="<f4").tobytes()


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


WRONG_ARRAYS = [
    (saved(np.ones(3)), r"the shape \(steps, features\); if it is one step, save array\[None\]. Received: \(3,\)"),
    (saved(np.ones((1, 2, 3))), r"if it is a batch of one, save array\[0\]. Received: \(1, 2, 3\)"),
    (saved(np.float64(3)), r"the shape \(steps, features\). Received: \(\)"),
    (saved(np.ones((2, 4))), r"expected 3 features, as 'a\[0\]' has. Received: 4"),
    (saved(np.ones((2, 0))), r"expected one feature or more. Received: an array of shape \(2, 0\)"),
    (saved(np.array([[None]]), allow_pickle=True), "numbers .* Received: dtype object; such arrays are pickles, .*"),
    (saved(np.array([["a"]])), "expected an array of numbers .* Received: dtype <U1$"),
    (saved(np.ones((2, 3), complex)), "Received: dtype complex128"),
    (saved(np.zeros((2, 3), [("x", "f4")])), "Received: dtype"),
    (saved(np.ones((2, 3)))[:-1], r"expected 176 bytes, as .*\(2, 3\).* Received: 175 bytes; the file is cut off"),
    (saved(np.ones((2, 3))) * 2, "Received: 352 bytes; there is more in it than one array"),
    (saved(np.ones((2, 3)))[:50], "EOF"),
    (b"", "EOF"),
    (b"1.0 2.0 3.0\n", "the magic string is not correct"),
    (b"cos\nmkdir\n(X\x06\x00\x00\x00canarytR.", "the magic string is not correct"),
    (write_npy(shape=(2**40, 3)), r"expected \d{14} bytes, as its shape .* Received: \d+ bytes; the file is cut off"),
    (write_npy(shape=(-2, -3)), r"expected one feature or more. Received: .*\(-2, -3\)"),
    (write_npy(shape=(0, -3)), "expected one feature or more"),
    (write_npy(shape=[2, 3]), "shape is not valid"),
    (write_npy(descr="|O"), "such arrays are pickles"),
    (write_npy(descr="nonsense"), "descr is not a valid"),
    (write_npy(version=(3, 0)), r"version 1.0 or 2.0. Received: \(3, 0\)"),
    (write_npy(version=(2, 0), padding="x" * 20000), "is large and may not be safe"),
]


@pytest.mark.parametrize(("data", "message"), WRONG_ARRAYS)
@pytest.mark.parametrize("as_npz", [False, True])
def test_arrays_that_are_wrong(data, message, as_npz, tmp_path):
    files = {name: saved(array) for name, array in make_arrays(3).items()} | {"a[1]": data}
    write_table(tmp_path)
    if as_npz:
        where = r"^`.*visual\.npz`, array 'a\[1\]': .*"
        with zipfile.ZipFile(tmp_path / "visual.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"{name}.npy", content)
    else:
        where = r"^`.*visual/a\[1\]\.npy`: .*"
        (tmp_path / "visual").mkdir()
        for name, content in files.items():
            (tmp_path / f"visual/{name}.npy").write_bytes(content)
    source = UtteranceFolder(tmp_path)  # Reads the first array's header only.
    examples = source.examples("train", BuildReport())
    assert next(examples)["segment_id"] == "a[0]"
    with pytest.raises(ValueError, match=where + message):
        next(examples)


def test_the_first_array_is_wrong(tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", make_arrays(3) | {"a[0]": np.ones(3)})
    with pytest.raises(ValueError, match=r"visual/a\[0\]\.npy`: .* if it is one step, save array\[None\]"):
        UtteranceFolder(tmp_path)
    for name in IDS:
        np.save(tmp_path / f"visual/{name}.npy", np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"visual`: expected arrays with a step. Received: 4 arrays without any"):
        UtteranceFolder(tmp_path)


def test_the_width_is_that_of_the_first_array_with_a_step(tmp_path):
    write_table(tmp_path)
    write_arrays(tmp_path, "visual", make_arrays(3) | {"a[0]": np.zeros((0, 9))})
    assert UtteranceFolder(tmp_path).dims == {"visual": 3}


def test_archives_that_are_wrong(tmp_path):
    write_table(tmp_path)
    path = tmp_path / "visual.npz"
    np.savez(path, **make_arrays(3))
    whole = path.read_bytes()
    for data in (whole[:-30], whole[30:-100], b"", b"\x93NUMPY"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"visual\.npz` is no \.npz file, or is cut off: "):
            UtteranceFolder(tmp_path)
    first = whole.index(np.float32(make_arrays(3)["a[0]"][0, 0]).tobytes())
    path.write_bytes(whole[:first] + b"\xff" + whole[first + 1 :])
    with pytest.raises(ValueError, match=r"visual\.npz`, array 'a\[0\]': Bad CRC-32"):
        read(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a[0].npy", saved(np.ones((1, 3))))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a[0].npy", saved(np.zeros((1, 3))))
    with pytest.raises(ValueError, match=r"visual\.npz`: expected each array once. Received: 'a\[0\].npy' again"):
        UtteranceFolder(tmp_path)


def with_size(path, size):
    """Makes the directory of an archive with one member claim that the member has another size."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)


def test_archives_that_claim_to_be_large(tmp_path):
    write_table(tmp_path, [("a", "1")], ("id", "label"))
    path = tmp_path / "m.npz"
    bomb = write_npy(shape=(2**27, 3))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bomb)
    with pytest.raises(
        ValueError, match=rf"m\.npz`, array 'a': expected 161061\d+ bytes.* Received: {len(bomb)} bytes"
    ):
        UtteranceFolder(tmp_path)
    promised = len(bomb) - 24 + 2**27 * 3 * 4  # Now archive and array agree on a lie.
    with_size(path, promised)
    with pytest.raises(ValueError, match=rf"array 'a': expected data. Received: \d+ bytes that claim to be {promised}"):
        UtteranceFolder(tmp_path)


def test_an_archive_that_holds_less_than_it_claims(tmp_path):
    write_table(tmp_path, [("a", "1")], ("id", "label"))
    data = write_npy(shape=(20, 3))
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", data)
    with_size(tmp_path / "m.npz", len(data) - 24 + 20 * 3 * 4)
    with pytest.raises(ValueError, match=r"m\.npz`, array 'a': "):
        read(tmp_path)


@hypothesis.given(data=st.data())
def test_damaged_bytes_give_an_error_or_numbers(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    write_table(folder, [("a", "1", "w"), ("b", "2", "w")], ("id", "label", "text"))
    write_arrays(folder, "m", make_arrays(3, ["a", "b"]))
    np.savez_compressed(folder / "n.npz", **make_arrays(2, ["a", "b"]))
    path = folder / data.draw(st.sampled_from(["m/a.npy", "n.npz", "utterances.csv"]))
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with contextlib.suppress(ValueError):
        splits, _ = read(folder)
        for example in (example for examples in splits.values() for example in examples):
            assert np.isfinite(example["label"])
            for modality in ("m", "n"):
                assert example[modality].dtype == np.float32
                assert np.isfinite(example[modality]).all()


def test_the_import_is_light():
    code = "import sys, keras_misa.data.sources.utterance_folder; print({'tensorflow', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_readmes_example(tmp_path, monkeypatch):
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (DATASET / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    source, (splits, report) = UtteranceFolder("my_dataset"), read("my_dataset")
    assert source.dims == {"acoustic": 74, "visual": 35}
    assert source.has_words
    assert source.label_kind == "score"
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 42, "validation": 9, "test": 9}
    assert report.notes == report.dropped == []


def test_the_dummy_data():
    splits, report = read(DATASET / "dummy_data")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 4, "validation": 2, "test": 1}
    assert report.notes == report.dropped == []


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("cmu_mosi", {"train": 1281, "validation": 229, "test": 685}),
        ("cmu_mosei", {"train": 16274, "validation": 1861, "test": 4653}),
    ],
)
def test_the_real_transcripts(name, sizes, tmp_path):
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    path = pathlib.Path(folder) / f"data/{name}/labels_and_transcripts.csv"
    (tmp_path / path.name).symlink_to(path)
    splits, report = read(tmp_path)
    assert {split: len(examples) for split, examples in splits.items()} == sizes
    assert report.dropped == []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    received = {e["segment_id"]: (e["video_id"], e["words"], e["label"]) for s in splits.values() for e in s}
    assert len(received) == len(rows)
    for row in rows:
        segment_id = row["id"] if "id" in row else f"{row['video_id']}[{row['clip_id']}]"
        expected = row.get("video_id", segment_id), row["text"].split(), float(row["label"])
        assert received[segment_id] == expected
