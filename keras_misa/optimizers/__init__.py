"""Optimisers."""

from keras_misa.optimizers.fine_tuning_adam import FineTuningAdam

__all__ = ["FineTuningAdam"]
