"""A loop over independent items, shared out among processes."""

import collections
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import threading

_AHEAD = 4  # items that are handed out, for each process


def map_in_order(make_function, arguments, items, num_workers):
    """Calls a function on each item in processes of their own.

    No more than a few items for each process are under way, so that memory does not grow with their number.

    Args:
        make_function: called once in each process with `arguments`, gives the function. It, the arguments, the items
            and the results must be such as can be pickled.
        arguments: tuple.
        items: iterable.
        num_workers: number of processes.

    Yields:
        The results in the order of the items. An error of the function is raised in the place of its result.

    Raises:
        ChildProcessError: If a process has died.

    Example:
        >>> from operator import itemgetter
        >>> list(map_in_order(itemgetter, (1,), ["abc", "xyz"], num_workers=2))  # doctest: +SKIP
        ['b', 'y']
    """
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # Neither TensorFlow's threads nor HDF5's open files survive a fork.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(make_function, arguments),
    )
    pending = collections.deque()
    try:
        for item in items:
            with _interrupts_held_back():  # This may start a process.
                pending.append(executor.submit(_call, item))
            if len(pending) == _AHEAD * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except concurrent.futures.BrokenExecutor as error:
        raise ChildProcessError(
            "A worker process has died: it was killed, or memory was short, or a script uses workers outside of "
            f'`if __name__ == "__main__":`. Received: num_workers={num_workers}'
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back():
    """Ctrl-C reaches all processes; one that starts in this block is deaf to it, and the first one ends the others."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make_function, arguments):
    global _make
    _make = functools.cache(functools.partial(make_function, *arguments))  # Later, so that its errors are results.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # For Windows.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(item):
    return _make()(item)
