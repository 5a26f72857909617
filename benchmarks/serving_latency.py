"""How fast are answers? An exported SavedModel against PyTorch, same weights, same utterances, one process.

The sizes are those of CMU-MOSI with GloVe text: 300, 47 and 74 features, d_h = 128. PyTorch's contenders are the module
as the published code has it (packed sequences), that module traced by TorchScript, and, for one utterance, which needs
no packing, the module without it, as it is and traced; each with one thread or all, whichever is faster. Twenty
utterances, or one batch, are given to all of them in turn, for a server answers with one model, whose weights stay in
the caches (`--block 1`: one utterance at a time); the ratios are of the medians. Every answer is compared with the
first contender's. The real utterances of CMU-MOSI are used where KERAS_MISA_TEST_DATA tells where they are, else
made-up ones of like lengths.

    pip install torch
    python benchmarks/serving_latency.py
    python benchmarks/serving_latency.py --quick
"""

import argparse
import os
import pathlib
import platform
import tempfile
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else PyTorch's idle threads keep the CPUs from ours

import _mosi
import numpy as np
import tensorflow as tf
import torch
from _threads import faster_threads, numbers_of_threads, with_threads

from keras_misa.convert import model_from_state_dict
from keras_misa.export.export_run import save_module
from keras_misa.export.request_inputs import SentenceInput, SequenceInput
from keras_misa.export.serving_module import Forward, ServingModule
from keras_misa.export.task_outputs import TaskOutputs

CONFIG = {"label": "sentiment", "score_names": None, "class_names": None, "num_outputs": 1}


class Unpacked(torch.nn.Module):
    """The module for one utterance, which nothing has to be packed for."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, text, visual, acoustic):
        misa = self.module
        vectors = {}
        for x, values in (("t", misa.embed(text)), ("v", visual), ("a", acoustic)):
            hidden, (first, _) = getattr(misa, f"{x}rnn1")(values.transpose(0, 1))
            _, (second, _) = getattr(misa, f"{x}rnn2")(getattr(misa, f"{x}layer_norm")(hidden))
            vectors[x] = torch.cat([first, second], dim=2).permute(1, 0, 2).reshape(1, -1)
        projected = {x: getattr(misa, f"project_{x}")(vectors[x]) for x in vectors}
        tokens = [getattr(misa, f"private_{x}")(projected[x]) for x in projected]
        tokens += [misa.shared(projected[x]) for x in projected]
        tokens = misa.transformer_encoder(torch.stack(tokens, dim=0))
        return misa.fusion(torch.cat(list(tokens), dim=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="single utterances; a tenth as many batches")
    parser.add_argument("--block", type=int, default=20, help="single utterances that one contender answers in a row")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    options = parser.parse_args()
    rounds = 10 if options.quick else options.rounds
    utterances, table = _mosi.utterances_or_made_up()
    torch.manual_seed(0)
    module = _mosi.pytorch_module(table, 0).eval()
    model = model_from_state_dict({name: value.numpy() for name, value in module.state_dict().items()})
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs.")
    print(f"{len(utterances)} utterances; medians of {rounds} single ones and {max(rounds // 10, 3)} batches of 64.\n")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        served = export(model, table, pathlib.Path(folder))
        print("| utterances | contender | ms | quartiles | times as long as ours |\n|---|---|---|---|---|")
        blocks = -(-rounds // options.block)
        for size, count, block in ((1, blocks, options.block), (64, max(rounds // 10, 3), 1)):
            compare(size, count, block, utterances, served, module)


def export(model, table, folder):
    """Dict, flavour → loaded signature."""
    forward = Forward(model)
    features = {m: SequenceInput(m, size) for m, size in (("visual", 47), ("acoustic", 74))}
    texts = {"tokens": SequenceInput("text", vocabulary_size=len(table)), "text": SentenceInput("text", table)}
    served = {}
    for flavour, text in texts.items():
        inputs = {m: text if m == "text" else features[m] for m in model.backbone.modalities}
        save_module(ServingModule(forward, inputs, TaskOutputs(CONFIG)), folder / flavour)
        loaded = tf.saved_model.load(str(folder / flavour))
        served[flavour] = loaded, loaded.signatures["serving_default"]
    return served


def compare(size, count, block, utterances, served, module):
    rng = np.random.default_rng(size)
    contenders = make_contenders(size, utterances, served, module)
    times = {name: [] for name in contenders}
    warm_up = -(-3 // block)
    for turn in range(count + warm_up):
        batches = []
        for _ in range(block):
            chosen = [utterances[row] for row in rng.choice(len(utterances), size, replace=size > len(utterances))]
            batches.append((_mosi.pad(chosen)[0], [" ".join(utterance["words"]) for utterance in chosen]))
        expected = None
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            prepare, call = contenders[name]
            answers = []
            for batch in batches:
                inputs = prepare(*batch)
                start = time.perf_counter()
                answers.append(call(inputs))
                if turn >= warm_up:
                    times[name].append(time.perf_counter() - start)
            expected = expected or answers
            for answer, first in zip(answers, expected, strict=True):
                np.testing.assert_allclose(answer, first, atol=1e-4, err_msg=name)
    ours = np.median(next(iter(times.values())))
    for name, (values, threads) in faster_threads(times).items():
        name += f", {threads} threads" if threads else ""
        low, middle, high = np.percentile(values, [25, 50, 75])
        print(f"| {size} | {name} | {1e3 * middle:.2f} | {1e3 * low:.2f} to {1e3 * high:.2f} | {middle / ours:.2f} |")


def make_contenders(size, utterances, served, module):
    """Dict, name → function that prepares inputs, not timed, and function that answers, NumPy in and out."""

    def tensors(arrays, sentences):
        return [torch.from_numpy(arrays[name]) for name in ("words", "visual", "acoustic", "lengths")]

    def ours(flavour):
        function = served[flavour][1]

        def prepare(arrays, sentences):
            lengths = tf.constant(arrays["lengths"].astype("int32"))
            inputs = {}
            for name in ("visual", "acoustic"):
                inputs |= {name: tf.constant(arrays[name]), f"{name}_lengths": lengths}
            if flavour == "text":
                return inputs | {"text": tf.constant(sentences)}
            return inputs | {"text": tf.constant(arrays["words"].astype("int32")), "text_lengths": lengths}

        return prepare, lambda inputs: function(**inputs)["score"].numpy()

    contenders = {"PyTorch, packed": lambda inputs: module(*inputs)[:, 0].numpy()}
    chosen = utterances[:size]
    example = tensors(_mosi.pad(chosen * -(-size // len(chosen)))[0], None)
    packed = torch.jit.trace(module, example, check_trace=False)
    contenders["PyTorch, packed, TorchScript"] = lambda inputs: packed(*inputs)[:, 0].numpy()
    if size == 1:
        plain = Unpacked(module)
        traced = torch.jit.freeze(torch.jit.trace(plain, example[:3], check_trace=False).eval())
        contenders["PyTorch, not packed"] = lambda inputs: plain(*inputs[:3])[:, 0].numpy()
        contenders["PyTorch, not packed, TorchScript"] = lambda inputs: traced(*inputs[:3])[:, 0].numpy()

    def theirs(call, threads):
        set_threads, call = with_threads(call, threads)

        def prepare(arrays, sentences):
            set_threads()
            return tensors(arrays, sentences)

        return prepare, call

    threads = numbers_of_threads()
    return {"SavedModel, ids": ours("tokens"), "SavedModel, sentences": ours("text")} | {
        f"{name} on {number}": theirs(call, number) for name, call in contenders.items() for number in threads
    }


if __name__ == "__main__":
    main()
