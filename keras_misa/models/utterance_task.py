"""What every model of utterances optimises: a task's loss, and further terms, each with a name in the logs."""

import keras
from keras import ops

from keras_misa._replicas import gather_rows, num_replicas
from keras_misa.layers import Penalty
from keras_misa.models._batch import arrange
from keras_misa.optimizers import FineTuningAdam


class UtteranceTask(keras.Model):
    r"""Common part of all models that predict something of an utterance, MISA's and the baselines.

    The loss is $L = L_{task} + \sum_p w_p L_p$ over the model's penalties, and the regularisers of its weights. The
    logs of `fit` and `evaluate` hold `loss` and, unweighted, `task` and each penalty by its name, and `regularization`
    where weights have a regulariser, each the mean over the split. Watch `val_task` for early stopping: `val_loss`
    contains all.

    A subclass is a functional model; its penalties are the layers of `keras_misa.layers.Penalty` that stand on the path
    from inputs to outputs. It says what `compile()` does by default, `default_loss()` and
    `default_metrics()`, and what inference needs, `inference_model()`, if that is less than all of it.

    Args:
        inputs: dict, modality → its symbolic inputs.
        outputs: the symbolic prediction `(batch, outputs)`, float32.
        name: of the model.
        **kwargs: see `keras.Model`.

    Example:
        >>> from keras_misa.layers import MeanEncoder
        >>> class MeanOfOne(UtteranceTask):
        ...     def default_loss(self):
        ...         return keras.losses.MeanSquaredError()
        ...     def default_metrics(self):
        ...         return [keras.metrics.MeanAbsoluteError(name="mae")]
        >>> encoder = MeanEncoder(3)
        >>> inputs = {"visual": encoder.make_inputs("visual")}
        >>> model = MeanOfOne(inputs, keras.layers.Dense(1)(encoder(inputs["visual"])))
        >>> model.compile()
        >>> batch = {"visual": {"values": ops.ones((2, 4, 3)), "lengths": ops.convert_to_tensor([4, 2])}}
        >>> sorted(model.evaluate(batch, ops.ones(2), verbose=0, return_dict=True))
        ['loss', 'mae', 'task']
    """

    needs_alignment = False  # whether step t must mean the same moment in all modalities

    # With Keras's own arguments, so that Keras saves and loads a subclass that has no others.
    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.penalties = [layer for layer in self.layers if isinstance(layer, Penalty)]
        self._whole_batch_losses = None
        names = ["task", *(penalty.name for penalty in self.penalties)]
        if any(variable.regularizer for variable in self.weights):
            names.append("regularization")
        self._term_trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def default_loss(self):
        """The task's loss."""
        raise TypeError(f"A task must define `default_loss()`. Received: {type(self).__name__}")

    def default_metrics(self):
        """The task's metrics."""
        raise TypeError(f"A task must define `default_metrics()`. Received: {type(self).__name__}")

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", jit_compile=None, **kwargs):
        """Keras's `compile`, with defaults that need no argument.

        Args:
            optimizer: `"auto"` is Adam (`keras_misa.optimizers.FineTuningAdam`) with the published code's settings, a
                constant 1e-4 and gradients clipped by value to ±1; PyTorch's arithmetic has
                `keras_misa.convert.reference_optimizer()`. For the paper's exponential decay pass
                `FineTuningAdam(keras.optimizers.schedules.ExponentialDecay(1e-4, steps, rate), clipvalue=1.0)`.
            loss: `"auto"` is the task's own.
            metrics: `"auto"` are the paper's for the task, each over the whole split.
            jit_compile: `None` leaves XLA off on TensorFlow, where it would compile anew for every new length of a
                batch, and is Keras's `"auto"` elsewhere.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = FineTuningAdam(1e-4, clipvalue=1.0)
        if isinstance(loss, str) and loss == "auto":
            loss = self.default_loss()
        if isinstance(metrics, str) and metrics == "auto":
            metrics = self.default_metrics()
        self._jit_compile_is_default = jit_compile is None
        if jit_compile is None:
            jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
        super().compile(optimizer, loss, metrics=metrics, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and self._jit_compile_is_default:
            config["jit_compile"] = None  # may be loaded on another backend
        return config

    def compile_from_config(self, config):
        # Keras does this itself only where `compile` is its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def call(self, inputs, training=None, mask=None, **kwargs):
        return super().call(arrange(inputs, self.input), training=training, mask=mask, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        rows = ops.shape(y_pred)[0]
        if num_replicas() > 1:
            y, y_pred, sample_weight = self._gather_whole_batch(y, y_pred, sample_weight)
        # Keras divides the task's loss by the replicas. Not its total less the penalties: a small difference of large
        # numbers has few digits, and early stopping reads it.
        task = ops.zeros(()) if self._compile_loss is None else self._compile_loss(y, y_pred, sample_weight)
        total = ops.sum([task, *(ops.sum(loss) / num_replicas() for loss in self.losses)])
        terms = {"task": task * num_replicas()}
        terms.update((penalty.name, penalty.term) for penalty in self.penalties if penalty.term is not None)
        if "regularization" in self._term_trackers:
            regularizers = [v.regularizer(v) for v in self.trainable_variables if v.regularizer]
            terms["regularization"] = sum(regularizers, start=ops.zeros(()))
        self._whole_batch_losses = None
        for name, term in terms.items():
            self._term_trackers[name].update_state(ops.stop_gradient(term), sample_weight=rows)
        return total

    def _gather_whole_batch(self, y, y_pred, sample_weight):
        """Labels and predictions of all devices, in each of them; the penalties' terms are computed anew from all rows.

        The penalties and the task's loss are functions of the whole batch. What devices compute from their shares is
        another thing, and the mean of it too.
        """
        # From here on the devices take turns, and what layers remember of a call may be another device's.
        others = [loss for loss in self.losses if all(loss is not penalty.loss for penalty in self.penalties)]
        parts = [penalty.representations for penalty in self.penalties]
        # Penalties have some in common. All devices must gather them in the same order.
        vectors = {id(vector): vector for vector in keras.tree.flatten(parts)}
        y, y_pred, sample_weight, gathered = gather_rows((y, y_pred, sample_weight, list(vectors.values())))
        gathered = dict(zip(vectors, gathered, strict=True))
        parts = keras.tree.map_structure(lambda vector: gathered[id(vector)], parts)
        for penalty, representations in zip(self.penalties, parts, strict=True):
            penalty.term = penalty.compute_term(representations)
        self._whole_batch_losses = others + [penalty.weight * penalty.term for penalty in self.penalties]
        return y, y_pred, sample_weight

    @property
    def losses(self):
        """What layers have added to the loss, from the whole batch."""
        return super().losses if self._whole_batch_losses is None else self._whole_batch_losses

    def make_train_function(self, force=False):
        """Keras's; the optimiser's variables are made before: inside, TensorFlow would trace the step twice."""
        is_tensorflow = keras.backend.backend() == "tensorflow"
        if is_tensorflow and self._distribute_strategy is None and self.optimizer and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras's, where it averages a batch over several devices: their shares may be of unequal size."""
        if iterator is not None and self._distribute_strategy is not None:
            parts = self._compile_metrics, self._compile_loss, self.optimizer
            if all(part is None or part.built for part in parts):
                return  # and take no batch
            data_batch = self._first_share(iterator)
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _first_share(self, iterator):
        from keras_misa import _tensorflow

        _, _, batches = next(iter(iterator))
        return _tensorflow.first_share(self.distribute_strategy, next(batches))

    def inference_model(self):
        """What inference needs and nothing else.

        Returns:
            A `keras.Model` with the inputs of this one, which shares its weights. Its output is a dict of `prediction`
            `(batch, outputs)` and what else the model tells.
        """
        return keras.Model(self.input, {"prediction": self.output})

    @property
    def token_names(self):
        """The axes of the attention, for models that tell it: pairs such as `("shared", "text")`."""
        return []

    def export(self, filepath, **kwargs):
        """Keras's `export`, of what a prediction needs and nothing else.

        Args:
            filepath: folder to write.
            **kwargs: see `keras.Model.export`.
        """
        return keras.Model(self.input, self.inference_model().output["prediction"]).export(filepath, **kwargs)
