"""Every form of every dataset, in files that a test writes: it is built, and a model trains on it."""

import json
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_misa import cli, data
from keras_misa.data.describe_dataset import dataset_report
from keras_misa.datasets.cmu_mosi.sequence_generator import write_sequences
from keras_misa.experiments import train

DATASETS = pathlib.Path(__import__("keras_misa.datasets").datasets.__file__).parent
SIZES = {"train": 6, "validation": 4, "test": 4}
STEPS = 5


def write_csd(folder, dataset, **kwargs):
    """Three videos of the standard folds."""
    folds = json.loads((DATASETS / dataset / "standard_folds.json").read_text())
    videos = [folds[split][0] for split in SIZES]
    dims = {"cmu_mosi": {}, "cmu_mosei": {"visual_dim": 35}}[dataset]
    write_sequences(folder, videos, dataset, seconds=15.0, segments=5, **dims, **kwargs)


def write_splits(folder, dims, labels, has_ids):
    rng = np.random.default_rng(0)
    for name, size in zip(("train", "dev", "test"), SIZES.values(), strict=True):
        rows = []
        for number in range(size):
            features = [rng.normal(size=(STEPS, dim)).astype("f4") for dim in dims]
            parts = (np.arange(STEPS), *features, [f"w{number}"] * STEPS)
            rows.append((parts, labels(number), *([f"{name}[{number}]"] if has_ids else [])))
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(rows, 4))


def write_sentiment_splits(folder, dims):
    write_splits(folder, dims, lambda number: np.full((1, 1), (-1) ** number * number / 4, "f4"), has_ids=True)


def write_mmsa(folder, name, visual_dim, acoustic_dim, is_aligned=True, is_mult=False):
    rng = np.random.default_rng(0)
    text_dim = 300 if is_mult else 768
    windows = {"text": 8, "vision": 8 if is_aligned else 11, "audio": 8 if is_aligned else 13}
    dims = {"text": text_dim, "vision": visual_dim, "audio": acoustic_dim}
    content = {}
    for split, size in zip(("train", "valid", "test"), SIZES.values(), strict=True):
        part = {key: np.zeros((size, windows[key], dim)) for key, dim in dims.items()}
        for values in part.values():
            steps = slice(-STEPS, None) if is_mult else slice(0, STEPS)
            values[:, steps] = rng.normal(size=(size, STEPS, values.shape[2]))
        scores = rng.uniform(-3, 3, size)
        if is_mult:
            part |= {
                "labels": scores.reshape(-1, 1, 1),
                "id": np.array([[f"{split}{n}", "0", "1"] for n in range(size)]),
            }
        else:
            mask = np.tile(np.arange(windows["text"]) < STEPS, (size, 1))
            part |= {
                "raw_text": [f"utterance number {n}" for n in range(size)],
                "text_bert": np.stack([mask * 7, mask, 0 * mask], axis=1).astype("i8"),
                "regression_labels": scores,
                "id": [f"{split}$_${n}" for n in range(size)],
            }
            if not is_aligned:
                part |= {"vision_lengths": [STEPS] * size, "audio_lengths": [STEPS] * size}
        content[split] = part
    (folder / name).write_bytes(pickle.dumps(content, 4))


def copy_dummy(folder, dataset):
    shutil.copytree(DATASETS / dataset / "dummy_data", folder, dirs_exist_ok=True)


FORMS = {
    "cmu_mosi/reference_splits": lambda f: write_sentiment_splits(f, (47, 74)),
    "cmu_mosi/csd": lambda f: write_csd(f, "cmu_mosi", damage=0.3),
    "cmu_mosi/mmsa_aligned": lambda f: write_mmsa(f, "aligned_50.pkl", 20, 5),
    "cmu_mosi/mmsa_unaligned": lambda f: write_mmsa(f, "unaligned_50.pkl", 20, 5, is_aligned=False),
    "cmu_mosi/mult_aligned": lambda f: write_mmsa(f, "mosi_data.pkl", 20, 5, is_mult=True),
    "cmu_mosi/mult_unaligned": lambda f: write_mmsa(f, "mosi_data_noalign.pkl", 20, 5, is_aligned=False, is_mult=True),
    "cmu_mosei/reference_splits": lambda f: write_sentiment_splits(f, (35, 74)),
    "cmu_mosei/csd": lambda f: write_csd(f, "cmu_mosei", label_columns=7),
    "cmu_mosei/csd_sentiment": lambda f: write_csd(f, "cmu_mosei"),
    "cmu_mosei/mmsa_aligned": lambda f: write_mmsa(f, "aligned_50.pkl", 35, 74),
    "cmu_mosei/mmsa_unaligned": lambda f: write_mmsa(f, "unaligned_50.pkl", 35, 74, is_aligned=False),
    "cmu_mosei/mult_aligned": lambda f: write_mmsa(f, "mosei_senti_data.pkl", 35, 74, is_mult=True),
    "ur_funny/v1": lambda f: copy_dummy(f, "ur_funny"),
    "ur_funny/reference_splits": lambda f: write_splits(f, (75, 81), lambda number: number % 2, has_ids=False),
    "utterance_folder/mine": lambda f: copy_dummy(f, "utterance_folder"),
}


@pytest.fixture
def write(tmp_path):
    def write(form, name="mine"):
        folder = tmp_path / name
        folder.mkdir()
        FORMS[form](folder)
        return folder

    return write


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_recognised_built_and_trained_on(form, write, tmp_path):
    folder, data_dir = write(form), tmp_path / "data"
    builder = data.prepare_dataset(form.partition("/")[0], data_dir, folder)
    assert builder.info.full_name == f"{form}/1.0.0"
    report = dataset_report(builder)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert {split: part["utterances"] for split, part in report["splits"].items()} == counts
    if "csd" not in form and not form.startswith(("ur_funny/v1", "utterance")):
        assert counts == SIZES
        assert report["dropped"] == {}
    settings = {"epochs": 1, "hidden_dim": 8, "batch_size": 4}
    if form not in ("cmu_mosi/csd", "utterance_folder/mine"):  # LSTMs take long to trace.
        settings["averaged"] = [modality for modality, size in data.modality_dims(builder).items() if size]
        settings |= {"modalities": settings["averaged"], "subspaces": ()}
    metrics = train(form, tmp_path / "run", True, data_dir=data_dir, **settings)
    assert np.isfinite([value for name, value in metrics.items() if name != "corr"]).all()
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["settings"]["dataset"] == form
    assert set(settings["data"]["sources"]) == set(builder.info.metadata["sources"])


@pytest.mark.slow
def test_emotions_are_predicted(write, tmp_path):
    folder = write("cmu_mosei/csd")
    metrics = train("cmu_mosei", tmp_path / "run", True, manual_dir=folder, data_dir=tmp_path / "data", epochs=1,
                    hidden_dim=8, label="emotions", modalities=["visual"])  # fmt: skip
    assert [name for name in metrics if name.startswith("mae_")] == [
        "mae_happiness", "mae_sadness", "mae_anger", "mae_surprise", "mae_disgust", "mae_fear"
    ]  # fmt: skip
    header = (tmp_path / "run/predictions.csv").read_text().splitlines()[0]
    assert header.startswith("segment_id,video_id,label_happiness,")
    assert header.endswith(",prediction_fear")
    rows = np.genfromtxt(tmp_path / "run/predictions.csv", delimiter=",", skip_header=1)[:, 2:]
    np.testing.assert_allclose(metrics["mae"], np.abs(rows[:, :6] - rows[:, 6:]).mean(), rtol=1e-5)


def test_mosei_examples_hold_the_emotions_of_the_file(write, tmp_path):
    folder = write("cmu_mosei/csd")
    builder = data.prepare_dataset("cmu_mosei", tmp_path / "data", folder)
    assert data.label_outputs(builder, "emotions")[1][0] == "happiness"
    (_, labels), *_ = data.load_dataset("cmu_mosei", "test", label="emotions", data_dir=tmp_path / "data")
    assert labels.shape[1] == 6
    with pytest.raises(ValueError, match=r"labels \['label', 'emotions'\]. Received: label='humour'"):
        data.load_dataset("cmu_mosei", "test", label="humour", data_dir=tmp_path / "data")


def test_the_context_of_ur_funny_must_be_asked_for(write, tmp_path):
    folder = write("ur_funny/v1")
    builder = data.prepare_dataset("ur_funny/v1_with_context", tmp_path / "data", folder)
    example = next(iter(builder.as_dataset(split="train").as_numpy_iterator()))
    assert len(example["context"]["words"]) == example["context"]["sentence_lengths"].sum()
    assert example["context"]["visual"].shape == (len(example["context"]["words"]), 75)
    assert data.modality_dims(builder) == {"text": None, "visual": 75, "acoustic": 81}
    table = data.load_word_table("ur_funny", data_dir=tmp_path / "data")
    assert table.dimension == 300
    assert {word.decode() for word in example["words"]} <= set(table.words)


def test_several_forms_in_a_folder_need_a_name(write, tmp_path):
    folder = write("cmu_mosi/csd")
    FORMS["cmu_mosi/reference_splits"](folder)
    with pytest.raises(ValueError, match=r"more than one form of cmu_mosi; .*/reference_splits or cmu_mosi/csd"):
        data.prepare_dataset("cmu_mosi", tmp_path / "data", folder)
    for form in ("csd", "reference_splits"):
        assert data.prepare_dataset(f"cmu_mosi/{form}", tmp_path / "data", folder).info.config_name == form
    with pytest.raises(ValueError, match=r"in more than one form; .*cmu_mosi/csd or cmu_mosi/reference_splits"):
        data.prepare_dataset("cmu_mosi", tmp_path / "data")
    with pytest.raises(ValueError, match=r"cmu_mosi has the forms .*Received: cmu_mosi/csv"):
        data.prepare_dataset("cmu_mosi/csv", tmp_path / "data", folder)
    assert data.list_datasets(tmp_path / "data")["cmu_mosi"] == ["cmu_mosi/csd", "cmu_mosi/reference_splits"]


def test_changed_files_are_built_again_and_touched_ones_are_not(write, tmp_path, caplog):
    folder = write("utterance_folder/mine")
    first = data.prepare_dataset("utterance_folder", tmp_path / "data", folder)
    info = pathlib.Path(first.data_path, "dataset_info.json")
    made = info.stat().st_mtime_ns
    path = sorted((folder / "visual").glob("*.npy"))[0]
    path.touch()
    data.prepare_dataset("utterance_folder", tmp_path / "data", folder)
    assert info.stat().st_mtime_ns == made
    np.save(path, np.load(path) + 1)
    data.prepare_dataset("utterance_folder", tmp_path / "data", folder)
    assert info.stat().st_mtime_ns > made
    assert "not those that it was prepared from" in caplog.text


def test_several_workers_build_the_same(write, tmp_path):
    """The same examples in the same order; the files' bytes differ from build to build, as TFDS writes maps."""
    folder = write("cmu_mosi/csd")
    one = data.prepare_dataset("cmu_mosi", tmp_path / "one", folder)
    arguments = ["cmu_mosi", "--manual-dir", str(folder), "--data-dir", str(tmp_path / "two"), "--workers", "2"]
    assert cli.main(["datasets", "build", *arguments, "--quiet"]) == 0
    two = data.prepare_dataset("cmu_mosi", tmp_path / "two")
    for split in SIZES:
        examples, others = (list(builder.as_dataset(split=split).as_numpy_iterator()) for builder in (one, two))
        assert len(examples) == one.info.splits[split].num_examples
        for example, other in zip(examples, others, strict=True):
            assert {name: np.asarray(value).tolist() for name, value in example.items()} == {
                name: np.asarray(value).tolist() for name, value in other.items()
            }
    assert dict(one.info.metadata) == dict(two.info.metadata)
    assert (one.data_path / "dropped.csv").read_bytes() == (two.data_path / "dropped.csv").read_bytes()


@pytest.mark.parametrize(("num_workers", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_workers_are_counted(num_workers, kind, write, tmp_path):
    with pytest.raises(kind, match=f"Received: num_workers={num_workers}"):
        data.prepare_dataset("cmu_mosi", tmp_path / "data", write("cmu_mosi/csd"), num_workers=num_workers)


def test_forms_that_one_process_reads_take_the_option(write, tmp_path):
    folder = write("utterance_folder/mine")
    builder = data.prepare_dataset("utterance_folder", tmp_path / "data", folder, num_workers=2)
    assert builder.info.splits["train"].num_examples > 0


def test_an_interrupted_build_leaves_nothing(write, tmp_path, monkeypatch):
    folder = write("cmu_mosi/csd")
    from keras_misa.data.sources.computational_sequences import ComputationalSequences

    def stop(self, split, report):
        yield from original(self, "train", report)
        raise KeyboardInterrupt

    original = ComputationalSequences.examples
    monkeypatch.setattr(ComputationalSequences, "examples", stop)
    with pytest.raises(KeyboardInterrupt):
        data.prepare_dataset("cmu_mosi", tmp_path / "data", folder)
    assert data.list_datasets(tmp_path / "data")["cmu_mosi"] == []
    left = tmp_path / "data/cmu_mosi/csd/incomplete.ABC123_1.0.0"  # As a killed process leaves it.
    left.mkdir()
    (left / "dataset_info.json").write_text("{}")
    assert data.list_datasets(tmp_path / "data")["cmu_mosi"] == []
    with pytest.raises(KeyboardInterrupt):
        data.prepare_dataset("cmu_mosi", tmp_path / "data", folder)
    assert left.exists()
    monkeypatch.undo()
    data.prepare_dataset("cmu_mosi", tmp_path / "data", folder)
    assert [path.name for path in left.parent.iterdir()] == ["1.0.0"]


@pytest.fixture
def start_build(tmp_path):
    """Starts a process that builds `cmu_mosi/csd`, and stops it in the midst: the process, and the folder it fills."""
    processes = []

    def start(folder, data_dir):
        code = f"from keras_misa import data; data.prepare_dataset('cmu_mosi', {str(data_dir)!r}, {str(folder)!r})"
        process = subprocess.Popen([sys.executable, "-c", code])
        processes.append(process)
        while not (begun := list(data_dir.glob("cmu_mosi/csd/incomplete.*"))):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        return process, *begun

    yield start
    for process in processes:
        process.kill()
        process.wait()


def write_many(folder):
    """Files that take seconds to build."""
    folder.mkdir()
    folds = json.loads((DATASETS / "cmu_mosi/standard_folds.json").read_text())
    videos = [*folds["train"][:6], *folds["validation"][:2], *folds["test"][:2]]
    write_sequences(folder, videos, seconds=40.0, segments=100, visual_rate=10, acoustic_rate=10)
    return folder


def content(builder):
    """All that a build made of the files, but for times."""
    examples = {split: list(builder.as_dataset(split=split).as_numpy_iterator()) for split in builder.info.splits}
    dropped = pathlib.Path(builder.data_path, "dropped.csv").read_text()
    return keras.tree.map_structure(np.asarray, examples), dict(builder.info.metadata), dropped


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_prepared_and_the_next_one_is_whole(start_build, tmp_path):
    folder, data_dir = write_many(tmp_path / "mine"), tmp_path / "data"
    process, left = start_build(folder, data_dir)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert left.is_dir()
    assert data.list_datasets(data_dir)["cmu_mosi"] == []
    received = content(data.prepare_dataset("cmu_mosi", data_dir, folder))
    expected = content(data.prepare_dataset("cmu_mosi", tmp_path / "undisturbed", folder))
    assert {split: len(examples) for split, examples in received[0].items()} == {
        split: part["utterances"] for split, part in expected[1]["report"]["splits"].items()
    }
    keras.tree.map_structure(np.testing.assert_array_equal, received, expected)
    assert [path.name for path in left.parent.iterdir()] == ["1.0.0"]


@pytest.mark.slow
def test_a_build_leaves_the_folder_of_another_one_that_lives(start_build, tmp_path):
    folder, data_dir = write_many(tmp_path / "mine"), tmp_path / "data"
    process, begun = start_build(folder, data_dir)
    expected = content(data.prepare_dataset("cmu_mosi", data_dir, folder))
    assert begun.is_dir()
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    keras.tree.map_structure(
        np.testing.assert_array_equal, content(data.prepare_dataset("cmu_mosi", data_dir)), expected
    )
    assert [path.name for path in begun.parent.iterdir()] == ["1.0.0"]


def test_the_datasets_commands(write, tmp_path, capsys):
    folder, data_dir = write("cmu_mosi/csd"), str(tmp_path / "data")
    assert cli.main(["datasets", "build", "cmu_mosi", "--manual-dir", str(folder), "--data-dir", data_dir]) == 0
    built = capsys.readouterr().out
    assert ("Left out" in built) or ("Nothing was left out." in built)
    for part in ("cmu_mosi/csd/1.0.0", "1,283", "CMU_MOSI_COVAREP.csd", "infinite"):
        assert part in built
    picture = tmp_path / "picture.png"
    assert cli.main(["datasets", "describe", "cmu_mosi", "--data-dir", data_dir, "--picture", str(picture)]) == 0
    assert capsys.readouterr().out.split("Picture")[0] == built.split("Picture")[0]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["datasets", "list", "--data-dir", data_dir]) == 0
    assert "cmu_mosi: cmu_mosi/csd\n" in capsys.readouterr().out
    dropped = (tmp_path / "data/cmu_mosi/csd/1.0.0/dropped.csv").read_text().splitlines()
    builder = data.prepare_dataset("cmu_mosi", data_dir)
    assert len(dropped) - 1 == sum(dataset_report(builder)["dropped"].values())
    assert (
        cli.main(["datasets", "build", "cmu_mosi", "--manual-dir", str(tmp_path / "none"), "--data-dir", data_dir]) == 2
    )
    assert "must be a folder with files in it" in capsys.readouterr().err


def test_the_report_of_a_dataset_without_files(tmp_path):
    report = dataset_report(data.prepare_dataset("synthetic_subspaces", tmp_path))
    assert {split: part["utterances"] for split, part in report["splits"].items()} == {
        "train": 1283, "validation": 229, "test": 686
    }  # fmt: skip
    assert report["modalities"]["visual"]["size"] == 47


def test_imports_stay_light():
    names = "'tensorflow', 'h5py', 'rich', 'matplotlib'"
    code = f"import sys, keras_misa.data, keras_misa.cli; print([n for n in ({names}) if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
