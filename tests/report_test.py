"""The page of `keras-misa report`: what it says, and that it asks for nothing."""

import base64
import html.parser
import json
import re
import shlex
import shutil
import xml.etree.ElementTree

import numpy as np
import pytest
from small_runs import write_results, write_run

import keras_misa.cli
from keras_misa.cli import main
from keras_misa.experiments import compare, make_config
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.train_command import train_command
from keras_misa.reports import write_report

DIMS = {"visual": 3, "acoustic": 2}
EVIL = '<script>alert("1")</script>'
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """A page's elements, and its text where no style is."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def commands(self):
        found = re.findall(r'<pre class="command">(.*?)</pre>', self.source)
        return [html.unescape(re.sub("<[^>]*>", "", command)) for command in found]


def check_alone(page):
    """Nothing of the page lies elsewhere, and browsers are told to ask for nothing."""
    for tag in ("script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"):
        assert not page.of(tag)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.attributes("src"))
    assert all(target.startswith("#") for target in page.attributes("href"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not {"srcset", "style", "action", "background"} & {n for _, attributes in page.elements for n in attributes}
    style = re.search("<style>(.*)</style>", page.source, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://", page.source)
    policies = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for source in page.attributes("src"):
        picture = xml.etree.ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
        links = [value for element in picture.iter() for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:")) for link in links)
    assert all(attributes["alt"] for attributes in page.of("img"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    labels = rng.normal(size=9)
    for seed in (1, 2):
        write_run(root / "misa" / f"seed-{seed}", DIMS, seed=seed, dataset="cmu_mosi", dropout=0.2)
        write_results(root / "misa" / f"seed-{seed}", labels, rng.normal(size=9), seed=seed)
    write_run(root / EVIL.replace("/", "∕"), DIMS, [EVIL, "b"], dataset="ur_funny", split_by="video:0.5,0.25,0.25")
    labels = [EVIL] * 2 + ["b"] * 2
    write_results(root / EVIL.replace("/", "∕"), labels, labels, [EVIL, "b"])
    config = root / "misa" / "seed-1" / "config.json"
    written = json.loads(config.read_text())
    written["data"] = {
        "version": "1.0.0",
        "sources": {"train.pkl": {"size": 1234567, "files": 1, "sha256": "ab" * 32}},
        "splits": {"train": {"utterances": 1283, "videos": 52}, "test": {"utterances": 9, "videos": 1}},
        "expected_sizes": {"train": 1283},
    }
    written |= {"backend": "tensorflow", "versions": {"keras-misa": "0.1.0"}}
    config.write_text(json.dumps(written))
    return root


def test_page_of_one_model(runs, tmp_path):
    skipped = write_report([runs / "misa"], tmp_path / "page.html", data_dir=tmp_path / "data")
    page = Page(tmp_path / "page.html")
    check_alone(page)
    assert set(skipped) == {"representations", "errors"}  # the data is not there
    assert len(page.of("img")) == 5
    rng = np.random.default_rng(0)
    labels, *predictions = (rng.normal(size=9) for _ in range(3))
    mae = np.array([np.abs(labels - p).mean() for p in predictions])
    sevenths = np.array([np.mean(np.round(labels) == np.round(p)) for p in predictions])
    assert f"{mae.mean():.3f} ± {mae.std(ddof=1):.3f}" in page.text
    assert "misa (2 seeds)" in page.text
    assert "misa, seed 2" in page.text
    assert f"{100 * sevenths.mean():.1f} ± {100 * sevenths.std(ddof=1):.1f}" in page.text  # Acc-7, in percent
    for said in ("train.pkl", "1,234,567", "ab" * 32, "1,283", "test is one video, one speaker", "0.2", "keras-misa"):
        assert said in page.text
    assert "SYNTHETIC" not in page.text
    assert f"representations: {skipped['representations']}" in page.text
    ids = {value for value in page.attributes("id")}
    assert {target[1:] for target in page.attributes("href")} <= ids


def test_pages_are_the_same_whenever_they_are_written(runs, tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        write_report([runs / "misa"], folder / "page.html", figures=["attention"], data_dir=tmp_path / "data")
    assert (tmp_path / "one" / "page.html").read_bytes() == (tmp_path / "two" / "page.html").read_bytes()


def test_names_are_text_whatever_stands_in_them(runs, tmp_path, capsys):
    evil = EVIL.replace("/", "∕")
    folders = [str(runs / "misa"), str(runs / evil)]
    arguments = [
        "--out",
        str(tmp_path / "page.html"),
        "--data-dir",
        str(tmp_path / "data"),
        "--title",
        f"A {EVIL} title",
    ]
    assert main(["report", *folders, *arguments]) == 0
    page = Page(tmp_path / "page.html")
    check_alone(page)
    assert f"A {EVIL} title" in page.text
    assert f"classes: {EVIL}, b" in page.text
    assert f"{evil} (1 seed)" in page.text
    assert "–" in page.text  # a metric that one of the models does not have
    assert f"Written to {tmp_path / 'page.html'}" in capsys.readouterr().out


def test_models_are_compared(runs, tmp_path):
    folders = [runs / "misa" / "seed-1", runs / "misa" / "seed-2"]
    problems = write_report(folders, tmp_path / "page.html", figures=["attention"])
    assert "comparison" not in problems
    [comparison] = compare(*folders)
    text = Page(tmp_path / "page.html").text
    for shown in (comparison.results, comparison.tests):
        assert shown.caption in text
        assert all(note in text for note in shown.notes)


def test_what_is_left_out_is_told_once(runs, tmp_path, caplog):
    shutil.copytree(runs / "misa", tmp_path / "misa")
    (tmp_path / "misa" / "seed-2" / "metrics.json").unlink()
    write_report([tmp_path / "misa"], tmp_path / "page.html", figures=["attention"])
    assert caplog.text.count("not finished and left out are seed 2") == 1


def test_metrics_that_are_not_those_of_the_predictions_are_refused(runs, tmp_path):
    shutil.copytree(runs / "misa", tmp_path / "misa")
    (tmp_path / "misa" / "seed-2" / "metrics.json").write_text('{"mae": 0.1, "acc7": 0.9}')
    with pytest.raises(
        ValueError, match=r"seed-2/metrics\.json does not belong to predictions\.csv.*Received: mae=0\.1"
    ):
        write_report([tmp_path / "misa"], tmp_path / "page.html", figures=["attention"])
    assert not (tmp_path / "page.html").exists()


def test_tables_of_others_have_a_place(runs, tmp_path):
    extra = ResultTable("Compared <b>", ["model", "p"], [["A & B", "0.01"], None, ["C", "0.2"]])
    write_report([runs / "misa"], tmp_path / "page.html", tables=[extra], figures=["attention"])
    page = Page(tmp_path / "page.html")
    assert "Compared <b>" in page.text
    assert "A & B" in page.text
    assert not page.of("b")
    body = page.source[page.source.index("Compared") :].split("</table>")[0]
    assert body.count("<tbody>") == 2


def test_synthetic_data_is_called_so(tmp_path):
    write_run(tmp_path / "made_up", DIMS, dataset="synthetic_subspaces")
    write_results(tmp_path / "made_up", [1.0, 2.0], [1.0, 1.5])
    write_report([tmp_path / "made_up"], tmp_path / "page.html", figures=["attention"])
    page = Page(tmp_path / "page.html")
    assert (
        "synthetic_subspaces is SYNTHETIC data, made by a program: numbers on it say nothing about people" in page.text
    )
    assert "synthetic_subspaces (SYNTHETIC data)" in page.text


# === Commands ===


def settings_of(command):
    """What the command line makes of a command."""
    words = shlex.split(command, comments=True)
    assert words[0] == "keras-misa"
    options = vars(keras_misa.cli._make_parser().parse_args(words[1:]))
    settings = dict(options.pop("assignments"))
    unwanted = ("command", "quiet", "preset", "output", "seeds", "folds", "workers")
    return settings | {name: value for name, value in options.items() if name not in unwanted and value is not None}


def test_no_other_file_is_replaced(runs):
    config = runs / "misa" / "seed-1" / "config.json"
    with pytest.raises(ValueError, match=r"an HTML file, \.html\. Received: out='.*config\.json'"):
        write_report([runs / "misa"], config)
    assert json.loads(config.read_text())


def test_commands_repeat_the_runs(runs, tmp_path):
    write_report([runs / "misa"], tmp_path / "page.html", figures=["attention"])
    *training, again = Page(tmp_path / "page.html").commands()
    assert [settings_of(command)["seed"] for command in training] == [1, 2]
    for seed, command in zip((1, 2), training, strict=True):
        config = json.loads((runs / "misa" / f"seed-{seed}" / "config.json").read_text())["settings"]
        made = json.loads(json.dumps(make_config(**settings_of(command))))
        assert {n: v for n, v in made.items() if n != "metrics"} == {n: v for n, v in config.items() if n != "metrics"}
        assert command.endswith(f"--output again/misa/seed-{seed}")
    assert again == "keras-misa report again/misa --out page.html"


def test_folds_are_described_once(runs, tmp_path):
    for fold in (1, 2, 3):
        run = tmp_path / "misa" / f"seed-0-fold-{fold}"
        write_run(run, DIMS, dataset="cmu_mosi", split_by=f"video:{fold}/3")
        write_results(run, [0.5 * fold, -1.0], [1.0, -0.5 * fold])
        config = json.loads((run / "config.json").read_text())
        config["data"] = {"sources": {"dev.pkl": {"size": 5, "sha256": "cd" * 32}}}
        config["data"]["splits"] = {"test": {"utterances": 1000 + fold, "videos": 2}}
        (run / "config.json").write_text(json.dumps(config))
    write_report([tmp_path / "misa"], tmp_path / "page.html", figures=["attention"])
    page = Page(tmp_path / "page.html")
    assert page.text.count("cd" * 32) == 3  # the table, all that is known of the data, config.json of the first run
    for fold in (1, 2, 3):
        assert f"dealt out anew: video:{fold}/3" in page.text
        assert f"{1000 + fold:,}" in page.text
        assert f"misa, seed 0, fold {fold}" in page.text
    assert "misa (3 folds)" in page.text
    *training, _ = page.commands()
    assert [settings_of(command)["split_by"] for command in training] == ["video:1/3", "video:2/3", "video:3/3"]
    assert training[1].endswith("--output again/misa/seed-0-fold-2")


CHANGES = [
    {"dataset": "cmu_mosei", "seed": 5, "text": "bert:my models/it's a preset", "bert_trainable": -3},
    {"dataset": "cmu_mosi", "manual_dir": "/data/two words", "split_by": "video:0.7,0.15,0.15:3", "averaged": ["text"]},
    {"dataset": "cmu_mosi", "subspaces": [], "modalities": ["text", "visual"], "jit_compile": True, "devices": 2},
    {"dataset": "cmu_mosi", "fused": ["private"], "similarity": "mmd", "reconstruction_weight": 0.0, "dropout": 0.1},
    {
        "dataset": "ur_funny",
        "text": "bert:x",
        "bert_cache": False,
        "trainable_embeddings": False,
        "learning_rate": 1e-5,
    },
    {"dataset": "synthetic_subspaces", "trainable_embeddings": True},
    {"dataset": "cmu_mosi", "model": "tfn", "dropout": 0.1, "units": {"text": 9, "visual": 3}},
    {"dataset": "synthetic_subspaces", "protocol": "reference", "dtype": "mixed_bfloat16", "learning_rate_decay": 0.5},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_commands_say_every_setting(changes):
    config = make_config(**changes)
    command = train_command(config)
    assert "#" not in command
    assert json.dumps(make_config(**settings_of(command))) == json.dumps(config)


def test_settings_without_an_option_are_told():
    config = make_config("synthetic_subspaces") | {"learning_rate": None}
    assert train_command(config).endswith("# and {'learning_rate': None}, by --preset FILE.json")


def test_what_the_data_says_is_not_repeated():
    config = make_config("cmu_mosi", averaged=["text"], num_outputs=2, class_names=["a", "b"])
    assert train_command(config, contextual=["text"]) == "keras-misa train --dataset cmu_mosi --seed 0"
