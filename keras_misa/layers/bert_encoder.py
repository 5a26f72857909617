"""Word pieces to one vector: the paper's BERT text encoder."""

import functools

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_misa")
class BertEncoder(keras.layers.Layer):
    """Mean of BERT's last hidden states over the word pieces, [CLS] and [SEP] included.

    Args:
        backbone: a `keras_nlp.models.BertBackbone`. It is changed in two ways: its pooler, which the mean makes no use
            of and which would get no gradient, is frozen; and see `exact_gelu`.
        exact_gelu: whether the feed-forward parts use gelu as it is defined (by the error function), as PyTorch's
            BERT does; keras-nlp's default is the tanh approximation, which moves the outputs by about 3e-3.

    Call arguments:
        inputs: dict of `token_ids`, `(batch, time)`, integers, and `padding_mask`, `(batch, time)`, 1 for word pieces
            and 0 for padding.

    Returns:
        Tensor `(batch, backbone.hidden_dim)`; zeros for a row without word pieces.

    Example:
        ```python
        backbone = keras_nlp.models.BertBackbone.from_preset("bert_base_en_uncased")
        encoders = {"text": BertEncoder(backbone), "visual": UtteranceEncoder(47), "acoustic": UtteranceEncoder(74)}
        model = keras_misa.models.MISARegressor(keras_misa.models.MISABackbone(encoders))
        ```
    """

    def __init__(self, backbone, exact_gelu=True, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.exact_gelu = exact_gelu
        backbone.pooled_dense.trainable = False
        if exact_gelu:
            for block in backbone.transformer_layers:
                block._feedforward_intermediate_dense.activation = functools.partial(
                    keras.activations.gelu, approximate=False
                )

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {key: keras.Input((None,), dtype="int32", name=f"{name}_{key}") for key in ("token_ids", "padding_mask")}

    def build(self, input_shape):
        pass  # the backbone is built

    def call(self, inputs, training=None):
        token_ids, padding_mask = (ops.cast(inputs[key], "int32") for key in ("token_ids", "padding_mask"))
        outputs = self.backbone(
            {"token_ids": token_ids, "segment_ids": ops.zeros_like(token_ids), "padding_mask": padding_mask},
            training=training,
        )
        states = outputs["sequence_output"]
        mask = ops.expand_dims(ops.cast(padding_mask, states.dtype), -1)
        return ops.sum(states * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)

    def compute_output_shape(self, input_shape):
        return (input_shape["token_ids"][0], self.backbone.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "exact_gelu": self.exact_gelu,
        }

    @classmethod
    def from_config(cls, config):
        # keras-nlp registers the backbone's class when it is imported.
        import keras_nlp  # noqa: F401

        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})
