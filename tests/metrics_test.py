import math

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from keras_misa.experiments.dialects import MMSA_NAMES, spread
from keras_misa.experiments.task_metrics import compute_metrics
from keras_misa.metrics import (
    BinarySentimentAccuracy,
    BinarySentimentF1,
    PearsonCorrelation,
    SentimentClassAccuracy,
    regression_metrics,
)

pytestmark = pytest.mark.backends


# === Oracles: scikit-learn and NumPy on a whole split ===


def class_accuracy(highest):
    def oracle(y, p, w=None):
        y, p = (np.round(np.clip(scores, -highest, highest)) for scores in (y, p))
        return accuracy_score(y, p, sample_weight=w)

    return oracle


def binary(score, boundary):
    def oracle(y, p, w=None):
        if boundary == "nonnegative":
            return score(y >= 0, p >= 0, sample_weight=w)
        kept = y != 0
        return score(y[kept] > 0, p[kept] > 0, sample_weight=None if w is None else w[kept])

    return oracle


def weighted_f1(y, p, sample_weight=None):
    return f1_score(y, p, average="weighted", sample_weight=sample_weight, zero_division=0)


def pearson(y, p, w=None):
    covariance = np.cov(np.asarray(y, "float64"), np.asarray(p, "float64"), aweights=w)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


ORACLES = {
    "mae": lambda y, p, w=None: mean_absolute_error(y, p, sample_weight=w),
    "corr": pearson,
    "acc7": class_accuracy(3),
    "acc5": class_accuracy(2),
    "acc2_nonneg": binary(accuracy_score, "nonnegative"),
    "f1_nonneg": binary(weighted_f1, "nonnegative"),
    "acc2_pos": binary(accuracy_score, "positive"),
    "f1_pos": binary(weighted_f1, "positive"),
}


@st.composite
def splits(draw):
    """Truth, prediction and weights of a split, with many ties, zeros and halves, dealt out into batches."""
    size = draw(st.integers(3, 30))
    scores = st.one_of(st.integers(-16, 16).map(lambda n: n / 4), st.floats(-4, 4, width=32, allow_subnormal=False))
    y, p = (np.array(draw(st.lists(scores, min_size=size, max_size=size)), "float32") for _ in range(2))
    y[:2], p[:2] = (1.0, -2.0), (0.5, -0.25)  # so that everything is defined
    w = np.array(draw(st.lists(st.integers(1, 8), min_size=size, max_size=size)), "float32") / 4
    cuts = draw(st.lists(st.integers(0, size), max_size=4))
    return y, p, w, np.split(np.arange(size), sorted(cuts))


@settings(max_examples=12)  # each brings new shapes, which JAX compiles
@given(splits(), st.booleans(), st.booleans())
def test_any_batching_gives_the_value_of_the_whole_split(split, weighted, column):
    y, p, w, batches = split
    for metric in regression_metrics():
        for rows in batches:
            keras_own = metric.name == "mae"  # takes columns, and no empty batch
            if keras_own and len(rows) == 0:
                continue
            shape = (-1, 1) if column or keras_own else (-1,)
            sample_weight = w[rows] if weighted else None
            metric.update_state(y[rows].reshape(shape), p[rows].reshape(shape), sample_weight=sample_weight)
        expected = ORACLES[metric.name](y, p, *([w] if weighted else []))
        assert float(metric.result()) == pytest.approx(expected, abs=2e-5), metric.name


def test_every_metric_of_the_table_has_an_oracle_and_its_place():
    assert [metric.name for metric in regression_metrics()] == list(ORACLES)


# === Rules of the published code, by hand ===


def value_of(metric, y, p, w=None):
    metric.update_state(np.array(y, "float32"), np.array(p, "float32"), sample_weight=w)
    return float(metric.result())


@pytest.mark.parametrize(
    ("y", "p", "same"),
    [
        (0.5, 0.0, True),  # halves go to the even number
        (1.5, 2.0, True),
        (2.5, 2.0, True),
        (-0.5, 0.0, True),
        (-1.5, -2.0, True),
        (0.5, 1.0, False),
        (2.5, 3.0, False),
        (3.0, 99.0, True),  # clipped
        (-3.0, -99.0, True),
        (1 / 3, 0.0, True),  # no rounding away from zero
    ],
)
def test_acc7_rounds_as_the_published_code(y, p, same):
    assert value_of(SentimentClassAccuracy(7), [y], [p]) == same


ADVERSARIAL = {
    "exact halves": ([0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.5, 3.0], [0.0, 0.0, 2.0, -2.0, 3.0, -3.0, 0.5, 2.5]),
    "just off the halves": (np.nextafter(np.float32([0.5, -0.5, 1.5, 2.5]), np.float32(9)), [1.0, 0.0, 2.0, 3.0]),
    "zeros, signed": ([0.0, -0.0, 0.0, -0.0, 1.0, -1.0, 1.0], [-0.0, 0.0, 1e-30, -1e-30, -0.0, 0.0, 0.5]),
    "thirds": ([1 / 3, -1 / 3, 2 / 3, 4 / 3, -5 / 3, 7 / 3], [1.0, 0.0, 1.0, 1.0, -2.0, 3.0]),
    "ties": ([1.0, 1.0, -1.0, -1.0, 1.0], [2.0, 2.0, 2.0, 1.0, 1.0]),
    "constant truth": ([1.0, 1.0, 1.0], [1.0, 0.4, -2.0]),
    "constant prediction": ([-1.0, 2.0, 0.0], [0.1, 0.1, 0.1]),
    "only zeros": ([0.0, 0.0], [1.0, -1.0]),
    "one class": ([-1.0, -2.0], [-0.5, -3.0]),
    "one row": ([0.5], [0.6]),
    "out of range": ([3.0, -3.0, 3.0, 0.0], [99.0, -99.0, -99.0, 3.4]),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("dialect", ["paper", "sdk", "mmsa"])
def test_adversarial_arrays(name, dialect):
    y, p = (np.array(scores, "float32") for scores in ADVERSARIAL[name])
    known = {"corr": float("nan")} if np.ptp(y) == 0 or np.ptp(p) == 0 else {}
    if not y.any():
        known |= {"acc2_pos": 0, "f1_pos": 0}  # no row is left
    expected = {m: known[m] if m in known else oracle(y, p) for m, oracle in ORACLES.items()}
    if dialect == "sdk":
        expected["acc7"] = np.mean([away_from_zero(a) == away_from_zero(b) for a, b in zip(y, p, strict=True)])
    if dialect == "mmsa":
        expected = {MMSA_NAMES[m]: 100 * value for m, value in expected.items()}
    computed = compute_metrics(SENTIMENT, y, p[:, None], dialect)
    assert computed == pytest.approx(expected, abs=1e-2 if dialect == "mmsa" else 2e-5, nan_ok=True)
    assert list(computed) == (list(MMSA_NAMES.values()) if dialect == "mmsa" else list(ORACLES))


SENTIMENT = {"metrics": "sentiment", "score_names": None, "num_outputs": 1, "dataset": "cmu_mosi", "label": "label"}


def away_from_zero(score):
    """The CMU SDK's: 1/3 is 1."""
    score = max(-3.0, min(3.0, float(score)))
    return math.ceil(score) if score > 0 else math.floor(score)


@given(st.lists(st.tuples(*[st.integers(-24, 24).map(lambda n: n / 6)] * 2), min_size=1, max_size=9))
@settings(max_examples=12)
def test_acc7_away_from_zero(rows):
    y, p = np.array(rows, "float32").T
    expected = np.mean([away_from_zero(a) == away_from_zero(b) for a, b in zip(y, p, strict=True)])
    assert value_of(SentimentClassAccuracy(7, "away_from_zero"), y, p) == pytest.approx(expected, abs=1e-6)
    assert value_of(regression_metrics("away_from_zero")[2], y, p) == pytest.approx(expected, abs=1e-6)


def test_a_third_tells_the_dialects_apart():
    y, p = np.array([1 / 3, 1 / 3], "float32"), np.array([[1.0], [0.0]], "float32")
    by_dialect = {dialect: compute_metrics(SENTIMENT, y, p, dialect) for dialect in ("paper", "sdk", "mmsa")}
    assert by_dialect["paper"]["acc7"] == by_dialect["sdk"]["acc7"] == 0.5  # each is right about the other one
    assert value_of(SentimentClassAccuracy(7), y[:1], p[0]) == 0
    assert value_of(SentimentClassAccuracy(7, "away_from_zero"), y[:1], p[0]) == 1
    assert by_dialect["mmsa"]["Mult_acc_7"] == 50.0
    assert by_dialect["paper"]["acc5"] == by_dialect["sdk"]["acc5"]


def test_the_spread_of_mmsa_is_the_population_s():
    values = [0.7, 0.8, 0.9, 0.75]
    assert spread(values, "mmsa") == pytest.approx(np.sqrt(np.mean((np.array(values) - np.mean(values)) ** 2)))
    assert spread(values, "paper") == spread(values, "sdk") == pytest.approx(spread(values, "mmsa") * np.sqrt(4 / 3))
    assert spread([0.7], "mmsa") == 0
    assert np.isnan(spread([0.7], "paper"))


def test_what_is_not_a_number_is_never_right_by_accident():
    """It is no class and no distance; its sign is counted negative, as NumPy's comparison has it."""
    y, p = np.array([-1.0, 1.0, 0.0], "float32"), np.array([[np.nan], [1.0], [np.nan]], "float32")
    metrics = compute_metrics(SENTIMENT, y, p)
    assert np.isnan(metrics["mae"])
    assert np.isnan(metrics["corr"])
    assert metrics["acc7"] == metrics["acc5"] == pytest.approx(1 / 3)
    assert metrics["acc2_nonneg"] == pytest.approx(np.mean((y >= 0) == (p[:, 0] >= 0)))


def test_a_dialect_that_is_none_here():
    y, p = np.zeros(2), np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"`dialect` must be one of .*Received: dialect='cmu'"):
        compute_metrics(SENTIMENT, y, p, "cmu")
    other = {**SENTIMENT, "metrics": None, "num_outputs": 2, "dataset": "ur_funny"}
    with pytest.raises(ValueError, match=r"dialects are of sentiment.*ur_funny.*Received: dialect='mmsa'"):
        compute_metrics(other, y, np.zeros((2, 2)), "mmsa")


def test_acc5_clips_at_two():
    assert value_of(SentimentClassAccuracy(5), [2.0, -2.0, 3.0, 1.0], [3.0, -2.6, 1.8, 2.0]) == pytest.approx(3 / 4)
    assert value_of(SentimentClassAccuracy(7), [2.0], [3.0]) == 0


def test_zero_is_nonnegative_and_has_no_place_among_the_positive():
    y, p = [0.0, 0.0, 1.0, -1.0], [0.0, -1.0, 0.0, 0.0]
    assert value_of(BinarySentimentAccuracy("nonnegative"), y, p) == pytest.approx(2 / 4)
    assert value_of(BinarySentimentAccuracy("positive"), y, p) == pytest.approx(1 / 2)
    # Rows 3 and 4, both called negative: F1 2/3 for the negative class, 0 for the positive one.
    assert value_of(BinarySentimentF1("positive"), y, p) == pytest.approx((2 / 3 + 0) / 2)


def test_f1_takes_the_support_of_the_truth():
    y, p = [1.0, 1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]
    assert value_of(BinarySentimentF1(), y, p) == pytest.approx((3 * 4 / 5 + 1 * 2 / 3) / 4)
    assert value_of(BinarySentimentF1(), p, y) == pytest.approx((2 * 4 / 5 + 2 * 2 / 3) / 4)


OURS = {
    "acc": SentimentClassAccuracy,
    "acc2": BinarySentimentAccuracy,
    "acc2_positive": lambda: BinarySentimentAccuracy("positive"),
    "f1": BinarySentimentF1,
    "f1_positive": lambda: BinarySentimentF1("positive"),
}


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_empty_is_zero(make):
    metric = make()
    assert float(metric.result()) == 0.0
    metric.update_state(np.zeros(0, "float32"), np.zeros(0, "float32"))
    assert float(metric.result()) == 0.0


def test_only_zeros_is_empty_for_the_positive_boundary():
    for make in (OURS["acc2_positive"], OURS["f1_positive"]):
        assert value_of(make(), [0.0, 0.0], [1.0, -1.0]) == 0.0


@pytest.mark.parametrize("make", [*OURS.values(), PearsonCorrelation], ids=[*OURS, "corr"])
def test_weight_zero_is_as_good_as_absent_and_weight_two_as_twice(make):
    y = np.random.default_rng(0).normal(0, 2, 12).astype("float32")
    weights = np.array([0, 1, 2] * 4, "float32")
    p = np.where(weights == 2, -y, y)
    repeated = value_of(make(), np.repeat(y, weights.astype(int)), np.repeat(p, weights.astype(int)))
    assert value_of(make(), y, p, weights) == pytest.approx(repeated, abs=1e-6)
    assert value_of(make(), y, p) != pytest.approx(repeated, abs=1e-3)


@pytest.mark.parametrize("make", [*OURS.values(), PearsonCorrelation], ids=[*OURS, "corr"])
def test_reset_forgets(make):
    y, p = np.random.default_rng(0).normal(0, 2, (2, 12)).astype("float32")
    metric = make()
    value_of(metric, -y, p)
    metric.reset_state()
    assert value_of(metric, y, p) == pytest.approx(value_of(make(), y, p), abs=1e-7)


# === Pearson ===


@pytest.mark.parametrize(("offset", "tolerance"), [(0.0, 1e-6), (1e3, 2e-5), (-3e4, 2e-4)])
def test_pearson_is_stable_far_from_zero(offset, tolerance):
    """Half a unit in the last place of the offset is 0.001 of the standard deviation in the last case."""
    if offset and keras.backend.backend() == "jax":
        pytest.skip("JAX sums in float32")
    rng = np.random.default_rng(0)
    y = (offset + rng.normal(size=600)).astype("float32")
    p = (y + rng.normal(size=600)).astype("float32")
    metric = PearsonCorrelation()
    for start in range(0, 600, 16):
        metric.update_state(y[start : start + 16], p[start : start + 16])
    assert float(metric.result()) == pytest.approx(pearson(y, p), abs=tolerance)
    assert 0.5 < pearson(y, p) < 0.9


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_pearson_does_not_see_the_scale(scale):
    y, p = np.random.default_rng(0).normal(size=(2, 20))
    expected = pearson(y, p)
    assert value_of(PearsonCorrelation(), y * scale, p * scale) == pytest.approx(expected, abs=1e-5)


@given(st.floats(-100, 100, width=32), st.lists(st.integers(0, 7), min_size=1, max_size=3), st.booleans())
def test_pearson_of_a_constant_is_nan(constant, sizes, weighted):
    """Not what rounding leaves of it: 0.1 is no float32, and the mean of some copies another float32 yet."""
    rng = np.random.default_rng(0)
    metric = PearsonCorrelation()
    for size in sizes:
        weights = rng.uniform(0.1, 3, size).astype("float32") if weighted else None
        y = rng.normal(size=size).astype("float32")
        metric.update_state(y, np.full(size, constant, "float32"), sample_weight=weights)
    assert np.isnan(float(metric.result()))


def test_pearson_of_fewer_than_two_rows_is_nan():
    metric = PearsonCorrelation()
    assert np.isnan(float(metric.result()))
    metric.update_state(np.array([0.3], "float32"), np.array([0.7], "float32"))
    assert np.isnan(float(metric.result()))
    metric.update_state(np.array([0.4], "float32"), np.array([0.6], "float32"))
    assert float(metric.result()) == pytest.approx(-1.0, abs=1e-5)


# === Errors, config, Keras ===


@pytest.mark.parametrize("cls", [BinarySentimentAccuracy, BinarySentimentF1])
def test_unknown_boundary(cls):
    with pytest.raises(
        ValueError, match=r'`boundary` must be "nonnegative" or "positive"\. Received: boundary=\'all\''
    ):
        cls(boundary="all")


@pytest.mark.parametrize("num_classes", [1, 6, -3])
def test_number_of_classes(num_classes):
    message = rf"`num_classes` must be odd and at least 3\. Received: num_classes={num_classes}"
    with pytest.raises(ValueError, match=message):
        SentimentClassAccuracy(num_classes)


def test_unknown_rounding():
    with pytest.raises(ValueError, match=r"`rounding` must be one of .*Received: rounding='up'"):
        SentimentClassAccuracy(7, "up")


def test_the_rounding_is_in_the_configuration():
    metric = SentimentClassAccuracy.from_config(SentimentClassAccuracy(5, "away_from_zero").get_config())
    assert (metric.num_classes, metric.rounding) == (5, "away_from_zero")


def test_compiled_metrics_are_those_of_the_whole_split():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1.5, (37, 1)).astype("float32")
    y = np.round(2 * (x[:, 0] + rng.normal(0, 1, 37))) / 2  # zeros and halves among them
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[0.8]]), np.array([0.1])])
    model.compile(loss="mse", metrics=regression_metrics())
    logs = model.evaluate(x, y.astype("float32"), batch_size=8, verbose=0, return_dict=True)
    prediction = 0.8 * x[:, 0] + 0.1
    for name, oracle in ORACLES.items():
        assert logs[name] == pytest.approx(oracle(y, prediction), abs=1e-5), name
