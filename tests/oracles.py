"""Oracles in plain NumPy, and what the tests share."""

import pickle

import keras
import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def layer_norm(x, gamma, beta, epsilon=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def lstm(steps, kernel, recurrent, bias):
    """Hidden state after each step, `(time, units)`, of one row."""
    h = c = np.zeros(recurrent.shape[0])
    states = []
    for step in steps:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def utterance_vector(encoder, steps):
    """What `UtteranceEncoder` must give for one row of real steps only, from its weights."""

    def both(layers, x):
        weights = [[np.asarray(w, "float64") for w in layer.get_weights()] for layer in layers]
        return lstm(x, *weights[0]), lstm(x[::-1], *weights[1])[::-1]

    forward_1, backward_1 = both(encoder.rnn_1, steps)
    gamma, beta = encoder.layer_norm.get_weights()
    forward_2, backward_2 = both(encoder.rnn_2, layer_norm(np.hstack([forward_1, backward_1]), gamma, beta))
    return np.concatenate([forward_1[-1], forward_2[-1], backward_1[0], backward_2[0]])


def gradient(function, x):
    """Gradient of a scalar function of one array, on whatever backend is in use."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import torch

    x = torch.tensor(x, requires_grad=True)
    function(x).backward()
    return x.grad.numpy()


def weight_gradients(total, variables):
    """Gradients of `total()`, a scalar, with respect to variables, on whatever backend is in use."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = total()
        results = [tf.convert_to_tensor(g) for g in tape.gradient(value, [v.value for v in variables])]
    elif backend == "jax":
        import jax

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
                return total()

        results = jax.jit(jax.grad(stateless))([v.value for v in variables])
    else:
        import torch

        results = torch.autograd.grad(total(), [v.value for v in variables])
    return to_numpy(list(results))


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def to_numpy(structure):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, structure)


def assert_equal(actual, expected, atol=1e-6):
    keras.tree.assert_same_structure(actual, expected)
    for a, e in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a, "float32"), np.asarray(e, "float32"), atol=atol, rtol=1e-5)


def sequence(dim, lengths, time=None, seed=0):
    """Inputs of an `UtteranceEncoder`, with NaN beyond the lengths."""
    lengths = np.array(lengths, "int32")
    time = time or max(int(lengths.max()), 1)
    values = np.random.default_rng(seed).normal(size=(len(lengths), time, dim)).astype("float32")
    values[np.arange(time)[None, :] >= lengths[:, None]] = np.nan
    return {"values": values, "lengths": lengths}


def aligned_segment(sequences, video, number):
    """The published pipeline for one segment, frame by frame: `None` if it drops the segment."""
    start, end = sequences["labels"][video][1][number]
    words, times = sequences["words"][video]
    aligned = {"words": [], "visual": [], "acoustic": []}
    for word, (begin, stop) in zip(words[:, 0], times, strict=True):
        if abs(stop - begin) < 1e-5:
            continue
        entries = {"words": (word.decode(), begin, stop)}
        for modality in ("visual", "acoustic"):
            frames = [
                (values, max(left, begin), min(right, stop))
                for values, (left, right) in zip(*sequences[modality][video], strict=True)
                if min(right, stop) - max(left, begin) > 1e-5
            ]
            if frames:
                values, lefts, rights = zip(*frames, strict=True)
                entries[modality] = np.mean(np.array(values), axis=0), min(lefts), max(rights)
        for modality, (value, left, right) in entries.items():
            if min(right, end) - max(left, start) > 1e-5:
                aligned[modality].append(value)
    if len({len(values) for values in aligned.values()}) > 1:
        return None
    spoken = [index for index, word in enumerate(aligned["words"]) if word != "sp"]
    if not spoken:
        return None
    example = {"words": [aligned["words"][index] for index in spoken]}
    for modality in ("visual", "acoustic"):
        with np.errstate(all="ignore"):
            values = np.nan_to_num(np.array([aligned[modality][index] for index in spoken]))
            values = (values - values.mean(0, keepdims=True)) / (1e-6 + np.std(values, axis=0, keepdims=True))
        example[modality] = np.nan_to_num(values)
    return example


def read_sequences(folder, dataset):
    """Role → video → features and intervals, as they stand in the files of `write_sequences`."""
    import h5py

    from keras_misa.datasets.cmu_mosi.sequence_generator import FILES

    sequences = {}
    for role, (name, root) in FILES[dataset].items():
        with h5py.File(folder / f"{name}.csd") as file:
            data = file[root]["data"]
            sequences[role] = {v: (data[v]["features"][()], data[v]["intervals"][()]) for v in data}
    return sequences


def write_table(path, vectors, rows):
    """The authors' file, written by hand: their factory is a function of a module that does not exist here."""
    table = vectors.astype("<f4")
    storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage += pickle.dumps(table.size, 2)[2:-1] + b"NtQ"
    shape = b"".join(pickle.dumps(part, 2)[2:-1] for part in (0, table.shape, (table.shape[1], 1)))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + shape + b"\x89NtR"
    items = pickle.dumps(rows, 2)[2:-1]
    words = b"ccollections\ndefaultdict\nccreate_dataset\nreturn_unk\n\x85R" + items[items.index(b"(") :]
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(
        b"".join(pickle.dumps(part, 2) for part in header)
        + (b"\x80\x02" + tensor + words + b"\x86.")
        + pickle.dumps(["0"], 2)
        + table.size.to_bytes(8, "little")
        + table.tobytes()
    )
    return path
