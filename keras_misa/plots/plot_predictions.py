"""Predictions against the truth."""

import numpy as np

from keras_misa.plots._style import COLORS, COLUMN, GREY, new_figure, plain, styled


@styled
def plot_predictions(scores, title=None):
    """Draw predicted against true scores.

    Args:
        scores: dict, name of a score → pair of arrays, true and predicted. The name of a single one is not written.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide.

    Example:
        >>> import numpy as np
        >>> figure = plot_predictions({"sentiment": (np.array([1.0, -2.0]), np.array([0.5, -1.0]))})
        >>> figure.axes[0].get_xlabel()
        'true'
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(scores))
    rows = -(-len(scores) // columns)
    height = 2.5 if columns == 1 else 0.2 + 1.6 * rows
    figure = new_figure(COLUMN, height, title, "compressed" if columns == 1 else "constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(scores) :]:
        axes.set_axis_off()
    for axes, (name, pair) in zip(panels, scores.items(), strict=False):
        true, predicted = (np.asarray(values, float) for values in pair)
        low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
        margin = 0.05 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        axes.plot(ends, ends, color=GREY, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
        axes.plot(
            true,
            predicted,
            "o",
            color=COLORS[0],
            markersize=2.4,
            markeredgewidth=0,
            alpha=0.85 if len(true) < 100 else 0.45,
            rasterized=len(true) > 2000,
        )
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        summary = _summary(true, predicted)
        if len(scores) > 1:
            axes.set_title(f"{plain(name)}: {', '.join(summary[1:])}", fontsize=6.5)
        else:
            axes.text(0.03, 0.98, "\n".join(summary), transform=axes.transAxes, va="top", fontsize=6.5)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
    return figure


def _summary(true, predicted):
    lines = [f"n = {len(true):,}", f"MAE {np.abs(true - predicted).mean():.3f}"]
    if true.std() > 0 and predicted.std() > 0:
        lines.append(f"Corr {np.corrcoef(true, predicted)[0, 1]:.3f}")
    return lines
