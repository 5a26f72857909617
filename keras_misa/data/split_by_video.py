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
    return _deal(video_ids, dict(zip(SPLITS, fractions, strict=True)), seed)


def fold_by_video(video_ids, fold, folds=5, seed=0):
    """Assign whole videos to training, validation and test, for a fold of a cross-validation.

    The videos are shuffled with the seed and dealt out to parts of about equally many utterances. Of fold k, part k is
    the test split, the next one (the first after the last) the validation split, and the others are for training: over
    all folds each utterance is tested once.

    Args:
        video_ids: the video of each utterance, in any order.
        fold: number of the fold, from 1 on.
        folds: how many there are, 3 or more.
        seed: of the shuffle.

    Returns:
        Dict, video id → `"train"`, `"validation"` or `"test"`.

    Raises:
        ValueError: If there is no such fold, the seed is negative, or there are fewer videos than folds.

    Example:
        >>> fold_by_video(["a", "a", "b", "c"], fold=2, folds=3) == fold_by_video(["c", "b", "a", "a"], 2, 3)
        True
    """
    if folds < 3 or not 1 <= fold <= folds:
        raise ValueError(
            "`folds` must be 3 or more, one each for test and validation, and `fold` one of 1 to `folds`. "
            f"Received: fold={fold}, folds={folds}"
        )
    parts = _deal(video_ids, dict.fromkeys(range(folds), 1 / folds), seed)
    splits = {fold - 1: "test", fold % folds: "validation"}
    return {video: splits.get(part, "train") for video, part in parts.items()}


def _deal(video_ids, shares, seed):
    """Dict, video → the part that it goes to, of those that `shares` has, part → share."""
    if seed < 0:
        raise ValueError(f"`seed` must not be negative. Received: seed={seed}")
    sizes = collections.Counter(video_ids)
    if len(sizes) < len(shares):
        raise ValueError(
            f"{len(shares)} disjoint parts need at least as many videos. Received: {len(sizes)} videos, {sorted(sizes)}"
        )
    lacking = {part: share * sizes.total() for part, share in shares.items()}
    assignment = {}
    videos = sorted(sizes)
    for position, index in enumerate(np.random.default_rng(seed).permutation(len(videos))):
        video = videos[index]
        empty = [part for part in shares if part not in assignment.values()]
        # The last videos go to the parts that have none yet.
        candidates = empty if len(empty) >= len(videos) - position else shares
        part = max(candidates, key=lacking.get)
        assignment[video] = part
        lacking[part] -= sizes[video]
    return assignment
