"""CMU-MOSI as a TFDS dataset."""
