"""What only TensorFlow needs in layers and models; nothing here is imported on other backends."""

import tensorflow as tf


def num_replicas():
    """By how many replicas Keras has divided the total loss: more than one under a `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


@tf.custom_gradient
def with_dense_gradient(table):
    """The table itself, with a gradient that has one row for each of its rows.

    That of a look-up has a row for each id. Keras's optimisers clip and square those one by one, which is wrong for an
    id that stands in a batch twice: its gradient is the sum.
    """
    return tf.identity(table), tf.convert_to_tensor
