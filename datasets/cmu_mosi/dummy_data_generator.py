"""Writes `dummy_data/`: made-up files in the format of the authors' splits. Run it in this folder."""

import pathlib
import pickle

import numpy as np

# File -> video -> its utterances.
FILES = {
    "train.pkl": {"first": ["good movie", "i did not like it at all"], "second": ["well", "it was really good"]},
    "dev.pkl": {"third": ["not bad", "the end was too long"]},
    "test.pkl": {"fourth": ["i loved it"]},
}


def make_rows():
    """Makes the rows of the files, the same on every run.

    Returns:
        Dict of file name -> list of rows.
    """
    rng = np.random.default_rng(0)
    rows = {name: [] for name in FILES}
    for name, videos in FILES.items():
        for video, utterances in videos.items():
            for segment, utterance in enumerate(utterances):
                words = utterance.split()
                visual, acoustic = (rng.normal(size=(len(words), dim)).astype(np.float32) for dim in (47, 74))
                label = rng.uniform(-3, 3, size=(1, 1)).astype(np.float32)
                word_ids = np.array([2 + len(word) for word in words])
                rows[name].append(((word_ids, visual, acoustic, words), label, f"{video}[{segment}]"))
    return rows


if __name__ == "__main__":
    for name, rows in make_rows().items():
        pathlib.Path("dummy_data", name).write_bytes(pickle.dumps(rows, protocol=4))
