"""MISA with LSTMs on TensorFlow's CPU beside PyTorch: one utterance, 64 utterances, a training step of 64.

The same weights, sizes (300, 47, 74) and batches; real MOSI utterances (dev.pkl) where KERAS_MISA_TEST_DATA is set,
else utterances of such lengths. PyTorch runs the module of the tests with packed sequences, in eager mode as the
published code does, with one thread and with one for each CPU; we run a `tf.function`, and `train_on_batch`. With
--layers also our model on Keras's own LSTM layers. Blocks of calls take turns in one process; a ratio is that of one
call of PyTorch, in its faster number of threads, to one of ours in the same round and on the same batch.

    KERAS_MISA_TEST_DATA=... python benchmarks/encoder.py
    python benchmarks/encoder.py --quick
"""

import argparse
import os
import platform
import time
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else PyTorch's idle threads keep the CPUs from ours

import numpy as np
from _mosi import pad, pytorch_module, pytorch_step, utterances_or_made_up


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", action="store_true", help="also Keras's own LSTM layers")
    parser.add_argument("--quick", action="store_true", help="few calls, one round: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    import keras
    import tensorflow as tf
    import torch

    from keras_misa._tensorflow_lstm import is_usable

    examples, table = utterances_or_made_up()
    lengths = [len(example["words"]) for example in examples]
    kind = "Real MOSI" if os.environ.get("KERAS_MISA_TEST_DATA") else "Made-up"
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. Keras {keras.__version__} on TensorFlow", end=" ")
    print(f"{tf.__version__}, PyTorch {torch.__version__}. {kind} utterances, {min(lengths)} to {max(lengths)} words,")
    print(
        f"mean {np.mean(lengths):.0f}; {options.rounds} rounds. Ratio: PyTorch's time to this, 10th to 90th centile.\n"
    )
    rng = np.random.default_rng(0)
    order = rng.permutation(len(examples))
    single = [pad([examples[i]]) for i in order[: 4 if options.quick else 40]]
    whole = [pad([examples[i] for i in rng.permutation(order)[:64]]) for _ in range(1 if options.quick else 6)]
    module = pytorch_module(table, 0)
    models = {"keras_misa": our_model(module)}
    if options.layers:
        models["keras.layers.LSTM"] = our_model(module)
    print("| | | median ms | ratio |\n|---|---|---|---|")
    for task, batches in (("1 utterance", single), ("64 utterances", whole), ("training step", whole)):
        calls = {f"PyTorch on {n} CPU": pytorch_call(module, task, n) for n in sorted({1, os.cpu_count()})}
        for name, model in models.items():
            calls[name] = our_call(model, task, is_usable if name == "keras_misa" else lambda dtype: False)
        times = measure(calls, batches, options.rounds)
        best = min((name for name in times if "PyTorch" in name), key=lambda name: np.median(times[name]))
        for name, values in times.items():
            low, middle, high = np.percentile(times[best] / values, [10, 50, 90])
            print(
                f"| {task} | {name} | {1e3 * np.median(values):.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |",
                flush=True,
            )


def measure(calls, batches, rounds):
    """Dict, name → seconds of each call; every one runs on all batches before the next has its turn."""
    times = {name: [] for name in calls}
    for number in range(-1, rounds):
        for name, (prepare, call) in calls.items():
            prepare()
            for arrays, labels in batches:
                start = time.perf_counter()
                call(arrays, labels)
                if number >= 0:  # else it may compile
                    times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def pytorch_call(module, task, threads):
    import torch

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)

    def infer(arrays, labels):
        with torch.inference_mode():
            return module(*(torch.from_numpy(arrays[n]) for n in ("words", "visual", "acoustic", "lengths")))

    def train(arrays, labels):
        return pytorch_step(module, optimizer, arrays, labels)

    def prepare():
        module.train(task == "training step")
        torch.set_num_threads(threads)

    return prepare, train if task == "training step" else infer


def our_model(module):
    from keras_misa.convert import model_from_state_dict, reference_optimizer

    state_dict = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model has no use")
        model = model_from_state_dict(state_dict, dropout=0.0, fusion_dropout=0.0)
    model.compile(reference_optimizer(), metrics=None)
    return model


def our_call(model, task, is_usable):
    import keras
    import tensorflow as tf

    from keras_misa import _tensorflow_lstm
    from keras_misa.convert import model_inputs

    signature = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), model.input)
    serve = tf.function(lambda x: model(x, training=False), [signature])

    def infer(arrays, labels):
        return serve(model_inputs(**arrays)).numpy()

    def train(arrays, labels):
        return model.train_on_batch(model_inputs(**arrays), labels)

    def prepare():
        _tensorflow_lstm.is_usable = is_usable

    return prepare, train if task == "training step" else infer


if __name__ == "__main__":
    main()
