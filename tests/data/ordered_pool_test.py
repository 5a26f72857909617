import functools
import math
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from keras_misa.data._ordered_pool import map_in_order

# Each process imports what it is to call, and cannot import this file: the functions are Python's own.
SCRIPT = """
import functools, operator, os, time
from keras_misa.data._ordered_pool import map_in_order

if __name__ == "__main__":
    calls = [os.getpid] * 4 + [functools.partial(time.sleep, 0.2)] * 10_000
    for result in map_in_order(functools.partial, (operator.call,), calls, num_workers=2):
        print(result, flush=True)
"""


def factorials(items, num_workers=2):
    return map_in_order(functools.partial, (math.factorial,), items, num_workers)


def test_results_come_in_order_and_items_are_asked_for_when_they_are_needed():
    asked = []

    def items():
        for number in (30_000, *range(100)):  # The first takes long.
            asked.append(number)
            yield number

    results = factorials(items())
    assert next(results) == math.factorial(30_000)
    assert len(asked) < 20
    assert list(results) == [math.factorial(number) for number in range(100)]
    assert not multiprocessing.active_children()


def test_an_error_is_raised_in_the_place_of_its_result():
    results = factorials([3, -1, 4])
    assert next(results) == 6
    with pytest.raises(ValueError, match=r"^factorial\(\) not defined for negative values$"):
        next(results)
    assert not multiprocessing.active_children()


def test_an_error_of_the_first_call_is_raised_too():
    with pytest.raises(ValueError, match="invalid literal for int"):
        list(map_in_order(int, ("x",), [1, 2], 2))


def test_a_dead_process_is_an_error():
    with pytest.raises(ChildProcessError, match=r"has died.*Received: num_workers=2"):
        list(map_in_order(functools.partial, (os._exit,), [1], 2))


def test_who_stops_early_leaves_no_process():
    results = factorials(range(1000))
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert not multiprocessing.active_children()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process, {int(process.stdout.readline()) for _ in range(4)}
        process.kill()


def test_ctrl_c_ends_all_and_only_the_first_process_speaks(script):
    process, workers = script
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert error.count("Traceback") == 1
    assert not any(map(is_running, workers))


def test_the_processes_end_with_a_first_one_that_is_killed(script):
    process, workers = script
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
