"""Training on several devices."""

import contextlib

import keras


def device_scope(devices):
    """The scope in which a model is built that trains on this many devices.

    Training belongs into the scope too. On TensorFlow it is that of a `tf.distribute.MirroredStrategy`; on JAX, a
    `keras.distribution.DataParallel` holds in it.
    On TensorFlow without GPUs the devices are logical ones of the CPU, which are for trying things out: they share its
    cores, and the CPU can be split only before TensorFlow is used for anything else, see `prepare_devices`.

    Args:
        devices: number of devices; 1 leaves everything as it is.

    Returns:
        A context manager.

    Raises:
        ValueError: If there are not so many devices, or the backend is PyTorch.

    Example:
        ```python
        with device_scope(2):
            model = build_model(config, dims)
            model.fit(train)
        ```
    """
    if devices == 1:
        return contextlib.nullcontext()
    prepare_devices({"devices": devices, "jit_compile": False})
    if keras.backend.backend() == "jax":
        return _data_parallel_scope(devices)
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_tensorflow_devices(devices)).scope()


def prepare_devices(config):
    """Split the CPU where devices are needed and there is no GPU; before TensorFlow is used for anything else.

    Args:
        config: dict of `make_config`.

    Raises:
        ValueError: If there are too few devices, TensorFlow is running already, or the settings do not go together.
    """
    devices, backend = config["devices"], keras.backend.backend()
    if devices == 1:
        return
    if backend == "torch":
        raise ValueError(
            f"Several devices need the TensorFlow or JAX backend. Received: devices={devices} on {backend}"
        )
    if backend == "jax":
        _jax_devices(devices)
        return
    if config["jit_compile"]:
        raise ValueError(
            "XLA compiles the step of one device: TensorFlow cannot deal out a compiled one. "
            f"Received: jit_compile=True, devices={devices}"
        )
    _tensorflow_devices(devices)


def _tensorflow_devices(devices):
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        if len(gpus) < devices:
            raise ValueError(f"There are {len(gpus)} GPUs. Received: devices={devices}")
        return [f"GPU:{number}" for number in range(devices)]
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) < devices:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        except RuntimeError as error:
            raise ValueError(
                "The CPU cannot be split into several devices any more, TensorFlow is running already: call "
                f"`prepare_devices` first, or start anew. Received: devices={devices}"
            ) from error
    return [f"CPU:{number}" for number in range(devices)]


def _jax_devices(devices):
    available = keras.distribution.list_devices()
    if len(available) < devices:
        raise ValueError(
            "JAX has not so many devices (XLA_FLAGS=--xla_force_host_platform_device_count=4 makes four of a CPU). "
            f"Received: devices={devices}, there are {available}"
        )
    return available[:devices]


@contextlib.contextmanager
def _data_parallel_scope(devices):
    previous = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=_jax_devices(devices)))
    try:
        yield
    finally:
        keras.distribution.set_distribution(previous)


def check_batches(devices, sizes, batch_size):
    """Raise where a batch cannot be dealt out.

    Args:
        devices: number of devices.
        sizes: dict, split → number of utterances.
        batch_size: utterances in a batch.

    Raises:
        ValueError: On JAX, if a batch does not divide by the devices. TensorFlow takes shares of unequal size.
    """
    if devices == 1 or keras.backend.backend() != "jax":
        return
    for split, size in sizes.items():
        for rows in {min(batch_size, size), size % batch_size or batch_size}:
            if rows % devices:
                raise ValueError(
                    f"On JAX, {devices} devices need batches that divide by {devices}: choose another batch size, or "
                    f"the TensorFlow backend. Received: batch_size={batch_size}, and a batch of {rows} in {split}"
                )
