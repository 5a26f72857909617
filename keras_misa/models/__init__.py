"""MISA as Keras models: what is computed (`MISABackbone`) and what is optimised (the tasks)."""

from keras_misa.models.misa_backbone import MISABackbone
from keras_misa.models.misa_classifier import MISAClassifier
from keras_misa.models.misa_regressor import MISARegressor
from keras_misa.models.misa_task import MISATask
from keras_misa.models.replace_encoder import replace_encoder
from keras_misa.models.utterance_task import UtteranceTask

__all__ = ["MISABackbone", "MISAClassifier", "MISARegressor", "MISATask", "UtteranceTask", "replace_encoder"]
