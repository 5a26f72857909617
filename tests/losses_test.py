import hypothesis.extra.numpy
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import gradient

from keras_misa.losses import central_moment_discrepancy, maximum_mean_discrepancy, orthogonality

pytestmark = pytest.mark.backends


def gradients(function, x, y):
    """By both arguments."""
    return gradient(lambda a: function(a, y), x), gradient(lambda b: function(x, b), y)


def numpy_cmd(x, y, num_moments=5, bounds=(0.0, 1.0)):
    """Central moment discrepancy with loops over moments, features and rows."""
    total = 0.0
    for k in range(1, num_moments + 1):
        squares = 0.0
        for column_x, column_y in zip(np.asarray(x, "float64").T, np.asarray(y, "float64").T, strict=True):
            moments = []
            for column in (column_x, column_y):
                mean = sum(column) / len(column)
                moments.append(mean if k == 1 else sum((value - mean) ** k for value in column) / len(column))
            squares += (moments[0] - moments[1]) ** 2
        total += squares**0.5 / (bounds[1] - bounds[0]) ** k
    return total


def numpy_normalised(x):
    """Columns centred; then the L2 norm of each row, apart."""
    centred = np.array([column - sum(column) / len(column) for column in np.asarray(x, "float64").T]).T
    norms = np.array([sum(value**2 for value in row) ** 0.5 for row in centred])
    return centred, norms


def numpy_orthogonality(x, y, reduction="mean", norms=None):
    """Soft orthogonality with loops; `norms`, if given, replace the row norms of x and y."""
    (x, norms_x), (y, norms_y) = numpy_normalised(x), numpy_normalised(y)
    norms_x, norms_y = norms or (norms_x, norms_y)
    total = 0.0
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            entry = sum(x[n, i] / (norms_x[n] + 1e-6) * y[n, j] / (norms_y[n] + 1e-6) for n in range(x.shape[0]))
            total += entry**2
    return total / (x.shape[1] * y.shape[1]) if reduction == "mean" else total


@st.composite
def matrix_pairs(draw, same_batch):
    """Pairs of small matrices. With multiples of 1/16 and a batch of 1, 2, 4 or 8, means are exact in float32."""
    batch = draw(st.sampled_from([1, 2, 4, 8]))
    other_batch = batch if same_batch else draw(st.integers(1, 9))
    units = draw(st.integers(1, 4))
    other_units = draw(st.integers(1, 4)) if same_batch else units
    elements = st.integers(-32, 32).map(lambda n: n / 16)
    return [
        draw(hypothesis.extra.numpy.arrays("float32", shape, elements=elements))
        for shape in ((batch, units), (other_batch, other_units))
    ]


@given(matrix_pairs(same_batch=False), st.integers(1, 7))
def test_cmd_is_the_naive_loop(pair, num_moments):
    x, y = (matrix / 4 + 0.5 for matrix in pair)  # into [0, 1]
    value = central_moment_discrepancy(x, y, num_moments)
    assert float(value) == pytest.approx(numpy_cmd(x, y, num_moments), rel=1e-5, abs=1e-6)


@given(matrix_pairs(same_batch=False), st.sampled_from([(-1.0, 1.0), (-2.0, 2.0), (0.0, 0.5), (3.0, 4.0)]))
def test_cmd_divides_the_kth_term_by_the_kth_power_of_the_range(pair, bounds):
    x, y = pair
    value = central_moment_discrepancy(x, y, bounds=bounds)
    assert float(value) == pytest.approx(numpy_cmd(x, y, bounds=bounds), rel=1e-5, abs=1e-5)


def test_cmd_does_not_change_when_values_and_bounds_are_stretched_together():
    x, y = np.random.default_rng(0).uniform(size=(2, 8, 3)).astype("float32")
    value = float(central_moment_discrepancy(x, y))
    stretched = float(central_moment_discrepancy(2 * x - 1, 2 * y - 1, bounds=(-1.0, 1.0)))
    assert stretched == pytest.approx(value, rel=1e-5)
    assert value > 0.01


def test_cmd_is_symmetric_and_blind_to_the_order_of_rows():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 3)).astype("float32"), rng.uniform(size=(9, 3)).astype("float32")
    value = float(central_moment_discrepancy(x, y))
    assert float(central_moment_discrepancy(y, x)) == pytest.approx(value, rel=1e-6)
    assert float(central_moment_discrepancy(x[::-1].copy(), y)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_cmd_of_equal_inputs_is_zero_with_zero_gradients(batch):
    x = np.random.default_rng(0).uniform(size=(batch, 3)).astype("float32")
    assert float(central_moment_discrepancy(x, x.copy())) == 0.0
    for slope in gradients(central_moment_discrepancy, x, x.copy()):
        np.testing.assert_array_equal(slope, 0.0)


def test_cmd_of_a_batch_of_one_compares_means_only():
    x, y = np.array([[0.2, 0.9]], "float32"), np.array([[0.5, 0.5]], "float32")
    assert float(central_moment_discrepancy(x, y)) == pytest.approx(0.5)
    unit = np.array([[-0.6, 0.8]])
    for slope, expected in zip(gradients(central_moment_discrepancy, x, y), (unit, -unit), strict=True):
        np.testing.assert_allclose(slope, expected, atol=1e-6)


def numerical_gradient(function, x, step=1e-5):
    x = x.astype("float64")
    slope = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        slope[index] = (function(up) - function(down)) / (2 * step)
    return slope


def test_cmd_gradient():
    x, y = np.random.default_rng(1).uniform(size=(2, 4, 3)).astype("float32")
    bounds = (-1.0, 1.0)
    got_x, got_y = gradients(lambda a, b: central_moment_discrepancy(a, b, bounds=bounds), x, y)
    np.testing.assert_allclose(got_x, numerical_gradient(lambda a: numpy_cmd(a, y, bounds=bounds), x), atol=1e-5)
    np.testing.assert_allclose(got_y, numerical_gradient(lambda b: numpy_cmd(x, b, bounds=bounds), y), atol=1e-5)


@given(matrix_pairs(same_batch=True), st.sampled_from(["mean", "sum"]))
def test_orthogonality_is_the_naive_loop(pair, reduction):
    value = float(orthogonality(*pair, reduction=reduction))
    assert value == pytest.approx(numpy_orthogonality(*pair, reduction=reduction), rel=1e-4, abs=1e-6)


def test_orthogonality_of_a_batch_that_is_no_power_of_two():
    rng = np.random.default_rng(2)
    x, y = rng.normal(5, 1, (7, 3)).astype("float32"), rng.normal(size=(7, 5)).astype("float32")
    assert float(orthogonality(x, y)) == pytest.approx(numpy_orthogonality(x, y), rel=1e-4)
    assert float(orthogonality(x, y, "sum")) == pytest.approx(15 * numpy_orthogonality(x, y), rel=1e-4)


def test_orthogonality_does_not_see_the_scale_and_offset_of_a_matrix():
    x, y = np.random.default_rng(3).normal(size=(2, 6, 4)).astype("float32")
    assert float(orthogonality(16 * x + 1, y)) == pytest.approx(float(orthogonality(x, y)), rel=1e-4)


def test_orthogonality_gradient_takes_the_norms_as_constants():
    x, y = np.random.default_rng(4).normal(size=(2, 4, 3)).astype("float32")
    norms = numpy_normalised(x)[1], numpy_normalised(y)[1]
    got_x, got_y = gradients(orthogonality, x, y)
    frozen = numerical_gradient(lambda a: numpy_orthogonality(a, y, norms=norms), x)
    np.testing.assert_allclose(got_x, frozen, atol=1e-5)
    np.testing.assert_allclose(
        got_y, numerical_gradient(lambda b: numpy_orthogonality(x, b, norms=norms), y), atol=1e-5
    )
    differentiated = numerical_gradient(lambda a: numpy_orthogonality(a, y), x)
    assert np.abs(frozen - differentiated).max() > 1e-2  # or the test could not tell


@pytest.mark.parametrize("x", [np.full((1, 3), 0.5), np.full((4, 3), 0.5), np.zeros((2, 3))])
def test_orthogonality_of_identical_rows_is_zero_with_finite_gradients(x):
    x = x.astype("float32")
    assert float(orthogonality(x, x.copy())) == 0.0
    for slope in gradients(orthogonality, x, x.copy()):
        np.testing.assert_array_equal(slope, 0.0)


def naive_mmd(x, y, scales):
    x, y = x.astype("float64"), y.astype("float64")
    both = np.concatenate([x, y])
    distances = [((u - v) ** 2).sum() for i, u in enumerate(both) for j, v in enumerate(both) if i != j]
    width = np.mean(distances) or 1.0

    def mean_kernel(a, b):
        return np.mean([np.mean([np.exp(-((u - v) ** 2).sum() / (s * width)) for s in scales]) for u in a for v in b])

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


@given(matrix_pairs(same_batch=False), st.sampled_from([(1.0,), (0.25, 1.0, 4.0)]))
def test_mmd_is_the_naive_loop(pair, scales):
    x, y = pair
    assert float(maximum_mean_discrepancy(x, y, scales)) == pytest.approx(naive_mmd(x, y, scales), abs=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_mmd_of_equal_inputs_is_zero_with_zero_gradients(batch):
    x = np.random.default_rng(0).random((batch, 3)).astype("float32")
    assert float(maximum_mean_discrepancy(x, x)) == 0.0
    np.testing.assert_array_equal(gradient(lambda z: maximum_mean_discrepancy(z, x), x), np.zeros_like(x))


def test_mmd_sees_a_difference_in_shape_and_not_the_scale():
    rng = np.random.default_rng(0)
    x, same = rng.normal(size=(2, 200, 2)).astype("float32")
    y = np.sign(rng.normal(size=(200, 2))).astype("float32")  # the same mean and variance
    apart, together = float(maximum_mean_discrepancy(x, y)), float(maximum_mean_discrepancy(x, same))
    assert apart > 5 * together > 0
    assert float(maximum_mean_discrepancy(100 * x, 100 * y)) == pytest.approx(apart, rel=1e-4)


def test_mmd_error():
    with pytest.raises(ValueError, match=r"Received: scales=\(1.0, 0.0\)"):
        maximum_mean_discrepancy(np.ones((2, 2)), np.ones((2, 2)), (1.0, 0.0))


@pytest.mark.parametrize("loss", [central_moment_discrepancy, maximum_mean_discrepancy, orthogonality])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_any_input_gives_float32(loss, dtype):
    # 3000² is beyond float16.
    x = keras.ops.cast(np.array([[-3000.0], [3000.0]], "float32"), dtype)
    y = keras.ops.cast(np.array([[0.0], [1.0]], "float32"), dtype)
    value = loss(x, y)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert np.isfinite(float(value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_moments": 0}, r"`num_moments` must be at least 1\. Received: num_moments=0"),
        ({"bounds": (1.0, 1.0)}, r"`bounds` must be a pair \(a, b\) with a < b\. Received: bounds=\(1\.0, 1\.0\)"),
        ({"bounds": (1.0, -1.0)}, r"Received: bounds=\(1\.0, -1\.0\)"),
        ({"bounds": (float("nan"), 1.0)}, r"Received: bounds=\(nan, 1\.0\)"),
    ],
)
def test_cmd_errors(arguments, message):
    x = np.zeros((2, 2), "float32")
    with pytest.raises(ValueError, match=message):
        central_moment_discrepancy(x, x, **arguments)


def test_orthogonality_error():
    x = np.zeros((2, 2), "float32")
    with pytest.raises(ValueError, match=r'`reduction` must be "mean" or "sum"\. Received: reduction=\'max\''):
        orthogonality(x, x, reduction="max")
