"""Stacked bidirectional LSTMs by PyTorch's own kernel, over packed sequences; not imported on other backends.

Keras's LSTM on PyTorch is a loop in Python over the padded steps as soon as there is a mask, on a GPU too.
"""

import functools

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
    return torch.cat([states_1[0], states_2[0], states_1[1], states_2[1]], dim=1)


def bidirectional(packed, rnns):
    """All hidden states, packed, and the last ones, `(2, batch, units)`; the gates' order is Keras's, too."""
    weights = {}
    for rnn, end in zip(rnns, ("", "_reverse"), strict=True):
        kernel, recurrent, bias = (w.value for w in (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias))
        weights |= {f"weight_ih_l0{end}": kernel.t(), f"weight_hh_l0{end}": recurrent.t()}
        weights |= {f"bias_ih_l0{end}": bias, f"bias_hh_l0{end}": torch.zeros_like(bias)}
    features, gates = kernel.shape
    hidden, (states, _) = torch.func.functional_call(without_weights(features, gates // 4), weights, (packed,))
    return hidden, states


@functools.cache
def without_weights(features, units):
    """PyTorch's module, to be called with weights."""
    return torch.nn.LSTM(features, units, bidirectional=True, device="meta")
