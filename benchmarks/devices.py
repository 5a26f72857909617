"""Utterances a second on 1, 2 and 4 logical devices of the CPU, as a table and, with --chart, as a picture.

Logical devices share the cores of the CPU: this shows what dealing out batches costs, not what several GPUs give. Each
number of devices has a process of its own; processes take turns over the rounds.

    python benchmarks/devices.py --chart devices.png
    python benchmarks/devices.py --quick
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

import numpy as np

DEVICES = (1, 2, 4)
SIZES = {"visual": 47, "acoustic": 74}  # of CMU-MOSI, without text: to trace its LSTMs on four devices takes minutes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chart", type=pathlib.Path, metavar="FILE", help="PNG to write")
    parser.add_argument("--quick", action="store_true", help="two devices, no LSTMs, two steps: shows that it runs")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.steps, options.rounds = 2, 1
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    rates = {devices: [] for devices in DEVICES[: 2 if options.quick else None]}
    for _ in range(options.rounds):
        for devices, values in rates.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", str(devices)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            values.append(json.loads(output.splitlines()[-1]))
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
    print(f"Machine: {machine}. One training step, batch {options.batch_size}, median of {options.rounds} rounds.\n")
    print("| logical devices | utterances a second | least to most | times one device |\n|---|---|---|---|")
    for devices, values in rates.items():
        ratio = np.median(np.array(values) / np.array(rates[1]))
        print(f"| {devices} | {np.median(values):.0f} | {min(values):.0f} to {max(values):.0f} | {ratio:.2f} |")
    if options.chart:
        draw(rates, options.chart, machine)


def measure(devices, options):
    """Utterances a second of training steps on so many devices."""
    import time

    import keras
    import tensorflow as tf

    from keras_misa.experiments.devices import device_scope, prepare_devices
    from keras_misa.layers import MeanEncoder, UtteranceEncoder
    from keras_misa.models import MISABackbone, MISARegressor

    prepare_devices({"devices": devices, "jit_compile": False})
    make = MeanEncoder if options.quick else UtteranceEncoder
    rng = np.random.default_rng(0)
    rows = options.batch_size * options.steps
    lengths = rng.geometric(1 / 12, rows).clip(2, 44).astype("int32")
    batch = {
        modality: {"values": rng.normal(size=(rows, 44, size)).astype("float32"), "lengths": lengths}
        for modality, size in SIZES.items()
    }
    data = tf.data.Dataset.from_tensor_slices((batch, rng.normal(size=rows).astype("float32")))
    options_of_data = tf.data.Options()
    options_of_data.autotune.enabled = False  # else an epoch may wait at its end, see `load_dataset`
    data = data.batch(options.batch_size).cache().prefetch(2).with_options(options_of_data)
    keras.utils.set_random_seed(0)
    with device_scope(devices):
        model = MISARegressor(MISABackbone({modality: make(size) for modality, size in SIZES.items()}))
        model.compile(metrics=None)
        model.fit(data, verbose=0)  # traces
        start = time.perf_counter()
        model.fit(data, verbose=0)
    return rows / (time.perf_counter() - start)


def draw(rates, path, machine):
    """Bars of the medians with the spread of the rounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    medians = np.array([np.median(values) for values in rates.values()])
    spread = [medians - [min(v) for v in rates.values()], [max(v) for v in rates.values()] - medians]
    axes.bar([str(devices) for devices in rates], medians, yerr=spread, color="#0072B2", width=0.6, capsize=4)
    axes.set_xlabel("logical devices (they share the cores)", fontsize=9)
    axes.set_ylabel("utterances a second", fontsize=9)
    axes.set_title(f"Training, {machine}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
