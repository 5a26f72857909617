import gzip
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_misa.data.word_table import WordTable, read_word_table
from keras_misa.data.word_vectors import nearest_words, read_word_vectors

WORDS = ["the", ".", ". . .", "at name@domain.com", "at", "a\u00a0b", "c\u0085d", "\u2028", "12", "née", "<unk>"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)


def to_text(words, vectors, header=False, end=b"\n", form=repr):
    lines = [f"{len(vectors)} {len(vectors[0])}".encode()] if header else []
    for word, vector in zip(words, vectors, strict=True):
        word = word if isinstance(word, bytes) else word.encode()
        lines.append(word + b"".join(b" " + form(float(number)).encode() for number in vector))
    return b"".join(line + end for line in lines)


def to_zip(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


PACKINGS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zip": lambda content: to_zip({"glove/": b"", "glove/vectors.txt": content}),
}
TEXTS = {
    "GloVe": to_text(WORDS, VECTORS),
    "word2vec": to_text(WORDS, VECTORS, header=True, end=b" \n"),
    "fastText": to_text(WORDS, VECTORS, header=True),
    "Windows": to_text(WORDS, VECTORS, header=True, end=b" \r\n"),
    "no end": to_text(WORDS, VECTORS).removesuffix(b"\n"),
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="vectors.data"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def check(result, words, vectors):
    assert result[0] == words
    assert result[1].dtype == np.float32
    np.testing.assert_array_equal(result[1], np.reshape(vectors, (len(words), -1)))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_format_gives_the_words_and_vectors(text, packing, write):
    path = write(PACKINGS[packing](TEXTS[text]))
    check(read_word_vectors(path), WORDS, VECTORS)
    check(read_word_vectors(str(path), ["12", "at", "the"]), ["the", "at", "12"], VECTORS[[0, 4, 8]])


def test_only_wanted_words_are_read(write):
    path = write(TEXTS["GloVe"])
    for wanted in ({". . ."}, {"."}, {"at"}, {"at name@domain.com"}, {"a\u00a0b", "c\u0085d"}):
        rows = [row for row, word in enumerate(WORDS) if word in wanted]
        check(read_word_vectors(path, wanted), [WORDS[row] for row in rows], VECTORS[rows])
    check(read_word_vectors(path, iter(["none", "née", "née", "The", "a", ""])), ["née"], VECTORS[[9]])
    words, vectors = read_word_vectors(path, [])
    assert (words, vectors.shape, vectors.dtype) == ([], (0, 3), np.float32)
    assert read_word_vectors(path, ["\ud83d"])[0] == []
    with pytest.raises(TypeError, match="Received: words='good'"):
        read_word_vectors(path, "good")


def test_lines_of_other_words_are_not_parsed_and_reading_ends_with_the_last_wanted_word(write):
    path = write(b"a 1 2\nb 3 4\nc 5\nd x y\ne 6 7\n" + b"f " * (1 << 20))
    check(read_word_vectors(path, ["a", "e"]), ["a", "e"], [[1, 2], [6, 7]])
    with pytest.raises(
        ValueError, match=r"line 6: expected fewer than 1048576 bytes\. Received: a longer line, 'f f f"
    ):
        read_word_vectors(path, ["a", "e", "missing"])
    with pytest.raises(ValueError, match=r"line 4: .* Received: 'd' with the number 'x'"):
        read_word_vectors(path, ["a", "d"])


def test_the_first_of_equal_words_wins(write):
    path = write(b"a 1 2\nb 3 4\na 5 6\nc 7 8\nb 9 9\n")
    check(read_word_vectors(path), ["a", "b", "c"], [[1, 2], [3, 4], [7, 8]])
    check(read_word_vectors(path, ["c", "b"]), ["b", "c"], [[3, 4], [7, 8]])


def test_words_that_are_not_utf8_stay_distinct_and_can_be_written(write):
    path = write(b"\xff 1 2\n\xfe 3 4\nna\xefve 5 6\nna\xc3\xafve 7 8\n")
    words, vectors = read_word_vectors(path)
    assert words == ["\\xff", "\\xfe", "na\\xefve", "naïve"]
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    check(read_word_vectors(path, ["naïve"]), ["naïve"], [[7, 8]])


def test_the_dimension_of_a_file_without_header(write):
    check(read_word_vectors(write(b". . . 0.5 1\n, 2 3\n")), [". . .", ","], [[0.5, 1], [2, 3]])
    check(read_word_vectors(write(b"5 3 1\n7 8 9\n")), ["5", "7"], [[3, 1], [8, 9]])
    check(read_word_vectors(write(b"only 0.5")), ["only"], [[0.5]])
    check(read_word_vectors(write(b" 1 2\n  3 4\n")), ["", " "], [[1, 2], [3, 4]])


def test_numbers_of_every_form_are_read_as_float_reads_them(write):
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(4000, 2)) * 10.0 ** rng.integers(-12, 4, (4000, 1))
    forms = [
        "{:.1f}",
        "{:.6f}",
        "{:.8f}",
        "{:.9f}",
        "{:.14f}",
        "{:.15f}",
        "{:.20f}",
        "{:.5g}",
        "{!r}",
        "{:+.4f}",
        "{:e}",
    ]
    fields = [forms[row % len(forms)].format(float(number)) for row, number in enumerate(numbers.flat)]
    others = "0 -0 -0.0 0.0 1. .5 -.5 +1 1e5 1E-3 9.99999999999999 0.99999999 0.999999999 00.5 0001 16777217 1e-50"
    fields += others.split()
    fields += [f"{3.4e38:.0f}", "9.00719925474099267", "-9.99999999"]
    lines = [f"w{row} {a} {b}" for row, (a, b) in enumerate(zip(fields[::2], fields[1::2], strict=True))]
    _, vectors = read_word_vectors(write("\n".join(lines).encode()))
    expected = np.array([np.float32(float(field)) for field in fields])
    assert vectors.tobytes() == expected.tobytes()  # Bits, so that -0.0 is not 0.0.


def test_a_file_of_many_batches(write):
    rng = np.random.default_rng(2)
    words = [f"word{row}" if row % 7 else f"word {row}x" for row in range(12_000)]
    vectors = np.round(rng.normal(size=(12_000, 40)), 5).astype(np.float32)
    text = to_text(words, vectors, form="{:.5f}".format)
    assert len(text) > 4_000_000  # A batch is a MiB.
    for packing in PACKINGS.values():
        check(read_word_vectors(write(packing(text))), words, vectors)
    rows = np.sort(rng.choice(12_000, 500, replace=False))
    check(read_word_vectors(write(text), {words[row] for row in rows}), [words[row] for row in rows], vectors[rows])
    lines = text.split(b"\n")
    lines[9_876] = lines[9_876].rsplit(b" ", 1)[0] + b" 0.1-"
    with pytest.raises(ValueError, match=r"line 9877: .* Received: 'word9876' with the number '0\.1-'"):
        read_word_vectors(write(b"\n".join(lines)))


WORD = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=8).filter(
    lambda word: " " not in word or not is_number(word.split(" ")[-1])
)


def is_number(text):
    try:
        float(text.encode())
    except ValueError:
        return False
    return True


@hypothesis.given(
    words=st.lists(WORD, min_size=1, max_size=6, unique=True),
    dimension=st.integers(1, 4),
    header=st.booleans(),
    end=st.sampled_from([b"\n", b" \n", b"\r\n", b" \r\n"]),
    form=st.sampled_from([repr, "{:.3f}".format, "{:.12f}".format]),
    packing=st.sampled_from(list(PACKINGS)),
    data=st.data(),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read(words, dimension, header, end, form, packing, data, write):
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    size = len(words) * dimension
    vectors = np.reshape(data.draw(st.lists(numbers, min_size=size, max_size=size)), (len(words), dimension))
    path = write(PACKINGS[packing](to_text(words, vectors, header, end, form)))
    expected = np.array([[np.float32(form(number)) for number in vector] for vector in vectors.tolist()])
    check(read_word_vectors(path), words, expected)
    rows = [row for row in range(len(words)) if data.draw(st.booleans())]
    found, found_vectors = read_word_vectors(path, [words[row] for row in rows[::-1]])
    assert found == [words[row] for row in rows]
    np.testing.assert_array_equal(found_vectors, expected[rows])


@hypothesis.given(
    text=st.sampled_from(list(TEXTS)),
    packing=st.sampled_from(list(PACKINGS)),
    inside=st.booleans(),
    start=st.integers(0, 1000),
    length=st.integers(0, 50),
    new=st.one_of(st.binary(max_size=8), st.sampled_from([b" ", b"\n", b"nan", b"1e999", b"-", b"\t", b"PK\x03\x04"])),
    wanted=st.sampled_from([None, ["at", "12"]]),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_gives_finite_vectors_or_a_clear_error(text, packing, inside, start, length, new, wanted, write):
    def damage(content):
        return content[: start % len(content)] + new + content[start % len(content) + length :]

    path = write(PACKINGS[packing](damage(TEXTS[text])) if inside else damage(PACKINGS[packing](TEXTS[text])))
    try:
        words, vectors = read_word_vectors(path, wanted)
    except ValueError as error:
        assert str(error).startswith(f"`{path}`")  # noqa: PT017
        assert "Received: " in str(error)  # noqa: PT017
    else:
        assert len(words) == len(set(words)) == len(vectors)
        assert vectors.ndim == 2
        assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word vectors. Received: no lines"),
        (b"5 300\n", "holds no word vectors. Received: a header alone"),
        (b"good movie\nbad film\n", "line 1: expected a word and its numbers. Received: 'good movie"),
        (b"\n\n", "line 1: expected a word and its numbers"),
        (b"2 0\na\nb\n", "line 1: expected a word and its numbers. Received: '2 0"),
        (b"a 1 2\nb 3\n", "line 2: expected a word and 2 finite numbers, as line 1 has it.* Received: 2 parts, 'b 3'"),
        (b"a 1 2\nb 3 4 5\n", "line 2: expected a word and 2 .* Received: 4 parts, 'b 3 4 5'"),
        (b"a 5 1 2\nb 3 4\n", "line 2: expected a word and 3 .*, as line 1 has it.* Received: 3 parts, 'b 3 4'"),
        (b"2 3\na 1 2 3\nb 1 2\n", "line 3: expected a word and 3 finite numbers, as the header has it.* 'b 1 2'"),
        (b"2 3\na 1 2\nb 1 2\n", "line 2: expected a word and 3 finite numbers, as the header has it"),
        (b"a 1 2\nb 1 2\n\nc 1 2\n", "line 3: .* Received: 1 parts, ''"),
        (b"a 1 2\nb 1 2\nc 1  2\n", "line 3: .* Received: 4 parts, 'c 1  2'"),
        (b"a 1 2\nb 1 2\nc  2\n", "line 3: .* Received: 'c' with the number ''"),
        (b"a 1 2\nb 1 2\nc 1-2 3\n", "line 3: .* Received: 'c' with the number '1-2'"),
        (b"a 1 2\nb 1 2\nc 0.1,2 3\n", "line 3: .* Received: 'c' with the number '0.1,2'"),
        (b"a 1 2\nb 1 2\nc 0.1.2 3\n", "line 3: .* Received: 'c' with the number '0.1.2'"),
        (b"a 1 2\nb 1 2\nc 0.a 3\n", "line 3: .* Received: 'c' with the number '0.a'"),
        (b"a 1 2\nb 1 2\nc 1\xc2\xa02 3\n", r"line 3: .* Received: 'c' with the number '1\\xa02'"),
        (b"a 1 2\nb nan 2\n", "line 2: expected a word and 2 finite numbers.* Received: 'b' with the number 'nan'"),
        (b"a 1 -inf\nb 1 2\n", "line 1: .* Received: 'a' with the number '-inf'"),
        (b"a 1 1e39\nb 1 2\n", "line 1: .* Received: 'a' with the number '1e39'"),
        (b"3 2\na 1 2\nb 3 4\n", "must hold 3 words, as its first line says. Received: 2"),
        (b"1 2\na 1 2\nb 3 4\n", "must hold 1 words, as its first line says. Received: 2"),
        (
            b"2 3\na " + np.ones(3, "f4").tobytes() + b"\nb " + np.ones(3, "f4").tobytes(),
            r"\(`\.bin`\) to text.*no text",
        ),
        ("a 1 2\nb 3 4\n".encode("utf-16"), "must be a text file"),
        (b"a" * (1 << 21), "line 1: expected fewer than 1048576 bytes. Received: a longer line, 'aaaa"),
        (b"a 1 2\nb" + b" 1" * (1 << 20), "line 2: expected fewer than 1048576 bytes"),
    ],
)
def test_wrong_texts(content, message, write):
    for packing in PACKINGS.values():
        path = write(packing(content))
        with pytest.raises(ValueError, match=message) as error:
            read_word_vectors(path)
        assert str(error.value).startswith(f"`{path}`")
        with pytest.raises(ValueError, match=message):
            nearest_words(np.ones((1, int((re.findall(r"a word and (\d)", message) or ["2"])[0]))), path)


ZIP = PACKINGS["zip"](TEXTS["GloVe"])


def encrypted(content):
    """Sets the flag that says that the entry is encrypted, in both of its headers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.infolist()[-1]
    start, central = entry.header_offset, content.rindex(b"PK\x01\x02")
    content = bytearray(content)
    content[start + 6] |= 1
    content[central + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(TEXTS["GloVe"])[:-9], "cannot be read. Received: Compressed file ended"),
        (gzip.compress(TEXTS["GloVe"])[:-8] + bytes(8), "cannot be read. Received: CRC check failed"),
        (gzip.compress(TEXTS["GloVe"])[:30] + bytes(99), "cannot be read. Received: "),
        (ZIP[: len(ZIP) // 2], "cannot be read. Received: File is not a zip file"),
        (ZIP.replace(ZIP[120:124], b"\xff\xff\xff\xff"), "cannot be read. Received: "),
        (encrypted(ZIP), "cannot be read. Received: .* is encrypted"),
        (to_zip({}), r"must hold one text file .* Received: 0 files \[\]"),
        (to_zip({"a.txt": b"a 1\n", "b.txt": b"b 1\n"}), r"unpack .* Received: 2 files \['a\.txt', 'b\.txt'\]"),
    ],
)
def test_damaged_and_wrong_packings(content, message, write):
    path = write(content)
    with pytest.raises(ValueError, match=message) as error:
        read_word_vectors(path)
    assert str(error.value).startswith(f"`{path}`")


def test_missing_files(tmp_path):
    for read in (read_word_vectors, read_word_table, lambda path: nearest_words(np.ones((1, 2)), path)):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.txt")


def peak_memory(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_large_file_does_not_fill_the_memory(packing, write):
    line = b" 0.12345" * 300 + b"\n"
    path = write(PACKINGS[packing](b"".join(b"word%d" % row + line for row in range(20_000))))  # 48 MB.
    assert peak_memory(lambda: read_word_vectors(path, ["word7", "word19999", "missing"])) < 4 << 20

    def fail():
        with pytest.raises(ValueError, match="a longer line"):
            read_word_vectors(path, ["missing"])

    path = write(PACKINGS[packing](b"a 1 2\nb 3 4\n" + b"c" * (48 << 20)))
    assert peak_memory(fail) < 8 << 20


def brute_force(vectors, words, candidates):
    """Cosine similarities, one at a time, in float64."""
    result = []
    for vector in np.asarray(vectors, np.float64):
        best = ("<unk>", 0.0 if not vector.any() else -np.inf)
        for word, candidate in zip(words, np.asarray(candidates, np.float64), strict=True):
            norms = np.sqrt((vector**2).sum() * (candidate**2).sum())
            similarity = (vector * candidate).sum() / norms if norms else 0.0
            if vector.any() and similarity > best[1]:
                best = (word, similarity)
        result.append(best)
    return [word for word, _ in result], np.array([similarity for _, similarity in result])


@pytest.mark.parametrize("block", [None, 1, 7, 500])
def test_nearest_words(block, write):
    rng = np.random.default_rng(3)
    words = [f"w{row}" for row in range(500)]
    candidates = np.round(rng.normal(size=(500, 10)), 4)
    vectors = np.concatenate([rng.normal(size=(40, 10)), candidates[::100] * [[1], [3], [1e30], [1e-30], [-1]]])
    vectors[7] = 0
    found, similarities = nearest_words(vectors, write(gzip.compress(to_text(words, candidates))), block=block)
    expected_words, expected = brute_force(vectors, words, candidates)
    assert found == expected_words
    assert found[40:44] == ["w0", "w100", "w200", "w300"]
    assert found[7] == "<unk>"
    assert similarities.dtype == np.float32
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    assert np.abs(similarities).max() <= 1
    assert similarities[7] == 0


def test_the_first_word_of_the_file_is_nearest_at_a_tie(write):
    path = write(b"zero 0 0\nup 0 2\nUP 0 4\nright 0.5 0\nRIGHT 1 0\nup 0 8\n")
    for block in (None, 1, 2, 3):
        words, similarities = nearest_words([[0, 3], [2, 0], [0, 0], [-1, 0], [3e38, 0]], path, block=block)
        assert words == ["up", "right", "<unk>", "zero", "right"]
        assert similarities.tolist() == [1, 1, 0, 0, 1]


def test_nearest_words_of_a_large_file_of_small_vectors(write):
    """One batch of lines holds more vectors than may be compared at once."""
    angles = np.linspace(0, 3, 60_000)
    words = [f"w{row}" for row in range(60_000)]
    path = write(to_text(words, np.stack([np.cos(angles), np.sin(angles)], 1), form="{:.12f}".format))
    rows = np.arange(0, 60_000, 60)
    vectors = np.stack([np.cos(angles[rows]), np.sin(angles[rows])], 1)
    peak = peak_memory(lambda: nearest_words(vectors, path))
    assert peak < 120 << 20  # The whole product would take 240 MB.
    found, similarities = nearest_words(vectors[:20], path)
    assert np.abs([int(word[1:]) - row for word, row in zip(found, rows[:20], strict=True)]).max() < 20
    np.testing.assert_allclose(similarities, 1, atol=1e-6)


def test_wrong_vectors_for_nearest_words(write):
    path = write(TEXTS["GloVe"])
    assert nearest_words(np.ones((0, 3)), path)[0] == []
    assert nearest_words(np.ones((0, 3)), path)[1].shape == (0,)
    for vectors, message in [
        (np.ones((2, 4)), r"must have 3 columns, as .*vectors\.data` .* Received: vectors of shape \(2, 4\)"),
        (np.ones(3), r"shape `\(n, dimension\)`. Received: shape \(3,\)"),
        ([["a", "b", "c"]], "Received: .* dtype <U1"),
        ([[1, 2, np.nan]], "finite numbers"),
        ([[1, 2, np.inf]], "finite numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            nearest_words(vectors, path)
    for block in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1. Received: block={block}"):
            nearest_words(np.ones((1, 3)), path, block=block)


def test_a_word_table_of_wanted_words(write):
    path = write(PACKINGS["zip"](TEXTS["word2vec"].replace(b"<unk>", b"last")))
    table = read_word_table(path, iter(["née", "missing", "at", "née", "the", "also missing"]), seed=5)
    assert table.words == ("<unk>", "<pad>", "née", "missing", "at", "the", "also missing")
    np.testing.assert_array_equal(table.vectors[[2, 4, 5]], VECTORS[[9, 4, 0]])
    assert not table.vectors[1].any()
    assert table.vectors[[0, 3, 6]].all()
    assert len(np.unique(table.vectors[[0, 3, 6]])) == 9
    assert table.origin == f"{path}, which lacks 2 of 5 words (drawn from N(0, 1), seed 5)"
    again = read_word_table(path, ["née", "missing", "at", "the", "also missing"], seed=5)
    np.testing.assert_array_equal(again.vectors, table.vectors)
    other = read_word_table(path, table.words, seed=6)
    assert other.words == table.words
    assert (other.vectors == table.vectors).all(axis=1).tolist() == [False, True, True, False, True, True, False]
    with pytest.raises(TypeError, match="Received: words='good'"):
        read_word_table(path, "good")


def test_a_word_table_of_all_words(write):
    path = write(TEXTS["GloVe"])
    table = read_word_table(path)
    assert table.words == ("<unk>", "<pad>", *WORDS[:-1])
    np.testing.assert_array_equal(table.vectors, [VECTORS[-1], np.zeros(3), *VECTORS[:-1]])
    np.testing.assert_array_equal(read_word_table(path, ["at"]).vectors, [VECTORS[-1], np.zeros(3), VECTORS[4]])
    path = write(b"<pad> 1 2\na 3 4\n")
    table = read_word_table(path)
    assert table.words == ("<unk>", "<pad>", "a")
    assert table.vectors[1:].tolist() == [[0, 0], [3, 4]]
    assert table.origin.startswith(f"{path}, which lacks 0 of 1 words")


def test_vectors_of_missing_words_are_standard_normal(write):
    path = write(to_text(["a", "b"], np.ones((2, 300))))
    table = read_word_table(path, ["a", *(str(row) for row in range(999))])
    assert table.words[:3] == ("<unk>", "<pad>", "a")
    vectors = np.delete(table.vectors, (1, 2), axis=0)
    assert vectors.shape == (1000, 300)
    # 300000 draws: six standard errors.
    assert abs(vectors.mean()) < 6 / 300_000**0.5
    assert abs(vectors.var() - 1) < 6 * (2 / 300_000) ** 0.5


def test_a_file_with_none_of_the_words_is_an_error(write):
    path = write(to_text(["a", "b"], np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"some of the words .* upper case and all\. Received: none of \['A', 'B'\]"):
        read_word_table(path, ["A", "B"])


def test_the_content_of_a_file_tells_what_it_is(write):
    torch_zip = to_zip({"archive/version": b"3", "archive/data.pkl": pickle.dumps((1, 2), 2)})
    with pytest.raises(ValueError, match="not a file that PyTorch wrote"):  # PyTorch does not compress.
        read_word_table(write(torch_zip, "glove.zip"))
    with pytest.raises(ValueError, match="not a PyTorch file"):
        read_word_table(write(pickle.dumps([1], 2), "glove.txt"))
    table = read_word_table(write(TEXTS["GloVe"], "embedding_and_mapping.pt"), ["at"])
    assert table.words == ("<unk>", "<pad>", "at")
    with pytest.raises(ValueError, match="File is not a zip file"):
        read_word_table(write(ZIP[:-30], "vectors.zip"))


def test_only_numpy_is_imported():
    code = (
        "import sys, keras_misa.data.word_vectors; "
        "print([name for name in ('tensorflow', 'keras', 'torch', 'pandas') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_the_authors_table_as_text(write):
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    authors = read_word_table(
        pathlib.Path(folder) / "data/cmu_mosi/reference_splits/embedding_and_mapping.pt", ["ignored"], seed=1
    )
    assert isinstance(authors, WordTable)
    assert len(authors) == 2729
    path = write(gzip.compress(to_text(authors.words, authors.vectors, form="{:.9g}".format)))
    table = read_word_table(path, authors.words)
    assert table.words == authors.words
    np.testing.assert_array_equal(table.vectors[2:], authors.vectors[2:])
    words, similarities = nearest_words(authors.vectors, path)
    assert words == list(authors.words)
    np.testing.assert_allclose(similarities, 1, atol=1e-6)
