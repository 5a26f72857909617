"""How fast is it beside PyTorch on this machine, and how far from what the arithmetic needs?

Two PyTorch modules with our weights, sizes, losses, optimiser and clipping, all without dropout: `packed` works as the
published code does; `fastest` is the fastest form that we know (_fast_torch.py, with PyTorch's fused Adam). That all
three compute the same losses is asserted first. Contenders take turns on the same batches in one process; a ratio is
that of a PyTorch module, in its faster number of threads, to ours in the same round and on the same batch.

The parts, `--parts`:

  step       a training step, on the shapes of the three datasets, GloVe text trained, and MiniLM fine-tuned. The floor
             is the number of multiplications and additions, at the rate of this machine's best large product.
  inference  1 and 64 utterances, by a `tf.function` and by `model(...)` called as it is.
  memory     peak of a process that trains, above that of one that has imported the same.
  profile    where a training step, and the answer to one utterance, spend their time: TensorFlow's own profiler, which
             slows small operations down; shares of the time of all operations on all threads.
  growth     `fit` on a prepared dataset of 1, 10 and 100 times 229 utterances, kept in memory and read anew in every
             epoch: time for each utterance, peak memory (with MALLOC_ARENA_MAX=2, else what the allocator of glibc
             cannot use again hides the rest).
  start      `import keras_misa` beside `import keras`; `keras-misa --help`.

CMU-MOSI's utterances are real ones (dev.pkl) where KERAS_MISA_TEST_DATA is set; all others are made up.

    KERAS_MISA_TEST_DATA=... python benchmarks/train.py
    python benchmarks/train.py --quick
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import subprocess
import sys
import time
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else PyTorch's idle threads keep the CPUs from ours
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _mosi import pad, utterances_or_made_up
from _shapes import HIDDEN, SHAPES, VOCABULARY, make_batch
from _threads import faster_threads, numbers_of_threads, with_threads

MINILM = {"vocabulary": 30522, "hidden": 384, "layers": 6, "heads": 12, "intermediate": 1536, "positions": 512}
SMALL_BERT = {"vocabulary": 50, "hidden": 128, "layers": 2, "heads": 2, "intermediate": 24, "positions": 80}
PARTS = ("step", "inference", "profile", "memory", "growth", "start")
GROWTH = (1, 10, 100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", action="store_true", help="also our model on Keras's own LSTM layers")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that it runs")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    if options.child:
        {"memory": train_in_child, "growth": fit_in_child}[options.child[0]](options.child[1], options)
        return
    is_real = os.environ.get("KERAS_MISA_TEST_DATA") and not options.quick
    kind = "real utterances" if is_real else "made-up utterances"
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs; {describe_versions()}; CMU-MOSI is {kind}.")
    print(f"Medians of {options.rounds} rounds; ratios with 10th to 90th centile.")
    for part in options.parts:
        globals()[f"measure_{part}"](options)


def describe_versions():
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow", "torch"))


# === Batches and contenders ===


def make_batches(shape, is_bert, options, count):
    """Batches of a shape, as `model_inputs` takes them, with labels."""
    rng = np.random.default_rng(0)
    sizes, rows, mean_length = shapes(options)[shape]
    if shape == "CMU-MOSI" and not options.quick:
        examples, _ = utterances_or_made_up()
        batches = [pad([examples[i] for i in rng.permutation(len(examples))[:rows]]) for _ in range(count)]
    else:
        batches = [make_batch(rng, sizes, rows, mean_length) for _ in range(count)]
    if is_bert:
        for arrays, _ in batches:
            lengths = arrays["lengths"] + 2  # [CLS], a piece for each word, [SEP]
            real = np.arange(lengths.max()) < lengths[:, None]
            ids = rng.integers(5, bert_sizes(options)["vocabulary"], real.shape)
            del arrays["words"]
            arrays |= {"token_ids": ids * real, "padding_mask": real.astype("int64")}
    return batches


def shapes(options):
    return {"CMU-MOSI": ((12, 5, 7), 6, 5)} if options.quick else SHAPES


def bert_sizes(options):
    return SMALL_BERT if options.quick else MINILM


def pytorch_modules(shape, is_bert, options):
    """Dict, name → module; all with the same weights."""
    import torch
    from _fast_torch import FastBert, FastMisa
    from torch_misa import Bert, Misa

    torch.manual_seed(0)
    arguments = {"sizes": shapes(options)[shape][0], "hidden_dim": HIDDEN, "vocabulary": VOCABULARY}
    berts = (Bert(**bert_sizes(options)), FastBert(**bert_sizes(options))) if is_bert else (None, None)
    modules = {"packed": Misa(**arguments, bert=berts[0]), "fastest": FastMisa(**arguments, bert=berts[1])}
    modules["fastest"].load_state_dict(modules["packed"].state_dict())
    return modules


def our_model(module, bert_heads):
    import keras

    from keras_misa.convert import model_from_state_dict, reference_optimizer

    state_dict = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model has no use")
        model = model_from_state_dict(state_dict, dropout=0.0, fusion_dropout=0.0, bert_num_heads=bert_heads)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # BERT's
    model.compile(reference_optimizer(), metrics=None)
    return model


def as_tensors(arrays):
    """Arguments of a module."""
    import torch

    names = {"words": "text", "token_ids": "text", "padding_mask": "mask"}
    return {names.get(name, name): torch.from_numpy(array) for name, array in arrays.items()}


def pytorch_train(module, is_fast):
    """A function of a batch that makes one step and returns the loss."""
    import torch

    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=is_fast or None)

    def step(arrays, labels):
        loss = module.losses(module(**as_tensors(arrays)), torch.from_numpy(labels))["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(module.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def our_train(model):
    from keras_misa.convert import model_inputs

    return lambda arrays, labels: model.train_on_batch(model_inputs(**arrays), labels)


def with_lstm(call, is_usable):
    """Ours with the LSTMs of `keras_misa`, or of Keras."""
    from keras_misa import _tensorflow_lstm

    def prepare():
        _tensorflow_lstm.is_usable = is_usable

    return prepare, call


def take_turns(calls, batches, rounds):
    """Dict, name → seconds of each call, after two rounds that compile; all run on all batches by turns."""
    times = {name: [] for name in calls}
    for number in range(-2, rounds):
        for name, (prepare, call) in calls.items():
            prepare()
            for arrays, labels in batches if number >= 0 else batches[:2]:
                start = time.perf_counter()
                call(arrays, labels)
                if number >= 0:
                    times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def print_ratios(label, times, others):
    ours = np.median(times["keras_misa"])
    for name, (values, threads) in faster_threads(times).items():
        low, middle, high = np.percentile(values / times["keras_misa"], [10, 50, 90])
        name += f", {threads} threads" if threads else ""
        ratio = "" if name == "keras_misa" else f"{middle:.2f} ({low:.2f} to {high:.2f})"
        end = others(np.median(values)) if others else ""
        print(f"| {label} | {name} | {1e3 * np.median(values):.1f} | {ratio} |{end}", flush=True)
    return ours


# === A training step ===


def measure_step(options):
    import tensorflow as tf

    from keras_misa._tensorflow_lstm import is_usable

    peak = product_peak(tf, options)
    print(f"\n### A training step\n\nThe best of the large products here: {peak / 1e9:.0f} GFLOP/s.\n")
    print("| shape | | median ms | times ours | share of the floor's rate |\n|---|---|---|---|---|")
    for is_bert in (False, True):
        for shape, (_, rows, _) in shapes(options).items():
            batches = make_batches(shape, is_bert, options, 2 if options.quick else 6)
            modules = pytorch_modules(shape, is_bert, options)
            heads = bert_sizes(options)["heads"] if is_bert else None
            model = our_model(modules["packed"], heads)
            calls = {"keras_misa": with_lstm(our_train(model), is_usable)}
            if options.layers:
                layers = our_train(our_model(modules["packed"], heads))
                calls["keras.layers.LSTM"] = with_lstm(layers, lambda dtype: False)
            steps = {name: pytorch_train(module, name == "fastest") for name, module in modules.items()}
            assert_equal(model, calls["keras_misa"][1], steps.values(), batches[0])
            for name, step in steps.items():
                calls |= {f"PyTorch, {name} on {n}": with_threads(step, n) for n in numbers_of_threads()}
            times = take_turns(calls, batches, options.rounds)
            floor = np.median([count_operations(model, arrays, is_bert) for arrays, _ in batches]) / peak
            label = f"{shape}, {'MiniLM' if is_bert else 'GloVe'}, {rows}"
            print_ratios(label, times, lambda median, floor=floor: f" {100 * floor / median:.0f} % |")


def assert_equal(model, step, others, batch):
    """All make the same two losses, the second one after a step."""
    ours = []
    for _ in range(2):
        model.reset_metrics()  # they are means over the calls
        ours.append(step(*batch)[0])
    for other in others:
        np.testing.assert_allclose([other(*batch) for _ in range(2)], ours, rtol=1e-4)


def product_peak(tf, options):
    """Operations a second of the best of some products of large matrices."""
    size = 256 if options.quick else 2048
    matrix = tf.random.normal((size, size))
    best = np.inf
    for _ in range(10):
        start = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def count_operations(model, arrays, is_bert):
    """Multiplications and additions of a training step's products: those of inference, three times.

    Of the weights' gradient and the inputs', each costs what inference does; the features' own gradient, which nobody
    needs, is not counted.
    """
    total, rows = 0, len(arrays["lengths"])
    for modality, encoder in model.backbone.encoders.items():
        if modality == "text" and is_bert:
            matrices = [w for w in encoder.backbone.weights if len(w.shape) > 1 and "embedding" not in w.path]
            parameters = sum(np.prod(w.shape) for w in matrices)
            total += 6 * parameters * arrays["padding_mask"].sum()
            continue
        steps = arrays["lengths"].sum()
        for number, rnns in enumerate((encoder.rnn_1, encoder.rnn_2)):
            needs_inputs = number or modality == "text"
            for rnn in rnns:
                kernel, recurrent = (np.prod(w.shape) for w in (rnn.cell.kernel, rnn.cell.recurrent_kernel))
                total += steps * ((6 if needs_inputs else 4) * kernel + 6 * recurrent)
    inside = {id(w) for encoder in model.backbone.encoders.values() for w in encoder.weights}
    dense = sum(np.prod(w.shape) for w in model.trainable_weights if len(w.shape) > 1 and id(w) not in inside)
    return total + 6 * rows * dense


# === Inference ===


def our_inference(model):
    """A function of a batch that gives the predictions."""
    import keras
    import tensorflow as tf

    from keras_misa.convert import model_inputs

    signature = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), model.input)
    serve = tf.function(lambda x: model(x, training=False), [signature])
    return lambda arrays, labels: serve(model_inputs(**arrays)).numpy()


def one_by_one(batches):
    """The first rows of batches, each a batch without padding."""
    return [
        ({name: a[row : row + 1, :n] if a.ndim > 1 else a[row : row + 1] for name, a in arrays.items()}, labels)
        for arrays, labels in batches
        for row, n in list(enumerate(arrays["lengths"]))[:8]
    ]


def measure_inference(options):
    import torch

    from keras_misa.convert import model_inputs

    print("\n### Inference\n\n| utterances | | median ms | times ours |\n|---|---|---|---|")
    modules = pytorch_modules("CMU-MOSI", False, options)
    model = our_model(modules["packed"], None)
    serve = our_inference(model)
    batches = make_batches("CMU-MOSI", False, options, 2 if options.quick else 6)
    single = one_by_one(batches)

    def of_pytorch(module):
        def call(arrays, labels):
            with torch.inference_mode():
                return module.eval()(**as_tensors(arrays)).numpy()

        return call

    ours = {
        "keras_misa": serve,
        "keras_misa, model(...)": lambda arrays, labels: model(model_inputs(**arrays), training=False).numpy(),
    }
    theirs = {name: of_pytorch(module) for name, module in modules.items()}
    for count, chosen in ((1, single), (shapes(options)["CMU-MOSI"][1], batches)):
        for arrays, labels in chosen[:2]:
            answers = [call(arrays, labels) for call in (*ours.values(), *theirs.values())]
            np.testing.assert_allclose(answers, [answers[0]] * len(answers), atol=1e-4)
        calls = {name: (lambda: None, call) for name, call in ours.items()}
        for name, call in theirs.items():
            calls |= {f"PyTorch, {name} on {n}": with_threads(call, n) for n in numbers_of_threads()}
        print_ratios(count, take_turns(calls, chosen, options.rounds), None)


# === Profile ===

WHERE = {  # the first that is found in an operation's name
    "optimiser and clipping": r"reference_adam",
    "LSTMs: products": r"(^|encoder\w*/)PartitionedCall.*MatMul",
    "LSTMs: the rest": r"(^|encoder\w*/)PartitionedCall",
    "embedding, tokens, normalisation between LSTMs": r"encoder",
    "fusion and head": r"/(fusion|head)",
    "projections, penalties and their losses": r"_(projection|private|shared)|similarity|difference|reconstruct|cmd",
    "all else, such as the metrics": r"",
}


def measure_profile(options):
    model = our_model(pytorch_modules("CMU-MOSI", False, options)["packed"], None)
    batches = make_batches("CMU-MOSI", False, options, 2 if options.quick else 6)
    for title, call, chosen in (
        ("a training step, CMU-MOSI, GloVe", our_train(model), batches),
        ("one utterance, CMU-MOSI, GloVe", our_inference(model), one_by_one(batches)),
    ):
        for batch in [*chosen[:2], *chosen]:
            call(*batch)
        times, counts = profile(call, chosen)
        print(f"\n### Where the time goes: {title}\n\n| | share of the time | operations |\n|---|---|---|")
        for name in WHERE:
            if counts[name]:
                share = 100 * times[name] / sum(times.values())
                print(f"| {name} | {share:.1f} % | {counts[name] / len(chosen):.0f} |")


def profile(call, batches):
    """Two counters, part of the model → time and number of its operations."""
    import collections
    import re
    import tempfile

    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for batch in batches:
            call(*batch)
        tf.profiler.experimental.stop()
        [file] = pathlib.Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(file.read_bytes())
    times, counts = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if re.fullmatch(r"[^:]+:\w+", name):  # of a node and its operation; others are the runtime's
                    part = next(part for part, pattern in WHERE.items() if re.search(pattern, name))
                    times[part] += event.duration_ps
                    counts[part] += 1
    return times, counts


# === Processes of their own ===


def in_child(part, argument, options, **environment):
    """What a process of its own says: a dict."""
    command = [sys.executable, __file__, "--child", part, str(argument)] + ["--quick"] * options.quick
    environment = {**os.environ, **environment}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def resident_mebibytes(name="VmHWM"):
    """Of this process: at its peak, or with `VmRSS` now."""
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure_memory(options):
    print("\n### Peak memory of training, CMU-MOSI, GloVe\n")
    print("| | MiB after imports | MiB more at the peak |\n|---|---|---|")
    for name in ("keras_misa", "packed", "fastest"):
        said = in_child("memory", name, options)
        print(f"| {'' if name == 'keras_misa' else 'PyTorch, '}{name} | {said['before']:.0f} | {said['more']:.0f} |")


def train_in_child(name, options):
    import torch  # all have imported both

    import keras_misa.models  # noqa: F401

    batches = make_batches("CMU-MOSI", False, options, 2 if options.quick else 6)
    before = resident_mebibytes("VmRSS")
    modules = pytorch_modules("CMU-MOSI", False, options)
    if name == "keras_misa":
        step = our_train(our_model(modules["packed"], None))
    else:
        step = pytorch_train(modules[name], name == "fastest")
    del modules
    torch.set_num_threads(os.cpu_count())
    for arrays, labels in batches * (1 if options.quick else 5):
        step(arrays, labels)
    print(json.dumps({"before": before, "more": resident_mebibytes() - before}))


def measure_growth(options):
    print("\n### As the data grows\n")
    print("| examples | times the data | utterances | ms an utterance | relative | MiB at the peak |")
    print("|---|---|---|---|---|---|")
    first = None
    for times in GROWTH[: 2 if options.quick else None]:
        for way in ("kept in memory", "read anew"):
            said = in_child("growth", f"{times} {way}", options, MALLOC_ARENA_MAX="2")
            each = 1e3 * said["seconds"] / said["utterances"]
            first = first or each
            numbers = f"{said['utterances']} | {each:.2f} | {each / first:.2f} | {said['peak']:.0f}"
            print(f"| {way} | {times} | {numbers} |", flush=True)


def fit_in_child(argument, options):
    """Prepares so many times the data, as an own folder, and fits two epochs."""
    import tempfile

    import keras

    from keras_misa.data import load_dataset
    from keras_misa.layers import MeanEncoder, UtteranceEncoder, WordUtteranceEncoder
    from keras_misa.models import MISABackbone, MISARegressor

    times, way = argument.split(maxsplit=1)
    keras.utils.set_random_seed(0)
    examples, table = utterances_or_made_up()
    examples = examples[: 20 if options.quick else None]
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        # In a process of its own, whose memory is not counted.
        builder = multiprocessing.get_context("spawn").Process(target=prepare, args=(place, examples, int(times)))
        builder.start()
        builder.join()
        encoders = {"visual": MeanEncoder(47), "acoustic": MeanEncoder(74)}
        if not options.quick:
            encoders = {"text": WordUtteranceEncoder(len(table), 300)}
            encoders |= {"visual": UtteranceEncoder(47), "acoustic": UtteranceEncoder(74)}
        data = load_dataset(
            "utterance_folder/utterances",
            "train",
            text=table,
            modalities=list(encoders),
            batch_size=64,
            shuffle=True,
            cache=way == "kept in memory",
            data_dir=place / "data",
        )
        model = MISARegressor(MISABackbone(encoders, HIDDEN))
        model.compile(metrics=None)
        model.fit(data.take(2), verbose=0)
        start = time.perf_counter()
        model.fit(data, epochs=2, verbose=0)
        seconds = (time.perf_counter() - start) / 2
    said = {"seconds": seconds, "utterances": len(examples) * int(times), "peak": resident_mebibytes()}
    print(json.dumps(said))


def prepare(place, examples, times):
    """The dataset, in `place`."""
    import tensorflow_datasets as tfds

    from keras_misa.data import prepare_dataset

    tfds.display_progress_bar(False)
    write_folder(place / "utterances", examples, times)
    prepare_dataset("utterance_folder", place / "data", place / "utterances")


def write_folder(folder, examples, times):
    """Utterances again and again, as a folder of one's own; files of features, one for each utterance and modality."""
    import csv

    for modality in ("visual", "acoustic"):
        (folder / modality).mkdir(parents=True)
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("segment_id", "text", "label"))
        for turn in range(times):
            for number, example in enumerate(examples):
                name = f"{turn}_{number}"
                writer.writerow((name, " ".join(example["words"]), float(example["label"])))
                for modality in ("visual", "acoustic"):
                    np.save(folder / modality / f"{name}.npy", np.asarray(example[modality], "float32"))


# === Start ===


def measure_start(options):
    print("\n### Start\n\n| | median s | times `import keras` |\n|---|---|---|")
    commands = {
        "`import keras`": ["-c", "import keras"],
        "`import keras, keras_misa`": ["-c", "import keras, keras_misa"],
        "`keras-misa --help`": ["-m", "keras_misa.cli", "--help"],
    }
    times = {name: [] for name in commands}
    for number in range(-1, 1 if options.quick else 2 * options.rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number >= 0:
                times[name].append(time.perf_counter() - start)
    base = np.array(times["`import keras`"])
    for name, values in times.items():
        print(f"| {name} | {np.median(values):.2f} | {np.median(values / base):.2f} |")


if __name__ == "__main__":
    main()
