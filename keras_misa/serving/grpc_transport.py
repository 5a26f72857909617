"""Requests by gRPC, with TensorFlow Serving's own protos (which import TensorFlow)."""

import pathlib

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_misa.serving.transport import Failure

OPTIONS = {
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    "grpc.enable_retries": 0,  # there is one place that tries again, for both transports
    # A server that comes back is found within seconds; the default is two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
}


class GrpcTransport:
    """A channel to a server.

    Args:
        target: `"host:port"`, or another name that gRPC knows.
        tls: `False` or `None` for none; `True` for the certificates that gRPC trusts; or path of a file of them, PEM.
        client_certificate: `None`, or pair of paths, certificate chain and key, PEM.
        headers: dict, sent as metadata with each request.
    """

    def __init__(self, target, tls, client_certificate, headers):
        options = list(OPTIONS.items())
        if tls:
            roots = None if tls is True else _read(tls)
            chain, key = map(_read, client_certificate) if client_certificate else (None, None)
            credentials = grpc.ssl_channel_credentials(roots, key, chain)
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, model, version, signature, inputs, timeout):
        """Dict, output → array."""
        request = predict_pb2.PredictRequest()
        _specify(request.model_spec, model, version)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(_tensor_proto(value))
        answer = self._call(self._predictions.Predict, request, timeout)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def metadata(self, model, version, timeout):
        """Pair: version, and dict of the signatures in proto JSON."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _specify(request.model_spec, model, version)
        answer = self._call(self._predictions.GetModelMetadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        signatures = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        return answer.model_spec.version.value, signatures.get("signature_def", {})

    def status(self, model, version, timeout):
        """Dict, version → pair: state and, if there is one, error."""
        request = get_model_status_pb2.GetModelStatusRequest()
        _specify(request.model_spec, model, version)
        answer = self._call(self._models.GetModelStatus, request, timeout)
        state = get_model_status_pb2.ModelVersionStatus.State.Name
        return {s.version: (state(s.state), s.status.error_message) for s in answer.model_version_status}

    def close(self):
        self._channel.close()

    def _call(self, method, request, timeout):
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            status = error.code()
            raise Failure(status.name, error.details(), status is grpc.StatusCode.UNAVAILABLE) from error


def _read(path):
    return pathlib.Path(path).read_bytes()


def _specify(spec, model, version):
    spec.name = model
    if version is not None:
        spec.version.value = version


def _tensor_proto(value):
    """A list of byte strings, or an array."""
    if not isinstance(value, list):
        return tf.make_tensor_proto(value)
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, string_val=value)
    proto.tensor_shape.dim.add(size=len(value))
    return proto
