"""The paper's Figure 6: the topology of the model in use."""

import re

from keras_misa.plots._style import COLUMN, GREY, PAGE, colors_of, new_figure, plain, styled, wrap

FONT = 6.3  # points
LETTER = 0.056  # inches of a letter of that size
LINE = 0.12  # of a line
GAP = 0.2  # between rows
SHARED = "#EDE7F3"
NEUTRAL = "#F1F3F4"


@styled
def plot_topology(model, title=None):
    """Draw what a model is made of, from the model itself (the paper's Figure 6).

    Args:
        model: a `MISARegressor` or `MISAClassifier`, any modalities and variant; or another functional Keras model,
            which is drawn layer by layer.
        title: over the figure.

    Returns:
        A `matplotlib.figure.Figure`, a column wide for up to three modalities.

    Raises:
        ValueError: If the model is neither.

    Example:
        ```python
        keras_misa.plots.plot_topology(keras.models.load_model("runs/first/model.keras"))
        ```
    """
    rows = _misa_rows(model) if _is_misa(model) else _graph_rows(model)
    heights = [max(box.height for box in row) for row in rows]
    width = max(_row_width(row) for row in rows)
    heading = wrap(title, width) if title else ""
    above = 0.05 + (0.08 + LINE * (heading.count("\n") + 1) if title else 0)
    height = above + sum(heights) + GAP * (len(rows) - 1) + 0.05
    figure = new_figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    axes.text(width / 2, height - 0.05, heading, ha="center", va="top", color=GREY, fontsize=6.5)
    top = height - above
    for row, row_height in zip(rows, heights, strict=True):
        for box in row:
            box.place(width, top, row_height)
        top -= row_height + GAP
    for row in rows:
        for box in row:
            box.draw(axes)
    return figure


class _Box:
    """A part of the model.

    Args:
        text: lines.
        span: pair, where it begins and ends on the line from 0 to 1.
        color: of its frame.
        face: colour inside.
        sources: pairs of a box that it takes from and the colour of the arrow.
        dashed: whether the frame is.
        faint: whether it is a dead end.
        is_fan: whether the arrows enter side by side, wherever they come from.
    """

    def __init__(self, text, span, color=GREY, face="white", sources=(), dashed=False, faint=False, is_fan=False):
        self.text, self.span, self.color, self.face = text, span, color, face
        self.sources, self.dashed, self.faint, self.is_fan = sources, dashed, faint, is_fan
        self.height = 0.1 + LINE * (text.count("\n") + 1)

    @property
    def middle(self):
        return (self.left + self.right) / 2

    def place(self, width, top, height):
        """Where it stands, in inches."""
        margin = 0.06
        inner = width - 2 * margin
        gap = 0.03
        self.left, self.right = (
            margin + inner * part + sign * gap for part, sign in zip(self.span, (1, -1), strict=True)
        )
        self.top, self.bottom = top, top - height

    def draw(self, axes):
        """Frame, text, and arrows from where it takes."""
        from matplotlib.patches import FancyBboxPatch

        frame = FancyBboxPatch(
            (self.left, self.bottom),
            self.right - self.left,
            self.top - self.bottom,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=self.face,
            edgecolor=self.color,
            linewidth=0.8,
            linestyle=(0, (2, 1.5)) if self.dashed else "-",
            alpha=0.45 if self.faint else 1,
            zorder=2,
        )
        axes.add_patch(frame)
        size = min(FONT, FONT * (self.right - self.left - 0.06) / (LETTER * max(map(_length, self.text.split("\n")))))
        axes.text(
            self.middle,
            (self.top + self.bottom) / 2,
            self.text,
            ha="center",
            va="center",
            fontsize=size,
            linespacing=1.25,
            alpha=0.5 if self.faint else 1,
            zorder=3,
        )
        for number, (source, color) in enumerate(self.sources):
            narrow, wide = sorted((source, self), key=lambda box: box.right - box.left)
            start, end = source.middle, self.middle
            if self.is_fan:
                end = self.left + (self.right - self.left) * (number + 0.5) / len(self.sources)
                end = start if abs(end - start) < 0.06 else end
            elif wide.left <= narrow.middle <= wide.right:
                start = end = narrow.middle
            axes.annotate("", (end, self.top), (start, source.bottom), arrowprops={**_ARROW, "color": color}, zorder=1)


_ARROW = {
    "arrowstyle": "-|>,head_width=0.12,head_length=0.22",
    "linewidth": 0.7,
    "shrinkA": 0,
    "shrinkB": 0.5,
}


def _row_width(row):
    """A column where the texts fit, else as wide as they need, a page at the most."""
    lengths = (max(map(_length, box.text.split("\n"))) / (box.span[1] - box.span[0]) for box in row)
    needed = 0.9 * LETTER * max(lengths)
    return min(max(COLUMN, needed + 0.15), max(PAGE, 0.55 * len(row)))


def _length(line):
    """Letters of a line; of mathematics about those that show."""
    return len(re.sub(r"[$_^\\\\{}]", "", line))


def _spread(number, begin=0.0, end=1.0):
    step = (end - begin) / number
    return [(begin + step * index, begin + step * (index + 1)) for index in range(number)]


def _is_misa(model):
    return all(hasattr(model, name) for name in ("backbone", "penalties", "token_names"))


def _misa_rows(model):
    backbone = model.backbone
    modalities = backbone.modalities
    colors = colors_of(modalities)
    columns = dict(zip(modalities, _spread(len(modalities)), strict=True))

    def column(texts, sources=None, **kwargs):
        return {
            m: _Box(texts[m], columns[m], colors[m], sources=[(sources[m], colors[m])] if sources else (), **kwargs)
            for m in modalities
        }

    activation = _activation_name(backbone.activation)
    inputs = column({m: f"{plain(m)}\n{_describe_input(backbone.input[m])}" for m in modalities}, face=NEUTRAL)
    sizes = {m: backbone.get_layer(f"{m}_projection").kernel.shape[0] for m in modalities}
    encoders = column({m: f"{_describe_encoder(backbone.encoders[m])}\n→ {sizes[m]}" for m in modalities}, inputs)
    projections = column(dict.fromkeys(modalities, f"Dense {backbone.hidden_dim}\n{activation}, layer norm"), encoders)
    rows = [list(part.values()) for part in (inputs, encoders, projections)]
    tokens = {("projected", m): box for m, box in projections.items()}
    if backbone.subspaces:
        encoders_row, tokens_row = _subspace_rows(model, projections, colors)
        rows += [encoders_row, list(tokens_row.values())]
        tokens |= tokens_row
    if model.penalties:
        places = _spread(len(model.penalties))
        rows.append(
            [
                _Box(_describe_penalty(model, penalty), place, dashed=True)
                for penalty, place in zip(model.penalties, places, strict=True)
            ]
        )
    fusion = model.fusion
    heads = f"{fusion.num_heads} head" + "s" * (fusion.num_heads != 1)
    fusion_box = _Box(
        f"self-attention over {len(fusion.token_names)} vectors, {heads}\n"
        f"feed-forward {fusion.feedforward_dim}, ReLU, dropout {fusion.dropout:g}",
        (0, 1),
        face=NEUTRAL,
        sources=[(tokens[name], colors[name[1]]) for name in map(tuple, fusion.token_names)],
    )
    dense = model.get_layer("head_dense")
    concatenated = dense.kernel.shape[0]
    head = _Box(
        f"concatenation {concatenated}\nDense {dense.units}, {activation}, dropout {model.dropout:g}",
        (0, 1),
        sources=[(fusion_box, GREY)],
    )
    number = model.num_outputs
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(model).__name__)
    output = _Box(
        f"Dense {number}\n{kind}, {model.count_params():,} weights", (0, 1), face=NEUTRAL, sources=[(head, GREY)]
    )
    return [*rows, [fusion_box], [head], [output]]


def _subspace_rows(model, projections, colors):
    """Encoders of the subspaces, and their vectors in the order of the fusion."""
    backbone = model.backbone
    modalities, subspaces = backbone.modalities, backbone.subspaces
    dense = f"Dense {backbone.hidden_dim}, {_activation_name(backbone.subspace_activation)}"
    halves = dict(zip(subspaces, _spread(len(subspaces)), strict=True))
    encoders, vectors = [], {}
    symbols = {"shared": "c", "private": "p"}
    is_fused = {tuple(name) for name in model.token_names}
    for subspace in subspaces:
        places = _spread(len(modalities), *halves[subspace])
        if subspace == "shared":  # one for all
            arrows = [(projections[m], colors[m]) for m in modalities]
            text = f"shared encoder\n{dense}"
            boxes = [_Box(text, halves[subspace], face=SHARED, sources=arrows, is_fan=True)] * len(modalities)
            encoders.append(boxes[0])
        else:
            lines = f"private\n{dense}" if len(subspaces) == 1 else f"private\nDense\n{backbone.hidden_dim}"
            boxes = [
                _Box(lines, place, colors[m], sources=[(projections[m], colors[m])], is_fan=True)
                for m, place in zip(modalities, places, strict=True)
            ]
            encoders += boxes
        for modality, place, box in zip(modalities, places, boxes, strict=True):
            text = f"$h^{symbols[subspace]}$\n{plain(modality)}"
            vectors[subspace, modality] = _Box(
                text,
                place,
                colors[modality],
                sources=[(box, colors[modality])],
                face=SHARED if subspace == "shared" else "white",
                faint=(subspace, modality) not in is_fused,
            )
    return encoders, vectors


def _describe_penalty(model, penalty):
    kind = {"cmd": f"CMD, K = {model.num_moments}", "mmd": "MMD", "adversarial": "adversary"}
    decoders = "one decoder" if model.shared_decoder else "decoders"
    symbol, letter, what = {
        "similarity": ("$L_{sim}$", "α", kind.get(model.similarity, "")),
        "difference": ("$L_{diff}$", "β", model.difference_reduction),
        "reconstruction": ("$L_{recon}$", "γ", decoders),
    }.get(penalty.name, (plain(penalty.name), "weight", ""))
    return f"{symbol}  {what}\n{letter} = {penalty.weight:g}"


def _activation_name(activation):
    names = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU"}
    return names.get(activation, activation) if isinstance(activation, str) else "activation"


def _describe_input(inputs):
    import keras

    values = inputs["values"] if isinstance(inputs, dict) and "values" in inputs else keras.tree.flatten(inputs)[0]
    if len(values.shape) == 3:
        return f"{values.shape[2]} numbers a step"
    return "ids of words" if "int" in values.dtype else f"{values.shape[-1]} numbers"


def _recurrent(encoder):
    return f"2 × bi{encoder.cell.upper()} {encoder.units or encoder.feature_dim}"


ENCODERS = {
    "UtteranceEncoder": _recurrent,
    "WordUtteranceEncoder": lambda encoder: f"vectors of {encoder.feature_dim}\n{_recurrent(encoder)}",
    "MeanEncoder": lambda encoder: "mean over steps",
    "BertEncoder": lambda encoder: f"BERT {encoder.backbone.num_layers} × {encoder.backbone.hidden_dim}, mean",
}


def _describe_encoder(encoder):
    describe = ENCODERS.get(type(encoder).__name__, lambda other: plain(type(other).__name__))
    is_frozen = encoder.weights and not encoder.trainable_weights
    return describe(encoder) + ("\nfrozen" if is_frozen else "")


def _graph_rows(model):
    """A row for each depth of a functional model's graph, inputs first."""
    by_depth = getattr(model, "_nodes_by_depth", None)  # what `keras.utils.model_to_dot` reads, too
    if not by_depth:
        raise ValueError(f"Expected a MISA model or another functional Keras model. Received: {model}")
    rows, boxes = [], {}
    for depth in sorted(by_depth, reverse=True):
        nodes = by_depth[depth]
        parents = {id(n): [boxes[id(p)] for p in {id(p): p for p in n.parent_nodes}.values()] for n in nodes}
        nodes = sorted(nodes, key=lambda node: _mean_place(parents[id(node)]))
        row = []
        for node, span in zip(nodes, _spread(len(nodes)), strict=True):
            sources = [(box, GREY) for box in parents[id(node)]]
            face = "white" if sources else NEUTRAL
            boxes[id(node)] = _Box(_describe_node(node), span, face=face, sources=sources)
            row.append(boxes[id(node)])
        rows.append(row)
    return rows


def _mean_place(boxes):
    """Where boxes stand, to put what takes from them below."""
    return sum(sum(box.span) for box in boxes) / (2 * len(boxes) or 1)


def _describe_node(node):
    shapes = ["×".join("?" if n is None else str(n) for n in tensor.shape[1:]) or "1" for tensor in node.output_tensors]
    more = f" and {len(shapes) - 2} more" if len(shapes) > 2 else ""
    kind = type(node.operation).__name__
    return f"{plain(node.operation.name)}\n{kind} → {', '.join(shapes[:2])}{more}"
