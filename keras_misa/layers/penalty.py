"""What the regularisers have in common."""

import keras
from keras import ops, tree


class Penalty(keras.layers.Layer):
    """Identity layer that adds a weighted term to the loss.

    A subclass writes its formula, `compute_term`; the base sees to float32 whatever the dtype policy, to the weight and
    to `add_loss`. It returns its input, and must stand on the path from the model's input to its output: Keras drops
    the loss of a layer that does not.

    Under a `tf.distribute` strategy a layer sees its device's share of the batch. `MISARegressor` and `MISAClassifier`
    compute the terms of their penalties anew, from the whole batch.

    Args:
        weight: positive factor of the term in the loss.

    Call arguments:
        representations: dict, as `SharedPrivateProjection` makes it.

    Returns:
        `representations`, untouched.

    Raises:
        ValueError: If `weight` is not positive: a weight of zero is a penalty left out.

    Example:
        >>> class ShrinkShared(Penalty):
        ...     def compute_term(self, representations):
        ...         return sum(ops.mean(ops.square(vector)) for vector in representations["shared"].values())
        >>> layer = ShrinkShared(weight=0.5)
        >>> _ = layer({"shared": {"text": ops.ones((2, 3))}})
        >>> [float(loss) for loss in layer.losses]
        [0.5]
    """

    needs = ()  # names of the vectors that the formula takes

    def __init__(self, weight=1.0, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        if not weight > 0:
            raise ValueError(f"`weight` must be positive; leave the layer out for none. Received: weight={weight}")
        self.weight = weight
        # of the last call:
        self.representations = None  # in float32
        self.term = None  # unweighted
        self.loss = None  # weighted

    def build(self, representations_shape):
        if missing := [name for name in self.needs if name not in representations_shape]:
            raise ValueError(
                f"{type(self).__name__} needs the vectors {missing}. "
                f"Received representations: {sorted(representations_shape)}"
            )

    def compute_term(self, representations):
        """The formula: representations in float32 → unweighted scalar. A subclass must have it."""
        raise TypeError(f"A penalty must define `compute_term(representations)`. Received: {type(self).__name__}")

    def call(self, representations):
        self.representations = tree.map_structure(lambda x: ops.cast(x, "float32"), representations)
        self.term = self.compute_term(self.representations)
        self.loss = self.weight * self.term
        self.add_loss(self.loss)
        return representations

    def compute_output_shape(self, representations_shape):
        return representations_shape

    def compute_output_spec(self, representations):
        return tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), representations)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}
