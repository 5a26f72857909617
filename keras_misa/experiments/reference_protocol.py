"""The published code's way of training: its initialisation, its optimiser, its early stopping.

What it does and a careful person would not do today is kept out of the default protocol; see `docs/protocols.md`.
"""

import keras
import numpy as np
from keras import ops

from keras_misa._replicas import gather_rows, num_replicas
from keras_misa.convert.reference_optimizer import reference_optimizer

MONITOR = "task_batches"


def apply_reference_protocol(
    model, learning_rate=1e-4, clipvalue=1.0, seed=0, metrics=None, jit_compile=None, **kwargs
):
    """Initialise and compile a model as the published code does.

    Weights are drawn as PyTorch and the published code draw them (from another random generator, so not the same
    numbers). The optimiser is `reference_optimizer`. The logs get `task_batches`, the task loss as the mean of the
    batches' means, in which a short last batch counts as much as a full one.

    Args:
        model: a `MISARegressor` or `MISAClassifier`. Word vectors and BERT are left as they are.
        learning_rate: a number or schedule.
        clipvalue: gradients are clipped by value to ± this.
        seed: of the weights.
        metrics: list of metrics for the logs; `None` takes the model's own.
        jit_compile: see `MISATask.compile`.
        **kwargs: see `reference_optimizer`.

    Example:
        ```python
        apply_reference_protocol(model)
        model.fit(train, validation_data=validation, epochs=500, callbacks=[ReferenceStopping()])
        ```
    """
    _initialize(model, np.random.default_rng(seed))
    model.compile(
        reference_optimizer(learning_rate, clipvalue, **kwargs),
        metrics=[*(model.default_metrics() if metrics is None else metrics), BatchMean(model.default_loss())],
        jit_compile=jit_compile,
    )


class ReferenceStopping(keras.callbacks.Callback):
    """The published code's early stopping.

    An epoch that is as good as the best so far counts as an improvement. Training stops after more than `patience`
    epochs in a row without one, on the seventh with a patience of 6, and the best weights come back.

    Args:
        patience: epochs in a row without improvement that are borne.
        monitor: name in the logs, to be small.
    """

    def __init__(self, patience=6, monitor=f"val_{MONITOR}"):
        super().__init__()
        self.patience = patience
        self.monitor = monitor

    def on_train_begin(self, logs=None):
        self.best, self.best_epoch, self.best_weights, self.wait = float("inf"), None, None, 0

    def on_epoch_end(self, epoch, logs=None):
        value = logs[self.monitor]
        if value <= self.best:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            self.best_weights = self.model.get_weights()
            return
        self.wait += 1
        if self.wait > self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)


@keras.saving.register_keras_serializable("keras_misa")
class BatchMean(keras.metrics.Metric):
    """Mean of a loss's means over batches, every batch counting alike.

    Args:
        loss: a `keras.losses.Loss`.
        name: name in the logs.
        dtype: of the state.
    """

    def __init__(self, loss, name=MONITOR, dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.loss = loss
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        y_true, y_pred, sample_weight = gather_rows((y_true, y_pred, sample_weight))
        self.total.assign_add(self.loss(y_true, y_pred, sample_weight))  # Keras divides it by the devices
        self.count.assign_add(1.0 / num_replicas())

    def result(self):
        """The mean, 0 before the first batch."""
        return self.total / ops.maximum(self.count, 1.0)

    def get_config(self):
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def _initialize(layer, rng):
    """Draw the weights of a layer, or of the layers in it."""
    if layer.weights and all(getattr(weight, "is_pretrained", False) for weight in layer.weights):
        return
    for kind, draw in _DRAW.items():
        if isinstance(layer, kind):
            layer.set_weights([np.asarray(w, "float32") for w in draw(layer, rng)])
            return
    for part in layer._flatten_layers(include_self=False, recursive=False):
        _initialize(part, rng)


def _dense(layer, rng):
    """`nn.Linear`: weights and biases U(±1/√fan_in)."""
    bound = layer.kernel.shape[0] ** -0.5
    return [rng.uniform(-bound, bound, w.shape) for w in layer.weights]


def _recurrent(layer, rng):
    """`nn.LSTM`, `nn.GRU`: U(±1/√H), then orthogonal recurrent weights, all gates' as one matrix."""
    units = layer.units
    bound = units**-0.5
    kernel, _, bias = layer.get_weights()
    gates = kernel.shape[1] // units
    q, r = np.linalg.qr(rng.normal(size=(gates * units, units)))
    biases = rng.uniform(-bound, bound, (2, gates * units))
    bias = biases.sum(axis=0) if bias.ndim == 1 else biases  # An LSTM of Keras holds the sum.
    return [rng.uniform(-bound, bound, kernel.shape), (q * np.sign(np.diag(r))).T, bias]


def _attention(layer, rng):
    """`nn.MultiheadAttention`: Xavier-uniform of the stacked query, key and value; biases zero."""
    units = layer.query_dense.kernel.shape[0]
    stacked, output = (6.0 / (units + 3 * units)) ** 0.5, units**-0.5
    bounds = [stacked, 0.0, stacked, 0.0, stacked, 0.0, output, 0.0]
    return [rng.uniform(-bound, bound, w.shape) for bound, w in zip(bounds, layer.weights, strict=True)]


_DRAW = {
    keras.layers.Dense: _dense,
    keras.layers.LSTM: _recurrent,
    keras.layers.GRU: _recurrent,
    keras.layers.MultiHeadAttention: _attention,
}
