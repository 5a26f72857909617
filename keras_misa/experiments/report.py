"""Results as tables on the terminal and curves on paper."""

import numpy as np

from keras_misa._files import atomic_path
from keras_misa.experiments.dialects import MMSA_NAMES

HEADINGS = {
    "mae": "MAE ↓",
    "corr": "Corr ↑",
    "acc7": "Acc-7 ↑",
    "acc5": "Acc-5 ↑",
    "acc2_nonneg": "Acc-2 ↑ negative / non-negative",
    "f1_nonneg": "F1 ↑ negative / non-negative",
    "acc2_pos": "Acc-2 ↑ negative / positive",
    "f1_pos": "F1 ↑ negative / positive",
    "accuracy": "Accuracy ↑",
    **{name: name for name in MMSA_NAMES.values()},
}


def dataset_title(dataset):
    """The name, with a word of warning where nobody said what is in it."""
    return f"{dataset} (SYNTHETIC data)" if dataset.startswith("synthetic") else dataset


def split_title(config, split, rows=None):
    """Names the data, how it was dealt out, and how many utterances it has; says so where it is made up."""
    dealt = f" re-dealt by {config['split_by']}" if config["split_by"] else ""
    size = "" if rows is None else f", {rows} utterances"
    return f"{dataset_title(config['dataset'])}, {split} split{dealt}{size}"


def metrics_table(metrics, title, best=None):
    """The metrics as a `rich` table, shares in percent; `best` adds what is reachable at all."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("this model", justify="right")
    if best:
        table.add_column("knowing the true factors", justify="right")
    for name, heading in HEADINGS.items():
        if name in metrics:
            table.add_row(heading, *(cell(name, column[name]) for column in (metrics, best) if column))
    return table


def cell(name, value, std=None):
    """A metric as text, shares in percent, with its standard deviation where there is one."""
    if value is None or not np.isfinite(value):
        return "-"
    is_mmsa = name in MMSA_NAMES.values()
    factor, digits = (1, 4) if name.startswith(("mae", "corr")) else (1 if is_mmsa else 100, 2)
    text = " ± ".join(f"{factor * number:.{digits}f}" for number in (value, std) if number is not None)
    return text + ("%" if factor == 100 else "")


def scores_table(scores, title):
    """Nested dict of numbers as a `rich` table: outer names are rows, inner names columns."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    columns = list(next(iter(scores.values())))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row, values in scores.items():
        table.add_row(row, *(f"{values[column]:.3f}" for column in columns))
    return table


def plot_curves(history, path, title):
    """Draw each term over the epochs, training and validation.

    Args:
        history: list of dicts, one an epoch, as in `history.csv`.
        path: PNG file to write.
        title: over the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {
        "task": "Task loss",
        "similarity": "Similarity",
        "difference": "Difference",
        "reconstruction": "Reconstruction",
    }
    panels = {name: label for name, label in panels.items() if name in history[0]}
    figure = Figure(figsize=(3.1 * len(panels), 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    best = epochs[int(np.argmin([row["val_task"] for row in history]))]
    for index, (name, label) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        # Okabe-Ito blue and vermilion, told apart by dashes too.
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, [row[name] for row in history], color="#0072B2", label="training", marker=marker)
        validation = [row[f"val_{name}"] for row in history]
        axes.plot(epochs, validation, color="#D55E00", linestyle="--", label="validation", marker=marker)
        axes.axvline(best, color="0.6", linewidth=0.8, linestyle=":", label="best epoch")
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0.0)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if index == 0:
            axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200)
