"""Several trainings at a time."""

import concurrent.futures
import json
import queue
import subprocess
import sys
import tempfile
import time

from keras_misa._processes import share_of_machine


def train_in_processes(runs, workers, console):
    """Train runs, some at a time, each in a process of its own that has its share of the machine.

    A run that fails is told and left as it is. If this process ends, so do those that it has started; what they have
    trained stays, and `train` goes on with it.

    Args:
        runs: dict, folder of a run → settings of `train`, with `dataset`.
        workers: how many at a time.
        console: `rich.console.Console` to print to.
    """
    slots, processes, start = queue.SimpleQueue(), [], time.monotonic()
    for slot in range(workers):
        slots.put(slot)

    def run(folder, settings):
        slot = slots.get()
        try:
            with tempfile.TemporaryFile() as log:
                command = [sys.executable, "-m", "keras_misa.experiments.train_worker"]
                environment = share_of_machine(slot, workers)
                process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
                processes.append(process)
                process.stdin.write(json.dumps({**settings, "output": folder}, default=str).encode() + b"\n")
                process.stdin.flush()  # and not closed: see `end_with_parent`
                process.wait()
                process.stdin.close()
                log.seek(0)
                return process.returncode, log.read().decode(errors="replace").strip().rpartition("\n")[2]
        finally:
            slots.put(slot)

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
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            if process.poll() is None:
                process.terminate()
        pool.shutdown()
