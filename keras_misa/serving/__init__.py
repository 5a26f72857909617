"""Asking models that TensorFlow Serving has in service. Nothing of this needs Keras, nor a model at hand."""

from keras_misa.serving.serving_client import ServingClient
from keras_misa.serving.serving_error import ServingError
from keras_misa.serving.utterance_error import UtteranceError

__all__ = ["ServingClient", "ServingError", "UtteranceError"]
