"""State dicts from the files of `torch.save`, without PyTorch."""

import numpy as np

from keras_misa.data._torch_file import load


def read_torch_checkpoint(path):
    """Read a state dict that `torch.save` wrote.

    PyTorch is not needed and nothing that the file contains is run. Both formats of `torch.save`, the zip format and
    the legacy one, and tensors of float16, float32, float64 and integers, from whatever device. The arrays are views
    of the file's memory map, so that a file larger than memory can be read; writing into them changes no file.

    Args:
        path: the file.

    Returns:
        Dict, parameter name → NumPy array, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, names anything but tensors and plain containers (a whole model, for one), or
            holds something other than a state dict.

    Example:
        ```python
        state_dict = keras_misa.convert.read_torch_checkpoint("checkpoints/model.std")
        model = keras_misa.convert.model_from_state_dict(state_dict)
        ```
    """
    value = load(path)
    if not isinstance(value, dict) or not value:
        raise ValueError(
            f"`{path}` must hold a state dict, names and tensors. Received: {type(value).__name__} "
            f"{'' if isinstance(value, dict) else 'instead of a dict'}".rstrip()
        )
    for name, array in value.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise ValueError(
                f"`{path}` must hold a state dict, names and tensors. Received: {type(array).__name__} under the name "
                f"{name!r}; names: {[str(n) for n in value][:10]}"
            )
    return dict(value)
