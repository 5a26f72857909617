"""TensorFlow Serving's part, for tests, since its binary cannot be installed: no product, and no server to use.

    python tests/prediction_servicer.py --models DIR/models.config --base DIR

It does what TensorFlow Serving does with SavedModels: it runs them in a session and without Keras; watches for new
versions, warms them up, switches over and closes the old one once its requests are answered; gathers requests of a
signature, padding them where their lengths differ (with the tensor's first element), and hands out the answers, or the
one error, of the batch to all that are in it; and speaks the official protos, and REST with the same JSON. The first
line that it prints is `serving <gRPC port> <REST port>`.

`/monitoring/prometheus/metrics` counts batches, so that tests know whether requests were gathered.
"""

import argparse
import base64
import collections
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time
import traceback
import urllib.parse

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.modules["keras"] = None  # `import keras` fails from here on, and TensorFlow does without

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

WARM_UP = "assets.extra/tf_serving_warmup_requests"
PLACE = "/models"  # in the base paths of models.config, for `--base`
HTTP_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Refusal(Exception):
    """A request without an answer, by the name of a gRPC status."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status
        self.words = words


class Version:
    """A SavedModel in a session of its own."""

    def __init__(self, path, number, options, counts):
        self.number = number
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path))
        self.signatures = {name: s for name, s in meta.signature_def.items() if not name.startswith("__")}
        self._callables = {}
        self._batchers = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._requests = 0
        self._options = options
        self._counts = counts
        self.warm_up(path)

    def warm_up(self, path):
        file = path / WARM_UP
        if not file.exists():
            return
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            key, tensors = self.read(request.model_spec.signature_name, request.inputs, request.output_filter)
            self.run(key, tensors)
            self._counts["warm_up_requests"] += 1

    def read(self, signature, inputs, output_filter=()):
        """What to run, and the tensors of a request; refused as `predict_util.cc` does."""
        name = signature or "serving_default"
        if name not in self.signatures:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        extra, missing = sorted(set(inputs) - set(signature.inputs)), sorted(set(signature.inputs) - set(inputs))
        if extra or missing:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}. "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
            )
        if wrong := [name for name in output_filter if name not in signature.outputs]:
            raise Refusal("INVALID_ARGUMENT", f"output tensor alias not found in signature: {wrong[0]}")
        tensors = {}
        for key, value in inputs.items():
            try:
                tensors[key] = value if isinstance(value, np.ndarray) else tf.make_ndarray(value)
            except (TypeError, ValueError, MemoryError, KeyError) as error:
                raise Refusal("INVALID_ARGUMENT", f"tensor parsing error: {key}") from error
        return (name, tuple(sorted(output_filter or signature.outputs))), tensors

    def run(self, key, tensors):
        """Outputs by name, from the session: no Python code looks at types or shapes before."""
        with self._lock:
            if key not in self._callables:
                signature, outputs = self.signatures[key[0]], key[1]
                options = config_pb2.CallableOptions(
                    feed=[signature.inputs[name].name for name in sorted(signature.inputs)],
                    fetch=[signature.outputs[name].name for name in outputs],
                )
                self._callables[key] = self.session._make_callable_from_options(options)
            function = self._callables[key]
        try:
            values = function(*[tensors[name] for name in sorted(tensors)])
        except tf.errors.OpError as error:
            status = {code.value[0]: code.name for code in grpc.StatusCode}[error.error_code or 3]
            raise Refusal(status, error.message) from error
        return dict(zip(key[1], values, strict=True))

    def predict(self, key, tensors):
        """Like `run`, together with other requests."""
        rows = batch_size(tensors)
        if rows > self._options.max_batch_size:
            most = self._options.max_batch_size
            raise Refusal("INVALID_ARGUMENT", f"Task size {rows} is larger than maximum input batch size {most}")
        with self._lock:
            if key not in self._batchers:
                self._batchers[key] = Batcher(lambda merged: self.run(key, merged), self._options, self._counts)
            batcher = self._batchers[key]
        return batcher.put(rows, tensors)

    def enter(self):
        with self._lock:
            self._requests += 1

    def leave(self):
        with self._lock:
            self._requests -= 1
            self._idle.notify_all()

    def close(self):
        """Once the last request is answered."""
        with self._lock:
            self._idle.wait_for(lambda: self._requests == 0)
        for batcher in self._batchers.values():
            batcher.close()
        self._callables.clear()
        self.session.close()


def batch_size(tensors):
    """As `ComputeTensorBatchSize`."""
    if any(tensor.ndim == 0 for tensor in tensors.values()):
        raise Refusal("INVALID_ARGUMENT", "Batching Run() input tensors must have at least one dimension.")
    sizes = {len(tensor) for tensor in tensors.values()}
    if len(sizes) != 1:
        raise Refusal("INVALID_ARGUMENT", "Batching Run() input tensors must have equal 0th-dimension size.")
    return sizes.pop()


def merge(tensors):
    """As `MergeInputTensors` with `pad_variable_length_inputs`."""
    if len(tensors) == 1:
        return tensors[0]
    if len({tensor.ndim for tensor in tensors}) != 1:  # which TensorFlow Serving does not look at
        raise Refusal("INTERNAL", "Tensor concat operation failed: different numbers of dimensions")
    sizes = np.max([tensor.shape for tensor in tensors], axis=0)
    padded = []
    for tensor in tensors:
        missing = [(0, 0)] + [(0, most - size) for most, size in zip(sizes[1:], tensor.shape[1:], strict=True)]
        if np.any(missing) and (len(tensor) or np.prod(sizes[1:])) and not tensor.size:
            raise Refusal("INVALID_ARGUMENT", "Got empty tensor in batch of non-empty tensors.")
        padded.append(np.pad(tensor, missing, constant_values=tensor.flat[0]) if np.any(missing) else tensor)
    if len({tensor.dtype for tensor in padded}) != 1:
        words = "Cannot concatenate tensors that have different data types."
        raise Refusal("INTERNAL", f"Tensor concat operation failed: INVALID_ARGUMENT: {words}")
    return np.concatenate(padded)


class Batcher:
    """Gathers requests for `max_batch_size` rows or `batch_timeout_micros`, whichever comes first."""

    def __init__(self, run, options, counts):
        self._run = run
        self._options = options
        self._counts = counts
        self._tasks = collections.deque()
        self._rows = 0
        self._changed = threading.Condition()
        self._open = True
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(options.num_batch_threads)]
        for thread in self._threads:
            thread.start()

    def put(self, rows, tensors):
        future = concurrent.futures.Future()
        with self._changed:
            if self._rows > 1000 * self._options.max_batch_size:
                words = "The batch scheduling queue to which this task was submitted is full"
                raise Refusal("UNAVAILABLE", words)
            self._tasks.append((time.monotonic(), rows, tensors, future))
            self._rows += rows
            self._changed.notify()
        return future.result()

    def close(self):
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self):
        """The next batch, or nothing at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._tasks or not self._open)
                if not self._tasks:
                    return []
                left = self._tasks[0][0] + self._options.batch_timeout_micros / 1e6 - time.monotonic()
                if left <= 0 or self._rows >= self._options.max_batch_size:
                    break
                self._changed.wait(left)
            batch, size = [], 0
            while self._tasks and (not batch or size + self._tasks[0][1] <= self._options.max_batch_size):
                batch.append(self._tasks.popleft())
                size += batch[-1][1]
            self._rows -= size
            return batch

    def _work(self):
        while batch := self._take():
            _, rows, tensors, futures = zip(*batch, strict=True)
            self._counts["batches"] += 1
            self._counts["requests"] += len(batch)
            self._counts["gathered_requests"] += len(batch) if len(batch) > 1 else 0
            try:
                merged = self._run({name: merge([t[name] for t in tensors]) for name in tensors[0]})
            except Exception as error:
                self._counts["failed_batches"] += 1
                self._counts["failed_gathered_requests"] += len(batch) if len(batch) > 1 else 0
                for future in futures:
                    future.set_exception(error)
                continue
            end = 0
            for count, future in zip(rows, futures, strict=True):
                start, end = end, end + count
                future.set_result({name: value[start:end] for name, value in merged.items()})
            del batch, tensors, futures, merged, future  # not kept until the next batch comes


class Model:
    """The newest version of a model, and those before it that still have requests."""

    def __init__(self, name, base_path, options, counts):
        self.name = name
        self.states = {}
        self._base = pathlib.Path(base_path)
        self._options = options
        self._counts = counts
        self._versions = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def version(self, number=None):
        with self._lock:
            if not self._versions or (number is not None and number not in self._versions):
                which = f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
                raise Refusal("NOT_FOUND", f"Servable not found for request: {which}")
            version = self._versions[max(self._versions) if number is None else number]
            version.enter()
        try:
            yield version
        finally:
            version.leave()

    def _watch(self):
        while True:
            found = [int(p.name) for p in self._base.iterdir() if p.name.isdecimal()] if self._base.is_dir() else []
            if found and max(found) not in self.states:
                self._load(max(found))
            time.sleep(self._options.poll_seconds)

    def _load(self, number):
        self.states[number] = ("LOADING", "")
        try:
            version = Version(self._base / str(number), number, self._options, self._counts)
        except Exception as error:
            traceback.print_exc()
            self.states[number] = ("END", str(error))
            return
        with self._lock:
            old, self._versions = self._versions, {number: version}
            self.states[number] = ("AVAILABLE", "")
        for before in old.values():
            self.states[before.number] = ("UNLOADING", "")
            before.close()
            self.states[before.number] = ("END", "")


class Server:
    """What both front ends ask."""

    def __init__(self, options):
        self.counts = collections.Counter()
        config = model_server_config_pb2.ModelServerConfig()
        text_format.Parse(pathlib.Path(options.models).read_text(encoding="utf-8"), config)
        self._models = {}
        for model in config.model_config_list.config:
            path = pathlib.PurePosixPath(model.base_path)
            path = pathlib.Path(options.base) / path.relative_to(PLACE) if options.base else pathlib.Path(path)
            self._models[model.name] = Model(model.name, path, options, self.counts)

    def model(self, name):
        if name not in self._models:
            raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({name})")
        return self._models[name]

    def states(self, name, number=None):
        states = dict(self.model(name).states)
        if number is not None and number not in states:
            raise Refusal("NOT_FOUND", f"Could not find version {number} of model {name}")
        return {n: state for n, state in states.items() if number in (None, n)}


def number_of(spec):
    return spec.version.value if spec.HasField("version") else None


def answering(method):
    """A method whose refusals become gRPC statuses."""

    def answer(self, request, context):
        try:
            return method(self, request)
        except Refusal as refusal:
            context.abort(grpc.StatusCode[refusal.status], refusal.words)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self._server = server

    @answering
    def Predict(self, request):
        spec = request.model_spec
        with self._server.model(spec.name).version(number_of(spec)) as version:
            key, tensors = version.read(spec.signature_name, request.inputs, request.output_filter)
            outputs = version.predict(key, tensors)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = spec.name
        answer.model_spec.signature_name = key[0]
        answer.model_spec.version.value = version.number
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer

    @answering
    def GetModelMetadata(self, request):
        if list(request.metadata_field) != ["signature_def"]:
            raise Refusal("INVALID_ARGUMENT", f"Metadata field {list(request.metadata_field)} is not supported")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._server.model(request.model_spec.name).version(number_of(request.model_spec)) as version:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=version.signatures)
            answer.model_spec.name = request.model_spec.name
            answer.model_spec.version.value = version.number
        answer.metadata["signature_def"].Pack(signatures)
        return answer


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server):
        self._server = server

    @answering
    def GetModelStatus(self, request):
        answer = get_model_status_pb2.GetModelStatusResponse()
        states = self._server.states(request.model_spec.name, number_of(request.model_spec))
        for number, (state, error) in sorted(states.items(), reverse=True):
            status = answer.model_version_status.add(version=number, state=state)
            status.status.error_code = 2 if error else 0
            status.status.error_message = error
        return answer


class Rest(http.server.BaseHTTPRequestHandler):
    """The REST API's paths and JSON, see tensorflow.org/tfx/serving/api_rest."""

    protocol_version = "HTTP/1.1"
    server_side = None
    disable_nagle_algorithm = True
    path_form = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?")

    def do_GET(self):
        if self.path == "/monitoring/prometheus/metrics":
            text = "".join(f"{name} {value}\n" for name, value in self.server_side.counts.items())
            return self._send(200, text.encode(), "text/plain")
        return self._answer({"/metadata": self._metadata, None: self._status})

    def do_POST(self):
        return self._answer({":predict": self._predict})

    def log_message(self, *_):
        pass

    def _answer(self, methods):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            match = self.path_form.fullmatch(self.path)
            if match is None or match[3] not in methods:
                raise Refusal("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
            number = None if match[2] is None else int(match[2])
            answer, code = methods[match[3]](urllib.parse.unquote(match[1]), number, body), 200
        except Refusal as refusal:
            answer, code = {"error": refusal.words}, HTTP_STATUSES.get(refusal.status, 500)
        return self._send(code, json.dumps(answer, indent=4).encode(), "application/json")

    def _send(self, code, content, kind):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _status(self, name, number, _):
        states = self.server_side.states(name, number)
        return {
            "model_version_status": [
                {
                    "version": str(n),
                    "state": state,
                    "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
                }
                for n, (state, error) in sorted(states.items(), reverse=True)
            ]
        }

    def _metadata(self, name, number, _):
        with self.server_side.model(name).version(number) as version:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=version.signatures)
            spec = {"name": name, "signature_name": "", "version": str(version.number)}
        signatures = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _predict(self, name, number, body):
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refusal("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
            raise Refusal("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
        with self.server_side.model(name).version(number) as version:
            signature = request.get("signature_name", "serving_default")
            infos = version.signatures[signature].inputs if signature in version.signatures else {}
            columns = request["inputs"] if "inputs" in request else columns_of(request["instances"], infos)
            if not isinstance(columns, dict):  # the one input, without its name
                columns = dict.fromkeys(infos, columns) if len(infos) == 1 else {}
            tensors = {key: tensor_of(key, value, infos.get(key)) for key, value in columns.items()}
            key, tensors = version.read(signature, tensors)
            outputs = {name: jsonable(value) for name, value in version.predict(key, tensors).items()}
        if "inputs" in request:
            return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
        rows = zip(*outputs.values(), strict=True)
        return {"predictions": [dict(zip(outputs, row, strict=True)) if len(outputs) > 1 else row[0] for row in rows]}


def columns_of(instances, infos):
    if not isinstance(instances, list) or not instances:
        raise Refusal("INVALID_ARGUMENT", "'instances' must be a list of one or more")
    if not all(isinstance(instance, dict) and instance.keys() == infos.keys() for instance in instances):
        raise Refusal("INVALID_ARGUMENT", f"JSON object: expected the named inputs {sorted(infos)}")
    return {name: [instance[name] for instance in instances] for name in infos}


def tensor_of(name, value, info):
    if info is None:
        raise Refusal("INVALID_ARGUMENT", f"JSON object: does not have named input: {name}")
    dtype = tf.as_dtype(info.dtype)
    try:
        if dtype == tf.string:
            return np.array(texts_of(value), object)
        array = np.array(value)
        if array.size and array.dtype.kind not in ("fi" if dtype.is_floating else "i"):
            raise ValueError(array.dtype)
        return array.astype(dtype.as_numpy_dtype)
    except (ValueError, TypeError) as error:
        words = f"JSON Value of {name} is not of expected type: {dtype.name}"
        raise Refusal("INVALID_ARGUMENT", words) from error


def texts_of(value):
    if isinstance(value, list):
        return [texts_of(item) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str):
        return value.encode()
    raise ValueError(value)


def jsonable(array):
    return (
        np.vectorize(lambda b: b.decode("utf-8", "replace"), otypes=[object])(array).tolist()
        if (array.dtype == object and array.size)
        else array.tolist()
    )


class HTTPServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, help="models.config")
    parser.add_argument("--base", help=f"folder that stands for {PLACE} in its base paths")
    parser.add_argument("--max-batch-size", type=int, default=64)
    parser.add_argument("--batch-timeout-micros", type=int, default=1000)
    parser.add_argument("--num-batch-threads", type=int, default=2)
    parser.add_argument("--poll-seconds", type=float, default=0.2)
    options = parser.parse_args()
    server = Server(options)
    front = grpc.server(
        concurrent.futures.ThreadPoolExecutor(64),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(server), front)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(server), front)
    grpc_port = front.add_insecure_port("127.0.0.1:0")
    front.start()
    Rest.server_side = server
    rest = HTTPServer(("127.0.0.1", 0), Rest)
    print(f"serving {grpc_port} {rest.server_port}", flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main()
