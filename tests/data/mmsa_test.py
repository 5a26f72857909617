"""The oracle: each test makes utterances, writes them in the form of a file, and expects the utterances back."""

import io
import pickle
import struct
import tracemalloc
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources.mmsa import MMSAFile

SIZES = {"text": 3, "visual": 2, "acoustic": 4}
KEYS = {"text": "text", "visual": "vision", "acoustic": "audio"}
WINDOW = 6
CLS, SEP = 101, 102


def make_utterances(count=4, steps=lambda number, modality: 1 + number, seed=0):
    """Dicts of a matrix without zeros for each modality, words and a label."""
    rng = np.random.default_rng(seed)
    return [
        {
            **{m: rng.uniform(0.5, 1, (steps(number, m), size)) for m, size in SIZES.items()},
            "words": [f"word{i}" for i in range(number + 1)],
            "label": -3 + 0.5 * number,
        }
        for number in range(count)
    ]


def pad(matrices, window=WINDOW, side="right", filler=0.0, dtype=np.float64):
    padded = np.full((len(matrices), window, matrices[0].shape[1]), filler, dtype)
    for row, matrix in enumerate(matrices):
        start = 0 if side == "right" else window - len(matrix)
        padded[row, start : start + len(matrix)] = matrix
    return padded


def make_part(utterances, name="video", windows=WINDOW, sides="right", mask=True, lengths=True, dtype=np.float64):
    """A split of an MMSA file; without mask and lengths it has the arrays of MulT's."""
    windows = windows if isinstance(windows, dict) else dict.fromkeys(SIZES, windows)
    sides = sides if isinstance(sides, dict) else dict.fromkeys(SIZES, sides)
    part = {KEYS[m]: pad([utterance[m] for utterance in utterances], windows[m], sides[m], dtype=dtype) for m in SIZES}
    part["id"] = [f"{name}$_${number}" for number in range(len(utterances))]
    part["raw_text"] = np.array([" ".join(utterance["words"]) for utterance in utterances])
    part["regression_labels"] = np.array([utterance["label"] for utterance in utterances])
    if mask:
        tokens = [np.arange(len(utterance["text"]))[:, None] + CLS for utterance in utterances]
        ids = pad(tokens, windows["text"], sides["text"], dtype=np.int64)[:, :, 0]
        part["text_bert"] = np.stack([ids, (ids > 0).astype(int), np.zeros_like(ids)], axis=1)
        part["text"][ids == 0] = 0.25  # BERT has vectors for padding too.
    if lengths:
        for modality in ("visual", "acoustic"):
            part[f"{KEYS[modality]}_lengths"] = [len(utterance[modality]) for utterance in utterances]
    return part


def make_file(**options):
    """A whole file of three splits, and the utterances of each."""
    utterances = {split: make_utterances(seed=seed) for seed, split in enumerate(("train", "valid", "test"))}
    return {split: make_part(rows, f"{split}-video", **options) for split, rows in utterances.items()}, utterances


@pytest.fixture
def write(tmp_path):
    def write(data, name="unaligned_50.pkl", protocol=4):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
        return path

    return write


def read(path, split="train", **options):
    """Examples and report."""
    options = {"text_dim": None, "visual_dim": None, "acoustic_dim": None} | options
    report = BuildReport()
    return list(MMSAFile(path, **options).examples(split, report)), report


def check(example, utterance):
    assert example["label"] == utterance["label"]
    for modality in SIZES:
        assert type(example[modality]) is np.ndarray
        assert example[modality].dtype == np.float32
        np.testing.assert_array_equal(example[modality], utterance[modality].astype(np.float32))


def ids(examples):
    return [example["segment_id"] for example in examples]


# What files of each form give.


def test_an_unaligned_file(write):
    utterances = make_utterances(steps=lambda number, m: 1 + (number + len(m)) % 5)
    windows = {"text": 5, "visual": 7, "acoustic": 6}
    part = make_part(utterances, windows=windows)
    part |= {"annotations": ["Positive"] * 4, "classification_labels": [0] * 4, "regression_labels_T": np.zeros(4)}
    path = write({"test": make_part(utterances, "other", windows=windows), "train": part, "info": "extra"})
    source = MMSAFile(path, visual_dim=2, acoustic_dim=4, text_dim=3)
    assert source.kind == "mmsa_unaligned"
    assert source.splits == ("train", "test")
    assert source.files == {"features": path}
    assert source.dims == SIZES
    assert source.has_words
    assert source.has_token_ids
    report = BuildReport()
    examples = list(source.examples("train", report))
    assert ids(examples) == ["video[0]", "video[1]", "video[2]", "video[3]"]
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
        assert set(example) == {"segment_id", "video_id", "words", "token_ids", "label", *SIZES}
        assert example["video_id"] == "video"
        assert example["words"] == utterance["words"]
        assert example["token_ids"].dtype == np.int32
        assert example["token_ids"].tolist() == [CLS + i for i in range(len(utterance["text"]))]
    assert report.dropped == []
    assert report.notes == [f"train, {modality}: padded on the right." for modality in SIZES]
    assert ids(source.examples("test", report)) == ["other[0]", "other[1]", "other[2]", "other[3]"]


def test_an_aligned_file_has_the_steps_of_the_mask(write):
    # MMSA puts a row of zeros before and behind the others, for `[CLS]` and `[SEP]`.
    utterances = make_utterances(steps=lambda number, m: number + 3)
    for utterance in utterances:
        for modality in ("visual", "acoustic"):
            utterance[modality][[0, -1]] = 0
    path = write({"train": make_part(utterances, lengths=False)}, "aligned_50.pkl")
    assert MMSAFile(path, 2, 4, text_dim=3).kind == "mmsa_aligned"
    examples, report = read(path)
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
        assert len(example["token_ids"]) == len(example["text"]) == len(example["visual"])
    assert report.dropped == []
    assert report.notes == [f"train, {modality}: padded on the right." for modality in SIZES]


@pytest.mark.parametrize("kind", ["aligned", "unaligned"])
def test_files_of_mult(kind, write):
    is_aligned = kind == "aligned"
    utterances = make_utterances(steps=lambda number, m: 1 + (number + (0 if is_aligned else len(m))) % 4)
    windows = 6 if is_aligned else {"text": 6, "visual": 9, "acoustic": 8}
    part = make_part(utterances, windows=windows, sides="left", mask=False, lengths=False, dtype=np.float32)
    part["labels"] = part.pop("regression_labels").reshape(4, 1, 1)
    part["id"] = np.array([[b"a_b", b"%d.5" % i, b"7"] for i in range(4)], object)
    del part["raw_text"]
    path = write({"valid": part}, "mosei_senti_data.pkl" if is_aligned else "mosei_senti_data_noalign.pkl")
    source = MMSAFile(path, visual_dim=2, acoustic_dim=4, text_dim=3)
    assert source.kind == f"mmsa_{kind}"
    assert source.splits == ("validation",)
    assert not source.has_words
    assert not source.has_token_ids
    examples, report = read(path, "validation")
    assert ids(examples) == ["a_b_0.5_7", "a_b_1.5_7", "a_b_2.5_7", "a_b_3.5_7"]
    assert {example["video_id"] for example in examples} == {"a_b"}
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
        assert set(example) == {"segment_id", "video_id", "label", *SIZES}
    assert report.notes == [f"validation, {modality}: padded on the left." for modality in SIZES]


def test_aligned_steps_without_a_mask_are_those_that_any_modality_fills(write):
    utterances = make_utterances(steps=lambda number, m: number + 2)
    utterances[1]["text"][[0, -1]] = 0  # Pauses, and words that GloVe lacks.
    utterances[2]["visual"][:] = 0
    utterances[3]["acoustic"][1] = 0
    part = make_part(utterances, sides="left", mask=False, lengths=False)
    examples, report = read(write({"train": part}, "mosi_data.pkl"))
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
    assert "train, visual: 1 utterance(s) of zeros only, kept." in report.notes


def test_unaligned_steps_without_lengths_are_those_that_the_modality_fills(write):
    utterances = make_utterances(steps=lambda number, m: 3)
    utterances[0]["visual"][0] = 0
    utterances[1]["acoustic"][2] = 0
    utterances[2]["acoustic"][1] = 0
    utterances[3]["visual"][:] = 0
    windows = {"text": 4, "visual": 6, "acoustic": 5}
    examples, report = read(write({"train": make_part(utterances, windows=windows, mask=False, lengths=False)}))
    utterances[0]["visual"] = utterances[0]["visual"][1:]
    utterances[1]["acoustic"] = utterances[1]["acoustic"][:2]
    for example, utterance in zip(examples, utterances[:3], strict=True):
        check(example, utterance)
    assert report.dropped == [{"segment_id": "video[3]", "reason": "empty", "detail": "visual: no step"}]


@st.composite
def files(draw):
    """Utterances, a split of them, a file name, and the side of the padding of each modality."""
    is_aligned, has_mask = draw(st.booleans()), draw(st.booleans())
    windows = dict.fromkeys(SIZES, 6) if is_aligned else {"text": 5, "visual": 7, "acoustic": 6}
    sides = {modality: draw(st.sampled_from(["left", "right"])) for modality in SIZES}
    if is_aligned:
        sides = dict.fromkeys(SIZES, sides["text"])
    utterances = []
    for number in range(draw(st.integers(3, 6))):
        steps = {m: draw(st.integers(1, windows["text" if is_aligned else m])) for m in SIZES}
        if is_aligned:
            steps = dict.fromkeys(SIZES, steps["text"])
        if number < 2:  # Two that leave no doubt about the side.
            steps = dict.fromkeys(SIZES, 2)
        (utterance,) = make_utterances(1, lambda _, m, steps=steps: steps[m], draw(st.integers(0, 99)))
        for modality in SIZES:
            inside = range(1, steps[modality] - 1)
            utterance[modality][draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []] = 0
        utterances.append(utterance)
    dtype = draw(st.sampled_from([np.float32, np.float64, ">f4"]))
    has_lengths = not is_aligned and draw(st.booleans())
    part = make_part(utterances, "v", windows, sides, has_mask, has_lengths, dtype)
    return utterances, part, "aligned.pkl" if is_aligned else "unaligned.pkl", sides


@given(files=files(), protocol=st.integers(2, 5))
def test_utterances_come_back_as_they_were(files, protocol, tmp_path_factory):
    utterances, part, name, sides = files
    path = tmp_path_factory.mktemp("mmsa") / name
    path.write_bytes(pickle.dumps({"test": part}, protocol))
    examples, report = read(path, "test")
    assert len(examples) == len(utterances)
    for example, utterance in zip(examples, utterances, strict=True):
        for modality in SIZES:
            utterance[modality] = utterance[modality].astype(np.float32)
        check(example, utterance)
        if "text_bert" in part:
            assert example["token_ids"].tolist() == [CLS + i for i in range(len(utterance["text"]))]
    assert report.dropped == []
    assert report.notes == [f"test, {modality}: padded on the {side}." for modality, side in sides.items()]


@pytest.mark.parametrize("form", [list, np.array, lambda values: np.array(values, object)])
def test_lists_and_arrays_of_objects(form, write):
    utterances = make_utterances()
    part = make_part(utterances)
    part["raw_text"] = ["  two\twords\n", *part["raw_text"][1:]]
    for key in ("id", "raw_text", "regression_labels", "vision", "audio_lengths", "vision_lengths"):
        part[key] = form(list(part[key]))
    examples, report = read(write({"train": part}))
    assert [example["words"] for example in examples] == [["two", "words"], *(u["words"] for u in utterances[1:])]
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
        assert {type(word) for word in example["words"]} == {type(example["segment_id"])} == {str}
    assert report.dropped == []


@pytest.mark.parametrize(
    ("given_id", "segment_id", "video_id"),
    [
        ("_dI--eQ6qVU$_$12", "_dI--eQ6qVU[12]", "_dI--eQ6qVU"),
        ("a$_$b$_$0001", "a$_$b[0001]", "a$_$b"),
        (np.str_("v$_$1"), "v[1]", "v"),
        (b"v$_$1", "v[1]", "v"),
        ("video[7]", "video[7]", "video"),
        ("_dI--eQ6qVU_12", "_dI--eQ6qVU_12", "_dI--eQ6qVU"),
        ("other", "other", "other"),
        ([b"_dI--eQ6qVU_12", b"0.5", b"2"], "_dI--eQ6qVU_12_0.5_2", "_dI--eQ6qVU"),
        (["a$_$1", "0.5"], "a$_$1_0.5", "a$_$1"),
        (("_dI--eQ6qVU", 0.5, np.str_("2")), "_dI--eQ6qVU_0.5_2", "_dI--eQ6qVU"),
        (np.array(["video"]), "video", "video"),
        (np.array([b"video", None, 3], object)[[0, 2]], "video_3", "video"),
        (17, "17", "17"),
    ],
)
def test_ids(given_id, segment_id, video_id, write):
    part = make_part(make_utterances(2))
    part["id"] = [given_id, "another"]
    examples, _ = read(write({"train": part}))
    assert (examples[0]["segment_id"], examples[0]["video_id"]) == (segment_id, video_id)
    assert {type(examples[0][key]) for key in ("segment_id", "video_id")} == {str}


class Python2Pickler(pickle._Pickler):
    """Writes `bytes` as Python 2 wrote its `str`."""

    dispatch: typing.ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def test_a_file_of_python_2(write):
    utterances = make_utterances()
    part = make_part(utterances, mask=False, lengths=False, sides="left")
    part["id"] = np.array([[b"video", b"%d" % i, b"9"] for i in range(4)], object)
    part["raw_text"] = [text.encode() for text in part["raw_text"].tolist()]
    file = io.BytesIO()
    Python2Pickler(file, 2).dump({b"train": {key.encode(): value for key, value in part.items()}})
    assert b"_codecs" not in file.getvalue()
    examples, _ = read(write(file.getvalue().replace(b"numpy._core", b"numpy.core"), "mosi_data.pkl"))
    assert ids(examples) == ["video_0_9", "video_1_9", "video_2_9", "video_3_9"]
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
        assert example["words"] == utterance["words"]


def test_words_and_tokens_are_given_where_all_splits_have_them(write):
    data, _ = make_file()
    del data["valid"]["text_bert"]
    data["test"]["raw_text"] = [""] * 4  # As files without a transcript have it.
    data["train"]["raw_text"] = ["", *data["train"]["raw_text"][1:]]
    source = MMSAFile(write(data), 2, 4, 3)
    assert not source.has_words
    assert not source.has_token_ids
    for split in source.splits:
        assert [set(example) for example in source.examples(split, BuildReport())] == [
            {"segment_id", "video_id", "label", *SIZES}
        ] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_split_can_be_read_twice_and_examples_can_be_changed(dtype, write):
    data, utterances = make_file(dtype=dtype)
    source = MMSAFile(write(data), 2, 4, 3)
    for example in source.examples("test", BuildReport()):
        for modality in SIZES:
            example[modality][:] = np.nan
    for example, utterance in zip(source.examples("test", BuildReport()), utterances["test"], strict=True):
        check(example, utterance)


def test_splits_have_their_order_and_names(write):
    data, utterances = make_file()
    source = MMSAFile(write({"test": data["test"], "dev": data["valid"], "train": data["train"]}), 2, 4, 3)
    assert source.splits == ("train", "validation", "test")
    for split, name in zip(source.splits, ("train", "valid", "test"), strict=True):
        examples = list(source.examples(split, BuildReport()))
        assert ids(examples) == [f"{name}-video[{i}]" for i in range(4)]
        check(examples[2], utterances[name][2])


# Padding and lengths.


def mmsa_lengths(array):
    """What MMSA's script takes for lengths: the number of the first row that sums to 0, 1 instead of 0."""
    lengths = []
    for matrix in array:
        length = len(matrix)
        for number, row in enumerate(matrix):
            if row.sum() == 0:
                length = max(number, 1)
                break
        lengths.append(length)
    return lengths


@pytest.mark.parametrize("side", ["left", "right"])
def test_lengths_that_end_at_a_gap_are_not_used(side, write):
    utterances = make_utterances(5, steps=lambda number, m: (5, 4, 5, 6, 1)[number])
    utterances[0]["visual"][[1, 3]] = 0
    utterances[1]["visual"][2] = 0
    utterances[3]["visual"][4] = 0
    utterances[4]["visual"][0] = 0
    part = make_part(utterances, sides=side)
    part["vision_lengths"] = mmsa_lengths(part["vision"])
    assert part["vision_lengths"] == ([1, 2, 5, 4, 1] if side == "right" else [1, 1, 1, 4, 1])
    examples, report = read(write({"train": part}))
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
    assert report.dropped == []
    assert report.notes == [
        f"train, visual: {3 if side == 'right' else 4} stated length(s) end at a row of zeros before the data does; "
        "not used.",
        f"train, text: padded on the {side}.",
        f"train, visual: padded on the {side}.",
        f"train, acoustic: padded on the {side}.",
        "train, visual: 1 utterance(s) of zeros only, kept.",
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("stated", [0, 1, 3])
def test_lengths_that_contradict_the_data(side, stated, write):
    utterances = make_utterances(steps=lambda number, m: (2, 4, 3, 6)[number])
    part = make_part(utterances, sides=side)
    part["audio_lengths"][1] = stated
    if side == "left":
        part["audio"][1, : 6 - 4] = 0.5  # A row of zeros at the start would be what MMSA's script counts to.
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[0]", "video[2]", "video[3]"]
    detail = f"acoustic: {stated} step(s) stated, other rows are filled"
    assert report.dropped == [{"segment_id": "video[1]", "reason": "length contradicts the data", "detail": detail}]
    assert f"train, acoustic: padded on the {side}." in report.notes


def test_a_length_of_zero_contradicts_data_behind_a_gap(write):
    part = make_part(make_utterances())
    part["vision"][2, 0] = 0
    part["vision_lengths"][2] = 0
    _, report = read(write({"train": part}))
    detail = "visual: 0 step(s) stated, other rows are filled"
    assert report.dropped == [{"segment_id": "video[2]", "reason": "length contradicts the data", "detail": detail}]


def test_padding_is_on_the_right_where_the_votes_are_equal(write):
    utterances = make_utterances(steps=lambda number, m: 3)
    part = make_part(utterances)
    part["vision"][:2] = part["vision"][:2, ::-1]
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[2]", "video[3]"]
    assert "train, visual: padded on the right." in report.notes


def test_an_utterance_that_is_padded_on_the_other_side_contradicts_its_length(write):
    utterances = make_utterances(steps=lambda number, m: 3)
    part = make_part(utterances, sides="left")
    part["vision"][2] = part["vision"][2, ::-1]
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[0]", "video[1]", "video[3]"]
    assert report.dropped[0]["detail"] == "visual: 3 step(s) stated, other rows are filled"


def test_full_windows_and_symmetric_ones_have_no_vote(write):
    utterances = make_utterances(5, steps=lambda number, m: (6, 6, 2, 6, 6)[number])
    left = make_part(utterances, sides="left", mask=False)
    full = make_part(make_utterances(steps=lambda number, m: 6), "full")
    middle = make_part(make_utterances(1, steps=lambda number, m: 4), "middle")
    middle["vision"][0] = np.roll(middle["vision"][0], 1, axis=0)
    middle["vision_lengths"] = [5]  # Either side would do.
    path = write({"train": left, "valid": full, "test": middle})
    examples, report = read(path)
    check(examples[2], utterances[2])
    assert report.notes == [f"train, {modality}: padded on the left." for modality in SIZES]
    assert read(path, "validation")[1].notes == []
    examples, report = read(path, "test")
    np.testing.assert_array_equal(examples[0]["visual"], middle["vision"][0, :5].astype("f4"))
    assert report.notes == ["test, text: padded on the right.", "test, acoustic: padded on the right."]


def test_modalities_are_padded_on_sides_of_their_own(write):
    sides = {"text": "right", "visual": "left", "acoustic": "right"}
    utterances = make_utterances()
    for name, lengths in {"aligned.pkl": False, "unaligned.pkl": True}.items():
        examples, report = read(write({"train": make_part(utterances, sides=sides, lengths=lengths)}, name))
        for example, utterance in zip(examples, utterances, strict=True):
            check(example, utterance)
        assert report.notes == [f"train, {modality}: padded on the {side}." for modality, side in sides.items()]
    path = write({"train": make_part(utterances, sides=sides, mask=False, lengths=False)}, "aligned.pkl")
    with pytest.raises(ValueError, match=r"train: expected aligned features .* one side. Received: .*'visual': 'left'"):
        read(path)


@pytest.mark.parametrize("side", ["left", "right"])
def test_lengths_beyond_the_window_are_cut(side, write):
    utterances = make_utterances(steps=lambda number, m: (6, 2, 6, 1)[number])
    part = make_part(utterances, sides=side)
    part["vision_lengths"][0] = 9.0
    part["vision_lengths"][2] = 70
    examples, report = read(write({"train": part}))
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
    assert "train, visual: 2 stated length(s) beyond the window of 6 steps, cut to it." in report.notes


def test_empty_utterances_are_dropped_and_lost_faces_are_kept(write):
    utterances = make_utterances(5, steps=lambda number, m: 3)
    part = make_part(utterances)
    for number, (key, length) in enumerate([("vision", 0), ("vision", 2), ("audio", 0), ("audio", 6)]):
        part[key][number] = 0
        part[f"{key}_lengths"][number] = length
    part["text_bert"][4, 1] = 0
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[1]", "video[3]"]
    assert report.dropped == [
        {"segment_id": "video[0]", "reason": "empty", "detail": "visual: no step"},
        {"segment_id": "video[2]", "reason": "empty", "detail": "acoustic: no step"},
        {"segment_id": "video[4]", "reason": "empty", "detail": "text: no step"},
    ]
    np.testing.assert_array_equal(examples[0]["visual"], np.zeros((2, 2)))
    np.testing.assert_array_equal(examples[1]["acoustic"], np.zeros((6, 4)))
    for modality in ("visual", "acoustic"):
        assert f"train, {modality}: 1 utterance(s) of zeros only, kept." in report.notes


@pytest.mark.parametrize("mask", [[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
def test_masks_with_gaps_or_off_the_side_contradict(mask, write):
    part = make_part(make_utterances())
    part["text_bert"][3, 1] = mask
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[0]", "video[1]", "video[2]"]
    detail = "text: 2 step(s) stated, other rows are filled"
    assert report.dropped == [{"segment_id": "video[3]", "reason": "length contradicts the data", "detail": detail}]


@pytest.mark.parametrize("lengths", [True, False])
def test_an_aligned_row_beyond_the_mask_contradicts(lengths, write):
    part = make_part(make_utterances(), lengths=lengths)
    part["vision"][1, 4] = 0.5
    examples, report = read(write({"train": part}, "aligned_50.pkl"))
    assert ids(examples) == ["video[0]", "video[2]", "video[3]"]
    assert report.dropped[0]["detail"] == "visual: 2 step(s) stated, other rows are filled"


def test_labels_and_words_that_are_missing(write):
    part = make_part(make_utterances(5))
    part["regression_labels"] = [np.nan, 0.5, None, np.inf, -1]
    part["raw_text"] = part["raw_text"].tolist()
    part["raw_text"][4] = " "
    examples, report = read(write({"train": part}))
    assert ids(examples) == ["video[1]"]
    assert [(row["segment_id"], row["reason"], row["detail"]) for row in report.dropped] == [
        ("video[0]", "no label", "nan"),
        ("video[2]", "no label", "nan"),
        ("video[3]", "no label", "inf"),
        ("video[4]", "empty", "raw_text: no word"),
    ]


# Values.


@pytest.mark.parametrize("filler", [-np.inf, np.nan])
@pytest.mark.parametrize("lengths", [True, False])
def test_padding_that_is_no_number(filler, lengths, write):
    utterances = make_utterances()
    part = make_part(utterances, lengths=lengths)
    part["audio"] = pad([utterance["acoustic"] for utterance in utterances], filler=filler)
    examples, report = read(write({"train": part}, "unaligned.pkl" if lengths else "aligned.pkl"))
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
    assert report.notes == [f"train, {modality}: padded on the right." for modality in SIZES]
    assert report.as_dict()["modalities"]["acoustic"]["inf"] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_no_numbers_count_as_zero_and_are_shown_as_they_are(dtype, write):
    utterances = make_utterances(steps=lambda number, m: 3)
    utterances[0]["acoustic"][1, [0, 2]] = -np.inf
    utterances[0]["acoustic"][2] = np.nan  # A row of them, inside as the length says.
    utterances[2]["visual"][0, 1] = np.inf
    examples, report = read(write({"train": make_part(utterances, dtype=dtype)}))
    for example, utterance in zip(examples, utterances, strict=True):
        for modality in SIZES:
            expected = utterance[modality].astype(dtype).astype(np.float32)
            expected[~np.isfinite(expected)] = 0
            np.testing.assert_array_equal(example[modality], expected)
    looked = report.as_dict()["modalities"]
    assert (looked["acoustic"]["inf"], looked["acoustic"]["nan"], looked["visual"]["inf"]) == (2, 4, 1)
    assert "train, acoustic: 6 value(s) that are no finite numbers count as 0." in report.notes
    assert "train, visual: 1 value(s) that are no finite numbers count as 0." in report.notes


def test_numbers_too_large_for_float32_and_whole_numbers(write):
    utterances = make_utterances()
    utterances[0]["acoustic"][0, 0] = 1e300
    part = make_part(utterances)
    part["vision"] = np.ceil(part["vision"] * 9).astype(np.int16)
    examples, report = read(write({"train": part}))
    assert examples[0]["acoustic"][0, 0] == 0
    np.testing.assert_array_equal(examples[3]["visual"], part["vision"][3, :4])
    assert examples[3]["visual"].dtype == np.float32
    assert "train, acoustic: 1 value(s) that are no finite numbers count as 0." in report.notes


def test_only_kept_utterances_are_looked_at(write):
    part = make_part(make_utterances())
    part["regression_labels"][3] = np.nan
    _, report = read(write({"train": part}))
    values = {modality: row["values"] for modality, row in report.as_dict()["modalities"].items()}
    assert values == {modality: (1 + 2 + 3) * size for modality, size in SIZES.items()}


def test_a_file_is_in_memory_once(write):
    rng = np.random.default_rng(0)
    utterances = make_utterances(count=6)
    part = make_part(utterances)
    for key in KEYS.values():
        part[key] = np.repeat(part[key], 400, axis=2) * rng.uniform(1, 2)
    path = write({"train": {**part, "id": [f"video$_${number}" for number in range(6)]}})
    tracemalloc.start()
    source = MMSAFile(path, visual_dim=800, acoustic_dim=1600, text_dim=1200)
    count = sum(1 for _ in source.examples("train", BuildReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 6
    assert peak < 1.5 * path.stat().st_size


# Wrong files.


def changed(**changes):
    """A file whose `valid` is changed: `None` takes a key away."""
    data, _ = make_file()
    data["valid"] |= changes
    data["valid"] = {key: value for key, value in data["valid"].items() if value is not None}
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], r"must hold a dict of splits. Received: \[1, 2\] of type list"),
        ({"text": 1, "labels": 2}, r"expected one or more of train, valid and test. Received: the keys .*'labels'"),
        (changed() | {"dev": {}}, r"one or more of train, valid and test. Received: the keys .*'valid'.*'dev'"),
        ({"train": np.zeros(3)}, r"train: expected a dict of arrays. Received: an array of shape \(3,\)"),
        (changed(audio=None), r"valid: expected also `audio`. Received: the keys .*'text'.*'vision_lengths'"),
        (changed(id=None, vision=None), r"valid: expected also `id`, `vision`. Received: the keys"),
        (changed(regression_labels=None), "valid: expected also `regression_labels`. Received: the keys"),
        (changed(id=["a", "b", "c"]), r"valid: expected .* as many of each key. Received: .*'id': 3.*'text': 4"),
        (changed(raw_text=[]), r"valid: expected .* as many of each key. Received: .*'raw_text': 0"),
        (changed(vision_lengths=[1, 2]), r"valid: expected .* Received: .*'vision_lengths': 2"),
        ({"train": {k: v[:0] for k, v in make_file()[0]["train"].items()}}, "train: expected one row or more"),
        (changed(vision=np.zeros((4, 6))), r"`vision` of shape \(utterances, steps, 2\). Received: \(4, 6\)"),
        (changed(audio=np.zeros((4, 6, 5))), r"`audio` of shape \(utterances, steps, 4\). Received: \(4, 6, 5\)"),
        (changed(vision=np.zeros((4, 0, 2))), r"`vision` of shape .* Received: \(4, 0, 2\)"),
        (changed(text=np.zeros((4, 6, 3), "U1")), r"`text` as an array of numbers. Received: .*dtype <U1"),
        (changed(text=np.zeros((4, 6, 3), complex)), r"`text` as an array of numbers. Received: .*dtype complex128"),
        (changed(audio=[np.ones((n, 4)) for n in (1, 2, 3, 4)]), r"`audio` as one array of numbers. Received: \["),
        (changed(audio=np.array([{}, 1, 2, 3])), r"`audio` as one array of numbers. Received: an array"),
        (changed(audio=5), r"`audio` as an array of numbers. Received: an array of shape \(\)"),
        (
            changed(text_bert=np.zeros((4, 6, 3))),
            r"`text_bert` of shape \(utterances, 3, steps\).* Received: \(4, 6, 3\)",
        ),
        (changed(text_bert=np.zeros((4, 3, 5))), r"`text_bert` for `text` of shape \(4, 6, 3\). Received: 5 steps"),
        (changed(text_bert=np.full((4, 3, 6), 2)), "a mask of 0 and 1 in `text_bert`. Received: 2"),
        (changed(text_bert=np.full((4, 3, 6), 0.5)), "whole numbers from 0 in `text_bert`. Received: 0.5"),
        (changed(text_bert=np.full((4, 3, 6), 2**40)), f"whole numbers from 0 in `text_bert`. Received: {2**40}"),
        (changed(audio_lengths=[1, 2, -3, 4]), "valid: expected whole numbers from 0 in `audio_lengths`. Received: -3"),
        (changed(audio_lengths=[1, 2, np.nan, 4]), "whole numbers from 0 in `audio_lengths`. Received: nan"),
        (changed(audio_lengths=np.ones((4, 2))), r"one number a row in `audio_lengths`. Received: .*\(4, 2\)"),
        (changed(regression_labels=np.ones((4, 1, 7))), r"one number a row in `regression_labels`. .*\(4, 1, 7\)"),
        (
            changed(regression_labels=["0.5", "1", "1", "1"]),
            "`regression_labels` as an array of numbers. Received: .*U3",
        ),
        (changed(id="abcd"), "`id` as a list or an array. Received: 'abcd' of type str"),
        (changed(id=["a", "b", None, "d"]), "text in `id`, row 2. Received: None of type NoneType"),
        (changed(id=["a", "b", "", "d"]), "an id in row 2. Received: '' of type str"),
        (changed(raw_text=["a", 5, "c", "d"]), "text in `raw_text`, row 1. Received: 5 of type int"),
        (changed(id=["a", "b", "a", "d"]), "valid row 2: expected an id that no other .* 'a', as valid row 0"),
        (changed(id=["a", "train-video$_$1", "c", "d"]), r"valid row 1: .* 'train-video\[1\]', as train row 1"),
    ],
)
def test_wrong_files(data, message, write):
    path = write(data)
    with pytest.raises(ValueError, match=message) as error:
        MMSAFile(path, None, None, None)
    assert str(error.value).startswith(f"`{path}`")


DTYPES = ["<f4", "<f8", "|i1", "<u8", "|b1", "<U2", "|S2", "<c8"]
SCALARS = st.none() | st.integers(-3, 3) | st.floats() | st.text(max_size=2) | st.binary(max_size=2)
JUNK = (
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner), max_leaves=9)
    | hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0))
    | hnp.arrays(object, hnp.array_shapes(max_dims=2, max_side=4), elements=SCALARS)
    | st.just({})
    | st.just({1, 2})
)


@settings(max_examples=200)
@given(key=st.sampled_from(sorted(make_part(make_utterances()))), junk=JUNK)
def test_junk_is_an_error_that_names_the_file_or_is_reported(key, junk, tmp_path_factory):
    path = tmp_path_factory.mktemp("mmsa") / "features.pkl"
    part = make_part(make_utterances()) | {key: junk}
    path.write_bytes(pickle.dumps({"train": part}))
    examples, message = [], str(path)
    try:
        examples, report = read(path)
        assert len(examples) + len(report.dropped) == 4
    except ValueError as error:
        message = str(error)
    assert str(path) in message
    for example in examples:
        for modality in SIZES:
            assert example[modality].dtype == np.float32
            assert len(example[modality]) > 0
            assert np.isfinite(example[modality]).all()


@pytest.mark.parametrize(("modality", "size"), [("text", 768), ("visual", 47), ("acoustic", 74)])
def test_sizes_are_those_that_are_expected(modality, size, write):
    path = write(make_file()[0])
    options = {f"{name}_dim": expected for name, expected in (SIZES | {modality: size}).items()}
    shape = rf"\(utterances, steps, {size}\). Received: \(4, 6, {SIZES[modality]}\)"
    with pytest.raises(ValueError, match=rf"unaligned_50\.pkl`, train: expected `{KEYS[modality]}` of shape {shape}"):
        MMSAFile(path, **options)


def test_text_is_expected_to_be_berts(write):
    path = write(make_file()[0])
    with pytest.raises(ValueError, match=r"`text` of shape \(utterances, steps, 768\). Received: \(4, 6, 3\)"):
        MMSAFile(path, visual_dim=2, acoustic_dim=4)


def test_programs_damaged_files_and_missing_ones(write, tmp_path):
    path = write(b"cos\nmkdir\n(X\x06\x00\x00\x00canarytR.")
    with pytest.raises(ValueError, match=r"unaligned_50\.pkl`: it asks for `os\.mkdir`"):
        MMSAFile(path, 2, 4)
    path = write(pickle.dumps(make_file()[0])[:-200])
    with pytest.raises(ValueError, match=r"Cannot read `.*unaligned_50\.pkl`"):
        MMSAFile(path, 2, 4)
    with pytest.raises(FileNotFoundError, match=r"missing\.pkl"):
        MMSAFile(tmp_path / "missing.pkl", 2, 4)


# Names and kinds.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aligned_50.pkl", "aligned"),
        ("unaligned_50.pkl", "unaligned"),
        ("MOSI_Unaligned.pkl", "unaligned"),
        ("mosi_data.pkl", "aligned"),
        ("mosei_senti_data.pkl", "aligned"),
        ("mosei_senti_data_noalign.pkl", "unaligned"),
        ("features.pkl", None),
        ("train.pkl", None),
        (".aligned_50.pkl", None),
        ("aligned_50.npz", None),
    ],
)
def test_files_are_found_by_name_and_not_opened(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"no pickle")
    assert MMSAFile.find(tmp_path) == ({kind: tmp_path / name} if kind else {})


def test_both_kinds_are_found(tmp_path):
    for name in ("unaligned_50.pkl", "aligned_50.pkl", "train.pkl"):
        (tmp_path / name).touch()
    found = {"aligned": tmp_path / "aligned_50.pkl", "unaligned": tmp_path / "unaligned_50.pkl"}
    assert MMSAFile.find(str(tmp_path)) == found
    with pytest.raises(
        ValueError, match=r"name the one that is meant. Received: \['aligned_50.pkl', 'unaligned_50.pkl'\]"
    ):
        MMSAFile(tmp_path, 2, 4)
    (tmp_path / "mosi_data.pkl").touch()
    with pytest.raises(
        ValueError, match=r"one file of aligned features. Received: \['aligned_50.pkl', 'mosi_data.pkl'\]"
    ):
        MMSAFile.find(tmp_path)


def test_a_folder_with_one_file(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"such as `aligned_50.pkl` or `unaligned_50.pkl`. Received: \[\]"):
        MMSAFile(tmp_path, 2, 4)
    path = write(make_file()[0], "features.pkl")
    assert MMSAFile(str(tmp_path), 2, 4, 3).files == {"features": path}
    (tmp_path / "other.pkl").touch()
    with pytest.raises(ValueError, match=r"expected one file.* Received: \['features.pkl', 'other.pkl'\]"):
        MMSAFile(tmp_path, 2, 4, 3)
    path = write(make_file()[0], "unaligned_39.pkl")
    assert MMSAFile(tmp_path, 2, 4, 3).files == {"features": path}


UNEVEN = {"text": 4, "visual": 6, "acoustic": 5}


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("features.pkl", {"lengths": False}, "aligned"),
        ("features.pkl", {"lengths": True}, "unaligned"),
        ("features.pkl", {"lengths": False, "windows": UNEVEN}, "unaligned"),
        ("aligned_50.pkl", {"lengths": True}, "aligned"),
        ("unaligned_50.pkl", {"lengths": True}, "unaligned"),
    ],
)
def test_the_content_tells_the_kind(name, options, kind, write):
    assert MMSAFile(write(make_file(**options)[0], name), 2, 4, 3).kind == f"mmsa_{kind}"


def test_one_split_with_uneven_windows_makes_a_file_unaligned(write):
    data, _ = make_file(lengths=False)
    data["test"] = make_part(make_utterances(), windows=UNEVEN, lengths=False)
    assert MMSAFile(write(data, "features.pkl"), 2, 4, 3).kind == "mmsa_unaligned"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "aligned_50.pkl",
            {"windows": UNEVEN},
            r"aligned features, .* {'text': 4, 'visual': 6, 'acoustic': 5} steps with",
        ),
        ("mosi_data.pkl", {"windows": UNEVEN, "lengths": False}, "aligned features, .* steps without lengths"),
        ("unaligned_50.pkl", {"lengths": False}, "unaligned features, .*'visual': 6.* steps without lengths"),
    ],
)
def test_names_that_contradict_the_content(name, options, message, write):
    path = write(make_file(**options)[0], name)
    with pytest.raises(ValueError, match=f"expected {message}") as error:
        MMSAFile(path, 2, 4, 3)
    assert str(error.value).startswith(f"`{path}`")


@pytest.mark.parametrize("mask", [True, False])
def test_lengths_of_an_aligned_file_are_not_used(mask, write):
    utterances = make_utterances()
    part = make_part(utterances, mask=mask) | {"vision_lengths": [1] * 4, "audio_lengths": [0] * 4}
    examples, report = read(write({"train": part}, "aligned_50.pkl"))
    for example, utterance in zip(examples, utterances, strict=True):
        check(example, utterance)
    assert report.dropped == []
