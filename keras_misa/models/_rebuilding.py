"""Models that are made anew from the arguments of their constructors, as files of them are."""

import logging
import re

import keras

_logger = logging.getLogger(__name__)


def common_config(model):
    """What `get_config` holds of every such model: name, dtype, and which of its parts are frozen."""
    return {
        "name": model.name,
        "trainable": model.trainable,
        "frozen": [path for path, part in _parts(model).items() if not part.trainable],
        "dtype": keras.saving.serialize_keras_object(model.dtype_policy),
    }


def rebuild(cls, config, *encoded):
    """A model from its `get_config`.

    Args:
        cls: its class.
        config: dict.
        *encoded: keys whose values are serialised Keras objects, or dicts of them, beside `dtype`.

    Returns:
        The model, with the same parts frozen.
    """
    config = {**config, **{k: keras.saving.deserialize_keras_object(config[k]) for k in ("dtype", *encoded)}}
    # Given to the constructor, `trainable` would thaw what is frozen in the parts, and freeze no part.
    trainable, frozen = config.pop("trainable", True), config.pop("frozen", None)
    model = cls(**config)
    if not trainable:
        model.trainable = False
    if frozen is not None:
        _freeze(model, frozen)
    return model


def constructor_arguments(config):
    """Without what `common_config` adds to them."""
    return {name: value for name, value in config.items() if name not in ("trainable", "frozen")}


def check_encoders(encoders):
    """Raise if they are no dict of at least one, or if Keras could not tell two of them apart."""
    if not isinstance(encoders, dict) or not encoders:
        raise ValueError(
            f"`encoders` must be a dict with at least one modality, name → encoder. Received: encoders={encoders}"
        )
    owners = {}
    for modality, encoder in encoders.items():
        name = getattr(encoder, "name", None)
        other, theirs = owners.setdefault(name, (modality, encoder))
        if name is not None and theirs is not encoder:
            raise ValueError(
                "The encoders of a model have different names: give a new one `name=`, such as "
                f"`name='{modality}_encoder'`. Received: encoders of {other!r} and {modality!r} that are both called "
                f"{name!r}"
            )


def _parts(layer, path="", found=None, seen=None):
    """Dict, path of names below a layer → that part; whole before its own parts, each part once.

    Keras numbers names that nobody gave, on and on while a process lives: their numbers are left out, and parts of one
    name counted in their order.
    """
    found, seen = ({}, set()) if found is None else (found, seen)
    for part in layer._layers:
        if id(part) in seen:
            continue
        seen.add(id(part))
        name = first = path + re.sub(r"(_\d+)+$", "", part.name)
        number = 1
        while name in found:
            number += 1
            name = f"{first}#{number}"
        found[name] = part
        _parts(part, f"{name}/", found, seen)
    return found


def _freeze(model, frozen):
    parts, frozen = _parts(model), set(frozen)
    if gone := sorted(frozen - parts.keys()):
        _logger.warning("%s: frozen parts that are not there are trainable: %s.", model.name, ", ".join(gone))
    for path, part in parts.items():
        if part.trainable != (path not in frozen):
            part.trainable = path not in frozen
