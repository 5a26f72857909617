"""A prepared dataset in tables and a picture."""

import pathlib

import numpy as np

from keras_misa._files import atomic_path
from keras_misa.data.build_report import BuildReport
from keras_misa.data.load_dataset import SPLITS, label_outputs, modality_dims

DROPPED_FILE = "dropped.csv"
COLORS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}  # Okabe and Ito's, for the colour-blind


def dataset_report(builder):
    """The report of a prepared dataset.

    Args:
        builder: a `tfds.core.DatasetBuilder`, prepared.

    Returns:
        Dict of `BuildReport.as_dict`: as the files were, if the dataset was built by this package from files, else of
        what the prepared dataset holds.

    Example:
        ```python
        builder = keras_misa.data.prepare_dataset("synthetic_subspaces")
        keras_misa.data.dataset_report(builder)["splits"]["train"]["utterances"]
        ```
    """
    if (report := (builder.info.metadata or {}).get("report")) is not None:
        return report
    report = BuildReport()
    matrices = [name for name, size in modality_dims(builder).items() if size is not None]
    for split in SPLITS:
        if split in builder.info.splits:
            for example in builder.as_dataset(split=split).as_numpy_iterator():
                for modality in matrices:
                    report.look(modality, example[modality])
                report.keep(split, example)
    _, names = label_outputs(builder)
    return report.as_dict(names)


def report_tables(builder, report):
    """The report as `rich` tables and lines of text, in reading order."""
    metadata = dict(builder.info.metadata or {})
    yield f"[bold]{builder.info.full_name}[/bold]{' (SYNTHETIC data)' if metadata.get('synthetic') else ''}"
    yield _splits_table(report, metadata.get("expected_sizes") or {})
    yield _lengths_table(report)
    yield _labels_table(report)
    if report["modalities"]:
        yield _modalities_table(report)
    if report["dropped"]:
        yield _dropped_table(report)
        yield f"Each utterance that was left out is listed in {builder.data_path / DROPPED_FILE}"
    elif "sources" in metadata:
        yield "Nothing was left out."
    yield from report["notes"]
    for name, source in (metadata.get("sources") or {}).items():
        files = f", {source['files']} files" if source["files"] > 1 else ""
        yield f"Made from {name}: {source['size']:,} bytes{files}, SHA-256 {source['sha256'][:16]}…"
    yield f"Prepared in {builder.data_path}"


def plot_report(report, path, title):
    """Draws labels, lengths and bad values.

    Args:
        report: dict of `dataset_report`.
        path: file to write, PNG unless its name says otherwise.
        title: over the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    labels, lengths, columns = figure.subplots(1, 3, width_ratios=(1.2, 1.2, 1))
    _plot_labels(labels, report["splits"])
    _plot_lengths(lengths, report["splits"])
    _plot_columns(columns, report["modalities"])
    for axes in (labels, lengths, columns):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format=pathlib.Path(path).suffix[1:] or "png")


def _table(title, *columns):
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column != columns[0] else "left")
    return table


def _splits_table(report, expected):
    table = _table("Utterances", "split", "videos", "utterances", *(["in the paper", "difference"] if expected else []))
    for split in SPLITS:
        counts = report["splits"].get(split, {"videos": 0, "utterances": 0})
        if split in report["splits"] or split in expected:
            row = [f"{counts['videos']:,}", f"{counts['utterances']:,}"]
            if split in expected:
                row += [f"{expected[split]:,}", f"{counts['utterances'] - expected[split]:+,}".replace("+0", "0")]
            table.add_row(split, *row)
    return table


def _lengths_table(report):
    modalities = list(next(iter(report["splits"].values()))["lengths"])
    table = _table("Steps of an utterance: median (least to most)", "split", *modalities)
    for split, counts in report["splits"].items():
        quantiles = counts["lengths"].values()
        table.add_row(split, *(f"{q['50']:.0f} ({q['0']:.0f} to {q['100']:.0f})" for q in quantiles))
    return table


def _labels_table(report):
    values = _label_values(report["splits"])
    table = _table("Utterances by label", "split", *values)
    for split, counts in report["splits"].items():
        table.add_row(split, *(f"{counts['labels'].get(value, 0):,}" for value in values))
    return table


def _label_values(splits):
    """Every value of the histograms, numbers in their order."""
    values = dict.fromkeys(value for counts in splits.values() for value in counts["labels"])
    try:
        return sorted(values, key=float)
    except ValueError:
        return list(values)


def _modalities_table(report):
    table = _table(
        "Values as the files have them",
        *("modality", "columns", "values", "NaN", "infinite", "constant columns", "never a number"),
    )
    for modality, columns in report["modalities"].items():
        table.add_row(
            modality,
            str(columns["size"]),
            f"{columns['values']:,}",
            *(f"{columns[kind] / max(columns['values'], 1):.2%}" for kind in ("nan", "inf")),
            *(_numbers(columns[kind]) for kind in ("constant_columns", "columns_without_numbers")),
        )
    return table


def _numbers(columns):
    more = f", … ({len(columns)})" if len(columns) > 5 else ""
    return ", ".join(map(str, columns[:5])) + more or "none"


def _dropped_table(report):
    table = _table("Left out", "reason", "utterances")
    for reason, count in sorted(report["dropped"].items(), key=lambda item: -item[1]):
        table.add_row(reason, f"{count:,}")
    return table


def _plot_labels(axes, splits):
    values = _label_values(splits)
    width = 0.8 / len(splits)
    for index, (split, counts) in enumerate(splits.items()):
        share = np.array([counts["labels"].get(value, 0) for value in values]) / counts["utterances"]
        place = np.arange(len(values)) + (index - (len(splits) - 1) / 2) * width
        axes.bar(place, 100 * share, width, color=COLORS[split], label=f"{split} ({counts['utterances']:,})")
    axes.set_xticks(range(len(values)), values, rotation=0 if len(values) < 9 else 90)
    axes.set_xlabel("label", fontsize=9)
    axes.set_ylabel("% of the split", fontsize=9)
    axes.legend(fontsize=7, frameon=False)


def _plot_lengths(axes, splits):
    modalities = list(next(iter(splits.values()))["lengths"])
    width = 0.7 / len(splits)
    for index, (split, counts) in enumerate(splits.items()):
        keys = {"whislo": "5", "q1": "25", "med": "50", "q3": "75", "whishi": "95"}
        boxes = [{key: counts["lengths"][m][q] for key, q in keys.items()} | {"fliers": []} for m in modalities]
        style = {"color": COLORS[split]}
        axes.bxp(
            boxes,
            positions=np.arange(len(modalities)) + (index - (len(splits) - 1) / 2) * width,
            widths=0.8 * width,
            manage_ticks=False,
            showfliers=False,
            **{f"{part}props": style for part in ("box", "whisker", "cap", "median")},
        )
    axes.set_xticks(range(len(modalities)), modalities)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("steps of an utterance (5 % to 95 %)", fontsize=9)


def _plot_columns(axes, modalities):
    kinds = {"nan": ("NaN", "#D55E00"), "inf": ("infinite", "#CC79A7")}
    shares = {kind: [100 * c[kind] / max(c["values"], 1) for c in modalities.values()] for kind in kinds}
    constant = [100 * len(c["constant_columns"]) / c["size"] for c in modalities.values()]
    bars = [(label, color, shares[kind]) for kind, (label, color) in kinds.items()]
    bars.append(("constant columns", "0.5", constant))
    for index, (label, color, values) in enumerate(bars):
        axes.barh(np.arange(len(modalities)) + 0.25 * (1 - index), values, 0.25, color=color, label=label)
    axes.set_yticks(range(len(modalities)), list(modalities))
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, *(1.15 * value for _, _, values in bars for value in values)))
    axes.set_xlabel("% of values, or of columns", fontsize=9)
    axes.legend(fontsize=7, frameon=False)
