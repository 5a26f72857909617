"""The data of a configuration: found, read, counted, and made into batches."""

import dataclasses
import functools
import pathlib
import typing

import numpy as np

from keras_misa._files import write_json
from keras_misa.experiments.devices import check_batches
from keras_misa.experiments.evaluate import collect_examples, load_split
from keras_misa.experiments.load_run import TOKENIZER_FILE
from keras_misa.experiments.task_metrics import settle_task


@dataclasses.dataclass
class RunData:
    """What a configuration trains on.

    Args:
        config: dict of `make_config`, with what the data has settled.
        builder: the dataset's builder.
        dims: dict, modality → size of a step's vector, `None` for words.
        text: what `open_text` made of the words, or `None`.
        examples: dict, split → what `collect_examples` found.
    """

    config: dict
    builder: typing.Any
    dims: dict
    text: typing.Any
    examples: dict

    @functools.cached_property
    def batches(self):
        """Dict, split → batches in a fixed order."""
        text = self.text and self.text.data
        once = {**self.config, "cache": False}  # training has batches of its own: these are read once or twice
        return {s: load_split(once if s == "train" else self.config, s, text) for s in self.examples}

    def training_batches(self, seed, first_epoch):
        """The training split's batches, each epoch in its own order, from `first_epoch` on and without end."""
        text = self.text and self.text.data
        return load_split(
            self.config,
            "train",
            text,
            shuffle=True,
            seed=seed,
            first_epoch=first_epoch,
            modality_dropout=self.config["modality_dropout"],
        )

    @property
    def steps_per_epoch(self):
        """Number of training batches."""
        return -(-len(self.examples["train"]["label"]) // self.config["batch_size"])

    @functools.cached_property
    def summary(self):
        """Counts of each split; nothing that was read in disappears unsaid."""
        return {
            split: {
                "utterances": len(examples["label"]),
                "videos": len(set(examples["video_id"])),
                "words": sum(map(len, examples["words"])),
                **(self.text.describe(examples["words"]) if self.text else {}),
            }
            for split, examples in self.examples.items()
        }

    @property
    def provenance(self):
        """Where the data came from, and what it is."""
        metadata = {key: value for key, value in (self.builder.info.metadata or {}).items() if key != "report"}
        text = self.text and {"description": str(self.text), "sha256": self.text.checksum()}
        return {**metadata, "version": str(self.builder.version), "splits": self.summary, "text": text}

    def save_tokenizer(self, folder):
        """Write what is needed to read words again."""
        if self.text:
            self.text.save(folder)
        else:
            write_json(folder / TOKENIZER_FILE, None)


def open_data(config, splits=("train", "validation", "test"), progress=None):
    """Open the data of a configuration.

    Args:
        config: dict of `make_config`. What depends on the data is settled in it: the full name of the dataset, what is
            predicted, and absolute paths.
        splits: those that are needed, `"train"` among them; others are not read, but for the words of a vocabulary.
        progress: see `encode_texts`.

    Returns:
        A `RunData`.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    import keras

    from keras_misa.data.prepare_dataset import data_root
    from keras_misa.experiments.text import CACHE, open_text

    builder, dims = find_dataset(config)
    keras.utils.set_random_seed(config["seed"])
    examples = {split: collect_examples(config, split) for split in splits}
    # Which kind of task it is must not depend on what was dealt to a split.
    known = [part["label"] for part in examples.values()] if config["split_by"] else [examples["train"]["label"]]
    settle_task(config, builder, np.concatenate(known))
    sizes = {split: len(part["label"]) for split, part in examples.items()}
    if not config["split_by"]:  # those that are not read now will be
        sizes.update((split, info.num_examples) for split, info in builder.info.splits.items())
    check_batches(config["devices"], sizes, config["batch_size"])
    text = None
    if any(dims.get(m, 0) is None for m in config["modalities"] or dims):
        sentences = [words for part in examples.values() for words in part["words"]]
        text = open_text(config, sentences, data_root(config["data_dir"]) / CACHE, progress)
    return RunData(config, builder, dims, text, examples)


def find_dataset(config):
    """The dataset of a configuration, before anything of it is read.

    Args:
        config: see `open_data`.

    Returns:
        Pair: the dataset's builder, and a dict, modality → size of a step's vector, `None` for words.

    Raises:
        ValueError: If there is no such dataset, or it lacks the label or a modality that the settings name.
    """
    from keras_misa import data
    from keras_misa.data.load_dataset import check_modalities

    for name in ("manual_dir", "data_dir"):
        if config[name] is not None:  # another working directory must find them again
            config[name] = str(pathlib.Path(config[name]).expanduser().resolve())
    builder = data.prepare_dataset(config["dataset"], config["data_dir"], config["manual_dir"])
    if "sources" in (builder.info.metadata or {}):
        config["dataset"] = builder.info.full_name.rpartition("/")[0]  # with the form of the files
    data.label_outputs(builder, config["label"])
    dims = data.modality_dims(builder)
    if config["text"]:
        if "words" not in builder.info.features or "text" not in (config["modalities"] or ("text",)):
            raise ValueError(
                "The setting `text` needs a dataset with words, and the modality text. "
                f"Received: text={config['text']!r}, modalities={config['modalities'] or list(dims)}"
            )
        dims = {"text": None} | dims | {"text": None}
    check_modalities(config["modalities"] or dims, dims)
    if config["averaged"] is None:
        config["averaged"] = [m for m in (builder.info.metadata or {}).get("contextual", ()) if dims.get(m)]
    if wrong := [m for m in config["averaged"] if dims.get(m) is None]:
        raise ValueError(f"Means can be taken of {[m for m in dims if dims[m]]}. Received: averaged={wrong}")
    return builder, dims
