"""The paper's Table 4: a model without one of its parts after the other."""

import pathlib
import time

from keras_misa.experiments.make_config import DEFAULTS, make_config
from keras_misa.experiments.published_results import TABLE_4
from keras_misa.experiments.report import HEADINGS, cell, split_title
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import VARIANTS_FILE, find_run_groups
from keras_misa.experiments.train_in_processes import train_in_processes
from keras_misa.experiments.train_seeds import (
    check_folds,
    check_workers,
    claim_folder,
    plan_seeds,
    summarise,
    train_seeds,
)

REGULARISERS = {"L_sim": "similarity_weight", "L_diff": "difference_weight", "L_recon": "reconstruction_weight"}
VARIANTS = {  # section 5.2.3
    "base": {"subspaces": ()},
    "inv": {"subspaces": ("shared",)},
    "sFusion": {"fused": ("private",)},
    "iFusion": {"fused": ("shared",)},
}
OF_TEXT = (
    "text",
    "vocabulary",
    "trainable_embeddings",
    *(k for k in DEFAULTS if k.startswith("bert_")),
    "bert_trainable",
)
VARIED = ("modalities", "subspaces", "fused", "model")


def variants_of(modalities):
    """The models of Table 4, in its order, for these modalities.

    Args:
        modalities: names.

    Returns:
        Dict, name in the table → dict of the settings that differ from MISA's.

    Example:
        >>> list(variants_of(["text", "visual", "acoustic"]))[:4]
        ['MISA', '(−) text', '(−) visual', '(−) acoustic']
        >>> variants_of(["text", "visual"])["(−) L_diff"]
        {'difference_weight': 0.0}
    """
    variants = {"MISA": {}}
    if len(modalities) > 1:
        variants |= {f"(−) {m}": {"modalities": tuple(x for x in modalities if x != m)} for m in modalities}
    variants |= {f"(−) {name}": {weight: 0.0} for name, weight in REGULARISERS.items()}
    return variants | VARIANTS


def ablate(dataset="synthetic_subspaces", output=None, seeds=1, quiet=False, workers=1, folds=None, **settings):
    """Train the eleven models of Table 4: MISA, without each modality, without each regulariser, and its variants.

    The folder holds a folder for each model, as `train_seeds` writes it, and `table.md`, `table.csv` and `table.tex`,
    written anew after every model. Started again with the same `output`, it goes on where it was killed. A training
    that diverges does not stop the others, and is told at the end.

    Args:
        dataset: name of a dataset.
        output: folder to write, new or empty, or of the same settings; `ablations/<dataset>-<time>` if `None`.
        seeds: trainings of each model.
        quiet: whether to print nothing but errors.
        workers: how many trainings at a time, see `train_seeds`.
        folds: number of folds of a cross-validation by video, see `train_seeds`.
        **settings: as for `train`; none of `modalities`, `subspaces` and `fused`, which are varied.

    Returns:
        The `ResultTable`.

    Raises:
        ValueError: If a setting is wrong, the data does not fit, or trainings diverged.
        FileExistsError: If `output` holds something else.

    Example:
        ```python
        print(keras_misa.experiments.ablate("cmu_mosi", seeds=5).to_markdown())
        ```
    """
    from keras_misa._console import make_console
    from keras_misa.experiments.open_data import find_dataset

    if varied := {name: settings[name] for name in VARIED if settings.get(name) is not None}:
        raise ValueError(f"An ablation varies {', '.join(VARIED)} itself. Received: {varied}")
    if seeds < 1:
        raise ValueError(f"`seeds` must be 1 or more. Received: seeds={seeds}")
    check_workers(workers)
    config = make_config(dataset, **settings)
    console = make_console(quiet=quiet)
    output = pathlib.Path(output or f"ablations/{dataset.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}")
    variants = variants_of(list(find_dataset(config)[1]))
    folders = {name: f"{number:02}-{_slug(name)}" for number, name in enumerate(variants, start=1)}
    check_folds(folds, dataset, output / VARIANTS_FILE, settings)
    claim_folder(output / VARIANTS_FILE, {"dataset": dataset, **settings, "folds": folds}, variants=folders)
    if workers > 1:
        runs = {}
        for name, changes in variants.items():
            runs |= plan_seeds(seeds, dataset, output / folders[name], _changed(settings, changes), folds)[1]
        train_in_processes(runs, workers, console)
    problems, table = [], None
    for number, (name, changes) in enumerate(variants.items(), start=1):
        console.rule(f"[bold]{number} of {len(variants)}: {name}")
        try:
            train_seeds(seeds, dataset, output / folders[name], quiet, folds=folds, **_changed(settings, changes))
        except ValueError as error:
            problems.append(f"{name}: {error}")
            if number == 1 and not list(output.glob("*/*/config.json")):
                raise  # a setting is wrong, not a training
        else:
            table = ablation_table(output, variants)
            table.write(output / "table")
    if table:
        console.print(table.to_rich())
        console.print(f"Written to {output}", highlight=False)
    if problems:
        raise ValueError(f"{len(problems)} of {len(variants)} models have problems. " + " ".join(problems))
    return table


def ablation_table(output, variants):
    """What is there of an ablation, in the layout of Table 4, beside the paper's numbers where it has that dataset."""
    groups = {group.name: group for group in find_run_groups(output, tell=False)}
    summaries = {name: summarise(_by_run(group)) for name, group in groups.items()}
    config = next(iter(groups.values())).config
    columns = [name for name in ("mae", "corr", "accuracy") if name in next(iter(summaries.values()))]
    printed = _printed(config["dataset"])
    in_paper = [column for column in columns if column in printed.get("MISA", ())]
    rows = []
    for number, name in enumerate(variants, start=1):
        if summary := summaries.get(name):
            cells = [cell(column, summary[column]["mean"], summary[column]["std"]) for column in columns]
            cells += [str(len(groups[name].runs)), *(printed.get(name, {}).get(column, "-") for column in in_paper)]
            rows.append([f"{number}) {name}", *cells])
    title = f"Ablation (Table 4) on {split_title(config, 'test')}; mean ± standard deviation"
    headings = [HEADINGS[column] for column in columns]
    notes = [f"In the paper: {TABLE_4.source}, its best models, on the standard test split."] if in_paper else []
    headings.append("runs" if groups[next(iter(groups))].has_folds else "seeds")
    headings += [f"in the paper: {HEADINGS[column]}" for column in in_paper]
    return ResultTable(title, ["model", *headings], rows, notes)


def _printed(dataset):
    """Dict, name of a variant → dict, metric → text, of a dataset in the paper's Table 4."""
    prefix = dataset.split("/")[0].removeprefix("cmu_") + "_"
    names = {"(−) language": "(−) text", "(−) audio": "(−) acoustic"}
    printed = {}
    for row in TABLE_4.rows:
        name = row[0].partition(") ")[2].replace("(-)", "(−)")
        parts = {key.removeprefix(prefix): text for key, text in TABLE_4.parts(row).items() if key.startswith(prefix)}
        printed[names.get(name, name)] = parts
    return printed


def _by_run(group):
    metrics = group.metrics()
    return [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]


def _changed(settings, changes):
    """The settings of a variant; without words, those of words would have no effect."""
    if "text" not in changes.get("modalities", ("text",)):
        settings = {name: value for name, value in settings.items() if name not in OF_TEXT}
    return settings | changes


def _slug(name):
    return "".join(c if c.isalnum() or c == "_" else "-" for c in name.removeprefix("(−) ").lower()).strip("-")
