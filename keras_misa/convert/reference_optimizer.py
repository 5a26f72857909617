"""Adam in PyTorch's arithmetic."""

import keras
from keras import ops

from keras_misa.optimizers import FineTuningAdam


def reference_optimizer(learning_rate=1e-4, clipvalue=1.0, **kwargs):
    r"""The published code's optimiser: PyTorch's Adam, gradients clipped by value.

    It differs from `keras.optimizers.Adam` in two ways. ε = 1e-8 is added after the bias correction,

    $$θ_{t+1} = θ_t - η\, \frac{m_t / (1 - β_1^t)}{\sqrt{v_t / (1 - β_2^t)} + ε}$$

    where Keras adds 1e-7 before it. And the bias of an LSTM moves twice as far: PyTorch keeps it as the sum of two
    vectors with equal gradients, and Adam moves both.

    Args:
        learning_rate: η, a number or a `keras.optimizers.schedules.LearningRateSchedule`.
        clipvalue: gradients are clipped to ± this.
        **kwargs: `pretrained_learning_rate` and `warmup_steps`, see `keras_misa.optimizers.FineTuningAdam`; the
            published code has neither.

    Returns:
        A `ReferenceAdam`, which saves and loads with a model.

    Example:
        >>> optimizer = reference_optimizer()
        >>> weight = keras.Variable([1.0, 1.0])
        >>> optimizer.build([weight])
        >>> optimizer.apply([ops.convert_to_tensor([0.5, -3.0])])
        >>> [f"{w:.4f}" for w in ops.convert_to_numpy(weight)]  # the first step is the learning rate
        ['0.9999', '1.0001']
    """
    return ReferenceAdam(learning_rate, clipvalue=clipvalue, epsilon=1e-8, **kwargs)


@keras.saving.register_keras_serializable("keras_misa")
class ReferenceAdam(FineTuningAdam):
    """See `reference_optimizer`."""

    def build(self, variables):
        """Remember how many vectors of PyTorch each variable stands for: TensorFlow updates bare variables."""
        super().build(variables)
        self._moves = [getattr(variable, "stands_for", 1) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """PyTorch's update."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        learning_rate = self._moves[index] * ops.cast(self.rate_of(variable, learning_rate), variable.dtype)
        if keras.backend.backend() == "tensorflow":
            from keras_misa._tensorflow import apply_adam

            apply_adam(self, gradient, variable, m.value, v.value, learning_rate, corrected=True)
            return
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        correction_1 = 1.0 - ops.power(ops.cast(self.beta_1, variable.dtype), step)
        correction_2 = 1.0 - ops.power(ops.cast(self.beta_2, variable.dtype), step)
        self.assign_add(m, (gradient - m) * (1.0 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1.0 - self.beta_2))
        denominator = ops.sqrt(v) / ops.sqrt(correction_2) + self.epsilon
        self.assign_sub(variable, learning_rate / correction_1 * (m / denominator))
