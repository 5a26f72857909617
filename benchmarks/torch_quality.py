"""Is a model trained here as good as one trained with PyTorch? Real MOSI utterances, five folds by video, three seeds.

Ours and the PyTorch module train with the reference protocol (its initialisation, optimiser, dropout, early stopping on
the validation task loss as the mean of batch means) on the same folds: two of ten videos are the test split, the next
two the validation split. Finished runs are kept in the output file and not trained again.

    KERAS_MISA_TEST_DATA=... python benchmarks/torch_quality.py --output runs/torch_quality.json
    KERAS_MISA_TEST_DATA=... python benchmarks/torch_quality.py --quick
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import platform
import sys

import numpy as np
from _mosi import pad, pytorch_module, pytorch_step, utterances

METRICS = {"mae": "MAE ↓", "corr": "Corr ↑", "acc2_nonneg": "Acc-2 ↑", "acc7": "Acc-7 ↑"}
BATCH_SIZE, PATIENCE = 64, 6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="one fold, one seed, one epoch: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.folds = options.seeds = options.epochs = options.workers = 1
    utterances()  # says at once where there are none
    jobs = [(c, f, s, options.epochs) for f in range(options.folds) for s in range(options.seeds) for c in TRAIN]
    results = json.loads(options.output.read_text()) if options.output and options.output.exists() else {}
    waiting = [job for job in jobs if key(job) not in results]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context) as pool:
        for job, result in zip(waiting, pool.map(run, waiting), strict=True):
            results[key(job)] = result
            if options.output:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(json.dumps(results, indent=1))
            print(f"\r{len(results)}/{len(jobs)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table({job: results[key(job)] for job in jobs}, options)


def key(job):
    return "/".join(map(str, job))


def print_table(results, options):
    print(f"CMU-MOSI, the 229 utterances of dev.pkl, {options.folds} fold(s) by video, {options.seeds} seed(s).")
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs. Mean ± standard deviation over all runs.\n")
    print(f"| code | {' | '.join(METRICS.values())} | epochs |\n|---|{'---|' * (len(METRICS) + 1)}")
    columns = {}
    for code in TRAIN:
        columns[code] = {
            name: np.array([result[name] for job, result in results.items() if job[0] == code])
            for name in (*METRICS, "epochs")
        }
        cells = [f"{values.mean():.3f} ± {values.std():.3f}" for values in columns[code].values()]
        print(f"| {code} | {' | '.join(cells)} |")
    differences = {name: columns["keras_misa"][name] - columns["PyTorch"][name] for name in (*METRICS, "epochs")}
    cells = [f"{d.mean():+.3f} ± {d.std() / len(d) ** 0.5:.3f}" for d in differences.values()]
    print(f"| difference, ± its standard error | {' | '.join(cells)} |")


def run(job):
    code, fold, seed, epochs = job
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
    examples, table = utterances()
    videos = sorted({example["video_id"] for example in examples})
    folds = [videos[i::5] for i in range(5)]
    split_of = dict.fromkeys(videos, "train")
    split_of |= dict.fromkeys(folds[fold], "test") | dict.fromkeys(folds[(fold + 1) % 5], "validation")
    splits = {
        name: [e for e in examples if split_of[e["video_id"]] == name] for name in ("train", "validation", "test")
    }
    predictions, labels, trained = TRAIN[code](splits, table, seed, epochs)
    return {**metrics(predictions, labels), "epochs": trained}


def metrics(predictions, labels):
    from keras_misa.metrics import regression_metrics

    values = {}
    for metric in regression_metrics():
        metric.update_state(labels, predictions)
        values[metric.name] = float(metric.result())
    return values


def batches_of(examples, rng=None):
    order = np.arange(len(examples)) if rng is None else rng.permutation(len(examples))
    return [pad([examples[i] for i in order[s : s + BATCH_SIZE]]) for s in range(0, len(examples), BATCH_SIZE)]


def train_pytorch(splits, table, seed, epochs):
    import torch

    torch.set_num_threads(1)
    module = pytorch_module(table, seed, dropout=0.5, fusion_dropout=0.1)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    rng = np.random.default_rng(seed)

    def predict(examples):
        module.eval()
        with torch.no_grad():
            outputs = []
            for arrays, labels in batches_of(examples):
                tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
                outputs.append((module(tensors.pop("words"), **tensors)[:, 0].numpy(), labels))
        return outputs

    best, best_state, wait, trained = float("inf"), None, 0, 0
    while trained < epochs and wait <= PATIENCE:
        module.train()
        for arrays, labels in batches_of(splits["train"], rng):
            pytorch_step(module, optimizer, arrays, labels)
        trained += 1
        task = np.mean([np.mean((p - y) ** 2) for p, y in predict(splits["validation"])])
        if task <= best:
            best, wait = task, 0
            best_state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        else:
            wait += 1
    module.load_state_dict(best_state)
    outputs = predict(splits["test"])
    return *(np.concatenate(parts) for parts in zip(*outputs, strict=True)), trained


def train_keras_misa(splits, table, seed, epochs):
    import keras
    import tensorflow as tf

    from keras_misa.convert import model_inputs
    from keras_misa.experiments import ReferenceStopping, build_model, make_config
    from keras_misa.layers import WordUtteranceEncoder

    def dataset(examples, rng=None):
        """Batches of any length, in another order every epoch if there is an `rng`."""

        def generate():
            for arrays, labels in batches_of(examples, rng):
                yield model_inputs(**arrays), labels

        values = {"text": ((None, None), "int32")}
        values |= {m: ((None, None, d), "float32") for m, d in (("visual", 47), ("acoustic", 74))}
        batch = {
            m: {"values": tf.TensorSpec(shape, dtype), "lengths": tf.TensorSpec((None,), "int32")}
            for m, (shape, dtype) in values.items()
        }
        signature = batch, tf.TensorSpec((None,), "float32")
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(examples) // BATCH_SIZE)))

    keras.utils.set_random_seed(seed)
    config = make_config("cmu_mosi", protocol="reference", seed=seed)
    encoder = WordUtteranceEncoder(len(table), table.dimension)
    encoder.set_vectors(table.vectors)
    model = build_model(config, {"text": None, "visual": 47, "acoustic": 74}, encoder)
    history = model.fit(
        dataset(splits["train"], np.random.default_rng(seed)),
        validation_data=dataset(splits["validation"]),
        epochs=epochs,
        callbacks=[ReferenceStopping(PATIENCE)],
        shuffle=False,
        verbose=0,
    )
    predictions = model.predict(dataset(splits["test"]), verbose=0)[:, 0]
    return predictions, np.array([e["label"] for e in splits["test"]], "float32"), len(history.epoch)


TRAIN = {"PyTorch": train_pytorch, "keras_misa": train_keras_misa}


if __name__ == "__main__":
    main()
