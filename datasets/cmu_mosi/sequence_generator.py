"""Writes made-up computational sequences (`.csd`), in the exact format, of any size: for tests and benchmarks."""

import json
import pathlib

import numpy as np

VOCABULARY = (
    "i",
    "you",
    "this",
    "movie",
    "film",
    "was",
    "not",
    "very",
    "good",
    "awful",
    "and",
    "um",
    "the",
    "plot",
    "sp",
)
METADATA = ("root name", "computational sequence description", "dimension names", "creator", "alignment compatible")
FILES = {  # dataset -> role -> (file name, root name), as they can be downloaded today
    "cmu_mosi": {
        "words": ("CMU_MOSI_TimestampedWords", "words"),
        "visual": ("CMU_MOSI_Visual_Facet_41", "FACET_4.1"),
        "acoustic": ("CMU_MOSI_COVAREP", "COVAREP"),
        "labels": ("CMU_MOSI_Opinion_Labels", "Opinion Segment Labels"),
    },
    "cmu_mosei": {
        "words": ("CMU_MOSEI_TimestampedWords", "words"),
        "visual": ("CMU_MOSEI_VisualFacet42", "FACET 4.2"),
        "acoustic": ("CMU_MOSEI_COVAREP", "COVAREP"),
        "labels": ("CMU_MOSEI_Labels", "All Labels"),
    },
}


def write_sequences(
    folder,
    videos,
    dataset="cmu_mosi",
    seconds=119.0,
    segments=24,
    visual_dim=47,
    acoustic_dim=74,
    visual_rate=30,
    acoustic_rate=100,
    label_columns=1,
    word_seconds=0.4,
    damage=0.0,
    seed=0,
):
    """Writes the four files of a dataset, the same on every run with a seed.

    Args:
        folder: where to.
        videos: ids.
        dataset: `"cmu_mosi"` or `"cmu_mosei"`, for the names.
        seconds: length of a video.
        segments: labelled segments of a video, with gaps between them.
        visual_dim: columns.
        acoustic_dim: columns.
        visual_rate: frames a second.
        acoustic_rate: frames a second.
        label_columns: 1, or 7 with MOSEI's emotions.
        word_seconds: mean length of a word.
        damage: share of frames that are NaN (visual) or -inf (acoustic), and of frames that are missing.
        seed: of everything.

    Returns:
        Dict, role → path.
    """
    paths = {role: pathlib.Path(folder, f"{name}.csd") for role, (name, _) in FILES[dataset].items()}
    with _Files(paths, FILES[dataset]) as files:
        for number, video in enumerate(videos):
            rng = np.random.default_rng([seed, number])
            files.add("words", video, *_words(rng, seconds, word_seconds))
            files.add("visual", video, *_frames(rng, seconds, visual_rate, visual_dim, damage, np.nan))
            files.add("acoustic", video, *_frames(rng, seconds, acoustic_rate, acoustic_dim, damage, -np.inf))
            files.add("labels", video, *_labels(rng, seconds, segments, label_columns))
    return paths


class _Files:
    """Open files, one by role."""

    def __init__(self, paths, names):
        import h5py

        self._files = {role: h5py.File(path, "w") for role, path in paths.items()}
        self._roots = {role: file.create_group(names[role][1]) for role, file in self._files.items()}
        for role, root in self._roots.items():
            root.create_group("data")
            for key in METADATA:
                value = json.dumps(names[role][1] if key == "root name" else "made up")
                root.create_dataset(f"metadata/{key}", data=[value], dtype=h5py.string_dtype())

    def add(self, role, video, features, intervals):
        group = self._roots[role]["data"].create_group(video)
        group.create_dataset("features", data=features, compression="gzip")
        group.create_dataset("intervals", data=intervals, compression="gzip")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self._files.values():
            file.close()


def _words(rng, seconds, mean):
    count = max(1, int(seconds / mean))
    ends = np.cumsum(rng.uniform(0.25, 1.75, count))
    ends *= seconds / ends[-1]
    intervals = np.stack([np.concatenate([[0.0], ends[:-1]]), ends], axis=1)
    return rng.choice(np.array(VOCABULARY, "S16"), (count, 1)), intervals


def _frames(rng, seconds, rate, size, damage, damaged):
    count = int(seconds * rate)
    features = rng.standard_normal((count, size), dtype=np.float32)
    features[rng.random(count) < damage, : size // 2] = damaged
    starts = np.arange(count) / rate
    kept = rng.random(count) >= damage
    return features[kept], np.stack([starts, starts + 1 / rate], axis=1)[kept]


def _labels(rng, seconds, count, columns):
    edges = np.sort(rng.uniform(0, seconds, 2 * count)).reshape(count, 2)
    features = np.round(rng.uniform(-3, 3, (count, columns)), 1)
    features[:, 1:] = np.abs(features[:, 1:])
    return features, edges
