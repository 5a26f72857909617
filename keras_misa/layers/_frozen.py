"""Layers that were frozen before they had parts."""


def keep_frozen(layer):
    """Freeze the parts that a layer has just made if it is frozen itself: Keras makes every part trainable.

    Setting `layer.trainable` again would not do: TensorFlow skips an attribute that is set to what it is.
    """
    if not layer.trainable:
        for part in layer._flatten_layers(include_self=False):
            part.trainable = False
