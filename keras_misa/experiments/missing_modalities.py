"""How a model does where modalities are missing."""

import itertools

import numpy as np

from keras_misa.experiments.evaluate import collect_examples, find_data, load_split
from keras_misa.experiments.load_run import load_run_model
from keras_misa.experiments.report import HEADINGS, cell, split_title
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import data_of, name_apart
from keras_misa.experiments.task_metrics import compute_metrics
from keras_misa.experiments.train_seeds import summarise

RATES = (0.1, 0.3, 0.5, 0.7)
DRAWS = 5


def missing_modalities(groups, split="test", rates=RATES, manual_dir=None, data_dir=None):
    """Evaluate models with each subset of their modalities, and with modalities missing by chance.

    What is missing is an utterance's modality of length 0, in evaluation alone; a model that was trained so
    (`modality_dropout`) is prepared for it, others show how they degrade. At a rate R, each modality of each utterance
    is missing with that chance, but one always stays, so that of k modalities $R - R^k / k$ are missing; the table says
    how many. The mean of 5 draws counts, which are the same for all models of the same modalities. A model of one
    modality has none to miss.

    Args:
        groups: list of `RunGroup`, of one dataset.
        split: `"train"`, `"validation"` or `"test"`.
        rates: chances, each in [0, 1).
        manual_dir: where the data's files lie now, if not where they lay at training.
        data_dir: where the prepared data lies now, likewise.

    Returns:
        A `ResultTable`: rows are what is there, columns metrics of each model, mean ± standard deviation over runs.

    Raises:
        ValueError: If a rate is not in [0, 1), or the models are of several datasets, labels or splits.

    Example:
        ```python
        print(missing_modalities(find_run_groups("runs/first")).to_markdown())
        ```
    """
    if wrong := [rate for rate in rates if not 0 <= rate < 1]:
        raise ValueError(f"`rates` are chances in [0, 1). Received: {wrong}")
    data = {data_of(group.config) for group in groups}
    if len(data) > 1:
        raise ValueError(
            "Expected runs of one dataset, label and way of dealing it out. "
            f"Received: {sorted([str(part) for part in parts if part] for parts in data)}"
        )
    config = groups[0].config
    groups = name_apart(groups)
    results = {group.name: _evaluate_group(group, split, rates, manual_dir, data_dir) for group in groups}
    names = [
        n
        for n in ("mae", "corr", "acc2_nonneg", "accuracy")
        if any(n in s for r in results.values() for s in r.values())
    ]
    columns = [(group, name) for group in results for name in names]
    conditions = dict.fromkeys(condition for result in results.values() for condition in result)
    rows = []
    for condition in conditions:
        numbers = [results[group].get(condition, {}).get(name, {"mean": None, "std": None}) for group, name in columns]
        rows.append([condition, *(cell(n, x["mean"], x["std"]) for (_, n), x in zip(columns, numbers, strict=True))])
    rows.sort(key=lambda row: row[0].startswith("each missing"))  # else in the order in which they came
    title = f"Missing modalities, {split_title(config, split)}; mean ± standard deviation over runs"
    headings = [HEADINGS[name] if len(results) == 1 else f"{group}: {HEADINGS[name]}" for group, name in columns]
    counts = {len(next(iter(result)).split(", ")) for result in results.values()} - {1}
    notes = [
        f"One modality always stays: of {count}, in the mean "
        + ", ".join(f"{rate - rate**count / count:.0%} are missing at {rate:g}" for rate in rates)
        + "."
        for count in (sorted(counts) if rates else ())
    ]
    return ResultTable(title, ["modalities that are there", *headings], rows, notes)


def _evaluate_group(group, split, rates, manual_dir, data_dir):
    """Dict, condition → what `summarise` makes of the metrics of all runs."""
    by_run = [_evaluate_run(run, split, rates, manual_dir, data_dir) for run in group.runs]
    return {condition: summarise(result[condition] for result in by_run) for condition in by_run[0]}


def _evaluate_run(run, split, rates, manual_dir, data_dir):
    from keras_misa.experiments.text import load_text

    config = find_data(run, manual_dir, data_dir)
    model, text = load_run_model(run), load_text(run)
    labels = collect_examples(config, split)["label"]

    def evaluate(batches):
        return compute_metrics(config, labels, model.predict(batches, verbose=0))

    whole = load_split(config, split, text)
    modalities = list(whole.element_spec[0])
    results = {}
    for size in range(len(modalities), 0, -1):
        for kept in itertools.combinations(modalities, size):
            results[", ".join(kept)] = evaluate(whole.map(lambda batch, label, kept=kept: (_keep(batch, kept), label)))
    for rate in rates if len(modalities) > 1 else ():
        draws = [evaluate(load_split(config, split, text, modality_dropout=rate, seed=n)) for n in range(DRAWS)]
        results[f"each missing at {rate:g}"] = {name: float(np.mean([d[name] for d in draws])) for name in draws[0]}
    return results


def _keep(batch, kept):
    """The batch in which other modalities have length 0."""
    return {
        modality: inputs if modality in kept else {**inputs, "lengths": inputs["lengths"] * 0}
        for modality, inputs in batch.items()
    }
