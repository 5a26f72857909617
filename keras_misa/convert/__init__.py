"""Between the published PyTorch code and Keras."""

from keras_misa.convert.model_from_state_dict import model_from_state_dict
from keras_misa.convert.model_inputs import model_inputs
from keras_misa.convert.read_torch_checkpoint import read_torch_checkpoint
from keras_misa.convert.reference_optimizer import reference_optimizer
from keras_misa.convert.to_state_dict import to_state_dict

__all__ = [
    "model_from_state_dict",
    "model_inputs",
    "read_torch_checkpoint",
    "reference_optimizer",
    "to_state_dict",
]
