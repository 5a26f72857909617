"""The models that an experiment can be of, and which settings each has."""

import inspect

from keras_misa.baselines import (
    EarlyFusionLSTM,
    FactorizedMultimodalModel,
    LateFusionLSTM,
    LowRankFusion,
    MemoryFusionNetwork,
    MultimodalTransformer,
    TensorFusionNetwork,
)

MISA = "misa"
BASELINES = {
    "tfn": TensorFusionNetwork,
    "lmf": LowRankFusion,
    "mfm": FactorizedMultimodalModel,
    "mfn": MemoryFusionNetwork,
    "mult": MultimodalTransformer,
    "ef_lstm": EarlyFusionLSTM,
    "lf_lstm": LateFusionLSTM,
}
MODELS = (MISA, *BASELINES)
TITLES = {
    "misa": "MISA",
    "tfn": "TFN",
    "lmf": "LMF",
    "mfm": "MFM",
    "mfn": "MFN",
    "mult": "MulT",
    "ef_lstm": "EF-LSTM",
    "lf_lstm": "LF-LSTM",
}
# What only MISA has; a baseline may have an argument of such a name, with a default of its own.
MISA_SETTINGS = {
    "activation",
    "difference_weight",
    "dropout",
    "fused",
    "fusion_dropout",
    "hidden_dim",
    "num_moments",
    "reconstruction_weight",
    "similarity",
    "similarity_weight",
    "subspaces",
}
_SETTLED = {"averaged", "dtype", "encoders", "num_outputs", "predicts"}  # by what all models have in common


def arguments_of(model):
    """Dict, argument → default, of a baseline's constructor."""
    parameters = inspect.signature(BASELINES[model].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD}


def model_defaults(model):
    """Dict, setting → default, of what a baseline has for itself."""
    return {name: default for name, default in arguments_of(model).items() if name not in _SETTLED}


def takes_means(model):
    """Whether a model can take the mean of a modality: the setting `averaged`."""
    return model == MISA or "averaged" in arguments_of(model)
