"""Sequence of word ids to one vector: an embedding table, then the sLSTM of equation 1."""

import keras

from keras_misa.layers._word_vectors import fill, look_up
from keras_misa.layers.step_encoder import check_ids
from keras_misa.layers.utterance_encoder import UtteranceEncoder
from keras_misa.layers.word_step_encoder import WordStepEncoder


@keras.saving.register_keras_serializable("keras_misa")
class WordUtteranceEncoder(UtteranceEncoder):
    """`UtteranceEncoder` on word vectors that it looks up itself.

    Args:
        vocabulary_size: number of rows of the embedding table.
        feature_dim: size of a word vector, 300 for the usual GloVe.
        units: hidden size H of each direction; `None`, the default, takes `feature_dim`.
        trainable_embeddings: whether training changes the table, as it does in the published code. Default `True`.
        epsilon: of the layer normalisation.
        cell: `"lstm"` or `"gru"`.

    Call arguments:
        inputs: dict of `values`, `(batch, time)`, integer word ids below `vocabulary_size`, and `lengths`, `(batch,)`.
            The ids at and beyond the length may be anything.

    Returns:
        Tensor `(batch, 4 * units)`.

    Raises:
        ValueError: If a size is not positive, or values are not `(batch, time)`.

    Example:
        >>> import numpy as np
        >>> encoder = WordUtteranceEncoder(vocabulary_size=10, feature_dim=4)
        >>> encoder({"values": np.array([[7, 2, 0]]), "lengths": np.array([2])}).shape[1]
        16
        >>> encoder.set_vectors(np.zeros((10, 4)))
    """

    def __init__(
        self,
        vocabulary_size,
        feature_dim,
        units=None,
        trainable_embeddings=True,
        epsilon=1e-5,
        cell="lstm",
        **kwargs,
    ):
        super().__init__(feature_dim, units, epsilon, cell, **kwargs)
        if vocabulary_size < 1:
            raise ValueError(
                f"`vocabulary_size` must be a positive integer. Received: vocabulary_size={vocabulary_size}"
            )
        self.vocabulary_size = vocabulary_size
        self.trainable_embeddings = trainable_embeddings
        self.embedding = keras.layers.Embedding(
            vocabulary_size,
            feature_dim,
            trainable=trainable_embeddings,
            dtype=self.dtype_policy,
            name="embedding",
        )

    def make_inputs(self, name):
        """Symbolic inputs of this encoder, named after the modality `name`."""
        return {**super().make_inputs(name), "values": keras.Input((None,), dtype="int32", name=f"{name}_values")}

    def build(self, input_shape):
        self.embedding.build()
        super().build(input_shape)

    def check_shape(self, shape):
        """Raise if ids cannot be of this shape."""
        check_ids(shape)

    def embed(self, values):
        """Look the word vectors up."""
        return look_up(self.embedding, values)

    def step_encoder(self):
        """Word by word, with the word vectors as they are now."""
        encoder = WordStepEncoder(
            self.vocabulary_size,
            self.feature_dim,
            self.embedding.trainable,
            trainable=self.trainable,
            dtype=self.dtype_policy,
        )
        if self.embedding.built:
            encoder.set_vectors(self.embedding.embeddings)
        return encoder

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
