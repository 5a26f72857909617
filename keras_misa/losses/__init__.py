"""The regularisers of MISA as plain functions of matrices."""

from keras_misa.losses.central_moment_discrepancy import central_moment_discrepancy
from keras_misa.losses.maximum_mean_discrepancy import maximum_mean_discrepancy
from keras_misa.losses.orthogonality import orthogonality

__all__ = ["central_moment_discrepancy", "maximum_mean_discrepancy", "orthogonality"]
