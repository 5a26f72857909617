"""The functions of a SavedModel: a request in, an answer out, no Python between."""

import functools

import keras
import tensorflow as tf

from keras_misa import _tensorflow_lstm
from keras_misa.export.request_inputs import combine_problems, fit
from keras_misa.export.task_outputs import mask

ENCODED = "encoded"


class Forward(tf.Module):
    """A model's inference, traced once.

    Args:
        model: a `MISARegressor`, `MISAClassifier` or baseline.
    """

    def __init__(self, model):
        super().__init__()
        inference = model.inference_model()
        self.weights = [variable.value for variable in inference.variables]
        self.token_names = [f"{subspace} {modality}" for subspace, modality in model.token_names]
        self.subspaces = {name: list(part) for name, part in inference.output.items() if isinstance(part, dict)}
        self.has_attention = "attention" in inference.output
        self.needs_alignment = model.needs_alignment
        specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inference.input)

        def forward(batch):
            with _tensorflow_lstm.constant_weights():
                return inference(batch, training=False)

        self._function = tf.function(forward, input_signature=[specs])

    def __call__(self, batch):
        return self._function(batch)


class ServingModule(tf.Module):
    """A model with the signatures `serving_default` and `encoded`, and `representations` and `explain` if it has any.

    Every answer has a row for each utterance of the request, and a string `problem`, which is empty or says why there
    is no answer for the row. A row has no influence on another.

    Args:
        forward: a `Forward`, which several modules may share.
        inputs: dict, modality → `SequenceInput` or `SentenceInput`, the model's modalities.
        outputs: a `TaskOutputs`.
    """

    def __init__(self, forward, inputs, outputs):
        super().__init__()
        self._inputs = inputs
        self.outputs = outputs
        self._forward = forward
        self.resources = [resource for part in inputs.values() for resource in part.resources]
        self.functions = {"serving_default": functools.partial(self._answer, self._score)}
        if forward.subspaces:
            self.functions["representations"] = functools.partial(self._answer, self._represent)
        if forward.has_attention:
            self.functions["explain"] = functools.partial(self._answer, self._explain)
        self.functions[ENCODED] = functools.partial(self._answer, self._score, encoded=True)

    def signatures(self):
        """Dict, name → concrete function."""
        return {
            name: tf.function(function).get_concrete_function(**self.specs(name))
            for name, function in self.functions.items()
        }

    def specs(self, name):
        """Dict, input → `tf.TensorSpec`, of a signature."""
        specs = {}
        for part in self._inputs.values():
            specs.update(part.specs(name == ENCODED))
        return {key: tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in specs.items()}

    def sample(self, name, rows, steps):
        """Dict, input → array, of a signature: a request of noise."""
        sample = {}
        for part in self._inputs.values():
            sample.update(part.sample(name == ENCODED, rows, steps))
        return sample

    def describe(self, name):
        """Pair of dicts, input → meaning and output → meaning, of a signature."""
        inputs = {}
        for part in self._inputs.values():
            inputs.update(part.describe(name == ENCODED))
        if name == "representations":
            outputs = {
                f"{subspace}_{modality}": f"(utterance, unit): the {subspace} vector of {modality}"
                for subspace, vectors in self._forward.subspaces.items()
                for modality in vectors
            }
        else:
            outputs = self.outputs.describe()
        if name == "explain":
            outputs["attention"] = "(utterance, head, query, key): attention among the fused vectors; rows add up to 1"
            outputs["token_names"] = f"(utterance, vector): {', '.join(self._forward.token_names)}, in each row"
        return inputs, outputs | {"problem": "why a row has no answer (NaN, or an empty string); empty if it has one"}

    def _answer(self, make_outputs, encoded=False, **tensors):
        parts = {m: part.read(tensors, encoded) for m, part in self._inputs.items()}
        problem = self._problem(parts)
        usable = problem == ""
        batch = {m: fit(values, lengths, usable) for m, (values, lengths, _) in parts.items()}
        return make_outputs(self._forward(batch), usable) | {"problem": problem}

    def _problem(self, parts):
        first, counts = next(iter(parts)), {m: tf.shape(problems)[0] for m, (_, _, problems) in parts.items()}
        message = "Expected as many rows in all inputs. Received: {} differs from " + first
        checks = [tf.debugging.assert_equal(n, counts[first], message.format(m)) for m, n in counts.items()]
        with tf.control_dependencies(checks):  # else an op that needs it may be the first to fail
            problem = combine_problems([tf.identity(problems) for _, _, problems in parts.values()])
        if self._forward.needs_alignment:
            steps = tf.stack([lengths for _, lengths, _ in parts.values()], axis=1)
            unequal = tf.reduce_any((steps > 0) & (steps != tf.reduce_max(steps, axis=1, keepdims=True)), axis=1)
            message = "modalities are not aligned; expected as many steps in each"
            problem = tf.where((problem == "") & unequal, message, problem)
        if all(part.may_miss for part in self._inputs.values()):
            total = tf.add_n([lengths for _, lengths, _ in parts.values()])
            problem = tf.where((problem == "") & (total == 0), "no modality at all; expected at least one", problem)
        return problem

    def _score(self, results, usable):
        return self.outputs.tensors(results["prediction"], usable)

    def _represent(self, results, usable):
        return {
            f"{subspace}_{modality}": mask(vector, usable)
            for subspace in self._forward.subspaces
            for modality, vector in results[subspace].items()
        }

    def _explain(self, results, usable):
        names = tf.tile([self._forward.token_names], [tf.shape(usable)[0], 1])
        return self._score(results, usable) | {"attention": mask(results["attention"], usable), "token_names": names}
