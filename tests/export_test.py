"""Exported models: asked in processes that have neither Keras's model nor this package, equal to `model.predict`."""

import contextlib
import csv
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from small_runs import write_bert, write_run

from keras_misa.cli import main

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")

WORDS = ["good", "bad", "films", "very", "dull", "Film!", "zebra", "caf\u00e9", "\u4f60", "…"]
SIZES = {"train": 12, "validation": 4, "test": 5}
CLASSES = ("laughing", "sad", "angry")
HERE = pathlib.Path(__file__).parent
CASES = [("words", "score"), ("words", "class"), ("bert", "score"), ("bert", "class")]


def utterance(rng, steps=20):
    return {
        "words": list(rng.choice(WORDS, rng.integers(1, steps))),
        "visual": rng.normal(size=(rng.integers(1, steps), 3)).astype("float32"),
    }


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(str(tmp_path_factory.mktemp("bert")))


def write_folder(folder, label):
    """One's own dataset: sentences, frames, scores or classes."""
    (folder / "visual").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, size in SIZES.items():
        for number in range(size):
            part = utterance(rng, 8)
            value = CLASSES[number % 3] if label == "class" else round(float(rng.uniform(-3, 3)), 2)
            rows.append((f"{split}{number}", split, " ".join(part["words"]), value))
            np.save(folder / f"visual/{split}{number}.npy", part["visual"])
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("segment_id", "split", "text", "label"), *rows])


def command(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


def make_run(place, label, text, *options):
    write_folder(place / "own", label)
    settings = ("--quiet", "--dataset", "utterance_folder", "--manual-dir", place / "own", "--data-dir", place / "data")
    settings += ("--epochs", 1, "--hidden-dim", 4, "--averaged", "visual", "--output", place / "run")
    command("train", *settings, *(("--text", text) if text else ()), *options)
    return place / "run"


class Exported:
    """A run, its model and tokeniser, and where it was exported to."""

    def __init__(self, run, out):
        from keras_misa.experiments.load_run import load_run_model
        from keras_misa.experiments.text import load_text

        self.run, self.out = run, out
        self.model, self.text = load_run_model(run), load_text(run)

    def folder(self, flavour, version=1):
        return self.out / f"utterance_folder_{flavour}" / str(version)

    def batch(self, utterances):
        return {
            "text": pad([self.text.ids(u["words"]) for u in utterances]),
            "visual": pad([u["visual"] for u in utterances]),
        }

    def expected(self, utterances):
        """What the answer must be, by Keras and NumPy."""
        outputs = self.model.predict(self.batch(utterances), verbose=0)
        if outputs.shape[1] == 1:
            return {"score": outputs[:, 0]}
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        names = np.array(sorted(CLASSES), "S")
        return {
            "probabilities": probabilities,
            "class": names[probabilities.argmax(axis=1)],
            "class_names": np.tile(names, (len(outputs), 1)),
        }

    def padded(self, flavour, utterances):
        inputs = {}
        for modality, part in self.batch(utterances).items():
            inputs |= {modality: part["values"], f"{modality}_lengths": part["lengths"]}
        if flavour == "text":
            del inputs["text_lengths"]
            inputs["text"] = sentences(utterances)
        return inputs

    def encoded(self, flavour, utterances):
        ids = [self.text.ids(u["words"]).astype("<i4").tobytes() for u in utterances]
        return {
            "text": sentences(utterances) if flavour == "text" else ids,
            "visual": [u["visual"].astype("<f4").tobytes() for u in utterances],
        }


def sentences(utterances):
    return [" ".join(u["words"]).encode() for u in utterances]


def pad(arrays):
    lengths = np.array([len(array) for array in arrays], "int32")
    values = np.zeros((len(arrays), lengths.max(), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(values, arrays, strict=True):
        row[: len(array)] = array
    return {"values": values, "lengths": lengths}


@pytest.fixture(scope="module")
def exported(request, tmp_path_factory, bert):
    kind, label = request.param
    place = tmp_path_factory.mktemp(f"{kind}_{label}")
    text = f"bert:{bert}" if kind == "bert" else None
    if (kind, label) == CASES[2]:
        run = make_run(place, label, text)
    else:  # training takes long, and adds nothing here
        write_folder(place / "own", label)
        names = sorted(CLASSES) if label == "class" else None
        write_run(run := place / "run", {"text": None, "visual": 3}, names, text=text)
    command("export", run, "--out", place / "served")
    return Exported(run, place / "served")


def ask(folder, requests):
    """Answers of another process: `requests` are triples of a SavedModel, a signature and inputs (a list: strings)."""
    folder.mkdir()
    for number, (model, signature, inputs) in enumerate(requests):
        strings = {key: value for key, value in inputs.items() if isinstance(value, list)}
        inputs = {key: value for key, value in inputs.items() if key not in strings}
        inputs |= {f"{key}:hex": np.array([row.hex() for row in value]) for key, value in strings.items()}
        np.savez(folder / f"{number:03}.npz", **inputs)
        (folder / f"{number:03}.json").write_text(json.dumps({"model": str(model), "signature": signature}))
    subprocess.run([sys.executable, HERE / "saved_model_process.py", folder, "text"], check=True, timeout=600)
    answers = []
    for number in range(len(requests)):
        error = folder / f"{number:03}_error.txt"
        if error.exists():
            answers.append(error.read_text())
            continue
        with np.load(folder / f"{number:03}_answer.npz", allow_pickle=False) as file:
            answers.append(dict(file))
    return answers


def assert_answer(answer, expected, atol=1e-5):
    assert set(answer) == {*expected, "problem"}
    assert not any(answer["problem"])
    for key, value in expected.items():
        if value.dtype.kind == "S":
            assert answer[key].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(answer[key], value, atol=atol, rtol=0)


@pytest.mark.parametrize("exported", CASES, indirect=True, ids="-".join)
def test_answers_of_a_bare_process_are_those_of_predict(exported, tmp_path):
    rng = np.random.default_rng(5)
    requests, expected = [], []
    for size in (1, 2, 9, 64, 256):
        utterances = [utterance(rng) for _ in range(size)]
        for flavour in ("tokens", "text"):
            model = exported.folder(flavour)
            requests.append((model, "serving_default", exported.padded(flavour, utterances)))
            requests.append((model, "encoded", exported.encoded(flavour, utterances)))
            expected += [exported.expected(utterances)] * 2
    for answer, value in zip(ask(tmp_path / "asked", requests), expected, strict=True):
        assert_answer(answer, value)


@pytest.mark.parametrize("exported", CASES[:1], indirect=True, ids="-".join)
def test_representations_and_attention_are_those_of_explain(exported, tmp_path):
    rng = np.random.default_rng(6)
    utterances = [utterance(rng) for _ in range(5)]
    explained = exported.model.explain(exported.batch(utterances))
    inputs = exported.padded("text", utterances)
    vectors, why = ask(
        tmp_path / "asked", [(exported.folder("text"), name, inputs) for name in ("representations", "explain")]
    )
    subspaces = ("projected", "shared", "private")
    expected = {f"{s}_{m}": explained[s][m] for s in subspaces for m in ("text", "visual")}
    assert_answer(vectors, expected)
    names = np.array(["shared text", "shared visual", "private text", "private visual"], "S")
    assert [f"{s} {m}" for s, m in exported.model.token_names] == [name.decode() for name in names]
    attention = {"attention": explained["attention"], "token_names": np.tile(names, (5, 1))}
    assert_answer(why, exported.expected(utterances) | attention)


BAD = {  # what is wrong with an utterance, and what must be said about it
    "visual: 5 bytes; expected a multiple of 12, float32 of 3 features a step": {"visual": b"12345"},
    "visual: length 0; expected 1 to 2048": {"visual": b""},
    "visual: length 2049; expected 1 to 2048": {"visual": bytes(12 * 2049)},
    "visual: NaN or infinite; expected finite numbers": {"visual": np.array([[1, 2, np.nan]], "<f4").tobytes()},
    "text: 0 words; expected 1 to 2048": {"text": "\u3000 \t\x85".encode()},
    "text: 2049 words; expected 1 to 2048": {"text": b" a" * 2049},
    "text: expected UTF-8": {"text": b"good \xff\xfe"},
    "text: 1048577 bytes; expected at most 1048576": {"text": b"a" * (2**20 + 1)},
    "text: 0 words; expected 1 to 2048; visual: length 0; expected 1 to 2048": {"text": b"", "visual": b""},
}


@pytest.mark.parametrize("exported", [CASES[0], CASES[3]], indirect=True, ids="-".join)
def test_bad_rows_say_why_and_change_no_other(exported, tmp_path):
    rng = np.random.default_rng(7)
    utterances = [utterance(rng) for _ in range(2 * len(BAD) + 1)]
    inputs = exported.encoded("text", utterances)
    for number, change in enumerate(BAD.values()):
        for key, value in change.items():
            inputs[key][2 * number + 1] = value
    (answer,) = ask(tmp_path / "asked", [(exported.folder("text"), "encoded", inputs)])
    assert [problem.decode() for problem in answer["problem"][1::2]] == list(BAD)
    bad = {key: value[1::2] for key, value in answer.items()}
    for key in ("score", "probabilities"):
        assert np.isnan(bad.get(key, np.nan)).all()
    assert not any(bad.get("class", ()))
    assert_answer(
        {key: value[::2] for key, value in answer.items()},
        {key: value[::2] for key, value in exported.expected(utterances).items()},
    )


@pytest.mark.parametrize("exported", CASES[:1], indirect=True, ids="-".join)
def test_bad_padded_requests(exported, tmp_path):
    rng = np.random.default_rng(8)
    utterances = [utterance(rng) for _ in range(3)]
    good = exported.padded("tokens", utterances)
    steps = good["visual"].shape[1]
    model = exported.folder("tokens")

    def changed(key, row, value):
        array = good[key].copy()
        array[row] = value
        return model, "serving_default", good | {key: array}

    beyond = good["visual"].copy()
    for row, length in zip(beyond, good["visual_lengths"], strict=True):
        row[length:] = np.nan
    assert np.isnan(beyond).any()
    nothing = {key: value[:0] for key, value in good.items()}
    answers = ask(
        tmp_path / "asked",
        [
            changed("visual_lengths", 0, steps + 1),
            changed("visual_lengths", 1, -1),
            changed("visual", (2, 0, 1), np.inf),
            changed("text", (0, 0), len(exported.text)),
            changed("text", (1, 0), -1),
            (model, "serving_default", good | {"visual": beyond}),
            (model, "serving_default", nothing),
            (model, "serving_default", good | {"visual": good["visual"][:2], "visual_lengths": np.ones(2, "int32")}),
            (model, "serving_default", good | {"visual": np.zeros((3, 5, 4), "float32")}),
        ],
    )
    problems = [[problem.decode() for problem in answer["problem"]] for answer in answers[:7]]
    assert problems == [
        [f"visual: length {steps + 1}; expected no more than the {steps} steps that were sent", "", ""],
        ["", "visual: length -1; expected 1 to 2048", ""],
        ["", "", "visual: NaN or infinite; expected finite numbers"],
        [f"text: an id out of range; expected 0 to {len(exported.text) - 1}", "", ""],
        ["", f"text: an id out of range; expected 0 to {len(exported.text) - 1}", ""],
        ["", "", ""],
        [],
    ]
    np.testing.assert_allclose(answers[5]["score"], exported.expected(utterances)["score"], atol=1e-5)
    assert "visual differs from text" in answers[7]
    assert "visual: expected 3 features a step" in answers[8]


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A C program that asks through TensorFlow's C++ loader, and the libraries of tensorflow-text."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    import tensorflow as tf
    import tensorflow_text

    libraries = pathlib.Path(tf.sysconfig.get_lib())
    program = tmp_path_factory.mktemp("caller") / "caller"
    shared = [str(libraries / name) for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")]
    source = ["-o", program, HERE / "saved_model_caller.c", "-I", tf.sysconfig.get_include()]
    subprocess.run([compiler, *source, *shared, f"-Wl,-rpath,{libraries}"], check=True)
    operations = sorted(pathlib.Path(tensorflow_text.__file__).parent.glob("python/ops/*.so"))
    return program, operations


@pytest.mark.parametrize("exported", CASES, indirect=True, ids="-".join)
def test_the_loader_of_tensorflow_serving(exported, caller, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    program, operations = caller
    rng = np.random.default_rng(9)
    utterances = [utterance(rng) for _ in range(9)]
    expected = exported.expected(utterances)
    for flavour in ("tokens", "text"):
        folder = exported.folder(flavour)
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        signature = content.meta_graphs[0].signature_def["encoded"]
        request = tmp_path / f"{flavour}.request"
        with open(request, "wb") as file:
            for key, rows in exported.encoded(flavour, utterances).items():
                file.write(f"{signature.inputs[key].name.partition(':')[0]} {len(rows)}\n".encode())
                for row in rows:
                    file.write(b"%d\n%b" % (len(row), row))
        key = "score" if "score" in expected else "probabilities"
        outputs = [signature.outputs[name].name for name in ("problem", key)]
        needs = exported.text.unit == "word pieces" and flavour == "text"
        libraries = ["--", *operations] if needs else []  # without them it does not load
        arguments = [str(part) for part in (program, folder, request, *outputs, *libraries)]
        lines = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split("\n")
        assert lines[:9] == [""] * 9
        np.testing.assert_allclose(np.array(lines[9:-1], float), expected[key].ravel(), atol=1e-5)
        if needs:
            bare = subprocess.run(arguments[: arguments.index("--")], capture_output=True, text=True, check=False)
            assert bare.returncode == 1
            assert "Op type not registered" in bare.stderr


def test_versions_files_and_errors(tmp_path, capsys):
    """Of a model that is never trained: what is written, what is refused."""
    from keras_misa.export.export_run import new_version
    from keras_misa.export.server_files import write_server_files

    folder = tmp_path / "model_tokens"
    (folder / ".new-of-a-killed-export").mkdir(parents=True)
    for number in (1, 2):
        with new_version(folder) as (path, claim):
            (path / "saved_model.pb").write_text(str(number))
            assert claim() == folder / str(number)
    with contextlib.suppress(KeyboardInterrupt), new_version(folder) as (path, claim):
        (path / "saved_model.pb").write_text("3")
        raise KeyboardInterrupt
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    write_server_files(tmp_path)
    assert 'name: "model_tokens" base_path: "/models/model_tokens"' in (tmp_path / "models.config").read_text()
    assert "pad_variable_length_inputs: true" in (tmp_path / "batching.config").read_text()
    (tmp_path / "models.config").write_text("mine")
    write_server_files(tmp_path)
    assert (tmp_path / "models.config").read_text() == "mine"
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "is not a finished run" in capsys.readouterr().err
    assert main(["export", str(folder), "--describe"]) == 2
    assert "is no model that `keras-misa export` wrote" in capsys.readouterr().err


@pytest.mark.parametrize("exported", CASES[1:2], indirect=True, ids="-".join)
def test_what_stands_beside_a_model(exported, tmp_path, capsys):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    folder = exported.folder("text")
    assert main(["export", str(folder.parent), "--describe"]) == 0
    described = capsys.readouterr().out
    for word in ("serving_default", "encoded", "visual_lengths", "probabilities", "angry, laughing, sad"):
        assert word in " ".join(described.split())
    assert json.loads((folder / "vocabulary.json").read_text()) == list(exported.text.vocabulary)
    records = list(tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator())
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.name for request in requests} == {"utterance_folder_text"}
    signatures = tf.saved_model.load(str(folder)).signatures
    for request in requests:
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](**inputs)
        assert set(answer["problem"].numpy()) == {b""}
    wrong = ["export", str(exported.run), "--out", str(tmp_path)]
    for options, message in (
        (["--name", "../x"], "letters, digits"),
        (["--flavour", "speech"], "some of ('tokens', 'text')"),
        (["--max-length", "0"], "1 or more"),
    ):
        assert main([*wrong, *options]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exported", CASES, indirect=True, ids="-".join)
def test_predict_from_an_exported_model_is_that_from_the_run(exported, tmp_path):
    source = exported.run.parent / "own"
    for name, model in (("run", exported.run), ("exported", exported.out / "utterance_folder_text")):
        command("predict", model, "--input", source, "--out", tmp_path / f"{name}.csv", "--batch-size", 8)
    tables = []
    for name in ("run", "exported"):
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    assert len(tables[0]) == len(tables[1]) == sum(SIZES.values())
    for one, other in zip(*tables, strict=True):
        assert list(one) == list(other)
        for key in one:
            if key == "note":  # a SavedModel tells no unknown words
                continue
            if (key.startswith("pred") and one[key] in CLASSES) or key in ("segment_id", "problem"):
                assert one[key] == other[key]
            else:
                assert float(one[key]) == pytest.approx(float(other[key]), abs=1e-5)
    assert main(["predict", str(exported.out / "utterance_folder_tokens"), "--input", str(source), "--out",
                 str(tmp_path / "x.csv")]) == 2  # fmt: skip


def test_a_modality_may_be_missing_where_training_dropped_some(tmp_path):
    write_run(run := tmp_path / "run", {"text": None, "visual": 3}, modality_dropout=0.3)
    command("export", run, "--out", tmp_path / "served")
    exported = Exported(run, tmp_path / "served")
    rng = np.random.default_rng(10)
    utterances = [utterance(rng) for _ in range(4)]
    utterances[0]["words"] = []
    utterances[1]["visual"] = np.zeros((0, 3), "float32")
    expected = exported.expected(utterances)["score"]
    utterances[3] |= {"words": [], "visual": np.zeros((0, 3), "float32")}
    asked = [(exported.folder(f), "encoded", exported.encoded(f, utterances)) for f in ("tokens", "text")]
    for answer in ask(tmp_path / "asked", asked):
        np.testing.assert_allclose(answer["score"][:3], expected[:3], atol=1e-5)
        problems = [problem.decode() for problem in answer["problem"]]
        assert problems == ["", "", "", "no modality at all; expected at least one"]
        assert np.isnan(answer["score"][3])
    lines = [
        {"segment_id": "a", "text": "good film"},
        {"segment_id": "b", "visual": [[1, 2, 3], [4, 5, 6]]},
        {"segment_id": "c"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for name, model in (("run", run), ("exported", exported.out / "utterance_folder_text")):
        command("predict", model, "--input", tmp_path / "in.jsonl", "--out", tmp_path / f"{name}.csv")
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["problem"] for row in rows] == ["", "", "empty: text"]
        assert "without visual" in rows[0]["note"]
        assert "without words" in rows[1]["note"]
        assert all(np.isfinite(float(row["prediction"])) for row in rows[:2])
