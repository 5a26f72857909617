"""The models of a search, for KerasTuner."""

import keras_tuner

from keras_misa.experiments import build_model
from keras_misa.tuning.search_spaces import paper_space


class MISAHyperModel(keras_tuner.HyperModel):
    """MISA as a function of its hyper-parameters, for any of KerasTuner's tuners.

    Let the tuner's objective be `keras_tuner.Objective("val_task", "min")`, the task's loss without regularisers:
    `val_loss` holds them, and would favour small weights.

    Args:
        config: dict of `keras_misa.experiments.make_config`, for all that is not searched.
        dims: dict, modality → size of a step's vector, `None` for words, as `keras_misa.data.modality_dims` gives it.
        make_text_encoder: function without arguments that makes the encoder of such words, anew for each model.
        steps_per_epoch: number of batches, where `config` has a `learning_rate_decay`.
        space: function of `keras_tuner.HyperParameters` that returns a dict, name of a setting → value: `paper_space`
            (the default), `wide_space` or your own.

    Example:
        >>> from keras_misa.experiments import make_config
        >>> hypermodel = MISAHyperModel(make_config("cmu_mosi"), {"visual": 47, "acoustic": 74})
        >>> hp = keras_tuner.HyperParameters()
        >>> model = hypermodel.build(hp)  # compiled
        >>> sorted(hp.values)
        ['activation', 'difference_weight', 'dropout', 'reconstruction_weight', 'similarity_weight']
    """

    def __init__(self, config, dims, make_text_encoder=None, steps_per_epoch=None, space=paper_space):
        super().__init__()
        self.config = config
        self.dims = dims
        self.make_text_encoder = make_text_encoder
        self.steps_per_epoch = steps_per_epoch
        self.space = space

    def build(self, hp):
        """The compiled model of a point."""
        config = {**self.config, **self.space(hp)}
        text_encoder = self.make_text_encoder and self.make_text_encoder()
        return build_model(config, self.dims, text_encoder, self.steps_per_epoch)
