r"""Utterances made from known shared and private factors: the mathematics of the dataset `synthetic_subspaces`.

An utterance has a shared factor $s$ and, for each modality $m$, a private factor $p_m$; all have mean zero and variance
one, and are independent. A modality never shows $s$ itself but a view of it with an error $e_m$; the errors cancel,
$\sum_m e_m = 0$, so that whoever averages the views of all modalities knows $s$ exactly, and nobody else does:

$$v_m = s + e_m, \quad \mu = \mathrm{clip}(a^\top s + \sum_m b_m^\top p_m), \quad y = \mathrm{clip}(\mu + \sigma ε)$$

The text says $(v_m, p_m)$ in words, the visual and acoustic features show it in linear mixtures, each with noise in
every step. $\mu$ is the conditional median of the score $y$ given the factors: no predictor has a smaller expected
absolute error.

NumPy alone. This prints what is reachable, and from what:

    python -m keras_misa.datasets.synthetic_subspaces.generator
"""

import argparse
import functools

import numpy as np

SPLIT_SIZES = {"train": 1283, "validation": 229, "test": 686}  # MOSI's.
FEATURE_DIMS = {"visual": 47, "acoustic": 74}  # MOSI's.
MODALITIES = ("text", *FEATURE_DIMS)
UTTERANCES_PER_VIDEO = 24  # Makes 93 videos, as in MOSI.
MAX_SCORE = 3.0

SHARED_DIM, PRIVATE_DIM, NUISANCE_DIM = 1, 1, 3
WEIGHTS = {"shared": 1.1, "text": 0.75, "visual": 0.65, "acoustic": 0.65}  # |a| and |b_m|.
VIEW_NOISE = 0.45  # Standard deviation of e_m: what one modality gets wrong about the shared factors.
SCORE_NOISE = 1.0  # σ: what nothing explains.

VOCABULARY_SIZE, WORD_DIM = 600, 50
WORD_SPREAD = 1.2  # Standard deviation of what words mean: wider than what utterances say.
WORD_CHOICE_NOISE = 0.2  # Standard deviation of what makes a speaker take one word and not its neighbour.
WORD_VECTOR_NOISE = 0.05
FEATURE_VARIANCE = {"signal": 0.9, "nuisance": 0.07, "noise": 0.03}  # Shares of each visual or acoustic feature.
NUISANCE_MEMORY = 0.6  # Correlation of a nuisance factor with itself one step earlier.

# Zero mean, unit variance, and otherwise as different as distributions can be: two values, skewed, flat.
_DRAW_PRIVATE = {
    "text": lambda rng: rng.choice([-1.0, 1.0], PRIVATE_DIM),
    "visual": lambda rng: (rng.gamma(3.0, size=PRIVATE_DIM) - 3.0) / np.sqrt(3.0),
    "acoustic": lambda rng: rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), PRIVATE_DIM),
}


def generate(split, seed=0, size=None):
    """Make the utterances of one split.

    Args:
        split: `"train"`, `"validation"` or `"test"`: independent draws from one world.
        seed: integer ≥ 0, names the world (score weights, vocabulary, mixtures) and the draws.
        size: number of utterances; `None`, the default, takes MOSI's. Utterance i is the same whatever the size.

    Returns:
        List of examples, each a dict:

        * `segment_id`, `video_id`: such as `"synthetic-train-07[3]"` and `"synthetic-train-07"`
        * `words`: list of `length` strings; `visual`: `(length, 47)` and `acoustic`: `(length, 74)`, float32, aligned
        * `label`: the score, float32 in [−3, 3]
        * `best_prediction`: the conditional median of the score given the factors, float32
        * `factors`: dict of `shared` and each modality's private factors, `(1,)` float32 each
        * `views`: dict, modality → what it shows of the shared factors, `(1,)` float32

    Raises:
        ValueError: If the split is unknown or `size` is negative.

    Example:
        >>> example = generate("train", size=1)[0]
        >>> example["segment_id"], example["visual"].shape[1], example["acoustic"].shape[1]
        ('synthetic-train-00[0]', 47, 74)
    """
    if split not in SPLIT_SIZES:
        raise ValueError(f"`split` must be one of {list(SPLIT_SIZES)}. Received: split={split!r}")
    size = SPLIT_SIZES[split] if size is None else size
    if size < 0:
        raise ValueError(f"`size` must not be negative. Received: size={size}")
    return [_make_example(split, index, seed) for index in range(size)]


def word_table(seed=0):
    """Vectors of the made-up words, which stand in for GloVe's.

    Args:
        seed: integer ≥ 0, as for `generate`.

    Returns:
        Pair of the words, a list that begins with `"<unk>"` and `"<pad>"`, and their vectors `(words, 50)`, float32;
        those of the first two are zero.

    Example:
        >>> words, vectors = word_table()
        >>> words[:3], vectors.shape
        (['<unk>', '<pad>', 'w0000'], (602, 50))
    """
    vectors = _make_world(seed)["word_vectors"]
    words = ["<unk>", "<pad>", *(f"w{index:04d}" for index in range(len(vectors)))]
    return words, np.concatenate([np.zeros((2, WORD_DIM)), vectors]).astype(np.float32)


def best_mae(examples):
    """Mean absolute error of the predictor that knows the true factors: the best reachable one.

    Args:
        examples: list of examples, as `generate` makes it.

    Returns:
        Float, in points of the score.

    Example:
        >>> 0.6 < best_mae(generate("validation")) < 0.8
        True
    """
    return float(np.mean([abs(float(e["label"]) - float(e["best_prediction"])) for e in examples]))


def reachable_mae(seed=0):
    """What is reachable from parts of the truth, and by ridge regression from what a model sees.

    Every row but the first is a ridge regression on the training split, its strength chosen on the validation split.

    Args:
        seed: integer ≥ 0, as for `generate`.

    Returns:
        Dict, description → mean absolute error on the test split.
    """
    splits = {split: generate(split, seed) for split in SPLIT_SIZES}
    index = {word: vector for word, vector in zip(*word_table(seed), strict=True)}
    seen = {
        "text": lambda e: np.mean([index[word] for word in e["words"]], axis=0),
        **{m: lambda e, m=m: e[m].mean(axis=0) for m in FEATURE_DIMS},
    }
    shared, private = (lambda e: e["factors"]["shared"]), (lambda e: _concatenate(e["factors"], MODALITIES))
    rows = {
        "true shared and private factors": lambda e: np.append(shared(e), private(e)),
        "true shared factors only": shared,
        "true private factors only": private,
        **{f"{m}'s view of the shared factors, true private ones": _view_and_private(m) for m in MODALITIES},
        "time means of text, visual, acoustic": lambda e: np.concatenate([seen[m](e) for m in MODALITIES]),
        **{f"time means without {m}": _without(seen, m) for m in MODALITIES},
        **{f"time means of {m} only": seen[m] for m in MODALITIES},
        "nothing": lambda e: np.zeros(1),
    }
    return {"best reachable": best_mae(splits["test"])} | {name: _ridge_mae(splits, row) for name, row in rows.items()}


def _concatenate(parts, names):
    return np.concatenate([parts[name] for name in names])


def _view_and_private(modality):
    return lambda e: np.append(e["views"][modality], _concatenate(e["factors"], MODALITIES))


def _without(seen, modality):
    return lambda e: np.concatenate([seen[m](e) for m in MODALITIES if m != modality])


def _ridge_mae(splits, features):
    x, y = ({k: np.stack([f(e) for e in v]) for k, v in splits.items()} for f in (features, lambda e: e["label"]))
    mean, level = x["train"].mean(axis=0), y["train"].mean()
    centred = x["train"] - mean

    def mae(strength, split):
        gram = centred.T @ centred + strength * np.eye(len(mean))
        weights = np.linalg.solve(gram, centred.T @ (y["train"] - level))
        prediction = np.clip((x[split] - mean) @ weights + level, -MAX_SCORE, MAX_SCORE)
        return float(np.abs(y[split] - prediction).mean())

    return mae(min((1.0, 10.0, 100.0, 1000.0), key=lambda strength: mae(strength, "validation")), "test")


@functools.lru_cache(maxsize=4)
def _make_world(seed):
    """What all utterances of a seed have in common."""
    rng = np.random.default_rng([seed, len(SPLIT_SIZES)])  # The streams before it belong to the splits.
    signal_dim = SHARED_DIM + PRIVATE_DIM
    meanings = rng.normal(size=(VOCABULARY_SIZE, signal_dim))
    noise = rng.normal(scale=WORD_VECTOR_NOISE, size=(VOCABULARY_SIZE, WORD_DIM))
    return {
        "word_meanings": WORD_SPREAD * meanings,
        "word_vectors": meanings @ _unit_columns(rng, signal_dim, WORD_DIM) + noise,
        "score_weights": {
            name: weight * _unit_columns(rng, SHARED_DIM if name == "shared" else PRIVATE_DIM, 1)[:, 0]
            for name, weight in WEIGHTS.items()
        },
        "mixtures": {
            m: {"signal": _unit_columns(rng, signal_dim, n), "nuisance": _unit_columns(rng, NUISANCE_DIM, n)}
            for m, n in FEATURE_DIMS.items()
        },
    }


def _unit_columns(rng, rows, columns):
    """Random matrix that maps independent unit variances to unit variances."""
    matrix = rng.normal(size=(rows, columns))
    return matrix / np.linalg.norm(matrix, axis=0)


def _make_example(split, index, seed):
    world = _make_world(seed)
    rng = np.random.default_rng([seed, list(SPLIT_SIZES).index(split), index])
    factors = {"shared": rng.normal(size=SHARED_DIM)} | {m: _DRAW_PRIVATE[m](rng) for m in MODALITIES}
    errors = rng.normal(size=(len(MODALITIES), SHARED_DIM))
    errors = (errors - errors.mean(axis=0)) / np.sqrt(1 - 1 / len(MODALITIES))  # They cancel, with unit variance.
    views = {m: factors["shared"] + VIEW_NOISE * e for m, e in zip(MODALITIES, errors, strict=True)}
    signals = {m: np.append(view / np.hypot(1.0, VIEW_NOISE), factors[m]) for m, view in views.items()}
    median = np.clip(sum(world["score_weights"][name] @ f for name, f in factors.items()), -MAX_SCORE, MAX_SCORE)
    label = np.clip(median + SCORE_NOISE * rng.normal(), -MAX_SCORE, MAX_SCORE)
    length = int(np.clip(np.round(rng.lognormal(np.log(9.5), 0.6)), 2, 44))  # As in MOSI: mean 11, longest 44.
    video, utterance = divmod(index, UTTERANCES_PER_VIDEO)
    video_id = f"synthetic-{split}-{video:02d}"
    return {
        "segment_id": f"{video_id}[{utterance}]",
        "video_id": video_id,
        "words": _say(rng, signals["text"], world["word_meanings"], length),
        **{m: _show(rng, signals[m], mixture, length) for m, mixture in world["mixtures"].items()},
        "label": np.float32(label),
        "best_prediction": np.float32(median),
        "factors": {name: f.astype(np.float32) for name, f in factors.items()},
        "views": {m: view.astype(np.float32) for m, view in views.items()},
    }


def _say(rng, signal, meanings, length):
    """Words whose meanings average to the signal: each takes up what those before it left unsaid."""
    words, unsaid = [], np.zeros_like(signal)
    for _ in range(length):
        unsaid = unsaid + signal
        aim = unsaid + WORD_CHOICE_NOISE * rng.normal(size=signal.shape)
        word = int(np.square(meanings - aim).sum(axis=1).argmin())
        words.append(f"w{word:04d}")
        unsaid = unsaid - meanings[word]
    return words


def _show(rng, signal, mixture, length):
    """Features of about unit variance: the signal, more in some steps than in others, slow nuisance and white noise."""
    salience = rng.uniform(0.5, 1.5, size=(length, 1))
    nuisance = rng.normal(size=(length, NUISANCE_DIM))
    for step in range(1, length):
        nuisance[step] = NUISANCE_MEMORY * nuisance[step - 1] + np.sqrt(1 - NUISANCE_MEMORY**2) * nuisance[step]
    parts = {
        "signal": salience / salience.mean() * signal @ mixture["signal"],
        "nuisance": nuisance @ mixture["nuisance"],
        "noise": rng.normal(size=(length, mixture["signal"].shape[1])),
    }
    return sum(np.sqrt(FEATURE_VARIANCE[name]) * part for name, part in parts.items()).astype(np.float32)


def main():
    """Print the table of `reachable_mae` in Markdown."""
    parser = argparse.ArgumentParser(description="What is reachable on the synthetic dataset, and from what.")
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    table = reachable_mae(seed)
    best = table["best reachable"]
    print(f"| predictor (synthetic data, seed {seed}) | test MAE | above the best |\n| --- | --- | --- |")
    for name, mae in table.items():
        print(f"| {name} | {mae:.3f} | {mae / best - 1:+.1%} |")


if __name__ == "__main__":
    main()
