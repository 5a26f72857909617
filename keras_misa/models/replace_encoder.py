"""A model with another encoder for a modality."""

from keras_misa.models._rebuilding import constructor_arguments


def replace_encoder(model, modality, encoder):
    """The same model with another encoder for a modality.

    All other weights are copied; the other encoders are shared. It serves where a modality was encoded beforehand, once
    for all epochs: the model was trained on the vectors, and the new one takes what they were made from.

    Args:
        model: a `MISARegressor` or `MISAClassifier`.
        modality: name of one of its modalities.
        encoder: see `MISABackbone`; its output has the size of the old one's.

    Returns:
        A model of the same class, not compiled.

    Raises:
        ValueError: If there is no such modality, the sizes differ, or another encoder has the name of the new one.

    Example:
        >>> import keras
        >>> from keras_misa.layers import MeanEncoder
        >>> from keras_misa.models import MISABackbone, MISARegressor
        >>> model = MISARegressor(MISABackbone({"text": MeanEncoder(6)}, hidden_dim=4))
        >>> inputs = keras.Input((3,))
        >>> replace_encoder(model, "text", keras.Model(inputs, keras.layers.Dense(6)(inputs))).input["text"].shape
        (None, 3)
    """
    old = model.backbone
    if modality not in old.encoders:
        raise ValueError(f"The model's modalities are {old.modalities}. Received: modality={modality!r}")
    config = old.get_config()
    config.update(encoders={**old.encoders, modality: encoder}, dtype=old.dtype_policy)
    backbone = type(old)(**constructor_arguments(config))
    size, given = (part.get_layer(f"{modality}_projection").kernel.shape[0] for part in (old, backbone))
    if given != size:
        raise ValueError(
            f"`encoder` must give vectors of {size} numbers, as the old one does. Received: {given} numbers"
        )
    config = {**model.get_config(), "backbone": backbone, "dtype": model.dtype_policy}
    new = type(model)(**constructor_arguments(config))
    others = {id(layer) for layer in (backbone, *backbone.encoders.values())}
    for source, target in ((old, backbone), (model, new)):
        for layer in target.layers:
            if id(layer) not in others and layer.weights:
                was = source.get_layer(layer.name)
                layer.set_weights(was.get_weights())
                for part, old_part in zip(layer._flatten_layers(), was._flatten_layers(), strict=True):
                    part.trainable = old_part.trainable
    return new
