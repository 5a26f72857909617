"""What a prediction is called in an answer."""

import tensorflow as tf

from keras_misa.experiments.prediction_cells import class_names


class TaskOutputs:
    """A score, several scores or classes: names, meanings and tensors.

    Args:
        config: settled dict of `keras_misa.experiments.make_config`, with `num_outputs`.
    """

    def __init__(self, config):
        self.label = config["label"]
        self.score_names = config["score_names"]
        self.class_names = class_names(config) if not self.score_names and config["num_outputs"] > 1 else None

    def describe(self):
        """Dict, output name → what it is, in words."""
        if self.class_names:
            return {
                "class": f"name of the most probable class of {self.label!r}",
                "probabilities": "(utterance, class): probability of each class, by softmax",
                "class_names": f"(utterance, class): {', '.join(self.class_names)}, in each row",
            }
        unit = "in the unit that the model was trained with"
        if self.score_names:
            return {
                "scores": f"(utterance, score): {', '.join(self.score_names)}, {unit}",
                "score_names": "(utterance, score): their names, in each row",
            }
        return {"score": f"{self.label!r}, {unit}"}

    def tensors(self, prediction, usable):
        """Dict, output name → tensor; NaN, and no class, where a row is not usable."""
        rows = tf.shape(prediction)[0]
        if self.class_names:
            probabilities = mask(tf.nn.softmax(prediction), usable)
            names = tf.constant(self.class_names)
            best = tf.gather(names, tf.argmax(prediction, axis=1))
            return {
                "class": tf.where(usable, best, ""),
                "probabilities": probabilities,
                "class_names": tf.tile([names], [rows, 1]),
            }
        if self.score_names:
            names = tf.tile([self.score_names], [rows, 1])
            return {"scores": mask(prediction, usable), "score_names": names}
        return {"score": mask(prediction[:, 0], usable)}


def mask(values, usable):
    """NaN in the rows that are not usable."""
    usable = tf.reshape(usable, tf.concat([tf.shape(usable), [1] * (len(values.shape) - 1)], 0))
    return tf.where(usable, values, tf.constant(float("nan"), values.dtype))
