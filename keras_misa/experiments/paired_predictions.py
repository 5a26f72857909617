"""Predictions of several runs for the same utterances."""

import dataclasses

import numpy as np

from keras_misa.experiments.run_files import read_predictions
from keras_misa.experiments.task_metrics import is_classification


@dataclasses.dataclass(frozen=True)
class PairedPredictions:
    """What runs predict for the test split, utterance by utterance in one order.

    Args:
        config: dict of `make_config`, settled, of a run of them.
        segment_ids: of the utterances.
        video_ids: of the utterances.
        labels: `(rows,)` scores or names of classes, or `(scores, rows)`.
        predictions: for each group of runs an array `(runs, …)` of what `labels` are; the folds of a seed are one run.
        parts: the places of the rows that were tested together: an array for each fold, or one of all.
    """

    config: dict
    segment_ids: list
    video_ids: list
    labels: np.ndarray
    predictions: list
    parts: list

    def decisions(self):
        """Which decisions are right.

        Returns:
            Dict, name of the metric → for each group a boolean array `(runs, rows)`. Of sentiment there are the two
            binary decisions of the metrics, `acc2_nonneg` on all rows and, if there are others, `acc2_pos` on those
            whose truth is not 0; of classes `accuracy`; of other scores none.
        """
        y = self.labels
        if is_classification(self.config):
            return {"accuracy": [p == y for p in self.predictions]}
        if self.config["metrics"] != "sentiment":
            return {}
        decisions = {"acc2_nonneg": [(p >= 0) == (y >= 0) for p in self.predictions]}
        # Without zeros both are one decision, which Holm's correction would count twice; of zeros alone there is none.
        if (y == 0).any() and (y != 0).any():
            decisions["acc2_pos"] = [(p > 0)[:, y != 0] == (y > 0)[y != 0] for p in self.predictions]
        return decisions


def pair_predictions(groups):
    """The predictions of runs for the same utterances.

    Args:
        groups: list of `RunGroup`, of one dataset and label.

    Raises:
        ValueError: If the runs have other utterances or other labels for them: what differs is said. If a file is
            damaged, or a prediction not a finite number.
    """
    config = groups[0].config
    names = [f"_{name}" for name in config["score_names"]] if config["score_names"] else [""]
    is_text = is_classification(config)
    first, order, predictions = None, None, []
    for group in groups:
        of_group = []
        for runs in group.rounds():
            rows, parts_of_it = _joined(runs)
            run = runs[0] if len(runs) == 1 else f"{runs[0].parent} ({', '.join(run.name for run in runs)})"
            if first is None:
                first, order, parts = run, list(rows), parts_of_it
                labels = _table(rows, order, "label", names, is_text)
                videos = [rows[segment]["video_id"] for segment in order]
            _check_utterances(first, order, run, rows)
            _check_labels(first, labels, run, _table(rows, order, "label", names, is_text), order)
            of_group.append(_table(rows, order, "prediction", names, is_text))
        predictions.append(np.stack(of_group))
    return PairedPredictions(config, order, videos, labels, predictions, parts)


def _joined(runs):
    """Dict, segment → its row, of runs that were tested on different folds, and for each run the places of its rows."""
    rows, parts, tested_in = {}, [], {}
    for run in runs:
        of_run = {row["segment_id"]: row for row in read_predictions(run)}
        if twice := [segment for segment in of_run if segment in tested_in]:
            raise ValueError(
                "Each utterance is tested in one fold. "
                f"Received: {len(twice)} in {tested_in[twice[0]]} and in {run}, such as {', '.join(twice[:3])}"
            )
        parts.append(np.arange(len(rows), len(rows) + len(of_run)))
        rows.update(of_run)
        tested_in.update(dict.fromkeys(of_run, run))
    return rows, parts


def _table(rows, order, kind, names, is_text):
    columns = [[rows[segment][f"{kind}{name}"] for segment in order] for name in names]
    table = np.array(columns, str if is_text else "float64")
    return table if len(names) > 1 else table[0]


def _check_utterances(first, order, run, rows):
    known = set(order)
    lacking = {
        run: [segment for segment in order if segment not in rows],
        first: [segment for segment in rows if segment not in known],
    }
    if any(lacking.values()):
        details = "; ".join(
            f"{path} lacks {len(ids)} of the other's, such as {', '.join(ids[:3])}"
            for path, ids in lacking.items()
            if ids
        )
        raise ValueError(
            "Only runs that were tested on the same utterances can be compared. "
            f"Received: {first} with {len(order)} and {run} with {len(rows)} utterances; {details}"
        )


def _check_labels(first, labels, run, others, order):
    differs = labels != others if labels.dtype.kind == "U" else ~np.isclose(labels, others, rtol=1e-5, atol=1e-6)
    differs = differs.reshape(-1, len(order)).any(0)
    if differs.any():
        row = int(np.argmax(differs))
        raise ValueError(
            "Only runs that were tested on the same labels can be compared. "
            f"Received: other labels for {differs.sum()} of {len(order)} utterances; {order[row]} has "
            f"{labels[..., row].tolist()} in {first} and {others[..., row].tolist()} in {run}"
        )
