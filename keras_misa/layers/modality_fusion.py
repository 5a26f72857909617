"""Fusion by self-attention over the modality vectors, equations 3 to 5 of the paper."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.shared_private_projection import SUBSPACES, check_names


@keras.saving.register_keras_serializable("keras_misa")
class ModalityFusion(keras.layers.Layer):
    r"""Stacks the chosen vectors as tokens, lets them attend to each other, concatenates them.

    $$\bar M = \mathrm{MultiHead}(M; \theta^{att}), \quad M = [h^c_l, h^c_v, h^c_a, h^p_l, h^p_v, h^p_a]$$

    As in the published code the attention is that of one Transformer encoder layer: residual connection and layer
    normalisation after it, then a feed-forward part (ReLU) with the same around it.

    Args:
        modalities: names of the modalities, in the order in which their vectors are stacked.
        fused: which vectors become tokens, in this order: some of `("projected", "shared", "private")`, each at most
            once.
        num_heads: number of attention heads; must divide the size of the vectors.
        feedforward_dim: hidden size of the feed-forward part.
        dropout: rate on the attention weights, after the attention, inside and after the feed-forward part.
        epsilon: of the layer normalisations; PyTorch's 1e-5 by default.

    Call arguments:
        representations: dict, as `SharedPrivateProjection` makes it, every vector `(batch, units)`.
        return_attention_scores: whether to return the attention too. Default `False`.

    Returns:
        Tensor `(batch, tokens * units)`; with `return_attention_scores`, also the attention
        `(batch, num_heads, tokens, tokens)`, each row (query) adding up to one over the keys.

    Raises:
        ValueError: If `modalities` or `fused` is empty, `fused` is unknown, or `num_heads` does not divide the size of
            the vectors.

    Example:
        >>> import numpy as np
        >>> vectors = {"text": np.ones((2, 4), "float32"), "visual": np.zeros((2, 4), "float32")}
        >>> fusion = ModalityFusion(["text", "visual"], feedforward_dim=8)
        >>> output, attention = fusion({"shared": vectors, "private": vectors}, return_attention_scores=True)
        >>> tuple(output.shape), tuple(attention.shape)
        ((2, 16), (2, 2, 4, 4))
    """

    def __init__(
        self, modalities, fused=SUBSPACES, num_heads=2, feedforward_dim=2048, dropout=0.1, epsilon=1e-5, **kwargs
    ):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"`modalities` must be names, each once. Received: modalities={modalities}")
        self.fused = check_names("fused", fused, ("projected", *SUBSPACES))
        if not self.fused:
            raise ValueError(f"`fused` must name at least one kind of vector. Received: fused={fused}")
        if num_heads < 1:
            raise ValueError(f"`num_heads` must be a positive integer. Received: num_heads={num_heads}")
        self.num_heads = num_heads
        self.feedforward_dim = feedforward_dim
        self.dropout = dropout
        self.epsilon = epsilon

    def build(self, representations_shape):
        batch, units = representations_shape[self.fused[0]][self.modalities[0]]
        if units % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the size of the vectors. "
                f"Received: num_heads={self.num_heads}, vectors of size {units}"
            )
        dtype = self.dtype_policy
        tokens_shape = (batch, len(self.token_names), units)
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, units // self.num_heads, dropout=self.dropout, dtype=dtype, name="attention"
        )
        self.attention.build(tokens_shape, tokens_shape)
        self.attention_norm = self._layer_norm("attention_norm", tokens_shape)
        self.intermediate_dense = keras.layers.Dense(
            self.feedforward_dim, "relu", dtype=dtype, name="intermediate_dense"
        )
        self.intermediate_dense.build(tokens_shape)
        self.output_dense = keras.layers.Dense(units, dtype=dtype, name="output_dense")
        self.output_dense.build((*tokens_shape[:-1], self.feedforward_dim))
        self.output_norm = self._layer_norm("output_norm", tokens_shape)
        keep_frozen(self)
        self.dropouts = [keras.layers.Dropout(self.dropout, dtype=dtype) for _ in range(3)]

    def _layer_norm(self, name, shape):
        layer_norm = keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
        layer_norm.build(shape)
        return layer_norm

    @property
    def token_names(self):
        """Names of the tokens in their order, such as `("shared", "text")`: the axes of the attention."""
        return [(subspace, modality) for subspace in self.fused for modality in self.modalities]

    def call(self, representations, return_attention_scores=False, training=None):
        tokens = ops.stack([representations[s][m] for s, m in self.token_names], axis=1)
        after_attention, inside, after_feedforward = self.dropouts
        attended, scores = self.attention(tokens, tokens, return_attention_scores=True, training=training)
        tokens = self.attention_norm(tokens + after_attention(attended, training=training))
        hidden = self.output_dense(inside(self.intermediate_dense(tokens), training=training))
        tokens = self.output_norm(tokens + after_feedforward(hidden, training=training))
        output = ops.reshape(tokens, (-1, tokens.shape[1] * tokens.shape[2]))
        return (output, scores) if return_attention_scores else output

    def compute_output_shape(self, representations_shape, return_attention_scores=False):
        batch, units = representations_shape[self.fused[0]][self.modalities[0]]
        tokens = len(self.token_names)
        output = (batch, tokens * units)
        return (output, (batch, self.num_heads, tokens, tokens)) if return_attention_scores else output

    def compute_output_spec(self, representations, return_attention_scores=False, training=None):
        shapes = {name: {m: x.shape for m, x in vectors.items()} for name, vectors in representations.items()}
        if not return_attention_scores:
            return keras.KerasTensor(self.compute_output_shape(shapes), self.compute_dtype)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in self.compute_output_shape(shapes, True))

    def get_config(self):
        return {
            **super().get_config(),
            "modalities": self.modalities,
            "fused": self.fused,
            "num_heads": self.num_heads,
            "feedforward_dim": self.feedforward_dim,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }
