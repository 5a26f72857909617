"""TFDS builders, one folder a dataset; installed as `keras_misa.datasets`."""
