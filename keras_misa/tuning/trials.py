"""What the trials of a search gave: read from its folder, as tables and as a picture."""

import pathlib

import numpy as np

from keras_misa._files import atomic_path, read_json, write_csv, write_text
from keras_misa.tuning.trial_tuner import RESULTS_FILE

ENDED = ("COMPLETED", "FAILED")


def read_trials(folder):
    """The trials of a search, in the order of their names.

    Args:
        folder: folder of the search.

    Returns:
        List of dicts: `trial`, `status`, `values` (dict of hyper-parameters), `score` (mean over the seeds, or `None`),
        `seeds` (a dict of results for each), `message` of a failure.
    """
    trials = []
    for path in sorted(pathlib.Path(folder).glob("trial_*/trial.json")):
        state = read_json(path)
        results_path = path.with_name(RESULTS_FILE)
        is_ended = state["status"] in ENDED
        results = read_json(results_path) if is_ended and results_path.exists() else {}
        trials.append(
            {
                "trial": state["trial_id"],
                "status": state["status"],
                "values": state["hyperparameters"]["values"],
                "score": state["score"] if state["status"] == "COMPLETED" else None,
                "seeds": results.get("seeds", []),
                "message": results.get("message") or (state["message"] or "").strip().rpartition("\n")[2],
            }
        )
    return trials


def best_trial(trials):
    """The completed trial with the smallest score, or `None`."""
    return min((t for t in trials if t["score"] is not None), key=lambda t: t["score"], default=None)


def write_tables(trials, monitor, folder):
    """Write `trials.csv` and `trials.md`, best first; failed ones last, with their reasons.

    Args:
        trials: what `read_trials` found.
        monitor: name of the objective.
        folder: where to.
    """
    rows = [_row(trial, monitor) for trial in sorted(trials, key=_rank)]
    header = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(folder / "trials.csv", [dict.fromkeys(header, "") | row for row in rows], header)
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_cell(row.get(key, '')) for key in header)} |" for row in rows]
    write_text(folder / "trials.md", "\n".join(lines) + "\n")


def _rank(trial):
    return trial["score"] is None, trial["score"] or 0.0, trial["trial"]


def _row(trial, monitor):
    row = {"trial": trial["trial"], "status": trial["status"].lower()}
    row.update((name, value) for name, value in trial["values"].items() if not name.startswith("tuner/"))
    seeds = trial["seeds"]
    row["seeds"] = " ".join(str(result["seed"]) for result in seeds)
    if seeds:
        names = [monitor, *(name for name in seeds[0] if name.startswith("val_") and name != monitor)]
        for name in names:
            values = np.array([result[name] for result in seeds])
            row[name] = float(values.mean())
            if len(values) > 1:
                row[f"{name}_std"] = float(values.std(ddof=1))
        row["epochs"] = float(np.mean([result["epochs"] for result in seeds]))
        row["seconds"] = sum(result["seconds"] for result in seeds)
    row["message"] = trial["message"] if trial["status"] == "FAILED" else ""
    return row


def _cell(value):
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def importances(trials, bins=5):
    """How much of the variance of the scores each hyper-parameter explains by itself.

    That is ε², the share of the sum of squares between its values, less what chance would give (adjusted R² of an
    analysis of variance with one factor). A range is cut into parts with equally many trials. 0 is no influence that
    can be told from chance; 1 is all of it. Joint effects are nobody's.

    Args:
        trials: what `read_trials` found.
        bins: parts of a range.

    Returns:
        Dict, name → share in [0, 1], largest first; those with one value only, or with too few trials, are left out.

    Example:
        >>> trials = [{"values": {"a": a, "b": b}, "score": float(a)} for a in (0, 1) for b in (0, 1)]
        >>> importances(trials)
        {'a': 1.0, 'b': 0.0}
    """
    trials = [trial for trial in trials if trial["score"] is not None]
    scores = np.array([trial["score"] for trial in trials])
    shares = {}
    for name in _names(trials):
        groups = _groups([trial["values"].get(name) for trial in trials], bins)
        parts = [scores[groups == group] for group in np.unique(groups)]
        between, within = len(parts) - 1, len(scores) - len(parts)
        total = np.sum((scores - scores.mean()) ** 2)
        if between < 1 or within < 1 or total == 0.0:
            continue
        error = sum(np.sum((part - part.mean()) ** 2) for part in parts)
        shares[name] = float(max(0.0, 1.0 - (error / within) / (total / (len(scores) - 1))))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _names(trials):
    names = dict.fromkeys(name for trial in trials for name in trial["values"])
    return [name for name in names if not name.startswith("tuner/")]


def _groups(values, bins):
    """A number for each value: its own, or that of its part of a range."""
    if len(set(values)) <= bins or not all(isinstance(value, int | float) for value in values):
        return np.unique([str(value) for value in values], return_inverse=True)[1]
    ranks = np.argsort(np.argsort(np.array(values, float), kind="stable"), kind="stable")
    return ranks * bins // len(values)


def plot_importances(trials, path, title, monitor):
    """Draw the score of each trial over each hyper-parameter, and how much it explains.

    Args:
        trials: what `read_trials` found.
        path: PNG file to write.
        title: over the picture.
        monitor: name of the objective.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = importances(trials)
    trials = [trial for trial in trials if trial["score"] is not None]
    names = [*shares, *(name for name in _names(trials) if name not in shares)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 0.5 + 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    scores = np.array([trial["score"] for trial in trials])
    best = int(np.argmin(scores))
    # A few trials that went astray shall not press the others flat.
    low, high = scores.min(), min(scores.max(), np.median(scores) + 4.0 * (np.median(scores) - scores.min()))
    margin = 0.05 * (high - low) or 0.01
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        values = [trial["values"].get(name) for trial in trials]
        is_range = len(set(values)) > 5 and all(isinstance(value, int | float) for value in values)
        if is_range:
            places = np.array(values, float)
            if min(places) > 0 and max(places) / min(places) > 20:
                axes.set_xscale("log")
        else:
            kinds = sorted(set(values), key=lambda value: (isinstance(value, str), value))
            places = np.array([kinds.index(value) for value in values], float)
            means = [scores[places == place].mean() for place in range(len(kinds))]
            axes.plot(range(len(kinds)), means, color="#D55E00", marker="_", markersize=16, linestyle="none", mew=2)
            axes.set_xticks(
                range(len(kinds)), [f"{kind:g}" if isinstance(kind, float) else str(kind) for kind in kinds]
            )
            axes.set_xlim(-0.5, len(kinds) - 0.5)
            places = places + 0.24 * np.random.default_rng(0).uniform(-1.0, 1.0, len(places))
        axes.plot(places, scores.clip(max=high), ".", color="#0072B2", alpha=0.55, markersize=5, zorder=1)
        axes.plot(places[best], scores[best], "*", color="black", markersize=8, zorder=3)
        axes.set_ylim(low - margin, high + margin)
        share = f"{shares[name]:.0%} explained" if name in shares else "too few trials to say"
        axes.set_title(f"{name.replace('_', ' ')}: {share}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if index % columns == 0:
            axes.set_ylabel(monitor, fontsize=8)
    figure.suptitle(f"{title}. Dots: trials, bars: their means, star: the best", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200)
