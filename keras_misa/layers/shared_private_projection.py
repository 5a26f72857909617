"""Modality-invariant and -specific vectors, equation 2 of the paper."""

import keras

from keras_misa.layers._frozen import keep_frozen

SUBSPACES = ("shared", "private")


@keras.saving.register_keras_serializable("keras_misa")
class SharedPrivateProjection(keras.layers.Layer):
    r"""Projects each modality's vector into a shared and a private subspace.

    $$h^c_m = E_c(u_m; \theta^c) \qquad h^p_m = E_p(u_m; \theta^p_m)$$

    One dense layer $E_c$ serves all modalities; each has an $E_p$ of its own.

    Args:
        units: size of the vectors, d_h.
        subspaces: which subspaces to make, some of `("shared", "private")`, each at most once. The default is both.
        activation: of the dense layers. Sigmoid by default: the similarity penalty wants a bounded range.

    Call arguments:
        inputs: dict, modality name → projected vector `(batch, dim)`; the same `dim` for all.

    Returns:
        The representations: dict of `projected` (the inputs, unchanged) and each of `subspaces`, every one a dict,
        modality name → `(batch, units)`.

    Raises:
        ValueError: If `subspaces` holds an unknown name or one twice, or if the inputs differ in size.

    Example:
        >>> import numpy as np
        >>> projected = {"text": np.ones((2, 4), "float32"), "visual": np.zeros((2, 4), "float32")}
        >>> representations = SharedPrivateProjection(units=4)(projected)
        >>> {name: sorted(vectors) for name, vectors in representations.items()}["private"]
        ['text', 'visual']
    """

    def __init__(self, units, subspaces=SUBSPACES, activation="sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.subspaces = check_names("subspaces", subspaces, SUBSPACES)
        self.activation = keras.activations.get(activation)
        self._encoders = {}

    def build(self, input_shape):
        dims = {modality: shape[-1] for modality, shape in input_shape.items()}
        if len(set(dims.values())) != 1:
            raise ValueError(f"All modalities must be vectors of the same size. Received sizes: {dims}")
        (dim,) = set(dims.values())
        if "shared" in self.subspaces:
            self._encoders["shared"] = self._make_encoder("shared", dim)
        if "private" in self.subspaces:
            for modality in sorted(input_shape):  # weights are saved in this order, whatever that of the dict
                self._encoders[f"private_{modality}"] = self._make_encoder(f"private_{modality}", dim)
        keep_frozen(self)

    def _make_encoder(self, name, dim):
        dense = keras.layers.Dense(self.units, self.activation, dtype=self.dtype_policy, name=name)
        dense.build((None, dim))
        return dense

    def encoder(self, subspace, modality):
        """The dense layer that makes the vector of `modality` in `subspace`."""
        return self._encoders["shared" if subspace == "shared" else f"{subspace}_{modality}"]

    def call(self, inputs):
        representations = {"projected": dict(inputs)}
        for subspace in self.subspaces:
            representations[subspace] = {m: self.encoder(subspace, m)(vector) for m, vector in inputs.items()}
        return representations

    def compute_output_shape(self, input_shape):
        shapes = {modality: (*shape[:-1], self.units) for modality, shape in input_shape.items()}
        return {"projected": dict(input_shape), **{subspace: dict(shapes) for subspace in self.subspaces}}

    def compute_output_spec(self, inputs):
        shapes = self.compute_output_shape({modality: vector.shape for modality, vector in inputs.items()})
        return {  # Keras would sort the names on PyTorch
            name: {m: keras.KerasTensor(shape, self.compute_dtype) for m, shape in vectors.items()}
            for name, vectors in shapes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "subspaces": self.subspaces,
            "activation": keras.activations.serialize(self.activation),
        }


def check_names(argument, names, allowed):
    """Return `names` as a tuple, or raise if one is not in `allowed` or stands there twice."""
    names = tuple(names)
    if set(names) - set(allowed) or len(set(names)) != len(names):
        raise ValueError(f"`{argument}` must be some of {tuple(allowed)}, each once. Received: {argument}={names}")
    return names
