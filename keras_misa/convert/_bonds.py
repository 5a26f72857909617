"""Which Keras layer holds which arrays of the published code's state dict, and how one becomes the other.

One table serves both directions: `model_from_state_dict` and `to_state_dict`.
"""

import typing

import keras
import numpy as np

from keras_misa.layers import AdversarialSimilarityPenalty, BertEncoder, UtteranceEncoder, WordUtteranceEncoder

LETTERS = {"text": "t", "visual": "v", "acoustic": "a"}  # our name → the letter in the published code's names
TOKENS = [(subspace, modality) for subspace in ("private", "shared") for modality in LETTERS]


class Bond(typing.NamedTuple):
    """A Keras layer and the PyTorch arrays with the same content.

    Attributes:
        layer: what holds the weights.
        shapes: dict, name in the state dict → shape there.
        to_keras: function of those arrays, in that order → list of the layer's weights.
        to_torch: function of the layer's weights → list of those arrays.
    """

    layer: keras.layers.Layer
    shapes: dict
    to_keras: typing.Callable
    to_torch: typing.Callable


def make_bonds(model):
    """All bonds of a `MISARegressor` or `MISAClassifier` that has a counterpart in the published code.

    Raises:
        ValueError: If it has none; names every reason.
    """
    _check_is_published(model)
    backbone = model.backbone
    subspaces = backbone.get_layer("subspaces")
    reconstruction = model.get_layer("reconstruction")
    bonds = []
    for modality, x in LETTERS.items():
        encoder = backbone.encoders[modality]
        bonds += _ENCODERS[type(encoder)](encoder, x)
        number = 3 if x == "a" else 1  # sic: private_a.private_a_3
        bonds += [
            _dense(backbone.get_layer(f"{modality}_projection"), f"project_{x}.project_{x}"),
            _layer_norm(backbone.get_layer(f"{modality}_norm"), f"project_{x}.project_{x}_layer_norm"),
            _dense(subspaces.encoder("private", modality), f"private_{x}.private_{x}_{number}"),
            _dense(reconstruction.decoder(modality), f"recon_{x}.recon_{x}_1"),
        ]
    bonds += [
        _dense(subspaces.encoder("shared", None), "shared.shared_1"),
        *_fusion(model.fusion, "transformer_encoder.layers.0"),
        _head(model.get_layer("head_dense"), "fusion.fusion_layer_1", model.token_names),
        _dense(model.get_layer("head_output"), "fusion.fusion_layer_3"),
    ]
    places = [*(f"project_{x}.project_{x}" for x in LETTERS.values()), "fusion.fusion_layer_1"]
    similarity = model.get_layer("similarity")
    if isinstance(similarity, AdversarialSimilarityPenalty):
        bonds.append(_dense(similarity.hidden_dense, "discriminator.discriminator_layer_1"))
        bonds.append(_dense(similarity.output_dense, "discriminator.discriminator_layer_2"))
        places.append("discriminator.discriminator_layer_1")
    if backbone.activation == "prelu":
        bonds.append(_slope(backbone.activation_layer, ["activation", *(f"{place}_activation" for place in places)]))
    return bonds


def _check_is_published(model):
    backbone = model.backbone
    reasons = []
    if set(backbone.modalities) != set(LETTERS):
        reasons.append(f"modalities {backbone.modalities} rather than {list(LETTERS)}")
    for modality, encoder in backbone.encoders.items():
        if type(encoder) not in _ENCODERS:
            reasons.append(f"a {type(encoder).__name__} for {modality}")
    if set(model.token_names) != set(TOKENS):
        reasons.append(f"fused={model.fused} rather than shared and private vectors")
    if backbone.subspace_activation != "sigmoid":
        reasons.append(f"subspace_activation={backbone.subspace_activation!r} rather than 'sigmoid'")
    if model.shared_decoder:
        reasons.append("shared_decoder=True")
    if model.similarity == "mmd":
        reasons.append("similarity='mmd'")
    missing = {"similarity", "reconstruction"} - {penalty.name for penalty in model.penalties}
    reasons += [f"no {name} loss" for name in sorted(missing)]
    if model.num_heads != 2:
        reasons.append(f"num_heads={model.num_heads} rather than 2")
    if reasons:
        raise ValueError(f"The published code has no such model. Received: a model with {'; '.join(reasons)}")


def _dense(dense, name):
    inputs, outputs = dense.kernel.shape
    return Bond(
        dense,
        {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)},
        lambda weight, bias: [weight.T, bias],
        lambda kernel, bias: [kernel.T, bias],
    )


def _head(dense, name, tokens):
    """A dense layer on the concatenated tokens, which may stand in another order here."""
    inputs, outputs = dense.kernel.shape
    theirs = [TOKENS.index(token) for token in tokens]  # for each of our tokens, its place in the published code
    ours = np.argsort(theirs)

    def reorder(kernel, order):
        return kernel.reshape(len(tokens), -1, outputs)[order].reshape(inputs, outputs)

    return _dense(dense, name)._replace(
        to_keras=lambda weight, bias: [reorder(weight.T, theirs), bias],
        to_torch=lambda kernel, bias: [reorder(kernel, ours).T, bias],
    )


def _layer_norm(layer_norm, name, suffixes=("weight", "bias")):
    (dim,) = layer_norm.gamma.shape
    return Bond(layer_norm, {f"{name}.{s}": (dim,) for s in suffixes}, _as_they_are, _as_they_are)


def _as_they_are(*arrays):
    return list(arrays)


def _embedding(embedding, name):
    (variable,) = embedding.weights
    return Bond(embedding, {f"{name}.weight": tuple(variable.shape)}, _as_they_are, _as_they_are)


def _slope(prelu, names):
    """One scalar, which the state dict repeats wherever the activation stands."""
    return Bond(
        prelu, {f"{name}.weight": (1,) for name in names}, lambda *slopes: [_one(slopes)], lambda s: [s] * len(names)
    )


def _one(slopes):
    if len({float(slope[0]) for slope in slopes}) != 1:
        raise ValueError(f"The PReLU slopes of the published code are one parameter. Received: {slopes}")
    return slopes[0]


def _utterance(encoder, x):
    """Two bidirectional layers with layer normalisation between them."""
    make = {"lstm": _lstm, "gru": _gru}[encoder.cell]
    directions = [(0, ""), (1, "_reverse")]
    return [
        *(make(encoder.rnn_1[i], f"{x}rnn1", suffix) for i, suffix in directions),
        _layer_norm(encoder.layer_norm, f"{x}layer_norm"),
        *(make(encoder.rnn_2[i], f"{x}rnn2", suffix) for i, suffix in directions),
    ]


def _words(encoder, x):
    return [_embedding(encoder.embedding, "embed"), *_utterance(encoder, x)]


def _rnn_shapes(layer, name, suffix):
    inputs, gates = layer.cell.kernel.shape
    return {
        f"{name}.weight_ih_l0{suffix}": (gates, inputs),
        f"{name}.weight_hh_l0{suffix}": (gates, layer.units),
        f"{name}.bias_ih_l0{suffix}": (gates,),
        f"{name}.bias_hh_l0{suffix}": (gates,),
    }


def _lstm(layer, name, suffix):
    """Gates stand in the same order, i f g o, in both; the two bias vectors of PyTorch add up."""
    return Bond(
        layer,
        _rnn_shapes(layer, name, suffix),
        lambda w_ih, w_hh, b_ih, b_hh: [w_ih.T, w_hh.T, b_ih + b_hh],
        lambda kernel, recurrent, bias: [kernel.T, recurrent.T, bias, np.zeros_like(bias)],
    )


def _gru(layer, name, suffix):
    """Gates: r z n in PyTorch, z r n in Keras; both keep two bias vectors."""

    def swap(array):
        first, second, new = np.split(array, 3)
        return np.concatenate([second, first, new])

    return Bond(
        layer,
        _rnn_shapes(layer, name, suffix),
        lambda w_ih, w_hh, b_ih, b_hh: [swap(w_ih).T, swap(w_hh).T, np.stack([swap(b_ih), swap(b_hh)])],
        lambda kernel, recurrent, biases: [swap(kernel.T), swap(recurrent.T), *map(swap, biases)],
    )


def _fusion(fusion, name):
    """One post-norm Transformer encoder layer."""
    return [
        *_attention(fusion.attention, name),
        _layer_norm(fusion.attention_norm, f"{name}.norm1"),
        _dense(fusion.intermediate_dense, f"{name}.linear1"),
        _dense(fusion.output_dense, f"{name}.linear2"),
        _layer_norm(fusion.output_norm, f"{name}.norm2"),
    ]


def _attention(attention, name):
    """`in_proj` stacks query, key and value; Keras holds each as `(units, heads, head size)`."""
    units, heads, head_dim = attention.query_dense.kernel.shape
    return [
        Bond(
            attention,
            {
                f"{name}.self_attn.in_proj_weight": (3 * units, units),
                f"{name}.self_attn.in_proj_bias": (3 * units,),
                f"{name}.self_attn.out_proj.weight": (units, units),
                f"{name}.self_attn.out_proj.bias": (units,),
            },
            lambda weights, biases, output, output_bias: (
                [
                    part
                    for weight, bias in zip(np.split(weights, 3), np.split(biases, 3), strict=True)
                    for part in (weight.T.reshape(units, heads, head_dim), bias.reshape(heads, head_dim))
                ]
                + [output.T.reshape(heads, head_dim, units), output_bias]
            ),
            lambda qk, qb, kk, kb, vk, vb, output, output_bias: [
                np.concatenate([kernel.reshape(units, units).T for kernel in (qk, kk, vk)]),
                np.concatenate([bias.reshape(units) for bias in (qb, kb, vb)]),
                output.reshape(units, units).T,
                output_bias,
            ],
        )
    ]


def _bert(encoder, _x):
    """Hugging Face's names of `BertModel`, which the published code holds as `bertmodel`."""
    backbone, name = encoder.backbone, "bertmodel"
    norms = ("weight", "bias")
    bonds = [
        _embedding(backbone.token_embedding, f"{name}.embeddings.word_embeddings"),
        _embedding(backbone.position_embedding, f"{name}.embeddings.position_embeddings"),
        _embedding(backbone.segment_embedding, f"{name}.embeddings.token_type_embeddings"),
        _layer_norm(backbone.embeddings_layer_norm, f"{name}.embeddings.LayerNorm", norms),
        _dense(backbone.pooled_dense, f"{name}.pooler.dense"),
    ]
    for i, block in enumerate(backbone.transformer_layers):
        place = f"{name}.encoder.layer.{i}"
        attention = block._self_attention_layer
        for part in ("query", "key", "value"):
            bonds.append(_head_projection(getattr(attention, f"{part}_dense"), f"{place}.attention.self.{part}"))
        bonds += [
            _head_projection(attention.output_dense, f"{place}.attention.output.dense"),
            _layer_norm(block._self_attention_layer_norm, f"{place}.attention.output.LayerNorm", norms),
            _dense(block._feedforward_intermediate_dense, f"{place}.intermediate.dense"),
            _dense(block._feedforward_output_dense, f"{place}.output.dense"),
            _layer_norm(block._feedforward_layer_norm, f"{place}.output.LayerNorm", norms),
        ]
    return bonds


def _head_projection(dense, name):
    """A dense layer whose kernel Keras keeps in three dimensions, one of them the heads."""
    kernel_shape, bias_shape = tuple(dense.kernel.shape), tuple(dense.bias.shape)
    outputs = int(np.prod(bias_shape))
    inputs = int(np.prod(kernel_shape)) // outputs
    return Bond(
        dense,
        {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)},
        lambda weight, bias: [weight.T.reshape(kernel_shape), bias.reshape(bias_shape)],
        lambda kernel, bias: [kernel.reshape(inputs, outputs).T, bias.reshape(outputs)],
    )


_ENCODERS = {UtteranceEncoder: _utterance, WordUtteranceEncoder: _words, BertEncoder: _bert}
