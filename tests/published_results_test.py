"""The published tables are those of the paper, found again in its text."""

import os
import pathlib
import re

import pytest

from keras_misa.experiments.published_results import COMPARISONS, TABLE_1, TABLE_2, TABLE_3, TABLE_4

TABLES = {table.number: table for table in (TABLE_1, TABLE_2, TABLE_3, TABLE_4)}
SIZES = {1: 22, 2: 14, 3: 9, 4: 11}


@pytest.fixture(scope="module")
def paper():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder or not pathlib.Path(folder, "paper.txt").exists():
        pytest.skip("needs KERAS_MISA_TEST_DATA with paper.txt")
    return pathlib.Path(folder, "paper.txt").read_text(encoding="utf-8")


def printed_table(paper, number):
    """The text between a table's first heading and its caption, in one line, names as in the data."""
    end = paper.index(f"\nTable {number}:")
    start = max(paper.rfind(heading, 0, end) for heading in ("\nModels\n", "\nAlgorithms\n", "\nModel MOSI"))
    text = paper[start:end]
    for symbol, plain in (("Δ𝑆𝑂𝑇𝐴", "Δ_SOTA"), ("Lsim", "L_sim"), ("L\ndiff", "L_diff"), ("Lrecon", "L_recon")):
        text = text.replace(symbol, plain)
    text = re.sub(r"(language|visual|audio) [𝑙𝑣𝑎]", r"\1", text)
    return " ".join(text.split())


@pytest.mark.parametrize("number", TABLES)
def test_rows_are_the_paper_s_and_all_of_them(paper, number):
    table = TABLES[number]
    assert len(table.rows) == SIZES[number]
    rows = [" ".join(cell for cell in row if cell) for row in (*table.rows, *([table.delta] if table.delta else []))]
    printed = printed_table(paper, number)
    assert printed.endswith(" ".join(rows))
    heading = printed.removesuffix(" ".join(rows))
    assert not re.search(r"\d\.\d", heading)  # nothing is left out
    assert len(re.findall(r"\d\.\d", printed)) == len(re.findall(r"\d\.\d", " ".join(rows)))


@pytest.mark.parametrize("number", TABLES)
def test_every_cell_has_its_column(number):
    table = TABLES[number]
    assert len(table.columns) == len(table.metrics)
    for row in (*table.rows, *([table.delta] if table.delta else [])):
        assert len(row) == len(table.columns) + 1
    best = table.numbers(table.rows[-1 if number < 4 else 0])
    assert list(best) == [name for names in table.metrics for name in names]


def test_numbers_by_hand():
    by_name = {row[0]: TABLE_1.numbers(row) for row in TABLE_1.rows}
    assert by_name["CIA"] == {"mae": 0.914, "corr": 0.689, "acc2_nonneg": 79.8, "f1_pos": 79.5, "acc7": 38.9}
    assert by_name["CH-Fusion"] == {"acc2_nonneg": 80.0}
    assert by_name["MISA (B)"]["acc2_nonneg"] == 81.8
    assert TABLE_3.numbers(TABLE_3.rows[0]) == {"accuracy": 58.45}
    assert TABLE_4.numbers(TABLE_4.rows[1])["mosi_corr"] == 0.041


def test_sizes_of_table_5(paper):
    sizes = [COMPARISONS[name].test_utterances for name in ("cmu_mosi", "cmu_mosei", "ur_funny")]
    assert "test " + " ".join(map(str, sizes)) in paper


@pytest.mark.parametrize(
    ("number", "others"),
    [
        (1, {"acc2_nonneg": 1.8, "acc7": 2.3}),
        (2, {"corr": 0.039, "acc2_pos": 1.1, "f1_nonneg": 3.2, "f1_pos": 1.0, "acc7": 0.4}),
        (3, {"accuracy": 2.04}),
    ],
)
def test_where_the_printed_delta_is_not_that_of_the_rows(number, others):
    """What the notes below the tables say of the row Δ_SOTA."""
    table = TABLES[number]
    rows = [table.numbers(row) for row in table.rows if "MISA" not in row[0]]
    best = table.numbers(table.rows[-1])
    for name, printed in table.numbers(table.delta).items():
        sign = -1 if "mae" in name else 1
        gain = min(sign * (best[name] - row[name]) for row in rows if name in row)
        assert gain == pytest.approx(others.get(name, printed), abs=1e-9), name
        if name in others:
            assert printed != others[name]
            assert f"{others[name]}" in " ".join(table.notes)
