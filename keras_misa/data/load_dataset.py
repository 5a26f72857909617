"""TFDS splits as batches for `model.fit`."""

import functools

import numpy as np

from keras_misa.data.prepare_dataset import prepare_dataset
from keras_misa.data.split_by_video import SPLITS, split_by_video
from keras_misa.data.word_table import WordTable, load_word_table_file, read_word_table

WORD_TABLE_FILE = "word_table.npz"  # beside the dataset, put there by its builder


def modality_dims(builder):
    """Size of a step's feature vector, by modality: `None` for a `text` whose steps are words.

    Args:
        builder: a `tfds.core.DatasetBuilder`.

    Returns:
        Dict in the order text, visual, acoustic, others by name; every feature of shape `(None, size)` is a modality.
        A feature `text` of vectors goes before `words`.
    """
    dims = {"text": None} if "words" in builder.info.features else {}
    for key, feature in builder.info.features.items():
        if len(shape := feature.shape or ()) == 2 and shape[0] is None and shape[1]:
            dims[key] = shape[1]
    # Text first, the paper's order: visual before acoustic.
    order = ["text", "visual", "acoustic"]
    return dict(sorted(dims.items(), key=lambda item: (order.index(item[0]) if item[0] in order else 9, item[0])))


def label_outputs(builder, label="label"):
    """What a label asks of a model.

    Args:
        builder: a `tfds.core.DatasetBuilder`.
        label: name of the feature that is predicted.

    Returns:
        Pair: kind, `"classes"` or `"scores"`; and the names of the classes or scores, or `None` if it is one score.

    Raises:
        ValueError: If the dataset has no such label.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    names = ((builder.info.metadata or {}).get("column_names") or {}).get(label)
    feature = features[label] if label in features else None  # noqa: SIM401 (it has no get)
    if isinstance(feature, tfds.features.ClassLabel):
        return "classes", feature.names
    if feature is None or len(shape := feature.shape) > 1 or None in shape or feature.dtype == object:
        known = [name for name in ("label", "emotions") if name in features]
        raise ValueError(f"{builder.info.full_name} has the labels {known}. Received: label={label!r}")
    return "scores", (names or [str(column) for column in range(shape[0])]) if shape else None


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


def load_word_table(name, path=None, *, split_by=None, data_dir=None, manual_dir=None):
    """The word table for a dataset.

    That of a file, if you give one; that of the files which the dataset was made from, if they had one, such as the
    authors' `embedding_and_mapping.pt`; else the words of the training split with random vectors of 300 numbers.

    Args:
        name: see `prepare_dataset`.
        path: file of word vectors: GloVe's, word2vec's or fastText's text form, of which the words of all splits are
            read; or one like `embedding_and_mapping.pt`. Words that a text file lacks get random vectors, as in the
            published code.
        split_by: see `load_examples`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.

    Returns:
        A `WordTable`.
    """
    builder = prepare_dataset(name, data_dir, manual_dir)
    if path is None and (own := builder.data_path / WORD_TABLE_FILE).exists():
        return load_word_table_file(own)
    source = {"split_by": split_by, "data_dir": data_dir, "manual_dir": manual_dir}
    splits = SPLITS if path else SPLITS[:1]
    words = dict.fromkeys(
        word.decode()
        for split in splits
        for example in load_examples(name, split, **source).as_numpy_iterator()
        for word in example["words"]
    )
    return read_word_table(path, words) if path else WordTable.from_words([words])


def load_dataset(
    name,
    split,
    *,
    label="label",
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
        label: name of the feature to predict, such as MOSEI's `"emotions"`.
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
        `(batch, time)` int32 word ids for a `text` of words, else `(batch, time, size)` float32; and the labels
        `(batch,)`, or `(batch, scores)` where the label is several.

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
    builder = prepare_dataset(name, data_dir, manual_dir)
    label_outputs(builder, label)
    dims = modality_dims(builder)
    modalities = list(dims) if modalities is None else list(modalities)
    if not modalities or set(modalities) - set(dims) or len(set(modalities)) != len(modalities):
        raise ValueError(f"`modalities` must be some of {list(dims)}, each once. Received: modalities={modalities}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    of_words = [m for m in modalities if dims[m] is None]
    to_ids = None
    if of_words:
        table = load_word_table(name, **source) if word_table is None else word_table
        to_ids = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(table.words), np.arange(len(table), dtype="int32")), 0
        )

    def to_batch(example):
        values = {m: to_ids[example["words"]] if m in of_words else example[m] for m in modalities}
        return {m: {"values": v, "lengths": tf.shape(v)[0]} for m, v in values.items()}, example[label]

    def pad(batch, labels):
        for inputs in batch.values():
            extra = -tf.shape(inputs["values"])[1] % pad_to_multiple_of
            rank = len(inputs["values"].shape)
            inputs["values"] = tf.pad(inputs["values"], [[0, 0], [0, extra]] + [[0, 0]] * (rank - 2))
        return batch, labels

    dataset = load_examples(name, split, **source).map(to_batch, num_parallel_calls=tf.data.AUTOTUNE).cache()
    if shuffle:
        dataset = dataset.shuffle(int(dataset.cardinality()), seed=seed)
    dataset = dataset.padded_batch(batch_size)
    if pad_to_multiple_of > 1:
        dataset = dataset.map(pad)
    return dataset.prefetch(tf.data.AUTOTUNE)
