"""Writes `dummy_data/`: made-up files in the format of UR-FUNNY V1, and of GloVe. Run it in this folder."""

import pathlib
import pickle

import numpy as np

# Fold -> id -> label, punchline, context.
UTTERANCES = {
    "train": {
        0: (1.0, "it was a cat", ["a man lost", "his car"]),
        1: (0.0, "so it was", ["it was his", "so so"]),
        3: (1.0, "not his car", ["a man lost his cat", "a"]),
        4: (0.0, "a man", ["it was not a cat", "not so"]),
    },
    "dev": {
        2: (1.0, "the cat was not lost", ["the car", "a man"]),
        6: (0.0, "his car", ["so", "it was lost"]),
    },
    "test": {5: (1.0, "the man was a cat", ["it was", "not a car"])},
}
GLOVE = ("the", "a", "it", "was", "not", "his", "so", "man", "car", "cat", "lost", "unused")
WORDS = tuple(sorted(GLOVE[:-1]))  # In the order of the embedding list.


def make_vectors():
    """Makes the vectors of GloVe's words, the same on every run.

    Returns:
        Dict of word -> float64 array of shape `(300,)`, of three decimals.
    """
    rng = np.random.default_rng(0)
    return {word: rng.normal(scale=0.4, size=300).round(3) for word in GLOVE}


def make_files():
    """Makes the contents of the six files, the same on every run.

    Returns:
        Dict of file name -> object. The visual features are lists and the acoustic ones arrays: both are held.
    """
    rng = np.random.default_rng(1)
    utterances = {number: utterance for fold in UTTERANCES.values() for number, utterance in fold.items()}
    vectors = make_vectors()

    def visual(sentence):
        return rng.normal(size=(len(sentence.split()), 75)).tolist()

    def acoustic(sentence):
        return rng.normal(size=(len(sentence.split()), 81)).astype(np.float32)

    def features(make):
        return {
            number: {"punchline_features": make(punchline), "context_features": [make(part) for part in context]}
            for number, (_, punchline, context) in utterances.items()
        }

    def indexes(sentence):
        return [WORDS.index(word) for word in sentence.split()]

    return {
        "data_folds.pkl": {fold: list(members) for fold, members in UTTERANCES.items()},
        "humor_label_sdk.pkl": {number: label for number, (label, _, _) in utterances.items()},
        "word_embedding_list.pkl": [vectors[word].astype(np.float32) for word in WORDS],
        "word_embedding_indexes_sdk.pkl": {
            number: {
                "punchline_embedding_indexes": indexes(punchline),
                "context_embedding_indexes": [indexes(part) for part in context],
            }
            for number, (_, punchline, context) in utterances.items()
        },
        "openface_features_sdk.pkl": features(visual),
        "covarep_features_sdk.pkl": features(acoustic),
    }


if __name__ == "__main__":
    folder = pathlib.Path("dummy_data")
    folder.mkdir(exist_ok=True)
    for name, value in make_files().items():
        (folder / name).write_bytes(pickle.dumps(value, protocol=4))
    lines = [f"{word} {' '.join(map(str, vector))}\n" for word, vector in make_vectors().items()]
    (folder / "glove.300d.txt").write_text("".join(lines), encoding="utf-8")
