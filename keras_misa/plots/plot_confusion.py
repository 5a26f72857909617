"""Which class is taken for which."""

import numpy as np

from keras_misa.plots._style import COLUMN, PAGE, new_figure, plain, styled, write_cells


def count_confusion(true, predicted, num_classes):
    """Count pairs of classes.

    Args:
        true: integers, one a row.
        predicted: as many.
        num_classes: number of classes.

    Returns:
        Array `(num_classes, num_classes)` of counts, the true class in rows.

    Example:
        >>> count_confusion([0, 1, 1], [0, 0, 1], 2).tolist()
        [[1, 0], [1, 1]]
    """
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (np.asarray(true), np.asarray(predicted)), 1)
    return counts


def sentiment_classes(scores, num_classes=7):
    """Classes of scores as in Acc-7: clipped, rounded, halves to the even number; and their names.

    Args:
        scores: array of scores.
        num_classes: odd number of classes.

    Returns:
        Pair: integers from 0, and the names of the classes, the scores that they stand for.

    Example:
        >>> classes, names = sentiment_classes([-9.0, 0.5, 2.6])
        >>> classes.tolist(), names
        ([0, 3, 6], ['−3', '−2', '−1', '0', '1', '2', '3'])
    """
    highest = num_classes // 2
    classes = np.round(np.clip(np.asarray(scores, "float32"), -highest, highest)).astype(int) + highest
    return classes, [str(number).replace("-", "−") for number in range(-highest, highest + 1)]


@styled
def plot_confusion(counts, class_names, title=None):
    """Draw a confusion matrix: counts in the cells, colours by the share of the row.

    Args:
        counts: `(classes, classes)`, the true class in rows, as `count_confusion` gives.
        class_names: names of the classes.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide for up to 10 classes.

    Raises:
        ValueError: If there are not as many rows and columns as names.

    Example:
        >>> figure = plot_confusion([[3, 1], [0, 2]], ["serious", "funny"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['serious  (4)', 'funny  (2)']
    """
    counts = np.asarray(counts)
    size = len(class_names)
    if counts.shape != (size, size):
        raise ValueError(f"Expected counts of {size} classes by {size}. Received: shape {counts.shape}")
    rows = counts.sum(axis=1)
    shares = counts / np.maximum(rows, 1)[:, None]
    width = COLUMN if size <= 10 else PAGE
    names = [plain(name) for name in class_names]
    figure = new_figure(width, 0.82 * width if size > 3 else 0.6 * width, title, "compressed")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    cell = (width - 1.2) * 72 / size
    write_cells(axes, shares, [[f"{count:,}" for count in row] for row in counts], image, min(7, cell / 3.2))
    is_long = max(map(len, names)) * 4 > cell
    angle = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    axes.set_xticks(range(size), names, **angle)
    axes.set_yticks(range(size), [f"{name}  ({count:,})" for name, count in zip(names, rows, strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (utterances)")
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("share of the row")
    bar.outline.set_visible(False)
    return figure
