"""Reconstruction loss, equation 11 of the paper."""

import keras
from keras import ops

from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.penalty import Penalty


@keras.saving.register_keras_serializable("keras_misa")
class ReconstructionPenalty(Penalty):
    r"""Keeps the subspaces representative: their sum must give the projected vector back.

    $$L_{recon} = \frac{1}{|m|} \sum_m \frac{\|u_m - D(h^c_m + h^p_m)\|_2^2}{d_h}$$

    averaged over the batch. D is a linear layer; with one subspace only, its vector stands alone.

    Args:
        weight: factor of the term in the loss, the paper's γ.
        shared_decoder: `False`, the default, gives each modality a decoder, as the published code does; `True` uses
            one for all, as the paper writes it.

    Call arguments:
        representations: dict with `projected` and one or both of `shared` and `private`, each modality name →
            `(batch, units)`.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive or there is no subspace to reconstruct from.

    Example:
        >>> layer = ReconstructionPenalty()
        >>> vectors = {"text": keras.ops.ones((2, 4))}
        >>> representations = layer({"projected": vectors, "shared": vectors, "private": vectors})
        >>> layer.reconstruct(representations)["text"].shape[1], len(layer.losses)
        (4, 1)
    """

    def __init__(self, weight=1.0, shared_decoder=False, **kwargs):
        super().__init__(weight, **kwargs)
        self.shared_decoder = shared_decoder
        self._decoders = {}

    def build(self, representations_shape):
        if not set(representations_shape) & {"shared", "private"}:
            raise ValueError(
                'Reconstruction needs "shared" or "private" vectors. '
                f"Received representations: {sorted(representations_shape)}"
            )
        subspace = "shared" if "shared" in representations_shape else "private"
        for modality, shape in sorted(representations_shape[subspace].items()):  # the order of the saved weights
            name = "decoder" if self.shared_decoder else f"decoder_{modality}"
            if name not in self._decoders:
                units = representations_shape["projected"][modality][-1]
                self._decoders[name] = keras.layers.Dense(units, dtype="float32", name=name)
                self._decoders[name].build(shape)
        keep_frozen(self)

    def decoder(self, modality):
        """The dense layer that reconstructs `modality`."""
        return self._decoders["decoder" if self.shared_decoder else f"decoder_{modality}"]

    def reconstruct(self, representations):
        """Decode the subspaces: dict, modality name → `(batch, units)`, float32."""
        return {
            modality: self.decoder(modality)(
                sum(
                    ops.cast(representations[s][modality], "float32")
                    for s in ("shared", "private")
                    if s in representations
                )
            )
            for modality in representations["projected"]
        }

    def compute_term(self, representations):
        """Mean squared error over all entries, then over modalities."""
        reconstructed = self.reconstruct(representations)
        errors = [ops.mean(ops.square(u - reconstructed[m])) for m, u in representations["projected"].items()]
        return sum(errors) / len(errors)

    def get_config(self):
        return {**super().get_config(), "shared_decoder": self.shared_decoder}
