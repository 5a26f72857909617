"""A batch that is dealt out to several devices, made whole again.

On JAX `keras.distribution` computes with whole batches whose rows lie on several devices, and there is nothing to do.
"""

import keras


def gather_rows(arrays):
    """The rows of the whole batch, of each array of a structure; `arrays` themselves where there is one device."""
    return _of_tensorflow("gather_rows", arrays)


def sum_replicas(gradients):
    """Gradients, summed over the devices."""
    return _of_tensorflow("sum_replicas", gradients)


def num_replicas():
    """By how many devices Keras has divided the total loss."""
    if keras.backend.backend() != "tensorflow":
        return 1
    from keras_misa import _tensorflow

    return _tensorflow.num_replicas()


def _of_tensorflow(name, arrays):
    if keras.backend.backend() != "tensorflow":
        return arrays
    from keras_misa import _tensorflow

    return getattr(_tensorflow, name)(arrays)
