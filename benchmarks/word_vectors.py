"""How fast are text files of word vectors read, and in how much memory, beside plain Python and NumPy?

Writes a file like GloVe's 300 numbers a word into a temporary folder and reads it in turn by every method, each time in
a process of its own: the vectors of 3000 words, those of all words, and the nearest words of 3000 vectors. Checks that
the methods agree, and prints the medians.

    python benchmarks/word_vectors.py
    python benchmarks/word_vectors.py --quick
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np

DIMENSION = 300
WANTED = 3000
MISSING = 60  # Of the wanted words: a real text has some, and so the whole file must be searched.
WORDS_OF_AN_UTTERANCE = 12  # About the mean of CMU-MOSI's transcripts.


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="5 MB, one round: shows that it runs")
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        task, method, folder = options.measure
        print(json.dumps(measure(METHODS[task][method], pathlib.Path(folder))))
        return
    if options.quick:
        options.megabytes, options.rounds = 5, 1
    with tempfile.TemporaryDirectory() as folder:
        report(options, pathlib.Path(folder))


def report(options, folder):
    count, megabytes = write_files(folder, options.megabytes)
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        for task, methods in METHODS.items():
            for method in methods:
                print(f"round {number + 1}: {task}, {method}", file=sys.stderr, flush=True)
                command = [sys.executable, __file__, "--measure", task, method, folder]
                results[task, method].append(
                    json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                )
    print(f"MADE-UP vectors in a text file of {megabytes:.0f} MB: {count} words of {DIMENSION} numbers.")
    print(f"Median of {options.rounds} round(s); the file is in the system's cache.")
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs; Python {platform.python_version()}, ", end="")
    print(f"NumPy {np.__version__}. Peak memory is the process's, which has {minimum(results):.0f} MiB at the start.\n")
    print("| task | method | seconds | MB/s | time, relative | peak MiB |\n|---|---|---|---|---|---|")
    for task, methods in METHODS.items():
        if len({run["digest"] for method in methods for run in results[task, method]}) > 1:
            raise ValueError(f"The methods disagree: {task}. Received: {results}")
        first = median(results[task, next(iter(methods))], "seconds")
        for method in methods:
            seconds, peak = (median(results[task, method], name) for name in ("seconds", "peak"))
            cells = [f"{seconds:.2f}", f"{megabytes / seconds:.0f}", f"{seconds / first:.1f}", f"{peak:.0f}"]
            print(f"| {task} | {method} | {' | '.join(cells)} |")
    utterances = WANTED // WORDS_OF_AN_UTTERANCE
    print(f"\n{WANTED} vectors are {utterances} utterances of {WORDS_OF_AN_UTTERANCE} words: ", end="")
    print(f"{1000 * median(results['nearest words', 'keras_misa'], 'seconds') / utterances:.1f} ms for each.")


def median(runs, name):
    return statistics.median(run[name] for run in runs)


def minimum(results):
    return min(run["start"] for runs in results.values() for run in runs)


def write_files(folder, megabytes):
    """Writes the vectors, the wanted words and the vectors whose words are sought; returns the words and the MB."""
    rng = np.random.default_rng(0)
    line = " %.5g" * DIMENSION + "\n"
    count = 0
    with open(folder / "vectors.txt", "w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            for vector in rng.normal(scale=0.35, size=(100, DIMENSION)):
                file.write(f"word{count}" + line % tuple(vector))
                count += 1
    found = rng.choice(count, min(count, WANTED - MISSING), replace=False)
    words = [f"word{row}" for row in found] + [f"missing{row}" for row in range(MISSING)]
    (folder / "wanted.json").write_text(json.dumps(words), encoding="utf-8")
    np.save(folder / "queries.npy", rng.normal(size=(WANTED, DIMENSION)).astype(np.float32))
    return count, os.path.getsize(folder / "vectors.txt") / 1e6


def measure(method, folder):
    from keras_misa.data import word_vectors  # noqa: F401 - imported before the clock starts.

    start = peak_memory()
    begin = time.perf_counter()
    words, numbers = method(folder / "vectors.txt", folder)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    digest = zlib.crc32(json.dumps(words).encode(), zlib.crc32(numbers) if numbers is not None else 0)
    return {"seconds": seconds, "start": start, "peak": peak, "digest": digest}


def peak_memory():
    """MiB; the unit of `ru_maxrss` is a byte on macOS and a KiB elsewhere."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def read_wanted(folder):
    return set(json.loads((folder / "wanted.json").read_text(encoding="utf-8")))


# === keras_misa ===
def ours_wanted(path, folder):
    from keras_misa.data.word_vectors import read_word_vectors

    return read_word_vectors(path, read_wanted(folder))


def ours_all(path, folder):
    from keras_misa.data.word_vectors import read_word_vectors

    return read_word_vectors(path)


def ours_nearest(path, folder):
    from keras_misa.data.word_vectors import nearest_words

    return nearest_words(np.load(folder / "queries.npy"), path)[0], None


# === Yardsticks ===
def python_wanted(path, folder):
    """Reads, splits and converts every line, and keeps what is wanted."""
    wanted, words, vectors = read_wanted(folder), [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip().split(" ")
            vector = [float(field) for field in fields[1:]]
            if fields[0] in wanted:
                words.append(fields[0])
                vectors.append(vector)
    return words, np.array(vectors, np.float32)


def python_wanted_lazy(path, folder):
    """Converts the lines of wanted words alone."""
    wanted, words, vectors = read_wanted(folder), [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            word, numbers = line.split(" ", 1)
            if word in wanted:
                words.append(word)
                vectors.append([float(field) for field in numbers.split()])
    return words, np.array(vectors, np.float32)


def python_all(path, folder):
    words, vectors = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip().split(" ")
            words.append(fields[0])
            vectors.append(np.array([float(field) for field in fields[1:]], np.float32))
    return words, np.stack(vectors)


def fromstring_all(path, folder):
    words, vectors = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            word, numbers = line.split(" ", 1)
            words.append(word)
            vectors.append(np.fromstring(numbers, np.float32, sep=" "))
    return words, np.stack(vectors)


def loadtxt_all(path, folder):
    vectors = np.loadtxt(
        path, np.float32, comments=None, delimiter=" ", usecols=range(1, DIMENSION + 1), encoding="utf-8", ndmin=2
    )
    with open(path, encoding="utf-8") as file:
        return [line.split(" ", 1)[0] for line in file], vectors


def fromstring_nearest(path, folder):
    """Reads the whole file into memory, then compares 10,000 words at a time."""
    words, vectors = fromstring_all(path, folder)
    queries = np.load(folder / "queries.npy")
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    best, similarities = np.zeros(len(queries), int), np.full(len(queries), -np.inf)
    for start in range(0, len(words), 10_000):
        product = queries @ vectors[start : start + 10_000].T
        better = product.max(axis=1) > similarities
        best = np.where(better, start + product.argmax(axis=1), best)
        similarities = np.maximum(similarities, product.max(axis=1))
    return [words[row] for row in best], None


METHODS = {
    f"{WANTED} words": {
        "keras_misa": ours_wanted,
        "Python: split, float, keep wanted": python_wanted,
        "Python: float of wanted lines only": python_wanted_lazy,
    },
    "all words": {
        "keras_misa": ours_all,
        "Python: split, float": python_all,
        "np.fromstring of each line": fromstring_all,
        "np.loadtxt": loadtxt_all,
    },
    "nearest words": {
        "keras_misa": ours_nearest,
        "np.fromstring of all, then products": fromstring_nearest,
    },
}


if __name__ == "__main__":
    main()
