"""How far our training runs from PyTorch's: same weights, same batches, real MOSI utterances, dropout 0.

Trains at the real sizes (300, 47, 74; d_h 128; batch 64; learning rate 1e-4; gradients clipped to ±1) with PyTorch,
with `keras_misa.convert.reference_optimizer` and with the ordinary Keras Adam, and prints the relative difference of
the loss.

    KERAS_MISA_TEST_DATA=... python benchmarks/torch_equality.py
    KERAS_MISA_TEST_DATA=... python benchmarks/torch_equality.py --quick
"""

import argparse
import os
import platform
import warnings

import numpy as np
from _mosi import pad, pytorch_module, pytorch_step, utterances


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three steps of one seed: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seeds = 3, 1
    import keras
    import torch

    print(
        f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. Keras {keras.__version__} on {keras.backend.backend()},"
    )
    print(f"PyTorch {torch.__version__}. Real MOSI utterances (dev.pkl), relative difference of the loss.\n")
    print("| seed | optimiser | step 1 | step 10 | largest of all steps |\n|---|---|---|---|---|")
    for seed in range(options.seeds):
        for name, deviations in compare(options.steps, seed).items():
            tenth = f"{deviations[9]:.1e}" if len(deviations) > 9 else ""
            print(f"| {seed} | {name} | {deviations[0]:.1e} | {tenth} | {deviations.max():.1e} |", flush=True)


def compare(steps, seed):
    """Dict, optimiser → relative difference of the loss, at each step."""
    import keras
    import torch

    from keras_misa.convert import model_from_state_dict, model_inputs, reference_optimizer

    examples, table = utterances()
    rng = np.random.default_rng(seed)
    batches = []
    while len(batches) < steps:
        order = rng.permutation(len(examples))
        batches += [pad([examples[i] for i in order[start : start + 64]]) for start in range(0, len(examples), 64)]
    module = pytorch_module(table, seed)
    state_dict = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    theirs = np.array([pytorch_step(module, optimizer, *batch) for batch in batches[:steps]])
    optimizers = {
        "reference_optimizer()": reference_optimizer(),
        "keras.optimizers.Adam(1e-4, clipvalue=1.0)": keras.optimizers.Adam(1e-4, clipvalue=1.0),
    }
    deviations = {}
    for name, optimizer in optimizers.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model has no use")
            model = model_from_state_dict(state_dict, dropout=0.0, fusion_dropout=0.0)
        model.compile(optimizer, metrics=None)
        ours = []
        for arrays, labels in batches[:steps]:
            model.reset_metrics()
            ours.append(float(model.train_on_batch(model_inputs(**arrays), labels, return_dict=True)["loss"]))
        deviations[name] = np.abs(np.array(ours) / theirs - 1)
    return deviations


if __name__ == "__main__":
    main()
