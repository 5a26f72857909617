"""What a SavedModel takes and gives, for people."""

import pathlib

from keras_misa._files import read_json

SIGNATURE_FILE = "signature.json"


def read_signature(folder):
    """What `signature.json` says of an exported model.

    Args:
        folder: of the SavedModel: `<name>_<flavour>/<version>`, or `<name>_<flavour>` for its newest version.

    Returns:
        Pair: the SavedModel's folder, a path, and the dict.

    Raises:
        FileNotFoundError: If there is no exported model.
        ValueError: If the file is damaged.
    """
    found = find_signature(folder)
    if found is None:
        raise FileNotFoundError(f"{folder} is no model that `keras-misa export` wrote: there is no {SIGNATURE_FILE}.")
    return found


def find_signature(folder):
    """As `read_signature`, but `None` if there is no exported model."""
    path = pathlib.Path(folder)
    if path.is_dir() and not (path / SIGNATURE_FILE).exists() and (numbers := versions(path)):
        path = path / str(numbers[-1])
    if not (path / SIGNATURE_FILE).exists():
        return None
    description = read_json(path / SIGNATURE_FILE)
    if not isinstance(description, dict) or not {"signatures", "modalities", "name"} <= set(description):
        raise ValueError(f"{path / SIGNATURE_FILE} is damaged: expected what `keras-misa export` wrote.")
    return path, description


def versions(folder):
    """Numbers of the versions in a model's folder."""
    return sorted(int(path.name) for path in pathlib.Path(folder).iterdir() if path.name.isdecimal())


def export_readme(description):
    """The README of a SavedModel, Markdown."""
    needs = (
        "It needs the ops of tensorflow-text: TensorFlow Serving has them, Python needs `import tensorflow_text`."
        if description["needs_tensorflow_text"]
        else "It is made of plain TensorFlow ops."
    )
    lines = [
        f"# {description['name']}",
        "",
        f"A {description.get('model', 'MISA')} model, trained on {description['trained_on']} "
        f"(seed {description['seed']}), exported by keras_misa {description['versions']['keras_misa']} with TensorFlow "
        f"{description['versions']['tensorflow']}. {needs}",
        "",
        "A request holds any number of utterances, one in each row. A row that cannot be used has NaN for an answer "
        "and says why in `problem`; the others are what they would be without it. "
        + (
            "An utterance may lack a modality (length 0, an empty string), but not all."
            if description["may_miss"]
            else "Each utterance needs every modality."
        ),
        "",
    ]
    for name, signature in description["signatures"].items():
        lines += [f"## Signature `{name}`", "", "| input | type | shape | |", "|---|---|---|---|"]
        for key, value in signature["inputs"].items():
            shape = ", ".join("any" if size is None else str(size) for size in value["shape"])
            lines.append(f"| `{key}` | {value['dtype']} | ({shape}) | {value['meaning']} |")
        lines += ["", "| output | |", "|---|---|"]
        lines += [f"| `{key}` | {value['meaning']} |" for key, value in signature["outputs"].items()]
        lines.append("")
    return "\n".join(lines)
