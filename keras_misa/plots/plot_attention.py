"""The paper's Figure 5: which vector attends to which."""

import numpy as np

from keras_misa.plots._style import COLUMN, GREY, PAGE, new_figure, plain, styled, write_cells


@styled
def plot_attention(attention, token_names, title=None):
    """Draw the average attention of the fusion (the paper's Figure 5).

    Args:
        attention: `(tokens, tokens)`, queries in rows; or as `MISATask.explain` gives it,
            `(rows, heads, tokens, tokens)`, which is averaged over rows and heads.
        token_names: pairs such as `("shared", "text")`, as `MISATask.token_names`; in this order on both axes.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide for up to 8 tokens.

    Raises:
        ValueError: If there are not as many rows and columns as tokens.

    Example:
        >>> import numpy as np
        >>> figure = plot_attention(np.full((5, 2, 2, 2), 0.5), [("shared", "text"), ("private", "text")])
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['text', 'text']
    """
    attention = np.asarray(attention, float)
    size = len(token_names)
    if attention.ndim < 2 or attention.shape[-2:] != (size, size):
        raise ValueError(f"Expected attention of {size} tokens by {size}. Received: shape {attention.shape}")
    attention = attention.reshape(-1, size, size).mean(axis=0)
    width = COLUMN if size <= 8 else PAGE
    figure = new_figure(width, 0.92 * width, title, "compressed")
    axes = figure.add_subplot()
    # Means lie close together: the colours span what there is, the numbers say how little that is.
    image = axes.imshow(attention, cmap="cividis")
    cell = (width - 1.2) * 72 / size  # points
    decimals = 2 if size > 8 else 3
    texts = [[f"{value:.{decimals}f}".removeprefix("0") for value in row] for row in attention]
    if cell > 15:
        write_cells(axes, attention, texts, image, min(6.5, cell / 3))
    modalities = [plain(modality) for _, modality in token_names]
    axes.set_xticks(range(size), modalities, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), modalities)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("key (attended to)")
    axes.set_ylabel("query")
    _mark_subspaces(axes, [subspace for subspace, _ in token_names])
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, width=0.5)
    return figure


def _mark_subspaces(axes, subspaces):
    """Lines between the subspaces, and their names at the top and on the right."""
    size = len(subspaces)
    starts = [number for number in range(size) if number == 0 or subspaces[number] != subspaces[number - 1]]
    for start, end in zip(starts, [*starts[1:], size], strict=True):
        middle = (start + end - 1) / 2
        axes.text(middle, -0.62, subspaces[start], ha="center", va="bottom", color=GREY)
        axes.text(size - 0.42, middle, subspaces[start], ha="left", va="center", color=GREY, rotation=270)
        if start:
            for line in (axes.axhline, axes.axvline):
                line(start - 0.5, color="white", linewidth=2)
