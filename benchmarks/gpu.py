"""All that is to be checked and measured on a GPU, in one call, for each backend of Keras that is installed.

Correctness: predictions, losses and gradients against the PyTorch module of the tests on the CPU; NaN behind the
lengths, and rows without steps; mixed precision. Speed: a training step through `fit`, beside that module with packed
sequences on the same GPU, on batches of the three datasets' shapes, made up. Each backend has a process of its own; a
check that fails is an error at the end, and so is a backend that was asked for and is not there, or that does not see
the GPU. Where there is no GPU at all, nothing runs unless --cpu is given.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --backends jax torch --rounds 10
    python benchmarks/gpu.py --quick --cpu

TensorFlow is not needed: with JAX and PyTorch, keras and this folder, the script has two backends.
"""

import argparse
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
import traceback
import warnings

import numpy as np
from _shapes import HIDDEN, SHAPES, VOCABULARY, make_batch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
BACKENDS = ("tensorflow", "jax", "torch")
SMALL = 12, 5, 7
PADDING = 16  # XLA compiles anew for each length


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, metavar="NAME", help="default: those installed")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of 20 steps that are timed, in turns")
    parser.add_argument("--cpu", action="store_true", help="go on where there is no GPU: shows that the script runs")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round, on the CPU too: shows that it runs"
    )
    parser.add_argument("--child", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.exit(run_backend(options.child, options))
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is needed: it is what everything is compared with.")
    if not options.cpu and shutil.which("nvidia-smi") is None and not os.path.exists("/dev/kfd"):
        print("There is no GPU here (--cpu goes on without).")
        return
    failed = []
    for backend in options.backends or BACKENDS:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend}: not installed.", flush=True)
            failed += [backend] if options.backends else []
            continue
        environment = {**os.environ, "KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, "--child", backend, "--rounds", str(options.rounds)]
        command += [flag for flag in ("--cpu", "--quick") if getattr(options, flag[2:])]
        if subprocess.run(command, env=environment, check=False).returncode:
            failed.append(backend)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


def run_backend(backend, options):
    """Checks and measures; returns the exit status."""
    import keras
    import torch

    device = find_gpu(backend)
    print(
        f"\n## {backend}\n\nKeras {keras.__version__} on {device or 'the CPU'}, PyTorch {torch.__version__},", end=" "
    )
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs.\n", flush=True)
    if device is None and not options.cpu:
        print("This backend does not see the GPU (--cpu goes on without).")
        return 1
    set_precision(backend, exact=True)
    print("| check | largest deviation | allowed | |\n|---|---|---|---|")
    is_good = True
    try:
        for name, (deviation, allowed) in checks(SMALL if options.quick else SHAPES["CMU-MOSI"][0]):
            passed = bool(deviation <= allowed)
            is_good &= passed
            print(f"| {name} | {deviation:.1e} | {allowed:.0e} | {'good' if passed else '**FAILED**'} |", flush=True)
    except Exception:  # the speed is still worth knowing
        traceback.print_exc()
        is_good = False
    set_precision(backend, exact=False)
    measure(backend, device, options)
    return 0 if is_good else 1


def find_gpu(backend):
    """The GPU's name as the backend has it, or `None`."""
    if backend == "jax":
        import jax

        found = [device for device in jax.devices() if device.platform != "cpu"]
        return found[0].device_kind if found else None
    if backend == "torch":
        import torch
        from keras import ops

        return torch.cuda.get_device_name() if ops.zeros(1).is_cuda else None
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "a GPU") if found else None


def set_precision(backend, exact):
    """float32 as it is, for comparisons; or products in TensorFloat-32, for speed, in all that takes part."""
    import torch

    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest" if exact else "tensorfloat32")
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(not exact)


# === Data and models ===


def pytorch_module(sizes, hidden_dim=HIDDEN):
    import torch
    from torch_misa import Misa

    torch.manual_seed(0)
    return Misa(sizes, hidden_dim=hidden_dim, vocabulary=VOCABULARY)


def our_model(module):
    from keras_misa.convert import model_from_state_dict

    state_dict = {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model has no use")
        return model_from_state_dict(state_dict, dropout=0.0, fusion_dropout=0.0)


def pytorch_losses(module, arrays, labels):
    """Prediction and terms of a module, on its device."""
    import torch

    device = next(module.parameters()).device
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items() if name != "lengths"}
    prediction = module(tensors["words"], tensors["visual"], tensors["acoustic"], torch.from_numpy(arrays["lengths"]))
    return prediction, module.losses(prediction, torch.from_numpy(labels).to(device))


# === Checks ===


def checks(sizes):
    """Yields names and pairs: how far it is off, and how far it may be."""
    import keras

    from keras_misa.convert import model_inputs

    rng = np.random.default_rng(0)
    arrays, labels = make_batch(rng, sizes, 24, 12, PADDING)
    module = pytorch_module(sizes)
    prediction, losses = pytorch_losses(module, arrays, labels)
    model = our_model(module)
    batch = model_inputs(**arrays)
    expected = prediction.detach().numpy()
    yield "prediction", (np.abs(model.predict(batch, verbose=0) - expected).max(), 1e-4)

    model.compile(keras.optimizers.SGD(1.0), metrics=None)
    logs = model.evaluate(batch, labels, batch_size=len(labels), verbose=0, return_dict=True)
    for name in ("task", "similarity", "difference", "reconstruction", "loss"):
        value = losses[name].item()
        yield f"loss: {name}", (abs(logs[name] - value) / abs(value), 1e-4)
    behind = {name: array.copy() for name, array in arrays.items()}
    for row, length in enumerate(arrays["lengths"]):
        behind["words"][row, length:] = 3
        behind["visual"][row, length:] = np.nan
        behind["acoustic"][row, length:] = 1e30
    deviation = gradient_deviation(model, module, losses["loss"], model_inputs(**behind), labels)
    yield "gradients, NaN behind the lengths", (deviation, 1e-4)

    model = our_model(module)
    yield "NaN behind the lengths", (deviation_of(model, model_inputs(**behind), expected), 1e-4)
    missing = model_inputs(**arrays)
    missing["visual"] = {**missing["visual"], "lengths": np.where(np.arange(24) == 3, 0, arrays["lengths"])}
    others = np.arange(24) != 3
    answer = model.predict(missing, verbose=0)
    yield "a row without steps: the others", (np.abs(answer - expected)[others].max(), 1e-4)
    yield "a row without steps: not finite", (float((~np.isfinite(answer)).sum()), 0.0)
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        yield f"{dtype}: loss after 20 steps", (mixed_deviation(dtype, sizes), 0.05)


def deviation_of(model, batch, expected):
    answer = model.predict(batch, verbose=0)
    return np.abs(answer - expected).max() if np.isfinite(answer).all() else np.inf


def gradient_deviation(model, module, loss, batch, labels):
    """Of all gradients, relative to the largest of the same weight; but LSTMs' biases, of which PyTorch has two."""
    from keras_misa.convert import to_state_dict

    loss.backward()
    before = {name: np.array(value) for name, value in to_state_dict(model).items()}
    model.train_on_batch(batch, labels)
    after = to_state_dict(model)
    deviations = []
    for name, parameter in module.named_parameters():
        if parameter.grad is None or ("rnn" in name and "bias" in name):
            continue
        expected = parameter.grad.numpy()
        received = before[name] - np.array(after[name])  # SGD with rate 1
        deviations.append(np.abs(received - expected).max() / max(np.abs(expected).max(), 1e-2))
    return np.max(deviations)  # NaN if one is


def mixed_deviation(dtype, sizes):
    """How far 20 steps in mixed precision end from those in float32, relative to the loss."""
    import keras

    from keras_misa.layers import UtteranceEncoder
    from keras_misa.models import MISABackbone, MISARegressor

    arrays, labels = make_batch(np.random.default_rng(1), sizes, 32, 12, PADDING)
    lengths = arrays["lengths"].astype("int32")
    batch = {m: {"values": arrays[m], "lengths": lengths} for m in ("visual", "acoustic")}
    ends = []
    for policy in ("float32", dtype):
        keras.utils.set_random_seed(0)
        encoders = {
            "visual": UtteranceEncoder(sizes[1], dtype=policy),
            "acoustic": UtteranceEncoder(sizes[2], dtype=policy),
        }
        model = MISARegressor(MISABackbone(encoders, 64, dtype=policy), dropout=0.0, fusion_dropout=0.0)
        optimizer = keras.optimizers.Adam(1e-3)
        if policy == "mixed_float16":  # with Keras's 2**15 the first steps overflow and are left out
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
        model.compile(optimizer, metrics=None)
        losses = [float(model.train_on_batch(batch, labels, return_dict=True)["loss"]) for _ in range(20)]
        ends.append(losses[-1])
    return abs(ends[1] / ends[0] - 1) if np.isfinite(ends).all() else np.inf


# === Speed ===


def measure(backend, device, options):
    import torch

    on = "cuda" if torch.cuda.is_available() and device else "cpu"
    steps, rounds = (2, 1) if options.quick else (20, options.rounds)
    shapes = {"small": (SMALL, 8, 6)} if options.quick else SHAPES
    print(f"\nA training step through `fit`, beside PyTorch's module with packed sequences on {on}; medians of")
    print(
        f"{rounds} rounds of {steps} steps in turns; products in TensorFloat-32 where the GPU has it. Ratio: PyTorch's"
    )
    print("time to ours, 10th to 90th centile over rounds.\n")
    print("| shape | batch | ours, ms | PyTorch, ms | ratio |\n|---|---|---|---|---|")
    for name, (sizes, rows, mean_length) in shapes.items():
        rng = np.random.default_rng(0)
        batches = [make_batch(rng, sizes, rows, mean_length, PADDING) for _ in range(steps)]
        module = pytorch_module(sizes)
        ours, theirs = our_epoch(our_model(module), batches), pytorch_epoch(module.to(on).train(), batches)
        times = []
        for number in range(-2, rounds):  # the first ones compile
            start = time.perf_counter()
            ours()
            middle = time.perf_counter()
            theirs()
            if number >= 0:
                times.append((middle - start, time.perf_counter() - middle))
        times = np.array(times) / steps
        low, ratio, high = np.percentile(times[:, 1] / times[:, 0], [10, 50, 90])
        mine, other = 1e3 * np.median(times, axis=0)
        print(f"| {name} | {rows} | {mine:.1f} | {other:.1f} | {ratio:.2f} ({low:.2f} to {high:.2f}) |", flush=True)


def our_epoch(model, batches):
    """A function that trains on all batches, as a user does."""
    import keras

    from keras_misa.convert import model_inputs, reference_optimizer

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, number):
            return prepared[number]

    prepared = [(model_inputs(**arrays), labels) for arrays, labels in batches]
    data = Batches()
    model.compile(reference_optimizer(), metrics=None)
    return lambda: model.fit(data, epochs=1, verbose=0, shuffle=False)


def pytorch_epoch(module, batches):
    """Likewise, as the published code does it."""
    import torch

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)

    def epoch():
        for arrays, labels in batches:
            _, losses = pytorch_losses(module, arrays, labels)
            optimizer.zero_grad()
            losses["loss"].backward()
            torch.nn.utils.clip_grad_value_(module.parameters(), 1.0)
            optimizer.step()
            losses["loss"].item()

    return epoch


if __name__ == "__main__":
    main()
