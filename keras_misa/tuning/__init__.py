"""Searching hyper-parameters with KerasTuner."""

from keras_misa.tuning.misa_hyper_model import MISAHyperModel
from keras_misa.tuning.search_spaces import PAPER_GRID, SPACES, paper_space, wide_space
from keras_misa.tuning.tune import tune

__all__ = ["PAPER_GRID", "SPACES", "MISAHyperModel", "paper_space", "tune", "wide_space"]
