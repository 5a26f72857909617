"""Several trainings at a time."""

import concurrent.futures
import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time

from keras_misa._processes import share_of_machine
from keras_misa.experiments.run_groups import is_finished


def train_in_processes(runs, workers, console):
    """Train runs, some at a time, each in a process of its own that has its share of the machine.

    A run that fails is told and left as it is; if the first says why it cannot even begin, the others would not fare
    better, and are left, too. If this process ends, so do those that it has started; what they have trained stays, and
    `train` goes on with it.

    Args:
        runs: dict, folder of a run → settings of `train`, with `dataset`. Those that are finished stay as they are.
        workers: how many at a time.
        console: `rich.console.Console` to print to.
    """
    first, runs = next(iter(runs)), {folder: settings for folder, settings in runs.items() if not is_finished(folder)}
    environments, processes, start = queue.SimpleQueue(), [], time.monotonic()
    for index in range(workers):
        environments.put(share_of_machine(index, workers))
    lock, stopping = threading.Lock(), threading.Event()

    def run(folder, settings):
        environment = environments.get()
        try:
            with tempfile.TemporaryFile() as log:
                command = [sys.executable, "-m", "keras_misa.experiments.train_worker"]
                with lock:
                    if stopping.is_set():
                        return 1, "not begun"
                    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
                    processes.append(process)
                with contextlib.suppress(OSError):  # If it has died already, its status tells.
                    process.stdin.write(json.dumps({**settings, "output": folder}, default=str).encode() + b"\n")
                    process.stdin.flush()  # and not closed: see `end_with_parent`
                process.wait()
                with contextlib.suppress(OSError):
                    process.stdin.close()
                log.seek(0)
                return process.returncode, log.read().decode(errors="replace").strip().rpartition("\n")[2]
        finally:
            environments.put(environment)

    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(run, folder, settings): folder for folder, settings in runs.items()}
        for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            folder, (status, said) = futures[future], future.result()
            passed = time.monotonic() - start
            line = f"{number} of {len(runs)}: {folder.parent.name}/{folder.name}"
            line += f" failed: {said or f'exit status {status}'}" if status else ""
            left = f", about {passed / number * (len(runs) - number) / 60:.0f} minutes left" if number > 1 else ""
            console.print(f"{line} ({passed / 60:.1f} minutes{left})", highlight=False, markup=False, soft_wrap=True)
            if folder == first and status == 1 and said and not (folder / "config.json").exists():
                break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with lock:
            stopping.set()
        for process in processes:
            if process.poll() is None:
                process.terminate()
        pool.shutdown()
