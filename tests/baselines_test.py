"""The baselines against loops in NumPy, one row and one step after the other."""

import inspect
import itertools
import json

import keras
import numpy as np
import pytest
from oracles import lstm, sequence, sigmoid, to_numpy, weight_gradients

from keras_misa import baselines
from keras_misa.baselines import (
    EarlyFusionLSTM,
    FactorizedMultimodalModel,
    LateFusionLSTM,
    LowRankFusion,
    MemoryFusionNetwork,
    MultimodalTransformer,
    TensorFusionNetwork,
)
from keras_misa.layers import MeanEncoder, StepEncoder, UtteranceEncoder, WordStepEncoder, WordUtteranceEncoder

MFN = {"units": 2, "memory_dim": 3, "attention_dim": 4, "proposal_dim": 3, "gate_dim": 2}
# Wide enough before the output that ReLU kills no layer whole, whatever the backend's random numbers.
MODELS = {
    "ef_lstm": lambda e, **k: EarlyFusionLSTM(e, **{"units": 3, "hidden_dim": 8, **k}),
    "lf_lstm": lambda e, **k: LateFusionLSTM(e, **{"units": 2, "hidden_dim": 8, **k}),
    "tfn": lambda e, **k: TensorFusionNetwork(e, **{"units": 3, "head_dim": 16, **k}),
    "lmf": lambda e, **k: LowRankFusion(e, **{"units": 2, "rank": 3, **k}),
    "mfn": lambda e, **k: MemoryFusionNetwork(e, **{**MFN, "head_dim": 8, **k}),
    "mult": lambda e, **k: MultimodalTransformer(e, **{"hidden_dim": 4, "num_heads": 2, "num_layers": 1, **k}),
    "mfm": lambda e, **k: FactorizedMultimodalModel(e, **{**MFN, "latent_dim": 2, "factor_dim": 6, **k}),
}
DIMS = {"visual": 3, "acoustic": 2}
TENSOR_DIMS = {"visual": 3, "acoustic": 2, "text": 4}
TENSOR_UNITS = {"visual": 2, "acoustic": 3, "text": 1}
LENGTHS = [4, 1, 3]
LABELS = np.array([1.0, -2.0, 0.5], "float32")


def make(name, dims=None, **kwargs):
    """A small model with weights that show mistakes: no bias is zero."""
    model = MODELS[name]({m: StepEncoder(dim) for m, dim in (dims or DIMS).items()}, **kwargs)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(size=w.shape, scale=0.3) if w.ndim else w for w in model.get_weights()])
    return model


def make_batch(dims=None, lengths=LENGTHS):
    lengths = lengths if isinstance(lengths, dict) else dict.fromkeys(dims or DIMS, lengths)
    return {m: sequence(dim, lengths[m], seed=i) for i, (m, dim) in enumerate((dims or DIMS).items())}


def predict(model, batch):
    return to_numpy(model(batch, training=False))


def rows_of(batch):
    """For each row, dict of modality → its real steps."""
    for row in range(len(next(iter(batch.values()))["lengths"])):
        yield {m: part["values"][row, : part["lengths"][row]].astype("float64") for m, part in batch.items()}


def weights_of(layer):
    return [np.asarray(w, "float64") for w in layer.get_weights()]


def dense(layer, x, activation=None):
    kernel, bias = weights_of(layer)
    x = x @ kernel + bias
    return np.maximum(x, 0.0) if activation == "relu" else x


def relu(x):
    return np.maximum(x, 0.0)


@pytest.mark.backends
class TestLSTMs:
    def test_early_fusion_is_a_loop_over_joined_steps(self):
        model, batch = make("ef_lstm"), make_batch()
        get, expected = model.get_layer, []
        for row in rows_of(batch):
            state = lstm(np.hstack([row["visual"], row["acoustic"]]), *weights_of(get("lstm")))[-1]
            expected.append(dense(get("head_output"), dense(get("head_dense"), state, "relu")))
        np.testing.assert_allclose(predict(model, batch), expected, atol=1e-5)

    def test_late_fusion_is_a_loop_for_each_modality(self):
        model, batch = make("lf_lstm"), make_batch(lengths={"visual": [4, 1, 3], "acoustic": [2, 5, 3]})
        get, expected = model.get_layer, []
        for row in rows_of(batch):
            states = [lstm(row[m], *weights_of(get(f"{m}_lstm")))[-1] for m in DIMS]
            expected.append(dense(get("head_output"), dense(get("head_dense"), np.hstack(states), "relu")))
        np.testing.assert_allclose(predict(model, batch), expected, atol=1e-5)

    @pytest.mark.parametrize("name", ["ef_lstm", "mfn"])
    def test_a_modality_that_has_ended_counts_as_zeros(self, name):
        model, batch = make(name), make_batch(lengths={"visual": [4, 2], "acoustic": [2, 3]})
        filled = {
            m: {"values": np.zeros((2, 4, dim), "float32"), "lengths": np.array([4, 3])} for m, dim in DIMS.items()
        }
        for m, part in batch.items():
            for row, length in enumerate(part["lengths"]):
                filled[m]["values"][row, :length] = part["values"][row, :length]
        np.testing.assert_allclose(predict(model, batch), predict(model, filled), atol=1e-6)


@pytest.mark.backends
class TestTensorFusion:
    def vectors(self, name, averaged):
        """The model, its prediction, and each row's vectors by modality."""
        model, batch = make(name, TENSOR_DIMS, units=TENSOR_UNITS, averaged=averaged), make_batch(TENSOR_DIMS)
        vectors = []
        for row in rows_of(batch):
            vectors.append({})
            for m, steps in row.items():
                network = model.get_layer(f"{m}_network")
                if m in averaged:
                    x = steps.mean(axis=0)
                    for layer in network.denses:
                        x = dense(layer, x, "relu")
                else:
                    state = lstm(steps, *weights_of(network.pooling))[-1]
                    x = dense(network.denses[0], state, "relu" if name == "tfn" else None)
                vectors[-1][m] = x
        return model, predict(model, batch), vectors

    @staticmethod
    def tensor(vectors):
        tensor = np.ones(())
        for vector in vectors.values():
            tensor = np.multiply.outer(tensor, np.append(vector, 1.0))
        return tensor

    @pytest.mark.parametrize("averaged", [(), ("acoustic", "visual")])
    def test_tfn_is_the_outer_product_with_ones(self, averaged):
        model, actual, vectors = self.vectors("tfn", averaged)
        expected = []
        for row in vectors:
            x = self.tensor(row)
            assert x.shape == (3, 4, 2)
            assert x[-1, -1, -1] == 1.0
            x = dense(model.get_layer("head_dense_1"), x.ravel(), "relu")
            expected.append(dense(model.get_layer("head_output"), dense(model.get_layer("head_dense_2"), x, "relu")))
        np.testing.assert_allclose(actual, expected, atol=1e-5)

    @pytest.mark.parametrize("averaged", [(), ("acoustic",)])
    def test_lmf_is_tfns_tensor_times_the_factorised_weight(self, averaged):
        model, actual, vectors = self.vectors("lmf", averaged)
        fusion = model.get_layer("fusion")
        factors = {m: np.asarray(to_numpy(fusion.factors[m]), "float64") for m in TENSOR_DIMS}
        (scale,) = to_numpy(fusion.fusion_weights)
        weight = sum(
            scale[r] * np.einsum("i,j,k->ijk", *(factors[m][0, :, r] for m in TENSOR_DIMS)) for r in range(model.rank)
        )
        expected = [[(weight * self.tensor(row)).sum() + to_numpy(fusion.bias)[0]] for row in vectors]
        np.testing.assert_allclose(actual, expected, atol=1e-5)

    def test_each_output_of_lmf_has_factors_of_its_own(self):
        model = make("lmf", num_outputs=3)
        fusion = model.get_layer("fusion")
        vectors = {m: np.random.default_rng(0).normal(size=(2, 2)).astype("float32") for m in DIMS}
        expected = np.zeros((2, 3))
        for row, out, r in itertools.product(range(2), range(3), range(3)):
            term = to_numpy(fusion.fusion_weights)[0, r]
            for m in DIMS:
                term *= np.append(vectors[m][row], 1.0) @ to_numpy(fusion.factors[m])[out, :, r]
            expected[row, out] += term
        np.testing.assert_allclose(to_numpy(fusion(vectors)), expected + to_numpy(fusion.bias), atol=1e-5)

    def test_the_log_tells_the_weights_regulariser(self):
        model = make("tfn", l2=0.5)
        model.compile(run_eagerly=True)
        logs = model.evaluate(make_batch(), LABELS, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(logs["task"] + logs["regularization"], rel=1e-5)
        kernels = [w for w in model.trainable_variables if w.regularizer]
        assert len(kernels) == 5  # two subnetworks, two hidden layers, the output
        assert logs["regularization"] == pytest.approx(0.5 * sum((to_numpy(w) ** 2).sum() for w in kernels), rel=1e-5)
        assert "regularization" not in make("tfn", l2=0.0)._term_trackers
        model.trainable = False
        model.compile(run_eagerly=True)
        assert model.evaluate(make_batch(), LABELS, verbose=0, return_dict=True)["regularization"] == 0


def memory_fusion(layer, row):
    """`MemoryFusion` of one row, step by step as the paper has it."""
    modalities = list(layer.units)
    h, c = ({m: np.zeros(layer.units[m]) for m in modalities} for _ in range(2))
    u = np.zeros(layer.memory_dim)
    recurrent, *rest = weights_of(layer.memory)
    kernels, biases = rest[:2], rest[2:]
    for step in range(len(row[modalities[0]])):
        before = np.concatenate([c[m] for m in modalities])
        for m in modalities:
            kernel, recurrent_kernel, bias = weights_of(layer.lstms[m])
            i, f, g, o = np.split(row[m][step] @ kernel + h[m] @ recurrent_kernel + bias, 4)
            c[m] = sigmoid(f) * c[m] + sigmoid(i) * np.tanh(g)
            h[m] = sigmoid(o) * np.tanh(c[m])
        change = np.concatenate([before, *(c[m] for m in modalities)])
        scores = np.exp(dense(layer.attention, dense(layer.attention_hidden, change, "relu")))
        attended = scores / scores.sum() * change
        proposal = np.tanh(dense(layer.proposal, dense(layer.proposal_hidden, attended, "relu")))
        hidden = relu(dense(layer.gates_hidden, attended) + u @ recurrent)
        retain, update = (
            sigmoid(part @ kernel + bias)
            for part, kernel, bias in zip(np.split(hidden, 2), kernels, biases, strict=True)
        )
        u = retain * u + update * proposal
    return np.concatenate([*(h[m] for m in modalities), u])


@pytest.mark.backends
def test_mfn_step_by_step():
    model, batch = make("mfn", units={"visual": 2, "acoustic": 3}), make_batch()
    get, expected = model.get_layer, []
    for row in rows_of(batch):
        hidden = dense(get("head_dense"), memory_fusion(get("fusion"), row), "relu")
        expected.append(dense(get("head_output"), hidden))
    np.testing.assert_allclose(predict(model, batch), expected, atol=1e-5)


def test_dropout_of_mfn_is_drawn_anew_for_every_step(monkeypatch):
    model = make("mfn", dropout=0.5)
    call, seen = keras.layers.RNN.call, []

    def spy(layer, sequences, *args, **kwargs):
        if layer is model.get_layer("fusion").memory:
            seen.append(to_numpy(sequences))
        return call(layer, sequences, *args, **kwargs)

    monkeypatch.setattr(keras.layers.RNN, "call", spy)
    model(make_batch(lengths=[40, 40, 40]), training=True)
    kept = seen[0][:, :, 2 * MFN["gate_dim"] : 4 * MFN["gate_dim"]]
    assert set(np.unique(kept)) == {0.0, 2.0}
    for row in range(3):
        assert (kept[row, 1:] != kept[row, :-1]).any()
    one, two = (to_numpy(model(make_batch(), training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 0


def transformer(layer, target, source):
    """`CrossmodalTransformer` of one row, a step and a head at a time; `source` is None for self-attention."""
    units = target.shape[1]

    def embed(x):
        half = units // 2
        out = np.sqrt(units) * x
        for t, k in itertools.product(range(len(x)), range(half)):
            angle = (t + 1) / 10000.0 ** (k / max(half - 1, 1))
            out[t, k] += np.sin(angle)
            out[t, half + k] += np.cos(angle)
        return out

    def norm(layer, x):
        gamma, beta = weights_of(layer)
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * gamma + beta

    x = embed(target)
    s = None if source is None else embed(source)
    for block in layer.blocks:
        query = norm(block["attention_norm"], x)
        key = query if s is None else norm(block["attention_norm"], s)
        wq, bq, wk, bk, wv, bv, wo, bo = weights_of(block["attention"])
        attended = np.tile(bo, (len(x), 1))
        for head, t in itertools.product(range(layer.num_heads), range(len(x))):
            seen = range(min(len(key), t + abs(len(query) - len(key)) + 1)) if layer.causal else range(len(key))
            q = query[t] @ wq[:, head] + bq[head]
            scores = np.exp([q @ (key[k] @ wk[:, head] + bk[head]) / np.sqrt(len(q)) for k in seen])
            value = sum(a * (key[k] @ wv[:, head] + bv[head]) for a, k in zip(scores / scores.sum(), seen, strict=True))
            attended[t] += value @ wo[head]
        x = x + attended
        hidden = dense(block["intermediate_dense"], norm(block["feedforward_norm"], x), "relu")
        x = x + dense(block["output_dense"], hidden)
    return norm(layer.output_norm, x)


@pytest.mark.backends
@pytest.mark.parametrize("causal", [True, False])
def test_mult_is_attention_of_real_steps(causal):
    dims = {"visual": 3, "acoustic": 2, "text": 2}
    model = make("mult", dims, causal=causal, kernel_size=3 if causal else 1)
    batch = make_batch(dims, {"visual": [4, 1], "acoustic": [2, 3], "text": [3, 5]})
    get, expected = model.get_layer, []
    for row in rows_of(batch):
        projected = {}
        for m, steps in row.items():
            (kernel,) = weights_of(get(f"{m}_projection"))
            wide = np.pad(steps, ((len(kernel) // 2,) * 2, (0, 0)))
            projected[m] = np.array(
                [sum(wide[t + k] @ kernel[k] for k in range(len(kernel))) for t in range(len(steps))]
            )
        last = []
        for m in dims:
            gathered = [transformer(get(f"{n}_to_{m}"), projected[m], projected[n]) for n in dims if n != m]
            last.append(transformer(get(f"{m}_memory"), np.hstack(gathered), None)[-1])
        h = np.concatenate(last)
        h = h + dense(get("head_dense"), dense(get("head_hidden"), h, "relu"))
        expected.append(dense(get("head_output"), h))
    np.testing.assert_allclose(predict(model, batch), expected, atol=1e-4)


@pytest.mark.backends
class TestMFM:
    @pytest.mark.parametrize("encoder", ["mfn", "lstm"])
    def test_terms_and_prediction(self, encoder):
        model, batch = make("mfm", multimodal_encoder=encoder, reconstruction_weight=0.7), make_batch()
        get = model.get_layer

        def perceptron(name, x, activation="relu"):
            first, _, second = get(name).layers
            return dense(second, dense(first, x, "relu"), activation)

        codes, decoded, predictions = [], [], []
        for row in rows_of(batch):
            fusion = get("fusion")
            if encoder == "mfn":
                joint = memory_fusion(fusion, row)
            else:
                joint = np.concatenate([lstm(row[m], *weights_of(fusion.lstms[m]))[-1] for m in DIMS])
            z = {"multimodal": dense(get("multimodal_code"), joint)}
            z.update((m, dense(get(f"{m}_code"), lstm(row[m], *weights_of(get(f"{m}_lstm")))[-1])) for m in DIMS)
            f = {name: perceptron(f"{name}_factor", code) for name, code in z.items()}
            codes.append(z)
            decoded.append({m: self.decode(get(f"{m}_decoder"), f["multimodal"], f[m], len(row[m])) for m in DIMS})
            predictions.append(perceptron("head", f["multimodal"], None))
        np.testing.assert_allclose(predict(model, batch), predictions, atol=1e-5)
        rows = list(rows_of(batch))
        reconstruction = sum(
            np.mean(np.concatenate([((row[m] - x[m]) ** 2).ravel() for row, x in zip(rows, decoded, strict=True)]))
            for m in DIMS
        )
        similarity = sum(self.discrepancy(np.array([z[name] for z in codes])) for name in codes[0])
        task = np.mean((np.array(predictions)[:, 0] - LABELS) ** 2)
        model.compile(run_eagerly=True)
        logs = model.evaluate(batch, LABELS, verbose=0, return_dict=True)
        assert logs["reconstruction"] == pytest.approx(reconstruction, rel=1e-4)
        assert logs["similarity"] == pytest.approx(similarity, rel=1e-3, abs=1e-6)
        assert logs["task"] == pytest.approx(task, rel=1e-4)
        assert logs["loss"] == pytest.approx(task + 0.7 * reconstruction + 10.0 * similarity, rel=1e-4)

    @staticmethod
    def decode(decoder, shared, own, steps):
        x, h, c = np.concatenate([shared, own]), *np.zeros((2, len(shared) + len(own)))
        kernel, recurrent, bias = weights_of(decoder.lstm)
        decoded = []
        for _ in range(steps):
            i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            x = h = sigmoid(o) * np.tanh(c)
            decoded.append(dense(decoder.dense, h))
        return np.array(decoded)

    @staticmethod
    def discrepancy(z):
        """By Gauss-Hermite quadrature over the prior, of two dimensions."""
        nodes, shares = np.polynomial.hermite_e.hermegauss(40)
        shares = shares / shares.sum()
        prior = np.array(list(itertools.product(nodes, nodes)))
        shares = np.array([a * b for a, b in itertools.product(shares, shares)])

        def kernel(x, y):
            return np.exp(-((x[:, None] - y[None]) ** 2).sum(axis=-1) / z.shape[1] ** 2)

        among = kernel(z, z).mean() - 2.0 * (kernel(z, prior) @ shares).mean()
        return among + shares @ kernel(prior, prior) @ shares

    def test_parts_can_be_left_out(self):
        whole = make("mfm")
        bare = make("mfm", reconstruction_weight=0, similarity_weight=0)
        assert [p.name for p in whole.penalties] == ["similarity", "reconstruction"]
        assert not bare.penalties
        names = {w.path for w in bare.weights}
        assert not [name for name in names if "decoder" in name or "visual_factor" in name]

    def test_inference_has_no_decoders(self):
        model = make("mfm")
        inference = model.inference_model()
        assert not [w.path for w in inference.weights if "decoder" in w.path or "visual_code" in w.path]
        answer = to_numpy(inference(make_batch()))["prediction"]
        np.testing.assert_allclose(answer, predict(model, make_batch()), atol=1e-6)


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def test_padding_and_other_rows_change_nothing(name):
    model, batch = make(name), make_batch()
    expected = predict(model, batch)
    assert np.isfinite(expected).all()
    assert np.ptp(expected) > 1e-3
    for garbage in (0.0, 1e30):
        other = {m: {**p, "values": np.nan_to_num(p["values"], nan=garbage)} for m, p in batch.items()}
        np.testing.assert_allclose(predict(model, other), expected, atol=1e-6)
    longer = {
        m: {**p, "values": np.pad(p["values"], ((0, 0), (0, 3 + i), (0, 0)), constant_values=np.nan)}
        for i, (m, p) in enumerate(batch.items())
    }
    np.testing.assert_allclose(predict(model, longer), expected, atol=1e-6)
    for row, length in enumerate(LENGTHS):
        alone = {
            m: {"values": p["values"][row : row + 1, :length], "lengths": p["lengths"][row : row + 1]}
            for m, p in batch.items()
        }
        np.testing.assert_allclose(predict(model, alone)[0], expected[row], atol=1e-5)


def test_gradients_are_finite_and_reach_every_weight(name):
    model = make(name)
    model.set_weights([np.abs(w) + 1.0 if w.ndim == 1 else w for w in model.get_weights()])  # no dead ReLU
    # Two rows without a modality, one without any: in a batch with holes something is missing.
    batch = make_batch(lengths={"visual": [4, 0, 2, 0], "acoustic": [4, 3, 0, 0]})

    def total():
        prediction = model(batch, training=True)
        return keras.ops.mean(keras.ops.square(prediction - 1.0)) + sum(model.losses)

    gradients = weight_gradients(total, model.trainable_variables)
    assert all(np.isfinite(g).all() for g in gradients)
    idle = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if not g.any()]
    # Keys' biases move no softmax.
    assert not [path for path in idle if not ("key" in path and "bias" in path)]


def test_learns_a_batch_by_heart_and_logs_its_terms(name):
    quiet = {n: 0.0 for n in inspect.signature(type(make(name)).__init__).parameters if n.endswith("dropout")}
    model = make(name, **quiet, **({"l2": 0.0} if name == "tfn" else {}))
    model.compile(keras.optimizers.Adam(0.03))
    history = model.fit(make_batch(), LABELS, epochs=40, verbose=0).history
    assert {"loss", "task", "mae", *(penalty.name for penalty in model.penalties)} <= set(history)
    assert np.isfinite(history["loss"]).all()
    assert history["task"][-1] < 0.2 * history["task"][0]
    if model.penalties:
        assert history["reconstruction"][-1] < history["reconstruction"][0]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_modalities(name, count):
    dims = dict(list({"text": 2, "visual": 3, "acoustic": 2, "thermal": 4}.items())[:count])
    if name == "mult" and count == 1:
        with pytest.raises(ValueError, match=r"there must be two\. Received: \['text'\]"):
            make(name, dims)
        return
    model = make(name, dims, predicts="classes", num_outputs=3)
    batch = make_batch(dims)
    assert predict(model, batch).shape == (3, 3)
    turned = {m: dict(reversed(batch[m].items())) for m in reversed(batch)}
    np.testing.assert_allclose(predict(model, turned), predict(model, batch), atol=1e-6)


def test_classes():
    model = make("lf_lstm", predicts="classes", num_outputs=2)
    model.compile(run_eagerly=True)
    logits, labels = predict(model, make_batch()), np.array([0, 1, 1])
    logs = model.evaluate(make_batch(), labels, verbose=0, return_dict=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert logs["task"] == pytest.approx(-log_probabilities[np.arange(3), labels].mean(), abs=1e-5)
    assert logs["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == labels))


def test_encoders_of_misa_serve_too():
    table = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    words = WordUtteranceEncoder(7, 3, trainable_embeddings=False)
    words.set_vectors(table)
    model = LateFusionLSTM({"text": words, "visual": UtteranceEncoder(3), "acoustic": MeanEncoder(2)}, units=2)
    kinds = {m: type(encoder).__name__ for m, encoder in model.encoders.items()}
    assert kinds == {"text": "WordStepEncoder", "visual": "StepEncoder", "acoustic": "StepEncoder"}
    assert not model.encoders["text"].trainable_variables
    ids = np.array([[3, 6, 1], [2, 999, -5], [4, 4, 0]], "int32")  # beyond the length anything may stand
    batch = {"text": {"values": ids, "lengths": np.array([3, 1, 2], "int32")}, **make_batch()}
    steps = to_numpy(model.encoders["text"](batch["text"]))
    np.testing.assert_array_equal(steps["values"][0], table[[3, 6, 1]])
    np.testing.assert_array_equal(steps["values"][1], np.stack([table[2], 0 * table[0], 0 * table[0]]))
    looked_up = {**batch, "text": {**batch["text"], "values": steps["values"]}}
    other = LateFusionLSTM({m: StepEncoder(dim) for m, dim in {"text": 3, **DIMS}.items()}, units=2)
    other.set_weights(model.get_weights()[1:])
    np.testing.assert_allclose(predict(other, looked_up), predict(model, batch), atol=1e-6)


def test_the_tasks_loss_has_all_its_digits_beside_a_large_one():
    model, batch = make("mfm"), make_batch()
    batch["visual"]["values"] = 5000 * batch["visual"]["values"]
    model.compile()
    logs = model.evaluate(batch, LABELS, verbose=0, return_dict=True)
    expected = np.mean((model.predict(batch, verbose=0)[:, 0].astype("float64") - LABELS) ** 2)
    assert logs["reconstruction"] > 1e6 * expected
    assert logs["task"] == pytest.approx(expected, rel=1e-6)


def test_what_is_frozen_in_an_encoder_stays_so_where_its_steps_are_taken():
    import keras_nlp

    from keras_misa.layers import BertEncoder
    from keras_misa.models import MISABackbone, MISARegressor

    bert = BertEncoder(keras_nlp.models.BertBackbone(30, 2, 2, 8, 16, max_sequence_length=6))
    bert.backbone.token_embedding.trainable = False
    first = MISARegressor(MISABackbone({"text": bert, "visual": MeanEncoder(3)}, hidden_dim=4))
    paths = [v.path for v in first.trainable_variables]
    MODELS["tfn"]({"text": bert, "visual": StepEncoder(3)})
    assert [v.path for v in first.trainable_variables] == paths
    bert.trainable = False
    tfn = MODELS["tfn"]({"text": bert, "visual": StepEncoder(3)})
    assert not bert.trainable_variables
    assert not tfn.encoders["text"].trainable_variables
    words = WordUtteranceEncoder(7, 3)
    words.trainable = False
    model = MODELS["tfn"]({"text": words, "visual": StepEncoder(3)})
    assert not model.encoders["text"].trainable_variables


def test_steps_of_bert():
    import keras_nlp

    from keras_misa.layers import BertEncoder

    text = BertEncoder(keras_nlp.models.BertBackbone(30, 1, 2, 8, 16, max_sequence_length=6), trainable_from=None)
    model = MODELS["tfn"]({"text": text, "visual": StepEncoder(3)})
    batch = {"values": np.array([[2, 5, 3], [2, 3, 9]], "int32"), "lengths": np.array([3, 2], "int32")}
    steps = to_numpy(model.encoders["text"](batch))
    assert not steps["values"][1, 2].any()
    for row, length in enumerate(batch["lengths"]):
        mean = steps["values"][row, :length].mean(axis=0)
        np.testing.assert_allclose(mean, to_numpy(text(batch))[row], atol=1e-5)
    assert not [w for w in model.trainable_variables if "bert" in w.path]
    assert np.isfinite(predict(model, {"text": batch, "visual": sequence(3, [2, 1])})).all()


def test_saves_and_trains_on(name, tmp_path):
    model = MODELS[name]({"text": WordStepEncoder(9, 2), "visual": StepEncoder(3)})
    ids = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 8, 0]], "int32")
    batch = {
        "text": {"values": ids, "lengths": np.array(LENGTHS, "int32")},
        "visual": make_batch()["visual"],
    }
    model.compile(run_eagerly=True)
    model.fit(batch, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(other, batch), predict(model, batch))
    assert int(other.optimizer.iterations) == 1
    assert json.dumps(other.get_config(), default=str) == json.dumps(model.get_config(), default=str)
    model.inference_model().save(tmp_path / "inference.keras")
    inference = keras.models.load_model(tmp_path / "inference.keras")
    np.testing.assert_array_equal(to_numpy(inference(batch)["prediction"]), predict(model, batch))
    model.encoders["text"].trainable = False
    next(layer for layer in model.layers if layer.weights and layer not in model.encoders.values()).trainable = False
    frozen = len(model.trainable_variables)
    model.save(tmp_path / "frozen.keras")
    assert len(keras.models.load_model(tmp_path / "frozen.keras").trainable_variables) == frozen


def test_every_argument_is_in_the_configuration(name):
    model = make(name)
    arguments = set(inspect.signature(type(model).__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(model.get_config())
    assert not [argument for argument in arguments - {"dtype"} if not hasattr(model, argument)]


def test_half_precision_trains(name):
    encoders = {m: StepEncoder(dim, dtype="mixed_bfloat16") for m, dim in DIMS.items()}
    model = MODELS[name](encoders, dtype="mixed_bfloat16")
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    history = model.fit(make_batch(), LABELS, epochs=2, verbose=0).history
    assert np.isfinite([history[term] for term in model._term_trackers]).all()
    assert predict(model, make_batch()).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predicts": "labels"}, "Received: predicts='labels'"),
        ({"predicts": "classes"}, "Received: num_outputs=1"),
        ({"num_outputs": 0}, "Received: num_outputs=0"),
        ({"dropout": 1.0}, r"in \[0, 1\)\. Received: dropout=1.0"),
    ],
)
def test_wrong_values_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(name, **arguments)


def test_wrong_values_of_single_models_are_named():
    with pytest.raises(ValueError, match=r"\['visual', 'acoustic'\]\. Received: units=\{'visual': 2\}"):
        make("lf_lstm", units={"visual": 2})
    with pytest.raises(ValueError, match="Received: rank=0"):
        make("lmf", rank=0)
    with pytest.raises(ValueError, match="Received: l2=-1"):
        make("tfn", l2=-1)
    with pytest.raises(ValueError, match=r"Received: averaged=\['smell'\]"):
        make("tfn", averaged=("smell",))
    with pytest.raises(ValueError, match="Received: num_heads=3, hidden_dim=4"):
        make("mult", num_heads=3)
    with pytest.raises(ValueError, match="Received: multimodal_encoder='gru'"):
        make("mfm", multimodal_encoder="gru")
    with pytest.raises(ValueError, match="No modality may be called 'multimodal'"):
        make("mfm", {"multimodal": 2})
    with pytest.raises(ValueError, match=r"Received: encoders=\{\}"):
        LateFusionLSTM({})
    vector = keras.Input((5,))
    with pytest.raises(TypeError, match=r"Received: encoders\['text'\]"):
        LateFusionLSTM({"text": keras.Model(vector, keras.layers.Dense(3)(vector))})
    with pytest.raises(ValueError, match=r"\(batch, time, 3\)\. Received: \(2, 4, 5\)"):
        StepEncoder(3)(sequence(5, [4, 2]))


def test_every_baseline_is_here():
    assert {type(make(name)).__name__ for name in MODELS} == set(baselines.__all__)
