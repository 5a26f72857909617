"""Sequence of word ids to one vector a word."""

import keras

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers._word_vectors import fill, look_up
from keras_misa.layers.step_encoder import StepEncoder, check_ids


@keras.saving.register_keras_serializable("keras_misa")
class WordStepEncoder(StepEncoder):
    """`StepEncoder` on word vectors that it looks up itself.

    Args:
        vocabulary_size: number of rows of the embedding table.
        feature_dim: size of a word vector, 300 for the usual GloVe.
        trainable_embeddings: whether training changes the table. Default `True`.

    Call arguments:
        inputs: dict of `values`, `(batch, time)`, integer word ids below `vocabulary_size`, and `lengths`, `(batch,)`.
            The ids at and beyond the length may be anything.

    Returns:
        Dict of `values`, `(batch, time, feature_dim)`, and `lengths`, `(batch,)`.

    Raises:
        ValueError: If a size is not positive, or values are not `(batch, time)`.

    Example:
        >>> import numpy as np
        >>> encoder = WordStepEncoder(vocabulary_size=10, feature_dim=4)
        >>> steps = encoder({"values": np.array([[7, 2, 0]]), "lengths": np.array([2])})
        >>> tuple(steps["values"].shape)
        (1, 3, 4)
    """

    def __init__(self, vocabulary_size, feature_dim, trainable_embeddings=True, **kwargs):
        super().__init__(feature_dim, **kwargs)
        if vocabulary_size < 1:
            raise ValueError(
                f"`vocabulary_size` must be a positive integer. Received: vocabulary_size={vocabulary_size}"
            )
        self.vocabulary_size = vocabulary_size
        self.trainable_embeddings = trainable_embeddings
        self.embedding = keras.layers.Embedding(
            vocabulary_size, feature_dim, trainable=trainable_embeddings, dtype=self.dtype_policy, name="embedding"
        )

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {**super().make_inputs(name), "values": keras.Input((None,), dtype="int32", name=f"{name}_values")}

    def build(self, input_shape):
        check_ids(input_shape["values"])
        if not self.embedding.built:
            self.embedding.build()
        keep_frozen(self)

    def embed(self, values):
        """Look the word vectors up."""
        return look_up(self.embedding, values)

    def set_vectors(self, vectors):
        """Fill the embedding table, with GloVe vectors for example.

        Args:
            vectors: array `(vocabulary_size, feature_dim)`, row i for word id i.

        Raises:
            ValueError: If the shape is another.
        """
        fill(self.embedding, vectors)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "trainable_embeddings": self.trainable_embeddings,
        }
