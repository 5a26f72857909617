"""Requests by HTTP and JSON, as TensorFlow Serving takes them. TensorFlow is not needed here."""

import base64
import functools
import http.client
import io
import json
import time
import urllib.parse

import numpy as np
import requests
import urllib3

from keras_misa.serving.transport import FOREIGN, SHOWN, Failure

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
PASSING = (429, 502, 503, 504)
CONNECTIONS = 32  # that are kept, for as many threads


class RestTransport:
    """A session with a server.

    Args:
        target: `"host:port"`, or the URL before `/v1/models`.
        tls: `False` or `None` for none; `True` for the certificates that requests trusts; or path of a file of them,
            PEM.
        client_certificate: `None`, or pair of paths, certificate chain and key, PEM.
        headers: dict, sent with each request.
    """

    def __init__(self, target, tls, client_certificate, headers):
        if "://" not in target:
            target = f"{'https' if tls else 'http'}://{target}"
        self._models = f"{target.rstrip('/')}/v1/models"
        self._session = _Session()
        self._session.headers.update(headers)
        if "Authorization" in self._session.headers:
            self._session.auth = _as_it_is
        # Given with each request, for requests prefers $REQUESTS_CA_BUNDLE to what a session says.
        self._verify = True if tls in (None, False, True) else str(tls)
        self._session.cert = tuple(map(str, client_certificate)) if client_certificate else None
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=CONNECTIONS))

    def predict(self, model, version, signature, inputs, timeout):
        """Dict, output → array."""
        body = {"signature_name": signature, "inputs": {name: _jsonable(value) for name, value in inputs.items()}}
        return self._call("POST", model, version, ":predict", timeout, _read_outputs, json.dumps(body))

    def metadata(self, model, version, timeout):
        """Pair: version, and dict of the signatures in proto JSON."""
        return self._call("GET", model, version, "/metadata", timeout, _read_metadata)

    def status(self, model, version, timeout):
        """Dict, version → pair: state and, if there is one, error."""
        return self._call("GET", model, version, "", timeout, _read_status)

    def close(self):
        self._session.close()

    def _call(self, method, model, version, what, timeout, read, body=None):
        end = time.monotonic() + timeout
        url = f"{self._models}/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            url += f"/versions/{version}"
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._session.request(
                method, url + what, data=body, headers=headers, timeout=end, verify=self._verify
            )
        except requests.Timeout as error:
            raise Failure("DEADLINE_EXCEEDED", str(error)) from error
        except requests.exceptions.SSLError as error:
            raise Failure("UNAVAILABLE", str(error)) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            # So requests calls a body that is late.
            if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in error.args):
                raise Failure("DEADLINE_EXCEEDED", str(error)) from error
            raise Failure("UNAVAILABLE", str(error), may_pass=True) from error
        except (requests.TooManyRedirects, requests.exceptions.ContentDecodingError) as error:
            raise _foreign(url + what, str(error)) from error
        content = _read(answer)
        try:
            return read(content)
        except FOREIGN as error:
            raise _foreign(answer.url, _beginning(answer)) from error


class _Session(requests.Session):
    """A session that sends a server the same authorization after a redirect, whatever .netrc has."""

    def rebuild_auth(self, prepared_request, response):
        stays = not self.should_strip_auth(response.request.url, prepared_request.url)
        if not (stays and "Authorization" in prepared_request.headers):
            super().rebuild_auth(prepared_request, response)


class _Adapter(requests.adapters.HTTPAdapter):
    """Requests with a deadline: their `timeout` is a time of `time.monotonic`, the same after a redirect."""

    def send(self, request, stream=False, timeout=None, **arguments):
        left = urllib3.Timeout(total=max(timeout - time.monotonic(), 1e-3))
        return super().send(request, stream, left, **arguments)

    def get_connection_with_tls_context(self, *arguments, **named):
        pool = super().get_connection_with_tls_context(*arguments, **named)
        if not issubclass(getattr(pool.ConnectionCls, "response_class", _Response), _Response):
            pool.ConnectionCls = _timed(pool.ConnectionCls)
        return pool


@functools.cache
def _timed(connection):
    """A class of connections with answers that have a deadline."""
    return type(connection.__name__, (connection,), {"response_class": _Response})


class _Response(http.client.HTTPResponse):
    """An answer that comes, to its last byte, within the socket's timeout, which otherwise each read has anew."""

    def __init__(self, sock, *arguments, **named):
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock):
        super().__init__()
        self._end = time.monotonic() + sock.gettimeout()
        self._sock = sock
        self._file = sock.makefile("rb", 0)

    def readable(self):
        return True

    def readinto(self, buffer):
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self):
        self._file.close()
        super().close()


def _as_it_is(request):
    """Authorization by what the request has already; without one requests takes what .netrc has."""
    return request


def _read(answer):
    try:
        content = json.loads(answer.content)  # with NaN, which TensorFlow Serving writes
    except ValueError:
        content = None
    if answer.ok and isinstance(content, dict):
        return content
    if answer.ok:
        raise _foreign(answer.url, _beginning(answer))
    words = content.get("error") if isinstance(content, dict) else None
    pause = answer.headers.get("Retry-After", "")
    raise Failure(
        STATUSES.get(answer.status_code, "UNKNOWN"),
        f"HTTP {answer.status_code}: {words or _beginning(answer)}",
        answer.status_code in PASSING,
        float(pause) if pause.isdecimal() else 0.0,
    )


def _foreign(url, words):
    return Failure("INTERNAL", f"not an answer of TensorFlow Serving: {url}: {words}")


def _beginning(answer):
    return answer.content[:SHOWN].decode("utf-8", "replace")


def _read_outputs(content):
    outputs = content["outputs"]
    if not isinstance(outputs, dict):  # there is one alone, and it has no name
        raise Failure("INTERNAL", "one output; expected several")
    return {name: _array(value) for name, value in outputs.items()}


def _read_metadata(content):
    signatures = content["metadata"]["signature_def"].get("signature_def", {})
    return int(content["model_spec"]["version"]), signatures


def _read_status(content):
    return {
        int(status["version"]): (status["state"], status.get("status", {}).get("error_message", ""))
        for status in content["model_version_status"]
    }


def _jsonable(value):
    """A list of byte strings, or an array."""
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]
    return value.tolist()


def _array(value):
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array  # as they left the model
