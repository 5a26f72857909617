"""MulT: each modality attends to the others, step by step, aligned or not."""

import keras

from keras_misa.baselines._baseline import (
    Baseline,
    check_outputs,
    check_positive,
    check_rates,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._crossmodal_transformer import CrossmodalTransformer, LastStep

MIN_MEMORY_LAYERS = 3


@keras.saving.register_keras_serializable("keras_misa")
class MultimodalTransformer(Baseline):
    r"""MulT: a cross-modal Transformer for each ordered pair of modalities.

    Each modality is projected to the same size by a temporal convolution, $\hat x^m = \mathrm{Conv1D}(x^m)$. For every
    target m and source n a Transformer's queries come from m, its keys and values from n; what the targets gathered
    is joined and goes through a Transformer of self-attention, and the last steps through a residual head:

    $$Z^{n \to m} = \mathrm{Cross}(\hat x^m, \hat x^n), \quad
    Z^m = \mathrm{Self}([Z^{n \to m}]_{n \neq m}), \quad h = [Z^m_{T_m}]_m,$$
    $$\hat y = W_3 (h + W_2\, \mathrm{ReLU}(W_1 h)).$$

    The modalities' lengths may differ, and nothing has to be aligned. A missing modality (length 0) gives nothing to
    the others, and zeros to the head.

    Defaults are those of the published code's command line, but that it has no attention dropout where the source is
    visual or acoustic, and a rate on the text before its convolution, see docs/baselines.md. Its paper
    (appendix, for CMU-MOSI) has vectors of 40, 10 heads and 4 blocks, convolutions over 1 or 3 steps, and rates of 0.2
    on embeddings and blocks and 0.1 in the head.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes; at least two.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        hidden_dim: size d of the projected vectors, 30 by default.
        num_heads: of all attention, 5 by default; must divide `hidden_dim`.
        num_layers: blocks of each cross-modal Transformer, 5 by default; those of self-attention have as many, and 3 at
            least.
        kernel_size: steps that the convolution sees, 1 by default.
        attention_dropout: rate on attention weights, 0.1 by default.
        relu_dropout: rate inside the feed-forward parts, 0.1 by default.
        residual_dropout: rate in the blocks, 0.1 by default.
        embedding_dropout: rate after the positions, 0.25 by default.
        dropout: rate in the head, 0 by default.
        causal: whether a step sees only what was before it. Default `True`, as in the published code.
        dtype: dtype or policy of the layers; each encoder has its own.

    Call arguments:
        inputs: the batch: dict, modality → that encoder's inputs.

    Returns:
        Tensor `(batch, num_outputs)`, float32: scores, or logits.

    Raises:
        ValueError: If an argument is not valid, or there is one modality only.
        TypeError: If an encoder does not know steps.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import StepEncoder
        >>> encoders = {"visual": StepEncoder(5), "acoustic": StepEncoder(7)}
        >>> model = MultimodalTransformer(encoders, hidden_dim=4, num_heads=2, num_layers=1)
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 9, 7), "float32"), "lengths": np.array([9, 4], "int32")},
        ... }
        >>> model.predict(batch, verbose=0).shape
        (2, 1)

    Reference:
        Tsai et al. Multimodal Transformer for Unaligned Multimodal Language Sequences. ACL 2019.
    """

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        hidden_dim=30,
        num_heads=5,
        num_layers=5,
        kernel_size=1,
        attention_dropout=0.1,
        relu_dropout=0.1,
        residual_dropout=0.1,
        embedding_dropout=0.25,
        dropout=0.0,
        causal=True,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(hidden_dim=hidden_dim, num_heads=num_heads, num_layers=num_layers, kernel_size=kernel_size)
        rates = {
            "attention_dropout": attention_dropout,
            "relu_dropout": relu_dropout,
            "residual_dropout": residual_dropout,
            "embedding_dropout": embedding_dropout,
        }
        check_rates(**rates, dropout=dropout)
        if hidden_dim % num_heads:
            raise ValueError(
                f"`num_heads` must divide `hidden_dim`. Received: num_heads={num_heads}, hidden_dim={hidden_dim}"
            )
        encoders = step_encoders(encoders)
        if len(encoders) < 2:
            raise ValueError(f"Modalities attend to each other: there must be two. Received: {list(encoders)}")
        dtype = keras.dtype_policies.get(dtype)
        projections = {m: Projection(hidden_dim, kernel_size, dtype=dtype, name=f"{m}_projection") for m in encoders}
        crossmodal = {
            m: {
                n: CrossmodalTransformer(num_layers, num_heads, **rates, causal=causal, dtype=dtype, name=f"{n}_to_{m}")
                for n in encoders
                if n != m
            }
            for m in encoders
        }
        memories = {
            m: CrossmodalTransformer(
                max(num_layers, MIN_MEMORY_LAYERS),
                num_heads,
                **rates,
                causal=causal,
                is_self=True,
                dtype=dtype,
                name=f"{m}_memory",
            )
            for m in encoders
        }
        join, last = keras.layers.Concatenate(dtype=dtype, name="join"), LastStep(dtype=dtype, name="last_step")
        fusion = keras.layers.Concatenate(dtype=dtype, name="fusion")
        fused_dim = len(encoders) * (len(encoders) - 1) * hidden_dim
        head_hidden = keras.layers.Dense(fused_dim, "relu", dtype=dtype, name="head_hidden")
        head_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="head_dropout")
        head_dense = keras.layers.Dense(fused_dim, dtype=dtype, name="head_dense")
        head_add = keras.layers.Add(dtype=dtype, name="head_add")
        head_output = keras.layers.Dense(num_outputs, dtype="float32", name="head_output")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        projected = {m: projections[m](part) for m, part in steps.items()}
        states = []
        for m, sources in crossmodal.items():
            gathered = [cross({"target": projected[m], "source": projected[n]}) for n, cross in sources.items()]
            values = join([part["values"] for part in gathered]) if len(gathered) > 1 else gathered[0]["values"]
            memory = memories[m]({"target": {"values": values, "lengths": projected[m]["lengths"]}})
            states.append(last(memory))
        fused = fusion(states)
        fused = head_add([fused, head_dense(head_dropout(head_hidden(fused)))])
        super().__init__(inputs, head_output(fused), encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.attention_dropout = attention_dropout
        self.relu_dropout = relu_dropout
        self.residual_dropout = residual_dropout
        self.embedding_dropout = embedding_dropout
        self.dropout = dropout
        self.causal = causal

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "kernel_size": self.kernel_size,
            "attention_dropout": self.attention_dropout,
            "relu_dropout": self.relu_dropout,
            "residual_dropout": self.residual_dropout,
            "embedding_dropout": self.embedding_dropout,
            "dropout": self.dropout,
            "causal": self.causal,
        }


@keras.saving.register_keras_serializable("keras_misa")
class Projection(keras.layers.Layer):
    """A convolution over time, without a bias, of sequences that keep their lengths.

    Args:
        units: size of the vectors that it gives.
        kernel_size: steps that it sees.

    Call arguments:
        steps: dict of `values`, `(batch, time, size)`, and `lengths`, `(batch,)`, as a `StepEncoder` gives them.

    Returns:
        Likewise, `values` of `(batch, time, units)`.
    """

    def __init__(self, units, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_size = kernel_size
        self.convolution = keras.layers.Conv1D(
            units, kernel_size, padding="same", use_bias=False, dtype=self.dtype_policy, name="convolution"
        )

    def build(self, steps_shape):
        self.convolution.build(steps_shape["values"])

    def call(self, steps):
        return {"values": self.convolution(steps["values"]), "lengths": steps["lengths"]}

    def compute_output_spec(self, steps):
        batch, time, _ = steps["values"].shape
        return {
            "values": keras.KerasTensor((batch, time, self.units), self.compute_dtype),
            "lengths": keras.KerasTensor((batch,), "int32"),
        }

    def get_config(self):
        return {**super().get_config(), "units": self.units, "kernel_size": self.kernel_size}
