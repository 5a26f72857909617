"""Training after training in one process."""

import keras


def forget_models():
    """Let Keras forget the models that were made so far: else graphs of all trainings stay in memory.

    `keras.backend.clear_session` alone would also reset what whoever called has chosen: dtype policy and distribution.
    """
    policy, distribution = keras.config.dtype_policy(), keras.distribution.distribution()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)
    keras.distribution.set_distribution(distribution)
