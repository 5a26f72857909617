"""The figures of runs."""

import dataclasses
import pathlib
import re
import typing

import numpy as np

from keras_misa.experiments.model_settings import MISA, TITLES
from keras_misa.experiments.report import dataset_title, split_title
from keras_misa.experiments.run_groups import data_of, find_run_groups, name_apart
from keras_misa.plots._run_view import RunView
from keras_misa.plots._style import save_figure
from keras_misa.plots.plot_attention import plot_attention
from keras_misa.plots.plot_confusion import count_confusion, plot_confusion, sentiment_classes
from keras_misa.plots.plot_errors_by_length import plot_errors_by_length
from keras_misa.plots.plot_predictions import plot_predictions
from keras_misa.plots.plot_regularisers import LOSSES, plot_regularisers
from keras_misa.plots.plot_representations import embed_representations, plot_representations
from keras_misa.plots.plot_topology import plot_topology

FIGURES = ("topology", "regularisers", "representations", "attention", "predictions", "confusion", "errors")
PROBLEMS = (ValueError, TypeError, LookupError, OSError, ImportError)  # of files, data, and what a model does not have


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure, or why there is none.

    Args:
        name: one of `FIGURES`.
        group: name of the model; `None` for a figure of several.
        figure: a `matplotlib.figure.Figure`, or `None`.
        caption: what it shows, and how it was made.
        problem: why there is none.
    """

    name: str
    group: str | None
    figure: typing.Any = None
    caption: str = ""
    problem: str = ""


def draw_figures(runs, out=None, figures=None, split="test", without=None, manual_dir=None, data_dir=None):
    """Draw runs as figures for a paper and for an engineer, each as PNG (300 dpi) and SVG.

    `topology`, `regularisers`, `representations` and `attention` are the paper's Figures 6, 3, 4 and 5; `predictions`,
    `confusion` and `errors` show what the model gets wrong. Of several runs (seeds, folds), `regularisers` shows all,
    `attention` the mean, and the others the first; of folds `predictions`, `confusion` and `errors` show all. On the
    test split only `representations` and `errors` need the data.

    Args:
        runs: folders, as `find_run_groups` takes them.
        out: folder to write; `None` takes `figures` in the first of `runs`. Of several models, each has a folder of its
            own in it, for what shows one model.
        figures: names of those to draw, all by default.
        split: of the data, `"train"`, `"validation"` or `"test"`.
        without: folder of a MISA that was trained without regularisers (weights 0, or no subspaces that have any), to
            show beside the others' representations.
        manual_dir: where the data's files lie now, if not where they lay at training.
        data_dir: where the prepared data lies now, likewise.

    Returns:
        Pair: list of the paths, and dict, name of a figure (and model) → why it was not drawn.

    Raises:
        FileNotFoundError: If there is no finished run.
        ValueError: If a figure is unknown, or `without` has regularisers, is no MISA, or is of other data than `runs`.

    Example:
        ```python
        paths, skipped = keras_misa.plots.draw_figures(["runs/misa"], without="runs/without_regularisers")
        ```
    """
    out = pathlib.Path(out or pathlib.Path(runs[0], "figures"))
    paths, skipped = [], {}
    for drawing in make_drawings(runs, figures, split, without, manual_dir, data_dir):
        place = pathlib.Path(folder_name(drawing.group) if drawing.group else "", drawing.name)
        if drawing.problem:
            skipped[place.as_posix()] = drawing.problem
        else:
            paths += save_figure(drawing.figure, out / place, drawing.caption)
    return paths, skipped


def make_drawings(runs, figures=None, split="test", without=None, manual_dir=None, data_dir=None):
    """The figures of runs, one by one, as `Drawing`; see `draw_figures`."""
    if wrong := [name for name in figures or () if name not in FIGURES]:
        raise ValueError(f"Figures are {list(FIGURES)}. Received: {wrong}")
    groups = find_named_groups(runs)
    beside = find_run_groups(without) if without else []
    views = {group.name: RunView(group.runs[0], split, manual_dir, data_dir) for group in groups}
    plain_views = [RunView(group.runs[0], split, manual_dir, data_dir) for group in beside[:1]]
    for view in plain_views:
        _check_without(view, views.values())
    for name in FIGURES:
        if figures is not None and name not in figures:
            continue
        if name == "regularisers":
            yield _try(name, None, _regularisers, groups, views)
        elif name == "representations":
            yield _try(name, None, _representations, views, plain_views)
        else:
            for group in groups:
                yield _try(name, group.name if len(groups) > 1 else None, _OF_ONE[name], group, views[group.name])


def folder_name(name):
    """A name of a model as that of a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "model"


def find_named_groups(runs):
    """The models in folders, see `find_run_groups`, with names that make different folders."""
    return name_apart(find_run_groups(*runs), folder_name)


def _check_without(view, others):
    """Its panel says “without regularisation”, beside models of the same data: that must be true."""
    if view.config["model"] != MISA:
        received = f"{view.run}, whose model is {TITLES[view.config['model']]}"
        raise ValueError(f"`without` must be a MISA that was trained without regularisers. Received: {received}")
    if view.regularisers:
        received = f"{view.run} with {', '.join(f'{name}_weight={w:g}' for name, w in view.regularisers.items())}"
        raise ValueError(
            f"`without` must be a MISA that was trained without regularisers, their weights 0. Received: {received}"
        )
    for other in others:
        here, there = (data_of(of_run.config) for of_run in (view, other))
        if here != there:
            raise ValueError(
                f"`without` must be of the data of the models beside it, {_data_words(there)} of {other.run}. "
                f"Received: {_data_words(here)} of {view.run}"
            )


def _data_words(data):
    return ", ".join(str(part) for part in data if part)


def _try(name, group, draw, *args):
    try:
        return Drawing(name, group, *draw(*args))
    except PROBLEMS as error:
        return Drawing(name, group, problem=str(error))


def _topology(group, view):
    title = f"{group.name}, {dataset_title(view.config['dataset'])}"
    caption = (
        "Topology, drawn from the model itself (the paper's Figure 6). Dashed: the regularisers, identity layers with "
        "their weights in the loss."
    )
    return plot_topology(view.model, title), caption


def _regularisers(groups, views):
    losses = {group.name: [loss for loss in LOSSES if loss in views[group.name].regularisers] for group in groups}
    histories = {
        group.name: group.histories([prefix + loss for loss in losses[group.name] for prefix in ("", "val_")])
        for group in groups
        if losses[group.name]
    }
    if not histories:
        raise ValueError("no regularisation loss is in use")
    datasets = dict.fromkeys(dataset_title(views[name].config["dataset"]) for name in histories)
    extents = " and ".join(dict.fromkeys(group.extent for group in groups if group.name in histories))
    caption = f"Regularisation losses, unweighted, over the epochs (the paper's Figure 3), {extents}."
    if any(len(of_seeds) > 1 for of_seeds in histories.values()):
        caption += (
            " Lines are means over the runs, bands ± one standard deviation. Both end where the first run stops; the "
            "others go on as thin lines."
        )
    return plot_regularisers(histories, "; ".join(datasets)), caption


def _representations(views, plain_views):
    named = list(views.items())
    if plain_views:
        if len(named) == 1 and named[0][1].regularisers:
            named = [("with regularisation", named[0][1])]
        named += [("without regularisation", view) for view in plain_views]
    planes, problems = {}, {}
    for name, view in named:
        try:
            planes[name] = embed_representations(view.explained)
        except PROBLEMS as error:
            problems[name] = str(error)
    if not planes:
        raise ValueError("; ".join(dict.fromkeys(problems.values())))
    of_panel = {name: " and ".join(dict.fromkeys(subspace for subspace, _ in p)) for name, p in planes.items()}
    kinds = " and ".join(dict.fromkeys(subspace for points in planes.values() for subspace, _ in points))
    counts = dict.fromkeys(str(len(plane)) for points in planes.values() for plane in points.values())
    caption = (
        f"t-SNE of the {kinds} representations (the paper's Figure 4) of {' and '.join(counts)} utterances, each panel "
        "in a plane of its own; perplexity 30 or what few vectors allow, PCA to begin with, seed 0. Distances between "
        "heaps mean little, and between panels nothing."
    )
    if len(set(of_panel.values())) > 1:
        shown = "; ".join(f"{name}: {vectors}" for name, vectors in of_panel.items())
        caption += f" The models have other vectors, and differ in more than their regularisers: {shown}."
    caption += "".join(f" Left out: {name}, {problem}." for name, problem in problems.items())
    return plot_representations(planes, "; ".join(dict.fromkeys(view.title for _, view in named))), caption


def _attention(group, view):
    seen = [view]
    if view.split == "test":
        seen += [view.of(run) for run in group.runs[1:]]
    for of_run in seen:
        if of_run.attention[1] != view.attention[1]:
            raise ValueError(
                f"{of_run.run}: expected the attention of {view.run}'s vectors in their order, {view.attention[1]}. "
                f"Received: {of_run.attention[1]}"
            )
    attention = np.mean([of_run.attention[0] for of_run in seen], axis=0)
    title = view.title
    if len(seen) > 1:
        title = f"{split_title(group.config, view.split)}, mean of {group.extent}"
    caption = (
        "Average attention of the fusion, over utterances and heads"
        + (f" and {group.extent}" if len(seen) > 1 else "")
        + " (the paper's Figure 5). Rows are queries and add up to one; "
        "a column is what that vector contributes to the others. Mind the scale: "
        f"equal attention is {1 / len(attention):.3f}."
    )
    return plot_attention(attention, view.attention[1], title), caption


def _tested(group, view):
    """Views that together show all that was tested: of folds those of the first seed, and a title."""
    if not group.has_folds or view.split != "test":
        return [view], view.title
    title = f"{split_title(group.config, 'test')}, seed {view.config['seed']}"
    return [view.of(run) for run in group.rounds()[0]], title


def _outcome(views):
    return tuple(np.concatenate(arrays) for arrays in zip(*(view.outcome for view in views), strict=True))


def _predictions(group, view):
    if view.is_classes:
        raise ValueError("the model predicts classes: see confusion")
    views, title = _tested(group, view)
    true, predicted = _outcome(views)
    names = view.config["score_names"] or ["score"]
    scores = {name: (true[:, number], predicted[:, number]) for number, name in enumerate(names)}
    return plot_predictions(scores, title), "Predicted against true scores; on the dashed line they are equal."


def _confusion(group, view):
    views, title = _tested(group, view)
    true, predicted = _outcome(views)
    if view.is_classes:
        names = view.class_names
        caption = "Confusion of the classes: counts, the true class in rows; colours are shares of the row."
    elif view.config["metrics"] == "scores":
        raise ValueError("the scores are no sentiment in [-3, 3], and have no seven classes")
    else:
        true, names = sentiment_classes(true[:, 0])
        predicted, _ = sentiment_classes(predicted[:, 0])
        caption = (
            "Confusion of the seven classes of Acc-7 (scores clipped to [-3, 3] and rounded): counts, the true class "
            "in rows; colours are shares of the row."
        )
    return plot_confusion(count_confusion(true, predicted, len(names)), names, title), caption


def _errors(group, view):
    views, title = _tested(group, view)
    true, predicted = _outcome(views)
    lengths = np.concatenate([of_run.lengths[0] for of_run in views])
    if len(lengths) != len(true):
        raise ValueError(f"the data has {len(lengths)} utterances now, and had {len(true)}")
    errors = true != predicted if view.is_classes else np.abs(true - predicted).mean(axis=1)
    what = "share of wrong classes" if view.is_classes else "mean absolute error"
    caption = (
        f"{what.capitalize()} by the length of the utterance, in intervals of about equal numbers of utterances; "
        "whiskers are ± one standard error, the dashed line is the mean of all."
    )
    return plot_errors_by_length(errors, lengths, view.lengths[1], what, title), caption


_OF_ONE = {
    "topology": _topology,
    "attention": _attention,
    "predictions": _predictions,
    "confusion": _confusion,
    "errors": _errors,
}
