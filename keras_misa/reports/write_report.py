"""One HTML page that says everything about runs."""

import base64
import io
import json
import pathlib
import shlex

import numpy as np

from keras_misa._files import write_text
from keras_misa.experiments.compare import compare
from keras_misa.experiments.load_run import read_run
from keras_misa.experiments.recorded_metrics import MetricsMismatch, check_recorded_metrics
from keras_misa.experiments.report import HEADINGS, dataset_title
from keras_misa.experiments.result_cells import format_metric
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import run_label
from keras_misa.experiments.train_command import SETTLED, changed_settings, train_command
from keras_misa.plots._style import COLUMN, write_figure
from keras_misa.plots.draw_figures import find_named_groups, folder_name, make_drawings
from keras_misa.presets import PRESETS
from keras_misa.reports._html import commands, join, table, tag

PLAIN = ("mae", "corr")  # the other metrics are shares, shown in percent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # browsers see to it: no script, no request
SECTIONS = ("Results", "Figures", "Data", "Configuration", "How to repeat it", "Machine and versions")


def write_report(
    runs,
    out,
    title=None,
    tables=None,
    figures=None,
    split="test",
    without=None,
    manual_dir=None,
    data_dir=None,
):
    """Write runs as one HTML page that needs no other file, no network and no script.

    The page holds the metrics of every model, mean ± standard deviation over its seeds and each seed by itself; the
    figures; where the data came from and what is in it; every setting, with what differs from the preset; the commands
    that repeat the runs; machine and versions. The same runs give the same page.

    Args:
        runs: folders, as `find_run_groups` takes them.
        out: HTML file to write.
        title: over the page; by default the names of the models and of the data.
        tables: `ResultTable`s to show among the results; by default those of `keras_misa.experiments.compare`.
        figures: see `draw_figures`.
        split: of the figures, likewise.
        without: likewise.
        manual_dir: likewise.
        data_dir: likewise.

    Returns:
        Dict, name of a figure (and model), or `comparison` → why it is not there.

    Raises:
        FileNotFoundError: If there is no finished run.
        ValueError: If a figure is unknown, `without` is not what it must be, a run's metrics are not those of its
            predictions, or `out` is not a `.html` file.

    Example:
        ```python
        keras_misa.reports.write_report(["runs/misa", "runs/base"], "report.html")
        ```
    """
    out = pathlib.Path(out)
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"A report is an HTML file, .html. Received: out={str(out)!r}")
    groups = find_named_groups(runs)
    for group in groups:
        try:
            check_recorded_metrics(group)
        except MetricsMismatch:
            raise
        except (ValueError, OSError):
            pass  # Files that are damaged or not there: the figures and the comparison that need them tell it.
    written = {group.name: [read_run(run)[1] for run in group.runs] for group in groups}
    drawings = list(make_drawings(groups, figures, split, without, manual_dir, data_dir))
    datasets = list(dict.fromkeys(dataset_title(group.config["dataset"]) for group in groups))
    problems = {f"{d.group}/{d.name}" if d.group else d.name: d.problem for d in drawings if d.problem}
    if tables is None:
        try:
            comparisons = compare(*groups)
            tables = [shown for c in comparisons for shown in (c.results, c.tests) if shown]
        except (ValueError, OSError) as error:
            tables, problems["comparison"] = [], str(error)
    title = title or f"{', '.join(group.name for group in groups)}: {', '.join(datasets)}"
    contents = (
        _results(groups, tables),
        _figures(drawings),
        [_data(*data) for data in _all_data(written)],
        [_configuration(group, written[group.name][0]) for group in groups],
        _repetition(groups, written, out.name),
        _environment(written),
    )
    ids = {heading: heading.lower().replace(" ", "-") for heading in SECTIONS}
    body = tag(
        "main",
        tag(
            "header",
            tag("h1", title),
            tag("p", _summary(groups, written, datasets), class_="quiet"),
            _warning(written),
            tag("nav", [tag("a", heading, href=f"#{ids[heading]}") for heading in SECTIONS]),
        ),
        [
            tag("section", tag("h2", heading, id=ids[heading]), content)
            for heading, content in zip(SECTIONS, contents, strict=True)
        ],
    )
    style = pathlib.Path(__file__).with_name("_page.css").read_text(encoding="utf-8")
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="generator", content="keras-misa"),
            tag("title", title),
        ]
    )
    page = ["<!doctype html>", '<html lang="en">', f"<head>{head}<style>", f"{style}</style></head>"]
    write_text(out, "\n".join([*page, f"<body>{body}</body>", "</html>", ""]))
    return problems


# === What was run ===


def _summary(groups, written, datasets):
    runs = sum(len(of_group) for of_group in written.values())
    versions = _distinct(written, lambda run: run.get("versions", {}).get("keras-misa", "of unknown version"))
    counts = f"{_count(len(groups), 'model')}, {_count(runs, 'run')}"
    return f"{counts}, on {' and '.join(datasets)}. Trained by keras-misa {' and '.join(versions)}."


def _warning(written):
    made_up = [
        run["settings"]["dataset"]
        for run in _distinct(written, lambda run: run)
        if run["data"].get("synthetic") or run["settings"]["dataset"].startswith("synthetic")
    ]
    if not made_up:
        return None
    names = " and ".join(dict.fromkeys(made_up))
    text = f"{names} is SYNTHETIC data, made by a program: numbers on it say nothing about people."
    return tag("p", tag("strong", text), class_="warning", role="note")


def _distinct(written, value_of):
    """The values of all runs, each once, in their order."""
    values = [value_of(run) for of_group in written.values() for run in of_group]
    return [value for number, value in enumerate(values) if value not in values[:number]]


def _count(number, noun):
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# === Results ===


def _results(groups, tables):
    metrics = {group.name: group.metrics() for group in groups}
    names = list(dict.fromkeys(name for of_group in metrics.values() for name in of_group))
    columns = ["model", *map(_heading, names)]
    means = [
        [f"{group.name} ({group.extent})"] + [_mean(name, metrics[group.name].get(name)) for name in names]
        for group in groups
    ]
    caption = "Test split, mean ± standard deviation over the runs (of a sample, n − 1)."
    shown = [table(ResultTable(caption, columns, means)), [table(extra) for extra in tables]]
    if any(len(group.runs) > 1 for group in groups):
        rows = []
        for group in groups:
            rows.append(None)
            for number, run in enumerate(group.runs):
                cells = [metrics[group.name].get(name) for name in names]
                cells = ["–" if c is None else _number(name, c[number]) for name, c in zip(names, cells, strict=True)]
                rows.append([f"{group.name}, {run_label(run)}" if len(group.runs) > 1 else group.name, *cells])
        each = table(ResultTable("Test split, each run.", columns, rows[1:]))
        shown.append(tag("details", tag("summary", "Each run"), each))
    return shown


def _heading(name):
    metric, _, score = name.partition("_")
    if name in HEADINGS or metric not in PLAIN:
        return HEADINGS.get(name, name) + ("" if name in PLAIN else ", %")
    return f"{HEADINGS[metric]} {score}"


def _number(name, value):
    return format_metric(name, value).replace("-", "−") if np.isfinite(value) else "–"


def _mean(name, values):
    if values is None:
        return "–"
    mean = _number(name, values.mean())
    return mean if len(values) == 1 or mean == "–" else f"{mean} ± {_number(name, values.std(ddof=1))}"


# === Figures ===


def _figures(drawings):
    parts = []
    groups = dict.fromkeys(drawing.group for drawing in drawings)
    for group in sorted(groups, key=lambda name: name is not None):  # those of all models first
        shown = [drawing for drawing in drawings if drawing.group == group and not drawing.problem]
        if shown:
            parts.append(tag("h3", group or "All models") if len(groups) > 1 else None)
            parts.append(tag("div", [_figure(drawing) for drawing in shown], class_="figures"))
    if missing := [drawing for drawing in drawings if drawing.problem]:
        names = [f"{drawing.name} of {drawing.group}" if drawing.group else drawing.name for drawing in missing]
        parts.append(tag("h3", "Not drawn"))
        parts.append(
            tag(
                "ul",
                [tag("li", f"{name}: {d.problem}") for name, d in zip(names, missing, strict=True)],
                class_="quiet",
            )
        )
    return parts


def _figure(drawing):
    stream = io.BytesIO()
    write_figure(drawing.figure, stream, "svg", drawing.caption)
    source = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
    width, height = drawing.figure.get_size_inches()
    is_wide = width > 1.5 * COLUMN
    alternative = f"{drawing.name}{f' of {drawing.group}' if drawing.group else ''}: {drawing.caption}"
    return tag(
        "figure",
        tag("img", src=source, alt=alternative, width=round(160 * width), height=round(160 * height)),
        tag("figcaption", drawing.caption),
        class_="wide" if is_wide else None,
    )


# === Data ===


def _all_data(written):
    """All data of the runs, each once: settings, what is known of it, its texts, and how it was dealt out."""

    def data_of(run):
        names = ("dataset", "label", "modalities", "class_names", "score_names")
        settings = {name: run["settings"].get(name) for name in names}
        return settings, {name: value for name, value in run["data"].items() if name not in ("splits", "text")}

    def text_of(run):
        return run["data"].get("text")

    def dealing(run):
        return run["settings"].get("split_by"), run["data"].get("splits", {})

    for data in _distinct(written, data_of):
        of_it = {name: [run for run in runs if data_of(run) == data] for name, runs in written.items()}
        yield *data, _distinct(of_it, text_of), _distinct(of_it, dealing)


def _data(settings, data, texts, dealings):
    lines = [f"Version {data.get('version', 'unknown')}; predicted is the feature “{settings['label']}”"]
    for name, what in (("class_names", "classes"), ("score_names", "scores")):
        if settings[name]:
            lines[0] += f", {what}: {', '.join(settings[name])}"
    lines += [f"Text is {text['description']} (SHA-256 {text['sha256']})" for text in texts if text]
    return [
        tag("h3", dataset_title(settings["dataset"])),
        [tag("p", f"{line}.") for line in lines],
        [_dealt(split_by, splits, data.get("expected_sizes") or {}) for split_by, splits in dealings],
        tag("div", table(_sources(data["sources"])), class_="text") if data.get("sources") else None,
        _details("What else is known of the data", data),
    ]


def _dealt(split_by, splits, expected):
    lines = [f"The videos of all splits were dealt out anew: {split_by}"] if split_by else []
    lines += [
        f"{split} is one video, one speaker: what is measured on it says little"
        for split, counts in splits.items()
        if counts.get("videos") == 1
    ]
    return [tag("p", f"{line}.") for line in lines], table(_splits(splits, {} if split_by else expected))


def _splits(splits, expected):
    counted = list(dict.fromkeys(name for counts in splits.values() for name in counts))
    columns = ["split", *(name.replace("_", " ") for name in counted), *(["in the paper"] if expected else [])]
    rows = [
        [split, *(f"{counts[name]:,}" if name in counts else "–" for name in counted)]
        + ([f"{expected[split]:,}" if split in expected else "–"] if expected else [])
        for split, counts in splits.items()
    ]
    return ResultTable("What is in the splits.", columns, rows)


def _sources(sources):
    rows = [[name, f"{s['size']:,}", f"{s.get('files', 1):,}", s["sha256"]] for name, s in sources.items()]
    return ResultTable("The files that it was made from.", ["file", "bytes", "files", "SHA-256"], rows)


def _details(heading, value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return tag("details", tag("summary", heading), tag("pre", text, class_="wrap"))


# === Configuration and repetition ===


def _configuration(group, written):
    config, contextual = group.config, written["data"].get("contextual") or ()
    base = config["dataset"].split("/")[0]
    preset = base if base in PRESETS else "cmu_mosi"
    changed = changed_settings(config, contextual)
    rows = [[name, _value(value), _value(default)] for name, (value, default) in changed.items()]
    settled = [[name, _value(config[name]), "the data says"] for name in SETTLED if config.get(name) is not None]
    caption = f"What differs from the preset {preset}, and what the data has settled."
    return [
        tag("h3", group.name),
        tag("div", table(ResultTable(caption, ["setting", "value", "preset"], rows + settled)), class_="text"),
        None if rows else tag("p", f"Nothing differs from the preset {preset}."),
        _details("All of config.json" + (" of the first run" if len(group.runs) > 1 else ""), written),
    ]


def _value(value):
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _repetition(groups, written, page):
    lines, folders = [], []
    for group in groups:
        folder = f"again/{folder_name(group.name)}"
        folders.append(folder)
        for run in group.runs:
            output = folder if len(group.runs) == 1 else f"{folder}/{run.name}"
            contextual = written[group.name][0]["data"].get("contextual") or ()
            lines.append(train_command(read_run(run)[0], contextual, output))
    lines.append(shlex.join(["keras-misa", "report", *folders, "--out", page]))
    text = (
        "The same seed gives the same numbers on the same machine and versions (on TensorFlow). Paths are those of the "
    )
    return [tag("p", text + "machine that trained."), commands(lines)]


def _environment(written):
    def environment(run):
        names = ("backend", "python", "machine", "git")
        return {name: run.get(name, "unknown") for name in names} | run.get("versions", {})

    found = _distinct(written, environment)
    names = list(dict.fromkeys(name for of_run in found for name in of_run))
    rows = [[name, *(str(of_run.get(name) or "–") for of_run in found)] for name in names]
    columns = ["", *(["value"] if len(found) == 1 else (f"machine {n + 1}" for n in range(len(found))))]
    return tag("div", table(ResultTable("Where and with what it was trained.", columns, rows)), class_="text")
