"""What MISA optimises: penalties, fusion, head, the right half of the paper's Figure 2."""

import functools

import keras

from keras_misa.layers import (
    AdversarialSimilarityPenalty,
    DifferencePenalty,
    MMDSimilarityPenalty,
    ModalityFusion,
    ReconstructionPenalty,
    SimilarityPenalty,
)
from keras_misa.models._rebuilding import common_config, rebuild
from keras_misa.models.utterance_task import UtteranceTask

BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class MISATask(UtteranceTask):
    r"""Common part of `MISARegressor` and `MISAClassifier`.

    The loss is equation 6, $L = L_{task} + α L_{sim} + β L_{diff} + γ L_{recon}$. The logs of `fit` and `evaluate` hold
    `loss` and, unweighted, `task`, `similarity`, `difference` and `reconstruction` (those in use), each the mean over
    the split. Watch `val_task` for early stopping: `val_loss` contains the regularisers.

    A subclass says what `compile()` does by default: `default_loss()` and `default_metrics()`.

    Args:
        backbone: a `MISABackbone`.
        num_outputs: size of the prediction.
        fused: which vectors are fused, in this order: some of `("projected", "shared", "private")`. `None`, the
            default, takes all subspaces of the backbone, or `("projected",)` where it has none. `("private",)` and
            `("shared",)` are the paper's variants *sFusion* and *iFusion*.
        similarity: what makes the shared vectors alike: `"cmd"` (central moments, the paper's choice and the default),
            `"mmd"` (kernels) or `"adversarial"` (a discriminator behind reversed gradients).
        similarity_weight: α; 0 leaves the similarity loss out, and so for the next two.
        difference_weight: β.
        reconstruction_weight: γ.
        dropout: rate in the head.
        fusion_dropout: rate in the fusion's Transformer layer.
        num_heads: of the fusion's attention.
        feedforward_dim: of the fusion's feed-forward part.
        num_moments: K of the central moments.
        similarity_bounds: interval of the shared vectors, for their central moments. `None`, the default, takes that of
            the backbone's `subspace_activation`, sigmoid or tanh; any other activation needs it.
        difference_reduction: `"mean"`, the published code's, or `"sum"`, the paper's.
        shared_decoder: `False`, the published code's decoder for each modality, or `True`, the paper's one for all.
        dtype: dtype or policy of fusion and head; `None`, the default, takes the backbone's. Penalties and output are
            float32 always.

    A loss whose vectors the backbone does not make is left out: *inv* has no difference loss, *base* none at all, and a
    single modality has nothing that it could be similar to.
    """

    def __init__(
        self,
        backbone,
        num_outputs,
        fused=None,
        similarity="cmd",
        similarity_weight=1.0,
        difference_weight=0.3,
        reconstruction_weight=1.0,
        dropout=0.5,
        fusion_dropout=0.1,
        num_heads=2,
        feedforward_dim=2048,
        num_moments=5,
        similarity_bounds=None,
        difference_reduction="mean",
        shared_decoder=False,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        dtype = keras.dtype_policies.get(dtype or backbone.dtype_policy)
        subspaces = backbone.subspaces
        fused = (subspaces or ("projected",)) if fused is None else tuple(fused)
        if set(fused) - {"projected", *subspaces}:
            raise ValueError(
                f"`fused` must name vectors that the backbone makes, some of {('projected', *subspaces)}. "
                f"Received: fused={fused}"
            )
        penalties = []
        if similarity_weight and "shared" in subspaces and len(backbone.modalities) > 1:
            penalties.append(
                _similarity_penalty(similarity, backbone, similarity_weight, num_moments, similarity_bounds, dropout)
            )
        if difference_weight and {"shared", "private"} <= set(subspaces):
            penalties.append(DifferencePenalty(difference_weight, difference_reduction, name="difference"))
        if reconstruction_weight and subspaces:
            penalties.append(ReconstructionPenalty(reconstruction_weight, shared_decoder, name="reconstruction"))
        fusion = ModalityFusion(
            backbone.modalities, fused, num_heads, feedforward_dim, fusion_dropout, dtype=dtype, name="fusion"
        )
        fused_dim = len(fused) * len(backbone.modalities) * backbone.hidden_dim
        head_dense = keras.layers.Dense(fused_dim // 2, dtype=dtype, name="head_dense")
        head_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="head_dropout")
        head_output = keras.layers.Dense(num_outputs, dtype="float32", name="head_output")

        # === Functional model ===
        representations = backbone(backbone.input)
        for penalty in penalties:
            representations = penalty(representations)

        def predict_from(representations):
            x, attention = fusion(representations, return_attention_scores=True)
            return head_output(backbone.activation_layer(head_dropout(head_dense(x)))), attention

        prediction, attention = predict_from(representations)
        super().__init__(backbone.input, prediction, **kwargs)

        # === Config ===
        self.dtype_policy = dtype
        self.backbone = backbone
        self.fusion = fusion
        # Functions, for Keras would track, and save, models that are attributes.
        self._make_explainer = functools.cache(lambda: self._explainer(representations, attention))
        self._make_inference_model = functools.cache(lambda: self._without_penalties(predict_from))
        self.num_outputs = num_outputs
        self.fused = fused
        self.similarity = similarity
        self.similarity_weight = similarity_weight
        self.difference_weight = difference_weight
        self.reconstruction_weight = reconstruction_weight
        self.dropout = dropout
        self.fusion_dropout = fusion_dropout
        self.num_heads = num_heads
        self.feedforward_dim = feedforward_dim
        self.num_moments = num_moments
        self.similarity_bounds = similarity_bounds
        self.difference_reduction = difference_reduction
        self.shared_decoder = shared_decoder

    def explain(self, x, batch_size=None, verbose=0):
        """Predict, and show what the prediction was made of.

        Args:
            x: a batch, or a `tf.data.Dataset` of batches, as for `predict`.
            batch_size: rows at a time where `x` is a dict of arrays.
            verbose: as for `predict`.

        Returns:
            Dict of NumPy arrays: `prediction` `(rows, outputs)`; `projected`, `shared`, `private` and `reconstructed`
            (those that the model has), each a dict, modality name → `(rows, hidden_dim)`; and `attention`
            `(rows, heads, tokens, tokens)`, queries in rows, tokens named by `token_names`.
        """
        return self._make_explainer().predict(x, batch_size=batch_size, verbose=verbose)

    def _explainer(self, representations, attention):
        outputs = {"prediction": self.output, "attention": attention}
        outputs.update((subspace, dict(vectors)) for subspace, vectors in representations.items())
        for penalty in self.penalties:
            if isinstance(penalty, ReconstructionPenalty):
                outputs["reconstructed"] = penalty.reconstruct(outputs)
        return keras.Model(self.input, outputs)

    def inference_model(self):
        """What inference needs and nothing else: no penalties, no decoders.

        Returns:
            A `keras.Model` with the inputs of this one, which shares its weights. Its output is a dict of `prediction`
            `(batch, outputs)`, `attention` `(batch, heads, tokens, tokens)`, and `projected`, `shared` and `private`,
            those that the model has, each a dict, modality name → `(batch, hidden_dim)`.
        """
        return self._make_inference_model()

    def _without_penalties(self, predict_from):
        representations = self.backbone(self.input)
        prediction, attention = predict_from(representations)
        return keras.Model(self.input, {"prediction": prediction, "attention": attention, **representations})

    @property
    def token_names(self):
        """The vectors that are fused, in order, such as `("shared", "text")`: the axes of the attention."""
        return self.fusion.token_names

    def get_config(self):
        return {
            **common_config(self),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_outputs": self.num_outputs,
            "fused": self.fused,
            "similarity": self.similarity,
            "similarity_weight": self.similarity_weight,
            "difference_weight": self.difference_weight,
            "reconstruction_weight": self.reconstruction_weight,
            "dropout": self.dropout,
            "fusion_dropout": self.fusion_dropout,
            "num_heads": self.num_heads,
            "feedforward_dim": self.feedforward_dim,
            "num_moments": self.num_moments,
            "similarity_bounds": self.similarity_bounds,
            "difference_reduction": self.difference_reduction,
            "shared_decoder": self.shared_decoder,
        }

    @classmethod
    def from_config(cls, config):
        return rebuild(cls, config, "backbone")


def _similarity_penalty(similarity, backbone, weight, num_moments, bounds, dropout):
    if similarity == "mmd":
        return MMDSimilarityPenalty(weight, name="similarity")
    if similarity == "adversarial":
        return AdversarialSimilarityPenalty(
            backbone.modalities, weight, backbone.activation_layer, dropout, name="similarity"
        )
    if similarity != "cmd":
        raise ValueError(f'`similarity` must be "cmd", "mmd" or "adversarial". Received: similarity={similarity!r}')
    activation = backbone.subspace_activation
    bounds = bounds or (BOUNDS.get(activation) if isinstance(activation, str) else None)
    if bounds is None:
        raise ValueError(
            "Central moments need the interval of the shared vectors, which is known for the activations "
            f"{sorted(BOUNDS)} only: give `similarity_bounds=(a, b)`. "
            f"Received: subspace_activation={activation!r}"
        )
    return SimilarityPenalty(weight, num_moments, bounds, name="similarity")
