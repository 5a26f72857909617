"""How many trials an hour do two workers give, and how many one? And are the results the same?

The same trials of the paper's grid on the small built-in dataset: by `keras-misa tune` alone with TensorFlow's default
threads, and with workers. Rates are those between the end of the first trial of each worker and the end of the last
trial, so that the start of processes, which is the same for a search of any length, does not count.

    python benchmarks/search_workers.py
    python benchmarks/search_workers.py --quick
"""

import argparse
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np

from keras_misa.tuning.trials import read_trials


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three trials of one epoch, no LSTMs: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.epochs, options.rounds = 3, 1, 1
    rates = {1: [], options.workers: []}
    scores = {}
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            for workers, values in rates.items():
                folder = pathlib.Path(place, f"{workers}-{number}")
                values.append(search(folder, workers, options))
                scores[workers] = {trial["trial"]: trial["score"] for trial in read_trials(folder / "trials")}
    print(
        f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. {options.trials} trials of {options.epochs} epochs.\n"
    )
    print("| workers | trials an hour | least to most | times one worker |\n|---|---|---|---|")
    for workers, values in rates.items():
        ratio = np.median(np.array(values) / np.array(rates[1]))
        print(f"| {workers} | {np.median(values):.0f} | {min(values):.0f} to {max(values):.0f} | {ratio:.2f} |")
    differences = [abs(score - scores[options.workers][name]) / score for name, score in scores[1].items()]
    print(f"\nLargest relative difference of a trial's validation task loss: {max(differences):.1e}")


def search(folder, workers, options):
    """Trials an hour of a search."""
    command = [sys.executable, "-m", "keras_misa.cli", "tune", "--dataset", "synthetic_subspaces/small", "--quiet"]
    command += ["--trials", str(options.trials), "--epochs", str(options.epochs), "--workers", str(workers)]
    if options.quick:
        command += ["--modalities", "visual,acoustic", "--averaged", "visual,acoustic"]
    subprocess.run([*command, "--output", str(folder)], check=True)
    ends = sorted(path.stat().st_mtime for path in folder.glob("trials/trial_*/results.json"))
    return 3600.0 * (len(ends) - workers) / (ends[-1] - ends[workers - 1])


if __name__ == "__main__":
    main()
