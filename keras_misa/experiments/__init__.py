"""Training and evaluation as run folders: what the command line does, as functions."""

from keras_misa.experiments.build_model import build_model
from keras_misa.experiments.compare import compare
from keras_misa.experiments.evaluate import evaluate
from keras_misa.experiments.frozen_text import encode_texts
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.predict import predict
from keras_misa.experiments.reference_protocol import ReferenceStopping, apply_reference_protocol
from keras_misa.experiments.significance import holm, mcnemar, paired_bootstrap
from keras_misa.experiments.subspace_scores import subspace_scores, variance_shares
from keras_misa.experiments.train import train

__all__ = [
    "ReferenceStopping",
    "apply_reference_protocol",
    "build_model",
    "compare",
    "encode_texts",
    "evaluate",
    "holm",
    "make_config",
    "mcnemar",
    "paired_bootstrap",
    "predict",
    "subspace_scores",
    "train",
    "variance_shares",
]
