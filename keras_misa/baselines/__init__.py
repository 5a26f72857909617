"""What MISA is compared with: seven models of other papers, on the same batches."""

from keras_misa.baselines.early_fusion_lstm import EarlyFusionLSTM
from keras_misa.baselines.factorized_multimodal_model import FactorizedMultimodalModel
from keras_misa.baselines.late_fusion_lstm import LateFusionLSTM
from keras_misa.baselines.low_rank_fusion import LowRankFusion
from keras_misa.baselines.memory_fusion_network import MemoryFusionNetwork
from keras_misa.baselines.multimodal_transformer import MultimodalTransformer
from keras_misa.baselines.tensor_fusion_network import TensorFusionNetwork

__all__ = [
    "EarlyFusionLSTM",
    "FactorizedMultimodalModel",
    "LateFusionLSTM",
    "LowRankFusion",
    "MemoryFusionNetwork",
    "MultimodalTransformer",
    "TensorFusionNetwork",
]
