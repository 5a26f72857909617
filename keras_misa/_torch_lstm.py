"""Stacked bidirectional LSTMs by PyTorch's own kernel, over packed sequences; not imported on other backends.

Keras's LSTM on PyTorch is a loop in Python over the padded steps as soon as there is a mask, on a GPU too.
"""

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


def is_usable(values):
    """Whether to come here: not where PyTorch only traces, nor without steps, nor for half precision on a CPU."""
    if torch.compiler.is_compiling() or values.device.type == "meta" or not values.numel():
        return False
    return values.is_cuda or values.dtype == torch.float32


def encode(values, lengths, rnn_1, layer_norm, rnn_2):
    """The end states `(batch, 4 * units)` of an `UtteranceEncoder`.

    Args:
        values: `(batch, time, features)`.
        lengths: `(batch,)`, 1 or more. The CPU must know them: on a GPU it waits here for what comes before.
        rnn_1: Keras's LSTMs of the first layer, forward and backward.
        layer_norm: what stands between the layers.
        rnn_2: of the second layer.
    """
    lengths = lengths.clamp(max=values.shape[1]).cpu()
    packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    hidden, states_1 = bidirectional(packed, rnn_1)
    _, states_2 = bidirectional(PackedSequence(layer_norm(hidden.data), *hidden[1:]), rnn_2)
    states = torch.cat([states_1[0], states_2[0], states_1[1], states_2[1]], dim=1)
    return states[packed.unsorted_indices]


def bidirectional(packed, rnns):
    """All hidden states, packed, and the last ones, `(2, batch, units)`, in the packed order of rows.

    The order of the gates is Keras's, too. `torch.nn.LSTM` called with these weights would do the same, but a module
    that holds them for the time of a call may be called by another thread.
    """
    weights = []
    for rnn in rnns:
        kernel, recurrent, bias = (w.value for w in (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias))
        weights += [kernel.t(), recurrent.t(), bias, torch.zeros_like(bias)]
    state = packed.data.new_zeros((2, int(packed.batch_sizes[0]), recurrent.shape[0]))
    options = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "bidirectional": True}
    hidden, states, _ = torch.lstm(
        packed.data, packed.batch_sizes, (state, state), weights, train=torch.is_grad_enabled(), **options
    )
    return PackedSequence(hidden, *packed[1:]), states
