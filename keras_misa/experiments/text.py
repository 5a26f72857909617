"""What becomes of an utterance's words: word vectors, or BERT."""

import hashlib
import json
import pathlib

import numpy as np

from keras_misa._files import read_json, write_text
from keras_misa.data import TextVectors, WordPieceTokenizer, WordTable, load_word_table
from keras_misa.experiments.frozen_text import encode_texts, fingerprint
from keras_misa.experiments.load_run import TOKENIZER_FILE
from keras_misa.layers import BertEncoder, MeanEncoder, WordUtteranceEncoder
from keras_misa.models import replace_encoder

CACHE = "text_vectors"  # in the folder of prepared datasets


def open_text(config, sentences, cache_dir=None, progress=None):
    """What a configuration makes of words.

    Args:
        config: dict of `make_config`.
        sentences: every text of the dataset, each a list of words.
        cache_dir: where vectors of a frozen BERT are kept.
        progress: see `encode_texts`.

    Returns:
        A `WordText`, `BertText` or `FrozenBertText`.

    Raises:
        ValueError: If there is no such file or preset.
    """
    kind, _, place = (config["text"] or "").partition(":")
    if kind != "bert":
        return WordText(config, place or None)
    if config["bert_trainable"] == "none" and config["bert_cache"]:
        return FrozenBertText(config, place, sentences, cache_dir, progress)
    return BertText(config, place)


class WordText:
    """Words as ids, with vectors: GloVe's or random ones.

    Attributes:
        data: for `load_dataset`.
    """

    def __init__(self, config, path):
        if path is not None and not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"There is no such file of word vectors. Received: text='glove:{path}'")
        source = {name: config[name] for name in ("split_by", "data_dir", "manual_dir")}
        self.data = load_word_table(config["dataset"], path, vocabulary=config["vocabulary"], **source)
        self._trainable = config["trainable_embeddings"]

    def make_encoder(self, dtype):
        """The encoder of the modality text."""
        encoder = WordUtteranceEncoder(
            len(self.data), self.data.dimension, trainable_embeddings=self._trainable, dtype=dtype
        )
        encoder.set_vectors(self.data.vectors)
        return encoder

    def complete(self, model):
        """The model that takes what `load_text` makes: the trained one."""
        return model

    def describe(self, sentences):
        """Counts of what does not go in."""
        return self.data.describe(sentences)

    def checksum(self):
        """Tells these words and vectors from others."""
        digest = hashlib.sha256(json.dumps(self.data.words).encode())
        digest.update(np.ascontiguousarray(self.data.vectors))
        return digest.hexdigest()

    def __str__(self):
        return f"word vectors: {len(self.data)} words x {self.data.dimension}, {self.data.origin}"

    def save(self, folder):
        """Writes what is needed to read words again."""
        write_text(
            folder / TOKENIZER_FILE, json.dumps({"kind": "words", "words": list(self.data.words)}, ensure_ascii=False)
        )


class BertText:
    """Words as word pieces, with a BERT that is part of the model.

    Attributes:
        data: for `load_dataset`.
    """

    def __init__(self, config, preset):
        self.data = self.tokenizer = WordPieceTokenizer.from_preset(preset)
        self._preset = preset
        part = config["bert_trainable"]
        self._trainable_from = {"all": 0, "none": None}.get(part, part)
        self._trainable_embeddings = config["trainable_embeddings"]

    def make_encoder(self, dtype):
        """The encoder of the modality text."""
        self._encoder = BertEncoder.from_preset(
            self._preset,
            dtype=dtype,
            trainable_from=self._trainable_from,
            trainable_embeddings=self._trainable_embeddings,
        )
        self._checksum = fingerprint(self._encoder, self.tokenizer)
        return self._encoder

    def complete(self, model):
        """The model that takes what `load_text` makes: the trained one."""
        return model

    def describe(self, sentences):
        """Counts of what does not go in."""
        return self.tokenizer.describe(sentences)

    def checksum(self):
        """Tells this BERT, as it came, and its tokenizer from others."""
        return self._checksum

    def __str__(self):
        part = {0: "trained", None: "frozen"}.get(self._trainable_from, f"trained from layer {self._trainable_from}")
        return f"BERT: {self._preset}, {len(self.tokenizer.vocabulary)} word pieces, {part}"

    def save(self, folder):
        """Writes what is needed to read words again."""
        content = {"kind": "word_pieces", **self.tokenizer.get_config()}
        write_text(folder / TOKENIZER_FILE, json.dumps(content, ensure_ascii=False))


class FrozenBertText(BertText):
    """Texts as vectors of a frozen BERT, computed beforehand; BERT joins the model when that is trained."""

    def __init__(self, config, preset, sentences, cache_dir, progress):
        super().__init__(config, preset)
        encoder = super().make_encoder(config["dtype"])
        self.data = TextVectors(*encode_texts(encoder, self.tokenizer, sentences, cache_dir, progress))

    def make_encoder(self, dtype):
        """The encoder of the modality text: nothing is left to do."""
        return MeanEncoder(self.data.dimension, dtype=dtype)

    def complete(self, model):
        """The model that takes what `load_text` makes, BERT in front."""
        complete = replace_encoder(model, "text", self._encoder)
        complete.compile_from_config(model.get_compile_config())
        return complete

    def __str__(self):
        return f"{super().__str__()}, its vectors computed once"


def load_text(folder):
    """What a run makes of words, for `load_dataset`; `None` if it has none."""
    path = pathlib.Path(folder, TOKENIZER_FILE)
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("kind") not in ("words", "word_pieces"):
        raise ValueError(f"`{path}` is damaged: expected words or word pieces.")
    kind = content.pop("kind")
    if kind == "word_pieces":
        return WordPieceTokenizer(**content)
    return WordTable(content["words"], np.zeros((len(content["words"]), 1)))
