"""Adam for a model of which a part comes trained."""

import keras
from keras import ops

from keras_misa._replicas import sum_replicas


@keras.saving.register_keras_serializable("keras_misa")
class FineTuningAdam(keras.optimizers.Adam):
    r"""Keras's Adam, with a learning rate of its own for pre-trained weights.

    Pre-trained are the weights of a `BertEncoder`. In step $t$, counted from 0, theirs is

    $$η_t = η_{pretrained} \min(1, (t + 1) / warmup\_steps)$$

    Without pre-trained weights it is `keras.optimizers.Adam`, with two differences on TensorFlow. The gradient of a row
    of an embedding table that is looked up twice in a batch is summed before it is clipped and squared, as in PyTorch;
    Keras clips and squares every look-up for itself. And under `tf.distribute` gradients are summed over the devices
    before they are clipped; Keras clips those of each device's share of the batch.

    Args:
        learning_rate: η, a number or a `keras.optimizers.schedules.LearningRateSchedule`.
        pretrained_learning_rate: that of pre-trained weights, likewise. `None`, the default, takes `learning_rate`, as
            the published code does. A number stays what it is, whatever callbacks do to `learning_rate`.
        warmup_steps: steps over which the latter rises to its value; 0 for none.
        **kwargs: see `keras.optimizers.Adam`.

    Raises:
        ValueError: If `warmup_steps` is negative, or there is a `weight_decay` beside a rate or warm-up of the
            pre-trained weights: Keras decays all weights at `learning_rate`.

    Example:
        >>> optimizer = FineTuningAdam(1e-3, pretrained_learning_rate=1e-5, warmup_steps=100, clipvalue=1.0)
        >>> optimizer.get_config()["warmup_steps"]
        100
    """

    def __init__(self, learning_rate=1e-4, pretrained_learning_rate=None, warmup_steps=0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if warmup_steps < 0:
            raise ValueError(f"`warmup_steps` must be 0 or more. Received: warmup_steps={warmup_steps}")
        if self.weight_decay and (pretrained_learning_rate is not None or warmup_steps):
            raise ValueError(
                "`weight_decay` works at the one `learning_rate`: leave it, or the pre-trained weights' own rate and "
                f"warm-up, out. Received: weight_decay={self.weight_decay}, "
                f"pretrained_learning_rate={pretrained_learning_rate}, warmup_steps={warmup_steps}"
            )
        self.pretrained_learning_rate = pretrained_learning_rate
        self.warmup_steps = warmup_steps

    def build(self, variables):
        """Remember which variables are pre-trained: TensorFlow updates bare ones, which do not tell."""
        super().build(variables)
        self._is_pretrained = [getattr(variable, "is_pretrained", False) for variable in variables]

    def apply(self, grads, trainable_variables=None):
        """Apply gradients, as one array for each variable."""
        if keras.backend.backend() == "tensorflow":
            from keras_misa._tensorflow import sum_rows

            grads = [gradient if gradient is None else sum_rows(gradient) for gradient in grads]
        return super().apply(sum_replicas(grads), trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # `apply` did it: Keras would clip each device's share, and sum what is clipped

    def update_step(self, gradient, variable, learning_rate):
        """Adam's update, at the variable's own rate."""
        rate = self.rate_of(variable, learning_rate)
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, rate)
            return
        from keras_misa._tensorflow import apply_adam

        index = self._get_variable_index(variable)
        apply_adam(self, gradient, variable, self._momentums[index].value, self._velocities[index].value, rate)

    def rate_of(self, variable, learning_rate):
        """The learning rate of a variable in this step."""
        if not self._is_pretrained[self._get_variable_index(variable)]:
            return learning_rate
        rate = learning_rate if self.pretrained_learning_rate is None else self.pretrained_learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(self._iterations)  # as Keras asks its schedules
        if self.warmup_steps:
            rate = rate * ops.minimum(1.0, (ops.cast(self.iterations, "float32") + 1.0) / self.warmup_steps)
        return rate

    def get_config(self):
        rate = self.pretrained_learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = keras.saving.serialize_keras_object(rate)
        return {**super().get_config(), "pretrained_learning_rate": rate, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if isinstance(config.get("pretrained_learning_rate"), dict):
            config["pretrained_learning_rate"] = keras.saving.deserialize_keras_object(
                config["pretrained_learning_rate"], custom_objects
            )
        return super().from_config(config, custom_objects)
