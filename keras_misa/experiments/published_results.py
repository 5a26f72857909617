"""The tables of the MISA paper, as printed.

Source: Hazarika, Zimmermann, Poria. MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment
Analysis. ACM Multimedia 2020, Tables 1 to 4. Cells are text exactly as printed, `-` where nothing was reported, two
numbers as `negative / non-negative` and `negative / positive`. Marks at names tell whose paper a row was taken from.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """A table of results in print.

    Args:
        number: of the table.
        columns: headings after the models' names.
        metrics: for each column the names of the metrics in its cells, as in `metrics.json`; none where there is none.
        rows: a model's name, with `(B)` for text by BERT and a mark for its source, then its cells.
        notes: what its marks mean, and what to know before reading it.
        delta: the row Δ_SOTA, the paper's improvement over the state of the art, or `None`.
        test_utterances: in the test split, by the paper's Table 5.
    """

    number: int
    columns: tuple
    metrics: tuple
    rows: tuple
    notes: tuple
    delta: tuple | None = None
    test_utterances: int | None = None

    @property
    def source(self):
        """Where the numbers stand."""
        return f"Hazarika et al., MISA, ACM MM 2020, Table {self.number}"

    def parts(self, row):
        """A row as a dict, metric → text, without those that were not reported.

        Example:
            >>> TABLE_1.parts(TABLE_1.rows[-1])["acc2_pos"]
            '83.4†'
        """
        parts = {}
        for names, cell in zip(self.metrics, row[1:], strict=True):
            if names and cell != "-":
                parts.update(zip(names, cell.split(" / "), strict=True))
        return {name: part for name, part in parts.items() if part != "-"}

    def numbers(self, row):
        """A row as a dict, metric → number.

        Example:
            >>> TABLE_1.numbers(TABLE_1.rows[-1])["acc2_pos"]
            83.4
        """
        return {name: float(part.strip("†↑↓ ")) for name, part in self.parts(row).items()}


SENTIMENT_COLUMNS = ("MAE ↓", "Corr ↑", "Acc-2 ↑", "F-Score ↑", "Acc-7 ↑")
SENTIMENT_METRICS = (("mae",), ("corr",), ("acc2_nonneg", "acc2_pos"), ("f1_nonneg", "f1_pos"), ("acc7",))


def _rows(text):
    """A line a row, cells between bars."""
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in text.strip().splitlines())


TABLE_1 = PublishedTable(
    number=1,
    columns=SENTIMENT_COLUMNS,
    metrics=SENTIMENT_METRICS,
    rows=_rows(
        """
        BC-LSTM      | 1.079 | 0.581 | 73.9 / -      | 73.9 / -    | 28.7
        MV-LSTM      | 1.019 | 0.601 | 73.9 / -      | 74.0 / -    | 33.2
        TFN          | 0.970 | 0.633 | 73.9 / -      | 73.4 / -    | 32.1
        MARN         | 0.968 | 0.625 | 77.1 / -      | 77.0 / -    | 34.7
        MFN          | 0.965 | 0.632 | 77.4 / -      | 77.3 / -    | 34.1
        LMF          | 0.912 | 0.668 | 76.4 / -      | 75.7 / -    | 32.8
        CH-Fusion    | -     | -     | 80.0 / -      | -           | -
        MFM ⊗        | 0.951 | 0.662 | 78.1 / -      | 78.1 / -    | 36.2
        RAVEN ⊗      | 0.915 | 0.691 | 78.0 / -      | 76.6 / -    | 33.2
        RMFN ⊗       | 0.922 | 0.681 | 78.4 / -      | 78.0 / -    | 38.3
        MCTN ⊗       | 0.909 | 0.676 | 79.3 / -      | 79.1 / -    | 35.6
        CIA          | 0.914 | 0.689 | 79.8 / -      | - / 79.5    | 38.9
        HFFN ⊘       | -     | -     | - / 80.2      | - / 80.3    | -
        LMFN ⊘       | -     | -     | - / 80.9      | - / 80.9    | -
        DFF-ATMF (B) | -     | -     | - / 80.9      | - / 81.2    | -
        ARGF         | -     | -     | - / 81.4      | - / 81.5    | -
        MulT         | 0.871 | 0.698 | - / 83.0      | - / 82.8    | 40.0
        TFN (B) ⋄    | 0.901 | 0.698 | - / 80.8      | - / 80.7    | 34.9
        LMF (B) ⋄    | 0.917 | 0.695 | - / 82.5      | - / 82.4    | 33.2
        MFM (B) ⋄    | 0.877 | 0.706 | - / 81.7      | - / 81.6    | 35.4
        ICCN (B)     | 0.860 | 0.710 | - / 83.0      | - / 83.0    | 39.0
        MISA (B)     | 0.783 | 0.761 | 81.8† / 83.4† | 81.7 / 83.6 | 42.3
        """
    ),
    delta=("Δ_SOTA", "↓ 0.077", "↑ 0.051", "↑ 2.0 / ↑ 0.4", "↑ 2.6 / ↑ 0.6", "↑ 3.3"),
    notes=(
        "(B): text by BERT; † p < 0.05, McNemar's test on the binary decisions, against the public models LMF, MFM and "
        "TFN; numbers that the paper took from the papers of: ⊗ MulT, ⊘ ARGF, ⋄ ICCN.",
        "Δ_SOTA as printed; over the best row of its column Acc-2 and Acc-7 would gain 1.8 and 2.3, not 2.0 and 3.3.",
    ),
    test_utterances=686,
)

TABLE_2 = PublishedTable(
    number=2,
    columns=SENTIMENT_COLUMNS,
    metrics=SENTIMENT_METRICS,
    rows=_rows(
        """
        MFN ⊗        | -     | -     | 76.0 / -      | 76.0 / -    | -
        MV-LSTM ⊗    | -     | -     | 76.4 / -      | 76.4 / -    | -
        Graph-MFN ⊗  | 0.710 | 0.540 | 76.9 / -      | 77.0 / -    | 45.0
        RAVEN        | 0.614 | 0.662 | 79.1 / -      | 79.5 / -    | 50.0
        MCTN         | 0.609 | 0.670 | 79.8 / -      | 80.6 / -    | 49.6
        CIA          | 0.680 | 0.590 | 80.4 / -      | 78.2 / -    | 50.1
        CIM-MTL      | -     | -     | 80.5 / -      | 78.8 / -    | -
        DFF-ATMF (B) | -     | -     | - / 77.1      | - / 78.3    | -
        MulT         | 0.580 | 0.703 | - / 82.5      | - / 82.3    | 51.8
        TFN (B) ⋄    | 0.593 | 0.700 | - / 82.5      | - / 82.1    | 50.2
        LMF (B) ⋄    | 0.623 | 0.677 | - / 82.0      | - / 82.1    | 48.0
        MFM (B) ⋄    | 0.568 | 0.717 | - / 84.4      | - / 84.3    | 51.3
        ICCN (B)     | 0.565 | 0.713 | - / 84.2      | - / 84.2    | 51.6
        MISA (B)     | 0.555 | 0.756 | 83.6† / 85.5† | 83.8 / 85.3 | 52.2
        """
    ),
    delta=("Δ_SOTA", "↓ 0.010", "↑ 0.043", "↑ 3.1 / ↑ 1.3", "↑ 5.0 / ↑ 1.1", "↑ 0.6"),
    notes=(
        "(B): text by BERT; † p < 0.05, McNemar's test on the binary decisions, against the public models LMF, MFM and "
        "TFN; numbers that the paper took from the papers of: ⊗ CMU-MOSEI (Graph-MFN), ⋄ ICCN.",
        "Δ_SOTA as printed; over the best row of its column it would be Corr 0.039, Acc-2 3.1 / 1.1, F-Score 3.2 / 1.0 "
        "and Acc-7 0.4.",
    ),
    test_utterances=4654,
)

TABLE_3 = PublishedTable(
    number=3,
    columns=("context", "target", "Accuracy-2 ↑"),
    metrics=((), (), ("accuracy",)),
    rows=_rows(  # that C-MFN sees the context alone at 58.45 is as in UR-FUNNY's own paper
        """
        C-MFN        | ✓ |   | 58.45
        C-MFN        |   | ✓ | 64.47
        TFN          |   | ✓ | 64.71
        LMF          |   | ✓ | 65.16
        C-MFN        | ✓ | ✓ | 65.23
        LMF (Bert)   |   | ✓ | 67.53
        TFN (Bert)   |   | ✓ | 68.57
        MISA (GloVe) |   | ✓ | 68.60
        MISA (Bert)  |   | ✓ | 70.61†
        """
    ),
    delta=("Δ_SOTA", "", "", "↑ 2.07"),
    notes=(
        "context, target: what a model sees, the sentences before the punchline, or it; † p < 0.05, McNemar's test "
        "against LMF and TFN.",
        "Δ_SOTA as printed; 70.61 less 68.57 is 2.04.",
    ),
    test_utterances=3290,
)

TABLE_4 = PublishedTable(
    number=4,
    columns=("MOSI MAE ↓", "MOSI Corr ↑", "MOSEI MAE ↓", "MOSEI Corr ↑", "UR-FUNNY Acc-2 ↑"),
    metrics=(("mosi_mae",), ("mosi_corr",), ("mosei_mae",), ("mosei_corr",), ("ur_funny_accuracy",)),
    rows=_rows(
        """
        1) MISA         | 0.783 | 0.761 | 0.555 | 0.756 | 70.6
        2) (-) language | 1.450 | 0.041 | 0.801 | 0.090 | 55.5
        3) (-) visual   | 0.798 | 0.756 | 0.558 | 0.753 | 69.7
        4) (-) audio    | 0.849 | 0.732 | 0.562 | 0.753 | 70.2
        5) (-) L_sim    | 0.807 | 0.740 | 0.566 | 0.751 | 69.3
        6) (-) L_diff   | 0.824 | 0.749 | 0.565 | 0.742 | 69.3
        7) (-) L_recon  | 0.794 | 0.757 | 0.559 | 0.754 | 69.7
        8) base         | 0.810 | 0.750 | 0.568 | 0.752 | 69.2
        9) inv          | 0.811 | 0.737 | 0.561 | 0.743 | 68.8
        10) sFusion     | 0.858 | 0.716 | 0.563 | 0.752 | 70.1
        11) iFusion     | 0.850 | 0.735 | 0.555 | 0.750 | 69.8
        """
    ),
    notes=("(-): without it. Model 1 is the best model of each dataset; 8 to 11 are the variants of section 5.2.3.",),
)

COMPARISONS = {"cmu_mosi": TABLE_1, "cmu_mosei": TABLE_2, "ur_funny": TABLE_3}
