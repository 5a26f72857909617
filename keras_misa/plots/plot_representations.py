"""The paper's Figure 4: the representations in the plane."""

import numpy as np

from keras_misa.plots._style import COLUMN, GREY, MARKERS, PAGE, colors_of, new_figure, plain, styled

PERPLEXITY = 30
SUBSPACES = ("shared", "private")


def embed_representations(explained, max_utterances=200, seed=0):
    """Lay representations out in the plane by t-SNE (PCA to begin with, perplexity 30 or what few rows allow).

    Args:
        explained: what `MISATask.explain` gives: `shared` and `private`, those that there are, else `projected`, each a
            dict, modality → `(rows, units)`.
        max_utterances: the most that are taken, drawn without replacement.
        seed: of the draw and of t-SNE.

    Returns:
        Dict, `(subspace, modality)` → `(utterances, 2)`: all kinds in one plane.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If there are fewer than 4 vectors, or none at all.

    Example:
        ```python
        points = keras_misa.plots.embed_representations(model.explain(batches))
        points["shared", "text"].shape  # (200, 2)
        ```
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError("t-SNE needs scikit-learn: pip install 'keras-misa[plots]'") from error
    subspaces = [name for name in SUBSPACES if name in explained] or ["projected"]
    vectors = {(s, m): np.asarray(x, "float32") for s in subspaces for m, x in explained.get(s, {}).items()}
    if not vectors:
        raise ValueError(f"Expected vectors, shared, private or projected. Received: {sorted(explained)}")
    rows = len(next(iter(vectors.values())))
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:max_utterances])
    points = np.concatenate([of_kind[chosen] for of_kind in vectors.values()])
    if len(points) < 4:
        raise ValueError(f"t-SNE needs at least 4 vectors. Received: {len(points)}")
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    method = "exact" if len(points) <= 300 else "barnes_hut"  # each where it is the faster one
    tsne = TSNE(init="pca", perplexity=perplexity, method=method, random_state=seed, n_jobs=1)
    # One thread adds up in one order, the same picture every time; and beside a training several wait for each other.
    with threadpool_limits(1):
        plane = tsne.fit_transform(points)
    return dict(zip(vectors, np.split(plane, len(vectors)), strict=True))


@styled
def plot_representations(planes, title=None):
    """Draw representations in the plane, colour by modality, marker by subspace (the paper's Figure 4).

    Args:
        planes: dict, title of a panel → dict of `embed_representations`. The paper shows a model without regularisation
            beside one with it.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide for one or two panels.

    Example:
        >>> import numpy as np
        >>> points = {("shared", "text"): np.zeros((3, 2)), ("private", "text"): np.ones((3, 2))}
        >>> figure = plot_representations({"with regularisation": points})
        >>> len(figure.axes)
        1
    """
    from matplotlib.lines import Line2D

    kinds = list(dict.fromkeys(kind for points in planes.values() for kind in points))
    modalities = list(dict.fromkeys(modality for _, modality in kinds))
    subspaces = list(dict.fromkeys(subspace for subspace, _ in kinds))
    colors = colors_of(modalities)
    width = COLUMN if len(planes) < 3 else PAGE
    columns = min(len(planes), 2 if len(planes) < 3 else 4)
    rows = -(-len(planes) // columns)
    side = width / columns
    figure = new_figure(width, 0.5 + rows * (side if len(planes) > 1 else 0.75 * side), title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(planes) :]:
        axes.set_axis_off()
    for axes, (name, points) in zip(panels, planes.items(), strict=False):
        for (subspace, modality), plane in points.items():
            axes.plot(
                *plane.T,
                MARKERS[subspace],
                color=colors[modality],
                markersize=2 if len(planes) > 1 else 2.6,
                markeredgewidth=0,
                alpha=0.65,
                rasterized=len(plane) > 500,
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("#C8CCD0")
        if len(planes) > 1:
            axes.set_title(plain(name))
    empty = {"linestyle": "none", "markeredgewidth": 0, "markersize": 4}
    handles = [Line2D([], [], marker="o", color=colors[m], label=plain(m), **empty) for m in modalities]
    if len(subspaces) > 1:
        handles += [Line2D([], [], marker=MARKERS[s], color=GREY, label=s, **empty) for s in subspaces]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 5), handletextpad=0, columnspacing=1
    )
    return figure
