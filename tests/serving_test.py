"""The client, by gRPC and REST, against SavedModels behind the official protos; and against servers that fail."""

import concurrent.futures
import contextlib
import copy
import http.server
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_runs import WORDS, write_run
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from keras_misa.export import export_run
from keras_misa.serving import ServingClient, ServingError, UtteranceError, transport
from keras_misa.serving.request_encoding import RequestEncoding

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")

TRANSPORTS = ("grpc", "rest")
DIMS = {"text": None, "visual": 3, "acoustic": 2}
CLASSES = ["sad", "glad", "mad"]
MAX_LENGTH = 40
SERVICER = pathlib.Path(__file__).with_name("prediction_servicer.py")


# === Models, utterances, a server ===


def make_utterances(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "words": [str(word) for word in rng.choice([*WORDS, "unheard"], rng.integers(1, 9))],
            "visual": rng.normal(size=(rng.integers(1, 12), 3)).astype("float32"),
            "acoustic": rng.normal(size=(rng.integers(1, 20), 2)).astype("float32"),
        }
        for _ in range(count)
    ]


UTTERANCES = make_utterances(30)


def as_asked(utterance, flavour):
    """An utterance as a client has it."""
    ids = {word: row for row, word in enumerate(["<unk>", "<pad>", *WORDS])}
    values = {m: utterance[m] for m in ("visual", "acoustic")}
    if flavour == "moods_tokens":
        return values
    text = [ids.get(word, 0) for word in utterance["words"]] if flavour.endswith("tokens") else utterance["words"]
    return {"text": text, **values}


def as_batch(utterances, dims):
    """Utterances as Keras takes them, padded by hand."""
    rows = [as_asked(u, "scores_tokens") for u in utterances]
    batch = {}
    for modality in dims:
        values = [np.asarray(row[modality]) for row in rows]
        padded = np.zeros((len(rows), max(map(len, values)), *values[0].shape[1:]), values[0].dtype)
        for row, value in enumerate(values):
            padded[row, : len(value)] = value
        batch[modality] = {"values": padded, "lengths": np.array([len(value) for value in values], "int32")}
    return batch


class Served:
    """Models in service, and what Keras says of the same utterances."""

    def __init__(self, root):
        self.root = root
        self.names = ("scores_tokens", "scores_text", "moods_tokens", "updated_tokens")
        entries = "\n".join(
            f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}'
            for name in self.names
        )
        (root / "models.config").write_text(f"model_config_list {{ {entries} }}")
        command = [sys.executable, SERVICER, "--models", root / "models.config", "--base", root / "served"]
        self.process = subprocess.Popen(
            [*map(str, command), "--batch-timeout-micros", "5000"], stdout=subprocess.PIPE, text=True
        )

    def prepare(self):
        """Models appear while the server is there already."""
        root = self.root
        runs = {
            "scores": (DIMS, {}),
            "newer": (DIMS, {"seed": 1}),
            "moods": ({"visual": 3, "acoustic": 2}, {"class_names": CLASSES, "modality_dropout": 0.2}),
        }
        self.expected = {}
        for name, (dims, arguments) in runs.items():
            model = write_run(root / "runs" / name, dims, **arguments)
            self.expected[name] = model.explain(as_batch(UTTERANCES, dims), batch_size=len(UTTERANCES))
            flavours = None if name == "scores" else ("tokens",)
            export_run(root / "runs" / name, root / "served", name, flavours, MAX_LENGTH)
        shutil.copytree(root / "served/scores_tokens", root / "copy")
        (root / "copy").rename(root / "served/updated_tokens")
        _, *ports = self.process.stdout.readline().split()
        self.targets = {name: f"127.0.0.1:{port}" for name, port in zip(TRANSPORTS, ports, strict=True)}
        for name in self.names:
            with self.client("grpc", name) as client:
                client.wait_until_ready(300)

    def client(self, transport, model="scores_tokens", **arguments):
        return ServingClient(self.targets[transport], model, transport, **{"timeout": 60, **arguments})

    def counts(self):
        url = f"http://{self.targets['rest']}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url) as answer:
            lines = answer.read().decode().splitlines()
        return {name: int(value) for name, value in map(str.split, lines)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("serving"))
    try:
        served.prepare()
        yield served
    finally:
        served.process.terminate()
        served.process.wait()


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport_name(request):
    return request.param


def scores(answers):
    return [answer["score"] for answer in answers]


# === Answers ===


@pytest.mark.parametrize("flavour", ["scores_tokens", "scores_text"])
def test_scores_are_those_of_the_keras_model(served, transport_name, flavour):
    expected = served.expected["scores"]["prediction"][:, 0]
    rows = [as_asked(utterance, flavour) for utterance in UTTERANCES]
    with served.client(transport_name, flavour, batch_size=7) as client:
        answers = client.predict(iter(rows))  # in five requests
        assert scores(answers) == pytest.approx(expected, abs=1e-5)
        assert answers[0].keys() == {"score", "problem"}
        assert isinstance(answers[0]["score"], float)
        for size in (1, 2, 6):
            assert scores(client.predict(rows[:size])) == pytest.approx(expected[:size], abs=1e-5)
        assert client.predict(rows[3]) == {"score": pytest.approx(expected[3], abs=1e-5), "problem": ""}
        assert client.predict([]) == []


def test_a_sentence_is_its_words(served, transport_name):
    words = ["good", "naïve", "日本", "films"]
    row = {**as_asked(UTTERANCES[0], "scores_text"), "text": words}
    with served.client(transport_name, "scores_text") as client:
        first, *others = client.predict([row, {**row, "text": " ".join(words)}, {**row, "text": np.array(words)}])
    assert np.isfinite(first["score"])
    assert scores(others) == pytest.approx([first["score"]] * 2, abs=1e-5)


def test_classes_have_names(served, transport_name):
    logits = served.expected["moods"]["prediction"].astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    with served.client(transport_name, "moods_tokens") as client:
        answers = client.predict([as_asked(utterance, "moods_tokens") for utterance in UTTERANCES])
    for answer, row in zip(answers, expected, strict=True):
        assert answer["class"] == CLASSES[row.argmax()]
        assert answer["probabilities"] == pytest.approx(dict(zip(CLASSES, row, strict=True)), abs=1e-5)
        assert answer.keys() == {"class", "probabilities", "problem"}


@pytest.mark.parametrize("flavour", ["scores_tokens", "scores_text"])
def test_representations_and_explanations_are_those_of_the_keras_model(served, transport_name, flavour):
    expected = served.expected["scores"]
    rows = [as_asked(utterance, flavour) for utterance in UTTERANCES]
    with served.client(transport_name, flavour, batch_size=16) as client:
        representations, explanations = client.representations(rows), client.explain(rows)
    for number, (vectors, explanation) in enumerate(zip(representations, explanations, strict=True)):
        for subspace in ("projected", "shared", "private"):
            assert vectors[subspace].keys() == DIMS.keys()
            for modality, vector in vectors[subspace].items():
                np.testing.assert_allclose(vector, expected[subspace][modality][number], atol=1e-5)
                assert vector.dtype == np.float32
        np.testing.assert_allclose(explanation["attention"], expected["attention"][number], atol=1e-5)
        assert explanation["score"] == pytest.approx(expected["prediction"][number, 0], abs=1e-5)
        assert explanation["token_names"][:2] == ["shared text", "shared visual"]
        assert vectors["problem"] == explanation["problem"] == ""


def test_what_is_described(served, transport_name):
    with served.client(transport_name) as client:
        described = client.describe()
        assert client.status() == {1: "AVAILABLE"}
    assert (described["model"], described["version"]) == ("scores_tokens", 1)
    assert list(described["modalities"].items()) == [
        ("acoustic", {"kind": "vectors", "dim": 2}),
        ("text", {"kind": "ids"}),
        ("visual", {"kind": "vectors", "dim": 3}),
    ]
    assert described["signatures"].keys() == {"serving_default", "encoded", "representations", "explain"}
    assert described["signatures"]["encoded"]["inputs"]["visual"] == {"dtype": "string", "shape": (None,)}
    padded = described["signatures"]["serving_default"]
    assert padded["inputs"]["visual"] == {"dtype": "float32", "shape": (None, None, 3)}
    assert padded["inputs"]["visual_lengths"] == {"dtype": "int32", "shape": (None,)}
    assert padded["outputs"]["problem"]["dtype"] == "string"
    with served.client(transport_name, "scores_text") as client:
        assert client.describe()["modalities"]["text"] == {"kind": "sentence"}


def test_a_version_may_be_named(served, transport_name):
    row = as_asked(UTTERANCES[0], "scores_tokens")
    with served.client(transport_name, version=1) as client:
        assert client.predict(row)["score"] == pytest.approx(served.expected["scores"]["prediction"][0, 0], abs=1e-5)
        assert client.status() == {1: "AVAILABLE"}
    with served.client(transport_name, version=9) as client:
        with pytest.raises(ServingError, match=r"version 9, metadata: NOT_FOUND: .*Specific\(scores_tokens, 9\)"):
            client.predict(row)
        with pytest.raises(ServingError, match="version 9"):
            client.status()


def test_models_that_the_server_does_not_have(served, transport_name):
    with served.client(transport_name, "other") as client:
        with pytest.raises(ServingError, match=r"model 'other', metadata: NOT_FOUND") as caught:
            client.describe()
        assert (caught.value.model, caught.value.status) == ("other", "NOT_FOUND")
        assert caught.value.target == served.targets[transport_name]
        with pytest.raises(ServingError, match=r"not ready after 0\.5 s"):
            client.wait_until_ready(0.5)


# === What the client refuses ===

GOOD = as_asked(UTTERANCES[0], "scores_tokens")
SENTENCE = as_asked(UTTERANCES[0], "scores_text")
BAD = {
    "dimensions": ({**GOOD, "visual": np.ones((4, 2))}, r"visual: expected numbers, \(steps, 3\).* shape \(4, 2\)"),
    "rank": ({**GOOD, "acoustic": np.ones(2)}, r"acoustic: expected numbers, \(steps, 2\).* shape \(2,\)"),
    "empty": ({**GOOD, "visual": np.ones((0, 3))}, r"visual: expected.* one step or more.* \(0, 3\)"),
    "no_ids": ({**GOOD, "text": []}, r"text: expected ids .*Received: text=float64 of shape \(0,\)"),
    "nan": ({**GOOD, "visual": [[0.0, np.nan, 1.0]]}, r"visual: expected finite.*Received: visual\[0\]\[1\]=nan"),
    "infinite": ({**GOOD, "visual": [[0.0, 0.0, 1e39]]}, r"visual: expected finite.*visual\[0\]\[2\]=inf"),
    "unknown": ({**GOOD, "smell": [[1.0]]}, r"no such modality; the model has acoustic, text, visual.*'smell'"),
    "missing": ({m: GOOD[m] for m in ("text", "visual")}, r"acoustic is missing.*modalities=\['text', 'visual'\]"),
    "ragged": ({**GOOD, "visual": [[1.0], [1.0, 2.0]]}, r"visual: expected numbers, \(steps, 3\).*ragged"),
    "objects": ({**GOOD, "visual": [["a", "b", "c"]]}, r"visual: expected numbers"),
    "sentence": ({**GOOD, "text": "good films"}, r"text: expected ids of words.*Received: text='good films'"),
    "fractions": ({**GOOD, "text": [1.5]}, r"text: expected ids of words.*float64"),
    "negative": ({**GOOD, "text": [2, -1]}, r"text: expected ids of 0 or more.*-1"),
    "huge_id": ({**GOOD, "text": [2**40]}, r"text: expected ids of 0 or more, of 32 bits.*1099511627776"),
}
BAD_SENTENCES = {
    "ids": ({**SENTENCE, "text": [1, 2]}, r"text: expected a sentence or a list of words.*int64 of shape \(2,\)"),
    "bytes": ({**SENTENCE, "text": b"good"}, r"text: expected a sentence.*Received: text=b'good'"),
    "blank": ({**SENTENCE, "text": " \t"}, r"text: expected one word or more.*' \\t'"),
    "no_words": ({**SENTENCE, "text": []}, r"text: expected one word or more"),
    "surrogate": ({**SENTENCE, "text": "a\ud800"}, r"text: expected Unicode"),
}
# The model knows better than the client.
UNUSABLE = {
    "long": ({**GOOD, "visual": np.ones((MAX_LENGTH + 1, 3))}, rf"visual: length {MAX_LENGTH + 1}; expected 1 to"),
    "huge": ({**GOOD, "acoustic": np.ones((100_000, 2))}, r"acoustic: length 100000; expected 1 to"),
    "id": ({**GOOD, "text": [2, 99]}, r"text: an id out of range; expected 0 to 9"),
    "none": ({**GOOD, "visual": None}, r"visual: length 0; expected 1 to"),
}


@pytest.mark.parametrize("method", ["predict", "representations", "explain"])
def test_bad_utterances_are_refused_before_they_are_sent(served, transport_name, method):
    for model, good, cases in (("scores_tokens", GOOD, BAD), ("scores_text", SENTENCE, BAD_SENTENCES)):
        with served.client(transport_name, model) as client:
            client.describe()
            before = served.counts().get("requests", 0)
            for utterance, message in cases.values():
                with pytest.raises(UtteranceError, match=f"(?s)Utterance 1 cannot be used: {message}") as caught:
                    getattr(client, method)([good, utterance])
                assert caught.value.problems.keys() == {1}
            assert served.counts().get("requests", 0) == before


@pytest.mark.parametrize("method", ["predict", "explain"])
def test_what_the_model_refuses_is_said_too(served, transport_name, method):
    with served.client(transport_name) as client:
        for utterance, message in UNUSABLE.values():
            with pytest.raises(UtteranceError, match=f"Utterance 0 cannot be used: {message}"):
                getattr(client, method)(utterance)
        with pytest.raises(UtteranceError, match=r"Utterance 2 .* \(and 1 other, see `problems`\)") as caught:
            getattr(client, method)([GOOD, GOOD, UNUSABLE["id"][0], UNUSABLE["none"][0]])
        assert caught.value.problems.keys() == {2, 3}


@pytest.mark.parametrize("method", ["predict", "representations", "explain"])
def test_bad_utterances_leave_the_others_as_they_are(served, transport_name, method):
    cases = {**BAD, **UNUSABLE}
    if method != "predict":
        del cases["huge"]  # a hundred thousand steps of zeros for each row of the request
    rows = [row for utterance, _ in cases.values() for row in (utterance, GOOD)]
    with served.client(transport_name, batch_size=8) as client:
        answers = getattr(client, method)(rows, on_problem="return")
        (good,) = getattr(client, method)([GOOD])
    for (_, message), bad, other in zip(cases.values(), answers[::2], answers[1::2], strict=True):
        assert re.match(f"(?s){message}", bad["problem"])
        assert other["problem"] == ""
        if method == "representations":
            assert np.isnan(bad["shared"]["text"]).all()
            np.testing.assert_allclose(other["shared"]["text"], good["shared"]["text"], atol=1e-5)
        else:
            assert np.isnan(bad["score"])
            assert other["score"] == pytest.approx(good["score"], abs=1e-5)


def test_a_modality_may_be_missing_where_the_model_knows_of_it(served, transport_name):
    row = as_asked(UTTERANCES[0], "moods_tokens")
    with served.client(transport_name, "moods_tokens") as client:
        for method in (client.predict, client.explain):
            whole, part, nothing = method(
                [row, {**row, "visual": None}, {"visual": None, "acoustic": None}], on_problem="return"
            )
            assert whole["problem"] == part["problem"] == ""
            assert sum(part["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert part["probabilities"] != pytest.approx(whole["probabilities"], abs=1e-5)
            assert nothing["problem"] == "no modality at all; expected at least one"
            assert nothing["class"] == ""
            assert np.isnan(list(nothing["probabilities"].values())).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transport": "http"}, r"`transport` must be one of.*Received: transport='http'"),
        ({"target": "http://localhost:8500"}, r"`target` must be .*Received: target='http://localhost:8500'"),
        ({"target": ""}, r"`target` must be"),
        ({"model": ""}, r"`model` must be the name.*Received: model=''"),
        ({"version": "1"}, r"`version` must be a number.*Received: version='1'"),
        ({"timeout": 0}, r"`timeout` must be .*Received: timeout=0"),
        ({"retries": -1}, r"`retries` must be .*Received: retries=-1"),
        ({"batch_size": 0}, r"`batch_size` must be .*Received: batch_size=0"),
        ({"client_certificate": ("a", "b")}, r"`client_certificate` must be .*needs `tls`.*tls=None"),
    ],
)
def test_arguments_that_are_not_valid(arguments, message):
    with pytest.raises(ValueError, match=message):
        ServingClient(**{"target": "localhost:8500", "model": "m", **arguments})


def test_calls_that_are_not_valid(served):
    with served.client("rest") as client:
        with pytest.raises(ValueError, match=r"`on_problem` must be.*Received: on_problem='ignore'"):
            client.predict(GOOD, on_problem="ignore")
        for wrong in ("a sentence", 7):
            with pytest.raises(TypeError, match=r"`utterances` must be a dict.*Received: utterances of type"):
                client.predict(wrong)
        with pytest.raises(TypeError, match=r"Received: utterances\[1\] of type list"):
            client.predict([GOOD, [1, 2]])
    with pytest.raises(FileNotFoundError, match="no/such"):
        ServingClient("localhost:1", "m", tls="no/such.pem")


def test_rest_needs_no_tensorflow():
    code = (
        "import sys; from keras_misa.serving import ServingClient; ServingClient('localhost:1', 'm', 'rest'); "
        "print([name for name in ('tensorflow', 'keras', 'grpc') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


# === Raw requests, past the client ===


def encoded(*utterances):
    """Inputs of the signature `encoded`, written by hand."""
    return {
        "text": [np.asarray(u["text"], "<i4").tobytes() for u in utterances],
        "visual": [np.asarray(u["visual"], "<f4").tobytes() for u in utterances],
        "acoustic": [np.asarray(u["acoustic"], "<f4").tobytes() for u in utterances],
    }


class RawClient:
    """Sends what it is given."""

    def __init__(self, target):
        self._channel = grpc.insecure_channel(target, [("grpc.max_send_message_length", -1)])
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def ask(self, inputs, signature="encoded", model="scores_tokens"):
        """A future of the answer."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return self._stub.Predict.future(request, timeout=60)

    def close(self):
        self._channel.close()


@pytest.fixture
def raw(served):
    client = RawClient(served.targets["grpc"])
    yield client
    client.close()


def answer_of(future):
    return {name: tf.make_ndarray(value) for name, value in future.result().outputs.items()}


BYTES = encoded(GOOD)
RAW_ROWS = {
    "bytes": ({**BYTES, "visual": [b"12345"]}, "visual: 5 bytes; expected a multiple of 12"),
    "dimensions": ({**BYTES, "visual": [np.ones((3, 2), "<f4").tobytes() + b"12345678"]}, "visual: 32 bytes"),
    "nan": ({**BYTES, "acoustic": [np.full((2, 2), np.nan, "<f4").tobytes()]}, "acoustic: NaN or infinite"),
    "empty": ({**BYTES, "acoustic": [b""]}, "acoustic: length 0"),
    "long": ({**BYTES, "text": [bytes(4 * (MAX_LENGTH + 1))]}, "text: length 41"),
    "huge": ({**BYTES, "visual": [bytes(12 * 20_000)]}, "visual: length 20000"),
    "id": ({**BYTES, "text": [np.array([-1], "<i4").tobytes()]}, "text: an id out of range"),
    "everything": ({name: [b"1"] for name in BYTES}, "text: 1 bytes.*; visual: 1 bytes.*; acoustic: 1 bytes"),
}
RAW_REFUSED = {
    "unknown": ({**BYTES, "smell": [b""]}, "INVALID_ARGUMENT", "Sent extra: {smell}"),
    "missing": ({"text": BYTES["text"]}, "INVALID_ARGUMENT", "Missing but required: {acoustic,visual}"),
    "rows": ({**BYTES, "text": BYTES["text"] * 2}, "INVALID_ARGUMENT", "equal 0th-dimension"),
    "scalar": ({**BYTES, "text": b""}, "INVALID_ARGUMENT", "at least one dimension"),
    "many": ({name: value * 65 for name, value in BYTES.items()}, "INVALID_ARGUMENT", "larger than maximum"),
}
PADDED = {
    "text": np.ones((1, 2), "int32"),
    "visual": np.ones((1, 2, 3), "float32"),
    "acoustic": np.ones((1, 2, 2), "float32"),
} | {f"{modality}_lengths": np.full(1, 2, "int32") for modality in DIMS}
# TensorFlow Serving finds these only when it puts a batch together, or has done so.
RAW_POISON = {
    "dtype": ("encoded", {**BYTES, "text": np.zeros(1, "int32")}),
    "rank": ("encoded", {name: [value] for name, value in BYTES.items()}),
    "dimensions": ("explain", {**PADDED, "visual": np.ones((1, 2, 4), "float32")}),
    "empty": ("explain", {**PADDED, "visual": np.ones((1, 0, 3), "float32")}),
}


@pytest.mark.parametrize("kind", RAW_ROWS)
def test_raw_rows_that_cannot_be_used_say_why_alone_and_among_others(served, raw, kind):
    inputs, message = RAW_ROWS[kind]
    alone = answer_of(raw.ask(inputs))
    assert np.isnan(alone["score"]).all()
    assert re.match(message, alone["problem"][0].decode())
    # In one request.
    both = answer_of(raw.ask({name: [*inputs[name], *BYTES[name]] for name in BYTES}))
    assert both["problem"].tolist() == [alone["problem"][0], b""]
    # In requests that the server has put together.
    expected = served.expected["scores"]["prediction"][:, 0]
    for _ in range(50):
        before = served.counts()
        bad = raw.ask(inputs)
        good = [raw.ask(encoded(as_asked(u, "scores_tokens"))) for u in UTTERANCES[:4]]
        answers = [answer_of(future) for future in good]
        assert [float(answer["score"][0]) for answer in answers] == pytest.approx(expected[:4], abs=1e-5)
        assert [answer["problem"].tolist() for answer in answers] == [[b""]] * 4
        assert answer_of(bad)["problem"].tolist() == alone["problem"].tolist()
        after = served.counts()
        if after["batches"] - before["batches"] == 1 and after["requests"] - before["requests"] == 5:
            return
    pytest.fail("the server has not put them together once")


@pytest.mark.parametrize("kind", RAW_REFUSED)
def test_raw_requests_that_are_malformed_fail_alone(served, raw, kind):
    inputs, status, message = RAW_REFUSED[kind]
    good, bad, after = raw.ask(BYTES), raw.ask(inputs), raw.ask(BYTES)
    error = bad.exception()
    assert error.code().name == status
    assert message in error.details()
    assert answer_of(good)["problem"].tolist() == answer_of(after)["problem"].tolist() == [b""]


def test_raw_requests_to_nothing(served, raw):
    for arguments, status in (({"signature": "classify"}, "FAILED_PRECONDITION"), ({"model": "none"}, "NOT_FOUND")):
        assert raw.ask(BYTES, **arguments).exception().code().name == status
    nothing = answer_of(raw.ask({name: np.zeros(0, object) for name in BYTES}))
    assert nothing["score"].shape == nothing["problem"].shape == (0,)


@pytest.mark.parametrize("kind", RAW_POISON)
def test_the_client_asks_again_when_anothers_request_has_spoiled_the_batch(served, raw, kind):
    signature, inputs = RAW_POISON[kind]
    expected = served.expected["scores"]["prediction"][:2, 0]
    rows = [as_asked(utterance, "scores_tokens") for utterance in UTTERANCES[:2]]
    before = served.counts().get("failed_gathered_requests", 0)
    with served.client("grpc", retries=20) as client, served.client("rest", retries=20) as other:
        for number in range(200):
            bad = raw.ask(inputs, signature)
            asked = (client, other)[number % 2]
            answers = asked.predict(rows) if signature == "encoded" else asked.explain(rows)
            assert scores(answers) == pytest.approx(expected, abs=1e-5)
            assert kind == "empty" or bad.exception().code().name in ("INVALID_ARGUMENT", "INTERNAL")
            if served.counts().get("failed_gathered_requests", 0) - before >= 4 and number % 2:
                return
    pytest.fail("the server has not put them together")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON Parse error"),
        (b"[]", "Missing 'inputs' or 'instances'"),
        (b'{"inputs": {"smell": [1]}, "signature_name": "encoded"}', "does not have named input: smell"),
        (b'{"inputs": {"visual": [1]}, "signature_name": "encoded"}', "not of expected type: string"),
        (b'{"inputs": {"visual": [[[1, 2, 3], [1]]]}}', "not of expected type: float32"),
    ],
)
def test_malformed_json_is_told_and_does_no_harm(served, body, message):
    url = f"http://{served.targets['rest']}/v1/models/scores_tokens:predict"
    answer = requests.post(url, data=body, timeout=60)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    with served.client("rest") as client:
        assert client.predict(GOOD)["problem"] == ""


def test_rows_of_json_are_taken_as_well(served):
    """TensorFlow Serving's other form, by plain requests, as a reader with curl would."""
    instances = [
        {
            "text": [2, 3],
            "text_lengths": 2,
            "visual": np.ones((1, 3)).tolist(),
            "visual_lengths": 1,
            "acoustic": [[0.5, 0.5]],
            "acoustic_lengths": 1,
        }
    ] * 2
    url = f"http://{served.targets['rest']}/v1/models/scores_tokens/versions/1:predict"
    first, second = requests.post(url, json={"instances": instances}, timeout=60).json()["predictions"]
    with served.client("grpc") as client:
        answer = client.predict({"text": [2, 3], "visual": np.ones((1, 3)), "acoustic": [[0.5, 0.5]]})
    assert first["score"] == pytest.approx(answer["score"], abs=1e-5)
    assert second["score"] == pytest.approx(answer["score"], abs=1e-5)


# === A new version under load ===


def test_a_new_version_appears_while_requests_run(served):
    old, new = (served.expected[name]["prediction"][:, 0] for name in ("scores", "newer"))
    rows = [as_asked(utterance, "scores_tokens") for utterance in UTTERANCES]
    assert np.abs(old - new).min() > 1e-3  # answers tell the version
    warm, done = threading.Barrier(5), threading.Event()

    def ask(number):
        """Which version each answer is from: old ones, then new ones."""
        rng = np.random.default_rng(number)
        seen = []
        with served.client(TRANSPORTS[number % 2], "updated_tokens", retries=0) as client:
            method = client.predict if number < 2 else client.explain
            while not done.is_set() or seen[-1] != "new":
                chosen = rng.integers(len(rows), size=rng.integers(1, 9))
                answers = np.array(scores(method([rows[i] for i in chosen])))
                versions = [np.abs(answers - scores[chosen]).max() < 1e-4 for scores in (old, new)]
                assert sum(versions) == 1
                seen.append("old" if versions[0] else "new")
                if len(seen) == 10:
                    warm.wait()
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask, number) for number in range(4)]
        warm.wait()
        before = served.counts()["warm_up_requests"]
        folder = served.root / "served/updated_tokens"
        shutil.copytree(served.root / "served/newer_tokens/1", folder / "coming")
        (folder / "coming").rename(folder / "2")
        done.set()
        for future in futures:
            seen = future.result()
            assert seen == sorted(seen, reverse=True)  # "old" before "new"
            assert seen[0] == "old"
    assert served.counts()["warm_up_requests"] - before == 12  # four signatures, three sizes
    with served.client("grpc", "updated_tokens") as client:
        for _ in range(600):
            if client.status() == {1: "END", 2: "AVAILABLE"}:
                return
            time.sleep(0.1)
    pytest.fail("the old version is still there")


# === Servers that fail ===


def signature_def(inputs, outputs):
    """A `SignatureDef` from name → (dtype, sizes)."""
    signature = get_model_metadata_pb2.SignatureDefMap().signature_def["x"]
    for tensors, infos in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, (dtype, sizes) in infos.items():
            tensors[name].dtype = dtype.as_datatype_enum
            for size in sizes:
                tensors[name].tensor_shape.dim.add(size=size)
    return signature


OUTPUTS = {"score": (tf.float32, [-1]), "problem": (tf.string, [-1])}
SIGNATURES = get_model_metadata_pb2.SignatureDefMap(
    signature_def={
        "encoded": signature_def({"visual": (tf.string, [-1])}, OUTPUTS),
        "serving_default": signature_def(
            {"visual": (tf.float32, [-1, -1, 3]), "visual_lengths": (tf.int32, [-1])}, OUTPUTS
        ),
    }
)
SIGNATURES_JSON = {
    "encoded": {
        "inputs": {"visual": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
        "outputs": {"score": {"dtype": "DT_FLOAT"}, "problem": {"dtype": "DT_STRING"}},
    },
    "serving_default": {
        "inputs": {
            "visual": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "-1"}, {"size": "3"}]}},
            "visual_lengths": {"dtype": "DT_INT32", "tensor_shape": {"dim": [{"size": "-1"}]}},
        },
        "outputs": {"score": {"dtype": "DT_FLOAT"}, "problem": {"dtype": "DT_STRING"}},
    },
}
ROW = {"visual": [[1.0, 2.0, 3.0]]}
SLOW = "slow"


class Script:
    """What a server does, request by request; it answers 0.5 at last."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.count = 0
        self.headers = []
        self.hold = threading.Event()

    def next(self, headers):
        self.count += 1
        self.headers.append({name.lower(): value for name, value in headers})
        step = self.steps.pop(0) if self.steps else None
        if step == SLOW:
            self.hold.wait(60)
        return step


class FakePredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, script):
        self.script = script

    def Predict(self, request, context):
        status = self.script.next(context.invocation_metadata())
        if status not in (None, SLOW):
            context.abort(grpc.StatusCode[status], "these are the server's words")
        answer = predict_pb2.PredictResponse()
        answer.outputs["score"].CopyFrom(tf.make_tensor_proto([0.5]))
        answer.outputs["problem"].CopyFrom(tf.make_tensor_proto([""]))
        return answer

    def GetModelMetadata(self, request, context):
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(SIGNATURES)
        return answer


class FakeRest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections.append(self.connection)

    def do_GET(self):
        spec = {"name": "m", "signature_name": "", "version": "1"}
        self.send(200, {"model_spec": spec, "metadata": {"signature_def": {"signature_def": SIGNATURES_JSON}}})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.script.next(self.headers.items())
        if code == "reset":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if code in (None, SLOW):
            return self.send(200, {"outputs": {"score": [0.5], "problem": [""]}})
        return self.send(code, {"error": "these are the server's words"})

    def send(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if code == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have given up
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def fake_server(transport, *steps, port=0, certificate=None):
    """A server that follows a script; yields its port and the script."""
    script = Script(*steps)
    if transport == "grpc":
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(FakePredictionService(script), server)
        if certificate:
            chain, key = (path.read_bytes() for path in certificate)
            credentials = grpc.ssl_server_credentials([(key, chain)], chain, require_client_auth=True)
            port = server.add_secure_port(f"localhost:{port}", credentials)
        else:
            port = server.add_insecure_port(f"localhost:{port}")
        server.start()
        stop = lambda: server.stop(None).wait()  # noqa: E731
    else:
        server = http.server.ThreadingHTTPServer(("localhost", port), FakeRest)
        server.script, server.connections = script, []
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            context.load_verify_locations(certificate[0])
            context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def stop():
            server.shutdown()
            server.server_close()
            for connection in server.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    try:
        yield port, script
    finally:
        script.hold.set()
        stop()


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_PAUSE", 1e-3)


PASSING = {"grpc": ["UNAVAILABLE", "INVALID_ARGUMENT", "UNAVAILABLE"], "rest": [503, 429, 502, 504, 400, 500, "reset"]}


@pytest.mark.usefixtures("short_pauses")
def test_what_may_pass_is_tried_again(transport_name):
    failures = PASSING[transport_name]
    with fake_server(transport_name, *failures) as (port, script):
        client = ServingClient(f"localhost:{port}", "m", transport_name, retries=len(failures), timeout=60)
        assert client.predict(ROW) == {"score": 0.5, "problem": ""}
        assert script.count == len(failures) + 1
        client.close()


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    ("transport_name", "failure", "status", "attempts"),
    [
        ("grpc", "UNAVAILABLE", "UNAVAILABLE", 3),
        ("grpc", "INTERNAL", "INTERNAL", 3),
        ("grpc", "NOT_FOUND", "NOT_FOUND", 1),
        ("grpc", "PERMISSION_DENIED", "PERMISSION_DENIED", 1),
        ("rest", 503, "UNAVAILABLE", 3),
        ("rest", 429, "RESOURCE_EXHAUSTED", 3),
        ("rest", 504, "DEADLINE_EXCEEDED", 3),
        ("rest", 404, "NOT_FOUND", 1),
        ("rest", 403, "PERMISSION_DENIED", 1),
        ("rest", 418, "UNKNOWN", 1),
    ],
)
def test_what_does_not_pass_is_told_in_the_servers_words(transport_name, failure, status, attempts):
    with fake_server(transport_name, *[failure] * 9) as (port, script):
        client = ServingClient(f"localhost:{port}", "m", transport_name, retries=2, timeout=60)
        message = rf"{transport_name} localhost:{port}, model 'm', encoded: {status}: .*these are the server's words"
        with pytest.raises(ServingError, match=rf"{message} \(after {attempts} attempts?\)") as caught:
            client.predict(ROW)
        assert script.count == attempts
        assert (caught.value.status, caught.value.signature) == (status, "encoded")
        assert "no answer within" not in str(caught.value)
        client.close()


def test_a_server_that_is_too_slow(transport_name):
    with fake_server(transport_name, SLOW) as (port, _):
        client = ServingClient(f"localhost:{port}", "m", transport_name, timeout=60)
        client.describe()
        client.timeout = 0.3
        with pytest.raises(ServingError, match=r"DEADLINE_EXCEEDED: no answer within 0\.3 s, `timeout`") as caught:
            client.predict(ROW)
        assert caught.value.status == "DEADLINE_EXCEEDED"
        client.close()


def test_retries_end_with_the_time(transport_name):
    with fake_server(transport_name, *[PASSING[transport_name][0]] * 1000) as (port, script):
        client = ServingClient(f"localhost:{port}", "m", transport_name, timeout=60, retries=1000)
        client.describe()
        client.timeout = 0.5
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            client.predict(ROW)
        assert 1 < script.count < 20
        client.close()


def unused_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.mark.usefixtures("short_pauses")
def test_a_server_that_is_not_there(transport_name):
    port = unused_port()
    with ServingClient(f"localhost:{port}", "m", transport_name, timeout=60, retries=1) as client:
        for call in (lambda: client.predict(ROW), client.describe, client.status):
            with pytest.raises(ServingError, match=rf"{transport_name} localhost:{port}, model 'm', .*UNAVAILABLE"):
                call()
        with pytest.raises(ServingError, match=r"status: UNAVAILABLE: not ready after 0\.3 s"):
            client.wait_until_ready(0.3)


def test_a_server_that_comes_late_is_waited_for(transport_name):
    port = unused_port()
    with (
        ServingClient(f"localhost:{port}", "m", transport_name, timeout=120, retries=0, wait_for_ready=True) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        future = pool.submit(client.predict, ROW)
        time.sleep(0.5)
        with fake_server(transport_name, port=port):
            assert future.result()["score"] == 0.5


@pytest.mark.usefixtures("short_pauses")
def test_a_server_that_dies_and_comes_back(transport_name):
    with fake_server(transport_name) as (port, _):
        client = ServingClient(f"localhost:{port}", "m", transport_name, timeout=60, retries=2)
        assert client.predict(ROW)["score"] == 0.5
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        client.predict(ROW)
    client.wait_for_ready = True
    with fake_server(transport_name, port=port):
        assert client.predict(ROW)["score"] == 0.5
    client.close()


def test_a_model_of_another_kind(transport_name, monkeypatch):
    other = get_model_metadata_pb2.SignatureDefMap(
        signature_def={"serving_default": signature_def({"x": (tf.float32, [-1])}, {"y": (tf.float32, [-1])})}
    )
    monkeypatch.setattr(sys.modules[__name__], "SIGNATURES", other)
    monkeypatch.setattr(sys.modules[__name__], "SIGNATURES_JSON", {"serving_default": {}})
    with fake_server(transport_name) as (port, _):
        client = ServingClient(f"localhost:{port}", "m", transport_name, timeout=60)
        message = r"no model that `keras-misa export` wrote.*'serving_default'.*Received: signatures="
        with pytest.raises(ServingError, match=message):
            client.predict(ROW)
        client.close()


def test_a_new_version_may_take_other_features(transport_name, monkeypatch):
    with fake_server(transport_name) as (port, script):
        client = ServingClient(f"localhost:{port}", "m", transport_name, timeout=60)
        assert client.predict(ROW)["score"] == 0.5
        wider = {"visual": [[1.0, 2.0, 3.0, 4.0]]}
        with pytest.raises(UtteranceError, match=r"expected numbers, \(steps, 3\)"):
            client.predict(wider)
        signatures, as_json = copy.deepcopy(SIGNATURES), copy.deepcopy(SIGNATURES_JSON)
        signatures.signature_def["serving_default"].inputs["visual"].tensor_shape.dim[2].size = 4
        as_json["serving_default"]["inputs"]["visual"]["tensor_shape"]["dim"][2]["size"] = "4"
        monkeypatch.setattr(sys.modules[__name__], "SIGNATURES", signatures)
        monkeypatch.setattr(sys.modules[__name__], "SIGNATURES_JSON", as_json)
        assert client.predict(wider)["score"] == 0.5
        with pytest.raises(UtteranceError, match=r"expected numbers, \(steps, 4\)"):
            client.predict(ROW)
        assert script.count == 2
        client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key of localhost, each other's authority too."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.usefixtures("short_pauses")
def test_certificates_and_headers(transport_name, certificate):
    with fake_server(transport_name, certificate=certificate) as (port, script):
        arguments = {"target": f"localhost:{port}", "model": "m", "transport": transport_name, "timeout": 60}
        arguments["retries"] = 0
        headers = {"Authorization": "Bearer token"}
        secure = {"tls": certificate[0], "client_certificate": certificate}
        with ServingClient(**arguments, **secure, headers=headers) as client:
            assert client.predict(ROW)["score"] == 0.5
        assert script.headers[0]["authorization"] == "Bearer token"
        for wrong in ({}, {"tls": True}, {"tls": certificate[0]}):  # no encryption, no trust, no name of the client
            with ServingClient(**arguments, **wrong) as client, pytest.raises(ServingError, match="UNAVAILABLE"):
                client.predict(ROW)


# === Encoding ===

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.integers(1, 7).flatmap(lambda steps: arrays("float32", (steps, 3), elements=finite))
ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9)
sentences = st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1), min_size=1)
utterances = st.fixed_dictionaries({"text": ids, "visual": vectors, "words": sentences})
ENCODING = RequestEncoding(
    {"text": {"kind": "ids"}, "visual": {"kind": "vectors", "dim": 3}, "words": {"kind": "sentence"}}
)


@given(st.lists(utterances, min_size=1, max_size=5), st.sampled_from(["f4", ">f4", "f8", "list", "steps"]))
def test_every_ragged_batch_is_its_bytes_and_its_padded_arrays(batch, form):
    def disguise(array):
        if form == "list":
            return array.tolist()
        if form == "steps":
            return np.repeat(array, 2, axis=0)[::2]  # not contiguous
        return array.astype(form)

    rows = [ENCODING.read({**u, "visual": disguise(u["visual"])}) for u in batch]
    as_bytes, padded = ENCODING.encode(rows), ENCODING.pad(rows)
    assert padded["visual"].shape == (len(batch), max(len(u["visual"]) for u in batch), 3)
    assert padded["words"] == as_bytes["words"]
    for number, utterance in enumerate(batch):
        visual = np.frombuffer(as_bytes["visual"][number], "<f4").reshape(-1, 3)
        assert visual.tobytes() == utterance["visual"].astype("<f4").tobytes()  # to the bit, -0.0 too
        assert np.frombuffer(as_bytes["text"][number], "<i4").tolist() == utterance["text"]
        assert as_bytes["words"][number].decode() == " ".join(utterance["words"])
        for modality in ("text", "visual"):
            length = padded[f"{modality}_lengths"][number]
            assert length == len(utterance[modality])
            np.testing.assert_array_equal(padded[modality][number, :length], utterance[modality])
            assert not padded[modality][number, length:].any()


@given(vectors)
def test_json_keeps_every_bit_of_a_number(array):
    back = np.array(json.loads(json.dumps(array.tolist())), "float32")
    assert back.tobytes() == array.tobytes()
