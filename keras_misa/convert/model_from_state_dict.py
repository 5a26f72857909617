"""A state dict of the published PyTorch code as a Keras model."""

import warnings

import numpy as np

from keras_misa.convert._bonds import LETTERS, make_bonds
from keras_misa.layers import BertEncoder, UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor


def model_from_state_dict(
    state_dict, num_classes=1, activation="relu", dropout=0.5, fusion_dropout=0.1, bert_num_heads=None
):
    """Build the model that a state dict of the published code belongs to, with its weights.

    Every state dict that the published code writes: GloVe or BERT text, LSTM or GRU cells, with or without the
    adversarial discriminator. All sizes are read from the arrays. What a state dict does not hold must be given. Loss
    weights are 1.0 for similarity, 0.3 for difference, 1.0 for reconstruction.

    Args:
        state_dict: mapping of the published code's parameter names to arrays, as `read_torch_checkpoint` gives it.
        num_classes: 1 for a `MISARegressor`, more for a `MISAClassifier`; must agree with the last layer.
        activation: of projection and head; see `MISABackbone`.
        dropout: rate in the head and in the discriminator.
        fusion_dropout: rate in the Transformer layer.
        bert_num_heads: of BERT's attention; `None`, the default, is one for each 64 of its hidden size, as in
            `bert-base-uncased`.

    Returns:
        A `MISARegressor` or `MISAClassifier`, built. Its batches come from `model_inputs`.

    Raises:
        ValueError: If a parameter is missing, has an unexpected shape, or disagrees with an argument.

    Warns:
        UserWarning: Names the arrays of `state_dict` that the model has no use for. The published code writes
            `sp_discriminator.*` always, and computes nothing with it.

    Example:
        ```python
        state_dict = keras_misa.convert.read_torch_checkpoint("model.std")
        model = keras_misa.convert.model_from_state_dict(state_dict)
        model.predict(keras_misa.convert.model_inputs(words, visual, acoustic, lengths))
        ```
    """
    state = _StateDict(state_dict)
    hidden_dim, _ = state.shape("project_t.project_t.weight", 2)
    feedforward_dim, _ = state.shape("transformer_encoder.layers.0.linear1.weight", 2)
    num_outputs, _ = state.shape("fusion.fusion_layer_3.weight", 2)
    if num_outputs != num_classes:
        raise ValueError(
            f"The last layer has {num_outputs} outputs (fusion.fusion_layer_3.weight). "
            f"Received: num_classes={num_classes}"
        )
    if activation != "prelu" and "activation.weight" in state_dict:
        raise ValueError(
            "The state dict holds the slope of a PReLU (activation.weight): give activation='prelu'. "
            f"Received: activation={activation!r}"
        )
    backbone = MISABackbone(
        {modality: _make_encoder(state, modality, bert_num_heads) for modality in LETTERS}, hidden_dim, activation
    )
    task = MISARegressor if num_classes == 1 else MISAClassifier
    model = task(
        backbone,
        num_outputs,
        fused=("private", "shared"),  # the published code's order of tokens
        similarity="adversarial" if "discriminator.discriminator_layer_1.weight" in state_dict else "cmd",
        similarity_weight=1.0,
        difference_weight=0.3,
        reconstruction_weight=1.0,
        dropout=dropout,
        fusion_dropout=fusion_dropout,
        feedforward_dim=feedforward_dim,
    )
    for bond in make_bonds(model):
        bond.layer.set_weights(bond.to_keras(*(state.take(name, shape) for name, shape in bond.shapes.items())))
    if unused := state.unused():
        warnings.warn(f"The model has no use for these arrays of the state dict: {', '.join(unused)}", stacklevel=2)
    return model


def _make_encoder(state, modality, bert_num_heads):
    if modality == "text" and state.has("bertmodel.embeddings.word_embeddings.weight"):
        return BertEncoder(_make_bert(state, bert_num_heads))
    x = LETTERS[modality]
    gates, feature_dim = state.shape(f"{x}rnn1.weight_ih_l0", 2)
    _, units = state.shape(f"{x}rnn1.weight_hh_l0", 2)
    cells = {4 * units: "lstm", 3 * units: "gru"}
    if gates not in cells:
        raise ValueError(
            f"Expected '{x}rnn1.weight_ih_l0' to have {4 * units} rows (LSTM) or {3 * units} (GRU). Received: {gates}"
        )
    if modality != "text":
        return UtteranceEncoder(feature_dim, units, cell=cells[gates])
    vocabulary_size, _ = state.shape("embed.weight", 2)
    return WordUtteranceEncoder(vocabulary_size, feature_dim, units, cell=cells[gates])


def _make_bert(state, num_heads):
    import keras_nlp

    prefix = "bertmodel.embeddings"
    vocabulary_size, hidden_dim = state.shape(f"{prefix}.word_embeddings.weight", 2)
    if num_heads is None:
        if hidden_dim % 64:
            raise ValueError(
                f"A state dict does not tell the number of BERT's attention heads, and its hidden size, {hidden_dim}, "
                "is no multiple of 64: give `bert_num_heads`. Received: bert_num_heads=None"
            )
        num_heads = hidden_dim // 64
    if hidden_dim % num_heads:
        raise ValueError(
            f"`bert_num_heads` must divide BERT's hidden size, {hidden_dim}. Received: bert_num_heads={num_heads}"
        )
    num_layers = 0
    while state.has(f"bertmodel.encoder.layer.{num_layers}.output.dense.weight"):
        num_layers += 1
    return keras_nlp.models.BertBackbone(
        vocabulary_size,
        num_layers,
        num_heads,
        hidden_dim,
        intermediate_dim=state.shape("bertmodel.encoder.layer.0.intermediate.dense.weight", 2)[0],
        max_sequence_length=state.shape(f"{prefix}.position_embeddings.weight", 2)[0],
        num_segments=state.shape(f"{prefix}.token_type_embeddings.weight", 2)[0],
        name="bert",
    )


class _StateDict:
    """A state dict that checks shapes and remembers what was taken."""

    def __init__(self, arrays):
        # Hugging Face's old names of the scale and shift of a layer normalisation.
        new = {".gamma": ".weight", ".beta": ".bias"}
        self._arrays = {
            next((name.removesuffix(old) + new[old] for old in new if name.endswith(f"LayerNorm{old}")), name): array
            for name, array in arrays.items()
        }
        # Not parameters: the numbers 0, 1, 2, … that some versions of transformers store.
        self._taken = {name for name in self._arrays if name in _BUFFERS}

    def has(self, name):
        return name in self._arrays

    def shape(self, name, rank):
        if name not in self._arrays:
            raise ValueError(
                f"The state dict lacks {name!r}, which a model of the published code has. "
                f"Received names: {sorted(self._arrays)}"
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
        array = np.asarray(self._arrays[name], "float32")
        if not np.isfinite(array).all():
            raise ValueError(f"Expected finite numbers in {name!r}. Received: {np.sum(~np.isfinite(array))} others")
        return array

    def unused(self):
        return [name for name in self._arrays if name not in self._taken]


_BUFFERS = {"bertmodel.embeddings.position_ids", "bertmodel.embeddings.token_type_ids"}
