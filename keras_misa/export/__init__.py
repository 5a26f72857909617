"""Trained models as what servers load."""

from keras_misa.export.describe_export import read_signature
from keras_misa.export.export_onnx import export_onnx
from keras_misa.export.export_run import export_run

__all__ = ["export_onnx", "export_run", "read_signature"]
