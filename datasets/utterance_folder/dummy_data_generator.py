"""Writes `dummy_data/`: made-up utterances in a person's own folder. Run it in this folder."""

import csv
import pathlib

import numpy as np

COLUMNS = ("segment_id", "video_id", "split", "text", "label")
ROWS = [
    ("first_0", "first", "train", "good movie", 1.5),
    ("first_1", "first", "train", "i did not like it, at all", -2.0),
    ("second_0", "second", "train", 'well, they call it "art"', 0.0),
    ("second_1", "second", "train", "it was really good", 2.25),
    ("third_0", "third", "dev", "not bad", 0.75),
    ("third_1", "third", "dev", "the end was too long", -1.0),
    ("fourth_0", "fourth", "test", "i loved it", 3.0),
]
SIZES = {"visual": 4, "acoustic": 3}


def make_arrays():
    """Makes the arrays, the same on every run; each modality has its own number of steps.

    Returns:
        Dict of modality -> dict of segment id -> float32 array of shape `(steps, size)`.
    """
    rng = np.random.default_rng(0)
    return {
        modality: {row[0]: rng.normal(size=(rng.integers(1, 6), size)).astype(np.float32) for row in ROWS}
        for modality, size in SIZES.items()
    }


def write(folder):
    """Writes a folder whose visual arrays are files and whose acoustic arrays are in one archive.

    Args:
        folder: `pathlib.Path` of a new or an empty folder.
    """
    arrays = make_arrays()
    (folder / "visual").mkdir(parents=True)
    for segment_id, array in arrays["visual"].items():
        np.save(folder / "visual" / f"{segment_id}.npy", array)
    np.savez(folder / "acoustic.npz", **arrays["acoustic"])
    with (folder / "utterances.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *ROWS])


if __name__ == "__main__":
    write(pathlib.Path("dummy_data"))
