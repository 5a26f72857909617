"""What only TensorFlow needs in layers and models; nothing here is imported on other backends."""

import tensorflow as tf


def num_replicas():
    """By how many replicas Keras has divided the total loss: more than one under a `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync
