"""What figures look at in a run."""

import functools
import pathlib

import numpy as np

from keras_misa.experiments.evaluate import collect_examples, find_data, load_split
from keras_misa.experiments.load_run import load_run_model, read_run
from keras_misa.experiments.prediction_cells import class_names
from keras_misa.experiments.report import split_title
from keras_misa.experiments.run_files import read_attention, read_predictions
from keras_misa.experiments.task_metrics import is_classification


class RunView:
    """A run on a split; everything is read when it is first asked for.

    Args:
        run: folder that `train` wrote.
        split: `"train"`, `"validation"` or `"test"`.
        manual_dir: where the data's files lie now, if not where they lay at training.
        data_dir: where the prepared data lies now, likewise.
    """

    def __init__(self, run, split="test", manual_dir=None, data_dir=None):
        self.run = pathlib.Path(run)
        self.split = split
        self.config, _ = read_run(run)
        self._places = {"manual_dir": manual_dir, "data_dir": data_dir}

    def of(self, run):
        """Another run, on the same split of data in the same places."""
        return RunView(run, self.split, **self._places)

    @property
    def title(self):
        """Names the data and the seed, and says so where the data is made up."""
        return f"{split_title(self.config, self.split)}, seed {self.config['seed']}"

    @functools.cached_property
    def model(self):
        """The model."""
        return load_run_model(self.run)

    @functools.cached_property
    def regularisers(self):
        """Dict, name → weight, of those that the model has: a setting says nothing where its vectors are not made."""
        return {penalty.name: penalty.weight for penalty in self.model.penalties}

    @functools.cached_property
    def _located(self):
        return find_data(self.run, **self._places)

    @functools.cached_property
    def examples(self):
        """What is known of each example beside its features."""
        return collect_examples(self._located, self.split)

    @functools.cached_property
    def batches(self):
        """The split's batches."""
        from keras_misa.experiments.text import load_text

        return load_split(self._located, self.split, load_text(self.run))

    @functools.cached_property
    def explained(self):
        """What `explain` gives of the split."""
        if not hasattr(self.model, "explain"):
            raise ValueError(f"the model, a {type(self.model).__name__}, does not show its representations")
        return self.model.explain(self.batches)

    @functools.cached_property
    def lengths(self):
        """Pair: the length of each utterance, and what it counts."""
        if any(self.examples["words"]):
            return np.array([len(words) for words in self.examples["words"]]), "words"
        batches = [batch for batch, _ in self.batches]
        modality = next(iter(self.model.input))
        return np.concatenate([np.asarray(batch[modality]["lengths"]) for batch in batches]), f"{modality} steps"

    @functools.cached_property
    def outcome(self):
        """Pair of arrays, true and predicted: scores `(rows, scores)`, or numbers of classes `(rows,)`.

        Of the test split it stands in the run folder; no data is needed.
        """
        if self.split == "test" and (self.run / "predictions.csv").exists():
            return self._read_outcome(read_predictions(self.run))
        predicted, true = self.model.predict(self.batches, verbose=0), np.asarray(self.examples["label"])
        if self.is_classes:
            return true.astype(int), predicted.argmax(axis=1)
        return true.reshape(predicted.shape), predicted

    def _read_outcome(self, rows):
        if self.is_classes:
            numbers = {name: number for number, name in enumerate(self.class_names)}
            return tuple(np.array([numbers[row[column]] for row in rows], int) for column in ("label", "prediction"))
        names = [f"_{name}" for name in self.config["score_names"] or ()] or [""]
        return tuple(
            np.array([[float(row[f"{column}{name}"]) for name in names] for row in rows], "float32")
            for column in ("label", "prediction")
        )

    @property
    def is_classes(self):
        """Whether the model predicts classes."""
        return is_classification(self.config)

    @property
    def class_names(self):
        """Names of the classes."""
        return class_names(self.config)

    @functools.cached_property
    def attention(self):
        """Pair: average attention `(tokens, tokens)`, and the tokens' names. Of the test split no data is needed."""
        if self.split == "test" and (self.run / "explanation.json").exists():
            return read_attention(self.run)
        if not hasattr(self.model, "token_names"):
            raise ValueError(f"the model, a {type(self.model).__name__}, has no attention")
        return self.explained["attention"].mean(axis=(0, 1)), [tuple(name) for name in self.model.token_names]
