"""The layers of MISA, for any dict of modalities."""

from keras_misa.layers.adversarial_similarity_penalty import AdversarialSimilarityPenalty
from keras_misa.layers.bert_encoder import BertEncoder
from keras_misa.layers.bert_step_encoder import BertStepEncoder
from keras_misa.layers.difference_penalty import DifferencePenalty
from keras_misa.layers.mean_encoder import MeanEncoder
from keras_misa.layers.mmd_similarity_penalty import MMDSimilarityPenalty
from keras_misa.layers.modality_fusion import ModalityFusion
from keras_misa.layers.penalty import Penalty
from keras_misa.layers.reconstruction_penalty import ReconstructionPenalty
from keras_misa.layers.shared_private_projection import SharedPrivateProjection
from keras_misa.layers.similarity_penalty import SimilarityPenalty
from keras_misa.layers.step_encoder import StepEncoder
from keras_misa.layers.utterance_encoder import UtteranceEncoder
from keras_misa.layers.word_step_encoder import WordStepEncoder
from keras_misa.layers.word_utterance_encoder import WordUtteranceEncoder

__all__ = [
    "AdversarialSimilarityPenalty",
    "BertEncoder",
    "BertStepEncoder",
    "DifferencePenalty",
    "MMDSimilarityPenalty",
    "MeanEncoder",
    "ModalityFusion",
    "Penalty",
    "ReconstructionPenalty",
    "SharedPrivateProjection",
    "SimilarityPenalty",
    "StepEncoder",
    "UtteranceEncoder",
    "WordStepEncoder",
    "WordUtteranceEncoder",
]
