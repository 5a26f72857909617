"""How fast are computational sequences aligned, and in how much memory?

Writes made-up files in the exact format (10 videos, 1190 s, 240 utterances, words every 0.4 s, acoustic 100 frames/s x
74, visual 30 frames/s x 47) and reads, aligns and cuts them with keras_misa and with a plain loop that does the same
work word by word, as the CMU SDK does; in one run, alternating. Both must give the same utterances. Then keras_misa
alone on more and more videos, each in a process of its own, for time and peak memory.

`--build VIDEOS` instead builds the TFDS dataset of so many videos of MOSEI's standard folds (72 s, 7 utterances, visual
x 35; all 3227 are of MOSEI's size and take 7 GB of disk) with one worker and with one for each CPU, and tells where the
time goes.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --build 3227
    python benchmarks/alignment.py --quick
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

import keras_misa.datasets.cmu_mosei
from keras_misa.data.build_report import BuildReport
from keras_misa.data.sources import computational_sequences
from keras_misa.data.sources.computational_sequences import ComputationalSequences
from keras_misa.datasets.cmu_mosi.sequence_generator import FILES, write_sequences

DIMS = {"visual_dim": 47, "acoustic_dim": 74}
SDK_SECONDS = 7.3  # the CMU SDK's for the same work, on two cores of another machine
EPSILON = 1e-5
FOLDS = pathlib.Path(keras_misa.datasets.cmu_mosei.__file__).with_name("standard_folds.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--videos", type=int, nargs="+", default=[10, 40, 160])
    parser.add_argument("--quick", action="store_true", help="smaller and once: shows that it runs")
    parser.add_argument("--build", type=int, metavar="VIDEOS", help="build a dataset of MOSEI's form")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="where --build puts its files; a temporary folder if not given"
    )
    parser.add_argument("--only", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure_build(options.only, options.workers) if options.workers else measure(options.only)))
        return
    if options.quick:
        options.repeats, options.videos = 1, [2, 4]
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. Made-up files.\n")
    if options.build:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            build(pathlib.Path(folder), options.build)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(pathlib.Path(folder), options.videos[0], options.repeats)
    print("\n| videos | utterances | seconds | utterances/s | peak memory |\n|---|---|---|---|---|")
    for videos in options.videos:
        with tempfile.TemporaryDirectory() as folder:
            write_sequences(folder, names(videos))
            row = run_alone(folder)
        rate = row["utterances"] / row["seconds"]
        print(f"| {videos} | {row['utterances']} | {row['seconds']:.2f} | {rate:.0f} | {row['mebibytes']:.0f} MiB |")


def run_alone(folder, *arguments):
    """What `--only` tells, in a process of its own."""
    command = [sys.executable, __file__, "--only", folder, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def build(folder, videos):
    folds = json.loads(FOLDS.read_text()).values()
    shares = [max(1, round(videos * len(fold) / sum(map(len, folds)))) for fold in folds]
    ids = [video for fold, share in zip(folds, shares, strict=True) for video in fold[:share]]
    start = time.perf_counter()
    paths = write_sequences(
        folder, ids, "cmu_mosei", seconds=72.0, segments=7, visual_dim=35, label_columns=7, damage=0.001
    )
    size = sum(path.stat().st_size for path in paths.values())
    print(f"{len(ids)} videos, {size / 2**30:.2f} GiB, written in {time.perf_counter() - start:.0f} s.\n")
    print("| workers | utterances | seconds | HDF5 | aligning | TFDS | checksums | memory | of each worker |")
    print("|" + "---|" * 9)
    for workers in sorted({1, max(2, os.cpu_count())}):
        row = run_alone(folder, "--workers", str(workers))
        parts = " | ".join(
            f"{row[part]:.1f}" if part in row else "" for part in ("HDF5", "aligning", "TFDS", "checksums")
        )
        print(
            f"| {workers} | {row['utterances']} | {row['seconds']:.1f} | {parts} | {row['mebibytes']:.0f} MiB, "
            f"{row['before']:.0f} before | {row['each']:.0f} MiB |",
            flush=True,
        )


def measure_build(folder, workers):
    """Seconds of a build and, with one worker, of its parts; peak memory, and that of TensorFlow before the build."""
    from keras_misa import cli

    cli._prepare_libraries()
    from keras_misa.data import prepare_dataset, utterance_builder

    clock = {"reading": 0.0, "HDF5": 0.0, "checksums": 0.0}
    sequence, source = computational_sequences._Sequence, ComputationalSequences
    sequence.read = timed(clock, "HDF5", sequence.read)
    utterance_builder.describe_files = timed(clock, "checksums", utterance_builder.describe_files)
    source._read_video = timed(clock, "reading", source._read_video)
    each = [0.0]
    merge = BuildReport.merge

    def merge_and_look(self, other):
        merge(self, other)
        each.extend(peak_memory(process.pid) for process in multiprocessing.active_children())

    BuildReport.merge = merge_and_look
    before = peak_memory()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        builder = prepare_dataset("cmu_mosei", data_dir, folder, num_workers=workers)
    seconds = time.perf_counter() - start
    row = {"seconds": seconds, "before": before, "mebibytes": peak_memory(), "each": max(each)}
    row["utterances"] = sum(split.num_examples for split in builder.info.splits.values())
    if workers == 1:
        row |= {"HDF5": clock["HDF5"], "aligning": clock["reading"] - clock["HDF5"], "checksums": clock["checksums"]}
        row["TFDS"] = seconds - clock["reading"] - clock["checksums"]
    return row


def timed(clock, name, function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            clock[name] += time.perf_counter() - start

    return call


def names(videos):
    return [f"video{number:05}" for number in range(videos)]


def align(folder):
    with h5py.File(next(pathlib.Path(folder).glob("*Labels.csd"))) as file:
        folds = {"train": list(file["Opinion Segment Labels/data"])}
    source = ComputationalSequences(folder, folds, **DIMS)
    return source.examples("train", BuildReport())


def measure(folder):
    start = time.perf_counter()
    count = sum(1 for _ in align(folder))
    seconds = time.perf_counter() - start
    return {"utterances": count, "seconds": seconds, "mebibytes": peak_memory()}


def peak_memory(process="self"):
    """In MiB, since a program began: what `getrusage` tells is never less than the parent's."""
    status = pathlib.Path(f"/proc/{process}/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    if process != "self":
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def compare(folder, videos, repeats):
    write_sequences(folder, names(videos))
    seconds = {"keras_misa": [], "plain loop": []}
    for _ in range(repeats):
        start = time.perf_counter()
        ours = list(align(folder))
        middle = time.perf_counter()
        plain = plain_loop(folder)
        seconds["keras_misa"].append(middle - start)
        seconds["plain loop"].append(time.perf_counter() - middle)
    worst = 0.0
    for example in ours:
        words, *features = plain.pop(example["segment_id"])
        if words != example["words"]:
            raise ValueError(f"The words of {example['segment_id']} differ.")
        for modality, values in zip(("visual", "acoustic"), features, strict=True):
            worst = max(worst, float(np.abs(values - example[modality]).max()))
    print(f"{videos} videos, {len(ours)} utterances; greatest difference {worst:.1e}; {len(plain)} more in the loop.\n")
    print("| | median s | least to most | ratio |\n|---|---|---|---|")
    ratio = np.median(np.array(seconds["plain loop"]) / seconds["keras_misa"])
    for name, times in seconds.items():
        quotient = "1" if name == "keras_misa" else f"{ratio:.1f}"
        print(f"| {name} | {np.median(times):.2f} | {min(times):.2f} to {max(times):.2f} | {quotient} |")
    if videos == 10:
        print(f"| CMU SDK, elsewhere | {SDK_SECONDS} | | {SDK_SECONDS / np.median(seconds['keras_misa']):.0f} |")


def plain_loop(folder):
    """The SDK's way: for each word and each segment one comparison with all intervals of the video."""
    files = {role: h5py.File(folder / f"{name}.csd") for role, (name, _) in FILES["cmu_mosi"].items()}
    data = {role: file[FILES["cmu_mosi"][role][1]]["data"] for role, file in files.items()}
    segments = {}
    for video in data["labels"]:
        arrays = {role: (group[video]["features"][()], group[video]["intervals"][()]) for role, group in data.items()}
        words, times = arrays["words"]
        aligned = {"words": ([], []), "visual": ([], []), "acoustic": ([], [])}
        for word, word_time in zip(words[:, 0], times, strict=True):
            aligned["words"][0].append(word.decode())
            aligned["words"][1].append(word_time)
            for modality in ("visual", "acoustic"):
                features, intervals = arrays[modality]
                cut = np.stack(
                    [np.maximum(intervals[:, 0], word_time[0]), np.minimum(intervals[:, 1], word_time[1])], axis=1
                )
                chosen = cut[:, 1] - cut[:, 0] > EPSILON
                if chosen.any():
                    aligned[modality][0].append(features[chosen].mean(axis=0))
                    aligned[modality][1].append((cut[chosen, 0].min(), cut[chosen, 1].max()))
        for number, (start, end) in enumerate(arrays["labels"][1]):
            parts = {}
            for modality, (values, intervals) in aligned.items():
                intervals = np.array(intervals)
                overlap = np.minimum(intervals[:, 1], end) - np.maximum(intervals[:, 0], start)
                parts[modality] = [values[row] for row in np.flatnonzero(overlap > EPSILON)]
            spoken = [row for row, word in enumerate(parts["words"]) if word != "sp"]
            if len({len(part) for part in parts.values()}) == 1 and spoken:
                features = []
                for modality in ("visual", "acoustic"):
                    values = np.nan_to_num(np.array([parts[modality][row] for row in spoken]))
                    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
                    features.append(np.nan_to_num(values))
                segments[f"{video}[{number}]"] = ([parts["words"][row] for row in spoken], *features)
    for file in files.values():
        file.close()
    return segments


if __name__ == "__main__":
    main()
