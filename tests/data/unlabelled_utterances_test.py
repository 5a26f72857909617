"""Tables of utterances without labels, as people write them."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_misa.data.sources.unlabelled_utterances import UnlabelledUtterances

DIMS = {"acoustic": 2, "visual": 3}
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
NUMBERS = st.floats(-1e6, 1e6, width=32)


def arrays(dim):
    return st.lists(st.lists(NUMBERS, min_size=dim, max_size=dim), min_size=1, max_size=4)


def folder_of(place, rows, as_archive=False):
    """Rows are dicts of `segment_id`, `text` and arrays."""
    place.mkdir(exist_ok=True)
    with open(place / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "text"), *((row["segment_id"], row["text"]) for row in rows)])
    for modality in DIMS:
        found = {row["segment_id"]: np.array(row[modality], "float32") for row in rows if modality in row}
        if as_archive:
            np.savez(place / f"{modality}.npz", **found)
            continue
        (place / modality).mkdir(exist_ok=True)
        for name, array in found.items():
            np.save(place / modality / f"{name}.npy", array)
    return place


def rows_of(count=3):
    return [
        {"segment_id": f"s{n}", "text": f"word {n}", "acoustic": [[n, 1]], "visual": [[n, 2, 3], [4, 5, 6]]}
        for n in range(count)
    ]


def assert_same(read, rows):
    assert len(read) == len(rows)
    for (utterance, problem), row in zip(read, rows, strict=True):
        assert problem == ""
        assert utterance["segment_id"] == row["segment_id"]
        assert utterance["words"] == row["text"].split()
        for modality in DIMS:
            np.testing.assert_array_equal(utterance[modality], np.array(row[modality], "float32"))
        assert utterance["notes"] == []


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "segment_id": st.from_regex(r"[A-Za-z0-9][\w .-]{0,8}[A-Za-z0-9]", fullmatch=True),
                "text": TEXT.filter(str.split),
                "acoustic": arrays(2),
                "visual": arrays(3),
            }
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row["segment_id"].lower(),
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    place = tmp_path_factory.mktemp("read")
    with open(place / "lines.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert_same(list(UnlabelledUtterances(place / "lines.jsonl", DIMS, needs_words=True)), rows)
    for as_archive in (False, True):
        folder = folder_of(place / str(as_archive), rows, as_archive)
        assert_same(list(UnlabelledUtterances(folder, DIMS, needs_words=True)), rows)
        assert_same(list(UnlabelledUtterances(folder / "utterances.csv", DIMS, needs_words=True)), rows)


def test_names_of_files_in_lines(tmp_path):
    row = rows_of(1)[0]
    np.save(tmp_path / "faces.npy", np.array(row["visual"], "float32"))
    content = row | {"visual": "faces.npy"}
    (tmp_path / "in.jsonl").write_text(json.dumps(content) + "\n\n", encoding="utf-8")
    assert_same(list(UnlabelledUtterances(tmp_path / "in.jsonl", DIMS, needs_words=True)), [row])


def test_sentences(tmp_path):
    (tmp_path / "in.txt").write_bytes("\ufeffgood film\r\n\r\ncaf\u00e9\n".encode())
    read = list(UnlabelledUtterances(tmp_path / "in.txt", {}, needs_words=True))
    assert [(u["segment_id"], u["words"], problem) for u, problem in read] == [
        ("1", ["good", "film"], ""),
        ("2", [], "empty: text"),
        ("3", ["caf\u00e9"], ""),
    ]


LINES = {
    '{"segment_id": "a", "acoustic": [[1, 2]], "visual": [[1, 2, 3]]}': "empty: text",
    '{"segment_id": "a", "text": "x", "acoustic": [[1, 2]]}': "no visual file",
    '{"segment_id": "a", "text": "x", "acoustic": [[1, 2], [3]], "visual": [[1, 2, 3]]}': "equally many numbers",
    '{"segment_id": "a", "text": "x", "acoustic": [1, 2], "visual": [[1, 2, 3]]}': "Received: (2,)",
    '{"segment_id": "a", "text": "x", "acoustic": [["p", 2]], "visual": [[1, 2, 3]]}': "equally many numbers",
    '{"segment_id": "a", "text": "x", "acoustic": [], "visual": [[1, 2, 3]]}': "empty: acoustic",
    '{"segment_id": "a", "text": "x", "acoustic": "nothing.npy", "visual": [[1, 2, 3]]}': "no acoustic file",
    '{"segment_id": "a", "text": "x", "acoustic": [[1, 2, 3]], "visual": [[1, 2, 3]]}': "expected 2 features.",
    '{"segment_id": "a/b", "text": "x"}': "can be the name of a file",
    '{"segment_id": "a", "text": 7}': "a string `text`",
    '["a"]': "expected an object",
    "{": "line 2: no JSON",
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_says_why_and_the_others_go_on(line, tmp_path):
    rows = rows_of(2)
    lines = [json.dumps(rows[0]), line, json.dumps(rows[1])]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    first, bad, last = UnlabelledUtterances(tmp_path / "in.jsonl", DIMS, needs_words=True)
    assert_same([first, last], rows)
    assert LINES[line] in bad[1]


def test_bad_rows_and_arrays_of_a_folder(tmp_path):
    folder = folder_of(tmp_path / "in", rows_of(4))
    with open(folder / "utterances.csv", "a", encoding="utf-8") as file:
        file.write("one,two,three\n../x,text\n")
    (folder / "visual/s1.npy").unlink()
    (folder / "visual/s2.npy").write_bytes(b"no array")
    np.save(folder / "visual/s3.npy", np.array([[np.nan, 1, np.inf]]))
    read = list(UnlabelledUtterances(folder, DIMS, needs_words=True))
    problems = [problem for _, problem in read]
    assert problems[0] == problems[3] == ""
    assert "no visual file" in problems[1]
    assert problems[2].startswith("damaged: ")
    assert "s2.npy" in problems[2]
    assert read[3][0]["notes"] == ["2 values of visual that were NaN or infinite are 0"]
    np.testing.assert_array_equal(read[3][0]["visual"], [[0, 1, 0]])
    assert "expected 2 fields, as the header has. Received: 3" in problems[4]
    assert "can be the name of a file. Received: '../x'" in problems[5]


def test_a_missing_modality_may_be_allowed(tmp_path):
    rows = rows_of(3)
    del rows[0]["visual"], rows[2]["visual"], rows[2]["acoustic"]
    rows[2]["text"] = ""
    folder = folder_of(tmp_path / "in", rows)
    some, whole, none = UnlabelledUtterances(folder, DIMS, needs_words=True, may_miss=True)
    assert some[1] == whole[1] == ""
    assert some[0]["visual"].shape == (0, 3)
    assert some[0]["notes"] == ["without visual"]
    assert none[1] == "empty: text"


def test_what_is_told_at_once(tmp_path):
    def message(path, error=ValueError, dims=DIMS):
        with pytest.raises(error) as caught:
            list(UnlabelledUtterances(path, dims, needs_words=True))
        return str(caught.value)

    assert "not there" in message(tmp_path / "none", FileNotFoundError)
    assert "neither" in message(tmp_path)
    (tmp_path / "in.txt").write_text("x", encoding="utf-8")
    assert "give a table" in message(tmp_path / "in.txt")
    (tmp_path / "in.xlsx").write_text("x", encoding="utf-8")
    assert ".csv, .jsonl or .txt" in message(tmp_path / "in.xlsx")
    (tmp_path / "in.csv").write_text("segment_id,text\na,b\n", encoding="utf-8")
    assert "nothing of acoustic, visual" in message(tmp_path / "in.csv", FileNotFoundError)
    (tmp_path / "in.csv").write_text("segment_id\na\n", encoding="utf-8")
    assert "expected a column `text`" in message(tmp_path / "in.csv", dims={})
    (tmp_path / "in.csv").write_text("segment_id,text\n", encoding="utf-8")
    assert "expected an utterance. Received: none" in message(tmp_path / "in.csv", dims={})
    (tmp_path / "in.csv").write_bytes(b"segment_id,text\na,ok\nb,\xff\n")
    assert "line 3: expected text in UTF-8" in message(tmp_path / "in.csv", dims={})
    folder = folder_of(tmp_path / "wide", [row | {"visual": [[1, 2, 3, 4]]} for row in rows_of()])
    assert "The model needs acoustic of 2 features, visual of 3 features, words." in (said := message(folder))
    assert "expected 3 features. Received: 4" in said


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_table(suffix, tmp_path):
    def peak(count):
        path = tmp_path / f"{count}.{suffix}"
        with open(path, "w", encoding="utf-8") as file:
            if suffix == "csv":
                file.write("segment_id,text\n")
                file.writelines(f"{n},some words of an utterance\n" for n in range(count))
            else:
                file.writelines(json.dumps({"text": "some words of an utterance"}) + "\n" for _ in range(count))
        tracemalloc.start()
        source = UnlabelledUtterances(path, {}, needs_words=True)
        shares = [source.fraction for number, _ in enumerate(source) if number % 1000 == 0]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert shares == sorted(shares)
        assert shares[0] >= 0
        assert source.fraction == 1
        return most

    assert peak(20_000) < 1.5 * peak(2_000)
