"""A run as SavedModels that TensorFlow Serving loads."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import tempfile

from keras_misa._files import removing_leftovers, write_json, write_text
from keras_misa.export.describe_export import SIGNATURE_FILE, export_readme, versions
from keras_misa.export.server_files import write_server_files, write_warm_up

FLAVOURS = ("tokens", "text")


def export_run(run, out, name=None, flavours=None, max_length=2048):
    """Write a run's model as SavedModels for TensorFlow Serving.

    `out/<name>_<flavour>/<version>/` is written whole or not at all, under the next free version: a server that watches
    the folder takes the new version up while it answers with the old one. Beside the model's folders stand
    `models.config` and `batching.config` for the server.

    Args:
        run: folder that `train` wrote.
        out: folder of the server's models.
        name: of the model, letters, digits, `_`, `-` and `.`; the dataset's by default.
        flavours: some of `("tokens", "text")`. `"tokens"` takes a text as ids of words or word pieces and is made of
            plain TensorFlow ops; `"text"` takes sentences, and needs the ops of tensorflow-text where the text encoder
            is BERT. `None`, the default, writes both, or `"tokens"` alone where the model has no text of words.
        max_length: the most steps of an utterance in any modality; longer ones are refused.

    Returns:
        Dict, flavour → path of the SavedModel.

    Raises:
        FileNotFoundError: If the folder is not a finished run.
        ValueError: If a name or flavour is not valid, the run has no text of words for `"text"`, or Keras runs on
            another backend than TensorFlow.

    Example:
        ```python
        paths = keras_misa.export.export_run("runs/first", "served")
        served = tf.saved_model.load(paths["text"]).signatures["serving_default"]
        ```
    """
    source = RunSource(run)
    name = name or source.config["dataset"].partition("/")[0]
    check_model_name(name)
    if max_length < 1:
        raise ValueError(f"`max_length` must be 1 or more. Received: max_length={max_length}")
    out = pathlib.Path(out)
    paths = {}
    for flavour in source.check_flavours(flavours):
        model_name = f"{name}_{flavour}"
        module = source.make_module(flavour, max_length)
        description = source.describe(module, model_name, flavour, max_length)
        with new_version(out / model_name) as (folder, claim):
            save_module(module, folder)
            write_json(folder / SIGNATURE_FILE, description)
            write_text(folder / "README.md", export_readme(description))
            write_warm_up(folder, module, description)
            source.write_vocabulary(folder)
            paths[flavour] = claim()
    write_server_files(out)
    return paths


def save_module(module, folder):
    """Write a `ServingModule` as a SavedModel."""
    import tensorflow as tf

    tf.saved_model.save(module, folder, signatures=module.signatures())


class RunSource:
    """A run, as what is exported of it.

    Args:
        run: folder that `train` wrote.
    """

    def __init__(self, run):
        import keras

        from keras_misa.experiments.load_run import load_run_model, read_run
        from keras_misa.experiments.text import load_text

        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "SavedModels are made by the TensorFlow backend, whatever backend a run was trained on: set "
                f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}"
            )
        self.config, self.written = read_run(run)
        self.model = load_run_model(run)
        self._text = load_text(run)

    @functools.cached_property
    def _forward(self):
        from keras_misa.export.serving_module import Forward

        return Forward(self.model)

    @property
    def has_words(self):
        """Whether a text of words, or word pieces, is among the modalities."""
        return self._dims().get("text", 0) is None

    def check_flavours(self, flavours):
        """The flavours that are asked for, all that there are by default."""
        possible = FLAVOURS if self.has_words else ("tokens",)
        flavours = possible if flavours is None else tuple(flavours)
        if wrong := [flavour for flavour in flavours if flavour not in FLAVOURS]:
            raise ValueError(f"`flavours` must be some of {FLAVOURS}. Received: {wrong}")
        if wrong := [flavour for flavour in flavours if flavour not in possible]:
            raise ValueError(
                f"The model takes {', '.join(self._dims())} as vectors, no words: its flavour is 'tokens'. "
                f"Received: {wrong}"
            )
        return flavours

    def make_module(self, flavour, max_length):
        """The `ServingModule` of a flavour."""
        from keras_misa.export.request_inputs import SentenceInput, SequenceInput
        from keras_misa.export.serving_module import ServingModule
        from keras_misa.export.task_outputs import TaskOutputs

        may_miss = self.config["modality_dropout"] > 0
        inputs = {}
        for modality, dim in self._dims().items():
            if dim is not None:
                inputs[modality] = SequenceInput(modality, dim, None, max_length, may_miss)
            elif flavour == "text":
                inputs[modality] = SentenceInput(modality, self._text, max_length, may_miss)
            else:
                most = min(max_length, getattr(self._text, "max_length", max_length))
                inputs[modality] = SequenceInput(modality, None, len(self._text.vocabulary), most, may_miss)
        return ServingModule(self._forward, inputs, TaskOutputs(self.config))

    def describe(self, module, name, flavour, max_length):
        """What stands in `signature.json`."""
        import keras
        import tensorflow as tf

        import keras_misa
        from keras_misa.experiments.model_settings import TITLES

        signatures = {}
        for signature in module.functions:
            inputs, outputs = module.describe(signature)
            specs = module.specs(signature)
            signatures[signature] = {
                "inputs": {
                    key: {"dtype": specs[key].dtype.name, "shape": specs[key].shape.as_list(), "meaning": meaning}
                    for key, meaning in inputs.items()
                },
                "outputs": {key: {"meaning": meaning} for key, meaning in outputs.items()},
            }
        needs_text_ops = flavour == "text" and self._text.unit == "word pieces"
        outputs = module.outputs
        return {
            "name": name,
            "model": TITLES[self.config["model"]],
            "flavour": flavour,
            "modalities": {
                m: {"dim": dim, "kind": "vectors" if dim else "sentence" if flavour == "text" else self._text.unit}
                for m, dim in self._dims().items()
            },
            "max_length": max_length,
            "may_miss": self.config["modality_dropout"] > 0,
            "label": outputs.label,
            "class_names": outputs.class_names,
            "score_names": outputs.score_names,
            "needs_tensorflow_text": needs_text_ops,
            "trained_on": self.config["dataset"],
            "seed": self.config["seed"],
            "signatures": signatures,
            "versions": {
                "keras_misa": keras_misa.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
            },
        }

    def write_vocabulary(self, folder):
        """Write the words or word pieces, whose places are the ids."""
        if self.has_words:
            write_json(folder / "vocabulary.json", self._text.vocabulary)

    def _dims(self):
        """Dict, modality → size of a step's vector, `None` where it is made of words."""
        return {
            m: inputs["values"].shape[2] if inputs["values"].ndim == 3 else None
            for m, inputs in self.model.input.items()
        }


def check_model_name(name):
    """Raise if a name cannot be a folder's and a model's."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise ValueError(f"A model's name has letters, digits, '_', '-' and '.'. Received: name={name!r}")


@contextlib.contextmanager
def new_version(folder):
    """A folder to write to, and a function that makes it the next version of a model; it is gone if that is not called.

    The names of versions are numbers, and a server looks at nothing else. What killed exports have
    left is removed, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with removing_leftovers(folder, ".new-*"):
        temporary = pathlib.Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)

        def claim():
            while True:
                path = folder / str(max(versions(folder), default=0) + 1)
                try:
                    return temporary.rename(path)
                except OSError:
                    if not path.exists():
                        raise  # else another process was faster

        try:
            yield temporary, claim
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
