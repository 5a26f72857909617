"""A Keras model as a state dict of the published PyTorch code."""

import numpy as np

from keras_misa.convert._bonds import make_bonds


def to_state_dict(model):
    """The weights of a model under the published code's parameter names, for `load_state_dict`.

    The opposite of `model_from_state_dict`. Of each pair of LSTM biases, of which only the sum counts, the first gets
    all and the second zero. What the published code keeps and computes nothing with is zero: `sp_discriminator.*`, and
    with BERT `tlayer_norm.*`. Tokens that are fused in another order than the published code's are put into its order.

    Args:
        model: a `MISARegressor` or `MISAClassifier` of text, visual and acoustic with `UtteranceEncoder`,
            `WordUtteranceEncoder` or `BertEncoder`, with shared and private vectors, both of them fused.

    Returns:
        Dict, name → float32 array, new ones.

    Raises:
        ValueError: If the published code has no such model; tells why.

    Example:
        ```python
        state_dict = keras_misa.convert.to_state_dict(model)
        torch.save({name: torch.from_numpy(array) for name, array in state_dict.items()}, "model.std")
        ```
    """
    state_dict = {}
    for bond in make_bonds(model):
        arrays = bond.to_torch(*bond.layer.get_weights())
        for (name, shape), array in zip(bond.shapes.items(), arrays, strict=True):
            state_dict[name] = np.array(array, "float32").reshape(shape)
    # What the published code keeps and computes nothing with.
    unused = {"sp_discriminator.sp_discriminator_layer_1": ((4, model.backbone.hidden_dim), (4,))}
    if "tlayer_norm.weight" not in state_dict:
        unused["tlayer_norm"] = ((600,), (600,))  # with BERT
    for name, (weight, bias) in unused.items():
        state_dict[f"{name}.weight"] = np.zeros(weight, "float32")
        state_dict[f"{name}.bias"] = np.zeros(bias, "float32")
    return state_dict
