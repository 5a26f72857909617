"""What the baselines have in common."""

import keras

from keras_misa.metrics import regression_metrics
from keras_misa.models._rebuilding import check_encoders, common_config, rebuild
from keras_misa.models.utterance_task import UtteranceTask

PREDICTS = ("scores", "classes")


class Baseline(UtteranceTask):
    """A model on the steps of each modality; a subclass has its layers, and its arguments in the configuration.

    Args:
        inputs: see `UtteranceTask`.
        outputs: see `UtteranceTask`.
        encoders: dict, modality → step encoder.
        num_outputs: size of the prediction.
        predicts: `"scores"` or `"classes"`.
        dtype: the policy of the model's layers.
        **kwargs: see `keras.Model`.
    """

    def __init__(self, inputs, outputs, encoders, num_outputs, predicts, dtype, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.dtype_policy = dtype
        self.encoders = dict(encoders)
        self.num_outputs = num_outputs
        self.predicts = predicts

    @property
    def modalities(self):
        """Names of the modalities, in their order."""
        return list(self.encoders)

    def default_loss(self):
        """Mean squared error of scores, cross-entropy of classes (logits, integer labels)."""
        if self.predicts == "classes":
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return keras.losses.MeanSquaredError()

    def default_metrics(self):
        """The MISA paper's metrics for sentiment, accuracy of classes."""
        if self.predicts == "classes":
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        return regression_metrics()

    def get_config(self):
        return {
            **common_config(self),
            "encoders": {m: keras.saving.serialize_keras_object(encoder) for m, encoder in self.encoders.items()},
            "num_outputs": self.num_outputs,
            "predicts": self.predicts,
        }

    @classmethod
    def from_config(cls, config):
        return rebuild(cls, config, "encoders")


def step_encoders(encoders):
    """Each modality's step encoder, from any encoder that has one.

    Args:
        encoders: dict, modality → encoder.

    Returns:
        Likewise.

    Raises:
        ValueError: If there is none, or two have one name.
        TypeError: If an encoder does not know steps.
    """
    check_encoders(encoders)
    for modality, encoder in encoders.items():
        if not hasattr(encoder, "step_encoder"):
            raise TypeError(
                "This model looks at the steps of each modality: an encoder must be a layer with `step_encoder()`, "
                "such as StepEncoder, WordStepEncoder, UtteranceEncoder, WordUtteranceEncoder or BertEncoder. "
                f"Received: encoders[{modality!r}]={encoder}"
            )
    return {modality: encoder.step_encoder() for modality, encoder in encoders.items()}


def symbolic_steps(encoders):
    """Pair of dicts, modality → symbolic inputs, and → steps as a `StepEncoder` gives them."""
    inputs = {modality: encoder.make_inputs(modality) for modality, encoder in encoders.items()}
    return inputs, {modality: encoder(inputs[modality]) for modality, encoder in encoders.items()}


def sizes_of(units, modalities, default):
    """Dict, modality → size.

    Args:
        units: a number for all, a dict with each one's, or `None`.
        modalities: names.
        default: pair of the sizes for text and for other modalities where `units` is `None`.
    """
    if units is None:
        text, other = default
        units = {m: text if m == "text" else other for m in modalities}
    elif not isinstance(units, dict):
        units = dict.fromkeys(modalities, units)
    if set(units) != set(modalities) or not all(isinstance(size, int) and size > 0 for size in units.values()):
        raise ValueError(
            "`units` must be None, a positive integer, or a dict with one for each of the modalities "
            f"{list(modalities)}. Received: units={units}"
        )
    return {m: units[m] for m in modalities}


def check_outputs(num_outputs, predicts):
    """Raise if what is predicted is not valid."""
    if predicts not in PREDICTS:
        raise ValueError(f"`predicts` must be one of {PREDICTS}. Received: predicts={predicts!r}")
    least = 2 if predicts == "classes" else 1
    if num_outputs < least:
        raise ValueError(f"`num_outputs` of {predicts} must be {least} or more. Received: num_outputs={num_outputs}")


def check_positive(**values):
    """Raise if a number is not a positive integer."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}")


def check_rates(**values):
    """Raise if a dropout rate is none."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value}")


def check_not_negative(**values):
    """Raise if a number is below zero."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must be 0 or more. Received: {name}={value}")
