"""Word pieces to one vector each: BERT's last hidden states."""

import keras
from keras import ops

from keras_misa.layers.bert_encoder import BertEncoder
from keras_misa.layers.step_encoder import finish, shape_of_steps, spec_of_steps


@keras.saving.register_keras_serializable("keras_misa")
class BertStepEncoder(BertEncoder):
    """BERT's last hidden states, [CLS] and [SEP] included; a `StepEncoder` for text.

    Args:
        backbone: a `keras_nlp.models.BertBackbone`; see `BertEncoder` for what is changed in it.
        exact_gelu: whether the feed-forward parts use gelu as it is defined. Default `True`.
        trainable_from: number of the first encoder layer that is trained, 0 by default; `None` trains nothing.
        trainable_embeddings: whether the embeddings are trained. Default `True`.

    Call arguments:
        inputs: dict of `values`, `(batch, time)`, integers, word pieces with [CLS] and [SEP], and `lengths`,
            `(batch,)`: the number of word pieces of each row, which stand first.

    Returns:
        Dict of `values`, `(batch, time, backbone.hidden_dim)`, zeros at and beyond the length, and `lengths`,
        `(batch,)`, int32.

    Raises:
        ValueError: If BERT has no such encoder layer.

    Example:
        ```python
        text = BertEncoder.from_preset("bert_base_en_uncased").step_encoder()
        ```
    """

    @property
    def output_dim(self):
        """Size of the vectors."""
        return self.backbone.hidden_dim

    def step_encoder(self):
        """This layer."""
        return self

    def call(self, inputs, training=None):
        states, _ = self.hidden_states(inputs, training)
        return finish(states, ops.cast(inputs["lengths"], "int32"))

    def compute_output_shape(self, input_shape):
        return shape_of_steps(input_shape, self.output_dim)

    def compute_output_spec(self, inputs, training=None):
        return spec_of_steps(self, inputs)
