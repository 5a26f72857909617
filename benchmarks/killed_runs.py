"""Is a run that was killed (SIGKILL) and started again the same as one that was not?

A run with LSTMs on the built-in synthetic data is killed at a random moment after a random number of epochs (none:
while it loads libraries and data; all: while it writes results), and started again by the same command, which may be
killed once more. Its weights, predictions, history and metrics are compared, byte for byte, with those of a run that
nobody has disturbed.

    python benchmarks/killed_runs.py
    python benchmarks/killed_runs.py --quick
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

COMMAND = [pathlib.Path(sys.executable).with_name("keras-misa"), "train", "--quiet"]
SETTINGS = ["--dataset", "synthetic_subspaces/small", "--hidden-dim", "16", "--modalities", "visual,acoustic"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="runs that are killed")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="one run of two epochs: shows that it works")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.epochs = 1, 2
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pauses = run(folder / "whole", options.epochs)
        expected, total = content(folder / "whole"), len(history(folder / "whole"))
        print(f"Undisturbed: {sum(pauses):.0f} s, {total} epochs.", flush=True)
        for number in range(options.kills):
            output, story = folder / str(number), []
            while not story or is_finished(output):  # it was faster than its killer: once more
                shutil.rmtree(output, ignore_errors=True)
                story = []
                for after in sorted(rng.integers(0, total + 1, 1 + number % 2)):
                    delay = pauses[after] * rng.uniform()
                    run(output, options.epochs, after, delay)
                    story.append(f"killed {delay:.2f} s after {after} epochs")
            run(output, options.epochs)
            received = content(output)
            different = [name for name in expected if received.get(name) != expected[name]]
            if different or received.keys() != expected.keys():
                sys.exit(
                    f"Run {number} ({', '.join(story)}) differs in {different or received.keys() ^ expected.keys()}"
                )
            print(f"Run {number}: {', '.join(story)}: identical.", flush=True)


def run(output, epochs, kill_after=None, delay=0.0):
    """Train, and kill it `delay` seconds after that many epochs, if that is given.

    Returns:
        Seconds to the first epoch, from each to the next, and to the end.
    """
    process = subprocess.Popen([*COMMAND, *SETTINGS, "--epochs", str(epochs), "--output", output])
    pauses, start = [], time.monotonic()
    while process.poll() is None:
        written = len(history(output))
        now = time.monotonic()
        while len(pauses) < written:
            pauses.append(now - start)
            start = now
        if kill_after is not None and written >= kill_after and now - start >= delay:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"The command failed with {process.returncode}.")
    return [*pauses, time.monotonic() - start]


def is_finished(output):
    """Whether its last file is there: the command refuses to write over a finished run."""
    return (output / "metrics.json").exists()


def history(output):
    """Lines of the epochs that are written."""
    path = output / "history.csv"
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []


def content(output):
    """Dict, file → bytes: all that a run comes to, weights as in the model's file.

    (The configuration there numbers objects by where they lay in memory.)
    """
    found = {name: (output / name).read_bytes() for name in ("history.csv", "predictions.csv", "metrics.json")}
    with zipfile.ZipFile(output / "model.keras") as file:
        found["weights"] = file.read("model.weights.h5")
    return found


if __name__ == "__main__":
    main()
