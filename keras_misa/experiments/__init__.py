"""Training and evaluation as run folders: what the command line does, as functions."""

from keras_misa.experiments.ablate import ablate
from keras_misa.experiments.build_model import build_model
from keras_misa.experiments.compare import compare
from keras_misa.experiments.evaluate import evaluate
from keras_misa.experiments.frozen_text import encode_texts
from keras_misa.experiments.make_config import make_config
from keras_misa.experiments.missing_modalities import missing_modalities
from keras_misa.experiments.predict import predict
from keras_misa.experiments.reference_protocol import ReferenceStopping, apply_reference_protocol
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import RunGroup, find_run_groups
from keras_misa.experiments.significance import holm, mcnemar, paired_bootstrap
from keras_misa.experiments.subspace_scores import subspace_scores, variance_shares
from keras_misa.experiments.train import train
from keras_misa.experiments.train_seeds import train_seeds

__all__ = [
    "ReferenceStopping",
    "ResultTable",
    "RunGroup",
    "ablate",
    "apply_reference_protocol",
    "build_model",
    "compare",
    "encode_texts",
    "evaluate",
    "find_run_groups",
    "holm",
    "make_config",
    "mcnemar",
    "missing_modalities",
    "paired_bootstrap",
    "predict",
    "subspace_scores",
    "train",
    "train_seeds",
    "variance_shares",
]
