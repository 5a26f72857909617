"""A Transformer encoder whose queries are one sequence and whose keys and values another."""

import math

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.step_encoder import is_real


@keras.saving.register_keras_serializable("keras_misa")
class CrossmodalTransformer(keras.layers.Layer):
    r"""Blocks of attention from a target sequence to a source sequence; with `source` the target, self-attention.

    Both sequences are scaled by $\sqrt d$ and get sinusoidal positions. In each block, with LN a layer normalisation,

    $$y = x + \mathrm{MHA}(\mathrm{LN}_1(x), \mathrm{LN}_1(s)), \quad x \leftarrow y + W_2\, \mathrm{ReLU}(W_1\,
    \mathrm{LN}_2(y)),$$

    where the source s stays what it was; self-attention has s = x. A layer normalisation ends it.

    Args:
        num_layers: number of blocks.
        num_heads: of the attention; must divide the size of the vectors.
        attention_dropout: rate on the attention weights.
        relu_dropout: rate inside the feed-forward part.
        residual_dropout: rate on what is added to the residual connections.
        embedding_dropout: rate after the positions.
        causal: whether a step sees only what was before it: with lengths L and K of target and source, step t sees the
            steps up to t + |L - K|.
        is_self: whether it is self-attention.

    Call arguments:
        sequences: dict of `target` and, but for self-attention, `source`, each a dict of `values`,
            `(batch, time, units)`, and `lengths`, `(batch,)`.

    Returns:
        Dict of `values`, like those of the target, and its `lengths`. What stands beyond the lengths means nothing.
        A row whose source has no steps gets nothing from it.
    """

    def __init__(
        self,
        num_layers,
        num_heads,
        attention_dropout=0.0,
        relu_dropout=0.0,
        residual_dropout=0.0,
        embedding_dropout=0.0,
        causal=True,
        is_self=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.relu_dropout = relu_dropout
        self.residual_dropout = residual_dropout
        self.embedding_dropout = embedding_dropout
        self.causal = causal
        self.is_self = is_self
        self.blocks = []

    def build(self, sequences_shape):
        shape = sequences_shape["target"]["values"]
        units, dtype = shape[2], self.dtype_policy
        for number in range(self.num_layers):
            block = {
                "attention_norm": keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype),
                "attention": keras.layers.MultiHeadAttention(
                    self.num_heads, units // self.num_heads, dropout=self.attention_dropout, dtype=dtype
                ),
                "feedforward_norm": keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype),
                "intermediate_dense": keras.layers.Dense(4 * units, "relu", dtype=dtype),
                "output_dense": keras.layers.Dense(units, dtype=dtype),
            }
            for name, layer in block.items():
                layer.name = f"block_{number}_{name}"
            block["attention_norm"].build(shape)
            block["attention"].build(shape, shape)
            block["feedforward_norm"].build(shape)
            block["intermediate_dense"].build(shape)
            block["output_dense"].build((*shape[:2], 4 * units))
            block["relu_dropout"] = keras.layers.Dropout(self.relu_dropout, dtype=dtype)
            block["residual_dropouts"] = [keras.layers.Dropout(self.residual_dropout, dtype=dtype) for _ in range(2)]
            self.blocks.append(block)
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype, name="output_norm")
        self.output_norm.build(shape)
        self.embedding_dropouts = {
            name: keras.layers.Dropout(self.embedding_dropout, dtype=dtype) for name in ("target", "source")
        }
        keep_frozen(self)

    def call(self, sequences, training=None):
        target = sequences["target"]
        x = self._embed("target", target["values"], training)
        source, s = target, None
        if not self.is_self:
            source = sequences["source"]
            s = self._embed("source", source["values"], training)
        mask = self._attention_mask(target, source)
        has_source = ops.reshape(source["lengths"] > 0, (-1, 1, 1))
        for block in self.blocks:
            query = block["attention_norm"](x)
            key = query if s is None else block["attention_norm"](s)
            attended = block["attention"](query, key, attention_mask=mask, training=training)
            attended = ops.where(has_source, attended, ops.zeros_like(attended))
            after_attention, after_feedforward = block["residual_dropouts"]
            x = x + after_attention(attended, training=training)
            hidden = block["relu_dropout"](block["intermediate_dense"](block["feedforward_norm"](x)), training=training)
            x = x + after_feedforward(block["output_dense"](hidden), training=training)
        return {"values": self.output_norm(x), "lengths": target["lengths"]}

    def _embed(self, name, values, training):
        """Scaled, with positions, which count from 1."""
        units = values.shape[2]
        positions = ops.cast(sinusoids(ops.shape(values)[1], units), values.dtype)
        return self.embedding_dropouts[name](math.sqrt(units) * values + positions, training=training)

    def _attention_mask(self, target, source):
        """Which steps of the source each step of the target sees, `(batch, target's time, source's time)`."""
        # A source without steps shows its first: a softmax over nothing would have no gradient. See `has_source`.
        real = ops.expand_dims(is_real(source["values"], ops.maximum(source["lengths"], 1)), 1)
        rows = ops.expand_dims(ops.arange(ops.shape(target["values"])[1], dtype="int32"), 1)
        columns = ops.expand_dims(ops.arange(ops.shape(source["values"])[1], dtype="int32"), 0)
        if not self.causal:
            return ops.logical_and(real, ops.expand_dims(rows + columns >= 0, 0))
        ahead = ops.reshape(ops.abs(target["lengths"] - source["lengths"]), (-1, 1, 1))
        return ops.logical_and(real, ops.expand_dims(columns - rows, 0) <= ahead)

    def compute_output_spec(self, sequences, training=None):
        target = sequences["target"]
        return {
            "values": keras.KerasTensor(target["values"].shape, self.compute_dtype),
            "lengths": keras.KerasTensor(target["lengths"].shape, "int32"),
        }

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "attention_dropout": self.attention_dropout,
            "relu_dropout": self.relu_dropout,
            "residual_dropout": self.residual_dropout,
            "embedding_dropout": self.embedding_dropout,
            "causal": self.causal,
            "is_self": self.is_self,
        }


@keras.saving.register_keras_serializable("keras_misa")
class LastStep(keras.layers.Layer):
    """The vector of the last real step.

    Call arguments:
        sequence: dict of `values`, `(batch, time, units)`, and `lengths`, `(batch,)`.

    Returns:
        Tensor `(batch, units)`; zeros for a row without steps.
    """

    def call(self, sequence):
        values = sequence["values"]
        steps = ops.expand_dims(ops.arange(ops.shape(values)[1], dtype="int32"), 0)
        is_last = ops.expand_dims(ops.equal(steps, ops.expand_dims(sequence["lengths"] - 1, 1)), -1)
        return ops.sum(ops.where(is_last, values, ops.zeros_like(values)), axis=1)

    def compute_output_shape(self, sequence_shape):
        batch, _, units = sequence_shape["values"]
        return (batch, units)

    def get_config(self):
        return super().get_config()  # Keras's own cannot write down a dtype policy


def sinusoids(time, units):
    """Positions 1 to `time` as sines and cosines of many wavelengths, `(1, time, units)`; an odd last one is zero."""
    half = units // 2
    rates = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10000.0) / max(half - 1, 1)))
    angles = ops.expand_dims(ops.arange(1, time + 1, dtype="float32"), 1) * ops.expand_dims(rates, 0)
    parts = [ops.sin(angles), ops.cos(angles), ops.zeros_like(angles[:, : units % 2])]
    return ops.expand_dims(ops.concatenate(parts, axis=1), 0)
