"""Runs beside each other, beside the published numbers, and whether they differ by more than chance."""

import dataclasses
import os
import re

import numpy as np

from keras_misa.experiments.dialects import MMSA_NAMES, check_dialect
from keras_misa.experiments.paired_predictions import pair_predictions
from keras_misa.experiments.recorded_metrics import check_recorded_metrics
from keras_misa.experiments.report import split_title
from keras_misa.experiments.result_cells import (
    LOWER_IS_BETTER,
    TICK,
    difference_cell,
    format_metric,
    published_cells,
    published_table,
    result_cell,
    result_columns,
)
from keras_misa.experiments.result_table import ResultTable
from keras_misa.experiments.run_groups import RunGroup, data_of, find_run_groups, name_apart
from keras_misa.experiments.significance import difference_interval, holm, majority_p, mcnemar, resample_metrics
from keras_misa.experiments.task_metrics import compute_metrics, is_classification

LEVEL = 0.05
FEW = {"utterances": 20, "videos": 10}  # so that an interval says little
MIN_SAMPLES = 40  # the ends of a 95 % interval are the 2.5 % beyond them
MAX_SAMPLES = 1_000_000  # minutes, and the ends have long stopped moving
BOUNDARIES = "Acc-2 and F-Score: negative / non-negative on all utterances, then negative / positive on those not 0."
RESAMPLES = ("utterances", "videos")
MEASURES = {
    "acc2_nonneg": "Acc-2 neg. / non-neg.",
    "acc2_pos": "Acc-2 neg. / pos.",
    "accuracy": "Accuracy",
    "mae": "MAE",
    "corr": "Corr",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The tables of one dataset.

    Args:
        name: of the dataset, its label and how it was dealt out, fit for a file name.
        results: `ResultTable` of what the models reach.
        tests: `ResultTable` of the tests between them, or `None` if there is nothing to test.
    """

    name: str
    results: ResultTable
    tests: ResultTable | None

    def tables(self, path):
        """Dict, path without suffix → table, where `path` is that of the results."""
        return {f"{path}": self.results} | ({f"{path}-tests": self.tests} if self.tests else {})

    def places(self, path):
        """The files of `tables(path)`, with those of the tests though there be none."""
        return [*ResultTable.paths(path), *ResultTable.paths(f"{path}-tests")]


def compare(*paths, against=(), dialect="paper", resample="utterances", samples=10000, seed=0):
    """Put runs into a table, above the rows that the paper has printed, and test their differences.

    A model trained from several seeds is a row of mean ± sample standard deviation. Its binary decisions (sentiment's
    two, or the class) are tested with McNemar's test, each of its runs with each run of the other model; the p-value of
    the two models is that which most of these tests stay below, corrected for it (`majority_p`). Then Holm's correction
    runs over all p-values of the table. A dagger marks what is better than every model it was tested against with a
    corrected p < 0.05. Differences of MAE and correlation, of the means over runs, come with 95 % intervals by paired
    bootstrap, each for itself.

    Of a cross-validation the decisions of all folds of a seed stand together in McNemar's test; MAE and correlation are
    means over the folds, and resamples are drawn within each.

    All of it is about the models that were trained, on these utterances. What another seed would do, the standard
    deviation over seeds tells; that over folds is mostly between their videos.

    Args:
        *paths: runs, folders of a run with several seeds, or of an ablation; see `find_run_groups`.
        against: paths of runs that are the baselines, or one path. Daggers and tests are against each of them, and a
            row Δ shows what the best of the others gain, metric by metric. Without them each model is tested against
            each other.
        dialect: of the metrics of sentiment, `"paper"`, `"sdk"` or `"mmsa"`; see `evaluate`.
        resample: what the bootstrap draws: `"utterances"`, or whole `"videos"`, whose utterances are alike.
        samples: number of resamples, from 40 to 1,000,000; 0 leaves the bootstrap out.
        seed: of the resampling.

    Returns:
        List of `Comparison`, one for each dataset, label and split among the runs.

    Raises:
        FileNotFoundError: If a path holds no finished run.
        ValueError: If a run's metrics are not those of its predictions, runs of a dataset were tested on other
            utterances, a run is there twice, baselines are of other data, or an argument is unknown.

    Example:
        ```python
        [comparison] = keras_misa.experiments.compare("runs/misa", "runs/inv", against=["runs/base"])
        print(comparison.results.to_markdown())
        comparison.tests.write("tables/tests")
        ```
    """
    against = [against] if isinstance(against, str | os.PathLike | RunGroup) else list(against)
    if resample not in RESAMPLES:
        raise ValueError(f"`resample` must be one of {RESAMPLES}. Received: resample={resample!r}")
    if samples and not MIN_SAMPLES <= samples <= MAX_SAMPLES:
        raise ValueError(
            f"`samples` must be 0, or from {MIN_SAMPLES} to {MAX_SAMPLES:,}. Received: samples={samples:,}"
        )
    if not paths and not against:
        raise ValueError("Runs are needed to compare. Received: no path")
    baselines = {group.key for group in find_run_groups(*against)}
    groups = find_run_groups(*paths, *against)
    _check_distinct(groups)
    by_data = {}
    for group in groups:
        by_data.setdefault(data_of(group.config), []).append((group, group.key in baselines))
    names = _file_names(by_data)
    comparisons = []
    for data, members in by_data.items():
        check_dialect(members[0][0].config, dialect)
        if baselines:
            _check_baselines(data, members)
        rows = _Rows(name_apart([group for group, _ in members]), [is_baseline for _, is_baseline in members], dialect)
        tests = _tests(rows, resample, samples, seed)
        comparisons.append(Comparison(names[data], _results(rows, tests), _tests_table(rows, tests, resample, samples)))
    return comparisons


# === Which runs, in which table ===


def _check_distinct(groups):
    """No run may be tested against itself."""
    owners = {}
    for group in groups:
        for run in group.key:
            if run in owners:
                raise ValueError(
                    f"A run is compared once. Received: {run} in two models, {owners[run]} and {group.name}"
                )
            owners[run] = group.name


def _check_baselines(data, members):
    kinds = {is_baseline for _, is_baseline in members}
    if kinds != {True, False}:
        names = ", ".join(str(group.runs[0]) for group, _ in members)
        raise ValueError(
            "`against` needs, of the same data, a baseline and another model. "
            f"Received: {'only baselines' if True in kinds else 'no baseline'} of {[x for x in data if x]}: {names}"
        )


def _file_names(by_data):
    """A name for each of the data, no longer than it must be to tell them apart."""
    names = {}
    for data in by_data:
        parts = [data[0]]
        for place in (1, 2, 3):
            if len({other[place] for other in by_data if other[0] == data[0]}) > 1:
                parts.append(data[place])
        names[data] = re.sub(r"[^\w.-]+", "_", "-".join(filter(None, parts)).replace("/", "-"))
    return names


class _Rows:
    """A table's models, and what is known of them."""

    def __init__(self, groups, is_baseline, dialect):
        self.groups = groups
        self.is_baseline = is_baseline
        self.dialect = dialect
        self.config = groups[0].config
        self.paired = pair_predictions(groups)
        for group in groups:
            check_recorded_metrics(group)
        self.metrics = [self._metrics(place) for place in range(len(groups))]

    def _metrics(self, place):
        if self.dialect == "paper":
            return self.groups[place].metrics()
        runs = [
            compute_metrics(self.config, self.paired.labels[part], run[part, None], self.dialect)
            for run in self.paired.predictions[place]
            for part in self.paired.parts
        ]
        return {name: np.array([run[name] for run in runs]) for name in runs[0]}

    def pairs(self):
        """Places of the models that are tested against each other; baselines come second."""
        places = range(len(self.groups))
        if any(self.is_baseline):
            return [(a, b) for a in places for b in places if not self.is_baseline[a] and self.is_baseline[b]]
        return [(a, b) for a in places for b in places if a < b]


# === Tests ===


def _tests(rows, resample, samples, seed):
    """A dict for each test, McNemar's with the corrected `p_holm`."""
    tests = []
    pairs = rows.pairs()
    decisions = rows.paired.decisions()
    has_intervals = pairs and samples and not is_classification(rows.config)
    intervals = _intervals(rows, pairs, resample, samples, seed) if has_intervals else {}
    for a, b in pairs:
        for measure, correct in decisions.items():
            each = [mcnemar(first, second) for first in correct[a] for second in correct[b]]
            tests.append({"pair": (a, b), "measure": measure, "each": each, "p": majority_p([t["p"] for t in each])})
            tests[-1]["difference"] = float(correct[a].mean() - correct[b].mean())
        for measure in intervals:
            tests.append({"pair": (a, b), "measure": measure, **intervals[measure][a, b]})
    with_p = [test for test in tests if "each" in test]
    for test, p_holm in zip(with_p, holm([test["p"] for test in with_p]), strict=True):
        test["p_holm"] = float(p_holm)
    return tests


def _intervals(rows, pairs, resample, samples, seed):
    """Dict, metric → dict, pair → what `difference_interval` says of it."""
    paired, metrics = rows.paired, ("mae", "corr")
    parts = []
    for number, part in enumerate(paired.parts):  # the metric of folds is the mean of theirs, as in the table
        videos = np.array(paired.video_ids)[part] if resample == "videos" else None
        predictions = [of_model[..., part] for of_model in paired.predictions]
        own_seed = [seed, number] if number else seed
        parts.append(resample_metrics(paired.labels[..., part], predictions, metrics, videos, samples, own_seed))
    intervals = {}
    for metric in metrics:
        values, each = (np.mean(of_parts, axis=0) for of_parts in zip(*(part[metric] for part in parts), strict=True))
        intervals[metric] = {(a, b): difference_interval(values[a], values[b], each[a] - each[b]) for a, b in pairs}
    return intervals


def _daggers(rows, tests):
    """For each model the metrics in which it is better than each that it was tested against."""
    daggers = [set() for _ in rows.groups]
    for place, daggers_of_it in enumerate(daggers):
        verdicts = {}
        for test in tests:
            if "p_holm" in test and place in test["pair"] and not rows.is_baseline[place]:
                gain = test["difference"] if test["pair"][0] == place else -test["difference"]
                verdicts.setdefault(test["measure"], []).append(gain > 0 and test["p_holm"] < LEVEL)
        daggers_of_it.update(measure for measure, are_better in verdicts.items() if all(are_better))
        if "acc2_nonneg" in daggers_of_it and "acc2_pos" not in verdicts:  # no truth is 0: the same decision
            daggers_of_it.add("acc2_pos")
    return daggers


# === Tables ===


def _results(rows, tests):
    config, dialect = rows.config, rows.dialect
    columns = result_columns(config, dialect)
    published = published_table(config)
    daggers = _daggers(rows, tests)
    order = sorted(range(len(rows.groups)), key=lambda place: not rows.is_baseline[place])  # baselines stand above

    def row(name, cell):
        """What a model sees of UR-FUNNY is the target alone."""
        seen = {"context": "", "target": "" if name.startswith("Δ") else TICK}
        return [name, *(cell(names) if names else seen[heading] for heading, names in columns.items())]

    table = []
    for place in order:
        group, metrics = rows.groups[place], rows.metrics[place]
        name = group.name + (f", {group.extent}" if len(group.runs) > 1 else "")
        table.append(
            row(name, lambda names, m=metrics, d=daggers[place]: result_cell(names, m, dialect, _named(d, dialect)))
        )
    notes = [BOUNDARIES] if columns.get("Acc-2 ↑") else []
    if rows.groups[0].has_folds:
        notes.append(
            "± over folds, too: they are tested on different videos and share most of their training data, so that it "
            "says more about the videos than about another training."
        )
    if any(rows.is_baseline) and not all(rows.is_baseline):
        best, best_baseline = (_best(rows, is_baseline) for is_baseline in (False, True))
        table.append(row("Δ", lambda names: difference_cell(names, best, best_baseline, dialect)))
        baselines = [g.name for g, is_baseline in zip(rows.groups, rows.is_baseline, strict=True) if is_baseline]
        notes.append(
            f"Δ, metric by metric: the best other model above (↑) or below (↓) the best of {', '.join(baselines)}."
        )
    if any("p_holm" in test for test in tests):
        whom = "every baseline" if any(rows.is_baseline) else "every other model"
        dagger = "†" if any(daggers) else "† (none here)"
        notes.append(f"{dagger}: better than {whom}, p < {LEVEL}, McNemar's test after Holm's correction.")
    if published:
        table += [None, *([r[0], *published_cells(published, r, columns, dialect)] for r in published.rows)]
        table.append(["Δ_SOTA", *published_cells(published, published.delta, columns, dialect)])
        notes += _published_notes(rows, published)
    return ResultTable(_caption(rows), ["model", *columns], table, notes)


def _named(daggers, dialect):
    return {MMSA_NAMES[name] for name in daggers} if dialect == "mmsa" else daggers


def _best(rows, is_baseline):
    """Dict, name of a metric → the best of the models' means."""
    best = {}
    for metrics, is_one in zip(rows.metrics, rows.is_baseline, strict=True):
        for name, values in metrics.items() if is_one == is_baseline else ():
            choose = np.fmin if name.split("_")[0] in LOWER_IS_BETTER else np.fmax
            best[name] = float(choose(best.get(name, np.nan), values.mean()))
    return best


def _data_caption(rows):
    config = rows.config
    caption = split_title(config, "test", len(rows.paired.segment_ids))
    if config["label"] != "label":
        caption += f", label {config['label']}"
    return caption


def _caption(rows):
    caption = _data_caption(rows)
    if rows.dialect != "paper":
        caption += f"; dialect {rows.dialect}"
    if any(len(group.runs) > 1 for group in rows.groups):
        kind = "population" if rows.dialect == "mmsa" else "sample"
        caption += f"; mean ± {kind} standard deviation over runs"
    return caption


def _published_notes(rows, published):
    how = {
        "paper": "as printed",
        "sdk": "without Acc-7, which is of another rounding",
        "mmsa": "in MMSA's units",
    }[rows.dialect]
    notes = [f"Below the line: {published.source}, {how}.", *published.notes]
    number, split_by = len(rows.paired.segment_ids), rows.config["split_by"]
    if split_by or number != published.test_utterances:
        notes[0] += (
            f" It is not the same test: that is of the standard test split, {published.test_utterances} utterances, "
            f"the rows above the line of {number}{', dealt out anew' if split_by else ''}."
        )
    return notes


def _tests_table(rows, tests, resample, samples):
    """The tests, in the order in which they were made."""
    if not tests:
        return None
    table = []
    for test in tests:
        a, b = (rows.groups[place].name for place in test["pair"])
        measure = test["measure"]
        cells = [f"{a} − {b}", MEASURES[measure], format_metric(measure, test["difference"], signed=True)]
        if "each" in test:
            p_values = [f"{test[name]:.2g}" for name in ("p", "p_holm")]
            cells += ["-", _discordant(test["each"]), _method(test["each"]), *p_values]
        else:
            low, high = (format_metric(measure, test[end], signed=True) for end in ("low", "high"))
            cells += [f"[{low}, {high}]", "-", "bootstrap", "-", "-"]
        table.append(cells)
    headings = ["models", "measure", "first − second", "95 % interval", "right alone", "test", "p", "p (Holm)"]
    caption = f"Tests: {_data_caption(rows)}"
    if rows.dialect == "mmsa" and any("low" in test for test in tests):
        caption += "; differences of MAE in the labels' units and of Corr as it is, not times 100 as MMSA has them"
    return ResultTable(caption, headings, table, _test_notes(rows, tests, resample, samples))


def _discordant(each):
    """How many utterances only one model decides right, the mean over pairs of runs."""
    means = [np.mean([test[name] for test in each]) for name in ("first_only", "second_only")]
    return " / ".join(f"{mean:.1f}" if len(each) > 1 else f"{mean:.0f}" for mean in means)


def _method(each):
    methods = sorted({test["method"] for test in each}, reverse=True)
    return " or ".join(methods) + (f", {len(each)} pairs" if len(each) > 1 else "")


def _test_notes(rows, tests, resample, samples):
    notes = []
    number = sum("p_holm" in test for test in tests)
    if number:
        notes.append(
            "right alone: utterances that only the first / only the second model decides right. p: McNemar's test of "
            "them, exact if they are fewer than 25, else chi-square with continuity correction. p (Holm): corrected "
            f"for the {number} tests of this table."
        )
        measures = {test["measure"] for test in tests}
        if "acc2_nonneg" in measures and "acc2_pos" not in measures:
            notes.append("No truth is 0, so negative / non-negative and negative / positive are one test.")
    if rows.groups[0].has_folds:
        notes.append(
            "The folds' decisions stand together in McNemar's test and its difference, each utterance once. "
            "Differences of MAE and Corr are those of the means over folds, and resamples are drawn within each."
        )
    if any(len(test.get("each", ())) > 1 for test in tests):
        notes.append(
            "Of several seeds each is tested with each; right alone is their mean, p what most of them stay below, "
            "corrected for that (Rüger 1978)."
        )
    undefined = max((test["undefined"] for test in tests if "undefined" in test), default=None)
    if undefined is not None:
        drawn = rows.paired.video_ids if resample == "videos" else rows.paired.segment_ids
        count = len(set(drawn))
        fewest = min(len({drawn[place] for place in part}) for part in rows.paired.parts)  # drawn at a time
        notes.append(
            f"95 % interval: of {samples} resamples of the {count} {resample}, each for itself; of several seeds it is "
            "that of the difference of their means."
            + (f" {fewest} {resample}, drawn at a time, are few for it." if fewest < FEW[resample] else "")
            + (f" In up to {undefined} resamples a correlation has no value; they are left out." if undefined else "")
        )
    notes.append("All tests are about these trained models on these utterances.")
    return notes
