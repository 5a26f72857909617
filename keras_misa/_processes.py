"""Processes of our own on this machine, each with its share of it."""

import os
import threading


def share_of_machine(index, number):
    """Environment of a process that has an equal share of the cores and of the GPUs.

    One process alone cannot keep them busy with models of this size.

    Args:
        index: of the process, from 0.
        number: of processes.

    Returns:
        Dict for `subprocess.Popen`. Numbers of threads that the user has set stay.

    Example:
        >>> environment = share_of_machine(0, 64)
        >>> int(environment["OMP_NUM_THREADS"]) >= 1
        True
    """
    environment = dict(os.environ)
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        environment.setdefault(variable, str(max(1, _num_cpus() // number)))
    if gpus := _gpus():
        share = gpus[index::number] or [gpus[index % len(gpus)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
    return environment


def end_with_parent():
    """End this process as soon as the one that started it has: the pipe between them, standard input, knows at once."""

    def wait():
        while os.read(0, 1024):  # `sys.stdin` would be locked when this process ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _num_cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _gpus():
    """Names of the GPUs that this process may use, for `CUDA_VISIBLE_DEVICES`."""
    import tensorflow as tf

    number = len(tf.config.list_physical_devices("GPU"))
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[:number] or [str(index) for index in range(number)]
