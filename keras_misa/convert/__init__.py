"""From the published PyTorch code to Keras."""

from keras_misa.convert.model_from_state_dict import model_from_state_dict
from keras_misa.convert.model_inputs import model_inputs

__all__ = ["model_from_state_dict", "model_inputs"]
