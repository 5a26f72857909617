"""Your own utterances, from a folder of CSV and NumPy files, as a TFDS dataset."""
