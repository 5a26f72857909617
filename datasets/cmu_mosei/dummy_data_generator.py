"""Writes `dummy_data/`: made-up computational sequences of a few seconds, with emotions. Run it in this folder."""

import json
import pathlib

from keras_misa.datasets.cmu_mosi.sequence_generator import write_sequences

FOLDER = pathlib.Path(__file__).parent
SPLITS = ("train", "validation", "test")
SEGMENTS = 4


def videos():
    """The first video of each standard fold, split → id."""
    folds = json.loads((FOLDER / "standard_folds.json").read_text(encoding="utf-8"))
    return {split: folds[split][0] for split in SPLITS}


def write(folder):
    """Writes the four files, the same on every run; ten frames a second keep them small.

    Args:
        folder: where to.

    Returns:
        Dict, role → path.
    """
    return write_sequences(
        folder,
        videos().values(),
        dataset="cmu_mosei",
        seconds=3.0,
        segments=SEGMENTS,
        visual_dim=35,
        visual_rate=10,
        acoustic_rate=10,
        label_columns=7,
        word_seconds=0.2,
        damage=0.1,
    )


if __name__ == "__main__":
    folder = pathlib.Path("dummy_data")
    folder.mkdir(exist_ok=True)
    write(folder)
