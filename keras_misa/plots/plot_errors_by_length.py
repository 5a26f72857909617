"""Whether long utterances are harder."""

import numpy as np

from keras_misa.plots._style import COLORS, COLUMN, GREY, new_figure, styled


def bin_lengths(lengths, max_bins=7):
    """Cut lengths into intervals that hold about as many utterances each.

    Args:
        lengths: integers, one an utterance.
        max_bins: the most intervals.

    Returns:
        Pair: for each utterance the number of its interval, and the intervals, pairs of their least and greatest length
        that occurs. None is empty.

    Raises:
        ValueError: If there is no utterance.

    Example:
        >>> numbers, intervals = bin_lengths([1, 2, 3, 9, 20, 40], max_bins=3)
        >>> numbers.tolist(), intervals
        ([0, 0, 1, 1, 2, 2], [(1, 2), (3, 9), (20, 40)])
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        raise ValueError("Expected at least one utterance. Received: none")
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, max_bins + 1)[1:-1], method="lower"))
    _, numbers = np.unique(np.searchsorted(edges, lengths, side="left"), return_inverse=True)
    intervals = [lengths[numbers == number] for number in range(numbers.max() + 1)]
    return numbers, [(int(members.min()), int(members.max())) for members in intervals]


@styled
def plot_errors_by_length(errors, lengths, unit="words", error="mean absolute error", title=None):
    """Draw the mean error of utterances by their length; whiskers are ± one standard error.

    Args:
        errors: one an utterance: the absolute error, or 1 and 0 for wrong and right.
        lengths: integers, as many.
        unit: what is counted.
        error: what their mean is called.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide.

    Raises:
        ValueError: If there are not as many errors as lengths, or none.

    Example:
        >>> figure = plot_errors_by_length([0.1, 0.2, 0.9, 1.1], [2, 3, 20, 30])
        >>> figure.axes[0].get_ylabel()
        'mean absolute error'
    """
    errors = np.asarray(errors, float)
    if len(errors) != len(lengths):
        raise ValueError(f"Expected as many errors as lengths. Received: {len(errors)} and {len(lengths)}")
    numbers, intervals = bin_lengths(lengths)
    members = [errors[numbers == number] for number in range(len(intervals))]
    means = np.array([values.mean() for values in members])
    spreads = np.array([values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0 for values in members])
    figure = new_figure(COLUMN, 2.1, title)
    axes = figure.add_subplot()
    places = np.arange(len(intervals))
    axes.axhline(errors.mean(), color=GREY, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    axes.annotate(
        "all",
        (1, errors.mean()),
        xycoords=("axes fraction", "data"),
        xytext=(2, 0),
        textcoords="offset points",
        va="center",
        color=GREY,
        fontsize=6.5,
    )
    axes.errorbar(places, means, spreads, fmt="o", color=COLORS[0], markersize=4, capsize=2, elinewidth=1, zorder=2)
    labels = [f"{low}" if low == high else f"{low}–{high}" for low, high in intervals]
    labels = [f"{label}\n({len(values):,})" for label, values in zip(labels, members, strict=True)]
    axes.set_xticks(places, labels)
    axes.set_xlim(-0.6, len(intervals) - 0.4)
    axes.set_ylim(0, 1.08 * max(*(means + spreads), errors.mean(), 1e-9))
    axes.set_xlabel(f"{unit} of an utterance (number of utterances)")
    axes.set_ylabel(error)
    return figure
