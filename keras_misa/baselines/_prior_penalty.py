"""How far codes are from their prior."""

import keras
from keras import ops

from keras_misa.layers import Penalty


@keras.saving.register_keras_serializable("keras_misa")
class PriorPenalty(Penalty):
    r"""Pulls the distribution of each latent code over the batch towards a standard normal one.

    $$L = \sum_k MMD^2(z_k, \mathcal N(0, I)), \quad k(u, v) = \exp(-\|u - v\|_2^2 / d^2)$$

    with the published code's kernel, d the size of the code. The code draws as many vectors from the prior as
    the batch has rows; here the expectations over it are exact, so the loss has no noise:

    $$MMD^2(z, \mathcal N) = E[k(z, z')] - 2 E_z\Big[\big(\tfrac{s}{s + 2}\big)^{d / 2} e^{-\|z\|^2 / (s + 2)}\Big]
    + \big(\tfrac{s}{s + 4}\big)^{d / 2}, \quad s = d^2.$$

    Args:
        weight: factor of the term in the loss.

    Call arguments:
        representations: dict with `latent`: name → `(batch, d)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive.
    """

    needs = ("latent",)

    def compute_term(self, representations):
        """Sum of the discrepancies."""
        return sum(discrepancy_from_prior(z) for z in representations["latent"].values())


def discrepancy_from_prior(z):
    """Squared MMD between rows `(batch, d)` and the standard normal distribution, a float32 scalar."""
    z = ops.cast(z, "float32")
    size = z.shape[1]
    width = float(size) ** 2
    distances = ops.sum(ops.square(ops.expand_dims(z, 1) - ops.expand_dims(z, 0)), axis=-1)
    among = ops.mean(ops.exp(-distances / width))
    norms = ops.sum(ops.square(z), axis=-1)
    to_prior = (width / (width + 2.0)) ** (size / 2) * ops.mean(ops.exp(-norms / (width + 2.0)))
    return among - 2.0 * to_prior + (width / (width + 4.0)) ** (size / 2)
