"""Does a served model answer every request right, for hours, with bad requests among them and a new version midway?

Eight client processes, half by gRPC and half by REST, ask for predictions, explanations and representations of 1 to 8
utterances of all lengths. One request in a hundred is malformed, in every way: some the client must refuse, some go
past it. Every answer is compared with what `model.explain` says in Keras. Midway version 2 of the model appears. The
server is the tests' servicer (TensorFlow Serving's protocol, batching and sessions, in Python), so its speed is
nobody's. It runs with MALLOC_ARENA_MAX=2: else what glibc cannot use again hides what leaks (docs/speed.md).

    python benchmarks/serving_soak.py
    python benchmarks/serving_soak.py --quick
    python benchmarks/serving_soak.py --run runs/mine

It ends with status 1 if an answer is wrong or missing, or the server's memory grows.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

SERVICER = pathlib.Path(__file__).parents[1] / "tests" / "prediction_servicer.py"
MODEL = "soak_tokens"
POOL = 400  # utterances with known answers
LONGEST = 30  # steps
TOLERANCE = 1e-4
GROWTH = 0.03  # of the memory, from the first quarter to the last of an half, that counts as flat
GROWTH_MIB = 24  # likewise; the larger counts
MALFORMED = 0.01
PATIENCE = 300  # seconds that clients go on for, if they have not seen version 2 by the last request
ENOUGH = 20_000  # requests, to judge memory by


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--run", help="a run to serve; default: a small one is trained on the built-in dataset")
    parser.add_argument("--quick", action="store_true", help="2,000 requests: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.requests = 2000
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        prepare(place, options.run)
        results = soak(place, options)
    problems = report(results, options)
    for problem in problems:
        print(f"WRONG: {problem}")
    print("All is well." if not problems else f"{len(problems)} problems.")
    sys.exit(bool(problems))


# === Models and what they must answer ===


def prepare(place, run):
    """A model and its second version as SavedModels, and a pool of utterances with the answers of both."""
    from keras_misa.experiments import train
    from keras_misa.experiments.load_run import load_run_model
    from keras_misa.export import export_run

    if run is None:
        run = place / "run"
        settings = {"epochs": 1, "hidden_dim": 16, "averaged": ["visual", "acoustic"], "batch_size": 128}
        train("synthetic_subspaces/small", output=run, quiet=True, **settings)
    second = shutil.copytree(run, place / "second")
    model = load_run_model(run)
    vocabulary = len(
        json.loads(
            (export_run(run, place / "served", "soak", ("tokens",), 2048)["tokens"] / "vocabulary.json").read_text(
                encoding="utf-8"
            )
        )
    )
    rng = np.random.default_rng(0)
    pool = [draw_utterance(rng, model, vocabulary) for _ in range(POOL)]
    expected = [explain(model, pool)]
    for variable in model.trainable_variables:
        variable.assign(variable * 1.1)
    model.save(second / "model.keras")
    export_run(second, place / "coming", "soak", ("tokens",), 2048)
    expected.append(explain(model, pool))
    np.save(place / "pool.npy", np.array([pool, expected], object), allow_pickle=True)


def draw_utterance(rng, model, vocabulary):
    utterance = {}
    for modality, inputs in model.input.items():
        steps = int(rng.integers(1, LONGEST))
        if inputs["values"].ndim == 2:
            utterance[modality] = rng.integers(vocabulary, size=steps).astype("int32")
        else:
            utterance[modality] = rng.normal(size=(steps, inputs["values"].shape[2])).astype("float32")
    return utterance


def explain(model, pool):
    """A dict for each utterance, by Keras."""
    batch = {}
    for modality in model.input:
        values = [utterance[modality] for utterance in pool]
        padded = np.zeros((len(pool), LONGEST, *values[0].shape[1:]), values[0].dtype)
        for row, value in zip(padded, values, strict=True):
            row[: len(value)] = value
        batch[modality] = {"values": padded, "lengths": np.array([len(value) for value in values], "int32")}
    outputs = model.explain(batch, batch_size=POOL)
    logits = outputs["prediction"].astype("float64")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    is_class = type(model).__name__ == "MISAClassifier"
    values = powers / powers.sum(axis=1, keepdims=True) if is_class else logits
    subspaces = [name for name in ("projected", "shared", "private") if name in outputs]
    return [
        {
            "value": values[row],
            "attention": outputs["attention"][row],
            "vectors": {s: {m: vector[row] for m, vector in outputs[s].items()} for s in subspaces},
        }
        for row in range(len(pool))
    ]


# === Clients ===


def ask(number, targets, place, count, start, done, results):
    """A client process: asks, compares, tells what it saw."""
    from keras_misa.serving import ServingClient

    transport = ("grpc", "rest")[number % 2]
    pool, expected = np.load(pathlib.Path(place, "pool.npy"), allow_pickle=True)
    rng = np.random.default_rng(number)
    seen, wrong = collections.Counter(), []
    latest, patience = 0, time.monotonic() + PATIENCE
    with ServingClient(targets[transport], MODEL, transport, timeout=120, retries=6) as client:
        kinds = malformed_kinds(pool)
        client.describe()
        start.wait()
        while take(done, count) or (latest == 0 and time.monotonic() < patience):
            patience = time.monotonic() + PATIENCE if done.value < count else patience
            chosen = [int(place) for place in rng.integers(POOL, size=rng.integers(1, 9))]
            kind = rng.choice(list(kinds)) if rng.random() < MALFORMED else None
            try:
                if kind is None:
                    name = rng.choice(["predict", "explain", "representations"], p=[0.9, 0.05, 0.05])
                    answers = getattr(client, name)([pool[i] for i in chosen])
                    versions = which_versions(answers, [[e[i] for i in chosen] for e in expected])
                    seen[f"{transport} {name}"] += 1
                    seen["utterances"] += len(chosen)
                else:
                    versions = kinds[kind](
                        client, [pool[i] for i in chosen], [[e[i] for i in chosen] for e in expected]
                    )
                    seen[f"malformed: {kind}"] += 1
                if not versions:
                    wrong.append(f"client {number}: {kind or name} of {chosen}: a wrong answer")
                elif latest not in versions and latest == 1:
                    wrong.append(f"client {number}: an answer of version 1 after one of version 2")
                elif versions == {1}:
                    latest = 1
            except Exception as error:
                wrong.append(f"client {number}: {kind or name} of {chosen}: lost: {type(error).__name__}: {error}")
    results.put((seen, wrong, latest))


def take(done, count):
    """Whether another request is due."""
    with done.get_lock():
        done.value += 1
        return done.value <= count


def which_versions(answers, expected):
    """The versions, of 0 and 1, whose answers these are."""
    if len(answers) != len(expected[0]):
        return set()
    return {
        number
        for number, rows in enumerate(expected)
        if all(is_right(a, e) for a, e in zip(answers, rows, strict=True))
    }


def is_right(answer, expected):
    if answer["problem"]:
        return False
    pairs = []
    if "shared" in answer or "projected" in answer:
        pairs += [
            (vectors[m], expected["vectors"][s][m]) for s, vectors in answer.items() if s != "problem" for m in vectors
        ]
    else:
        pairs.append((value_of(answer), expected["value"]))
    if "attention" in answer:
        pairs.append((answer["attention"], expected["attention"]))
    return all(np.allclose(got, must, rtol=0, atol=TOLERANCE) for got, must in pairs)


def value_of(answer):
    for name in ("probabilities", "scores"):
        if name in answer:
            return list(answer[name].values())
    return [answer["score"]]


def malformed_kinds(pool):
    """Dict, kind → function of client, good utterances and their answers, that returns the versions which fit."""
    vectors = next(m for m, value in pool[0].items() if value.ndim == 2)
    dim = pool[0][vectors].shape[1]
    bad_values = {
        "wrong dimensions": np.ones((3, dim + 1)),
        "zero length": np.ones((0, dim)),
        "NaN": np.full((2, dim), np.nan),
        "huge length": np.ones((20_000, dim), "float32"),
        "words for numbers": "good films",
    }
    kinds = {f"{kind}, among others": _among_others(vectors, value) for kind, value in bad_values.items()}
    kinds["unknown modality, among others"] = _among_others("smell", np.ones((3, 2)))
    raw_rows = {
        "odd bytes": b"12345",
        "wrong dimensions": np.ones((1, dim + 1), "<f4").tobytes(),
        "zero length": b"",
        "NaN": np.full((2, dim), np.nan, "<f4").tobytes(),
        "huge length": bytes(4 * dim * 3000),
    }
    kinds |= {f"raw {kind}": _raw_row(vectors, value) for kind, value in raw_rows.items()}
    kinds["raw unknown input"] = _raw_refused(lambda inputs: inputs | {"smell": [b""]})
    kinds["raw missing input"] = _raw_refused(lambda inputs: {vectors: inputs[vectors]} if len(inputs) > 1 else {})
    kinds["raw number of rows"] = _raw_refused(lambda inputs: inputs | {vectors: inputs[vectors] * 2})
    kinds["raw type"] = _raw_refused(lambda inputs: inputs | {vectors: np.zeros(len(inputs[vectors]), "int32")})
    kinds["raw too many rows"] = _raw_refused(lambda inputs: {m: value * 65 for m, value in inputs.items()})
    kinds["raw padded, wrong dimensions"] = _raw_refused(_padded(vectors, dim + 1), "explain")
    return kinds


def _among_others(modality, value):
    def call(client, good, expected):
        bad = {**good[0], modality: value}
        answers = client.predict([*good, bad], on_problem="return")
        last = answers.pop()
        return which_versions(answers, expected) if last["problem"] and np.isnan(value_of(last)).all() else set()

    return call


def _raw_row(modality, value):
    def call(client, good, _):
        outputs = _raw(client, "encoded", _encoded(good) | {modality: [value] * len(good)})
        numbers = outputs.get("score", outputs.get("probabilities", outputs.get("scores")))
        return {0, 1} if all(len(problem) for problem in outputs["problem"]) and np.isnan(numbers).all() else set()

    return call


def _raw_refused(change, signature="encoded"):
    from keras_misa.serving.transport import Failure

    def call(client, good, _):
        try:
            client._transport.predict(MODEL, None, signature, change(_encoded(good)), 120)
        except Failure as failure:
            return {0, 1} if failure.status in ("INVALID_ARGUMENT", "INTERNAL") else set()
        return set()

    return call


def _padded(modality, dim):
    """Inputs of the padded signatures with a modality of another size."""

    def change(inputs):
        from_bytes = {}
        for name, rows in inputs.items():
            size = 1 if name == "text" else dim
            from_bytes[name] = (
                np.zeros((len(rows), 2, size), "float32") if size > 1 else np.zeros((len(rows), 2), "int32")
            )
            from_bytes[f"{name}_lengths"] = np.full(len(rows), 2, "int32")
        return from_bytes

    return change


def _encoded(utterances):
    return {modality: [u[modality].tobytes() for u in utterances] for modality in utterances[0]}


def _raw(client, signature, inputs):
    """What the server says, past the client's checks; asked again where another's request has spoiled the batch."""
    from keras_misa.serving.transport import Attempts

    passing = ("INVALID_ARGUMENT", "INTERNAL")
    call = client._transport.predict
    return Attempts(120, 6).run(lambda seconds: call(MODEL, None, signature, inputs, seconds), passing)


# === The server, and all together ===


def soak(place, options):
    import psutil

    entry = f'name: "{MODEL}" base_path: "/models/{MODEL}" model_platform: "tensorflow"'
    (place / "models.config").write_text(f"model_config_list {{ config {{ {entry} }} }}")
    command = [sys.executable, SERVICER, "--models", place / "models.config", "--base", place / "served"]
    command += ["--num-batch-threads", "1"]  # so that requests gather
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        return watch(server, psutil.Process(server.pid), place, options)
    finally:
        server.terminate()
        server.wait()


def watch(server, process, place, options):
    from keras_misa.serving import ServingClient

    _, *ports = server.stdout.readline().split()
    targets = {name: f"127.0.0.1:{port}" for name, port in zip(("grpc", "rest"), ports, strict=True)}
    status = ServingClient(targets["rest"], MODEL, "rest")
    status.wait_until_ready(300)
    context = multiprocessing.get_context("spawn")
    done, results, ready = context.Value("q", 0), context.Queue(), context.Barrier(options.clients + 1)
    clients = [
        context.Process(
            target=ask, args=(number, targets, str(place), options.requests, ready, done, results), daemon=True
        )
        for number in range(options.clients)
    ]
    for client in clients:
        client.start()
    ready.wait(300)
    start = time.monotonic()
    samples, switched, seconds = [], None, None
    while any(client.is_alive() for client in clients) and results.qsize() < len(clients):
        time.sleep(0.5)
        count = done.value
        if seconds is None and count >= options.requests:
            seconds = time.monotonic() - start
        samples.append((count, process.memory_info().rss / 2**20))
        if switched is None and count >= options.requests // 2:
            switched = count
            (place / "coming" / MODEL / "1").rename(place / "served" / MODEL / "2")
        if server.poll() is not None:
            break
    seconds = seconds or time.monotonic() - start
    told = [results.get(timeout=60) for client in clients if client.exitcode in (0, None)]
    ends = []
    for _ in range(100):
        ends = status.status()
        if ends == {1: "END", 2: "AVAILABLE"}:
            break
        time.sleep(0.2)
    return {
        "told": told,
        "missing_clients": len(clients) - len(told),
        "samples": samples,
        "seconds": seconds,
        "switched": switched,
        "states": ends,
        "server_alive": server.poll() is None,
        "metrics": metrics(targets["rest"]),
    }


def metrics(target):
    import requests

    lines = requests.get(f"http://{target}/monitoring/prometheus/metrics", timeout=60).text.splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def report(results, options):
    """Print what was seen; returns what is wrong."""
    seen = sum((told[0] for told in results["told"]), collections.Counter())
    problems = [problem for told in results["told"] for problem in told[1]]
    utterances = seen.pop("utterances", 0)
    malformed = sum(count for name, count in seen.items() if name.startswith("malformed"))
    total = sum(seen.values())
    print(f"Machine: {platform.machine()}, {os.cpu_count()} CPUs, shared by server and {options.clients} clients.\n")
    print("| requests | |\n|---|---|")
    for name, count in sorted(seen.items()):
        print(f"| {name} | {count} |")
    print(f"| all | {total}, of them malformed {malformed} ({malformed / max(total, 1):.1%}) |\n")
    print(
        f"{utterances} utterances answered and compared; {options.requests / results['seconds']:.0f} requests a second."
    )
    counts = results["metrics"]
    print(
        f"Batches: {counts['batches']} of {counts['requests']} requests, {counts.get('gathered_requests', 0)} of which "
        f"shared a batch; {counts.get('failed_gathered_requests', 0)} were in a batch that another's request spoiled, "
        "and were asked again."
    )
    newest = sum(told[2] for told in results["told"])
    print(f"Version 2 appeared after {results['switched']} requests; {newest} of {options.clients} clients saw it.")
    if total < options.requests:
        problems.append(f"{options.requests - total} requests have no answer")
    if results["missing_clients"]:
        problems.append(f"{results['missing_clients']} clients ended early")
    if not results["server_alive"]:
        problems.append("the server died")
    if newest != options.clients or results["states"] != {1: "END", 2: "AVAILABLE"}:
        problems.append(f"version 2 did not take over: {results['states']}")
    return problems + report_memory(results, options)


def report_memory(results, options):
    problems = []
    counts, sizes = np.array(results["samples"]).T
    parts = np.minimum(counts * 20 // options.requests, 19)
    means = [f"{sizes[parts == part].mean():.0f}" for part in range(20) if (parts == part).any()]
    print(f"\nThe server's memory in MiB, by twentieths of the requests: {', '.join(means)}")
    print("\n| server's memory, MiB | first quarter | last quarter | slope, per 100,000 requests |\n|---|---|---|---|")
    half = options.requests / 2
    for name, least, most in (("version 1", 0.1 * half, half), ("version 2", 1.2 * half, 2 * half)):
        counts, sizes = np.array([s for s in results["samples"] if least <= s[0] < most] or [(0, 0)]).T
        quarter = (counts[-1] - counts[0]) / 4
        first = sizes[counts <= counts[0] + quarter].mean()
        last = sizes[counts >= counts[-1] - quarter].mean()
        slope = np.polyfit(counts, sizes, 1)[0] * 1e5 if len(set(counts)) > 2 else 0.0
        print(f"| {name} | {first:.0f} | {last:.0f} | {slope:+.0f} |")
        if options.requests >= ENOUGH and last - first > max(GROWTH * first, GROWTH_MIB):
            problems.append(f"the server's memory grew from {first:.0f} to {last:.0f} MiB while it had {name}")
    return problems


if __name__ == "__main__":
    main()
