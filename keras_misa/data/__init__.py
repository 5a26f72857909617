"""Data: from the files that people hold to batches. This part knows no model."""

from keras_misa.data.describe_dataset import dataset_report
from keras_misa.data.download_sequences import download_sequences
from keras_misa.data.load_dataset import label_outputs, load_dataset, load_examples, load_word_table, modality_dims
from keras_misa.data.prepare_dataset import list_datasets, prepare_dataset
from keras_misa.data.split_by_video import fold_by_video, split_by_video
from keras_misa.data.text_vectors import TextVectors
from keras_misa.data.word_piece_tokenizer import WordPieceTokenizer
from keras_misa.data.word_table import WordTable, read_word_table
from keras_misa.data.word_vectors import nearest_words, read_word_vectors

__all__ = [
    "TextVectors",
    "WordPieceTokenizer",
    "WordTable",
    "dataset_report",
    "download_sequences",
    "fold_by_video",
    "label_outputs",
    "list_datasets",
    "load_dataset",
    "load_examples",
    "load_word_table",
    "modality_dims",
    "nearest_words",
    "prepare_dataset",
    "read_word_table",
    "read_word_vectors",
    "split_by_video",
]
