"""Each public layer and model does what a Keras layer must: configuration, saving, export, precision, compiling."""

import keras
import numpy as np
import pytest
from oracles import assert_equal, dtype_of, sequence, to_numpy

from keras_misa import baselines, layers, metrics, models

pytestmark = pytest.mark.backends
VECTORS = {m: np.random.default_rng(i).random((4, 6)).astype("float32") for i, m in enumerate(("text", "visual"))}
REPRESENTATIONS = {name: VECTORS for name in ("projected", "shared", "private")}
SEQUENCE = keras.tree.map_structure(np.nan_to_num, sequence(3, [4, 1, 2, 3]))
PIECES = {"values": np.array([[2, 5, 3], [2, 3, 0]]), "lengths": np.array([3, 2])}
WORDS = {"values": np.array([[1, 2], [3, 0]], "int32"), "lengths": np.array([2, 1], "int32")}


def _backbone(dtype=None, **kwargs):
    encoders = {m: layers.UtteranceEncoder(3, dtype=dtype) for m in ("visual", "acoustic")}
    return models.MISABackbone(encoders, hidden_dim=4, dtype=dtype)


def _bert(layer, **kwargs):
    import keras_nlp

    backbone = keras_nlp.models.BertBackbone(30, 1, 2, 8, 16, max_sequence_length=6)
    return layer(backbone, **kwargs)


def _baseline(name, **kwargs):
    def make(dtype=None):
        encoders = {m: layers.StepEncoder(3, dtype=dtype) for m in ("visual", "acoustic")}
        return getattr(baselines, name)(encoders, num_outputs=2, predicts="classes", dtype=dtype, **kwargs)

    return make, {"visual": SEQUENCE, "acoustic": SEQUENCE}


CASES = {
    "AdversarialSimilarityPenalty": (
        lambda **k: layers.AdversarialSimilarityPenalty(("visual", "text"), 0.2, "tanh", 0.3, 2.0, **k),
        REPRESENTATIONS,
    ),
    "BertEncoder": (lambda **k: _bert(layers.BertEncoder, **k), PIECES),
    "BertStepEncoder": (lambda **k: _bert(layers.BertStepEncoder, **k), PIECES),
    "MMDSimilarityPenalty": (lambda **k: layers.MMDSimilarityPenalty(0.2, **k), REPRESENTATIONS),
    "DifferencePenalty": (lambda **k: layers.DifferencePenalty(0.2, reduction="sum", **k), REPRESENTATIONS),
    "ModalityFusion": (
        lambda **k: layers.ModalityFusion(("visual", "text"), num_heads=3, feedforward_dim=5, dropout=0.2, **k),
        REPRESENTATIONS,
    ),
    "ReconstructionPenalty": (lambda **k: layers.ReconstructionPenalty(0.2, True, **k), REPRESENTATIONS),
    "SharedPrivateProjection": (lambda **k: layers.SharedPrivateProjection(5, activation="tanh", **k), VECTORS),
    "SimilarityPenalty": (lambda **k: layers.SimilarityPenalty(0.2, 3, (-1.0, 1.0), **k), REPRESENTATIONS),
    "StepEncoder": (lambda **k: layers.StepEncoder(3, **k), SEQUENCE),
    "UtteranceEncoder": (lambda **k: layers.UtteranceEncoder(3, units=2, epsilon=1e-3, cell="gru", **k), SEQUENCE),
    "MeanEncoder": (lambda **k: layers.MeanEncoder(3, **k), SEQUENCE),
    "WordStepEncoder": (lambda **k: layers.WordStepEncoder(5, 3, trainable_embeddings=False, **k), WORDS),
    "WordUtteranceEncoder": (lambda **k: layers.WordUtteranceEncoder(5, 3, trainable_embeddings=False, **k), WORDS),
    "MISABackbone": (_backbone, {"visual": SEQUENCE, "acoustic": SEQUENCE}),
    "MISARegressor": (
        lambda **k: models.MISARegressor(_backbone(**k), feedforward_dim=8),
        {"visual": SEQUENCE, "acoustic": SEQUENCE},
    ),
    "MISAClassifier": (
        lambda **k: models.MISAClassifier(_backbone(**k), num_outputs=3, feedforward_dim=8),
        {"visual": SEQUENCE, "acoustic": SEQUENCE},
    ),
    "EarlyFusionLSTM": _baseline("EarlyFusionLSTM", units=3, dropout=0.3),
    "LateFusionLSTM": _baseline("LateFusionLSTM", units={"visual": 2, "acoustic": 3}, hidden_dim=4),
    "TensorFusionNetwork": _baseline("TensorFusionNetwork", units=2, head_dim=4, averaged=("visual",), l2=0.1),
    "LowRankFusion": _baseline("LowRankFusion", units=2, rank=3, averaged=("acoustic",)),
    "MemoryFusionNetwork": _baseline(
        "MemoryFusionNetwork", units=2, memory_dim=3, attention_dim=4, proposal_dim=3, gate_dim=2, head_dim=3
    ),
    "MultimodalTransformer": _baseline(
        "MultimodalTransformer", hidden_dim=4, num_heads=2, num_layers=1, kernel_size=3, causal=False
    ),
    "FactorizedMultimodalModel": _baseline(
        "FactorizedMultimodalModel", multimodal_encoder="lstm", units=2, latent_dim=3, factor_dim=2
    ),
}
OTHERS = {"Penalty", "MISATask", "UtteranceTask", "replace_encoder"}  # no layer that can be made


def test_no_public_layer_is_missing():
    assert set(CASES) == {*layers.__all__, *models.__all__, *baselines.__all__} - OTHERS


@pytest.fixture(params=CASES)
def case(request):
    if request.param in baselines.__all__ and keras.backend.backend() != "tensorflow":
        pytest.skip("for time: of baselines, other backends run what tests/baselines_test.py marks")
    return CASES[request.param]


def in_model(layer, inputs):
    """A functional model around the layer, with a flat list of outputs; a task stays itself."""
    if isinstance(layer, models.UtteranceTask):
        return layer
    if hasattr(layer, "make_inputs"):
        symbolic = layer.make_inputs("x")
    elif isinstance(layer, keras.Model):
        symbolic = layer.input
    else:
        names = iter("abcdef")
        symbolic = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=next(names)), inputs)
    return keras.Model([symbolic], keras.tree.flatten(layer(symbolic)))


def test_configuration(case):
    layer = case[0]()
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_keras_file(case, tmp_path):
    make, inputs = case
    model = in_model(make(), inputs)
    x = inputs if isinstance(model, models.UtteranceTask) else [inputs]
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(to_numpy(other(x)), to_numpy(model(x)), atol=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel is TensorFlow's")
def test_saved_model(case, tmp_path):
    import tensorflow as tf

    make, inputs = case
    model = in_model(make(), inputs)
    x = inputs if isinstance(model, models.UtteranceTask) else [inputs]
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    served, expected = loaded.serve(x), model(x, training=False)
    assert_equal(to_numpy(keras.tree.flatten(served)), to_numpy(keras.tree.flatten(expected)))
    nodes = [
        node for f in loaded.signatures["serving_default"].graph.as_graph_def().library.function for node in f.node_def
    ]
    assert len(nodes) > 0
    assert not [node.name for node in nodes if node.op.startswith("Assign")]
    if isinstance(model, models.UtteranceTask):
        assert not [node.name for node in nodes if any(penalty.name in node.name for penalty in model.penalties)]


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(case, dtype):
    make, inputs = case
    expected = make()
    layer = make(dtype=dtype)
    full = to_numpy(expected(inputs))
    layer(inputs)
    layer.set_weights(expected.get_weights())
    half = keras.tree.map_structure(lambda x: to_numpy(keras.ops.cast(x, "float32")), layer(inputs))
    assert_equal(half, full, atol=0.15)
    assert {dtype_of(loss) for loss in layer.losses} <= {"float32"}


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="no XLA")
def test_jit(case):
    make, inputs = case
    layer = make()
    expected = to_numpy(layer(inputs, training=False))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: layer(x, training=False), jit_compile=True)
    else:
        import jax

        state = [[v.value for v in part] for part in (layer.trainable_variables, layer.non_trainable_variables)]
        compiled = jax.jit(lambda x: layer.stateless_call(*state, x)[0])
    assert_equal(to_numpy(compiled(inputs)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", sorted(set(layers.__all__) - OTHERS))
def test_what_is_declared_is_what_is_given(name, dtype):
    make, inputs = CASES[name]
    layer = make(dtype=dtype)
    declared = layer(keras.tree.map_structure(lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), inputs))
    given = layer(inputs)
    assert describe(declared) == describe(given)
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), given)
    assert layer.compute_output_shape(keras.tree.map_structure(lambda x: x.shape, inputs)) == shapes
    of_any_batch = keras.tree.map_structure(lambda x: (None, *x.shape[1:]), given)
    assert layer.compute_output_shape(keras.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs)) == of_any_batch


def test_the_attention_is_declared_too():
    make, inputs = CASES["ModalityFusion"]
    for dtype in ("float32", "mixed_bfloat16"):
        layer = make(dtype=dtype)
        symbolic = keras.tree.map_structure(lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), inputs)
        given = layer(inputs, return_attention_scores=True)
        assert describe(layer(symbolic, return_attention_scores=True)) == describe(given)


def describe(outputs):
    """Shapes and dtypes, with the order of keys, which is that of a model's outputs."""
    if isinstance(outputs, dict):
        return [(key, describe(value)) for key, value in outputs.items()]
    if isinstance(outputs, tuple):
        return [describe(value) for value in outputs]
    return tuple(outputs.shape), dtype_of(outputs)


METRICS = {
    "BinarySentimentAccuracy": {"boundary": "positive"},
    "BinarySentimentF1": {"boundary": "positive"},
    "PearsonCorrelation": {},
    "SentimentClassAccuracy": {"num_classes": 5},
}


def test_no_public_metric_is_missing():
    assert set(METRICS) == {name for name in metrics.__all__ if isinstance(getattr(metrics, name), type)}


@pytest.mark.parametrize("name", METRICS)
def test_metric_comes_back_from_its_configuration(name):
    metric = getattr(metrics, name)(**METRICS[name], name="other")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    y, p = np.array([-2.0, 0.0, 1.0, 2.6]), np.array([-1.0, 0.5, 1.4, -2.0])
    for m in (metric, copy):
        m.update_state(y, p)
    assert float(copy.result()) == float(metric.result())
    assert (copy.name, copy.get_config()) == ("other", metric.get_config())
