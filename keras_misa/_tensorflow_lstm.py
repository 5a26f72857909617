"""Stacked bidirectional LSTMs on TensorFlow's CPU, over the real steps of a batch only; not imported elsewhere.

Rows are sorted by length and their real steps, the tokens, laid out by time: the first steps of all rows, the second
steps of those that have one, and so on. So a step of the recurrence

    z_t = x_t W + b + h_{t-1} U,   (i, f, g, o) = (σ, σ, tanh, σ)(z_t),   c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)

goes on with the first rows of the step before. Only `h_{t-1} U` has to wait for that step: `x W` of all tokens is one
product, and so are, in the gradient, the sums over all steps. The backward direction is a forward one on each row's
steps in reverse order.
"""

import contextlib
import contextvars
import functools
from typing import NamedTuple

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

FEW = 128  # tokens
_CONSTANT = contextvars.ContextVar("constant", default=False)
_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def _while_true(variable):
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def constant_weights():
    """A block in which what is traced is for inference with the weights as they are: no gradient, and less to do."""
    return _while_true(_CONSTANT)


def portable():
    """A block in which what is traced is Keras's own LSTM layers, for converters that know no other."""
    return _while_true(_PORTABLE)


def is_usable(dtype):
    """Whether to come here: not for half precision, GPUs, or XLA, which compiles for sizes that it knows.

    A `tf.function` is asked when it is traced: one that has run outside XLA does not run inside.
    """
    return (
        dtype == "float32"
        and not _PORTABLE.get()
        and not tf.config.get_visible_devices("GPU")
        and not control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    )


class Tokens(NamedTuple):
    """Where the N real steps of a batch are, whose longest row has T; R rows have any."""

    rows: tf.Tensor  # (N,) row of each token in the batch
    places: tf.Tensor  # (N, 2) its step, and its row after sorting
    sizes: tf.Tensor  # (T,) rows that have a step
    mirrored: tf.Tensor  # (N,) token as far from its row's end as this one from the start
    previous: tf.Tensor  # (N - R,) token one step before; the first R have none
    last: tf.Tensor  # (R,) last token of each row


def find_tokens(lengths, time):
    """`Tokens` of rows of these lengths."""
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    lengths = tf.clip_by_value(tf.gather(lengths, order), 0, time)
    is_real = tf.range(tf.reduce_sum(lengths[:1]))[:, None] < lengths
    places = tf.cast(tf.where(is_real), tf.int32)
    step, row = tf.unstack(places, axis=1)
    sizes = tf.reduce_sum(tf.cast(is_real, tf.int32), axis=1)
    starts = tf.cumsum(sizes, exclusive=True)
    filled = tf.reduce_sum(sizes[:1])
    return Tokens(
        rows=tf.gather(order, row),
        places=places,
        sizes=sizes,
        mirrored=tf.gather(starts, tf.gather(lengths, row) - 1 - step) + row,
        previous=tf.gather(starts, step[filled:] - 1) + row[filled:],
        last=tf.gather(starts, lengths[:filled] - 1) + row[:filled],
    )


def encode(values, lengths, embed, rnn_1, layer_norm, rnn_2):
    """The vectors `(batch, 4 * units)` of an `UtteranceEncoder`, from its inputs and its parts."""
    tokens = find_tokens(tf.cast(lengths, tf.int32), tf.shape(values)[1])
    x = embed(tf.gather_nd(values, tf.stack([tokens.rows, tokens.places[:, 0]], axis=1)))
    hidden_1 = bidirectional(tf.cast(x, tf.float32), rnn_1, tokens)
    hidden_2 = bidirectional(layer_norm(hidden_1), rnn_2, tokens)
    filled = tf.shape(tokens.last)[0]
    forward, backward = zip(*(tf.split(hidden, 2, axis=1) for hidden in (hidden_1, hidden_2)), strict=True)
    states = tf.concat([*(tf.gather(h, tokens.last) for h in forward), *(h[:filled] for h in backward)], axis=1)
    shape = tf.stack([tf.shape(lengths)[0], states.shape[1]])
    return tf.scatter_nd(tokens.rows[:filled, None], states, shape)  # others stay zeros


def bidirectional(x, rnns, tokens):
    """Hidden states `(N, 2 * units)` of two Keras LSTMs, forward and backward, at inputs `(N, features)`."""
    variables = [w.value for rnn in rnns for w in (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias)]
    if _CONSTANT.get():
        return both_constant(x, variables, tokens)
    weights = [tf.convert_to_tensor(variable) for variable in variables]
    return in_graph(*weights[0].shape)(x, weights, tokens)


@functools.cache
def in_graph(features, gates):
    """`both_directions` as a graph of its own.

    Eagerly, each small operation would take Python's time. And it is traced once, not for each function that has a
    model in it: training, evaluation, prediction.
    """
    weights = [tf.TensorSpec(shape) for shape in ((features, gates), (gates // 4, gates), (gates,))]
    tokens = Tokens(*(tf.TensorSpec((None, 2) if name == "places" else (None,), tf.int32) for name in Tokens._fields))
    return tf.function(both_directions, [tf.TensorSpec((None, features)), 2 * weights, tokens], autograph=False)


def both_constant(x, variables, tokens):
    """What `bidirectional` gives, without a gradient; weights that are joined at each call are joined now."""
    with tf.init_scope():
        joined = [[w.numpy() for w in join(*variables[k : k + 3])] for k in (0, 3)]
    weights = [tf.convert_to_tensor(variable) for variable in variables]
    inputs = x, tf.gather(x, tokens.mirrored)
    hidden, _, _ = recur(inputs, weights, tokens, [[tf.constant(w) for w in pair] for pair in joined])
    return tf.concat([hidden[0], tf.gather(hidden[1], tokens.mirrored)], axis=1)


def both_directions(x, weights, tokens):
    """What `bidirectional` gives, from the six weights as tensors."""

    @tf.custom_gradient
    def call(x, *weights):
        inputs = x, tf.gather(x, tokens.mirrored)
        kernels, recurrents = weights[::3], weights[1::3]
        hidden, cells, gates = recur(inputs, weights, tokens)

        def gradient(slope):
            slopes = tf.split(slope, 2, axis=1)
            slopes[1] = tf.gather(slopes[1], tokens.mirrored)
            by_inputs, by_weights = [], []
            for k in (0, 1):
                by_steps = scan_back(slopes[k], recurrents[k], cells[k], gates[k], tokens)
                by_inputs.append(tf.matmul(by_steps, kernels[k], transpose_b=True))
                by_weights += [
                    tf.matmul(inputs[k], by_steps, transpose_a=True),
                    tf.matmul(before(hidden[k], tokens), by_steps, transpose_a=True),
                    tf.reduce_sum(by_steps, axis=0),
                ]
            results = by_inputs[0] + tf.gather(by_inputs[1], tokens.mirrored), *by_weights
            return [tf.raw_ops.PreventGradient(input=g, message="This LSTM has first derivatives.") for g in results]

        return tf.concat([hidden[0], tf.gather(hidden[1], tokens.mirrored)], axis=1), gradient

    return call(x, *weights)


def before(states, tokens):
    """States `(N, units)` one step earlier, zeros at the first."""
    first = tf.zeros_like(states[: tf.shape(tokens.last)[0]])
    return tf.concat([first, tf.gather(states, tokens.previous)], axis=0)


def recur(inputs, weights, tokens, joined=None):
    """Hidden states, cells and gates, `(N, units)` and `(N, 4 * units)`, of each direction.

    Args:
        inputs: of each direction, `(N, features)`.
        weights: kernel, recurrent kernel and bias of one direction and of the other.
        tokens: `Tokens`.
        joined: what `join` gives for each direction, if it is known.
    """
    kernels, recurrents, biases = weights[::3], weights[1::3], weights[2::3]

    def few():
        pairs = joined or [join(*weights[k : k + 3]) for k in (0, 3)]
        return _by_kind(
            scan_few(x, *pair, recurrents[0].shape[0], tokens) for x, pair in zip(inputs, pairs, strict=True)
        )

    def many():
        steps = [tf.matmul(x, kernel) + bias for x, kernel, bias in zip(inputs, kernels, biases, strict=True)]
        return _by_kind(scan_many(x, recurrent, tokens) for x, recurrent in zip(steps, recurrents, strict=True))

    return tf.cond(tf.shape(inputs[0])[0] <= FEW, few, many)


def join(kernel, recurrent, bias):
    """Both kernels as one matrix, and the bias, with zeros that make sizes even: `BlockLSTMV2` is slow at odd ones."""
    units = recurrent.shape[0]

    def even(matrix):
        rows = matrix.shape[0]
        matrix = tf.reshape(matrix, (rows, 4, units))
        return tf.reshape(tf.pad(matrix, [[0, rows % 2], [0, 0], [0, units % 2]]), (rows + rows % 2, -1))

    return tf.concat([even(kernel), even(recurrent)], axis=0), tf.reshape(even(bias[None])[0], (-1,))


def scan_few(x, weights, bias, units, tokens):
    """One direction by one operation, which needs few others around it, but multiplies inputs by weights step by step.

    (Its own gradient takes the gates in another order than it.)
    """
    shape = tf.concat([tf.shape(tokens.sizes), tf.shape(tokens.last)], axis=0)
    x = tf.pad(x, [[0, 0], [0, x.shape[1] % 2]])
    state, unused = tf.zeros(tf.stack([shape[1], units + units % 2])), tf.zeros(units + units % 2)
    i, c, f, o, g, _, h = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.cast(shape[0], tf.int64),
        x=tf.scatter_nd(tokens.places, x, tf.concat([shape, [x.shape[1]]], axis=0)),
        cs_prev=state,
        h_prev=state,
        w=weights,
        wci=unused,
        wcf=unused,
        wco=unused,
        b=bias,
        use_peephole=False,
        cell_clip=0.0,
    )
    h, c, i, f, g, o = (tf.gather_nd(a, tokens.places)[:, :units] for a in (h, c, i, f, g, o))
    return h, c, tf.concat([i, f, g, o], axis=1)


def _by_kind(directions):
    return [list(pair) for pair in zip(*directions, strict=True)]


def scan_many(steps, recurrent, tokens):
    """One direction by a loop over time, from `x W + b`."""
    time, units = tf.shape(tokens.sizes)[0], recurrent.shape[0]
    shapes = tf.stack([tokens.sizes, tf.fill([time], units)], axis=1)
    steps = by_time(steps, tokens)

    def step(t, h, c, *arrays):
        shape = tf.gather(shapes, t)
        z = steps.read(t) + tf.matmul(tf.slice(h, (0, 0), shape), recurrent)
        i, f, g, o = tf.split(z, 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c = f * tf.slice(c, (0, 0), shape) + i * g
        h = o * tf.tanh(c)
        results = h, c, tf.concat([i, f, g, o], axis=1)
        return t + 1, h, c, *(array.write(t, result) for array, result in zip(arrays, results, strict=True))

    state = tf.zeros(tf.stack([tf.shape(tokens.last)[0], units]))
    return loop(lambda t: t < time, step, 0, state, [new_array(time, width * units) for width in (1, 1, 4)])


def scan_back(slope, recurrent, cells, gates, tokens):
    """Gradient with respect to all `z_t`, from that with respect to all `h_t` as they leave the layer.

    With dh and dc that arrive at a step, from its output and from the step after it, where a row has one:

        dc += dh o (1 - tanh²c),   dz = (dc g i(1 - i), dc c_{t-1} f(1 - f), dc i (1 - g²), dh tanh(c) o(1 - o)),

    and the step before gets `dz Uᵀ` and `dc f`.
    """
    time, sizes = tf.shape(tokens.sizes)[0], tokens.sizes
    i, f, g, o = tf.split(gates, 4, axis=1)
    bent = tf.tanh(cells)
    factors = tf.concat(
        [g * i * (1 - i), before(cells, tokens) * f * (1 - f), i * (1 - g * g), bent * o * (1 - o)], axis=1
    )
    arrays = [by_time(array, tokens) for array in (slope, factors, o * (1 - bent * bent), f)]
    ending = sizes - tf.concat([sizes[1:], [0]], axis=0)
    paddings = tf.pad(ending[:, None, None], ((0, 0), (0, 1), (1, 0)))
    recurrent = tf.transpose(recurrent)  # once, not at each step

    def step(t, dh, dc, by_steps):
        padding = tf.gather(paddings, t)
        slope, factor, by_cell, f = (array.read(t) for array in arrays)
        dh = slope + tf.pad(dh, padding)
        dc = tf.pad(dc, padding) + dh * by_cell
        dz = tf.concat([dc, dc, dc, dh], axis=1) * factor
        return t - 1, tf.matmul(dz, recurrent), dc * f, by_steps.write(t, dz)

    state = tf.zeros((0, slope.shape[1]))
    return loop(lambda t: t >= 0, step, time - 1, state, [new_array(time, gates.shape[1])])[0]


def loop(condition, step, start, state, arrays):
    """Run `step` on `(t, state, state, *arrays)`; the arrays, each as one tensor."""
    rows = tf.TensorSpec((None, state.shape[1]))
    results = tf.while_loop(
        lambda t, *_: condition(t),
        step,
        (start, state, state, *arrays),
        shape_invariants=(tf.TensorSpec((), tf.int32), rows, rows, *(tf.TensorSpec(None, tf.variant) for _ in arrays)),
        parallel_iterations=1,
    )
    return [array.concat() for array in results[3:]]


def new_array(time, width):
    """For a tensor `(rows, width)` of each step."""
    return tf.TensorArray(tf.float32, time, element_shape=(None, width), infer_shape=False)


def by_time(tensor, tokens):
    """The tokens of each step, from those of all steps."""
    return new_array(tf.shape(tokens.sizes)[0], tensor.shape[1]).split(tensor, tokens.sizes)
