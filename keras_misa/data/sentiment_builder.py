"""What the builders of CMU-MOSI and CMU-MOSEI have in common."""

import dataclasses
import json
import re

import numpy as np
import tensorflow_datasets as tfds

from keras_misa.data.sources.mmsa import MMSAFile
from keras_misa.data.utterance_builder import SourceConfig, UtteranceBuilder, vector

MAX_LABEL = 3.0


class SentimentBuilder(UtteranceBuilder, skip_registration=True):
    """Utterances with a sentiment in [-3, 3]."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the files that you hold into one folder. Known are: the authors' pre-computed splits (`train.pkl`, `dev.pkl`,
    `test.pkl`, any of them, and `embedding_and_mapping.pt`); the four computational sequences (`.csd`: words, FACET,
    COVAREP and labels); and a file of MMSA (`aligned_50.pkl` or `unaligned_50.pkl`).
    """

    def label_feature(self):
        return tfds.features.Scalar(np.float32)

    def check_label(self, example):
        if not -MAX_LABEL <= example["label"] <= MAX_LABEL:
            return f"expected a label in [-{MAX_LABEL:g}, {MAX_LABEL:g}]. Received: {example['label']:g}"
        return None


def read_folds(path):
    """The standard folds, split → video ids, as the CMU SDK publishes them."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclasses.dataclass(kw_only=True)
class MMSAConfig(SourceConfig):
    """One pickle with all splits, of MMSA or of MulT.

    Args:
        pattern: what the file's name must match.
        **kwargs: see `SourceConfig`.
    """

    pattern: str

    def find(self, folder):
        found = [path for path in sorted(folder.glob("*.pkl")) if re.search(self.pattern, path.name.lower())]
        if len(found) > 1:
            raise ValueError(
                f"`{folder}` must hold one file for {self.name}; keep the one that is meant. "
                f"Received: {[path.name for path in found]}"
            )
        return {"features": found[0]} if found else {}

    def open(self, folder, cache_dir):
        if not (files := self.find(folder)):
            raise FileNotFoundError(f"`{folder}` must hold a file whose name matches {self.pattern!r}.")
        source = super().open(files["features"], cache_dir)
        if not source.has_words >= self.words or not source.has_token_ids >= ("token_ids" in self.extras):
            raise ValueError(f"`{files['features']}`: expected `raw_text` and `text_bert`, as MMSA's files have them.")
        return source


def mmsa_configs(dims):
    """Configurations of MMSA's files (words, BERT's vectors as `text`) and of MulT's (GloVe's vectors, no words)."""
    mmsa = {
        "source": MMSAFile,
        "dims": {"text": 768, **dims},
        "extras": {"token_ids": lambda: vector(np.int32)},
        "contextual": ("text",),
    }
    mult = {"source": MMSAFile, "dims": {"text": 300, **dims}, "words": False}
    return [
        MMSAConfig(name="mmsa_aligned", description="MMSA's aligned file.", pattern=r"(?<!un)aligned.*\.pkl$", **mmsa),
        MMSAConfig(name="mmsa_unaligned", description="MMSA's unaligned file.", pattern=r"unaligned.*\.pkl$", **mmsa),
        MMSAConfig(name="mult_aligned", description="MulT's aligned file.", pattern=r"_data\.pkl$", **mult),
        MMSAConfig(name="mult_unaligned", description="MulT's unaligned file.", pattern=r"_data_noalign\.pkl$", **mult),
    ]
