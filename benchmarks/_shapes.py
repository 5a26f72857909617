"""What benchmarks share: made-up batches of the three datasets' shapes."""

import numpy as np

SHAPES = {  # sizes of text, visual, acoustic; utterances in a batch; mean length in words
    "CMU-MOSI": ((300, 47, 74), 64, 12),
    "CMU-MOSEI": ((300, 35, 74), 16, 19),
    "UR-FUNNY": ((300, 75, 81), 32, 16),
}
HIDDEN, VOCABULARY, LONGEST = 128, 3000, 64


def make_batch(rng, sizes, rows, mean_length, padding=1):
    """Arguments of `convert.model_inputs`, and labels; the longest row is padded to a multiple of `padding`."""
    lengths = rng.geometric(1 / mean_length, rows).clip(1, LONGEST)
    shape = rows, -(-lengths.max() // padding) * padding
    real = np.arange(shape[1]) < lengths[:, None]
    return {
        "words": np.where(real, rng.integers(2, VOCABULARY, shape), 1),
        "visual": (rng.normal(size=(*shape, sizes[1])) * real[..., None]).astype("float32"),
        "acoustic": (rng.normal(size=(*shape, sizes[2])) * real[..., None]).astype("float32"),
        "lengths": lengths,
    }, rng.normal(size=rows).astype("float32")
