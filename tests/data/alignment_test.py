import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_misa.data.sources import alignment
from keras_misa.data.sources.alignment import EPSILON, mean_over, overlapping

GRID = 8  # Times are eighths of a second, which floats hold exactly.
times = st.integers(0, 40).map(lambda n: n / GRID)
intervals = st.lists(st.tuples(times, times), max_size=12).map(lambda rows: np.array(rows, float).reshape(-1, 2))


def slow_overlapping(intervals, queries):
    """The rule, interval by interval."""
    rows = [
        [row for row, (start, end) in enumerate(intervals) if min(end, stop) - max(start, begin) > EPSILON]
        for begin, stop in queries
    ]
    return [row for found in rows for row in found], [len(found) for found in rows]


@given(intervals=intervals, queries=intervals)
@settings(max_examples=300, deadline=None)
def test_overlaps_are_those_of_the_plain_loop(intervals, queries):
    rows, counts = overlapping(intervals, queries)
    expected_rows, expected_counts = slow_overlapping(intervals, queries)
    assert rows.tolist() == expected_rows
    assert counts.tolist() == expected_counts


@given(intervals=intervals, queries=intervals)
@settings(max_examples=60, deadline=None)
def test_blocks_change_nothing(intervals, queries):
    expected = [part.tolist() for part in overlapping(intervals, queries)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_PAIRS_AT_ONCE", 3)
        assert [part.tolist() for part in overlapping(intervals, queries)] == expected


@pytest.mark.parametrize(("gap", "count"), [(0.9e-5, 0), (1.1e-5, 1)])
def test_an_overlap_shorter_than_ten_microseconds_is_none(gap, count):
    _, counts = overlapping(np.array([[0.0, 1.0]]), np.array([[1.0 - gap, 2.0]]))
    assert counts.tolist() == [count]


@given(intervals=intervals, queries=intervals, seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_means_are_numpys_to_the_last_bit(intervals, queries, seed):
    features = np.random.default_rng(seed).standard_normal((len(intervals), 3), dtype=np.float32)
    means, covered, found = mean_over(features, intervals, queries)
    position = 0
    for query, (begin, stop) in enumerate(queries):
        rows, _ = slow_overlapping(intervals, [(begin, stop)])
        if not rows:
            assert query not in found
            continue
        assert found[position] == query
        np.testing.assert_array_equal(means[position], features[rows].mean(axis=0))
        starts, ends = zip(*(intervals[row] for row in rows), strict=True)
        assert covered[position].tolist() == [max(min(starts), begin), min(max(ends), stop)]
        position += 1
    assert len(found) == position


def test_means_of_many_frames_are_numpys_to_the_last_bit():
    starts = np.arange(1000) / 100
    features = np.random.default_rng(0).standard_normal((1000, 5), dtype=np.float32)
    queries = np.array([[0.0, 0.005], [0.0, 3.333], [2.0, 9.0], [9.995, 20.0]])
    means, _, found = mean_over(features, np.stack([starts, starts + 0.01], axis=1), queries)
    assert found.tolist() == [0, 1, 2, 3]
    for mean, rows in zip(means, (slice(0, 1), slice(0, 334), slice(200, 900), slice(999, 1000)), strict=True):
        np.testing.assert_array_equal(mean, features[rows].mean(axis=0))
