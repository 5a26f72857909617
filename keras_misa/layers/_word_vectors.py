"""What the layers that hold word vectors have in common."""

import keras
from keras import ops


def look_up(embedding, ids):
    """Vectors of word ids, one axis more, by a `keras.layers.Embedding`."""
    table = ops.cast(embedding.embeddings, embedding.compute_dtype)
    if keras.backend.backend() == "tensorflow":
        from keras_misa._tensorflow import with_dense_gradient

        table = with_dense_gradient(table)
    return ops.take(table, ops.cast(ids, "int32"), axis=0)


def fill(embedding, vectors):
    """Set the table of a `keras.layers.Embedding`, built or not; raises `ValueError` if the shape is another."""
    expected = (embedding.input_dim, embedding.output_dim)
    if tuple(vectors.shape) != expected:
        raise ValueError(f"`vectors` must have the shape {expected}. Received: vectors.shape={vectors.shape}")
    if not embedding.built:
        embedding.build()
    embedding.embeddings.assign(vectors)
