"""Weights of the published PyTorch code into our layers."""

import warnings

import numpy as np

from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor

MODALITIES = {"text": "t", "visual": "v", "acoustic": "a"}  # our name → the letter in the published code's names


def model_from_state_dict(state_dict, num_classes=1, activation="relu", dropout=0.5, fusion_dropout=0.1):
    """Build the model that a state dict of the published code belongs to, with its weights.

    All sizes are read from the arrays. What a state dict does not hold must be given. Loss weights are 1.0 for
    similarity, 0.3 for difference, 1.0 for reconstruction.

    Args:
        state_dict: mapping of the published code's parameter names to arrays (GloVe text, LSTM cells).
        num_classes: 1 for a `MISARegressor`, more for a `MISAClassifier`; must agree with the last layer.
        activation: of projection and head; see `MISABackbone`.
        dropout: rate in the head.
        fusion_dropout: rate in the Transformer layer.

    Returns:
        A `MISARegressor` or `MISAClassifier`, built. Its batches come from `model_inputs`.

    Raises:
        ValueError: If a parameter is missing, has an unexpected shape, or disagrees with `num_classes`.

    Warns:
        UserWarning: Names the arrays of `state_dict` that the model has no use for.

    Example:
        ```python
        state_dict = {name: tensor.numpy() for name, tensor in torch.load("model.pt").items()}
        model = keras_misa.convert.model_from_state_dict(state_dict)
        model.predict(keras_misa.convert.model_inputs(words, visual, acoustic, lengths))
        ```
    """
    state = _StateDict(state_dict)
    feature_dims = {m: state.shape(f"{x}rnn1.weight_ih_l0", 2)[1] for m, x in MODALITIES.items()}
    units = {m: state.shape(f"{x}rnn1.weight_hh_l0", 2)[1] for m, x in MODALITIES.items()}
    vocabulary_size, _ = state.shape("embed.weight", 2)
    hidden_dim, _ = state.shape("project_t.project_t.weight", 2)
    feedforward_dim, _ = state.shape("transformer_encoder.layers.0.linear1.weight", 2)
    num_outputs, _ = state.shape("fusion.fusion_layer_3.weight", 2)
    if num_outputs != num_classes:
        raise ValueError(
            f"The last layer has {num_outputs} outputs (fusion.fusion_layer_3.weight). "
            f"Received: num_classes={num_classes}"
        )

    encoders = {
        modality: WordUtteranceEncoder(vocabulary_size, dim, units[modality])
        if modality == "text"
        else UtteranceEncoder(dim, units[modality])
        for modality, dim in feature_dims.items()
    }
    backbone = MISABackbone(encoders, hidden_dim, activation)
    task = MISARegressor if num_classes == 1 else MISAClassifier
    model = task(
        backbone,
        num_outputs,
        fused=("private", "shared"),  # the published code's order of tokens
        similarity_weight=1.0,
        difference_weight=0.3,
        reconstruction_weight=1.0,
        dropout=dropout,
        fusion_dropout=fusion_dropout,
        feedforward_dim=feedforward_dim,
    )

    subspaces = backbone.get_layer("subspaces")
    reconstruction = model.get_layer("reconstruction")
    encoders["text"].set_vectors(state.take("embed.weight", (vocabulary_size, feature_dims["text"])))
    for modality, x in MODALITIES.items():
        encoder = encoders[modality]
        _set_lstms(encoder.lstm_1, state, f"{x}rnn1")
        _set_layer_norm(encoder.layer_norm, state, f"{x}layer_norm")
        _set_lstms(encoder.lstm_2, state, f"{x}rnn2")
        _set_dense(backbone.get_layer(f"{modality}_projection"), state, f"project_{x}.project_{x}")
        _set_layer_norm(backbone.get_layer(f"{modality}_norm"), state, f"project_{x}.project_{x}_layer_norm")
        number = 3 if x == "a" else 1  # sic: private_a.private_a_3
        _set_dense(subspaces.encoder("private", modality), state, f"private_{x}.private_{x}_{number}")
        _set_dense(reconstruction.decoder(modality), state, f"recon_{x}.recon_{x}_1")
    _set_dense(subspaces.encoder("shared", None), state, "shared.shared_1")
    _set_fusion(model.fusion, state, "transformer_encoder.layers.0")
    _set_dense(model.get_layer("head_dense"), state, "fusion.fusion_layer_1")
    _set_dense(model.get_layer("head_output"), state, "fusion.fusion_layer_3")
    if activation == "prelu":
        slope = state.take("activation.weight", (1,))
        backbone.activation_layer.set_weights([slope])

    if unused := state.unused():
        warnings.warn(f"The model has no use for these arrays of the state dict: {', '.join(unused)}", stacklevel=2)
    return model


class _StateDict:
    """A state dict that checks shapes and remembers what was taken."""

    def __init__(self, arrays):
        self._arrays = arrays
        self._taken = set()

    def shape(self, name, rank):
        if name not in self._arrays:
            raise ValueError(
                f"The state dict lacks {name!r}, which a model of the published code with GloVe text and LSTM cells "
                f"has. Received names: {sorted(self._arrays)}"
            )
        shape = tuple(np.shape(self._arrays[name]))
        if len(shape) != rank:
            raise ValueError(f"Expected {name!r} to have {rank} dimensions. Received: shape {shape}")
        return shape

    def take(self, name, shape):
        received = self.shape(name, len(shape))
        if received != tuple(shape):
            raise ValueError(f"Expected {name!r} to have the shape {tuple(shape)}. Received: shape {received}")
        self._taken.add(name)
        return np.asarray(self._arrays[name], "float32")

    def unused(self):
        return [name for name in self._arrays if name not in self._taken]


def _set_dense(dense, state, name):
    inputs, outputs = dense.kernel.shape
    dense.set_weights([state.take(f"{name}.weight", (outputs, inputs)).T, state.take(f"{name}.bias", (outputs,))])


def _set_layer_norm(layer_norm, state, name):
    (dim,) = layer_norm.gamma.shape
    layer_norm.set_weights([state.take(f"{name}.{part}", (dim,)) for part in ("weight", "bias")])


def _set_lstms(layers, state, name):
    """Gates stand in the same order, i f g o, in both; the two bias vectors of PyTorch add up."""
    for layer, suffix in zip(layers, ("", "_reverse"), strict=True):
        inputs, gates = layer.cell.kernel.shape
        kernel = state.take(f"{name}.weight_ih_l0{suffix}", (gates, inputs)).T
        recurrent = state.take(f"{name}.weight_hh_l0{suffix}", (gates, gates // 4)).T
        biases = [state.take(f"{name}.bias_{part}_l0{suffix}", (gates,)) for part in ("ih", "hh")]
        layer.set_weights([kernel, recurrent, sum(biases)])


def _set_fusion(fusion, state, name):
    """`in_proj` stacks query, key and value; Keras holds each as `(units, heads, head size)`."""
    units, heads, head_dim = fusion.attention.query_dense.kernel.shape
    kernels = state.take(f"{name}.self_attn.in_proj_weight", (3 * units, units)).reshape(3, units, units)
    biases = state.take(f"{name}.self_attn.in_proj_bias", (3 * units,)).reshape(3, heads, head_dim)
    projections = (fusion.attention.query_dense, fusion.attention.key_dense, fusion.attention.value_dense)
    for projection, kernel, bias in zip(projections, kernels, biases, strict=True):
        projection.set_weights([kernel.T.reshape(units, heads, head_dim), bias])
    output = state.take(f"{name}.self_attn.out_proj.weight", (units, units)).T.reshape(heads, head_dim, units)
    fusion.attention.output_dense.set_weights([output, state.take(f"{name}.self_attn.out_proj.bias", (units,))])
    _set_layer_norm(fusion.attention_norm, state, f"{name}.norm1")
    _set_dense(fusion.intermediate_dense, state, f"{name}.linear1")
    _set_dense(fusion.output_dense, state, f"{name}.linear2")
    _set_layer_norm(fusion.output_norm, state, f"{name}.norm2")
