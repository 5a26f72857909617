"""Hyper-parameters, one flat dict a dataset.

Names are those of the constructors' arguments (`MISABackbone`, `MISARegressor`, `MISAClassifier`, `fit`, Adam). Values
are the paper's Table 6 unless the comment says otherwise.
"""

CMU_MOSI = {
    "hidden_dim": 128,  # d_h
    "activation": "relu",
    "similarity_weight": 1.0,  # α
    "difference_weight": 0.3,  # β; goes with the mean form of the difference loss
    "reconstruction_weight": 1.0,  # γ
    "num_moments": 5,  # K of the CMD
    "dropout": 0.5,
    "fusion_dropout": 0.1,  # the published code's; not in the paper
    "batch_size": 64,
    "learning_rate": 1e-4,
    "clipvalue": 1.0,  # "gradient clip"; the published code clips by value
    "patience": 6,  # appendix C
    "num_outputs": 1,  # a score in [-3, 3]
    "bert_trainable": "all",  # the published code's choices, not in the paper: here everything,
}

CMU_MOSEI = {
    **CMU_MOSI,
    "activation": "leaky_relu",  # slope 0.01, PyTorch's
    "similarity_weight": 0.7,
    "reconstruction_weight": 0.7,
    "dropout": 0.1,
    "batch_size": 16,
    "bert_trainable": -3,  # here the embeddings and the last three encoder layers (9, 10, 11 of BERT-base),
}

UR_FUNNY = {
    **CMU_MOSI,
    "activation": "tanh",
    "similarity_weight": 0.7,
    "difference_weight": 1.0,
    "dropout": 0.1,
    "batch_size": 32,
    "num_outputs": 2,  # humour or not
    "bert_trainable": "none",  # and here nothing
}

SYNTHETIC_SUBSPACES = {
    **CMU_MOSI,
    # Chosen on the validation split of the built-in dataset, to train in minutes; nothing of the paper's.
    "learning_rate": 2e-4,
    "learning_rate_decay": 0.9,  # an epoch
    "trainable_embeddings": False,  # the made-up words' vectors are right as they are
    "patience": 8,
}

PRESETS = {
    "cmu_mosi": CMU_MOSI,
    "cmu_mosei": CMU_MOSEI,
    "ur_funny": UR_FUNNY,
    "synthetic_subspaces": SYNTHETIC_SUBSPACES,
}

__all__ = ["CMU_MOSEI", "CMU_MOSI", "PRESETS", "SYNTHETIC_SUBSPACES", "UR_FUNNY"]
