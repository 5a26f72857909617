"""Which columns a table of results has, and what stands in a cell."""

import numpy as np

from keras_misa.experiments.dialects import MMSA_NAMES, spread
from keras_misa.experiments.published_results import COMPARISONS, SENTIMENT_COLUMNS, SENTIMENT_METRICS
from keras_misa.experiments.task_metrics import is_classification

LOWER_IS_BETTER = ("mae", "MAE")
TICK = "✓"


def result_columns(config, dialect="paper"):
    """The columns of a task, those of the paper where it has a table of it.

    Args:
        config: dict of `make_config`, settled.
        dialect: of metrics of sentiment, see `dialects`.

    Returns:
        Dict, heading → names of the metrics in its cells, in the names of the dialect. One without metrics says what a
        model sees of UR-FUNNY.
    """
    if is_classification(config):
        table = published_table(config)
        return dict(zip(table.columns, table.metrics, strict=True)) if table else {"Accuracy ↑": ("accuracy",)}
    if config["metrics"] == "sentiment":
        if dialect == "mmsa":
            return {f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}": (name,) for name in MMSA_NAMES.values()}
        return dict(zip(SENTIMENT_COLUMNS, SENTIMENT_METRICS, strict=True))
    scores = {f"{name}: MAE ↓ / Corr ↑": (f"mae_{name}", f"corr_{name}") for name in config["score_names"] or ()}
    mean = ", mean" if scores else ""
    return {f"MAE{mean} ↓": ("mae",), f"Corr{mean} ↑": ("corr",), **scores}


def published_table(config):
    """The paper's table of a dataset, or `None`."""
    table = COMPARISONS.get(config["dataset"].split("/")[0])
    if table is None or config["label"] != "label":
        return None
    is_its_task = is_classification(config) if "accuracy" in table.metrics[-1] else config["metrics"] == "sentiment"
    return table if is_its_task else None


def result_cell(names, metrics, dialect="paper", daggers=()):
    """What a model reaches, mean ± standard deviation over its runs.

    Args:
        names: of the metrics in the cell.
        metrics: dict, name → array of its values, one a run.
        dialect: what its numbers are in.
        daggers: names of metrics that get one.
    """
    return _join([_part(name, metrics[name], dialect, name in daggers) if name in metrics else "-" for name in names])


def difference_cell(names, best, best_of_others, dialect="paper"):
    """By how much one is above (↑) or below (↓) the other, both dicts, name → number."""
    parts = []
    for name in names:
        if name in best and name in best_of_others:
            difference = best[name] - best_of_others[name]
            arrow = "↑ " if difference > 0 else "↓ " if difference < 0 else ""
            parts.append(arrow + format_metric(name, abs(difference), dialect))
        else:
            parts.append("-")
    return _join(parts)


def published_cells(table, row, columns, dialect="paper"):
    """A published row's cells under other columns, in a dialect's names and units.

    MMSA's are the same numbers times 100. The CMU SDK's Acc-7 is another number, which the paper does not have.
    """
    if dialect == "paper":
        return list(row[1:])
    parts = table.parts(row)
    if dialect == "sdk":
        parts.pop("acc7", None)
    else:
        parts = {
            MMSA_NAMES[name]: _times_100(text) if name in ("mae", "corr") else text for name, text in parts.items()
        }
    return [_join([parts.get(name, "-") for name in names]) for names in columns.values()]


def format_metric(name, value, dialect="paper", signed=False):
    """A number as the paper prints it; NaN where it has no value."""
    sign = "+" if signed else ""
    if dialect == "mmsa":
        return f"{value:{sign}.2f}"
    if name.split("_")[0] in ("mae", "corr"):
        return f"{value:{sign}.3f}"
    return f"{100 * value:{sign}.{2 if name == 'accuracy' else 1}f}"


def _part(name, values, dialect, dagger):
    text = format_metric(name, np.mean(values), dialect)
    if len(values) > 1:
        text += f" ± {format_metric(name, spread(values, dialect), dialect)}"
    return text + ("†" if dagger else "")


def _times_100(text):
    words = text.split(" ")  # an arrow may stand before the number
    return " ".join([*words[:-1], f"{100 * float(words[-1]):.1f}"])


def _join(parts):
    return "-" if parts and set(parts) == {"-"} else " / ".join(parts)
