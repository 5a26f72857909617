"""What a server says of a model, and the model's answers."""

import numpy as np

DTYPES = {"DT_FLOAT": "float32", "DT_INT32": "int32", "DT_STRING": "string"}
PADDED = "serving_default"
ENCODED = "encoded"
SIDES = ("inputs", "outputs")
SUBSPACES = ("projected", "shared", "private")


def read_signatures(signatures):
    """Signatures in short.

    Args:
        signatures: dict of proto JSON, name → `SignatureDef`.

    Returns:
        Dict, name → `inputs` and `outputs`, each a dict, name → `{"dtype": "float32", "shape": (None, None, 47)}`.
    """
    return {
        name: {side: {key: _read_tensor(info) for key, info in signature.get(side, {}).items()} for side in SIDES}
        for name, signature in signatures.items()
        if not name.startswith("__")
    }


def _read_tensor(info):
    sizes = [int(dim.get("size", 0)) for dim in info.get("tensor_shape", {}).get("dim", ())]
    dtype = info.get("dtype", "DT_INVALID")
    return {"dtype": DTYPES.get(dtype, dtype), "shape": tuple(None if size < 0 else size for size in sizes)}


def read_modalities(signatures):
    """What each modality is made of.

    Args:
        signatures: of `read_signatures`.

    Returns:
        Dict, modality → `{"kind": "vectors", "dim": 47}`, `{"kind": "ids"}` or `{"kind": "sentence"}`, by name.

    Raises:
        ValueError: If `keras-misa export` wrote no such model.
    """
    if missing := [name for name in (PADDED, ENCODED) if "problem" not in signatures.get(name, {}).get("outputs", {})]:
        raise ValueError(
            f"it is no model that `keras-misa export` wrote, for it lacks the signature {missing[0]!r} with an output "
            f"'problem'. Received: signatures={sorted(signatures)}"
        )
    modalities = {}
    inputs = signatures[PADDED]["inputs"]
    for name in sorted(signatures[ENCODED]["inputs"]):
        tensor = inputs[name]
        if tensor["dtype"] == "string":
            modalities[name] = {"kind": "sentence"}
        elif tensor["dtype"] == "int32":
            modalities[name] = {"kind": "ids"}
        else:
            modalities[name] = {"kind": "vectors", "dim": tensor["shape"][2]}
    return modalities


def read_answers(outputs):
    """Tensors as a dict for each utterance.

    Args:
        outputs: dict, output → array with a row for each utterance; texts as `bytes` or `str`.

    Returns:
        List of dicts: `score`; or `scores`, a dict by name; or `class` and `probabilities`, a dict by name; or
        `projected`, `shared` and `private`, dicts of arrays by modality; `attention`, `token_names`; and `problem`.
    """
    outputs = {name: _texts(value) if value.dtype.kind in "OSU" else value for name, value in outputs.items()}
    answers = []
    for row in range(len(outputs["problem"])):
        answer = {}
        for name, values in outputs.items():
            subspace, _, modality = name.partition("_")
            if name == "score":
                answer[name] = float(values[row])
            elif name in ("scores", "probabilities"):
                names = outputs["score_names" if name == "scores" else "class_names"][row]
                answer[name] = dict(zip(names, map(float, values[row]), strict=True))
            elif subspace in SUBSPACES and modality:
                answer.setdefault(subspace, {})[modality] = values[row]
            elif name not in ("score_names", "class_names", "problem"):
                answer[name] = values[row]
        answers.append(answer | {"problem": outputs["problem"][row]})
    return answers


def _texts(array):
    """Nested lists of `str`."""
    return [_texts(item) if isinstance(item, np.ndarray) else _text(item) for item in array]


def _text(item):
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
