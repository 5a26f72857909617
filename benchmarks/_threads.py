"""PyTorch's modules by one thread and by all: small products are often faster by one."""

import os

import numpy as np


def numbers_of_threads():
    """Those to be tried."""
    return sorted({1, os.cpu_count()})


def with_threads(call, threads):
    """PyTorch's threads are its process's."""
    import torch

    def prepare():
        torch.set_num_threads(threads)

    return prepare, call


def faster_threads(times):
    """Of contenders `name on n`, the faster `name`, and its number of threads."""
    best = {}
    for name, values in times.items():
        name, _, threads = name.partition(" on ")
        if name not in best or np.median(values) < np.median(best[name][0]):
            best[name] = values, threads
    return best
