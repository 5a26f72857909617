"""TFDS splits as batches for `model.fit`."""

import functools

from keras_misa.data.prepare_dataset import prepare_dataset
from keras_misa.data.split_by_video import SPLITS, fold_by_video, split_by_video
from keras_misa.data.word_table import WordTable, is_torch_file, load_word_table_file, read_word_table

NUM_THREADS = 2
SHUFFLED = 1024  # examples among which is shuffled where they are not kept in memory
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


def check_modalities(modalities, dims):
    """Raise if the names are not some of those in `dims`, each once."""
    modalities = list(modalities)
    if not modalities or set(modalities) - set(dims) or len(set(modalities)) != len(modalities):
        raise ValueError(f"`modalities` must be some of {list(dims)}, each once. Received: modalities={modalities}")


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
            deal out the videos of all its splits anew, see `split_by_video`; or `"video:2/5"`, the second of five
            folds, see `fold_by_video`. A seed may follow: `"video:2/5:3"`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.

    Returns:
        `tf.data.Dataset` of dicts: `segment_id`, `video_id`, `words`, `visual`, `acoustic`, `label`, …

    Raises:
        ValueError: If the split does not exist or `split_by` is malformed.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = prepare_dataset(name, data_dir, manual_dir)
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    # Whoever reads keeps what is needed again: else small datasets would lie in memory twice.
    read = functools.partial(builder.as_dataset, read_config=tfds.ReadConfig(try_autocache=False))
    if split_by is None:
        if split not in builder.info.splits:
            raise ValueError(
                f"{name} was prepared with the splits {sorted(builder.info.splits)} only. To train and test on "
                'disjoint videos of what is there, give split_by="video:0.7,0.15,0.15" (`--split-by`). '
                f"Received: split={split!r}"
            )
        return read(split)
    examples = functools.reduce(tf.data.Dataset.concatenate, (read(s) for s in SPLITS if s in builder.info.splits))
    assign = _parse_split_by(split_by)
    videos = [example["video_id"].decode() for example in examples.as_numpy_iterator()]
    chosen = [video for video, s in assign(videos).items() if s == split]
    kept = tf.constant(chosen)
    size = sum(video in set(chosen) for video in videos)
    return examples.filter(lambda example: tf.reduce_any(example["video_id"] == kept)).apply(
        tf.data.experimental.assert_cardinality(size)
    )


def _parse_split_by(split_by):
    """The function, videos → assignment, that is meant."""
    try:
        kind, shares, *seed = split_by.split(":")
        (seed,) = [int(s) for s in seed] or [0]
        if kind != "video":
            raise ValueError
        if "/" in shares:
            fold, folds = (int(number) for number in shares.split("/"))
            return functools.partial(fold_by_video, fold=fold, folds=folds, seed=seed)
        fractions = tuple(float(fraction) for fraction in shares.split(","))
    except ValueError:
        raise ValueError(
            f'`split_by` must look like "video:0.7,0.15,0.15" or "video:2/5". Received: split_by={split_by!r}'
        ) from None
    return functools.partial(split_by_video, fractions=fractions, seed=seed)


def load_word_table(name, path=None, *, vocabulary=None, split_by=None, data_dir=None, manual_dir=None):
    """The word table for a dataset.

    That of a file, if you give one; that of the files which the dataset was made from, if they had one, such as the
    authors' `embedding_and_mapping.pt`; else the words of the training split with random vectors of 300 numbers.

    Args:
        name: see `prepare_dataset`.
        path: file of word vectors: GloVe's, word2vec's or fastText's text form, or one like
            `embedding_and_mapping.pt`.
        vocabulary: which words get an id of their own; the others share that of `<unk>`. `"dataset"`: those of all
            splits, as in the published code; `"train"`: those of the training split; `"table"`: all of the file. Words
            that a text file lacks get random vectors, as in the published code. `None` is `"dataset"` with a text file,
            `"table"` with a table like the authors' (the dataset's own too), `"train"` without either.
        split_by: see `load_examples`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.

    Returns:
        A `WordTable`.

    Raises:
        ValueError: If the dataset has no words, a whole table is asked for and there is no file, or `vocabulary` is
            something else.
    """
    if vocabulary not in (None, "dataset", "train", "table"):
        raise ValueError(f"`vocabulary` must be dataset, train or table. Received: vocabulary={vocabulary!r}")
    builder = prepare_dataset(name, data_dir, manual_dir)
    if "words" not in builder.info.features:
        raise ValueError(f"{builder.info.full_name} holds no words. Received: path={path!r}")
    own = builder.data_path / WORD_TABLE_FILE
    has_own = path is None and own.exists()
    is_table = has_own or (path is not None and is_torch_file(path))
    vocabulary = vocabulary or ("table" if is_table else "dataset" if path else "train")
    if vocabulary == "table":
        if path is None and not has_own:
            raise ValueError(f"{builder.info.full_name} has no word table of its own: give a file. Received: path=None")
        return load_word_table_file(own) if has_own else read_word_table(path)
    source = {"split_by": split_by, "data_dir": data_dir, "manual_dir": manual_dir}
    splits = SPLITS[:1]
    if vocabulary == "dataset":
        splits = [split for split in SPLITS if split_by or split in builder.info.splits]
    words = dict.fromkeys(
        word.decode()
        for split in splits
        for example in load_examples(name, split, **source).as_numpy_iterator()
        for word in example["words"]
    )
    if is_table:
        return (load_word_table_file(own) if has_own else read_word_table(path)).restrict(words)
    if path:
        return read_word_table(path, words)
    table = WordTable.from_words([words])
    table.origin += f", for the words of {'all splits' if vocabulary == 'dataset' else 'the training split'}"
    return table


def load_dataset(
    name,
    split,
    *,
    label="label",
    text=None,
    modalities=None,
    batch_size=64,
    shuffle=False,
    seed=0,
    first_epoch=None,
    cache=True,
    split_by=None,
    data_dir=None,
    manual_dir=None,
    pad_to_multiple_of=1,
    modality_dropout=0.0,
):
    """A split as `(batch, label)`, for `fit`, `evaluate` and `predict`.

    Words become ids or word pieces, examples are kept in memory, shuffled anew every epoch if asked, padded to the
    longest of the batch, each modality to its own, and prefetched. Nothing is dropped; the last batch may be short.

    Args:
        name: see `prepare_dataset`.
        split: `"train"`, `"validation"` or `"test"`.
        label: name of the feature to predict, such as MOSEI's `"emotions"`.
        text: what makes values of the words: a `WordTable` (ids, for `WordUtteranceEncoder`), a `WordPieceTokenizer`
            (word pieces, for `BertEncoder`) or `TextVectors`. The modality `text` is then of them, even where the
            dataset has vectors of its own for it. `None` takes these or else `load_word_table`'s ids.
        modalities: names to keep, all by default.
        batch_size: utterances in a batch.
        shuffle: whether to shuffle.
        seed: of the shuffling: the orders differ by epoch, and are the same in every run with this seed.
        first_epoch: if a number, the batches of all epochs from this one on in a row, without end, for
            `fit(steps_per_epoch=…)`. The order of an epoch is then that of its number, wherever training began; on JAX
            and PyTorch only if `fit` finds the metrics built (`evaluate` builds them), for it takes a batch to do so.
        cache: whether the first epoch keeps the examples in memory for those after it. If not, each epoch reads the
            files again, and memory does not grow with the data. Shuffling is then among 1024 examples at a time; TFDS
            has written them in a random order. A split that has no more is shuffled as with a cache.
        split_by: see `load_examples`.
        data_dir: see `prepare_dataset`.
        manual_dir: see `prepare_dataset`.
        pad_to_multiple_of: round the padded length up to a multiple. Where every new length costs a compilation (JAX),
            16 saves most of them; predictions do not depend on padding.
        modality_dropout: chance of each modality of an utterance to be missing, its length 0; one of them stays. For
            training: such a model answers where a modality is missing. Which ones is a function of `seed` and of the
            batch's number, counted on through the epochs where `first_epoch` is given.

    Returns:
        `tf.data.Dataset` of pairs: the batch, a dict, modality name → `{"values", "lengths"}`, values
        `(batch, time)` int32 ids for a `text` of words, else `(batch, time, size)` float32; and the labels
        `(batch,)`, or `(batch, scores)` where the label is several.

    Raises:
        ValueError: If there is no such dataset, split or modality, or `modality_dropout` is not in [0, 1).

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
    if text is not None:
        if "words" not in builder.info.features:
            raise ValueError(f"{builder.info.full_name} holds no words. Received: text={text!r}")
        dims = {"text": None} | dims | {"text": None}
    modalities = list(dims) if modalities is None else list(modalities)
    check_modalities(modalities, dims)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    if not 0 <= modality_dropout < 1:
        raise ValueError(f"`modality_dropout` must be in [0, 1). Received: modality_dropout={modality_dropout}")
    of_words = [m for m in modalities if dims[m] is None]
    if of_words and text is None:
        text = load_word_table(name, **source)

    def to_batch(example):
        values = {m: text.encode(example["words"]) if m in of_words else example[m] for m in modalities}
        return {m: {"values": v, "lengths": tf.shape(v)[0]} for m, v in values.items()}, example[label]

    def pad(batch, labels):
        for inputs in batch.values():
            extra = -tf.shape(inputs["values"])[1] % pad_to_multiple_of
            rank = len(inputs["values"].shape)
            inputs["values"] = tf.pad(inputs["values"], [[0, 0], [0, extra]] + [[0, 0]] * (rank - 2))
        return batch, labels

    def drop_modalities(number, elements):
        batch, labels = elements
        chances = tf.random.stateless_uniform([tf.shape(labels)[0], len(modalities)], [seed, number])
        kept = chances >= tf.minimum(modality_dropout, tf.reduce_max(chances, axis=1, keepdims=True))
        for place, inputs in enumerate(batch.values()):
            inputs["lengths"] *= tf.cast(kept[:, place], tf.int32)
        return batch, labels

    dataset = load_examples(name, split, **source).map(to_batch, num_parallel_calls=NUM_THREADS)
    if cache:
        dataset = dataset.cache()
    if shuffle:
        size = int(dataset.cardinality())
        dataset = dataset.shuffle(size if cache else min(size, SHUFFLED), seed=seed)
    dataset = dataset.padded_batch(batch_size)
    if pad_to_multiple_of > 1:
        dataset = dataset.map(pad)
    batches = int(dataset.cardinality())
    if first_epoch is not None:
        dataset = dataset.repeat()
    if modality_dropout:
        dataset = dataset.enumerate().map(drop_modalities)
    if first_epoch is not None:
        dataset = dataset.skip(first_epoch * batches)
    # Where TensorFlow knows the size of batches, `tf.distribute` deals out rows, not batches: it fills up a short one
    # from the next epoch, or leaves a device without rows and steps. It does not know what a map gives.
    dataset = dataset.map(lambda batch, labels: (batch, labels))
    options = tf.data.Options()
    # The thread that tunes may sleep on when an epoch is over, and the epoch waits until it wakes, up to twice as long.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)
