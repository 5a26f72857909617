import itertools
import re

import keras
import numpy as np
import pytest
from oracles import assert_equal, dtype_of, gradient, layer_norm, sequence, to_numpy, utterance_vector

from keras_misa.layers import (
    AdversarialSimilarityPenalty,
    DifferencePenalty,
    MeanEncoder,
    ModalityFusion,
    Penalty,
    ReconstructionPenalty,
    SharedPrivateProjection,
    SimilarityPenalty,
    StepEncoder,
    UtteranceEncoder,
    WordStepEncoder,
    WordUtteranceEncoder,
)
from keras_misa.losses import central_moment_discrepancy, orthogonality

pytestmark = pytest.mark.backends
MODALITIES = ("text", "visual", "acoustic")


def vectors(seed=0, rows=4, units=6, modalities=MODALITIES):
    rng = np.random.default_rng(seed)
    return {m: rng.random((rows, units)).astype("float32") for m in modalities}


def representations(**kwargs):
    return {name: vectors(seed, **kwargs) for seed, name in enumerate(("projected", "shared", "private"))}


class TestUtteranceEncoder:
    def test_equals_a_plain_loop(self):
        encoder = UtteranceEncoder(3, units=2)
        inputs = sequence(3, [5, 1, 3])
        actual = to_numpy(encoder(inputs))
        for row, (values, length) in enumerate(zip(inputs["values"], inputs["lengths"], strict=True)):
            np.testing.assert_allclose(actual[row], utterance_vector(encoder, values[:length]), atol=1e-6)

    @pytest.mark.parametrize("garbage", [0.0, 1e30, np.inf, np.nan])
    def test_what_stands_in_padded_steps_changes_nothing_at_all(self, garbage):
        encoder = UtteranceEncoder(3)
        inputs = sequence(3, [4, 2, 0])
        values = np.where(np.isnan(inputs["values"]), np.float32(garbage), inputs["values"])
        other = {**inputs, "values": values}
        np.testing.assert_array_equal(to_numpy(encoder(other)), to_numpy(encoder(inputs)))

    def test_more_padding_changes_nothing(self):
        encoder = UtteranceEncoder(3)
        short, long = sequence(3, [4, 2]), sequence(3, [4, 2], time=19)
        long["values"][:, :4] = short["values"]
        np.testing.assert_allclose(to_numpy(encoder(long)), to_numpy(encoder(short)), atol=1e-6)

    def test_gradient_is_zero_in_padded_steps_and_finite(self):
        encoder = UtteranceEncoder(3)
        inputs = sequence(3, [4, 2, 0])

        def total(values):
            return keras.ops.sum(encoder({**inputs, "values": values}))

        total(inputs["values"])
        slope = gradient(total, inputs["values"])
        assert np.isfinite(slope).all()
        assert not slope[np.isnan(inputs["values"])].any()
        assert slope[0].any()

    def test_empty_utterance_gives_zeros(self):
        encoder = UtteranceEncoder(3)
        inputs = sequence(3, [2, 0])
        encoder(inputs)
        rng = np.random.default_rng(0)  # with zero biases a zeroed step would give zeros anyway
        encoder.set_weights([rng.normal(size=w.shape) for w in encoder.get_weights()])
        outputs = to_numpy(encoder(inputs))
        assert outputs[0].all()
        assert not outputs[1].any()

    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    @pytest.mark.parametrize("lengths", [[0, 0], [2, 0]])
    def test_no_steps_at_all_give_zeros(self, cell, lengths):
        encoder = UtteranceEncoder(3, units=2, cell=cell)
        encoder(sequence(3, [2, 1]))
        encoder.set_weights([np.ones(w.shape) for w in encoder.get_weights()])
        nothing = {"values": np.zeros((2, 0, 3), "float32"), "lengths": np.array(lengths)}
        np.testing.assert_array_equal(to_numpy(encoder(nothing)), np.zeros((2, 8)))

    def test_errors(self):
        with pytest.raises(ValueError, match="Received: feature_dim=0"):
            UtteranceEncoder(0)
        with pytest.raises(ValueError, match="Received: units=-1"):
            UtteranceEncoder(3, units=-1)


class TestWordUtteranceEncoder:
    def test_is_the_encoder_of_the_looked_up_vectors(self):
        table = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
        encoder = WordUtteranceEncoder(7, 3)
        encoder.set_vectors(table)
        ids = np.array([[3, 6, 1], [2, 999, -5]], "int32")  # beyond the length anything may stand
        actual = to_numpy(encoder({"values": ids, "lengths": np.array([3, 1], "int32")}))
        np.testing.assert_allclose(actual[0], utterance_vector(encoder, table[[3, 6, 1]]), atol=1e-6)
        np.testing.assert_allclose(actual[1], utterance_vector(encoder, table[[2]]), atol=1e-6)

    @pytest.mark.parametrize("trainable", [True, False])
    def test_frozen_means_frozen(self, trainable):
        encoder = WordUtteranceEncoder(7, 3, trainable_embeddings=trainable)
        inputs = encoder.make_inputs("text")
        model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)))
        model.compile("sgd", "mse", run_eagerly=True)
        before = to_numpy(encoder.embedding.embeddings)
        batch = {"values": np.array([[3, 6], [2, 1]], "int32"), "lengths": np.array([2, 1], "int32")}
        model.fit(batch, np.array([5.0, -5.0]), verbose=0)
        changed = np.flatnonzero((to_numpy(encoder.embedding.embeddings) != before).any(axis=1))
        assert changed.tolist() == ([2, 3, 6] if trainable else [])

    def test_errors(self):
        with pytest.raises(ValueError, match="Received: vocabulary_size=0"):
            WordUtteranceEncoder(0, 3)
        with pytest.raises(ValueError, match=r"shape \(7, 3\). Received: vectors.shape=\(7, 4\)"):
            WordUtteranceEncoder(7, 3).set_vectors(np.zeros((7, 4)))


class TestSharedPrivateProjection:
    def test_equation_2(self):
        layer = SharedPrivateProjection(5)
        inputs = vectors()
        inputs["visual"] = inputs["text"]
        outputs = to_numpy(layer(inputs))
        assert_equal(outputs["projected"], inputs, atol=0)
        np.testing.assert_array_equal(outputs["shared"]["text"], outputs["shared"]["visual"])
        assert np.abs(outputs["private"]["text"] - outputs["private"]["visual"]).max() > 1e-3
        assert layer.count_params() == 4 * (6 * 5 + 5)
        for subspace, modality in itertools.product(("shared", "private"), MODALITIES):
            kernel, bias = layer.encoder(subspace, modality).get_weights()
            expected = 1 / (1 + np.exp(-(inputs[modality] @ kernel + bias)))
            np.testing.assert_allclose(outputs[subspace][modality], expected, atol=1e-6)

    @pytest.mark.parametrize("subspaces", [(), ("shared",), ("private",)])
    def test_makes_only_what_is_asked_for(self, subspaces):
        outputs = SharedPrivateProjection(5, subspaces)(vectors())
        assert set(outputs) == {"projected", *subspaces}

    def test_errors(self):
        with pytest.raises(ValueError, match=r"Received: subspaces=\('shared', 'public'\)"):
            SharedPrivateProjection(5, ["shared", "public"])
        with pytest.raises(ValueError, match=r"Received: subspaces=\('shared', 'shared'\)"):
            SharedPrivateProjection(5, ["shared", "shared"])
        with pytest.raises(ValueError, match=r"same size.*'text': 6.*'visual': 7"):
            SharedPrivateProjection(5)({"text": np.zeros((2, 6)), "visual": np.zeros((2, 7))})


class TestPenalties:
    def test_similarity_is_the_mean_over_pairs(self):
        r = representations()
        layer = SimilarityPenalty(0.7, num_moments=3, bounds=(-1.0, 1.0))
        layer(r)
        pairs = itertools.combinations(r["shared"].values(), 2)
        expected = np.mean([float(central_moment_discrepancy(x, y, 3, (-1.0, 1.0))) for x, y in pairs])
        assert float(layer.losses[0]) == pytest.approx(0.7 * expected, rel=1e-5)
        assert float(layer.term) == pytest.approx(expected, rel=1e-5)

    def test_difference_sums_three_and_three_pairs(self):
        r = representations()
        s, p = r["shared"], r["private"]
        pairs = [(s[m], p[m]) for m in MODALITIES]
        pairs += [(p["text"], p["visual"]), (p["text"], p["acoustic"]), (p["visual"], p["acoustic"])]
        for reduction in ("mean", "sum"):
            layer = DifferencePenalty(0.3, reduction)
            layer(r)
            expected = sum(float(orthogonality(x, y, reduction)) for x, y in pairs)
            assert float(layer.losses[0]) == pytest.approx(0.3 * expected, rel=1e-5)

    @pytest.mark.parametrize("shared_decoder", [False, True])
    @pytest.mark.parametrize("subspaces", [("shared", "private"), ("shared",), ("private",)])
    def test_reconstruction(self, shared_decoder, subspaces):
        r = representations()
        r = {name: r[name] for name in ("projected", *subspaces)}
        layer = ReconstructionPenalty(0.5, shared_decoder)
        layer(r)
        assert len(layer.weights) == (2 if shared_decoder else 6)
        errors = []
        for m in MODALITIES:
            kernel, bias = layer.decoder(m).get_weights()
            errors.append(np.mean((sum(r[s][m] for s in subspaces) @ kernel + bias - r["projected"][m]) ** 2))
        assert float(layer.losses[0]) == pytest.approx(0.5 * np.mean(errors), rel=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
    @pytest.mark.parametrize("penalty", [SimilarityPenalty, DifferencePenalty, ReconstructionPenalty])
    def test_identity_and_float32_whatever_the_policy(self, penalty, dtype):
        policy = keras.dtype_policies.get(dtype)
        keras.config.set_dtype_policy(policy)
        r = keras.tree.map_structure(lambda x: keras.ops.cast(x, policy.compute_dtype), representations())
        layer = penalty()
        outputs = layer(r)
        for before, after in zip(keras.tree.flatten(r), keras.tree.flatten(outputs), strict=True):
            assert dtype_of(after) == dtype_of(before)
            assert_equal(to_numpy(keras.ops.cast(after, "float32")), to_numpy(keras.ops.cast(before, "float32")), 0)
        assert dtype_of(layer.losses[0]) == "float32"

    def test_adversarial_is_the_cross_entropy_of_a_discriminator_behind_reversed_gradients(self):
        layer = AdversarialSimilarityPenalty(
            ("visual", "text"), weight=0.5, activation="tanh", dropout=0.0, reversal=3.0
        )
        shared = {m: x for m, x in vectors().items() if m != "acoustic"}
        layer({"shared": shared})
        (w_1, b_1), (w_2, b_2) = layer.hidden_dense.get_weights(), layer.output_dense.get_weights()

        def cross_entropy(x, label):
            logits = np.tanh(x @ w_1 + b_1) @ w_2 + b_2
            return -np.mean(logits[:, label] - np.log(np.exp(logits).sum(axis=1)))

        expected = (cross_entropy(shared["visual"], 0) + cross_entropy(shared["text"], 1)) / 2
        assert float(layer.losses[0]) == pytest.approx(0.5 * expected, abs=1e-6)

        def term(x):
            return layer.compute_term({"shared": {"text": keras.ops.convert_to_tensor(shared["text"]), "visual": x}})

        slopes = gradient(term, shared["visual"])
        step = np.zeros_like(shared["visual"])
        step[1, 2] = 1e-3
        slope = (cross_entropy(shared["visual"] + step, 0) - cross_entropy(shared["visual"] - step, 0)) / 2e-3 / 2
        assert slopes[1, 2] == pytest.approx(-3.0 * slope, rel=1e-2)

    def test_one_modality_alone(self):
        r = representations(modalities=("text",))
        layer = SimilarityPenalty()
        layer(r)
        assert float(layer.losses[0]) == 0.0

    def test_errors(self):
        for penalty in (SimilarityPenalty, DifferencePenalty, ReconstructionPenalty):
            with pytest.raises(ValueError, match="Received: weight=0"):
                penalty(0)
        with pytest.raises(ValueError, match="Received: reduction='max'"):
            DifferencePenalty(reduction="max")
        with pytest.raises(ValueError, match="Received: num_moments=0"):
            SimilarityPenalty(num_moments=0)
        with pytest.raises(ValueError, match="Received: reversal=0"):
            AdversarialSimilarityPenalty(["text"], reversal=0)
        with pytest.raises(ValueError, match=r"needs the vectors \['private'\]"):
            DifferencePenalty()({"shared": vectors()})
        for bounds in ((1.0, 0.0), (0.0, 1.0, 2.0)):
            with pytest.raises(ValueError, match="Received: bounds="):
                SimilarityPenalty(bounds=bounds)
        with pytest.raises(ValueError, match=r"Received representations: \['projected'\]"):
            ReconstructionPenalty()({"projected": vectors()})
        with pytest.raises(TypeError, match="compute_term"):
            Penalty()(representations())


class TestModalityFusion:
    def test_is_a_post_norm_transformer_layer(self):
        fused = ("private", "shared")
        fusion = ModalityFusion(MODALITIES, fused, num_heads=2, feedforward_dim=7)
        r = representations()
        output, attention = to_numpy(fusion(r, return_attention_scores=True))
        tokens = np.stack([r[s][m] for s in fused for m in MODALITIES], axis=1)
        weights = {w.path.split("/", 1)[1]: to_numpy(w) for w in fusion.weights}

        def w(name):
            (key,) = [key for key in weights if key.endswith(name)]
            return weights[key]

        def project(name):
            return np.einsum("btd,dhk->bhtk", tokens, w(f"{name}/kernel")) + w(f"{name}/bias")[:, None, :]

        query, key, value = project("query"), project("key"), project("value")
        scores = np.einsum("bhqk,bhtk->bhqt", query, key) / np.sqrt(3)
        scores = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        mixed = np.einsum("bhqt,bhtk->bqhk", scores, value)
        attended = np.einsum("bqhk,hkd->bqd", mixed, w("attention_output/kernel")) + w("attention_output/bias")
        x = layer_norm(tokens + attended, w("attention_norm/gamma"), w("attention_norm/beta"))
        hidden = np.maximum(x @ w("intermediate_dense/kernel") + w("intermediate_dense/bias"), 0)
        hidden = hidden @ w("output_dense/kernel") + w("output_dense/bias")
        expected = layer_norm(x + hidden, w("output_norm/gamma"), w("output_norm/beta"))
        np.testing.assert_allclose(attention, scores, atol=1e-5)
        np.testing.assert_allclose(output, expected.reshape(4, -1), atol=2e-5)

    def test_order_of_the_dicts_is_nothing(self):
        fusion = ModalityFusion(MODALITIES, feedforward_dim=7)
        r = representations()
        expected = to_numpy(fusion(r))
        turned = {name: dict(reversed(v.items())) for name, v in reversed(r.items())}
        np.testing.assert_array_equal(to_numpy(fusion(turned)), expected)
        assert fusion.token_names[1:3] == [("shared", "visual"), ("shared", "acoustic")]

    def test_errors(self):
        with pytest.raises(ValueError, match=r"Received: fused=\('public',\)"):
            ModalityFusion(MODALITIES, ["public"])
        with pytest.raises(ValueError, match=r"at least one.*Received: fused=\(\)"):
            ModalityFusion(MODALITIES, ())
        with pytest.raises(ValueError, match="Received: num_heads=0"):
            ModalityFusion(MODALITIES, num_heads=0)
        with pytest.raises(ValueError, match="Received: num_heads=4, vectors of size 6"):
            ModalityFusion(MODALITIES, num_heads=4)(representations())


class TestStepEncoder:
    @pytest.mark.parametrize("encoder", [StepEncoder(3), WordStepEncoder(5, 3)])
    def test_no_steps_at_all_are_one_that_is_not_real(self, encoder):
        shape = (2, 0) if isinstance(encoder, WordStepEncoder) else (2, 0, 3)
        inputs = {"values": np.zeros(shape, "int32" if len(shape) == 2 else "float32"), "lengths": np.array([0, 2])}
        steps = encoder(inputs)
        np.testing.assert_array_equal(to_numpy(steps["values"]), np.zeros((2, 1, 3)))
        np.testing.assert_array_equal(to_numpy(steps["lengths"]), [0, 0])
        symbolic = encoder({"values": keras.Input(shape[1:], dtype=inputs["values"].dtype), "lengths": keras.Input(())})
        assert tuple(symbolic["values"].shape) == (None, 1, 3)


class TestMeanEncoder:
    @pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
    def test_many_steps_are_added_in_full_precision(self, dtype):
        values = np.full((1, 500, 1), 200.0, "float32")
        mean = MeanEncoder(1, dtype=dtype)({"values": values, "lengths": np.array([500])})
        assert float(keras.ops.cast(mean, "float32")[0, 0]) == 200.0

    def test_a_length_beyond_the_steps_counts_those_that_are_there(self):
        inputs = {"values": np.ones((2, 3, 1), "float32"), "lengths": np.array([5, 0])}
        np.testing.assert_array_equal(to_numpy(MeanEncoder(1)(inputs)), [[1.0], [0.0]])


@pytest.mark.parametrize(
    ("make", "dtype", "shape", "expected"),
    [
        (lambda: StepEncoder(3), "float32", (3, 3), r"values of shape \(batch, time, 3\)"),
        (lambda: StepEncoder(3), "float32", (3, 3, 4), r"values of shape \(batch, time, 3\)"),
        (lambda: MeanEncoder(3), "float32", (3, 3), r"values of shape \(batch, time, 3\)"),
        (lambda: UtteranceEncoder(3), "float32", (3, 3), r"values of shape \(batch, time, 3\)"),
        (lambda: UtteranceEncoder(3), "float32", (3, 2, 2, 3), r"values of shape \(batch, time, 3\)"),
        (lambda: WordStepEncoder(5, 3), "int32", (3, 3, 3), r"ids of shape \(batch, time\)"),
        (lambda: WordUtteranceEncoder(5, 3), "int32", (3, 3, 3), r"ids of shape \(batch, time\)"),
        (lambda: WordUtteranceEncoder(5, 3), "int32", (3,), r"ids of shape \(batch, time\)"),
    ],
)
def test_values_of_another_rank_or_size_are_refused(make, dtype, shape, expected):
    inputs = {"values": np.ones(shape, dtype), "lengths": np.array([3, 2, 1])}
    with pytest.raises(ValueError, match=rf"Expected {expected}\. Received: {re.escape(str(shape))}"):
        make()(inputs)
