"""Intervals of time: which overlap, and the mean of what does.

The rules are those of the CMU Multimodal SDK, which made the published features; a plain loop over them is the oracle
of the tests.
"""

import itertools

import numpy as np

EPSILON = 1e-5  # seconds; a shorter overlap is none
_PAIRS_AT_ONCE = 2**22


def overlapping(intervals, queries):
    """Finds, for each query, the intervals that overlap it by more than `EPSILON` seconds.

    Args:
        intervals: start and end in seconds, `(rows, 2)`, in any order.
        queries: likewise, `(queries, 2)`.

    Returns:
        Pair of the row numbers, query after query, within a query in the order of the rows; and their number for each
        query, `(queries,)`.

    Example:
        >>> overlapping(np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]), np.array([[0.5, 2.0], [7.0, 8.0]]))
        (array([0, 1]), array([2, 0]))
    """
    order = np.argsort(intervals[:, 0], kind="stable")
    starts, ends = intervals[order].T
    # Whoever ends before the query starts, and all before it do too, is out; so is whoever starts after its end.
    first = np.searchsorted(np.maximum.accumulate(ends), queries[:, 0], side="right")
    last = np.searchsorted(starts, queries[:, 1], side="left")
    candidates = np.maximum(last - first, 0)
    rows, counts = [], []
    for block in _blocks(candidates):
        query = np.repeat(np.arange(len(queries))[block], candidates[block])
        offset = np.cumsum(candidates[block]) - candidates[block]
        row = np.arange(len(query)) + np.repeat(first[block] - offset, candidates[block])
        overlap = np.minimum(ends[row], queries[query, 1]) - np.maximum(starts[row], queries[query, 0])
        query, row = query[overlap > EPSILON], order[row[overlap > EPSILON]]
        rows.append(row[np.lexsort((row, query))])
        counts.append(np.bincount(query - block.start, minlength=block.stop - block.start))
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.concatenate([np.zeros(0, np.int64), *counts])


def _blocks(candidates):
    """Cuts the queries so that a block has not many more pairs than fit into memory at once."""
    total = np.cumsum(candidates)
    cuts = np.searchsorted(total, np.arange(_PAIRS_AT_ONCE, total[-1] if len(total) else 0, _PAIRS_AT_ONCE))
    bounds = np.unique([0, *cuts, len(candidates)])
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def mean_over(features, intervals, queries):
    """Means of the frames that overlap each query, `(queries, size)`, and the time that these frames cover.

    Args:
        features: `(frames, size)`.
        intervals: of the frames, `(frames, 2)`, in seconds.
        queries: `(queries, 2)`, in seconds.

    Returns:
        Triple: means `(found, size)` in the features' type; `(found, 2)` from the smallest start to the greatest end of
        their frames, both cut off at the query's; and the numbers of the queries that have a frame, `(found,)`.
    """
    rows, counts = overlapping(intervals, queries)
    found = np.flatnonzero(counts)
    counts = counts[found]
    if not len(found):
        return features[:0], intervals[:0], found
    offsets = np.cumsum(counts) - counts
    means = _sums(features, rows, offsets, counts) / counts[:, None].astype(features.dtype)
    starts = np.minimum.reduceat(intervals[rows, 0], offsets)
    ends = np.maximum.reduceat(intervals[rows, 1], offsets)
    covered = np.stack([np.maximum(starts, queries[found, 0]), np.minimum(ends, queries[found, 1])], axis=1)
    return means, covered, found


def _sums(features, rows, offsets, counts):
    """Sums of rows of features, one after the other: in the order in which `numpy.mean` adds, to round as it does."""
    longest_first = np.argsort(-counts, kind="stable")
    offsets, counts = offsets[longest_first], counts[longest_first]
    sums = features[rows[offsets]]
    for step in range(1, counts[0]):
        alive = np.searchsorted(-counts, -step, side="left")
        sums[:alive] += features[rows[offsets[:alive] + step]]
    return sums[np.argsort(longest_first)]
