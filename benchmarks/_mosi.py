"""What benchmarks share: the real utterances of CMU-MOSI's `dev.pkl`, padded, and the PyTorch module of the tests."""

import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
SIZES = (300, 47, 74)


def utterances():
    """Segments of `dev.pkl` as dicts with `ids`, and the word table."""
    from keras_misa.data import read_word_table
    from keras_misa.data.sources.reference_splits import read_reference_split

    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        print("Skipped: KERAS_MISA_TEST_DATA, the folder that holds the real data, is not set.")
        sys.exit(0)
    folder = pathlib.Path(folder) / "data/cmu_mosi/reference_splits"
    table = read_word_table(folder / "embedding_and_mapping.pt")
    examples = read_reference_split(folder / "dev.pkl")
    return [{**example, "ids": table.ids(example["words"])} for example in examples], table


def utterances_or_made_up():
    """As `utterances`; where the real data is not at hand, made-up ones of such lengths and a random word table."""
    if os.environ.get("KERAS_MISA_TEST_DATA"):
        return utterances()
    from keras_misa.data import WordTable

    rng = np.random.default_rng(0)
    table = WordTable.from_words([[f"word{number}" for number in range(2998)]], SIZES[0])
    examples = []
    for length in rng.geometric(1 / 12, 229).clip(2, 44):
        ids = rng.integers(2, len(table), length).astype("int32")
        visual, acoustic = (rng.normal(size=(length, size)).astype("float32") for size in SIZES[1:])
        words = [table.words[number] for number in ids]
        examples.append({"words": words, "ids": ids, "visual": visual, "acoustic": acoustic, "label": rng.normal()})
    return examples, table


def pad(examples):
    """A batch as `model_inputs` names it, and the labels."""
    lengths = np.array([len(example["words"]) for example in examples])
    shape = len(examples), lengths.max()
    arrays = {
        "words": np.ones(shape, "int64"),
        "visual": np.zeros((*shape, SIZES[1]), "float32"),
        "acoustic": np.zeros((*shape, SIZES[2]), "float32"),
        "lengths": lengths,
    }
    for row, example in enumerate(examples):
        for name, key in (("words", "ids"), ("visual", "visual"), ("acoustic", "acoustic")):
            arrays[name][row, : lengths[row]] = example[key]
    return arrays, np.array([example["label"] for example in examples], "float32")


def pytorch_module(table, seed, **kwargs):
    """The PyTorch module at the real sizes, with the table's vectors."""
    import torch
    from torch_misa import Misa

    torch.manual_seed(seed)
    module = Misa(SIZES, hidden_dim=128, vocabulary=len(table), **kwargs)
    module.embed.weight.data.copy_(torch.from_numpy(table.vectors))
    return module


def pytorch_step(module, optimizer, arrays, labels):
    """One training step as the published code does it; returns the loss."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    prediction = module(tensors.pop("words"), **tensors)
    loss = module.losses(prediction, torch.from_numpy(labels))["loss"]
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(module.parameters(), 1.0)
    optimizer.step()
    return loss.item()
