"""What predicts utterances: a run, or an exported model."""

import numpy as np

from keras_misa.experiments.load_run import load_run_model, padding_multiple, read_run
from keras_misa.experiments.prediction_cells import prediction_cells


def open_predictor(path):
    """What predicts: a run that `train` wrote, or a SavedModel that `keras-misa export` wrote.

    Args:
        path: its folder; of an exported model also the folder of its versions, of which the newest is taken.

    Returns:
        A `RunPredictor` or `ExportPredictor`, with these attributes: `dims`, dict, modality → size of a step's vector,
        of those that are arrays; `needs_words`; `may_miss`, whether an utterance may lack a modality; and `columns`, of
        the cells that `predict` gives.

    Raises:
        FileNotFoundError: If the folder is neither.
    """
    from keras_misa.export.describe_export import find_signature

    exported = find_signature(path)
    return ExportPredictor(exported) if exported else RunPredictor(path)


class RunPredictor:
    """A run as predictor.

    Args:
        run: folder that `train` wrote.
    """

    def __init__(self, run):
        from keras_misa.experiments.text import load_text

        self._config, _ = read_run(run)
        self._model = load_run_model(run)
        self._text = load_text(run)
        self._multiple = padding_multiple(self._config["jit_compile"])
        inputs = {m: part["values"] for m, part in self._model.input.items()}
        self._modalities = list(inputs)
        self.dims = {m: values.shape[2] for m, values in inputs.items() if values.ndim == 3}
        self.needs_words = len(self.dims) < len(inputs)
        self.may_miss = self._config["modality_dropout"] > 0
        self.columns = list(prediction_cells(self._config, np.zeros(self._model.output.shape[1])))

    def predict(self, utterances):
        """Predict.

        Args:
            utterances: list of dicts, see `UnlabelledUtterances`; their `notes` are added to.

        Returns:
            List of pairs: dict, column → cell, and what is wrong, an empty string if nothing is.
        """
        for utterance in utterances:
            if self.needs_words:
                utterance["text"] = self._text.ids(utterance["words"]) if utterance["words"] else np.zeros(0, np.int32)
                utterance["notes"] += _describe_ids(utterance["text"], self._text)
        predictions = self._model.predict_on_batch(self._make_batch(utterances))
        return [
            (prediction_cells(self._config, prediction), self._problem(utterance))
            for prediction, utterance in zip(predictions, utterances, strict=True)
        ]

    def _problem(self, utterance):
        """What is wrong with an utterance, an empty string if nothing is."""
        steps = {m: len(utterance[m]) for m in self._modalities}
        if not self._model.needs_alignment or len({number for number in steps.values() if number}) < 2:
            return ""
        received = ", ".join(f"{number} of {m}" for m, number in steps.items())
        return f"modalities are not aligned; expected as many steps in each, received {received}"

    def _make_batch(self, utterances):
        batch = {}
        for modality in self._modalities:
            steps = [utterance[modality] for utterance in utterances]
            lengths = np.array([len(values) for values in steps], np.int32)
            time = -(-max(lengths.max(), 1) // self._multiple) * self._multiple
            values = np.zeros((len(steps), time, *steps[0].shape[1:]), steps[0].dtype)
            for row, of_row in zip(values, steps, strict=True):
                row[: len(of_row)] = of_row
            batch[modality] = {"values": values, "lengths": lengths}
        return batch


class ExportPredictor:
    """An exported model as predictor; neither Keras nor the model's code is used.

    Args:
        exported: pair of the SavedModel's folder and its `signature.json`.
    """

    def __init__(self, exported):
        import tensorflow as tf

        folder, signature = exported
        if any(part["kind"] in ("words", "word pieces") for part in signature["modalities"].values()):
            raise ValueError(
                "This flavour takes ids of words, and nothing in it knows the words: give the flavour text. "
                f"Received: `{folder}`"
            )
        if signature["needs_tensorflow_text"]:
            import tensorflow_text  # noqa: F401 (its ops are in the SavedModel)
        self._saved_model = tf.saved_model.load(str(folder))  # owns the weights
        self._function = self._saved_model.signatures["encoded"]
        self._signature = signature
        self.dims = {m: part["dim"] for m, part in signature["modalities"].items() if part["dim"]}
        self.needs_words = len(self.dims) < len(signature["modalities"])
        self.may_miss = signature["may_miss"]
        if signature["class_names"]:
            self.columns = ["prediction", *(f"probability_{name}" for name in signature["class_names"])]
        else:
            self.columns = [f"prediction_{name}" for name in signature["score_names"] or ()] or ["prediction"]

    def predict(self, utterances):
        """See `RunPredictor.predict`."""
        import tensorflow as tf

        request = {m: [np.asarray(u[m], "<f4").tobytes() for u in utterances] for m in self.dims}
        if self.needs_words:
            request["text"] = [" ".join(u["words"]) for u in utterances]
        answer = self._function(**{name: tf.constant(rows) for name, rows in request.items()})
        answer = {name: values.numpy() for name, values in answer.items()}
        rows = [self._cells(answer, row) for row in range(len(utterances))]
        return list(zip(rows, (problem.decode() for problem in answer["problem"]), strict=True))

    def _cells(self, answer, row):
        if self._signature["class_names"]:
            values = [answer["class"][row].decode(), *answer["probabilities"][row]]
        else:
            values = answer["scores"][row] if self._signature["score_names"] else [answer["score"][row]]
        return dict(zip(self.columns, values, strict=True))


def _describe_ids(ids, text):
    notes = []
    if unknown := int((ids == text.unknown_id).sum()):
        notes.append(f"{unknown} of {len(ids)} {text.unit} are unknown")
    if len(ids) == getattr(text, "max_length", None):
        notes.append(f"cut to {len(ids)} {text.unit}, if it had more")
    return notes
