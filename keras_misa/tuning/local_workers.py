"""Workers of a search on this machine, and the chief that they ask."""

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

from keras_misa._processes import share_of_machine

ADDRESS = "127.0.0.1"
MAX_DEATHS = 10  # in a row without a trial that ended


class LocalWorkers:
    """Processes that run trials; one that dies is started anew, and gets its trial again.

    Each has its share of the machine.

    Args:
        folder: of the search.
        number: of processes.
        console: `rich.console.Console` to print to.
    """

    def __init__(self, folder, number, console):
        self.folder = pathlib.Path(folder).resolve()
        self.number = number
        self.console = console
        with socket.create_server((ADDRESS, 0)) as server:
            self.port = server.getsockname()[1]
        self._processes = {}
        self._deaths = 0
        self._num_ended = 0

    def chief_environment(self):
        """KerasTuner's variables for the chief."""
        return self._environment("chief")

    def _environment(self, name):
        return {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": ADDRESS,
            "KERASTUNER_ORACLE_PORT": str(self.port),
        }

    def start(self):
        """Start all of them."""
        for index in range(self.number):
            self._start(index)

    def _start(self, index):
        environment = share_of_machine(index, self.number) | self._environment(f"worker-{index + 1}")
        self._log(index).parent.mkdir(exist_ok=True)
        with open(self._log(index), "ab") as log:
            command = [sys.executable, "-m", "keras_misa.tuning.worker", str(self.folder)]
            self._processes[index] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def are_done(self, num_ended):
        """Whether all have ended well; starts those anew that died.

        Args:
            num_ended: number of trials that have ended.

        Raises:
            ValueError: If they die again and again, with the end of what the last one said.
        """
        if num_ended > self._num_ended:
            self._num_ended, self._deaths = num_ended, 0
        states = {index: process.poll() for index, process in self._processes.items()}
        for index, state in states.items():
            if state in (None, 0):
                continue
            self._deaths += 1
            if self._deaths > MAX_DEATHS:
                log = self._log(index).read_text(errors="replace").strip()[-2000:]
                raise ValueError(f"Workers die again and again, see {self._log(index)}. Received: {log}")
            how = f"signal {-state}" if state < 0 else f"exit status {state}"
            self.console.print(
                f"worker {index + 1} died ({how}) and is started anew; its trial goes on", highlight=False
            )
            self._start(index)
        return all(state == 0 for state in states.values())

    def _log(self, index):
        return self.folder / "workers" / f"worker-{index + 1}.log"

    def stop(self):
        """End those that run."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdin.close()


def search_as_chief(make_tuner, progress, workers=None):
    """Give out trials to workers until there are none left.

    Args:
        make_tuner: function that makes the tuner.
        progress: a `SearchProgress`.
        workers: a `LocalWorkers`, or `None` if they run elsewhere, and the environment says where the chief is to be
            found.

    Raises:
        ValueError: See `SearchProgress.update` and `LocalWorkers.are_done`; or if no server can be started.
    """
    environment = workers.chief_environment() if workers else {}
    os.environ.update(environment)
    try:
        tuner = make_tuner()
        # KerasTuner's server waits up to 20 seconds for nothing when all is done: nobody waits for it.
        errors = []
        server = threading.Thread(target=_serve, args=(tuner, errors), daemon=True)
        server.start()
        if workers:
            workers.start()
        while server.is_alive():
            if workers and workers.are_done(progress.update()):
                break
            if not workers:
                progress.update()
            time.sleep(0.5)
        if errors:
            address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
            raise ValueError(f"The chief of the search cannot serve at {address}. Received: {errors[0]}") from errors[0]
    finally:
        if workers:
            workers.stop()
        for name in environment:
            os.environ.pop(name)


def _serve(tuner, errors):
    try:
        tuner.search()
    except Exception as error:
        errors.append(error)
