"""Requests by HTTP and JSON, as TensorFlow Serving takes them. TensorFlow is not needed here."""

import base64
import json
import urllib.parse

import numpy as np
import requests
import urllib3

from keras_misa.serving.transport import Failure

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
        self._session = requests.Session()
        self._session.headers.update(headers)
        # Given with each request, for requests prefers $REQUESTS_CA_BUNDLE to what a session says.
        self._verify = True if tls in (None, False, True) else str(tls)
        self._session.cert = tuple(map(str, client_certificate)) if client_certificate else None
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))

    def predict(self, model, version, signature, inputs, timeout):
        """Dict, output → array."""
        body = {"signature_name": signature, "inputs": {name: _jsonable(value) for name, value in inputs.items()}}
        outputs = self._call("POST", model, version, ":predict", timeout, json.dumps(body))["outputs"]
        if not isinstance(outputs, dict):  # there is one alone, and it has no name
            raise Failure("INTERNAL", "one output; expected several")
        return {name: _array(value) for name, value in outputs.items()}

    def metadata(self, model, version, timeout):
        """Pair: version, and dict of the signatures in proto JSON."""
        answer = self._call("GET", model, version, "/metadata", timeout)
        signatures = answer["metadata"]["signature_def"].get("signature_def", {})
        return int(answer["model_spec"]["version"]), signatures

    def status(self, model, version, timeout):
        """Dict, version → pair: state and, if there is one, error."""
        answer = self._call("GET", model, version, "", timeout)
        return {
            int(status["version"]): (status["state"], status.get("status", {}).get("error_message", ""))
            for status in answer["model_version_status"]
        }

    def close(self):
        self._session.close()

    def _call(self, method, model, version, what, timeout, body=None):
        url = f"{self._models}/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            url += f"/versions/{version}"
        timeout = urllib3.Timeout(total=timeout)
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._session.request(
                method, url + what, data=body, headers=headers, timeout=timeout, verify=self._verify
            )
        except requests.Timeout as error:
            raise Failure("DEADLINE_EXCEEDED", str(error)) from error
        except requests.exceptions.SSLError as error:
            raise Failure("UNAVAILABLE", str(error)) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise Failure("UNAVAILABLE", str(error), may_pass=True) from error
        return _read(answer)


def _read(answer):
    try:
        content = json.loads(answer.content)  # with NaN, which TensorFlow Serving writes
    except ValueError:
        content = None
    if answer.ok and isinstance(content, dict):
        return content
    words = content.get("error") if isinstance(content, dict) else answer.text[:200]
    pause = answer.headers.get("Retry-After", "")
    raise Failure(
        STATUSES.get(answer.status_code, "UNKNOWN"),
        f"HTTP {answer.status_code}: {words}",
        answer.status_code in PASSING,
        float(pause) if pause.isdecimal() else 0.0,
    )


def _jsonable(value):
    """A list of byte strings, or an array."""
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]
    return value.tolist()


def _array(value):
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array  # as they left the model
