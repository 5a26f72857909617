"""TFDS splits as batches for `model.fit`."""

import functools
import hashlib
import importlib
import importlib.util
import logging
import pathlib

import numpy as np

from keras_misa.data.split_by_video import SPLITS, split_by_video
from keras_misa.data.word_table import WordTable, read_word_table

WORD_TABLE_FILE = "embedding_and_mapping.pt"
_logger = logging.getLogger(__name__)


def prepare_dataset(name, data_dir=None, manual_dir=None):
    """Find a TFDS dataset, building it first if need be.

    A dataset made from your files remembers their checksums. If `manual_dir` holds other files than it was made from,
    it is built again.

    Args:
        name: of a dataset of this package (`"synthetic_subspaces"`, `"cmu_mosi"`), or of any prepared TFDS dataset with
            the same features.
        data_dir: where prepared datasets lie; TFDS's default, `~/tensorflow_datasets`, if `None`.
        manual_dir: folder with your files, for the datasets that are made from them.

    Returns:
        The `tfds.core.DatasetBuilder`, prepared.

    Raises:
        ValueError: If the name is unknown, or the dataset is not prepared and needs a `manual_dir`.

    Example:
        ```python
        builder = keras_misa.data.prepare_dataset("cmu_mosi", manual_dir="splits")
        ```
    """
    import tensorflow_datasets as tfds

    if not name.isidentifier():
        raise ValueError(f"The name of a dataset is a plain word. Received: name={name!r}")
    module = f"keras_misa.datasets.{name}.{name}_dataset_builder"
    try:
        known = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        known = False
    if known:
        importlib.import_module(module)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"There is no dataset of this name, neither in this package ({', '.join(_package_datasets())}) nor "
            f"prepared in data_dir. Received: name={name!r}, data_dir={data_dir}"
        ) from error
    prepared = builder.data_path.exists()
    if not known and not prepared:
        raise ValueError(
            f"This package ({', '.join(_package_datasets())}) does not build this dataset, and it is not prepared. "
            f"Received: name={name!r}, data_dir={data_dir}"
        )
    if manual_dir is not None and not (pathlib.Path(manual_dir).is_dir() and any(pathlib.Path(manual_dir).iterdir())):
        raise ValueError(f"`manual_dir` must be a folder with files in it. Received: manual_dir={str(manual_dir)!r}")
    if manual_dir is not None:
        _check_source_files(builder, pathlib.Path(manual_dir))
    stale = prepared and manual_dir is not None and _is_stale(builder, pathlib.Path(manual_dir))
    if prepared and not stale:
        return builder
    if getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None) and manual_dir is None:
        raise ValueError(
            f"The dataset {name!r} is not prepared yet and is made from files that you hold; give their folder as "
            f"`manual_dir` (`--manual-dir`). {' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())} "
            "Received: manual_dir=None"
        )
    if stale:
        _logger.warning("%s: the files in manual_dir have changed since it was prepared: building it again.", name)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=manual_dir, download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
        )
    )
    return builder if not stale else tfds.builder(name, data_dir=data_dir)


def _package_datasets():
    folder = pathlib.Path(importlib.import_module("keras_misa.datasets").__file__).parent
    return sorted(path.parent.name for path in folder.glob("*/*_dataset_builder.py"))


def _check_source_files(builder, manual_dir):
    names = getattr(builder, "SOURCE_FILES", None)
    if names and not any((manual_dir / name).is_file() for name in names):
        found = sorted(path.name for path in manual_dir.iterdir())
        raise ValueError(
            f"`manual_dir` must hold one or more of the files {list(names)}. "
            f"Received: manual_dir={str(manual_dir)!r} with {found[:10]}"
        )


def _is_stale(builder, manual_dir):
    """Whether the source files that the dataset names are others now, or a new one is there."""
    sources = (builder.info.metadata or {}).get("sources")
    if sources is None:
        return False
    names = getattr(builder, "SOURCE_FILES", list(sources))
    present = {n: manual_dir / n for n in names if (manual_dir / n).is_file()}
    digests = {n: _sha256(path, path.stat().st_mtime_ns, path.stat().st_size) for n, path in present.items()}
    return bool(digests) and digests != {n: source["sha256"] for n, source in sources.items()}


@functools.lru_cache(maxsize=32)
def _sha256(path, mtime_ns, size):
    """Checksum of a file; time and size are there for the cache to see a change."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def modality_dims(builder):
    """Size of a step's feature vector, by modality: `None` for `text`, whose steps are words.

    Args:
        builder: a `tfds.core.DatasetBuilder`.

    Returns:
        Dict in the order text, then the dataset's own; every feature of shape `(None, size)` is a modality.
    """
    dims = {"text": None} if "words" in builder.info.features else {}
    for key, feature in builder.info.features.items():
        if len(shape := feature.shape or ()) == 2 and shape[0] is None and shape[1]:
            dims[key] = shape[1]
    # Text first, the paper's order: visual before acoustic.
    order = ["text", "visual", "acoustic"]
    return dict(sorted(dims.items(), key=lambda item: (order.index(item[0]) if item[0] in order else 9, item[0])))


def load_examples(name, split, *, split_by=None, data_dir=None, manual_dir=None):
    """The examples of a split as TFDS has them, in their fixed order.

    Args:
        name: see `prepare_dataset`.
        split: `"train"`, `"validation"` or `"test"`.
        split_by: `None` for the dataset's own splits, or `"video:0.7,0.15,0.15"` (shares of train, validation, test) to
            deal out the videos of all its splits anew, see `split_by_video`; `"video:0.7,0.15,0.15:3"` with seed 3.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.

    Returns:
        `tf.data.Dataset` of dicts: `segment_id`, `video_id`, `words`, `visual`, `acoustic`, `label`, …

    Raises:
        ValueError: If the split does not exist or `split_by` is malformed.
    """
    import tensorflow as tf

    builder = prepare_dataset(name, data_dir, manual_dir)
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    if split_by is None:
        if split not in builder.info.splits:
            raise ValueError(
                f"{name} was prepared with the splits {sorted(builder.info.splits)} only. To train and test on "
                'disjoint videos of what is there, give split_by="video:0.7,0.15,0.15" (`--split-by`). '
                f"Received: split={split!r}"
            )
        return builder.as_dataset(split=split)
    examples = functools.reduce(
        tf.data.Dataset.concatenate, (builder.as_dataset(split=s) for s in SPLITS if s in builder.info.splits)
    )
    fractions, seed = _parse_split_by(split_by)
    videos = [example["video_id"].decode() for example in examples.as_numpy_iterator()]
    chosen = [video for video, s in split_by_video(videos, fractions, seed).items() if s == split]
    kept = tf.constant(chosen)
    size = sum(video in set(chosen) for video in videos)
    return examples.filter(lambda example: tf.reduce_any(example["video_id"] == kept)).apply(
        tf.data.experimental.assert_cardinality(size)
    )


def _parse_split_by(split_by):
    try:
        kind, fractions, *seed = split_by.split(":")
        fractions = tuple(float(fraction) for fraction in fractions.split(","))
        (seed,) = [int(s) for s in seed] or [0]
    except ValueError:
        kind = None
    if kind != "video":
        raise ValueError(f'`split_by` must look like "video:0.7,0.15,0.15". Received: split_by={split_by!r}')
    return fractions, seed


def load_word_table(name, *, split_by=None, data_dir=None, manual_dir=None):
    """The word table that belongs to a dataset.

    That of the dataset itself, if it has one; the authors' `embedding_and_mapping.pt`, if it lies in `manual_dir`;
    else the words of the training split with random vectors of 300 numbers.

    Args:
        name: see `prepare_dataset`.
        split_by: see `load_examples`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.

    Returns:
        A `WordTable`.
    """
    if name == "synthetic_subspaces":
        from keras_misa.datasets.synthetic_subspaces import generator

        return WordTable(*generator.word_table(), origin="the dataset's own")
    if manual_dir is not None and (path := pathlib.Path(manual_dir) / WORD_TABLE_FILE).exists():
        return read_word_table(path)
    examples = load_examples(name, "train", split_by=split_by, data_dir=data_dir, manual_dir=manual_dir)
    return WordTable.from_words(
        [word.decode() for word in example["words"]] for example in examples.as_numpy_iterator()
    )


def load_dataset(
    name,
    split,
    *,
    word_table=None,
    modalities=None,
    batch_size=64,
    shuffle=False,
    seed=0,
    split_by=None,
    data_dir=None,
    manual_dir=None,
    pad_to_multiple_of=1,
):
    """A split as `(batch, label)`, for `fit`, `evaluate` and `predict`.

    Words become ids once, examples are cached in memory, shuffled anew every epoch if asked, padded to the longest of
    the batch, each modality to its own, and prefetched. Nothing is dropped; the last batch may be short.

    Args:
        name: see `prepare_dataset`.
        split: `"train"`, `"validation"` or `"test"`.
        word_table: `WordTable` for the ids; `None` takes `load_word_table`'s.
        modalities: names to keep, all by default.
        batch_size: utterances in a batch.
        shuffle: whether to shuffle.
        seed: of the shuffling: the orders differ by epoch, and are the same in every run with this seed.
        split_by: see `load_examples`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.
        pad_to_multiple_of: round the padded length up to a multiple. Where every new length costs a compilation (JAX),
            16 saves most of them; predictions do not depend on padding.

    Returns:
        `tf.data.Dataset` of pairs: the batch, a dict, modality name → `{"values", "lengths"}`, values
        `(batch, time)` int32 word ids for `text`, else `(batch, time, size)` float32; and the labels `(batch,)`.

    Raises:
        ValueError: If there is no such dataset, split or modality.

    Example:
        ```python
        train = keras_misa.data.load_dataset("synthetic_subspaces", "train", shuffle=True)
        validation = keras_misa.data.load_dataset("synthetic_subspaces", "validation")
        model.fit(train, validation_data=validation)
        ```
    """
    import tensorflow as tf

    source = {"split_by": split_by, "data_dir": data_dir, "manual_dir": manual_dir}
    dims = modality_dims(prepare_dataset(name, data_dir, manual_dir))
    modalities = list(dims) if modalities is None else list(modalities)
    if not modalities or set(modalities) - set(dims) or len(set(modalities)) != len(modalities):
        raise ValueError(f"`modalities` must be some of {list(dims)}, each once. Received: modalities={modalities}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    to_ids = None
    if "text" in modalities:
        table = load_word_table(name, **source) if word_table is None else word_table
        to_ids = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(table.words), np.arange(len(table), dtype="int32")), 0
        )

    def to_batch(example):
        values = {m: to_ids[example["words"]] if m == "text" else example[m] for m in modalities}
        return {m: {"values": v, "lengths": tf.shape(v)[0]} for m, v in values.items()}, example["label"]

    def pad(batch, label):
        for inputs in batch.values():
            extra = -tf.shape(inputs["values"])[1] % pad_to_multiple_of
            rank = len(inputs["values"].shape)
            inputs["values"] = tf.pad(inputs["values"], [[0, 0], [0, extra]] + [[0, 0]] * (rank - 2))
        return batch, label

    dataset = load_examples(name, split, **source).map(to_batch, num_parallel_calls=tf.data.AUTOTUNE).cache()
    if shuffle:
        dataset = dataset.shuffle(int(dataset.cardinality()), seed=seed)
    dataset = dataset.padded_batch(batch_size)
    if pad_to_multiple_of > 1:
        dataset = dataset.map(pad)
    return dataset.prefetch(tf.data.AUTOTUNE)
