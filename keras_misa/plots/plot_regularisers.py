"""The paper's Figure 3: the regularisers over the epochs."""

import numpy as np

from keras_misa.plots._style import COLUMN, LINE, new_figure, plain, styled

LOSSES = {"similarity": "$L_{sim}$", "difference": "$L_{diff}$", "reconstruction": "$L_{recon}$"}


@styled
def plot_regularisers(histories, title=None):
    """Draw the regularisation losses, unweighted, over the epochs (the paper's Figure 3).

    Lines are means over the seeds, bands ± one standard deviation (of a sample, n - 1). Seeds stop at different epochs:
    mean and band end where the first of them stops, and the others go on as thin lines, each its own.

    Args:
        histories: dict, name of a model → list of histories, one a seed; a history is a dict, name of a column (such as
            `similarity` and `val_similarity`) → array, one value an epoch, as `RunGroup.histories` gives. A model is a
            row of panels; losses that it does not have are left out.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide.

    Raises:
        ValueError: If no history has a regularisation loss.

    Example:
        >>> history = {"similarity": [0.9, 0.5, 0.4], "val_similarity": [0.8, 0.6, 0.5]}
        >>> figure = plot_regularisers({"MISA": [history]})
        >>> [axes.get_title() for axes in figure.axes]
        ['$L_{sim}$']
    """
    from matplotlib.ticker import MaxNLocator

    shown = {
        name: {loss: label for loss, label in LOSSES.items() if loss in of_seeds[0]}
        for name, of_seeds in histories.items()
    }
    losses = [loss for loss in LOSSES if any(loss in of_model for of_model in shown.values())]
    if not losses:
        raise ValueError(f"Expected histories with some of {list(LOSSES)}. Received: models {list(histories)}")
    shown = {name: of_model for name, of_model in shown.items() if of_model}
    figure = new_figure(COLUMN, 0.55 + 1.2 * len(shown), title)
    panels = figure.subplots(len(shown), len(losses), squeeze=False)
    for number, (row, (name, of_model)) in enumerate(zip(panels, shown.items(), strict=True)):
        for axes, loss in zip(row, losses, strict=True):
            if loss not in of_model:
                axes.set_axis_off()
                continue
            for part, prefix in (("training", ""), ("validation", "val_")):
                _draw_seeds(axes, [history[prefix + loss] for history in histories[name]], LINE[part])
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylim(0, 1.04 * axes.get_ylim()[1])
            if number == 0:
                axes.set_title(LOSSES[loss])
            if number == len(shown) - 1:
                axes.set_xlabel("epoch")
        if len(shown) > 1:
            row[0].set_ylabel(plain(name))
    handles = [figure.axes[0].plot([], [], **style, label=part)[0] for part, style in LINE.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_seeds(axes, curves, style):
    shortest = min(map(len, curves))
    together = np.stack([np.asarray(curve[:shortest], float) for curve in curves])
    mean = together.mean(axis=0)
    epochs = 1 + np.arange(max(map(len, curves)))
    every = max(1, len(epochs) // 6)
    axes.plot(epochs[:shortest], mean, **style, markevery=every, markersize=2.2, linewidth=1)
    if len(curves) == 1:
        return
    spread = together.std(axis=0, ddof=1)
    band = axes.fill_between(epochs[:shortest], mean - spread, mean + spread, color=style["color"], alpha=0.2)
    band.set_linewidth(0)
    for curve in curves:
        if len(curve) > shortest:
            alone = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 0.4, "alpha": 0.8}
            axes.plot(epochs[shortest - 1 : len(curve)], curve[shortest - 1 :], **alone)
