"""CMU-MOSEI as a TFDS dataset."""
