"""Data: from the files that people hold to batches. This part knows no model."""

from keras_misa.data.load_dataset import load_dataset, load_examples, load_word_table, modality_dims, prepare_dataset
from keras_misa.data.split_by_video import split_by_video
from keras_misa.data.word_table import WordTable, read_word_table

__all__ = [
    "WordTable",
    "load_dataset",
    "load_examples",
    "load_word_table",
    "modality_dims",
    "prepare_dataset",
    "read_word_table",
    "split_by_video",
]
