"""How figures look: a paper's column wide, for every eye, the same file from the same numbers."""

import functools
import pathlib
import textwrap
import warnings

from keras_misa._files import atomic_path

COLUMN = 3.33  # inches, of an ACM paper
PAGE = 7.0
# Okabe and Ito's colours, which the colour-blind tell apart; never without another mark beside.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = {"shared": "o", "private": "^", "projected": "s"}
GREY = "#5F6368"
LINE = {
    "training": {"color": COLORS[0], "linestyle": "-", "marker": "o"},
    "validation": {"color": COLORS[1], "linestyle": (0, (4, 1.5)), "marker": "s"},
}
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelsize": 7,
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7.5,
    "axes.titlepad": 4,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "figure.titlesize": 7.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "font.size": 7,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "keras_misa",
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "xtick.labelsize": 6.5,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
    "ytick.labelsize": 6.5,
    "ytick.major.size": 2,
    "ytick.major.width": 0.5,
}


def styled(plot):
    """Decorator: matplotlib's settings are these while the function draws, and its caller's again afterwards."""

    @functools.wraps(plot)
    def draw(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(_settings()):
            return plot(*args, **kwargs)

    return draw


def _settings():
    """Ours on top of matplotlib's defaults, whatever a user has configured; nothing here chooses a backend."""
    import matplotlib

    return {name: value for name, value in matplotlib.rcParamsDefault.items() if "backend" not in name} | STYLE


def new_figure(width, height, title=None, layout="constrained"):
    """A figure that no global state knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    if layout:
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.03)
    if title:
        figure.suptitle(wrap(title, width), color=GREY, fontsize=6.5)
    return figure


def save_figure(figure, path, caption=""):
    """Write a figure as PNG (300 dpi) and as SVG, the same bytes from the same figure.

    Args:
        figure: a `matplotlib.figure.Figure`.
        path: of the files, without suffix.
        caption: description to keep in both files.

    Returns:
        List of the two paths.

    Example:
        ```python
        figure = keras_misa.plots.plot_attention(attention, model.token_names)
        keras_misa.plots.save_figure(figure, "figures/attention")
        ```
    """
    paths = [pathlib.Path(f"{path}.{kind}") for kind in ("png", "svg")]
    for file in paths:
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            write_figure(figure, stream, file.suffix[1:], caption)
    return paths


def write_figure(figure, stream, kind, caption=""):
    """Write a figure to a binary stream; `kind` is `"png"` or `"svg"`."""
    import matplotlib

    with matplotlib.rc_context(_settings()), warnings.catch_warnings():
        # Names of classes and modalities may be in any script: browsers have its letters, matplotlib's font has not.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format=kind, metadata=_METADATA[kind] | {"Description": caption})


_METADATA = {"png": {"Software": "keras-misa"}, "svg": {"Date": None, "Creator": "keras-misa"}}


def plain(text):
    """A name as text: nothing in it is mathematics to matplotlib."""
    return str(text).replace("$", r"\$")


def wrap(title, width):
    """A title in lines that fit a width in inches."""
    return "\n".join(plain(line) for line in textwrap.wrap(title, int(20.5 * width)))


def colors_of(names):
    """Dict, name → colour, by their order."""
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def luminance(color):
    """How bright a colour is, 0 to 1."""
    red, green, blue = color[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def write_cells(axes, values, texts, image, size):
    """Write a text into each cell of a matrix, dark on light and light on dark."""
    for (row, column), value in _enumerate(values):
        dark = luminance(image.cmap(image.norm(value))) > 0.5
        color = "black" if dark else "white"
        text = axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=size, color=color)
        text.set_in_layout(False)  # it is inside; measuring hundreds takes long


def _enumerate(values):
    for row, of_row in enumerate(values):
        for column, value in enumerate(of_row):
            yield (row, column), value
