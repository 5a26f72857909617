"""The client by REST, against servers of a few lines that are no TensorFlow Serving: slow, foreign, forgetful."""

import base64
import contextlib
import functools
import http.server
import json
import pickle
import threading
import time

import pytest

from keras_misa.serving import ServingClient, ServingError, UtteranceError

MODEL = "/v1/models/m"
ROW = {"visual": [[1.0, 2.0, 3.0]]}
BAD = {"visual": [[1.0, 2.0]]}
METADATA = {
    "model_spec": {"name": "m", "signature_name": "", "version": "1"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "encoded": {
                    "inputs": {"visual": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
                    "outputs": {"score": {"dtype": "DT_FLOAT"}, "problem": {"dtype": "DT_STRING"}},
                },
                "serving_default": {
                    "inputs": {
                        "visual": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1"}, {"size": "-1"}, {"size": "3"}]},
                        },
                        "visual_lengths": {"dtype": "DT_INT32", "tensor_shape": {"dim": [{"size": "-1"}]}},
                    },
                    "outputs": {"score": {"dtype": "DT_FLOAT"}, "problem": {"dtype": "DT_STRING"}},
                },
            }
        }
    },
}
STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK"}}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.server.requests.append((self.command, self.path, dict(self.headers.items())))
        with contextlib.suppress(OSError):  # the client may have given up
            self.server.answer(self, body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def server(answer):
    """A server whose answers `answer(handler, body)` writes."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    server.daemon_threads, server.answer, server.requests = True, answer, []
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def client_of(server, **arguments):
    arguments = {"timeout": 60, "retries": 0, **arguments}
    return ServingClient(f"localhost:{server.server_port}", "m", "rest", **arguments)


def send(handler, content, code=200, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(code)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def serve(handler, body):
    """As TensorFlow Serving; the score is the number of bytes of `visual`, of 24 or more the model says a problem."""
    if handler.path == f"{MODEL}/metadata":
        return send(handler, METADATA)
    if handler.path == MODEL:
        return send(handler, STATUS)
    sizes = [len(base64.b64decode(row["b64"])) for row in json.loads(body)["inputs"]["visual"]]
    problems = ["too long" if size >= 24 else "" if size else "nothing" for size in sizes]
    return send(handler, {"outputs": {"score": list(map(float, sizes)), "problem": problems}})


def count_of_metadata(server):
    return sum(path.endswith("/metadata") for _, path, _ in server.requests)


# === Errors in other processes ===


ERRORS = [
    ServingError("these are the words", "localhost:1", "m", "encoded", "UNAVAILABLE"),
    UtteranceError({3: "bad"}),
    UtteranceError({7: "bad", 2: "worse"}),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_are_pickled_whole(error, protocol):
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


# === What the server is asked ===


class Forgetful(ServingClient):
    """Another thread always finds a reason to forget what the server said, at the worst moment."""

    _description = property(lambda self: None, lambda self, description: None)


def test_what_another_thread_forgets_is_no_loss():
    with server(serve) as s, Forgetful(f"localhost:{s.server_port}", "m", "rest", timeout=60) as client:
        assert client.describe()["modalities"] == {"visual": {"kind": "vectors", "dim": 3}}
        assert client.predict(ROW) == {"score": 12.0, "problem": ""}
        assert len(client.predict([ROW, BAD] * 3, on_problem="return")) == 6


@pytest.mark.parametrize("other", [BAD, {"visual": ROW["visual"] * 2}], ids=["the client's", "the model's"])
def test_what_it_takes_is_asked_once_a_call(other):
    with server(serve) as s, client_of(s, batch_size=2) as client:
        for asked in (1, 2, 3):
            answers = client.predict([ROW, other] * 5, on_problem="return")
            assert [bool(answer["problem"]) for answer in answers] == [False, True] * 5
            assert [answer["score"] for answer in answers[::2]] == [12.0] * 5
            assert count_of_metadata(s) == asked
        assert len(s.requests) == 3 * (5 + 1)


def test_what_it_takes_is_not_asked_again_without_need():
    with server(serve) as s, client_of(s, batch_size=2) as client:
        for _ in range(3):
            assert len(client.predict([ROW] * 6)) == 6
        assert count_of_metadata(s) == 1


# === A deadline ===


PADDED = json.dumps(STATUS).encode().ljust(500)
DRIPPING = {  # an answer's beginning, and what then comes a byte each 0.05 s: in the end all of it is a good answer
    "headers": (b"", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 500 + b"\r\nContent-Length: 500\r\n\r\n" + PADDED),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", PADDED),
    "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n", PADDED + b"\r\n0\r\n\r\n"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"".join(b"1\r\n%c\r\n" % byte for byte in PADDED) + b"0\r\n\r\n",
    ),
    "to the end": (b"HTTP/1.0 200 OK\r\n\r\n", PADDED),
}


def drip(handler, body, beginning, content):
    handler.wfile.write(beginning)
    for byte in content:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def redirect_for_ever(handler, body):
    time.sleep(0.5)
    here = int(handler.path.rpartition("=")[2]) if "=" in handler.path else 0
    send(handler, b"", 307, Location=f"{MODEL}?step={here + 1}")


def stop(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{")
    time.sleep(60)


SLOW = {name: functools.partial(drip, beginning=b, content=c) for name, (b, c) in DRIPPING.items()}
SLOW |= {"redirects": redirect_for_ever, "nothing more": stop}


@pytest.mark.parametrize("name", SLOW)
def test_a_timeout_is_of_the_whole_answer(name):
    with server(SLOW[name]) as s, client_of(s, timeout=0.8, retries=3) as client:
        with pytest.raises(ServingError, match=r"DEADLINE_EXCEEDED: no answer within 0\.8 s, `timeout`") as caught:
            client.status()
        assert caught.value.status == "DEADLINE_EXCEEDED"


def test_a_connection_is_as_good_after_a_large_answer_and_a_timeout():
    content = {**STATUS, "more": "x" * 3_000_000}
    hold = threading.Event()

    def answer(handler, body):
        if len(handler.server.requests) == 3:
            hold.wait(60)
        send(handler, content)

    with server(answer) as s, client_of(s) as client:
        assert client.status() == {1: "AVAILABLE"}
        client.timeout = 10.0
        assert client.status() == {1: "AVAILABLE"}
        client.timeout = 0.3
        with pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
            client.status()
        hold.set()
        client.timeout = 60
        assert client.status() == {1: "AVAILABLE"}


# === Authorization ===


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    path = tmp_path / "netrc"
    path.write_text("machine localhost login somebody password secret\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return "Basic " + base64.b64encode(b"somebody:secret").decode()


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_header_goes_before_netrc(netrc, name):
    with server(serve) as s, client_of(s, headers={name: "Bearer token"}) as client:
        client.predict(ROW)
        client.status()
        assert [headers[name] for _, _, headers in s.requests] == ["Bearer token"] * 3


def test_netrc_is_used_without_a_header(netrc):
    with server(serve) as s, client_of(s, headers={"X-Team": "blue"}) as client:
        client.status()
        (_, _, headers) = s.requests[0]
        assert (headers["Authorization"], headers["X-Team"]) == (netrc, "blue")


def test_a_header_goes_before_netrc_after_a_redirect_and_to_no_other_server(netrc):
    def to(target):
        return lambda handler, body: send(handler, b"", 307, Location=target)

    def moved(handler, body):
        serve(handler, body) if handler.path == MODEL else send(handler, b"", 307, Location=MODEL)

    with server(moved) as s:
        target = f"http://localhost:{s.server_port}/old"
        with ServingClient(target, "m", "rest", timeout=60, headers={"Authorization": "Bearer token"}) as client:
            assert client.status() == {1: "AVAILABLE"}
        assert [path for _, path, _ in s.requests] == [f"/old{MODEL}", MODEL]
        assert [headers["Authorization"] for _, _, headers in s.requests] == ["Bearer token"] * 2
    with server(serve) as other, server(to(f"http://127.0.0.1:{other.server_port}{MODEL}")) as s:
        with client_of(s, headers={"Authorization": "Bearer token"}) as client:
            assert client.status() == {1: "AVAILABLE"}
        assert "Authorization" not in other.requests[0][2]


def test_a_proxy_of_the_environment_is_used(netrc, monkeypatch):
    with server(serve_as_proxy) as s:
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://localhost:{s.server_port}")
        headers = {"Authorization": "Bearer token"}
        with ServingClient("serving.invalid:8501", "m", "rest", timeout=60, headers=headers) as client:
            assert client.status() == {1: "AVAILABLE"}
        (_, path, headers) = s.requests[0]
        assert path == f"http://serving.invalid:8501{MODEL}"
        assert headers["Authorization"] == "Bearer token"


def serve_as_proxy(handler, body):
    handler.path = handler.path.removeprefix("http://serving.invalid:8501")
    serve(handler, body)


# === Answers of something else ===

CALLS = {
    "": lambda client: client.status(),
    "/metadata": lambda client: client.describe(),
    ":predict": lambda client: client.predict(ROW),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "content",
    [
        {"hello": 1},
        ["hello"],
        b"<html>hello</html>",
        b"",
        {"outputs": {"hello": [[1], [2, 3]]}, "metadata": "hello", "model_version_status": [{"hello": 1}]},
    ],
    ids=str,
)
def test_an_answer_of_something_else(call, content):
    def answer(handler, body):
        send(handler, content) if handler.path == MODEL + call else serve(handler, body)

    with server(answer) as s, client_of(s) as client:
        url = f"http://localhost:{s.server_port}{MODEL}{call}"
        shown = content.decode() if isinstance(content, bytes) else json.dumps(content)
        with pytest.raises(ServingError) as caught:
            CALLS[call](client)
        assert caught.value.status == "INTERNAL"
        assert f"INTERNAL: not an answer of TensorFlow Serving: {url}: {shown} (after 1 attempt)" in str(caught.value)


def test_a_long_answer_of_something_else_is_cut():
    page = b"<html>" + b"\xff hello " * 100_000
    with server(lambda handler, body: send(handler, page)) as s, client_of(s) as client:
        with pytest.raises(ServingError, match=r"<html>.* hello ") as caught:
            client.describe()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("content", "words"), [({"error": "no m"}, "no m"), ({"detail": 1}, '{"detail": 1}')])
def test_an_error_is_told_in_the_words_of_whoever_says_it(content, words):
    with server(lambda handler, body: send(handler, content, 404)) as s, client_of(s) as client:
        with pytest.raises(ServingError) as caught:
            client.status()
        assert f"NOT_FOUND: HTTP 404: {words} (after" in str(caught.value)


@pytest.mark.parametrize(
    "outputs",
    [{"hello": [1.0]}, {"score": [], "problem": [""]}, {"score": 1.0, "problem": ""}],
    ids=str,
)
def test_outputs_of_another_model(outputs):
    def answer(handler, body):
        send(handler, {"outputs": outputs}) if handler.command == "POST" else serve(handler, body)

    with server(answer) as s, client_of(s) as client:
        with pytest.raises(ServingError, match=r"encoded: INTERNAL: not the outputs of a model .*: \{") as caught:
            client.predict(ROW)
        assert caught.value.signature == "encoded"


@pytest.mark.parametrize("signatures", [{"encoded": 1}, {"encoded": {"inputs": [1]}}, [1]], ids=str)
def test_signatures_of_no_model(signatures):
    content = {**METADATA, "metadata": {"signature_def": {"signature_def": signatures}}}
    with server(lambda handler, body: send(handler, content)) as s, client_of(s) as client:
        with pytest.raises(ServingError, match="metadata: INTERNAL: not the signatures of a model: ") as caught:
            client.describe()
        assert str(signatures) in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "code", "words"),
    [({"Location": MODEL}, 307, "redirects"), ({"Content-Encoding": "gzip"}, 200, "gzip")],
)
def test_answers_that_lead_nowhere(headers, code, words):
    def answer(handler, body):
        send(handler, b"hello", code, **headers)

    message = f"INTERNAL: not an answer of TensorFlow Serving: http.*{words}"
    with server(answer) as s, client_of(s) as client, pytest.raises(ServingError, match=message):
        client.status()
