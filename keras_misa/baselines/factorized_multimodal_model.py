"""MFM: what is said apart from how each modality says it."""

import functools

import keras

from keras_misa.baselines._baseline import (
    Baseline,
    check_not_negative,
    check_outputs,
    check_positive,
    check_rates,
    sizes_of,
    step_encoders,
    symbolic_steps,
)
from keras_misa.baselines._last_state import LastState
from keras_misa.baselines._memory_fusion import MemoryFusion
from keras_misa.baselines._prior_penalty import PriorPenalty
from keras_misa.baselines._sequence_decoder import SequenceDecoder
from keras_misa.baselines._sequence_penalty import SequencePenalty

UNITS = 128, 32  # of text, and of others
ENCODERS = ("mfn", "lstm")
SHARED = "multimodal"  # its name among the modalities'


@keras.saving.register_keras_serializable("keras_misa")
class FactorizedMultimodalModel(Baseline):
    r"""MFM: a discriminative factor that predicts, and one factor a modality that only helps to generate it.

    Codes and factors are, with $Q$ an encoder and a linear layer,

    $$z_y = Q_y(x^1, x^2, …), \quad z_m = Q_m(x^m), \quad f_y = G_y(z_y), \quad f_m = G_m(z_m),$$

    the predictions $\hat y = D(f_y)$ and $\hat x^m = F_m([f_y; f_m])$, and the loss

    $$L = L_{task}(\hat y, y) + λ_x \sum_m \|x^m - \hat x^m\|^2
    + λ_{MMD} \Big(MMD(z_y, \mathcal N) + \sum_m MMD(z_m, \mathcal N)\Big),$$

    in the logs `task`, `reconstruction` (per real step and feature) and `similarity` (to the prior), unweighted.
    $Q_y$ reads all modalities by a Memory Fusion Network; $Q_m$ by an LSTM; $F_m$ is an LSTM that goes on from
    $[f_y; f_m]$ by itself; $G$ are two dense layers with ReLU, $D$ one and a linear one. What is reconstructed of a
    text of words are their vectors.

    The paper has no fixed sizes; its published code draws them at random, and the defaults are of its ranges.

    Args:
        encoders: dict, modality → encoder with a method `step_encoder()`, such as `StepEncoder`, `WordStepEncoder`, or
            what `MISABackbone` takes.
        num_outputs: number of scores or classes, 1 by default.
        predicts: `"scores"`, the default, or `"classes"`.
        multimodal_encoder: of $Q_y$: `"mfn"`, the published code's and the default, for which step t must mean the same
            moment in all modalities; or `"lstm"`, one LSTM a modality, whose last states are joined, for which it need
            not, as with BERT's word pieces.
        units: sizes of the states of the LSTMs of $Q_y$: a number for all, or a dict with each one's. `None`, the
            default, is 128 for a modality called text (32 to 256) and 32 for others (8 to 80).
        latent_dim: size of all codes z, 32 by default (8 to 80; 32 to 256 for text).
        factor_dim: size of all factors f, 32 by default (likewise).
        memory_dim: size of MFN's memory, 128 by default (64 to 400).
        attention_dim: hidden size of MFN's attention, 128 by default; of this and the next two the range is 32 to 256.
        proposal_dim: hidden size of MFN's proposal, 64 by default.
        gate_dim: hidden size of MFN's gates, 64 by default.
        dropout: rate in G, D and MFN, 0.2 by default (0 to 0.7).
        reconstruction_weight: λ_x, 1 by default (0.01 to 10); 0 leaves the decoders out.
        similarity_weight: λ_MMD, 10 by default (10 to 200); 0 leaves the prior out.
        dtype: dtype or policy of the layers; each encoder has its own. Penalties and output are float32 always.

    Call arguments:
        inputs: the batch: dict, modality → that encoder's inputs.

    Returns:
        Tensor `(batch, num_outputs)`, float32: scores, or logits.

    Raises:
        ValueError: If an argument is not valid, or a modality is called multimodal.
        TypeError: If an encoder does not know steps.

    Example:
        >>> import numpy as np
        >>> from keras_misa.layers import StepEncoder
        >>> model = FactorizedMultimodalModel({"visual": StepEncoder(5), "acoustic": StepEncoder(7)}, latent_dim=4)
        >>> model.compile()
        >>> batch = {
        ...     "visual": {"values": np.zeros((2, 3, 5), "float32"), "lengths": np.array([3, 1], "int32")},
        ...     "acoustic": {"values": np.zeros((2, 3, 7), "float32"), "lengths": np.array([3, 1], "int32")},
        ... }
        >>> logs = model.evaluate(batch, np.array([1.2, -0.4]), verbose=0, return_dict=True)
        >>> [name for name in ("loss", "task", "similarity", "reconstruction") if name not in logs]
        []

    Reference:
        Tsai, Liang et al. Learning Factorized Multimodal Representations. ICLR 2019.
    """

    def __init__(
        self,
        encoders,
        num_outputs=1,
        predicts="scores",
        multimodal_encoder="mfn",
        units=None,
        latent_dim=32,
        factor_dim=32,
        memory_dim=128,
        attention_dim=128,
        proposal_dim=64,
        gate_dim=64,
        dropout=0.2,
        reconstruction_weight=1.0,
        similarity_weight=10.0,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        check_outputs(num_outputs, predicts)
        check_positive(
            latent_dim=latent_dim,
            factor_dim=factor_dim,
            memory_dim=memory_dim,
            attention_dim=attention_dim,
            proposal_dim=proposal_dim,
            gate_dim=gate_dim,
        )
        check_rates(dropout=dropout)
        check_not_negative(reconstruction_weight=reconstruction_weight, similarity_weight=similarity_weight)
        if multimodal_encoder not in ENCODERS:
            raise ValueError(
                f"`multimodal_encoder` must be one of {ENCODERS}. Received: multimodal_encoder={multimodal_encoder!r}"
            )
        encoders = step_encoders(encoders)
        if SHARED in encoders:
            raise ValueError(f"No modality may be called {SHARED!r}. Received: encoders of {list(encoders)}")
        dtype = keras.dtype_policies.get(dtype)
        sizes = sizes_of(units, encoders, UNITS)
        if multimodal_encoder == "mfn":
            fusion = MemoryFusion(
                sizes, memory_dim, attention_dim, proposal_dim, gate_dim, dropout, dtype=dtype, name="fusion"
            )
        else:
            fusion = JoinedStates(sizes, dtype=dtype, name="fusion")
        codes = {name: keras.layers.Dense(latent_dim, dtype=dtype, name=f"{name}_code") for name in (SHARED, *encoders)}
        lstms = {m: LastState(latent_dim, dtype=dtype, name=f"{m}_lstm") for m in encoders}
        similarity = PriorPenalty(similarity_weight, name="similarity") if similarity_weight else None
        reconstruction = (
            SequencePenalty(reconstruction_weight, name="reconstruction") if reconstruction_weight else None
        )
        generated = (SHARED, *encoders) if reconstruction else (SHARED,)
        factors = {
            name: _perceptron(factor_dim, "relu", factor_dim, dropout, dtype, f"{name}_factor") for name in generated
        }
        joins = {m: keras.layers.Concatenate(dtype=dtype, name=f"{m}_factors") for m in generated[1:]}
        decoders = {m: SequenceDecoder(encoders[m].output_dim, dtype=dtype, name=f"{m}_decoder") for m in generated[1:]}
        head = _perceptron(factor_dim, None, num_outputs, dropout, dtype, "head")

        # === Functional model ===
        inputs, steps = symbolic_steps(encoders)
        latent = {SHARED: codes[SHARED](fusion(steps))}
        latent.update((m, codes[m](lstm(steps[m]))) for m, lstm in lstms.items())
        if similarity:
            latent = similarity({"latent": latent})["latent"]
        factor = {name: factors[name](latent[name]) for name in generated}
        shared = factor[SHARED]
        if reconstruction:
            decoded = {
                m: decoders[m]({"factor": joins[m]([factor[SHARED], factor[m]]), "values": steps[m]["values"]})
                for m in decoders
            }
            shared = reconstruction(
                {
                    "factor": shared,
                    "decoded": decoded,
                    "target": {m: part["values"] for m, part in steps.items()},
                    "lengths": {m: part["lengths"] for m, part in steps.items()},
                }
            )["factor"]
        super().__init__(inputs, head(shared), encoders, num_outputs, predicts, dtype, **kwargs)

        # === Config ===
        # A function, for Keras would track, and save, a model that is an attribute.
        self._make_inference_model = functools.cache(
            lambda: keras.Model(inputs, {"prediction": head(factors[SHARED](codes[SHARED](fusion(steps))))})
        )
        self.multimodal_encoder = multimodal_encoder
        self.units = units
        self.latent_dim = latent_dim
        self.factor_dim = factor_dim
        self.memory_dim = memory_dim
        self.attention_dim = attention_dim
        self.proposal_dim = proposal_dim
        self.gate_dim = gate_dim
        self.dropout = dropout
        self.reconstruction_weight = reconstruction_weight
        self.similarity_weight = similarity_weight

    @property
    def needs_alignment(self):
        """Whether step t must mean the same moment in all modalities."""
        return self.multimodal_encoder == "mfn"

    def inference_model(self):
        """What inference needs and nothing else: no modality's own factor, no decoders, no penalties.

        Returns:
            A `keras.Model` with the inputs of this one, which shares its weights. Its output is a dict of `prediction`
            `(batch, outputs)`.
        """
        return self._make_inference_model()

    def get_config(self):
        return {
            **super().get_config(),
            "multimodal_encoder": self.multimodal_encoder,
            "units": self.units,
            "latent_dim": self.latent_dim,
            "factor_dim": self.factor_dim,
            "memory_dim": self.memory_dim,
            "attention_dim": self.attention_dim,
            "proposal_dim": self.proposal_dim,
            "gate_dim": self.gate_dim,
            "dropout": self.dropout,
            "reconstruction_weight": self.reconstruction_weight,
            "similarity_weight": self.similarity_weight,
        }


@keras.saving.register_keras_serializable("keras_misa")
class JoinedStates(keras.layers.Layer):
    """The last states of one LSTM a modality, joined.

    Args:
        units: dict, modality → size of the state, in the order in which they stand.

    Call arguments:
        steps: dict, modality → dict of `values` and `lengths`, as a `StepEncoder` gives them.

    Returns:
        Tensor `(batch, sum of units)`.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.lstms = {m: LastState(size, dtype=self.dtype_policy, name=f"{m}_lstm") for m, size in units.items()}

    def build(self, steps_shape):
        for modality in sorted(self.lstms):
            self.lstms[modality].build(steps_shape[modality])

    def call(self, steps, training=None):
        return keras.ops.concatenate([lstm(steps[m], training=training) for m, lstm in self.lstms.items()], axis=-1)

    def compute_output_shape(self, steps_shape):
        shape = next(iter(steps_shape.values()))["values"]
        return (shape[0], sum(lstm.units for lstm in self.lstms.values()))

    def get_config(self):
        return {**super().get_config(), "units": {m: lstm.units for m, lstm in self.lstms.items()}}


def _perceptron(hidden_dim, activation, units, dropout, dtype, name):
    """Dense with ReLU, dropout, dense; what has no activation at its end is an output, float32."""
    layers = [
        keras.layers.Dense(hidden_dim, "relu", dtype=dtype, name=f"{name}_1"),
        keras.layers.Dropout(dropout, dtype=dtype, name=f"{name}_dropout"),
        keras.layers.Dense(units, activation, dtype=dtype if activation else "float32", name=f"{name}_2"),
    ]
    return keras.Sequential(layers, name=name)
