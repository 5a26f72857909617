"""How well sequences were decoded."""

import keras
from keras import ops

from keras_misa.layers import Penalty
from keras_misa.layers.step_encoder import is_real


@keras.saving.register_keras_serializable("keras_misa")
class SequencePenalty(Penalty):
    r"""Mean squared error of decoded steps, over the real ones, added up over the modalities.

    $$L = \sum_m \frac{1}{N_m d_m} \sum_{i, t < T_{m, i}} \|x^m_{i, t} - \hat x^m_{i, t}\|_2^2$$

    with $N_m$ the number of real steps in the batch. The target is taken as it is: no gradient goes to what made it.

    Args:
        weight: factor of the term in the loss.

    Call arguments:
        representations: dict with `target` and `decoded`, each modality → `(batch, time, size)`, and `lengths`,
            modality → `(batch,)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive.
    """

    needs = ("decoded", "lengths", "target")

    def compute_term(self, representations):
        """Sum of the modalities' errors."""
        errors = []
        for modality, decoded in representations["decoded"].items():
            target = ops.stop_gradient(representations["target"][modality])
            real = is_real(target, representations["lengths"][modality])
            real = ops.expand_dims(ops.cast(real, "float32"), -1)
            entries = ops.maximum(ops.sum(real), 1.0) * target.shape[2]
            errors.append(ops.sum(ops.square(target - decoded) * real) / entries)
        return sum(errors)
