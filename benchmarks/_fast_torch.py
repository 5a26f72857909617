"""The PyTorch module of the tests in the fastest form that we know on a CPU; the same numbers.

Its LSTMs do what ours do: only real steps, sorted by length and laid out by time; input products of all steps at once;
a gradient of their own, that has one product for all steps wherever it can. Attention is PyTorch's fused one, and Adam
its fused one.
"""

import torch
from torch import nn
from torch_misa import Bert, Misa


class Tokens:
    """Where the real steps of a batch are; see `keras_misa._tensorflow_lstm.Tokens`."""

    def __init__(self, lengths):
        lengths, self.order = torch.sort(lengths, descending=True, stable=True)
        real = torch.arange(int(lengths[0]))[:, None] < lengths
        self.step, self.row = torch.nonzero(real, as_tuple=True)
        sizes = real.sum(1)
        starts = sizes.cumsum(0) - sizes
        self.mirrored = starts[lengths[self.row] - 1 - self.step] + self.row
        self.last = starts[lengths - 1] + torch.arange(len(lengths))
        self.first = int(sizes[0])
        self.previous = starts[self.step[self.first :] - 1] + self.row[self.first :]
        self.spans = list(zip(starts.tolist(), sizes.tolist(), strict=True))

    def before(self, states):
        return torch.cat([states.new_zeros(self.first, states.shape[1]), states[self.previous]])


class Scan(torch.autograd.Function):
    """One direction of an LSTM over tokens."""

    @staticmethod
    def forward(ctx, x, kernel, recurrent, bias, other_bias, tokens):
        units = recurrent.shape[1]
        gates = torch.addmm(bias + other_bias, x, kernel.T)
        hidden, cells = x.new_empty(len(x), units), x.new_empty(len(x), units)
        transposed = recurrent.T.contiguous()
        h = c = x.new_zeros(tokens.first, units)
        for start, size in tokens.spans:
            z = gates[start : start + size]
            z.addmm_(h[:size], transposed)
            z[:, : 2 * units].sigmoid_()
            z[:, 2 * units : 3 * units].tanh_()
            z[:, 3 * units :].sigmoid_()
            i, f, g, o = z.chunk(4, dim=1)
            c = torch.addcmul(f * c[:size], i, g, out=cells[start : start + size])
            h = torch.mul(o, torch.tanh(c), out=hidden[start : start + size])
        ctx.save_for_backward(x, kernel, recurrent, gates, hidden, cells)
        ctx.tokens = tokens
        return hidden

    @staticmethod
    def backward(ctx, slope):
        x, kernel, recurrent, gates, hidden, cells = ctx.saved_tensors
        tokens, units = ctx.tokens, recurrent.shape[1]
        i, f, g, o = gates.chunk(4, dim=1)
        bent = torch.tanh(cells)
        factors = torch.cat(
            [g * i * (1 - i), tokens.before(cells) * f * (1 - f), i * (1 - g * g), bent * o * (1 - o)], dim=1
        )
        by_cell = o * (1 - bent * bent)
        by_steps = torch.empty_like(gates)
        dh = dc = x.new_zeros(0, units)
        for start, size in reversed(tokens.spans):
            span = slice(start, start + size)
            step = slope[span].clone()
            step[: len(dh)] += dh
            cell = step * by_cell[span]
            cell[: len(dc)] += dc
            torch.mul(torch.cat([cell, cell, cell, step], dim=1), factors[span], out=by_steps[span])
            dh = by_steps[span] @ recurrent
            dc = cell * f[span]
        by_bias = by_steps.sum(0)
        return by_steps @ kernel, by_steps.T @ x, by_steps.T @ tokens.before(hidden), by_bias, by_bias, None


class FastMisa(Misa):
    def utterance(self, x, inputs, lengths):
        tokens = Tokens(lengths)
        hidden = inputs.flatten(0, 1).index_select(0, tokens.order[tokens.row] * inputs.shape[1] + tokens.step)
        states = []
        for number in (1, 2):
            forward, backward = (
                Scan.apply(values, *weights, tokens)
                for values, weights in zip(
                    (hidden, hidden.index_select(0, tokens.mirrored)),
                    getattr(self, f"{x}rnn{number}").all_weights,
                    strict=True,
                )
            )
            states.append([direction.index_select(0, tokens.last) for direction in (forward, backward)])
            hidden = torch.cat([forward, backward.index_select(0, tokens.mirrored)], dim=1)
            hidden = getattr(self, f"{x}layer_norm")(hidden)
        joined = torch.cat([state for pair in zip(*states, strict=True) for state in pair], dim=1)
        return torch.zeros_like(joined).index_copy(0, tokens.order, joined)


class FastBert(Bert):
    def forward(self, input_ids, attention_mask):
        embeddings = self.embeddings
        x = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings.weight[: input_ids.shape[1]]
        x = embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0])
        mask = attention_mask[:, None, None, :] != 0
        for block in self.encoder.layer:
            query, key, value = (
                block.attention.self[part](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            attended = nn.functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
            x = block.attention.output.LayerNorm(x + block.attention.output.dense(attended))
            inner = nn.functional.gelu(block.intermediate.dense(x))
            x = block.output.LayerNorm(x + block.output.dense(inner))
        return (x,)
