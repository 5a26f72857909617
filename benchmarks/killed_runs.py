"""Is a run that was killed (SIGKILL) and started again the same as one that was not?

A run with LSTMs on the built-in synthetic data is killed at random moments of its life, loading of libraries included,
and started again by the same command, which may be killed once more. Its weights, predictions, history and metrics are
compared, byte for byte, with those of a run that nobody has disturbed.

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
        start = time.monotonic()
        run(folder / "whole", options.epochs)
        duration = time.monotonic() - start
        expected = content(folder / "whole")
        print(f"Undisturbed: {duration:.0f} s, {len(history(folder / 'whole'))} epochs.")
        for number in range(options.kills):
            output, story = folder / str(number), []
            while not story:
                story, duration = killed(output, options.epochs, rng.uniform(0, 1, 1 + number % 2), duration)
            run(output, options.epochs)
            received = content(output)
            different = [name for name in expected if received.get(name) != expected[name]]
            if different or received.keys() != expected.keys():
                sys.exit(
                    f"Run {number} ({', '.join(story)}) differs in {different or received.keys() ^ expected.keys()}"
                )
            print(f"Run {number}: {', '.join(story)}: identical.", flush=True)


def killed(output, epochs, shares, duration):
    """What happened to a run that is killed after these shares of a run's duration, and that duration.

    Nothing, if it was faster than its killer: its folder is removed, and the next one is killed sooner.
    """
    story = []
    for share in sorted(shares, reverse=True):
        run(output, epochs, kill_after=share * duration)
        if is_finished(output):
            shutil.rmtree(output)
            return [], 0.8 * duration
        epochs_written = len(history(output)) if (output / "history.csv").exists() else 0
        story.append(f"killed after {share * duration:.1f} s with {epochs_written} epochs written")
    return story, duration


def run(output, epochs, kill_after=None):
    """Whether it came to its end."""
    process = subprocess.Popen([*COMMAND, *SETTINGS, "--epochs", str(epochs), "--output", output])
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return False
    if process.returncode:
        sys.exit(f"The command failed with {process.returncode}.")
    return True


def is_finished(output):
    """Whether its last file is there: the command refuses to write over a finished run."""
    return (output / "metrics.json").exists()


def history(output):
    return (output / "history.csv").read_text(encoding="utf-8").splitlines()[1:]


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
