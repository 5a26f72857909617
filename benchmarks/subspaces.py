"""Does each part of MISA help on data whose factors are known, and where do the factors end up?

Trains MISA, its ablations and its variants on the built-in synthetic dataset over several seeds, each by the command
`keras-misa train`, and prints three tables: the error against the best reachable one; the held-out R² of the true
factors from the learned vectors; and the share of the vectors' variance that each true factor explains. Finished runs
are kept in the output folder and not trained again.

    python benchmarks/subspaces.py --seeds 5 --output runs/subspaces
    python benchmarks/subspaces.py --quick
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np

from keras_misa.experiments.train import EXPLANATIONS

MODELS = {
    "MISA": [],
    "(-) similarity": ["--similarity-weight", "0"],
    "(-) difference": ["--difference-weight", "0"],
    "(-) reconstruction": ["--reconstruction-weight", "0"],
    "(-) all three": [f"--{name}-weight=0" for name in ("similarity", "difference", "reconstruction")],
    "base": ["--subspaces", "none"],
    "inv": ["--subspaces", "shared"],
    "sFusion": ["--fused", "private"],
    "iFusion": ["--fused", "shared"],
    "text only": ["--modalities", "text"],
    "visual only": ["--modalities", "visual"],
    "acoustic only": ["--modalities", "acoustic"],
}
FACTORS = ("shared", "text", "visual", "acoustic")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, two models: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.models, options.seeds = ["MISA", "text only"], 1
    with tempfile.TemporaryDirectory() as folder:
        report(options, options.output or pathlib.Path(folder))


def report(options, output):
    runs = {
        (m, s): output / f"{m.strip('(-) ').replace(' ', '-')}-{s}"
        for m in options.models
        for s in range(options.seeds)
    }
    extra = ["--epochs", "1"] if options.quick else []
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(train, run, [*MODELS[m], "--seed", str(s), *extra]) for (m, s), run in runs.items()]
        for done, job in enumerate(concurrent.futures.as_completed(jobs), start=1):
            job.result()
            print(f"\r{done}/{len(jobs)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    results = {
        key: {name: read(run, name) for name in ("metrics", "explanation", "config")} for key, run in runs.items()
    }
    best = next(iter(results.values()))["config"]["data"]["best_mae"]["test"]

    print(f"SYNTHETIC data (synthetic_subspaces), test split, {options.seeds} seed(s), mean ± standard deviation.")
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. Best reachable MAE: {best:.4f}\n")
    print("| model | MAE ↓ | above the best | Corr ↑ |\n|---|---|---|---|")
    for model in options.models:
        mae, corr = (column(results, model, options.seeds, "metrics", name) for name in ("mae", "corr"))
        print(f"| {model} | {spread(mae)} | {mae.mean() / best - 1:+.1%} | {spread(corr)} |")
    for name, title in EXPLANATIONS.items():
        if name == "attention":
            continue
        print(f"\n{title}.\n\n| model | vectors | {' | '.join(FACTORS)} |\n|---|---|{'---|' * len(FACTORS)}")
        for model in options.models:
            for vectors in results[model, 0]["explanation"][name]:
                cells = [
                    spread(column(results, model, options.seeds, "explanation", name, vectors, f))
                    for f in FACTORS
                    if f in results[model, 0]["explanation"][name][vectors]
                ]
                print(f"| {model} | {vectors} | {' | '.join(cells)} |")


def train(run, arguments):
    if (run / "explanation.json").exists():
        return
    command = pathlib.Path(sys.executable).with_name("keras-misa")
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [command, "train", "--quiet", "--output", run, *arguments]
    subprocess.run(command, check=True, env=environment)


def read(run, name):
    return json.loads((run / f"{name}.json").read_text(encoding="utf-8"))


def column(results, model, seeds, *path):
    values = []
    for seed in range(seeds):
        value = results[model, seed]
        for key in path:
            value = value[key]
        values.append(value)
    return np.array(values)


def spread(values):
    return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.3f}"


if __name__ == "__main__":
    main()
