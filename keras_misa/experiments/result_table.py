"""A table of results, for people, for papers and for programs."""

import csv
import io
import pathlib

from keras_misa._files import write_text

SUFFIXES = (".md", ".csv", ".tex")


class ResultTable:
    r"""Rows of text under headings.

    Args:
        caption: what the table shows, with its source.
        columns: headings.
        rows: lists of cells, strings, as many as columns; `None` instead of a list is a line across the table.
        notes: sentences that stand below the table.

    Raises:
        ValueError: If a row has another number of cells.

    Example:
        >>> table = ResultTable("Results", ["model", "MAE ↓"], [["MISA", "0.783"], None, ["TFN & co.", "0.901"]])
        >>> print(table.to_csv(), end="")
        model,MAE ↓
        MISA,0.783
        TFN & co.,0.901
        >>> print(table.to_markdown())
        Results
        <BLANKLINE>
        | model | MAE ↓ |
        | :--- | ---: |
        | MISA | 0.783 |
        | --- | --- |
        | TFN & co. | 0.901 |
        >>> table.to_latex().splitlines()[-5]
        'TFN \\& co. & 0.901 \\\\'
    """

    def __init__(self, caption, columns, rows, notes=()):
        self.caption = caption
        self.columns = list(columns)
        self.notes = list(notes)
        self.rows = [row if row is None else list(row) for row in rows]
        for row in self.rows:
            if row is not None and len(row) != len(self.columns):
                raise ValueError(f"Expected {len(self.columns)} cells, {self.columns}. Received: {row}")

    def to_markdown(self):
        """The table in GitHub's Markdown; lines across it are rows of dashes."""
        lines = [self.caption, "", _pipes(self.columns)]
        lines.append(_pipes([":---"] + ["---:"] * (len(self.columns) - 1)))
        lines += [_pipes(["---"] * len(self.columns) if row is None else row) for row in self.rows]
        lines += [line for note in self.notes for line in ("", note)]
        return "\n".join(lines)

    def to_csv(self):
        """The table as CSV, without caption, lines and notes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *([_plain(row[0]), *row[1:]] for row in self.rows if row is not None)])
        return text.getvalue()

    def to_latex(self):
        """The table for LaTeX, with the packages booktabs and (for ticks) amssymb."""
        alignment = "l" + "r" * (len(self.columns) - 1)
        lines = [r"\begin{table}", r"\centering", f"\\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        lines += [" & ".join(map(_escape, self.columns)) + r" \\", r"\midrule"]
        lines += [r"\midrule" if row is None else " & ".join(map(_escape, row)) + r" \\" for row in self.rows]
        caption = _escape(" ".join([f"{self.caption}.", *self.notes] if self.notes else [self.caption]))
        lines += [r"\bottomrule", r"\end{tabular}", f"\\caption{{{caption}}}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def to_rich(self):
        """The table for the terminal, a `rich.table.Table`."""
        from rich.markup import escape
        from rich.table import Table

        notes = escape("\n".join(self.notes)) or None
        table = Table(title=escape(self.caption), title_justify="left", caption=notes, caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(
                escape(column), justify="right" if number else "left", no_wrap=number == 0, overflow="fold"
            )
        for row in self.rows:
            table.add_section() if row is None else table.add_row(*map(escape, row))
        return table

    def write(self, path):
        """Write `<path>.md`, `<path>.csv` and `<path>.tex`; returns the three paths."""
        contents = (self.to_markdown() + "\n", self.to_csv(), self.to_latex())
        for file, text in zip(self.paths(path), contents, strict=True):
            write_text(file, text)
        return self.paths(path)

    @staticmethod
    def paths(path):
        """The three files that `write` writes."""
        return [pathlib.Path(f"{path}{suffix}") for suffix in SUFFIXES]


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "[": "{[}",  # after the end of a line it would begin an argument
    "]": "{]}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "⊗": r"$\otimes$",
    "⊘": r"$\oslash$",
    "⋄": r"$\diamond$",
    "✓": r"\checkmark{}",
    "×": r"$\times$",
    "“": "``",
    "”": "''",
    "<": "$<$",
    ">": "$>$",
}


def _escape(text):
    return "".join(_LATEX.get(character, character) for character in text)


def _plain(name):
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _pipes(cells):
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").splitlines()) for cell in cells) + " |"
