"""Training, validation and test from one set of videos."""

import collections

import numpy as np

SPLITS = ("train", "validation", "test")


def split_by_video(video_ids, fractions=(0.7, 0.15, 0.15), seed=0):
    """Assign whole videos to training, validation and test.

    The videos are shuffled with the seed, then each goes to the split that lacks most utterances of its share. So the
    splits are disjoint in videos (and, by and large, speakers), and their sizes come near the fractions.

    Args:
        video_ids: the video of each utterance, in any order.
        fractions: shares of train, validation and test, positive, adding up to 1.
        seed: of the shuffle.

    Returns:
        Dict, video id → `"train"`, `"validation"` or `"test"`.

    Raises:
        ValueError: If the fractions are not three shares, the seed is negative, or there are too few videos.

    Example:
        >>> assignment = split_by_video(["a"] * 8 + ["b"] * 2 + ["c"] * 2, fractions=(0.6, 0.2, 0.2), seed=1)
        >>> sorted(assignment.values())
        ['test', 'train', 'validation']
    """
    fractions = tuple(fractions)
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not abs(sum(fractions) - 1.0) < 1e-6:
        raise ValueError(
            f"`fractions` must be three positive shares (train, validation, test) that add up to 1. "
            f"Received: fractions={fractions}"
        )
    if seed < 0:
        raise ValueError(f"`seed` must not be negative. Received: seed={seed}")
    sizes = collections.Counter(video_ids)
    if len(sizes) < len(SPLITS):
        raise ValueError(f"Three splits need at least three videos. Received: {len(sizes)} videos, {sorted(sizes)}")
    total = sum(sizes.values())
    lacking = {split: fraction * total for split, fraction in zip(SPLITS, fractions, strict=True)}
    assignment = {}
    videos = sorted(sizes)
    for position, index in enumerate(np.random.default_rng(seed).permutation(len(videos))):
        video = videos[index]
        empty = [split for split in SPLITS if split not in assignment.values()]
        # The last videos go to the splits that have none yet.
        candidates = empty if len(empty) >= len(videos) - position else SPLITS
        split = max(candidates, key=lacking.get)
        assignment[video] = split
        lacking[split] -= sizes[video]
    return assignment
