import inspect

import keras
import numpy as np
import pytest
from oracles import sequence, to_numpy

from keras_misa.layers import DifferencePenalty, MeanEncoder, UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISAClassifier, MISARegressor, UtteranceTask, replace_encoder

pytestmark = pytest.mark.backends
TERMS = {"task", "similarity", "difference", "reconstruction"}
DIMS = {"visual": 3, "acoustic": 2}
LENGTHS = [4, 1, 3, 2, 4]
LABELS = np.array([1.0, -2.0, 0.5, 3.0, 0.0], "float32")


def make(task=MISARegressor, dims=None, backbone=(), **kwargs):
    encoders = {m: UtteranceEncoder(dim, units=2) for m, dim in (dims or DIMS).items()}
    return task(MISABackbone(encoders, hidden_dim=4, **dict(backbone)), feedforward_dim=8, **kwargs)


def make_batch(dims=None, lengths=LENGTHS):
    return {m: sequence(dim, lengths, seed=i) for i, (m, dim) in enumerate((dims or DIMS).items())}


def evaluate(model, batch_size=5, batch=None):
    model.compile(run_eagerly=True)
    return model.evaluate(batch or make_batch(), LABELS, batch_size=batch_size, verbose=0, return_dict=True)


def test_terms_add_up_over_uneven_batches():
    model = make(similarity_weight=0.7, difference_weight=2.0, reconstruction_weight=0.4)
    logs = evaluate(model, batch_size=2)
    total = logs["task"] + 0.7 * logs["similarity"] + 2.0 * logs["difference"] + 0.4 * logs["reconstruction"]
    assert logs["loss"] == pytest.approx(total, abs=1e-5)
    predictions = model.predict(make_batch(), verbose=0)[:, 0]
    assert logs["task"] == pytest.approx(np.mean((predictions - LABELS) ** 2), abs=1e-5)
    # Each batch's terms, weighted by its rows.
    parts = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        batch = keras.tree.map_structure(lambda x, rows=rows: x[rows], make_batch())
        parts.append(model.evaluate(batch, LABELS[rows], verbose=0, return_dict=True))
    for name in TERMS | {"loss"}:
        assert logs[name] == pytest.approx(np.average([p[name] for p in parts], weights=[2, 2, 1]), abs=1e-5), name


def test_logs_of_fit():
    model = make()
    model.compile()
    history = model.fit(make_batch(), LABELS, validation_data=(make_batch(), LABELS), verbose=0).history
    assert {*TERMS, "loss", *(f"val_{t}" for t in TERMS), "val_loss", "mae", "val_corr"} <= set(history)


@pytest.mark.parametrize(
    ("backbone", "task", "terms", "tokens"),
    [
        ({}, {}, TERMS, 4),
        ({"subspaces": ()}, {}, {"task"}, 2),
        ({"subspaces": ("shared",)}, {}, TERMS - {"difference"}, 2),
        ({}, {"fused": ("private",)}, TERMS, 2),
        ({}, {"fused": ("shared",)}, TERMS, 2),
        ({}, {"similarity_weight": 0}, TERMS - {"similarity"}, 4),
        ({}, {"difference_weight": 0}, TERMS - {"difference"}, 4),
        ({}, {"reconstruction_weight": 0}, TERMS - {"reconstruction"}, 4),
    ],
    ids=["MISA", "base", "inv", "sFusion", "iFusion", "no similarity", "no difference", "no reconstruction"],
)
def test_variants(backbone, task, terms, tokens):
    model = make(backbone=backbone, **task)
    logs = evaluate(model)
    assert TERMS & set(logs) == terms
    assert len(model.token_names) == tokens
    assert model.get_layer("head_dense").kernel.shape == (4 * tokens, 2 * tokens)
    assert np.isfinite(list(logs.values())).all()


def test_one_two_and_four_modalities():
    dims = {"text": 2, "visual": 3, "acoustic": 2, "thermal": 4}
    for count in (1, 2, 4):
        chosen = dict(list(dims.items())[:count])
        lengths = [[LENGTHS[(i + shift) % 5] for i in range(5)] for shift in range(count)]  # each its own
        batch = {m: sequence(dim, n) for (m, dim), n in zip(chosen.items(), lengths, strict=True)}
        model = make(dims=chosen)
        assert np.isfinite(list(evaluate(model, batch=batch).values())).all()
        assert len(model.token_names) == 2 * count


def test_the_papers_forms():
    shared = make(shared_decoder=True).get_layer("reconstruction")
    assert len(shared.weights) == 2
    assert make(backbone={"subspace_activation": "tanh"}).get_layer("similarity").bounds == (-1.0, 1.0)
    custom = make(backbone={"subspace_activation": "linear"}, similarity_bounds=(-3.0, 3.0))
    assert custom.get_layer("similarity").bounds == (-3.0, 3.0)


def test_sum_is_the_mean_times_the_entries():
    model = make(difference_reduction="mean")
    other = make(difference_reduction="sum")
    other.set_weights(model.get_weights())
    assert evaluate(other)["difference"] == pytest.approx(16 * evaluate(model)["difference"], rel=1e-5)


def test_errors():
    with pytest.raises(ValueError, match=r"Received: fused=\('private',\)"):
        make(backbone={"subspaces": ("shared",)}, fused=("private",))
    with pytest.raises(ValueError, match=r"similarity_bounds.*Received: subspace_activation='relu'"):
        make(backbone={"subspace_activation": "relu"})
    with pytest.raises(ValueError, match=r"Received: encoders=\{\}"):
        MISABackbone({})
    with pytest.raises(TypeError, match=r"Received: encoders\['text'\]"):
        MISABackbone({"text": keras.layers.Dense(3)})


def test_any_functional_model_is_an_encoder():
    vector = keras.Input((5,), name="embedding")
    encoder = keras.Model(vector, keras.layers.Dense(3)(vector))
    model = MISARegressor(MISABackbone({"text": encoder, "visual": UtteranceEncoder(3)}, hidden_dim=4))
    batch = {"text": np.ones((5, 5), "float32"), "visual": sequence(3, LENGTHS)}
    assert np.isfinite(list(evaluate(model, batch=batch).values())).all()


def test_compile_defaults():
    regressor, classifier = make(), make(MISAClassifier)
    for model in (regressor, classifier):
        model.compile()
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        assert model.optimizer.clipvalue == 1.0
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    assert isinstance(regressor.loss, keras.losses.MeanSquaredError)
    logits = classifier.predict(make_batch(), verbose=0)
    labels = np.array([0, 1, 1, 0, 1])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    logs = classifier.evaluate(make_batch(), labels, verbose=0, return_dict=True)
    assert logs["task"] == pytest.approx(-log_probabilities[np.arange(5), labels].mean(), abs=1e-5)
    assert logs["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 1, 0.5)
    regressor.compile(keras.optimizers.Adam(schedule, clipvalue=1.0))
    regressor.fit(make_batch(), LABELS, verbose=0)
    assert float(regressor.optimizer.learning_rate) == pytest.approx(5e-3)


def test_save_load_fit_further(tmp_path):
    batch = {"text": {"values": np.array([[1, 2, 3, 9]] * 5, "int32"), "lengths": np.array(LENGTHS, "int32")}}
    batch.update(make_batch())
    encoders = {"text": WordUtteranceEncoder(10, 3), **{m: UtteranceEncoder(d) for m, d in DIMS.items()}}
    model = MISARegressor(MISABackbone(encoders, hidden_dim=4), feedforward_dim=8, dropout=0.0, fusion_dropout=0.0)
    model.compile()
    model.fit(batch, LABELS, verbose=0, epochs=2)
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(other.predict(batch, verbose=0), model.predict(batch, verbose=0))
    assert int(other.optimizer.iterations) == 2
    for m in (model, other):
        m.fit(batch, LABELS, verbose=0)
    np.testing.assert_allclose(other.predict(batch, verbose=0), model.predict(batch, verbose=0), atol=1e-5)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        model.export(tmp_path / "saved", verbose=False)
        served = tf.saved_model.load(tmp_path / "saved")
        np.testing.assert_allclose(served.serve(batch), model.predict(batch, verbose=0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_trains(dtype):
    encoders = {m: UtteranceEncoder(dim, dtype=dtype) for m, dim in DIMS.items()}
    model = MISARegressor(MISABackbone(encoders, hidden_dim=4, dtype=dtype), feedforward_dim=8)
    model.compile()
    assert type(model.optimizer).__name__ == ("LossScaleOptimizer" if dtype == "mixed_float16" else "FineTuningAdam")
    before = [np.copy(w) for w in model.get_weights()]
    history = model.fit(make_batch(), LABELS, epochs=12, verbose=0).history
    assert np.isfinite([history[name] for name in TERMS | {"loss"}]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())
    moved = [np.abs(a - b).max() > 0 for a, b in zip(model.get_weights(), before, strict=True)]
    assert np.mean(moved) > 0.9
    assert model.predict(make_batch(), verbose=0).dtype == np.float32


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="XLA is TensorFlow's and JAX's")
def test_xla_takes_the_same_steps():
    histories = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        encoders = {"visual": UtteranceEncoder(3, units=2), "acoustic": MeanEncoder(2)}
        backbone = MISABackbone(encoders, hidden_dim=4)
        model = MISARegressor(backbone, feedforward_dim=8, dropout=0.0, fusion_dropout=0.0)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        histories.append(model.fit(make_batch(), LABELS, epochs=2, verbose=0).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("rows", [1, 3])
def test_identical_rows_and_a_batch_of_one_train(rows):
    model = make(dropout=0.0, fusion_dropout=0.0)
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    batch = {m: sequence(3 if m == "visual" else 2, [3] * rows) for m in DIMS}
    for inputs in batch.values():
        inputs["values"][:] = inputs["values"][:1]
    history = model.fit(batch, np.ones(rows), batch_size=rows, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_explain():
    model = make()
    explained = model.explain(make_batch())
    np.testing.assert_allclose(explained["prediction"], model.predict(make_batch(), verbose=0), atol=1e-6)
    for name in ("projected", "shared", "private", "reconstructed"):
        assert {m: v.shape for m, v in explained[name].items()} == dict.fromkeys(DIMS, (5, 4))
    assert explained["attention"].shape == (5, 2, 4, 4)
    np.testing.assert_allclose(explained["attention"].sum(axis=-1), 1.0, atol=1e-6)
    recomputed = to_numpy(model.backbone(make_batch()))
    np.testing.assert_allclose(explained["shared"]["visual"], recomputed["shared"]["visual"], atol=1e-6)
    assert "reconstructed" not in make(reconstruction_weight=0).explain(make_batch())


def test_activations():
    prelu = make(backbone={"activation": "prelu"})
    (slope,) = prelu.backbone.activation_layer.get_weights()
    assert slope.tolist() == [0.25]
    assert sum("activation" in w.path for w in prelu.weights) == 1
    leaky = make(backbone={"activation": "leaky_relu"}).backbone.activation_layer
    assert float(leaky(np.array([[-1.0]], "float32"))[0, 0]) == pytest.approx(-0.01)


@pytest.mark.parametrize("task", [MISARegressor, MISAClassifier])
def test_every_argument_is_in_the_configuration(task):
    model = make(task)
    for cls, instance in ((MISABackbone, model.backbone), (task.__mro__[1], model)):
        arguments = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
        assert arguments <= set(instance.get_config())
        assert not [name for name in arguments - {"dtype"} if not hasattr(instance, name)]
    changed = {"dropout": 0.2, "difference_weight": 0.9, "num_moments": 3, "shared_decoder": True}
    config = task.from_config(make(task, **changed).get_config()).get_config()
    assert {name: config[name] for name in changed} == changed


def test_sample_weights_weigh_the_task_alone():
    weights = np.array([1.0, 0.0, 2.0, 0.5, 1.0], "float32")
    model = make()
    model.compile(run_eagerly=True)
    plain, weighted = (
        model.evaluate(make_batch(), LABELS, sample_weight=w, batch_size=5, verbose=0, return_dict=True)
        for w in (None, weights)
    )
    errors = (model.predict(make_batch(), verbose=0)[:, 0] - LABELS) ** 2
    assert weighted["task"] == pytest.approx(np.mean(weights * errors), abs=1e-5)
    for name in TERMS - {"task"}:
        assert weighted[name] == pytest.approx(plain[name], abs=1e-6), name


def test_explaining_leaves_training_and_evaluation_as_they_were():
    model = make()
    before = evaluate(model)
    model.explain(make_batch())
    assert model.evaluate(make_batch(), LABELS, batch_size=5, verbose=0, return_dict=True) == pytest.approx(before)
    assert set(model.fit(make_batch(), LABELS, verbose=0).history) >= TERMS


def test_frozen_embeddings_stay_frozen_after_loading(tmp_path):
    encoder = WordUtteranceEncoder(5, 3, trainable_embeddings=False)
    model = MISARegressor(MISABackbone({"text": encoder}, hidden_dim=4), feedforward_dim=8)
    vectors = np.arange(15, dtype="float32").reshape(5, 3)
    encoder.set_vectors(vectors)
    model.compile()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    batch = {"text": {"values": np.array([[1, 2], [3, 4]], "int32"), "lengths": np.array([2, 1], "int32")}}
    loaded.fit(batch, np.ones(2), verbose=0)
    (table,) = loaded.backbone.encoders["text"].embedding.get_weights()
    np.testing.assert_array_equal(table, vectors)


def test_a_part_that_is_frozen_stays_so_after_loading(tmp_path):
    model = make(similarity="adversarial")
    for part in (model.get_layer("similarity"), model.fusion._layers[0], model.backbone.get_layer("visual_projection")):
        part.trainable = False
    expected = [v.path.partition("/")[2] for v in model.trainable_variables]
    assert len(expected) < len(make(similarity="adversarial").trainable_variables)
    model.compile(run_eagerly=True)
    model.fit(make_batch(), LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [v.path.partition("/")[2] for v in loaded.trainable_variables] == expected
    for saved, found in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(saved), to_numpy(found))
    assert int(loaded.optimizer.iterations) == 1
    loaded.backbone.trainable = False
    again = type(loaded).from_config(loaded.get_config())
    assert len(again.trainable_variables) == len(loaded.trainable_variables)


def test_a_part_may_be_trained_in_what_is_frozen():
    model = make()
    model.backbone.trainable = False
    model.backbone.encoders["visual"].layer_norm.trainable = True
    again = type(model).from_config(model.get_config())
    names = [[v.shape for v in m.trainable_variables] for m in (model, again)]
    assert names[0] == names[1]
    flags = [[part.trainable for part in m._flatten_layers()] for m in (model, again)]
    assert flags[0] == flags[1]


def test_encoders_have_names_of_their_own():
    encoders = {"visual": UtteranceEncoder(3, name="same"), "acoustic": UtteranceEncoder(2, name="same")}
    with pytest.raises(ValueError, match=r"give a new one `name=`.*'visual' and 'acoustic' .* 'same'"):
        MISABackbone(encoders)
    model = make(dims={"visual": 3})
    new = UtteranceEncoder(3, units=2, name=model.backbone.encoders["visual"].name)
    assert replace_encoder(model, "visual", new).backbone.encoders["visual"] is new
    with pytest.raises(ValueError, match=r"must be a dict .* Received: encoders=\["):
        MISABackbone([new])


def test_a_sequential_model_is_an_encoder(tmp_path):
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model = MISARegressor(MISABackbone({"visual": encoder}, hidden_dim=4), feedforward_dim=8)
    batch = {"visual": np.ones((2, 3), "float32")}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(batch, verbose=0), model.predict(batch, verbose=0))


@keras.saving.register_keras_serializable("tests")
class SumOfOne(UtteranceTask):
    def default_loss(self):
        return keras.losses.MeanAbsoluteError()

    def default_metrics(self):
        return []


def test_a_task_of_ones_own_saves_and_loads(tmp_path):
    encoder = MeanEncoder(3)
    inputs = {"visual": encoder.make_inputs("visual")}
    vectors = {"projected": {"visual": encoder(inputs["visual"])}}
    vectors["shared"] = vectors["private"] = vectors["projected"]
    vectors = DifferencePenalty(0.5, name="difference")(vectors)
    model = SumOfOne(inputs, keras.layers.Dense(1)(vectors["projected"]["visual"]))
    model.compile(run_eagerly=True)
    batch = {"visual": make_batch()["visual"]}
    model.fit(batch, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    logs = loaded.evaluate(batch, LABELS, verbose=0, return_dict=True)
    assert logs == model.evaluate(batch, LABELS, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["task"] + 0.5 * logs["difference"], rel=1e-6)
    assert logs["task"] == pytest.approx(np.abs(model.predict(batch, verbose=0)[:, 0] - LABELS).mean(), rel=1e-6)


def test_a_saved_model_does_not_bring_its_backends_compiler_along():
    model = make()
    model.compile()
    assert model.get_compile_config()["jit_compile"] is None
    model.compile(jit_compile=False)
    assert model.get_compile_config()["jit_compile"] is False


def test_what_is_frozen_stays_frozen_after_loading(tmp_path):
    model = make()
    whole = len(model.trainable_variables)
    model.backbone.trainable = False
    frozen = len(model.trainable_variables)
    assert 0 < frozen < whole
    model.compile()
    model.fit(make_batch(), LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == frozen
    before = [np.copy(w) for w in loaded.backbone.get_weights()]
    loaded.fit(make_batch(), LABELS, verbose=0)
    for one, other in zip(before, loaded.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    encoders = {m: UtteranceEncoder(dim, trainable=m != "visual") for m, dim in DIMS.items()}
    MISABackbone(encoders, hidden_dim=4)
    assert not encoders["visual"].trainable_variables
    assert encoders["acoustic"].trainable_variables


def test_weights_files_do_not_depend_on_the_order_of_modalities(tmp_path):
    model, other = make(), make(dims=dict(reversed(DIMS.items())))
    model.save_weights(tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    one, two = model.explain(make_batch()), other.explain(make_batch())
    for name in ("projected", "shared", "private", "reconstructed"):
        for modality in DIMS:
            np.testing.assert_allclose(one[name][modality], two[name][modality], atol=1e-6)


@pytest.mark.parametrize("similarity", ["cmd", "mmd", "adversarial"])
def test_each_similarity_loss_trains_saves_and_loads(similarity, tmp_path):
    model = make(similarity=similarity, backbone={"activation": "prelu"})
    model.compile()
    history = model.fit(make_batch(), LABELS, epochs=2, verbose=0).history
    assert np.isfinite(history["similarity"]).all()
    assert history["similarity"][0] > 0
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert other.similarity == similarity
    assert evaluate(other) == pytest.approx(evaluate(model), rel=1e-5, nan_ok=True)


def test_losses_can_be_computed_twice():
    model = make()
    model.compile(run_eagerly=True)
    prediction = model(make_batch(), training=False)
    one, two = (float(model.compute_loss(make_batch(), LABELS, prediction)) for _ in range(2))
    assert one == two


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match="Received: num_outputs=1"):
        make(MISAClassifier, num_outputs=1)
    with pytest.raises(ValueError, match="Received: similarity='kl'"):
        make(similarity="kl")
    with pytest.raises(ValueError, match=r"Received: fused=\(\)"):
        make(fused=())
    with pytest.raises(ValueError, match=r"\(batch, time, 3\)\. Received: \(2, 4, 5\)"):
        UtteranceEncoder(3)(sequence(5, [4, 2]))
    with pytest.raises(ValueError, match="Received: cell='rnn'"):
        UtteranceEncoder(3, cell="rnn")


def test_the_order_of_keys_means_nothing_and_their_names_do():
    model, batch = make(), make_batch()
    batch = keras.tree.map_structure(np.nan_to_num, batch)
    turned = {m: dict(reversed(batch[m].items())) for m in reversed(batch)}
    expected = to_numpy(model(batch, training=False))
    np.testing.assert_allclose(to_numpy(model(turned, training=False)), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(turned, verbose=0), expected, atol=1e-6)
    for wrong, message in (
        ({"visual": batch["visual"]}, r"a batch of \['visual', 'acoustic'\]. Received: \['visual'\]"),
        ({**batch, "smell": batch["visual"]}, r"Received: \['visual', 'acoustic', 'smell'\]"),
        ({**batch, "visual": {"values": batch["visual"]["values"]}}, r"the modality 'visual' of .*\['values'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model(wrong)
